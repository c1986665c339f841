"""Brings DPS and the events to what is wanted of a group.

A request only enters what it wants into the group's record, in one guarded write: a change, or a rollover. From then on
it is decided. Anybody can bring it about, any number of times, at any moment: the request's own message, a repeated
delivery, the next request about the group, or a timer.

**Everything is written under the ETag of an entry that was read before the record was**, and then the record is
replaced as it was read. If somebody else was faster, the entry or the record has changed, and both are looked at anew.
What need not be written is read once more after the record was.
An entry that does not exist has no ETag. So one is made disabled, and lets nobody in until it is written again under
its ETag. Before that the record says that it is made for the change.

What DPS can't follow is withdrawn, as if nobody had asked for it. So is what would let devices in by a CA that has
ended since it was decided. It is entered as refused first: another worker may be about to have DPS follow it, or has
done so. What was made for it is taken out then, and the entry is written as it is, so that whoever has read it before
is late.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.acting import acting
from shared.contracts.events import EnrollmentGroupChanged
from shared.domain.attestations import attestation_of
from shared.domain.authority_acts import check_signs
from shared.domain.entries import (
    check_conditions,
    check_etag,
    settings_after,
    taken_over,
    with_change,
)
from shared.domain.group_signers import OF_GROUPS, with_next, without_next, without_previous
from shared.domain.groups import STATUS, ChangeAction, GroupRecord, GroupState
from shared.errors import Deferred, NotFound, PreconditionFailed, Rejected
from shared.ledger.table import Stale
from shared.telemetry.spans import step
from shared.workflows.groups.authorities import check_none_over
from shared.workflows.groups.entries import SHUTTING, busy, gone, named, unknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from shared.domain.attestations import Entry
    from shared.domain.groups import Change, Rollover
    from shared.ledger.groups import Groups
    from shared.ledger.table import Versioned
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.groups.composing import GroupEntries
    from shared.workflows.intake.outbox import Clock, Outbox

    type Follow = Callable[[GroupRecord, Entry | None], Awaitable[GroupRecord]]
    """Has DPS follow a record, seen the entry as it was before, and gives the record as it is then."""

_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """An entry that this worker has made for a change."""

    change: Change
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupConverger:
    """Makes what is wanted of groups true at DPS."""

    groups: Groups
    authorities: CertificateAuthorities
    entries: GroupEntries
    provisioning: ProvisioningService
    outbox: Outbox
    clock: Clock

    @step("converge group", "device_factory.enrollment_group")
    async def settle(self, group_id: str, *, request: str | None = None) -> GroupRecord:
        """Have DPS follow a group's change, if there is one.

        Args:
            group_id: the group.
            request: id of the caller's request, who is not told why another one was refused; ``None`` for all.

        Returns:
            The record, without a change.

        Raises:
            NotFound: the group does not exist, or its entry is gone from DPS.
            Rejected: DPS can't follow; the change is withdrawn.
            Deferred: others keep changing the group, or a CA is not ready yet.
            LedgerBehind: the ledger is an older one.
        """
        refusal: Rejected | None = None
        made: _Made | None = None
        for _ in range(_ROUNDS):
            entry = await self.provisioning.get_group(group_id)
            known = await self._known(group_id)
            change = known.record.change
            if made is not None and change != made.change and not known.record.has_followed(made.change):
                await self._take_back(group_id, made.etag)
                made = None
            if change is None or (refusal is not None and not change.refused):
                if refusal is not None:
                    raise refusal
                return known.record
            if change.action not in SHUTTING:
                await self.authorities.check_ledger()
            try:
                # Kept when a round is overtaken: whoever withdraws the change may not know of it.
                made = await self._round(known, entry, self._change, _refusing_change) or made
            except Rejected as rejection:
                refusal = rejection if request in {None, change.request} else None
        raise busy(group_id)

    @step("prepare rollover", "device_factory.enrollment_group")
    async def prepare(self, group_id: str, *, request: str | None = None) -> GroupRecord:
        """Have the next CA of a rollover made and accepted by DPS; only then does it sign. A change is settled before.

        Args:
            group_id: the group.
            request: as with :meth:`settle`.

        Returns:
            The record, without a rollover that is being prepared. That the next CA signs is a change, to be settled.

        Raises:
            NotFound: the group does not exist.
            Rejected: the CA can't be made, or DPS can't follow; the rollover is withdrawn, and DPS has no such CA.
            Deferred: others keep changing the group, or the CA is not ready yet.
            LedgerBehind: the ledger is an older one.
        """
        refusal: Rejected | None = None
        for _ in range(_ROUNDS):
            entry = await self.provisioning.get_group(group_id)
            known = await self._known(group_id)
            rollover = known.record.preparing
            if rollover is None or (refusal is not None and not rollover.refused):
                if refusal is not None:
                    raise refusal
                return known.record
            if known.record.change is not None:
                await self.settle(group_id, request=rollover.request)
                continue
            await self.authorities.check_ledger()
            try:
                await self._round(known, entry, self._roll, _refusing_rollover)
            except Rejected as rejection:
                if rollover.refused and request in {None, rollover.request}:
                    raise  # DPS holds the CA still: whoever comes next tries again
                refusal = rejection if request in {None, rollover.request} else None
        raise busy(group_id)

    async def sweep(self, *, older_than: timedelta) -> int:
        """Go on with what was left lying: its worker was killed, or a service was down.

        Args:
            older_than: younger ones are somebody's work.

        Returns:
            How many groups DPS follows now. What it can't follow is withdrawn: whoever asked is told by their message.

        Raises:
            ExceptionGroup: some can't be brought about yet; each one was tried.
        """
        before = self.clock() - older_than
        due = [each async for each in self.groups.list() if not each.settled and each.updated_at <= before]
        failures, done = list[Exception](), 0
        for each in due:
            try:
                with suppress(Rejected):
                    await self.prepare(each.enrollment_group)
                    await self.settle(each.enrollment_group)
                done += 1
            except Exception as error:  # noqa: BLE001 - one that can't be brought about must not hold up the others
                failures.append(error)
        if failures:
            raise ExceptionGroup(f"{len(failures)} of {len(due)} groups can't be brought about yet", failures)
        return done

    async def _known(self, group_id: str) -> Versioned[GroupRecord]:
        known = await self.groups.get(group_id)
        if known is None:
            raise unknown(group_id)
        return known

    async def _round(
        self,
        known: Versioned[GroupRecord],
        entry: Entry | None,
        follow: Follow,
        refusing: Callable[[GroupRecord, Rejected], GroupRecord],
    ) -> _Made | None:
        """Try once, and give an entry that was made; the next round sees how it is then."""
        record = known.record
        try:
            made = await self._made(record, entry)
            if made is None:
                await self.groups.replace(known, await follow(record, entry))
        except Stale:
            return None
        except Rejected as rejection:
            if await self.provisioning.get_group(record.enrollment_group) != entry:
                return None  # it was judged by what has changed since
            if await self.groups.try_replace(known, refusing(record, rejection)) is None:
                return None  # likewise
            raise
        return made

    # --- a change ---

    async def _made(self, record: GroupRecord, entry: Entry | None) -> _Made | None:
        """Make the entry of a group, if its record says that its change wants one which DPS does not have."""
        change = record.change
        if entry is not None or change is None or change.refused or change.only_told or not change.makes:
            return None
        wanted = await self.entries.new_entry(record, change)
        await self.entries.check_lets_in(record, change)
        made = await self.provisioning.put_group({**wanted, STATUS: GroupState.DISABLED.value}, etag=None)
        return _Made(change=change, etag=str(made["etag"]))

    async def _change(self, record: GroupRecord, entry: Entry | None) -> GroupRecord:
        change = record.change
        if change is None:
            return record
        if change.refused:
            await self._undo(record, change, entry)
            return record.withdrawn()
        if entry is None and change.wants_entry:
            check_conditions(named(record.enrollment_group), None, change.if_match)
            return record.making()
        if change.only_told:
            await self._tell(record.enrollment_group, change)
            return record.told()
        written = await self._enter(record, change, entry)
        settings = settings_after(record.entry_settings, change, written) if written else None
        return record.followed(self.clock(), settings)

    async def _enter(self, record: GroupRecord, change: Change, entry: Entry | None) -> Entry | None:
        """Have DPS follow a change of a group whose entry it has, and give that as it is then.

        What a new group takes over is written in any case: whoever has read the group as deleted, or not at all, may
        be about to delete or disable that entry as it was.
        """
        if change.action is ChangeAction.DELETE:
            await self._delete(record.enrollment_group, change, entry)
            return None
        if entry is None and change.action is ChangeAction.DISABLE:  # it lets nobody in, also when it is made again
            check_conditions(named(record.enrollment_group), None, change.if_match)
            await self._check_unchanged(record.enrollment_group, entry)
            return None
        if entry is None:
            raise gone(record.enrollment_group)
        if change.action is ChangeAction.CREATE:
            wanted = taken_over(entry, await self.entries.new_entry(record, change))
            if entry.get(STATUS) == GroupState.DISABLED:  # else it lets them in already: whoever ends its CA shuts it
                await self.entries.check_lets_in(record, change)
            return await self.provisioning.put_group(wanted, etag=entry["etag"])
        if change.action is ChangeAction.RETIRE and record.rollover is not None:
            wanted = without_previous(entry, *await self.entries.certificates(record.rollover))
        else:
            await self.entries.check_issuer(record, change)
            is_made = change.makes and await self.entries.is_made_for(entry, record, change)
            if not is_made:
                check_conditions(named(record.enrollment_group), entry["etag"], None, change.if_none_match)
            wanted = with_change(entry, change, is_made=is_made)
            if entry.get(STATUS) == "disabled" and wanted.get(STATUS) != "disabled":
                await check_none_over(self.authorities, record)
        return await self._write(entry, wanted, if_match=change.if_match)

    async def _delete(self, group_id: str, change: Change, entry: Entry | None) -> None:
        if entry is None:
            await self._check_unchanged(group_id, entry)
            return
        check_conditions(named(group_id), entry["etag"], change.if_match)
        await self.provisioning.delete_group(group_id, etag=entry["etag"])

    async def _write(self, entry: Entry, wanted: Entry, *, if_match: str | None = None) -> Entry:
        """Write an entry as it was read. If nothing of it changes it is not written, so that its ETag stays."""
        if wanted == entry:  # also what an earlier attempt did, which has changed the ETag
            await self._check_unchanged(entry["enrollmentGroupId"], entry)
            return entry
        check_etag(named(entry["enrollmentGroupId"]), entry["etag"], if_match)
        return await self.provisioning.put_group(wanted, etag=entry["etag"])

    async def _check_unchanged(self, group_id: str, entry: Entry | None) -> None:
        """See that an entry is as it is wanted at present, too: no ETag guards what is not written.

        Raises:
            Stale: it is not as it was before the record was read.
        """
        if await self.provisioning.get_group(group_id) != entry:
            raise Stale(group_id)

    async def _undo(self, record: GroupRecord, change: Change, entry: Entry | None) -> None:
        """Have nobody let devices in for a change that is refused: whoever has read the entry before is late then."""
        creates = change.action is ChangeAction.CREATE
        if entry is None or ((change.makes or creates) and not await self.entries.is_made_for(entry, record, change)):
            return  # nobody can make one that is enabled, nor change one that is not the group's
        if change.makes and (creates or entry.get(STATUS) == GroupState.DISABLED):
            await self.provisioning.delete_group(record.enrollment_group, etag=entry["etag"])
        elif attestation_of(entry).kind in OF_GROUPS:
            await self._overwrite(entry, entry)

    async def _overwrite(self, entry: Entry, wanted: Entry) -> None:
        """Write an entry even if nothing of it changes, so that its ETag does."""
        try:
            await self.provisioning.put_group(wanted, etag=entry["etag"])
        except Rejected:
            if wanted != entry:
                raise
            # Somebody else has changed it; or DPS takes no such entry any more, from nobody.
            await self._check_unchanged(entry["enrollmentGroupId"], entry)

    async def _take_back(self, group_id: str, etag: str) -> None:
        """Delete the entry of a group that was deleted, or refused, while this worker was about to make it."""
        with suppress(PreconditionFailed):  # somebody else has changed it since, and answers for it
            await self.provisioning.delete_group(group_id, etag=etag)

    # --- a rollover ---

    async def _roll(self, record: GroupRecord, entry: Entry | None) -> GroupRecord:
        rollover = record.preparing
        if rollover is None:
            return record
        if rollover.refused:
            await self._take_out(rollover, entry)
            return record.without_rollover()
        await self.entries.make_next(record.enrollment_group, rollover)
        if entry is None:
            raise gone(record.enrollment_group)
        replaces = rollover.replaces
        revoked = await self.authorities.certificate(replaces.target) if replaces is not None else None
        wanted = with_next(entry, *await self.entries.certificates(rollover), revoked=revoked)
        if wanted != entry:  # else DPS has it already, and the group is one of its groups
            check_signs(await self.authorities.get(rollover.target))
        await self._write(entry, wanted)
        return record.taken_over(self.clock())

    async def _take_out(self, rollover: Rollover, entry: Entry | None) -> None:
        """Have DPS hold the next CA no more.

        The entry is written even if it does not have it: whoever is about to put it there has an outdated ETag then.
        """
        if entry is None:
            return  # one that is made again accepts the CAs that sign
        wanted = entry
        with suppress(NotFound, Deferred):  # one that was not made nobody has put there
            source, target = [await self.authorities.certificate(each) for each in (rollover.source, rollover.target)]
            wanted = without_next(entry, source, target)
        await self._overwrite(entry, wanted)

    # --- events ---

    async def _tell(self, group_id: str, change: Change) -> None:
        """Publish what has become true: the same event however often it is sent, since the change does not change."""
        with acting(change.actor):  # whoever carries it on
            await self.outbox.publish(
                EnrollmentGroupChanged(
                    enrollment_group=group_id,
                    action=change.action,
                    state=change.state,
                    issuer=change.issuer,
                    overtaken=change.overtaken,
                ),
                subject=group_id,
                correlation_id=change.request,
                occasion="retired" if change.action is ChangeAction.RETIRE else "",
            )


def _refusing_change(record: GroupRecord, rejection: Rejected) -> GroupRecord:
    """Give the record when its change can't be followed.

    One whose ETag does not fit is withdrawn at once: nobody can write another entry for it, and whoever names an ETag
    next has read this one.
    """
    return record.withdrawn() if isinstance(rejection, PreconditionFailed) else record.refusing_change()


def _refusing_rollover(record: GroupRecord, _rejection: Rejected) -> GroupRecord:
    return record.refusing_rollover()
