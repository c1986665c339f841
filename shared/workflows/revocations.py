"""Revocation: closes every door to a device, and reads back that they are closed.

Neither DPS nor IoT Hub reads a CRL. So a device is shut out in three places: DPS refuses to provision it (a disabled
individual enrollment), its hub refuses the connection (a disabled identity, which also ends one that stands), and the
CRL tells everybody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography import x509

from shared.contracts import (
    CertificateKind,
    DeviceState,
    EventType,
    Queue,
    RevocationAction,
    RevocationReason,
    RevocationRequest,
)
from shared.errors import Conflict, NotFound, Rejected
from shared.ledger.certificates import CertificateRecord, CertificateState, RevocationRecord
from shared.workflows.requests import once

if TYPE_CHECKING:
    from shared.adapters.dps_service import ProvisioningService
    from shared.adapters.iot_hub import IotHubRegistries
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import DeviceRecord, Devices
    from shared.ledger.requests import Requests
    from shared.ledger.table import Versioned
    from shared.workflows.device_identities import DeviceIdentities
    from shared.workflows.events import Clock, Outbox
    from shared.workflows.registrations import Registrations
    from shared.workflows.revocation_lists import RevocationLists

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Revocations:
    """Revokes devices, and undoes holds."""

    devices: Devices
    certificates: Certificates
    requests: Requests
    registrations: Registrations
    revocation_lists: RevocationLists
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    identities: DeviceIdentities
    outbox: Outbox
    clock: Clock

    async def carry_out(self, request: RevocationRequest) -> None:
        """Do what a request asks for.

        Raises:
            NotFound: there is no such device, certificate or group.
            Conflict: there is nothing to revoke, or to reinstate.
        """
        async with once(self.requests, request.request_id, request, self.clock) as to_do:
            if not to_do:
                return
            if request.enrollment_group is not None:
                await self._fan_out(request, request.enrollment_group)
                return
            device = await self.identities.follow(await self._device(request))
            if request.action is RevocationAction.REINSTATE:
                await self._reinstate(device, request)
            else:
                await self._revoke(device, request)

    async def _fan_out(self, request: RevocationRequest, group_id: str) -> None:
        """Send one request per device of a group."""
        continuation: str | None = None
        while True:
            page, continuation = await self.devices.page(
                enrollment_group=group_id, state=None, size=_PAGE, continuation=continuation
            )
            concerned = [
                device
                for device in page
                if device.certificate is not None and device.state not in {DeviceState.REVOKED, DeviceState.DELETED}
            ]
            if request.action is RevocationAction.REVOKE:
                # The hubs first, and together: it shuts the devices out at once, and saves a call for each.
                await self.identities.disable_many(concerned, reason=_reason(request.reason))
            for device in concerned:
                digest = sha256(f"{request.request_id}\n{device.registration_id}".encode()).hexdigest()[:40]
                single = RevocationRequest(
                    request_id=f"group.{digest}",
                    registration_id=device.registration_id,
                    reason=request.reason,
                    action=request.action,
                )
                await self.outbox.order(Queue.REVOCATION_REQUESTS, single)
            if continuation is None:
                return

    async def _device(self, request: RevocationRequest) -> Versioned[DeviceRecord]:
        if request.registration_id is not None:
            return await self.registrations.device(request.registration_id)
        known = await self.certificates.get(request.serial_number or "")
        if known is None:
            raise NotFound.because(f"no certificate has serial number {request.serial_number}", field="serialNumber")
        if known.record.kind is not CertificateKind.DEVICE:
            raise Rejected.because(
                f"serial number {request.serial_number} is a {known.record.kind} certificate; this request revokes "
                "devices: name the enrollmentGroup to revoke all devices of an issuing CA",
                field="serialNumber",
            )
        device = await self.registrations.device(known.record.subject)
        present = device.record.certificate
        if present is None or present.serial_number != request.serial_number:
            raise Conflict.because(
                f"serial number {request.serial_number} is not the present certificate of {known.record.subject!r}",
                field="serialNumber",
            )
        return device

    # --- revoke ---

    async def _revoke(self, device: Versioned[DeviceRecord], request: RevocationRequest) -> None:
        record = device.record
        if record.certificate is None:
            raise Conflict.because(f"{record.registration_id!r} has no certificate yet, so there is nothing to revoke")
        certificate = await self._enter_revoked(record.certificate.serial_number, request.reason)
        await self._shut_out(record, certificate, request.reason)
        await self.revocation_lists.publish(certificate.issuer)
        await self._check_shut_out(record)
        if record.state is not DeviceState.REVOKED:
            reason = request.reason.value
            await self.registrations.replace(
                device, record.entered(DeviceState.REVOKED, self.clock(), reason, reason=f"revoked: {reason}")
            )
        await self._announce(EventType.DEVICE_REVOKED, record, request, {"reason": request.reason})

    async def _enter_revoked(self, serial_number: str, reason: RevocationReason) -> CertificateRecord:
        known = await self.certificates.get(serial_number)
        if known is None or known.record.not_after is None:
            raise RuntimeError(f"the ledger does not have certificate {serial_number}, which a device carries")
        record = known.record.changed(
            state=CertificateState.REVOKED,
            # The first revocation's time stays; a hold may become final (RFC 5280 section 5.3.1).
            revoked_at=known.record.revoked_at or self.clock(),
            revocation_reason=reason,
        )
        await self.certificates.put(record)
        entry = RevocationRecord(
            serial_number=serial_number,
            issuer=record.issuer,
            revoked_at=record.revoked_at,
            reason=reason,
            not_after=known.record.not_after,
        )
        await self.certificates.revoke(entry, self.clock())
        return record

    async def _shut_out(self, device: DeviceRecord, certificate: CertificateRecord, reason: RevocationReason) -> None:
        leaf = x509.load_pem_x509_certificate((certificate.pem or "").encode())
        await self.provisioning.shut_out(device.registration_id, leaf)
        if device.assigned_hub and device.device_id:
            await self.hubs.set_enabled(device.assigned_hub, device.device_id, enabled=False, reason=_reason(reason))

    async def _check_shut_out(self, device: DeviceRecord) -> None:
        """Read back that the doors are closed: what a service acknowledged is not yet what it does."""
        enrollment = await self.provisioning.get_enrollment(device.registration_id)
        if enrollment is None or enrollment.get("provisioningStatus") != "disabled":
            raise RuntimeError(f"DPS does not shut out {device.registration_id!r}: its enrollment is not disabled")
        if not (device.assigned_hub and device.device_id):
            return
        identity = await self.hubs.get(device.assigned_hub, device.device_id)
        if identity is not None and identity.enabled:
            raise RuntimeError(f"{device.assigned_hub} does not shut out {device.device_id!r}: it is still enabled")

    async def delete(self, registration_id: str, *, cause: str) -> None:
        """Take a device out of service for good.

        Its certificate is revoked first: a group would let it in again, as long as the certificate is valid. For the
        same reason the individual enrollment that shuts it out stays.

        Args:
            registration_id: the device.
            cause: id of the request.
        """
        device = await self.registrations.device(registration_id)
        if device.record.state is DeviceState.DELETED:
            return
        device = await self.identities.follow(device)
        if device.record.certificate is not None and device.record.state is not DeviceState.REVOKED:
            request = RevocationRequest(
                request_id=cause,
                registration_id=registration_id,
                reason=RevocationReason.CESSATION_OF_OPERATION,
            )
            await self._revoke(device, request)
            device = await self.registrations.device(registration_id)
        record = device.record
        await self.provisioning.delete_registration(registration_id)
        if record.assigned_hub and record.device_id:
            await self.hubs.delete(record.assigned_hub, record.device_id)
        await self.registrations.replace(device, record.entered(DeviceState.DELETED, self.clock(), "deleted"))

    # --- reinstate ---

    async def _reinstate(self, device: Versioned[DeviceRecord], request: RevocationRequest) -> None:
        """Undo a hold, the only revocation that can be undone (RFC 5280 section 5.3.1)."""
        record = device.record
        serial_number = record.certificate.serial_number if record.certificate else ""
        known = await self.certificates.get(serial_number) if serial_number else None
        if known is None or (known.record.revocation_reason is not RevocationReason.CERTIFICATE_HOLD):
            raise Conflict.because(
                f"{record.registration_id!r} is not on hold; only reason 'certificateHold' can be undone, any other "
                "revocation is final",
                field="action",
            )
        await self.certificates.reinstate(known.record.issuer, serial_number, self.clock())
        await self.revocation_lists.publish(known.record.issuer)
        await self._readmit(record, known.record)
        if record.assigned_hub and record.device_id:
            await self.hubs.set_enabled(record.assigned_hub, record.device_id, enabled=True, reason="reinstated")
        if record.state is DeviceState.REVOKED:
            state = DeviceState.REGISTERED if record.device_id else DeviceState.ISSUED
            await self.registrations.replace(device, record.entered(state, self.clock(), "reinstated", reason=None))
        await self.certificates.put(
            known.record.changed(state=CertificateState.ACTIVE, revoked_at=None, revocation_reason=None)
        )
        await self._announce(EventType.DEVICE_REINSTATED, record, request, {})

    async def _readmit(self, device: DeviceRecord, certificate: CertificateRecord) -> None:
        """Let a device in again: by its group, or by its own enrollment where a group would let in too much."""
        if device.readmitted or device.enrollment_group is None:
            leaf = x509.load_pem_x509_certificate((certificate.pem or "").encode())
            await self.provisioning.admit_only(device.registration_id, leaf)
        else:
            await self.provisioning.delete_enrollment(device.registration_id)

    async def _announce(
        self, kind: EventType, device: DeviceRecord, request: RevocationRequest, details: dict[str, object]
    ) -> None:
        await self.outbox.publish(
            kind,
            subject=device.registration_id,
            correlation_id=request.request_id,
            data={
                "registrationId": device.registration_id,
                "serialNumber": device.certificate.serial_number if device.certificate else None,
                "assignedHub": device.assigned_hub,
                **details,
            },
        )


def _reason(reason: RevocationReason) -> str:
    return f"certificate revoked: {reason.value}"
