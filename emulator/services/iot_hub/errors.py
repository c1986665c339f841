"""A hub's own error bodies: ``{"Message": "ErrorCode:DeviceNotFound;...", "ExceptionMessage": "Tracking ID:..."}``.

Direct methods have another form: there ``Message`` is JSON text with ``errorCode``, ``trackingId``, ``message``,
``info`` and ``timestampUtc``. Codes and texts: Microsoft, "Troubleshoot Azure IoT Hub error codes", and public issue
threads that quote answers of the service.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

from emulator.protocols.wire import WireError

VERSIONS = (
    "2016-02-03",
    "2016-11-14",
    "2017-06-30",
    "2017-11-08-preview",
    "2018-01-16",
    "2018-04-01",
    "2018-06-30",
    "2018-08-30-preview",
    "2019-03-30",
    "2019-07-01-preview",
    "2019-10-01",
    "2020-03-13",
    "2020-05-31-preview",
    "2020-09-30",
    "2021-04-12",
    "2024-03-31",
)
"""API versions that the service has had, as Microsoft's documentation and SDKs name them; each is answered alike."""

NUMBERS = {
    "InvalidProtocolVersion": 400001,
    "ArgumentInvalid": 400004,
    "IotHubUnauthorizedAccess": 401002,
    "IotHubUnauthorized": 401003,
    "DeviceMaximumQueueDepthExceeded": 403004,
    "DeviceNotFound": 404001,
    "DeviceNotOnline": 404103,
    "DeviceAlreadyExists": 409001,
    "PreconditionFailed": 412001,
    "DeviceMessageLockLost": 412002,
    "MessageTooLarge": 413001,
    "ThrottlingException": 429001,
    "NotImplemented": 501001,
    "GatewayTimeout": 504101,
}
"""The number that stands for each code where the service gives numbers."""


class HubError(Exception):
    """A refusal, the same over HTTP and MQTT.

    Attributes:
        status: HTTP status, also of an MQTT answer.
        code: such as ``DeviceNotFound``.
        timeout: how long the hub waited for a device before it gave up.
        retry_after: seconds after which the caller may try again.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        timeout: timedelta | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.timeout = timeout
        self.retry_after = retry_after

    @property
    def number(self) -> int:
        """The code as a number, such as 404001."""
        return NUMBERS[self.code]

    def on_the_wire(self) -> WireError:
        """Give it as an HTTP answer of the registry or the twins."""
        body = {"Message": f"ErrorCode:{self.code};{self.message}", "ExceptionMessage": f"Tracking ID:{_tracking_id()}"}
        wait = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return WireError(self.status, body, {"iothub-errorcode": self.code, **wait})

    def of_a_method_on_the_wire(self) -> WireError:
        """Give it as an HTTP answer to the call of a direct method."""
        described = {
            "errorCode": self.number,
            "trackingId": _tracking_id(),
            "message": self.message,
            "info": {} if self.timeout is None else {"timeout": f"{self.timeout!s:0>8}"},
            "timestampUtc": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        body = {"Message": json.dumps(described), "ExceptionMessage": ""}
        return WireError(self.status, body, {"iothub-errorcode": self.code})


def _tracking_id() -> str:
    return f"{uuid.uuid4().hex}-G:0-TimeStamp:{datetime.now(UTC):%m/%d/%Y %H:%M:%S}"


def bad_argument(message: str) -> HubError:
    """400: the request breaks a rule."""
    return HubError(400, "ArgumentInvalid", message)


def check_version(given: str | None) -> None:
    """See that a request or a connection says which version it speaks.

    Raises:
        HubError: 400, it does not or does not exist (code and body: Azure/Industrial-IoT pull request 708).
    """
    if given not in VERSIONS:
        message = f"BadRequest: api-version is {given!r}; it must be one of {', '.join(VERSIONS)}"
        raise HubError(400, "InvalidProtocolVersion", message)


def unauthorized(message: str) -> HubError:
    """401: the hub does not know who is calling."""
    return HubError(401, "IotHubUnauthorizedAccess", message)


def no_role(method: str, path: str) -> HubError:
    """401, not 403: the caller is known, and has no role at the hub."""
    return HubError(
        401,
        "IotHubUnauthorized",
        f"The principal is not authorized for {method} on {path} due to no assigned permissions",
    )


def not_found(device_id: str) -> HubError:
    """404: no such device."""
    return HubError(404, "DeviceNotFound", device_id)


def not_registered() -> HubError:
    """404: no such device, in the words of direct methods."""
    return HubError(404, "DeviceNotFound", "Not registered")


def not_online(waited: timedelta) -> HubError:
    """404: the device is not connected, or does not listen for methods."""
    return HubError(404, "DeviceNotOnline", "Timed out waiting for device to connect.", timeout=waited)


def gone() -> HubError:
    """404: the device disconnected while it was being called."""
    return HubError(404, "DeviceNotOnline", "Device unavailable")


def timed_out() -> HubError:
    """504: the device did not answer in time."""
    return HubError(504, "GatewayTimeout", "Timed out waiting for the response from device.")


def exists(device_id: str) -> HubError:
    """409: it is there."""
    return HubError(409, "DeviceAlreadyExists", f"A device with ID '{device_id}' is already registered.")


def precondition_failed() -> HubError:
    """412: the ETag is another."""
    return HubError(412, "PreconditionFailed", "Precondition failed: Invalid ETag")


def lock_lost() -> HubError:
    """412: a cloud-to-device message is settled without the lock that it was received under."""
    message = "The lock of this message is over, or the lock does not exist; receive the message once more."
    return HubError(412, "DeviceMessageLockLost", message)


def throttled(retry_after: int) -> HubError:
    """429: too many calls."""
    message = "Too many requests were made within a given period of time; back off and retry."
    return HubError(429, "ThrottlingException", message, retry_after=retry_after)


def queue_full(limit: int) -> HubError:
    """403: the device has as many undelivered messages as the hub keeps."""
    message = f"The device has {limit} undelivered cloud-to-device messages, and the hub keeps no more."
    return HubError(403, "DeviceMaximumQueueDepthExceeded", message)


def message_too_large(size: int, limit: int) -> HubError:
    """413: a cloud-to-device message is too large."""
    return HubError(413, "MessageTooLarge", f"The message has {size} bytes; at most {limit} are allowed.")


def not_offered(what: str) -> HubError:
    """501: the emulator lacks it."""
    return HubError(501, "NotImplemented", f"The emulator does not offer {what}.")
