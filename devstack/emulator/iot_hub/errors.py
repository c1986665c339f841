"""A hub's own error bodies: ``{"Message": "ErrorCode:...", "ExceptionMessage": "Tracking ID:..."}``.

Codes: Microsoft, "Azure IoT Hub common errors" and the REST reference.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from devstack.emulator.wire import WireError


class HubError(Exception):
    """A refusal, the same over HTTP and MQTT.

    Attributes:
        status: HTTP status, also of an MQTT answer.
        code: such as ``DeviceNotFound``.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def on_the_wire(self) -> WireError:
        """Give it as an HTTP answer."""
        tracking = f"Tracking ID:{uuid.uuid4().hex}-TimeStamp:{datetime.now(UTC):%m/%d/%Y %H:%M:%S}"
        body = {"Message": f"ErrorCode:{self.code};{self.message}", "ExceptionMessage": tracking}
        return WireError(self.status, body, {"iothub-errorcode": self.code})


def bad_argument(message: str) -> HubError:
    """400: the request breaks a rule."""
    return HubError(400, "ArgumentInvalid", message)


def unauthorized(message: str) -> HubError:
    """401: the caller is not let in."""
    return HubError(401, "IotHubUnauthorizedAccess", message)


def not_found(device_id: str) -> HubError:
    """404: no such device."""
    return HubError(404, "DeviceNotFound", f"DeviceId : {device_id} not found")


def not_online(device_id: str) -> HubError:
    """404: the device is not connected, or does not listen for methods."""
    return HubError(404, "DeviceNotOnline", f"Device {device_id} is not connected")


def exists(device_id: str) -> HubError:
    """409: it is there."""
    return HubError(409, "DeviceAlreadyExists", f"A device with ID '{device_id}' is already registered.")


def precondition_failed(device_id: str) -> HubError:
    """412: the ETag is another."""
    return HubError(412, "PreconditionFailed", f"Precondition failed: the ETag of device {device_id} does not match.")


def timed_out(device_id: str) -> HubError:
    """504: the device did not answer in time."""
    return HubError(504, "GatewayTimeout", f"Timed out waiting for the response from device {device_id}.")


def not_offered(what: str) -> HubError:
    """501: the emulator lacks it."""
    return HubError(501, "NotImplemented", f"The emulator does not offer {what}.")
