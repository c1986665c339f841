"""Revocation: closes every door to a device, and reads back that they are closed.

Neither DPS nor IoT Hub reads a CRL. So a device is shut out in three places: DPS refuses to provision it (a disabled
individual enrollment), its hub refuses the connection (a disabled identity, which also ends one that stands), and the
CRL tells everybody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from shared.contracts import (
    CertificateKind,
    DeviceState,
    EventType,
    MemberRevocation,
    Queue,
    RevocationAction,
    RevocationReason,
    RevocationRequest,
)
from shared.errors import Conflict, NotFound, Rejected
from shared.ledger.certificates import CertificateRecord, CertificateState, RevocationRecord
from shared.ledger.devices import revoked_for
from shared.workflows.requests import Part, once, part_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.adapters.dps_service import ProvisioningService
    from shared.adapters.iot_hub import IotHubRegistries
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import DeviceRecord, Devices
    from shared.ledger.requests import RequestRecord, Requests
    from shared.ledger.table import Versioned
    from shared.workflows.device_identities import DeviceIdentities
    from shared.workflows.events import Clock, Outbox
    from shared.workflows.registrations import Registrations
    from shared.workflows.revocation_lists import RevocationLists

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Revocations:
    """Revokes devices with all their certificates, or single certificates of theirs, and undoes holds."""

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
        part = Part(request.registration_id, request.part) if isinstance(request, MemberRevocation) else None
        async with once(self.requests, Queue.REVOCATION_REQUESTS, request, self.clock, part=part) as to_do:
            if not to_do:
                return
            if request.enrollment_group is not None:
                await self._fan_out(request, request.enrollment_group, to_do)
                return
            if request.action is RevocationAction.DELETE:
                await self.delete(request.registration_id or "", cause=request.request_id)
                return
            device, former = await self._concerned(request)
            if former is not None:
                await self._change_former(device, former, request)
                return
            device = await self.identities.follow(device)
            if request.action is RevocationAction.REINSTATE:
                await self._reinstate(device, request)
            else:
                await self._revoke(device, request)

    async def _fan_out(self, request: RevocationRequest, group_id: str, accepted: RequestRecord) -> None:
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
                single = MemberRevocation(
                    request_id=request.request_id,
                    registration_id=device.registration_id,
                    reason=request.reason,
                    action=request.action,
                    part=part_for(accepted, device.registration_id).token,
                )
                await self.outbox.order(Queue.REVOCATION_REQUESTS, single)
            if continuation is None:
                return

    async def _concerned(self, request: RevocationRequest) -> tuple[Versioned[DeviceRecord], CertificateRecord | None]:
        """Find the device; and its certificate, if the request is about one that the device does not use any more."""
        if request.registration_id is not None:
            return await self.registrations.device(request.registration_id), None
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
        present, following = device.record.certificate, device.record.next_certificate
        if following is not None and following.serial_number == request.serial_number:
            raise Conflict.because(
                f"{known.record.subject!r} is being renewed with serial number {request.serial_number}: revoke the "
                "device, with all its certificates, or wait until it uses this one",
                field="serialNumber",
            )
        is_present = present is not None and present.serial_number == request.serial_number
        return device, None if is_present else known.record

    # --- revoke ---

    async def _certificates_of(self, device: DeviceRecord) -> list[CertificateRecord]:
        """Find what carries a device's name and has not expired: the present one, the next, and those before."""
        present, following = device.certificate, device.next_certificate
        found = []
        serial_number = present.serial_number if present else None
        while serial_number is not None:
            record = await self._certificate(serial_number)
            found.append(record)
            serial_number = record.predecessor
        if following is not None:
            found.insert(1, await self._certificate(following.serial_number))
        now = self.clock()
        return [found[0], *(each for each in found[1:] if each.not_after and each.not_after >= now)]

    async def _certificate(self, serial_number: str) -> CertificateRecord:
        known = await self.certificates.get(serial_number)
        if known is None or known.record.not_after is None:
            raise RuntimeError(f"the ledger does not have certificate {serial_number}, which a device carries")
        return known.record

    async def _revoke(self, device: Versioned[DeviceRecord], request: RevocationRequest) -> None:
        record = device.record
        if record.certificate is None:
            raise Conflict.because(f"{record.registration_id!r} has no certificate yet, so there is nothing to revoke")
        present, *others = await self._certificates_of(record)
        _check_not_final(present, request.reason)
        concerned = [present, *(each for each in others if not _is_final(each))]
        for certificate in concerned:
            await self._enter_revoked(certificate, request.reason)
        await self._shut_out(record, present, request.reason)
        await self._publish(concerned)
        await self._check_shut_out(record)
        if record.state is not DeviceState.REVOKED or record.reason != revoked_for(request.reason):
            reason = request.reason
            await self.registrations.replace(
                device, record.entered(DeviceState.REVOKED, self.clock(), reason.value, reason=revoked_for(reason))
            )
        details: dict[str, object] = {"reason": request.reason, "state": DeviceState.REVOKED}
        await self._announce(EventType.DEVICE_REVOKED, record, request, details)

    async def _enter_revoked(self, certificate: CertificateRecord, reason: RevocationReason) -> None:
        record = certificate.changed(
            state=CertificateState.REVOKED,
            # The first revocation's time stays; a hold may become final (RFC 5280 section 5.3.1).
            revoked_at=certificate.revoked_at or self.clock(),
            revocation_reason=reason,
        )
        await self.certificates.put(record)
        entry = RevocationRecord(
            serial_number=record.serial_number,
            issuer=record.issuer,
            revoked_at=record.revoked_at,
            reason=reason,
            not_after=record.not_after,
        )
        await self.certificates.revoke(entry, self.clock())

    async def withdraw(self, device: DeviceRecord, serial_number: str) -> None:
        """Revoke a certificate that was made for a device while it was shut out, and close the doors once more.

        Args:
            device: revoked or deleted.
            serial_number: of the certificate, which the device's record may not name.
        """
        certificate = await self._certificate(serial_number)
        present = await self._certificate(device.certificate.serial_number) if device.certificate else certificate
        reason = present.revocation_reason or RevocationReason.CESSATION_OF_OPERATION
        if not _is_final(certificate):
            await self._enter_revoked(certificate, reason)
            await self._publish([certificate])
        await self._shut_out(device, present, reason)

    async def _publish(self, certificates: Iterable[CertificateRecord]) -> None:
        for issuer in dict.fromkeys(each.issuer for each in certificates):
            await self.revocation_lists.publish(issuer)

    async def _change_former(
        self, known: Versioned[DeviceRecord], former: CertificateRecord, request: RevocationRequest
    ) -> None:
        """Revoke a certificate that a device does not use any more, or undo its hold; the device goes on.

        Its group would let the certificate in, so from then on DPS takes those that the device uses, and no other.
        """
        device = known.record
        if former.not_after is None or former.not_after < self.clock():
            raise Conflict.because(
                f"serial number {former.serial_number} has expired or was never used, so there is nothing to revoke",
                field="serialNumber",
            )
        if request.action is RevocationAction.REINSTATE:
            _check_on_hold(former, f"certificate {former.serial_number}")
            await self._take_off_hold(former)
            await self._publish([former])
            await self._announce(EventType.DEVICE_REINSTATED, device, request, _about(device, former))
            return
        _check_not_final(former, request.reason)
        await self._enter_revoked(former, request.reason)
        if device.state in _USES_CERTIFICATES:
            await self._admit_only_present(device)
        if not device.readmitted:
            await self.registrations.replace(known, device.changed(readmitted=True))
        await self._publish([former])
        details = {"reason": request.reason, **_about(device, former)}
        await self._announce(EventType.DEVICE_REVOKED, device, request, details)

    async def _shut_out(self, device: DeviceRecord, certificate: CertificateRecord, reason: RevocationReason) -> None:
        await self.provisioning.shut_out(device.registration_id, _leaf(certificate))
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
        final = device.record.state is DeviceState.REVOKED and not device.record.on_hold
        if device.record.certificate is not None and not final:
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
        certificates = await self._certificates_of(record) if record.certificate else []
        if not certificates:
            raise _not_on_hold(repr(record.registration_id))
        _check_on_hold(certificates[0], repr(record.registration_id))
        held = [each for each in certificates if each.revocation_reason is RevocationReason.CERTIFICATE_HOLD]
        for certificate in held:
            await self.certificates.reinstate(certificate.issuer, certificate.serial_number, self.clock())
        await self._publish(held)
        await self._readmit(record)
        if record.assigned_hub and record.device_id:
            await self.hubs.set_enabled(record.assigned_hub, record.device_id, enabled=True, reason="reinstated")
        state = _before_revocation(record)
        if record.state is DeviceState.REVOKED:
            await self.registrations.replace(device, record.entered(state, self.clock(), "reinstated", reason=None))
        # The present one last: an attempt that breaks off before is recognised by it, and done again.
        for certificate in reversed(held):
            await self._take_off_hold(certificate)
        await self._announce(EventType.DEVICE_REINSTATED, record, request, {"state": state})

    async def _take_off_hold(self, certificate: CertificateRecord) -> None:
        await self.certificates.reinstate(certificate.issuer, certificate.serial_number, self.clock())
        state = CertificateState.SUPERSEDED if certificate.successor else CertificateState.ACTIVE
        await self.certificates.put(certificate.changed(state=state, revoked_at=None, revocation_reason=None))

    async def _readmit(self, device: DeviceRecord) -> None:
        """Let a device in again: by its group, or by its own enrollment where a group would let in too much."""
        if device.readmitted or device.enrollment_group is None:
            await self._admit_only_present(device)
        else:
            await self.provisioning.delete_enrollment(device.registration_id)

    async def _admit_only_present(self, device: DeviceRecord) -> None:
        """Have DPS take the certificate that a device uses, and the one it is renewed with, and no other."""
        used = [each.serial_number for each in (device.certificate, device.next_certificate) if each is not None]
        leaves = [await self._certificate(serial_number) for serial_number in used]
        await self.provisioning.admit_only(device.registration_id, *map(_leaf, leaves))

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


