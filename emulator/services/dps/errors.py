"""The service's own error bodies: ``{"errorCode", "trackingId", "message", "timestampUtc"}``.

Codes seen in documentation and public issue threads: 400xxx, 401002, 404201, 404202, 409xxx, 412xxx, 429001.
Where none is public, the code is the HTTP status followed by 000.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Any

from emulator.protocols.wire import WireError

VERSIONS = (
    "2017-11-15",
    "2018-04-01",
    "2018-09-01-preview",
    "2018-11-01",
    "2019-03-31",
    "2021-06-01",
    "2021-10-01",
    "2021-11-01-preview",
    "2025-07-01-preview",
    "2026-04-01",
    "2026-11-01",
)
"""API versions that the service has had, of both its APIs; the emulator answers each alike.

Azure/azure-rest-api-specs, deviceprovisioningservices/data-plane, and the older ones that Microsoft's SDKs have sent.
"""

_REGISTRATION_ID = re.compile(r"[A-Za-z0-9\-._:]{0,127}[A-Za-z0-9\-]")

INVALID_CERTIFICATE = "Invalid certificate"
CA_NOT_FOUND = "CA certificate not found"
NO_MATCH = "Signing certificate info did not match chain elements"
DISABLED = "Enrollment is disabled"
UNAUTHORIZED = "Unauthorized"
"""A signature that no entry's key has made (Azure/azure-iot-sdk-node#721, -c#1748; MicrosoftDocs/azure-docs#43157)."""


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


def unknown_scope(asked: str, known: str) -> ProvisioningError:
    """404: the ID scope does not exist."""
    return ProvisioningError(404, 404000, f"ID scope {asked!r} not found; here is {known!r}.")


def check_version(given: str | None) -> None:
    """See that a request says which version it speaks.

    Raises:
        ProvisioningError: 400, it does not, or the version does not exist.
    """
    if not given:
        raise bad_request("api-version is required, e.g. ?api-version=2021-10-01")
    if given not in VERSIONS:
        raise bad_request(f"api-version {given!r} is not one of {', '.join(VERSIONS)}.")


def check_registration_id(given: str) -> None:
    """See that a registration id can be one (Microsoft, "X.509 certificate attestation").

    Raises:
        ProvisioningError: 400, it can't.
    """
    if not _REGISTRATION_ID.fullmatch(given):
        raise bad_request(
            f"registrationId {given!r} is not valid: 1 to 128 letters, digits and - . _ :, "
            "the last a letter, digit or -."
        )


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
