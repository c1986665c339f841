"""Compares enrollment groups with DPS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.attestations import attestation_of
from shared.domain.authorities import OVER
from shared.domain.entries import kept_settings
from shared.domain.groups import STATUS
from shared.domain.reconciliation import group_differences, unknown_group
from shared.pki import names
from shared.pki.readable import load_certificates
from shared.workflows.authorities.possession import places_of
from shared.workflows.authorities.records import all_certificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable

    from shared.domain.attestations import Entry
    from shared.domain.authorities import AuthorityRecord
    from shared.domain.findings import Difference
    from shared.domain.groups import GroupRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.groups import Groups
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.reconciliation.budget import Budget

_PAGE = 100
"""Groups that one operation of the DPS lists, at the least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLook:
    """Looks at groups, one by one."""

    groups: Groups
    records: Authorities
    provisioning: ProvisioningService

    def known(self) -> AsyncIterator[GroupRecord]:
        """List the groups of the ledger."""
        return self.groups.list()

    async def differences(self, group_id: str, budget: Budget) -> list[Difference]:
        """Give what differs about a group; nothing of one that changes at this moment."""
        budget.dps()
        known = await self.groups.get(group_id)
        entry = await self.provisioning.get_group(group_id)
        if known is None:
            unknown = await self._unknown(entry) if entry is not None else None
            return [unknown] if unknown is not None and await self.groups.get(group_id) is None else []
        authorities = await self._authorities(known.record)
        authorities += await self._put_back(entry, _thumbprints(authorities).values()) if entry is not None else []
        over = frozenset(each.name for each in authorities if each.state in OVER)
        found = list(group_differences(known.record, entry, _thumbprints(authorities), over))
        again = await self.groups.get(group_id)
        if again is None or again.etag != known.etag:
            return []
        if entry is not None and known.record.settled and known.record.entry_settings is None:
            # A group from before this was noted: from now on what it has is what it is to have.
            # If an act has changed it meanwhile, the next pass notes what DPS has then.
            _ = await self.groups.try_replace(known, known.record.changed(entry_settings=kept_settings(entry)))
        return found

    async def unknown(self, budget: Budget) -> list[str]:
        """Name the groups of DPS that the ledger does not know, and that let devices in by CAs of ours.

        The app enters a group before it makes its entry, and keeps those that are deleted.
        """
        entries = [each async for each in self.provisioning.list_groups()]
        budget.dps(1 + len(entries) // _PAGE)
        found = [each for each in entries if await self.groups.get(_id_of(each)) is None]
        return [_id_of(each) for each in found if await self._unknown(each) is not None]

    async def _unknown(self, entry: Entry) -> Difference | None:
        present = attestation_of(entry)
        held, named = {each.thumbprint for each in present.held}, set(present.references.values())
        if entry.get(STATUS) == "disabled" or not (held or named):
            return None
        ours = [
            each
            async for each in self.records.list()
            if each.certificate and (_is_held(each, held) or (each.state not in OVER and named & set(places_of(each))))
        ]
        if not ours:
            return None
        return unknown_group(entry, [each.name for each in ours], [each.name for each in ours if each.state in OVER])

    async def _authorities(self, group: GroupRecord) -> list[AuthorityRecord]:
        known = [await self.records.get(name) for name in group.authorities]
        return [each.record for each in known if each is not None]

    async def _put_back(self, entry: Entry, known: Collection[str]) -> list[AuthorityRecord]:
        """Give revoked CAs that others have put into a group's entry."""
        held = {each.thumbprint for each in attestation_of(entry).held} - {*known, ""}
        if not held:
            return []
        return [each async for each in self.records.list() if each.state in OVER and _is_held(each, held)]


def _id_of(entry: Entry) -> str:
    return str(entry["enrollmentGroupId"]).lower()


def _is_held(record: AuthorityRecord, held: Collection[str | None]) -> bool:
    return any(names.sha256_thumbprint(each) in held for each in all_certificates(record))


def _thumbprints(authorities: Iterable[AuthorityRecord]) -> dict[str, str]:
    return {
        each.name: names.sha256_thumbprint(load_certificates(each.certificate.encode())[0])
        for each in authorities
        if each.certificate
    }