_USES_CERTIFICATES = frozenset({DeviceState.ISSUED, DeviceState.REGISTERED, DeviceState.RENEWING})


def _is_final(certificate: CertificateRecord) -> bool:
    """Tell whether a certificate is revoked for good."""
    return certificate.state is CertificateState.REVOKED and certificate.ended


def _check_not_final(certificate: CertificateRecord, reason: RevocationReason) -> None:
    if reason is RevocationReason.CERTIFICATE_HOLD and _is_final(certificate):
        raise Conflict.because(
            f"serial number {certificate.serial_number} is revoked for good ({certificate.revocation_reason}), and a "
            "hold could be undone; give another reason, or leave it",
            field="reason",
        )


def _check_on_hold(certificate: CertificateRecord, what: str) -> None:
    if certificate.revocation_reason is not RevocationReason.CERTIFICATE_HOLD:
        raise _not_on_hold(what)


def _not_on_hold(what: str) -> Rejected:
    return Conflict.because(
        f"{what} is not on hold; only reason 'certificateHold' can be undone, any other revocation is final",
        field="action",
    )


def _before_revocation(device: DeviceRecord) -> DeviceState:
    if device.renewal is not None:
        return DeviceState.RENEWING
    return DeviceState.REGISTERED if device.device_id else DeviceState.ISSUED


def _about(device: DeviceRecord, former: CertificateRecord) -> dict[str, object]:
    """Tell of a certificate that a device does not use any more, and that the device itself goes on."""
    return {"serialNumber": former.serial_number, "state": device.state}


def _leaf(certificate: CertificateRecord) -> x509.Certificate:
    return x509.load_pem_x509_certificate((certificate.pem or "").encode())


def _reason(reason: RevocationReason) -> str:
    return f"certificate revoked: {reason.value}"
