"""Compares enrollment groups with DPS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.authorities import OVER
from shared.domain.entries import kept_settings
from shared.domain.reconciliation import group_differences
from shared.pki import names
from shared.pki.readable import load_certificates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.domain.authorities import AuthorityRecord
    from shared.domain.findings import Difference
    from shared.domain.groups import GroupRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.groups import Groups
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.reconciliation.budget import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLook:
    """Looks at groups, one by one."""

    groups: Groups
    records: Authorities
    provisioning: ProvisioningService

    async def differences(self, group_id: str, budget: Budget) -> list[Difference]:
        """Give what differs about a group; nothing of one that changes at this moment."""
        budget.dps()
        known = await self.groups.get(group_id)
        if known is None:
            return []
        entry = await self.provisioning.get_group(group_id)
        authorities = await self._authorities(known.record)
        over = frozenset(each.name for each in authorities if each.state in OVER)
        found = list(group_differences(known.record, entry, _thumbprints(authorities), over))
        again = await self.groups.get(group_id)
        if again is None or again.etag != known.etag:
            return []
        if entry is not None and known.record.settled and known.record.entry_settings is None:
            # A group from before this was noted: from now on what it has is what it is to have.
            await self.groups.try_replace(known, known.record.changed(entry_settings=kept_settings(entry)))
        return found

    async def _authorities(self, group: GroupRecord) -> list[AuthorityRecord]:
        known = [await self.records.get(name) for name in group.authorities]
        return [each.record for each in known if each is not None]


def _thumbprints(authorities: Iterable[AuthorityRecord]) -> dict[str, str]:
    return {
        each.name: names.sha256_thumbprint(load_certificates(each.certificate.encode())[0])
        for each in authorities
        if each.certificate
    }
