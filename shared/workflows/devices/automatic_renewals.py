"""Renews the devices of groups whose policy says so, and reminds whoever has to act before it can.

The expiry sweep comes by when a certificate is to be replaced, when it expires soon, and 30, 7 and 1 days before its
end. The request for a renewal has an id that follows from the certificate, so that it is made once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.contracts.devices import CertificateRenewal
from shared.contracts.messages import Queue
from shared.domain.expiry import Notice
from shared.domain.groups import GroupState
from shared.domain.renewal import renewal_day, turn_of, within_the_day
from shared.domain.words import CertificateKind, RenewalNeeds
from shared.errors import Conflict
from shared.workflows.intake.requests import submit

if TYPE_CHECKING:
    from shared.domain.certificates import CertificateRecord
    from shared.domain.devices import DeviceRecord
    from shared.domain.expiry import DueNotice
    from shared.domain.groups import GroupRecord
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.ledger.requests import Requests
    from shared.workflows.devices.missed_renewals import MissedRenewals
    from shared.workflows.intake.outbox import Clock, Outbox

_TAKES = timedelta(days=1)
"""A renewal that was asked for longer ago should have begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticRenewals:
    """Sees to certificates that are to be replaced."""

    groups: Groups
    devices: Devices
    requests: Requests
    missed: MissedRenewals
    outbox: Outbox
    clock: Clock

    async def see_to(self, certificate: CertificateRecord, due: DueNotice) -> None:
        """Have a device renewed, or name it if somebody has to act first.

        Args:
            certificate: in use. Nothing is done for one that is too young, or whose group has no such policy.
            due: on what occasion.
        """
        group = await self._group_of(certificate)
        if group is None or not self._is_due(certificate):
            return
        known = await self.devices.get(certificate.subject)
        turn = turn_of(known.record, certificate.serial_number, self.clock()) if known is not None else None
        if known is None or turn is None:
            return
        is_late = due.notice is Notice.REMINDER
        if turn is RenewalNeeds.OPERATOR:
            had_time = group.state is not GroupState.ENABLED or await self._renew(certificate)
            is_late = is_late and had_time
        elif turn is RenewalNeeds.CSR:
            is_late = is_late or due.notice is Notice.RENEWAL
        if is_late:
            await self._name(known.record, certificate, turn, due)

    async def leave(self, certificate: CertificateRecord) -> None:
        """Take a device off its group's list, since this certificate is not in use any more."""
        if certificate.kind is CertificateKind.DEVICE and certificate.enrollment_group is not None:
            await self.missed.leave(certificate.enrollment_group, certificate.subject, certificate.serial_number)

    async def _group_of(self, certificate: CertificateRecord) -> GroupRecord | None:
        """Find the group of a device's certificate, if it renews its devices automatically."""
        if certificate.kind is not CertificateKind.DEVICE or certificate.enrollment_group is None:
            return None
        known = await self.groups.get(certificate.enrollment_group)
        if known is None or known.record.state is GroupState.DELETED or not known.record.renew_automatically:
            return None
        return known.record

    def _is_due(self, certificate: CertificateRecord) -> bool:
        """Tell whether it is time to replace a certificate, and not too late."""
        begin, end, now = certificate.not_before, certificate.not_after, self.clock()
        if begin is None or end is None or end < now:
            return False
        return renewal_day(begin, end, certificate.serial_number) <= now.date()

    async def _renew(self, certificate: CertificateRecord) -> bool:
        """Ask for the renewal, unless that was done; a request that was refused is made again.

        Returns:
            Whether it was asked for long ago, so that the device should be renewed by now.
        """
        serial_number, now = certificate.serial_number, self.clock()
        wanted = CertificateRenewal(
            request_id=f"renewal-{serial_number}", registration_id=certificate.subject, replaces=serial_number
        )
        known = await self.requests.find(Queue.RENEWAL_REQUESTS, wanted.request_id)
        delay = within_the_day(certificate.not_after or now, serial_number, now)
        try:
            await submit(self.requests, self.outbox, Queue.RENEWAL_REQUESTS, wanted, self.clock, delay=delay)
        except Conflict:
            return True  # somebody has used the id for something else: an operator has to renew the device
        return known is not None and known.record.received_at < now - _TAKES

    async def _name(
        self, device: DeviceRecord, certificate: CertificateRecord, turn: RenewalNeeds, due: DueNotice
    ) -> None:
        both = (device.certificate, device.next_certificate)
        present = next(each for each in both if each is not None and each.serial_number == certificate.serial_number)
        # Whose turn it is may have changed when a sweep that broke off comes again: that is another event, then.
        occasion = f"{certificate.serial_number}/{due.notice.value}-{due.due}/{turn.value}"
        await self.missed.name(device, present, turn, cause=certificate.cause, occasion=occasion)
