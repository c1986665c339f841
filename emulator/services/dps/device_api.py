"""The device API without a transport: what a device asks, and what it is answered, over MQTT, AMQP and HTTPS alike.

Operations and bodies: Azure/azure-rest-api-specs, deviceprovisioningservices, data-plane device API 2021-06-01. A
registration is accepted first, with 202 and ``assigning``, and its outcome is looked up by the operation's id
(Microsoft, "Communicate with DPS using the MQTT protocol").
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.platform.variants import DPS_REGISTRATION
from emulator.services.dps import errors
from emulator.services.dps.errors import ProvisioningError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from emulator.platform.context import Context
    from emulator.platform.faults import Rule
    from emulator.services.dps.attestation import Proof
    from emulator.services.dps.state import Provisioning

LOG = logging.getLogger(__name__)
RETRY_SECONDS = 3
"""What the service advises between two looks at an operation (Microsoft, "Communicate with DPS using the MQTT
protocol": ``retry-after=3``)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device is told.

    Attributes:
        status: HTTP status, also of an MQTT answer.
        retry_after: seconds until it should ask again; None if it need not.
    """

    status: int
    body: dict[str, Any]
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """Who asks.

    Attributes:
        proof: what it shows to be let in.
        registration_id: what it says it is.
    """

    proof: Proof
    registration_id: str


class DeviceApi:
    """Register, look at an operation, look at the registration."""

    def __init__(self, context: Context, provisioning: Provisioning) -> None:
        self._context = context
        self._provisioning = provisioning

    async def register(self, device: Device, body: bytes) -> Answer:
        """Begin a registration: 202, to be looked up, or 200 with its outcome if that variant is chosen."""

        async def operation() -> Answer:
            self._admit("dps.registrations", "dps.operations")
            given = _registration(body, device.registration_id)
            begun = await self._provisioning.register(device.proof, device.registration_id, given)
            at_once = self._context.variants[DPS_REGISTRATION] == "atOnce"
            return _told(begun) if at_once else _accepted(begun["operationId"])

        return await self._answered(device, operation)

    async def operation_status(self, device: Device, operation_id: str) -> Answer:
        """Tell how a registration stands: 200 with its outcome, or 202 while it is assigning."""

        async def operation() -> Answer:
            self._admit("dps.polling", subject=device.registration_id.lower())
            self._provisioning.admit(device.proof, device.registration_id)
            return _told(self._provisioning.operation(device.registration_id, operation_id))

        return await self._answered(device, operation)

    async def registration_state(self, device: Device, body: bytes) -> Answer:
        """Give the registration record."""

        async def operation() -> Answer:
            self._admit("dps.polling", subject=device.registration_id.lower())
            _registration(body, device.registration_id)
            self._provisioning.admit(device.proof, device.registration_id)
            return Answer(200, self._provisioning.device_registration(device.registration_id))

        return await self._answered(device, operation)

    def _admit(self, *rates: str, subject: str = "") -> None:
        wait = self._context.throttled(*rates, subject=subject)
        if wait is not None:
            raise errors.throttled(wait)

    async def _answered(self, device: Device, operation: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            errors.check_registration_id(device.registration_id)
            return await operation()
        except ProvisioningError as error:
            LOG.info("DPS refuses %s: %s (%s)", device.registration_id, error.message, error.hint)
            return Answer(error.status, error.body(), error.retry_after)


def _accepted(operation_id: str) -> Answer:
    """Say that a registration goes on, and when to look again."""
    return Answer(202, {"operationId": operation_id, "status": "assigning"}, RETRY_SECONDS)


def _told(operation: dict[str, Any]) -> Answer:
    """Say how a registration stands."""
    return _accepted(operation["operationId"]) if operation["status"] == "assigning" else Answer(200, operation)


def planned_answer(rule: Rule) -> Answer:
    """Give the answer that a planned fault has instead of the real one: its status, which the rule has."""
    status = rule.status or 0
    fault = ProvisioningError(status, status * 1000 + 1, "This fault was planned.")
    passing = status in {202, 429} or status >= 500  # noqa: PLR2004 - the server's own faults
    wait = RETRY_SECONDS if rule.retry_after is None else rule.retry_after
    return Answer(status, fault.body(), wait if passing else None)


def _registration(raw: bytes, registration_id: str) -> Any:
    """Read a ``DeviceRegistration``; gives its payload."""
    try:
        body = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        raise errors.bad_request("The registration is not valid JSON.") from None
    if not isinstance(body, dict):
        raise errors.bad_request("The registration must be a JSON object.")
    named = body.get("registrationId")
    if named is not None and str(named).lower() != registration_id.lower():
        raise errors.bad_request(f"registrationId is {named!r} in the body and {registration_id!r} in the request.")
    for attestation in ("tpm", "csr"):
        if body.get(attestation) is not None:
            raise errors.not_offered(f"registrations with {attestation!r}")
    return body.get("payload")
