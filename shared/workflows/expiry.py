"""The expiry sweep: reports what is about to expire and what has expired, once each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.contracts import CertificateKind, DeviceState, EventType
from shared.ledger.certificates import CertificateState
from shared.ledger.expiry import DueNotice, Notice

if TYPE_CHECKING:
    from shared.ledger.certificates import CertificateRecord, Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.workflows.events import Clock, Outbox

_EVENTS = {Notice.EXPIRING: EventType.CERTIFICATE_EXPIRING, Notice.EXPIRED: EventType.CERTIFICATE_EXPIRED}


@dataclass(frozen=True, slots=True)
class ExpirySweep:
    """Gives the notices that are due."""

    expiry: ExpiryIndex
    certificates: Certificates
    devices: Devices
    outbox: Outbox
    clock: Clock

    async def run(self) -> dict[Notice, int]:
        """Give every notice that is due and was not given, however long ago it was due.

        Returns:
            How many certificates were reported, by notice.
        """
        reported = dict.fromkeys(Notice, 0)
        async for notice in self.expiry.due(self.clock().date()):
            if await self._give(notice):
                reported[notice.notice] += 1
            await self.expiry.done(notice)
        return reported

    async def _give(self, notice: DueNotice) -> bool:
        known = await self.certificates.get(notice.serial_number)
        if known is None or known.record.state is not CertificateState.ACTIVE:
            return False  # superseded or revoked meanwhile: its end concerns nobody
        certificate = known.record
        if notice.notice is Notice.EXPIRING:
            # notAfter is inclusive (RFC 5280 section 4.1.2.5), so the certificate is expired the day after.
            day = (notice.not_after + timedelta(days=1)).date()
            await self.expiry.put(
                DueNotice.on(
                    day,
                    Notice.EXPIRED,
                    serial_number=notice.serial_number,
                    subject=notice.subject,
                    not_after=notice.not_after,
                )
            )
        await self.outbox.publish(
            _EVENTS[notice.notice],
            subject=certificate.subject,
            correlation_id=certificate.cause,
            data={
                "kind": certificate.kind,
                "subject": certificate.subject,
                "serialNumber": certificate.serial_number,
                "issuer": certificate.issuer,
                "enrollmentGroup": certificate.enrollment_group,
                "notAfter": notice.not_after.isoformat(),
            },
            occasion=certificate.serial_number,
        )
        if notice.notice is Notice.EXPIRED:
            # Last, since a certificate that is entered as expired is not reported any more.
            await self._enter_expired(certificate)
        return True

    async def _enter_expired(self, certificate: CertificateRecord) -> None:
        if certificate.kind is CertificateKind.DEVICE:
            device = await self.devices.get(certificate.subject)
            present = device.record.certificate if device else None
            if device and present and present.serial_number == certificate.serial_number:
                await self.devices.replace(
                    device,
                    device.record.entered(DeviceState.EXPIRED, self.clock(), f"certificate {present.serial_number}"),
                )
        await self.certificates.put(certificate.changed(state=CertificateState.EXPIRED))
