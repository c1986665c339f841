"""Which hub DPS has put a device into."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared.domain.attestations import attestation_of
from shared.domain.words import DeviceState
from shared.errors import AwaitsDevice, Rejected
from shared.ports.registrar import Assignment, AssignmentFailed, RegistrationRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from shared.domain.devices import DeviceRecord
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.ports.registrar import ClientCredentials, DeviceRegistrar
    from shared.workflows.devices.wanted_certificates import IssuedCertificate
    from shared.workflows.intake.outbox import Clock

_FIRST_BOOT_POLL = timedelta(seconds=2)
_FIRST_BOOT_POLL_LIMIT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignments:
    """Registers devices with DPS, or finds that they registered themselves."""

    registrar: DeviceRegistrar
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    clock: Clock

    async def assign(
        self, device: DeviceRecord, issued: IssuedCertificate, *, since: datetime, by_service: bool
    ) -> Assignment:
        """Register the device, or find that it registered itself.

        Args:
            device: the device.
            issued: its certificate, with the key if the service has it.
            since: when the wait for the device began; the older, the rarer it is asked for.
            by_service: whether the service may register it.

        Raises:
            AwaitsDevice: it has not registered with this certificate yet.
            Rejected: DPS refuses it.
        """
        registration_id = device.registration_id
        if issued.credentials is not None and by_service:
            try:
                return await self._register(registration_id, issued.credentials)
            except RegistrationRefused as refused:
                raise await self._why_refused(device, refused) from refused
        waiting = AwaitsDevice(
            f"{registration_id!r} has not registered with its certificate yet",
            retry_after=min(max(_FIRST_BOOT_POLL, (self.clock() - since) / 8), _FIRST_BOOT_POLL_LIMIT),
        )
        found = await registered(self.provisioning, self.hubs, device, _thumbprints(issued))
        if found is None:
            raise waiting
        return found

    async def _why_refused(self, device: DeviceRecord, refused: RegistrationRefused) -> Rejected:
        """Add to DPS's refusal the individual enrollment that others have made, if it holds no certificate of ours.

        It is the cause only if DPS did not take the device's certificate, which it says by 401 (azure-iot-sdk-node
        issue 532: errorCode 401002). The order fails then, and every door of the device is shut: what becomes of that
        enrollment is said as well.
        """
        entry = await self.provisioning.get_enrollment(device.registration_id)
        present = attestation_of(entry) if entry is not None else None
        if present is None or any(device.find(each.serial_number) for each in present.held):
            return refused
        is_cause = refused.status == HTTPStatus.UNAUTHORIZED
        return Rejected.because(
            f"{refused}. {'The cause: the' if is_cause else 'Also, the'} device has an individual enrollment that was "
            f"not made for this order. It accepts {present.words}, and no certificate that the ledger has. Since the "
            "order has failed, the enrollment is disabled, and holds the certificate that was issued, which is "
            "revoked. Another order takes the enrollment over and lets the device in"
        )

    async def _register(self, registration_id: str, credentials: ClientCredentials) -> Assignment:
        try:
            return await self.registrar.register(registration_id, credentials)
        except AssignmentFailed as failed:
            # The device is not told why; its record has it.
            record = await self.provisioning.get_registration(registration_id) or {}
            why = f"{record.get('errorCode', 'no error code')}, {record.get('errorMessage', 'no message')}"
            raise AssignmentFailed(
                f"{failed}: {why}; see to the group's allocation policy, its webhook and its hubs"
            ) from failed


async def registered(
    provisioning: ProvisioningService, hubs: IotHubRegistries, device: DeviceRecord, thumbprints: Collection[str]
) -> Assignment | None:
    """Give where a device has registered with a certificate; ``None`` if it has not.

    Args:
        provisioning: the DPS.
        hubs: all hubs.
        device: the device.
        thumbprints: of the certificate: DPS enters SHA-256, other tools SHA-1.
    """
    registration = await provisioning.get_registration(device.registration_id)
    if registration is None or registration.get("status") != "assigned":
        return None
    found = Assignment(assigned_hub=registration["assignedHub"], device_id=registration["deviceId"])
    identity = await hubs.get(found.assigned_hub, found.device_id)
    if identity is None:
        return None
    has_come = not identity.thumbprints.isdisjoint(thumbprints)
    # One that is renewed may have registered since with the certificate that it has.
    if not identity.thumbprints and device.state is not DeviceState.RENEWING:
        has_come = _since(registration, device.updated_at)
    return found if has_come else None


def _thumbprints(issued: IssuedCertificate) -> set[str]:
    return {issued.bundle.summary.thumbprint, issued.bundle.sha256_thumbprint}


def _since(registration: Mapping[str, Any], at: datetime) -> bool:
    """Tell whether a device has registered since a time; where the hub names no certificate, nothing else tells."""
    updated = registration.get("lastUpdatedDateTimeUtc")
    return not updated or datetime.fromisoformat(str(updated)) >= at
