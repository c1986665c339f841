"""The expiry sweep: reports what is about to expire and what has expired, once each, and ends keys in bundles."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from shared.contracts.events_certificates import CertificateDue, CertificateExpired, CertificateExpiring
from shared.domain import upkeep
from shared.domain.certificates import UNSIGNED_FOR, CertificateState
from shared.domain.expiry import DueNotice, Notice, first_warning, next_warning, told_warning
from shared.domain.renewal import first_notice, next_reminder, renewal_day
from shared.domain.words import CertificateKind, RevocationReason
from shared.errors import NotFound
from shared.workflows.authorities.changes import change_certificate
from shared.workflows.devices.batches import in_batches
from shared.workflows.devices.bundles import bundle_name
from shared.workflows.devices.changes import change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from shared.domain.certificates import CertificateRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.settings import Settings
    from shared.workflows.devices.automatic_renewals import AutomaticRenewals
    from shared.workflows.devices.bundles import Bundles
    from shared.workflows.intake.outbox import Clock, Outbox

_EVENTS: Mapping[Notice, type[CertificateDue]] = {
    Notice.EXPIRING: CertificateExpiring,
    Notice.EXPIRED: CertificateExpired,
}
_AT_ONCE = 20
"""Notices that are given at a time: a day on which thousands of devices are due takes minutes, and not an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpirySweep:
    """Gives the notices that are due.

    Attributes:
        check_ledger: sees that the ledger is not an older one, which takes a certificate that was signed since for one
            that was not, and would delete the key in its bundle; raises ``LedgerBehind``.
    """

    expiry: ExpiryIndex
    certificates: Certificates
    devices: Devices
    bundles: Bundles
    renewals: AutomaticRenewals
    outbox: Outbox
    check_ledger: Callable[[], Awaitable[None]]
    settings: Settings
    clock: Clock

    async def run(self) -> dict[Notice, int]:
        """Give every notice that is due and was not given, however long ago it was due.

        One that can't be given does not hold up the others, unless none can.

        Returns:
            How many notices were given, by their kind.

        Raises:
            LedgerBehind: the ledger is an older one; nothing is given.
            ExceptionGroup: some could not be given; the next sweep tries them again.
        """
        await self.check_ledger()
        given, failures = Counter[Notice](), list[Exception]()
        async for some in in_batches(self._due(), _AT_ONCE):
            outcomes = await asyncio.gather(*map(self._see_to, some), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    failures.append(outcome)
                elif isinstance(outcome, BaseException):
                    raise outcome
                else:
                    given.update(outcome)
            if all(isinstance(outcome, Exception) for outcome in outcomes):
                break  # it is not the notices that are at fault
        if failures:
            raise ExceptionGroup(f"{len(failures)} notices could not be given", failures)
        return {notice: given[notice] for notice in Notice}

    async def _due(self) -> AsyncIterator[DueNotice]:
        """List what is due, but for keys that are to be deleted."""
        async for each in self.expiry.due(self.clock().date()):
            if each.notice is not Notice.KEY_DELETION:
                yield each

    async def _see_to(self, due: DueNotice) -> list[Notice]:
        """Give one notice, with those after it that are due as well, and tell which were given."""
        known, given = await self.certificates.get(due.serial_number), list[Notice]()
        if due.notice is Notice.KEPT and not (known and self._is_unsigned(known.record)):
            given.append(due.notice)
            following = await self._end_key(due, known.record if known else None)
            if following is None or following.due > self.clock().date().isoformat():
                return given
            due = following
        if known is not None and self._waits(known.record):
            return given
        notice = [due]
        while notice:
            each = notice.pop()
            if known is not None and known.record.state is CertificateState.ACTIVE:
                notice += await self._give(each, known.record)
                given.append(each.notice)
            elif known is not None:
                await self.renewals.leave(known.record)
            await self.expiry.done(each)
        return given

    async def _end_key(self, due: DueNotice, certificate: CertificateRecord | None) -> DueNotice | None:
        """Delete a key that was kept for long enough, and put what comes after it."""
        await self.bundles.delete_key(bundle_name(due.subject, due.serial_number))
        following: DueNotice | None = None
        if certificate is not None and certificate.not_before is not None and not certificate.ended:
            following = first_notice(
                serial_number=due.serial_number,
                subject=due.subject,
                not_before=certificate.not_before,
                not_after=due.not_after,
                warnings=self.settings.device_warnings,
            )
            await self.expiry.put(following)
        await self.expiry.done(due)
        return following

    def _is_unsigned(self, certificate: CertificateRecord) -> bool:
        """Tell whether a certificate may be about to be signed."""
        return certificate.state is CertificateState.RESERVED and certificate.recorded_at > self.clock() - UNSIGNED_FOR

    def _waits(self, certificate: CertificateRecord) -> bool:
        """Tell whether it is not decided yet that a certificate's end concerns somebody."""
        if certificate.state is CertificateState.RESERVED:
            return self._is_unsigned(certificate)
        on_hold = certificate.revocation_reason is RevocationReason.CERTIFICATE_HOLD
        return certificate.state is CertificateState.REVOKED and on_hold

    async def delete_keys(self) -> int:
        """Delete the keys in bundles whose time is over, with their passwords.

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

    async def _give(self, notice: DueNotice, certificate: CertificateRecord) -> list[DueNotice]:
        """Give a notice, put those that come after it, and tell which of them are to be given at once."""
        following = [*self._following(notice, certificate)]
        for each in following:
            await self.expiry.put(each)
        if notice.notice in {Notice.RENEWAL, Notice.EXPIRED} and certificate.kind is CertificateKind.DEVICE:
            await self.bundles.delete_key(bundle_name(notice.subject, notice.serial_number))
        if notice.notice in _EVENTS:
            await self._report(notice, certificate)
        if notice.notice is Notice.EXPIRED:
            # Last, since a certificate that is entered as expired is not reported any more.
            await self._enter_expired(certificate)
            await self.renewals.leave(certificate)
        else:
            await self.renewals.see_to(certificate, notice)
        today = self.clock().date().isoformat()
        return [each for each in following if each.notice is Notice.EXPIRING and each.due <= today]

    def _following(self, notice: DueNotice, certificate: CertificateRecord) -> Iterator[DueNotice]:
        today, warnings = self.clock().date(), self._warnings(certificate)
        expiring = first_warning(notice.not_after, warnings)
        if notice.notice is Notice.RENEWAL and expiring.isoformat() >= notice.due:
            yield notice.then(expiring, Notice.EXPIRING)
        if notice.notice is Notice.EXPIRING:
            following = next_warning(notice.not_after, warnings, today)
            if following is not None:
                yield notice.then(following, Notice.EXPIRING)
            # notAfter is inclusive (RFC 5280 section 4.1.2.5), so the certificate is expired the day after.
            yield notice.then((notice.not_after + timedelta(days=1)).date(), Notice.EXPIRED)
        if notice.notice is Notice.EXPIRED or certificate.enrollment_group is None or certificate.not_before is None:
            return
        if notice.notice is Notice.EXPIRING:
            renewal = renewal_day(certificate.not_before, notice.not_after, notice.serial_number)
            if renewal > expiring:
                yield notice.then(renewal, Notice.RENEWAL)
        reminder = next_reminder(notice.not_after, today)
        if reminder is not None:
            yield notice.then(reminder, Notice.REMINDER)

    def _warnings(self, certificate: CertificateRecord) -> tuple[int, ...]:
        of_ca = certificate.kind in {CertificateKind.ROOT, CertificateKind.INTERMEDIATE}
        return self.settings.authority_warnings if of_ca else self.settings.device_warnings

    async def _report(self, notice: DueNotice, certificate: CertificateRecord) -> None:
        expires = notice.notice is Notice.EXPIRING
        days = told_warning(notice.not_after, self._warnings(certificate), self.clock().date()) if expires else None
        await self.outbox.publish(
            _EVENTS[notice.notice](
                kind=certificate.kind,
                subject=certificate.subject,
                serial_number=certificate.serial_number,
                issuer=certificate.issuer,
                enrollment_group=certificate.enrollment_group,
                not_after=notice.not_after,
                warning_days=days,
            ),
            subject=certificate.subject,
            correlation_id=certificate.cause,
            occasion=certificate.serial_number if days is None else f"{certificate.serial_number}/{days}",
        )

    async def _enter_expired(self, certificate: CertificateRecord) -> None:
        number = certificate.serial_number
        if certificate.kind is CertificateKind.DEVICE:
            at = self.clock()
            with suppress(NotFound):
                await change(
                    self.devices, certificate.subject, partial(upkeep.expired, serial_number=number, at=at), at=at
                )
            return

        def expired(present: CertificateRecord) -> CertificateRecord:
            ends = present.state is CertificateState.ACTIVE
            return present.changed(state=CertificateState.EXPIRED) if ends else present

        await change_certificate(self.certificates, number, expired)
