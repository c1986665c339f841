"""The service's own error bodies: ``{"errorCode", "trackingId", "message", "timestampUtc"}``.

Codes seen in documentation and public issue threads: 400xxx, 401002, 404201, 404202, 409xxx, 412xxx, 429001.
Where none is public, the code is the HTTP status followed by 000.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from devstack.emulator.wire import WireError

INVALID_CERTIFICATE = "Invalid certificate"
CA_NOT_FOUND = "CA certificate not found"
NO_MATCH = "Signing certificate info did not match chain elements"
DISABLED = "Enrollment is disabled"


class ProvisioningError(Exception):
    """A refusal, the same over HTTP and MQTT.

    Attributes:
        status: HTTP status, also of the MQTT answer.
        code: six digits, the first three are the status.
        hint: for the emulator's log: which certificate or field is the cause; the real service does not tell.
        retry_after: seconds after which the client may try again.
    """

    def __init__(self, status: int, code: int, message: str, *, hint: str = "", retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """Give the body."""
        return {
            "errorCode": self.code,
            "trackingId": str(uuid.uuid4()),
            "message": self.message,
            "timestampUtc": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }

    def on_the_wire(self) -> WireError:
        """Give it as an HTTP answer."""
        headers = {"x-ms-error-code": str(self.code)}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return WireError(self.status, self.body(), headers)


def bad_request(message: str) -> ProvisioningError:
    """400: the request breaks a rule."""
    return ProvisioningError(400, 400000, message)


def unauthorized(message: str, *, hint: str = "") -> ProvisioningError:
    """401: the device or caller is not let in."""
    return ProvisioningError(401, 401002, message, hint=hint)


def not_found(what: str) -> ProvisioningError:
    """404: no such enrollment, group or registration."""
    code = 404202 if what.startswith("Registration") else 404201
    return ProvisioningError(404, code, f"{what} not found.")


def conflict(message: str) -> ProvisioningError:
    """409: it exists."""
    return ProvisioningError(409, 409000, message)


def precondition_failed() -> ProvisioningError:
    """412: the ETag is another."""
    return ProvisioningError(412, 412000, "Precondition failed: the ETag does not match.")


def throttled(retry_after: int) -> ProvisioningError:
    """429: too many calls (text and code as device SDKs' own test data have them)."""
    message = "Operations are being throttled for this tenant."
    return ProvisioningError(429, 429001, message, retry_after=retry_after)


def not_offered(what: str) -> ProvisioningError:
    """501: the emulator lacks it."""
    return ProvisioningError(501, 501000, f"The emulator does not offer {what}.")
