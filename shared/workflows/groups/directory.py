"""Shows groups: what the ledger knows of them, and what DPS holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contracts.answers_groups import Group, GroupEntry, GroupSummary, RegistrationRecord
from shared.domain.groups import GroupState
from shared.workflows.groups.entries import existing
from shared.workflows.groups.rollovers import summary

if TYPE_CHECKING:
    from shared.contracts.answers_groups import DeviceLeft, Rollover
    from shared.domain.groups import GroupRecord
    from shared.ledger.groups import Groups
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.groups.rollovers import Rollovers


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDirectory:
    """Reads groups."""

    groups: Groups
    rollovers: Rollovers
    provisioning: ProvisioningService

    async def describe(self, group_id: str) -> Group:
        """Show a group: what the ledger knows of it, and what DPS holds.

        Raises:
            NotFound: it does not exist.
        """
        record = await self._known(group_id)
        entry = await self.provisioning.get_group(group_id)
        return Group(
            enrollment_group=record.enrollment_group,
            state=record.state,
            issuer=record.issuer,
            previous_issuer=record.previous_issuer,
            renew_automatically=record.renew_automatically,
            rollover=await self.rollovers.describe(record),
            updated_at=record.updated_at,
            etag=entry["etag"] if entry else None,
            provisioning_service=GroupEntry.model_validate(entry) if entry else None,
        )

    async def list_groups(self) -> list[GroupSummary]:
        """List all groups."""
        return [_summary(group) async for group in self.groups.list() if group.state is not GroupState.DELETED]

    async def summary(self, group_id: str) -> GroupSummary:
        """Show a group as the list does: what the ledger knows of it. DPS is not asked.

        Raises:
            NotFound: it does not exist.
        """
        return _summary(await self._known(group_id))

    async def rollover(self, group_id: str) -> Rollover | None:
        """Show how far a group's rollover is, with the certificates that are left; ``None`` if it has none.

        DPS is not asked.

        Raises:
            NotFound: the group does not exist.
        """
        return await self.rollovers.describe(await self._known(group_id))

    async def registrations(
        self, group_id: str, *, size: int, continuation: str | None
    ) -> tuple[list[RegistrationRecord], str | None]:
        """List a page of the group's registration records in DPS.

        Raises:
            NotFound: it does not exist.
        """
        await self._known(group_id)
        found, following = await self.provisioning.page_of_registrations(group_id, size=size, continuation=continuation)
        return [RegistrationRecord.model_validate(each) for each in found], following

    async def left_on_old_ca(
        self, group_id: str, *, size: int, continuation: str | None
    ) -> tuple[list[DeviceLeft], str | None]:
        """List a page of the devices that the group's rollover waits for.

        Raises:
            NotFound: it does not exist, or has no rollover.
        """
        return await self.rollovers.left(await self._known(group_id), size=size, continuation=continuation)

    async def _known(self, group_id: str) -> GroupRecord:
        return await existing(self.groups, group_id)


def _summary(record: GroupRecord) -> GroupSummary:
    return GroupSummary(
        enrollment_group=record.enrollment_group,
        state=record.state,
        issuer=record.issuer,
        previous_issuer=record.previous_issuer,
        renew_automatically=record.renew_automatically,
        rollover=summary(record.rollover) if record.rollover else None,
        updated_at=record.updated_at,
    )
