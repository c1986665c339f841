"""The expiry sweep: reports what is about to expire and what has expired, once each, and deletes keys handed out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from shared.domain import upkeep
from shared.domain.certificates import UNSIGNED_FOR, CertificateState
from shared.domain.expiry import DueNotice, Notice
from shared.domain.words import CertificateKind, EventType, RevocationReason
from shared.errors import NotFound, Overtaken
from shared.workflows.devices.bundles import bundle_name
from shared.workflows.devices.changes import change

if TYPE_CHECKING:
    from shared.domain.certificates import CertificateRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.table import Versioned
    from shared.workflows.devices.bundles import Bundles
    from shared.workflows.intake.outbox import Clock, Outbox

_EVENTS = {Notice.EXPIRING: EventType.CERTIFICATE_EXPIRING, Notice.EXPIRED: EventType.CERTIFICATE_EXPIRED}
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpirySweep:
    """Gives the notices that are due."""

    expiry: ExpiryIndex
    certificates: Certificates
    devices: Devices
    bundles: Bundles
    outbox: Outbox
    clock: Clock

    async def run(self) -> dict[Notice, int]:
        """Give every notice that is due and was not given, however long ago it was due.

        Returns:
            How many certificates were reported, by notice.
        """
        reported = dict.fromkeys(Notice, 0)
        async for notice in self.expiry.due(self.clock().date()):
            if notice.notice is Notice.KEY_DELETION:
                continue
            known = await self.certificates.get(notice.serial_number)
            if known is not None and self._waits(known.record):
                continue
            if known is not None and known.record.state is CertificateState.ACTIVE:
                await self._give(notice, known)
                reported[notice.notice] += 1
            await self.expiry.done(notice)
        return reported

    def _waits(self, certificate: CertificateRecord) -> bool:
        """Tell whether it is not decided yet that a certificate's end concerns somebody."""
        if certificate.state is CertificateState.RESERVED:
            return certificate.recorded_at > self.clock() - UNSIGNED_FOR
        on_hold = certificate.revocation_reason is RevocationReason.CERTIFICATE_HOLD
        return certificate.state is CertificateState.REVOKED and on_hold

    async def delete_keys(self) -> int:
        """Delete the keys in bundles that were handed out, and whose time to be had again is over.

        Returns:
            How many were deleted.
        """
        deleted = 0
        async for notice in self.expiry.due(self.clock().date()):
            if notice.notice is not Notice.KEY_DELETION or notice.not_after > self.clock():
                continue
            await self.bundles.delete_key(bundle_name(notice.subject, notice.serial_number))
            await self.expiry.done(notice)
            deleted += 1
        return deleted

    async def _give(self, notice: DueNotice, known: Versioned[CertificateRecord]) -> None:
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
            await self._enter_expired(known)

    async def _enter_expired(self, known: Versioned[CertificateRecord]) -> None:
        if known.record.kind is CertificateKind.DEVICE:
            at = self.clock()
            expire = partial(upkeep.expired, serial_number=known.record.serial_number, at=at)
            try:
                await change(self.devices, known.record.subject, expire, at=at)
            except NotFound:
                return
            return
        current: Versioned[CertificateRecord] | None = known
        for _ in range(_ATTEMPTS):
            if current is None or current.record.state is not CertificateState.ACTIVE:
                return
            expired = current.record.changed(state=CertificateState.EXPIRED)
            if await self.certificates.try_replace(current, expired) is not None:
                return
            current = await self.certificates.get(known.record.serial_number)
        raise Overtaken(f"certificate {known.record.serial_number} is being changed by others")
