"""Makes DPS follow the ledger where a group differs, or the ledger follow DPS: in what was found, and in nothing else.

What the ledger takes over is asked for like anything else about a group: it is entered into the record in one guarded
write, and what would be refused over HTTP is refused here. The record is replaced as it was before the entry was looked
at: whoever asks for something meanwhile is to have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.attestations import reference_attestation, x509_attestation
from shared.domain.entries import kept_settings
from shared.domain.groups import STATUS, Change, ChangeAction, GroupState
from shared.domain.treatments import FindingKind
from shared.errors import Conflict, PreconditionFailed
from shared.ledger.table import Stale
from shared.workflows.groups.entries import busy, gone, unknown

if TYPE_CHECKING:
    from shared.domain.attestations import Entry
    from shared.domain.findings import FindingRecord
    from shared.domain.groups import GroupRecord
    from shared.ledger.groups import Groups
    from shared.ledger.table import Versioned
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.groups.checks import GroupChecks
    from shared.workflows.groups.convergence import GroupConverger
    from shared.workflows.intake.outbox import Clock

_THERE = frozenset({GroupState.ENABLED, GroupState.DISABLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMending:
    """Sees to findings about groups, one at a time; errors are those of :meth:`Mending.carry_out`."""

    groups: Groups
    authorities: CertificateAuthorities
    provisioning: ProvisioningService
    converger: GroupConverger
    checks: GroupChecks
    clock: Clock

    async def shut(self, finding: FindingRecord) -> None:
        """Have DPS let nobody in by a revoked CA: its group is disabled, or deleted, as the ledger has it.

        An enabled one that it was put into gets the CAs that the ledger has.
        """
        known = await self.groups.get(finding.subject)
        if known is None:
            await self.disable(finding)
        elif known.record.state is GroupState.DELETED:
            await self.delete(finding)
        elif known.record.state is GroupState.ENABLED and finding.certificate_authority not in known.record.authorities:
            await self.put_signers(finding)
        else:
            await self.restore(finding)

    async def put_signers(self, finding: FindingRecord) -> None:
        """Have a group accept the CAs that the ledger has, and nothing else; everything else of its entry stays."""
        entry = await self._entry(finding)
        record = (await self._at_rest(finding)).record
        if record.state not in _THERE:
            raise busy(finding.subject)
        if entry.get(STATUS) != "disabled":
            await self.checks.enable(record)  # a revoked CA among them would be let in
        attestation = await self._attestation(record)
        if attestation is None:
            raise Conflict.because(
                f"the ledger does not have a CA of the enrollment group {finding.subject!r}; name one in DPS, or "
                "delete the group",
                field="id",
            )
        await self._put(finding, {**entry, "attestation": attestation})

    async def _attestation(self, record: GroupRecord) -> Entry | None:
        if record.ca_references is not None:
            return reference_attestation(record.ca_references.primary, record.ca_references.secondary)
        names = [each for each in (record.previous_issuer, record.issuer) if each]
        issuers = [await self.authorities.load(each) for each in names]
        return x509_attestation(*(each.certificate for each in issuers)) if issuers else None

    async def _put(self, finding: FindingRecord, entry: Entry) -> None:
        try:
            await self.provisioning.put_group(entry, etag=entry["etag"])
        except PreconditionFailed as changed:
            raise busy(finding.subject) from changed

    async def disable(self, finding: FindingRecord) -> None:
        """Disable a group that the ledger does not know; whoever asks for one meanwhile enters it first."""
        entry = await self._entry(finding)
        if await self.groups.get(finding.subject) is not None:
            raise busy(finding.subject)
        await self._put(finding, {**entry, STATUS: "disabled"})

    async def restore(self, finding: FindingRecord) -> None:
        """Have DPS follow again in what the finding is about, and in nothing else; one that is gone is made again."""
        known = await self._group(finding)
        record = known.record
        if record.state in _THERE and record.settled:
            is_whole = finding.kind is FindingKind.GROUP_MISSING
            of_settings = is_whole or finding.kind is FindingKind.GROUP_SETTINGS
            of_status = is_whole or not of_settings
            if of_status and record.state is GroupState.ENABLED:
                await self.checks.enable(record)
            wanted = Change(
                request=_request_of(finding),
                action=ChangeAction.UPDATE,
                state=record.state,
                issuer=record.issuer,
                decided_at=self.clock(),
                asked={STATUS: self.clock()} if of_status else {},
                settings=await self._settings(record) if of_settings else {},
                restores=True,
            )
            await self._replace(known, record.changed(change=wanted, updated_at=self.clock()))
        await self.converger.settle(finding.subject, request=_request_of(finding))

    async def _settings(self, record: GroupRecord) -> dict[str, object]:
        """Give what the entry had, and ``None`` for what others have put into it."""
        entry = await self.provisioning.get_group(record.enrollment_group)
        noted = record.entry_settings or {}
        return {**dict.fromkeys(kept_settings(entry) if entry else ()), **noted}

    async def delete(self, finding: FindingRecord) -> None:
        """Delete a group in DPS that the ledger has as deleted."""
        entry = await self.provisioning.get_group(finding.subject)
        known = await self._group(finding)  # after the entry was looked at
        if entry is not None and known.record.state is GroupState.DELETED:
            try:
                await self.provisioning.delete_group(finding.subject, etag=entry["etag"])
            except PreconditionFailed as changed:
                raise busy(finding.subject) from changed

    async def take_as_deleted(self, finding: FindingRecord) -> None:
        """Take over that DPS does not have a group."""
        known = await self._at_rest(finding)
        entry = await self.provisioning.get_group(finding.subject)
        if entry is not None:
            raise Conflict.because(f"DPS has the enrollment group {finding.subject!r} again", field="id")
        await self._replace(known, known.record.changed(state=GroupState.DELETED, updated_at=self.clock()))

    async def take_status(self, finding: FindingRecord) -> None:
        """Take over a status as if it had been asked for: what is refused then is refused here, and it is told."""
        known = await self._at_rest(finding)
        entry = await self._entry(finding)
        record, now = known.record, self.clock()
        state = GroupState.DISABLED if entry.get(STATUS) == "disabled" else GroupState.ENABLED
        if record.state not in _THERE or record.state is state:
            return
        if state is GroupState.ENABLED:
            await self.checks.enable(record)
        taken = Change(
            request=_request_of(finding),
            action=ChangeAction.ENABLE if state is GroupState.ENABLED else ChangeAction.DISABLE,
            state=state,
            issuer=record.issuer,
            decided_at=now,
            asked={STATUS: now},
        )
        await self._replace(known, record.changed(change=taken, updated_at=now))
        await self.converger.settle(finding.subject, request=_request_of(finding))

    async def take_settings(self, finding: FindingRecord) -> None:
        """Take over the settings alone: the status is another finding's."""
        known = await self._at_rest(finding)
        entry = await self._entry(finding)
        taken = known.record.changed(entry_settings=kept_settings(entry), updated_at=self.clock())
        await self._replace(known, taken)

    async def _entry(self, finding: FindingRecord) -> Entry:
        entry = await self.provisioning.get_group(finding.subject)
        if entry is None:
            raise gone(finding.subject)
        return entry

    async def _at_rest(self, finding: FindingRecord) -> Versioned[GroupRecord]:
        """Find a group that nobody is changing: what DPS has of another one is on its way."""
        known = await self._group(finding)
        if not known.record.settled:
            raise busy(finding.subject)
        return known

    async def _replace(self, known: Versioned[GroupRecord], record: GroupRecord) -> None:
        try:
            await self.groups.replace(known, record)
        except Stale as error:
            raise busy(record.enrollment_group) from error

    async def _group(self, finding: FindingRecord) -> Versioned[GroupRecord]:
        known = await self.groups.get(finding.subject)
        if known is None:
            raise unknown(finding.subject)
        return known


def _request_of(finding: FindingRecord) -> str:
    return f"finding-{finding.finding_id}-{finding.occurrence}"
