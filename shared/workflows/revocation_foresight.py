"""What of a revocation can be seen not to succeed, for a caller who waits for the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contracts import CertificateKind, DeviceState, RevocationAction, RevocationReason
from shared.errors import Conflict, NotFound, Rejected

if TYPE_CHECKING:
    from shared.contracts import RevocationRequest
    from shared.ledger.certificates import CertificateRecord, Certificates
    from shared.ledger.devices import DeviceRecord, Devices
    from shared.ledger.groups import Groups


@dataclass(frozen=True, slots=True)
class RevocationForesight:
    """Looks at a request before it is accepted. What it lets pass may still be refused when it is carried out."""

    devices: Devices
    certificates: Certificates
    groups: Groups

    async def check(self, request: RevocationRequest) -> None:
        """See whether what a request names is there, and in a state that it can be taken out of.

        Raises:
            NotFound: there is no such device, certificate or group.
            Conflict: it is not on hold and is to be reinstated, or it is revoked for good and is to be put on hold.
            Rejected: the serial number is not a device's.
        """
        if request.enrollment_group is not None:
            await self._check_group(request.enrollment_group)
        elif request.serial_number is not None:
            _check_reason(await self._certificate(request.serial_number), request)
        elif request.registration_id is not None:
            _check_state(await self._device(request.registration_id), request)

    async def _check_group(self, group_id: str) -> None:
        if await self.groups.get(group_id) is None:
            raise NotFound.because(f"there is no enrollment group {group_id!r}", field="enrollmentGroup")

    async def _certificate(self, serial_number: str) -> CertificateRecord:
        known = await self.certificates.get(serial_number)
        if known is None:
            raise NotFound.because(f"no certificate has serial number {serial_number}", field="serialNumber")
        if known.record.kind is not CertificateKind.DEVICE:
            raise Rejected.because(
                f"serial number {serial_number} is a {known.record.kind} certificate; this request revokes devices: "
                "name the enrollmentGroup to revoke all devices of an issuing CA",
                field="serialNumber",
            )
        return known.record

    async def _device(self, registration_id: str) -> DeviceRecord:
        known = await self.devices.get(registration_id)
        if known is None:
            raise NotFound.because(f"there is no device {registration_id!r}", field="registrationId")
        return known.record


def _check_state(device: DeviceRecord, request: RevocationRequest) -> None:
    if device.on_hold:
        return
    if request.action is RevocationAction.REINSTATE:
        raise _not_on_hold(repr(device.registration_id))
    if device.state is DeviceState.REVOKED and _holds(request):
        raise _is_final(repr(device.registration_id))


def _check_reason(certificate: CertificateRecord, request: RevocationRequest) -> None:
    what, on_hold = f"serial number {certificate.serial_number}", RevocationReason.CERTIFICATE_HOLD
    if request.action is RevocationAction.REINSTATE and certificate.revocation_reason is not on_hold:
        raise _not_on_hold(what)
    if _holds(request) and certificate.revocation_reason not in {None, on_hold}:
        raise _is_final(what)


def _holds(request: RevocationRequest) -> bool:
    return request.action is RevocationAction.REVOKE and request.reason is RevocationReason.CERTIFICATE_HOLD


def _not_on_hold(what: str) -> Rejected:
    return Conflict.because(
        f"{what} is not on hold; only reason 'certificateHold' can be undone, any other revocation is final",
        field="action",
    )


def _is_final(what: str) -> Rejected:
    return Conflict.because(
        f"{what} is revoked for good, and a hold could be undone; give another reason, or leave it", field="reason"
    )
