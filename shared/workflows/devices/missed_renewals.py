"""Devices that should be renewed and can't be before somebody acts: listed by their group, and told by an event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contracts.answers_groups import MissedRenewal as MissedRenewalAnswer
from shared.contracts.events_certificates import CertificateExpiring
from shared.domain.expiry import MissedRenewal
from shared.domain.words import CertificateKind
from shared.workflows.groups.entries import existing

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.domain.held_certificates import CertificateSummary
    from shared.domain.words import RenewalNeeds
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.groups import Groups
    from shared.workflows.intake.outbox import Clock, Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedRenewals:
    """Names devices whose renewal somebody has to see to."""

    groups: Groups
    expiry: ExpiryIndex
    outbox: Outbox
    clock: Clock

    async def name(
        self, device: DeviceRecord, present: CertificateSummary, needs: RenewalNeeds, *, cause: str, occasion: str
    ) -> None:
        """Put a device on its group's list, and tell it.

        Args:
            device: a device; of one without a group there is nothing to say.
            present: its certificate that is to be replaced.
            needs: who has to act.
            cause: id of the order or request that led to it.
            occasion: tells events of one device and cause apart.
        """
        if device.enrollment_group is None:
            return
        await self.expiry.enter_missed(
            MissedRenewal(
                enrollment_group=device.enrollment_group,
                registration_id=device.registration_id,
                serial_number=present.serial_number,
                not_after=present.not_after,
                needs=needs,
                since=self.clock(),
            )
        )
        await self.outbox.publish(
            CertificateExpiring(
                kind=CertificateKind.DEVICE,
                subject=device.registration_id,
                serial_number=present.serial_number,
                issuer=present.issuer,
                enrollment_group=device.enrollment_group,
                not_after=present.not_after,
                renewal_needs=needs,
            ),
            subject=device.registration_id,
            correlation_id=cause,
            occasion=occasion,
        )

    async def leave(self, group_id: str, registration_id: str, serial_number: str) -> None:
        """Take a device off its group's list, if it is there for this certificate."""
        await self.expiry.leave_missed(group_id, registration_id, serial_number)

    async def page(
        self, group_id: str, *, needs: RenewalNeeds | None, size: int, continuation: str | None
    ) -> tuple[list[MissedRenewalAnswer], str | None]:
        """List a page of a group's devices that missed their renewal.

        Raises:
            NotFound: the group does not exist.
        """
        await existing(self.groups, group_id)
        records, following = await self.expiry.page_of_missed(
            group_id, needs=needs, size=size, continuation=continuation
        )
        return [
            MissedRenewalAnswer(
                registration_id=each.registration_id,
                serial_number=each.serial_number,
                not_after=each.not_after,
                needs=each.needs,
                since=each.since,
            )
            for each in records
        ], following
