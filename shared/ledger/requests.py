"""Requests that were accepted, found by their kind and id, and in the order in which they were asked for.

Those about groups and CAs, and those that revoke, are in a table of their own, where the trust zone of intake can't
write. It could else enter that they are done, so that nobody carried them out, or who has asked for them. The list has
all of them, and decides nothing.

A row of their list that could not be written any more is found by the sweep, since it says that the request is open.

The parts of a request about a group are counted in partitions of the request's own, where each has a row that follows
its own one. A row that could not be written any more is found by who counts.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from shared.contracts.messages import Queue
from shared.domain.request_parts import PartCounts, PartNote, PartState, part_note
from shared.domain.requests import ENDED, RequestLogEntry, RequestRecord, RequestState, logged, part_key
from shared.ledger.latest_first import LatestFirst
from shared.ledger.rows import Rows
from shared.ledger.table import Versioned, spread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from shared.domain.audit_entries import AuditedAct
    from shared.domain.requests import Change
    from shared.errors import Rejected
    from shared.ports.rows import Table

_LOG = "log"
"""Partition of the list; those of requests have two characters."""

_APART = frozenset({Queue.ENROLLMENT_GROUP_REQUESTS.value, Queue.REVOCATION_REQUESTS.value})
"""Kinds of requests that are in a table of their own."""

_UNHEARD = timedelta(minutes=5)
"""A part that was not heard of for so long is looked at itself."""

_LOOKED_AT = 100
"""So many of these at most, each time that the parts are counted."""


class Trail(Protocol):
    """Writes down that requests are carried out."""

    async def begun(self, known: RequestRecord, request: Any) -> None:
        """Write down what a request asks for; repeated, it adds nothing."""
        ...

    async def brought_about(self, known: RequestRecord) -> None:
        """Write down that what was begun was carried out, by somebody else; repeated, it adds nothing."""
        ...

    async def took_effect(self, act: AuditedAct) -> None:
        """Write down that an act took effect, whatever its caller was told; repeated, it adds nothing."""
        ...

    async def given_up(self, known: RequestRecord, why: str) -> None:
        """Write down that it will not be carried out; repeated, it adds nothing."""
        ...

    async def ended(self, known: RequestRecord, request: Any, refusal: Rejected | None) -> None:
        """Write down that it was carried out, or why it was refused; repeated, it adds nothing."""
        ...


class Gate(Protocol):
    """Has requests wait for a second person."""

    async def check(self, known: RequestRecord, request: Any) -> None:
        """See that a request may be carried out; raise if it may not, or not yet."""
        ...


class _Kept:
    """What one table has: requests, and the parts of those about a group."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows = Rows(table, RequestRecord, key=lambda record: (spread(record.key), record.key))
        self.parts = Rows(table, PartNote, key=lambda note: (_partition_of(note), note.key))


class Requests:
    """The requests' tables.

    Args:
        table: holds requests and their list.
        apart: holds the requests about groups and CAs, and those that revoke; without it, ``table`` does.
        clock: tells when a row of the list was written.
        trail: writes down that requests are carried out.
        gate: has requests wait for a second person.
        lost: tells what of the ledger is lost, ``None`` if nothing is known to be: then a refusal counts.
    """

    def __init__(
        self,
        table: Table,
        *,
        apart: Table | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        trail: Trail | None = None,
        gate: Gate | None = None,
        lost: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        self.trail, self.gate, self.lost = trail, gate, lost
        self._kept, self._apart = _Kept(table), _Kept(apart or table)
        self._log = LatestFirst(
            table,
            RequestLogEntry,
            partition=_LOG,
            place=lambda entry: (entry.at, f"{entry.kind}|{entry.request_id}"),
            revision=lambda entry: entry.revision,
        )
        self._clock = clock

    def _of(self, kind: str) -> _Kept:
        return self._apart if kind in _APART else self._kept

    async def claim(
        self, record: RequestRecord, *, message: str | None = None, is_expected: bool = False
    ) -> Versioned[RequestRecord]:
        """Record a request unless its id is taken, and give what is recorded under its id.

        Args:
            record: the request.
            message: the queue's id of its message; if it was refused, it stays so.
            is_expected: whether it is most likely recorded already; then it is looked for first.
        """
        rows = self._of(record.kind).rows
        known = await self.at(record.key) if is_expected else None
        while True:
            if known is None:
                claimed = await rows.try_insert(record)
            else:
                is_refused_here = message is not None and known.record.refused_message == message
                if known.record.state is not RequestState.REJECTED or is_refused_here:
                    return known
                again = record.changed(revision=known.record.revision + 1, whole=record.whole or known.record.whole)
                claimed = await rows.try_replace(known, again)
            if claimed is not None:
                await self.note(claimed.record)
                return claimed
            known = await self.at(record.key)

    async def get(self, kind: str, request_id: str) -> Versioned[RequestRecord] | None:
        """Find a request that was accepted; ``None`` if its id is free."""
        known = await self.find(kind, request_id)
        return known if known is not None and known.record.state is not RequestState.REJECTED else None

    async def find(self, kind: str, request_id: str, member: str | None = None) -> Versioned[RequestRecord] | None:
        """Find a request, or its part for a member of its group; a rejected one as well."""
        return await self.at(part_key(kind, request_id, member))

    async def at(self, key: str) -> Versioned[RequestRecord] | None:
        """Find a request, or a part of one, by the key of its row."""
        return await self._of(key.partition("|")[0]).rows.get(*self._place(key))

    async def enter(
        self, request: RequestRecord | Versioned[RequestRecord], change: Change
    ) -> Versioned[RequestRecord] | None:
        """Record what became of a request, and give it as it is then; ``None`` if its id is another one's by now.

        Args:
            request: the request; if as it was read, it is read again only if it has changed since.
            change: makes of it what it is to be.
        """
        record, read = (request.record, request) if isinstance(request, Versioned) else (request, None)
        while True:
            known = read or await self.at(record.key)
            if known is None or known.record.nonce != record.nonce:
                return None
            after = change(known.record)
            if after == known.record and read is None:
                return known
            if after != known.record:
                after = after.changed(revision=known.record.revision + 1)
                written = await self._of(record.kind).rows.try_replace(known, after)
                if written is not None:
                    if _listed(after) != _listed(known.record):
                        await self.note(after)
                    return written
            read = None

    async def refuse(self, record: RequestRecord) -> None:
        """Record a request that was refused before its id was taken, unless its id is taken."""
        if await self._of(record.kind).rows.try_insert(record) is not None:
            await self.note(record)

    async def note(self, record: RequestRecord) -> None:
        """Have the list, and the count of a group's parts, say what has become of a request, if they do not yet."""
        if record.member is None:
            await self._log.note(logged(record, self._clock()))
        note = part_note(record, self._clock())
        if note is not None:
            await self._note_part(note)

    # --- what is told of them ---

    async def begun(self, known: RequestRecord, request: Any) -> None:
        """Have it written down what a request asks for, before anything is done; repeated, it adds nothing."""
        if self.trail is not None:
            await self.trail.begun(known, request)

    async def brought_about(self, known: RequestRecord) -> None:
        """Have it written down that others have carried a request out; repeated, it adds nothing."""
        if self.trail is not None:
            await self.trail.brought_about(known)

    async def took_effect(self, acts: Iterable[AuditedAct]) -> None:
        """Have it written down of acts that they took effect, whatever was told; repeated, it adds nothing."""
        if self.trail is not None:
            for each in acts:
                await self.trail.took_effect(each)

    async def given_up(self, known: RequestRecord, why: str) -> None:
        """Have it written down that a request will not be carried out; repeated, it adds nothing."""
        if self.trail is not None:
            await self.trail.given_up(known, why)

    async def came_to_end(self, known: RequestRecord, request: Any, refusal: Rejected | None) -> None:
        """Have it written down that a request was carried out, or why it was refused; repeated, it adds nothing."""
        if self.trail is not None:
            await self.trail.ended(known, request, refusal)

    async def check_allowed(self, known: RequestRecord, request: Any) -> None:
        """See that a request needs no second person, or that one has approved it.

        Raises:
            AwaitsApproval: it waits for one.
            Rejected: it may not be carried out.
        """
        if self.gate is not None:
            await self.gate.check(known, request)

    # --- parts of requests about groups ---

    async def expect_part(self, note: PartNote) -> PartNote:
        """Have a part of a request counted that is about to be sent, and give it as it was counted first."""
        parts = self._of(note.kind).parts
        if await parts.try_insert(note) is not None:
            return note
        known = await parts.get(_partition_of(note), note.key)
        return known.record if known is not None else note

    async def part_sent(self, note: PartNote) -> None:
        """Enter that the message of a part was sent again, so that it is left alone for a while."""
        parts = self._of(note.kind).parts
        known = await parts.get(_partition_of(note), note.key)
        if known is not None and known.record.state is PartState.OPEN:
            # Whoever has changed it meanwhile has heard of the part later than this.
            _ = await parts.try_replace(known, known.record.changed(noted_at=self._clock()))

    async def _note_part(self, note: PartNote) -> None:
        """Have a part counted as it is, if it is not yet, or as something later."""
        parts = self._of(note.kind).parts
        while True:
            known = await parts.get(_partition_of(note), note.key)
            if known is None:  # its request is not kept any more
                return
            if known.record.revision >= note.revision or known.record.state is note.state:
                return
            if await parts.try_replace(known, note) is not None:
                return

    async def count_parts(self, kind: str, whole: str) -> PartCounts:
        """Count the parts of a request: a read for each thousand of them."""
        found, unheard, unsent = Counter[PartState](), list[PartNote](), list[PartNote]()
        async for note in self._notes_of(kind, whole):
            found[note.state] += 1
            is_unheard = note.state is PartState.OPEN and note.noted_at < self._clock() - _UNHEARD
            if is_unheard and len(unheard) < _LOOKED_AT:
                unheard.append(note)
        for note in unheard:
            known = await self.at(note.key)
            if known is not None:
                await self.note(known.record)
            if known is None or known.record.is_unsent:
                unsent.append(note)
        return PartCounts(
            total=found.total(),
            open=found[PartState.OPEN],
            waiting=found[PartState.WAITING],
            set_aside=found[PartState.SET_ASIDE],
            done=found[PartState.DONE],
            failed=found[PartState.FAILED],
            unsent=tuple(unsent),
        )

    async def _notes_of(self, kind: str, whole: str) -> AsyncIterator[PartNote]:
        # No id holds a "|" or a "}", and "}" sorts behind "|": these are the partitions of this request alone.
        begin = f"parts|{kind}|{whole}"
        condition = "PartitionKey ge @first and PartitionKey lt @last"
        async for note in self._of(kind).parts.list(condition, {"first": f"{begin}|", "last": f"{begin}}}"}):
            yield note

    # --- the list of requests ---

    async def page(
        self,
        *,
        state: RequestState | None,
        kind: str | None,
        since: datetime | None,
        size: int,
        continuation: str | None,
        about: str | None = None,
    ) -> tuple[Sequence[RequestLogEntry], str | None]:
        """List one page, the latest first, and the continuation of the next."""
        columns = {"state": state and state.value, "kind": kind, "about": about}
        return await self._log.page(columns, since=since, size=size, continuation=continuation)

    async def left_open(self, before: datetime) -> AsyncIterator[RequestLogEntry]:
        """List what is open and was last heard of before some time."""
        condition = "isOpen eq @open and updatedAt lt @before"
        async for entry in self._log.where(condition, {"open": True, "before": before}):
            yield entry

    # --- retention ---

    async def ended(self, before: datetime) -> AsyncIterator[RequestLogEntry]:
        """List what ended before some time, the latest first; no other rows are read."""
        condition = "isOpen eq @open and updatedAt lt @before"
        async for entry in self._log.older(before, condition, {"open": False, "before": before}):
            yield entry

    async def forget(self, entry: RequestLogEntry, before: datetime, *, limit: int) -> int:
        """Delete a request that ended before some time, its parts first, and its row of the list at last.

        Args:
            entry: its row of the list.
            before: the time.
            limit: parts that are deleted at most; the others are left for the next time, with the request.

        Returns:
            How many were deleted, with the request itself.
        """
        table = self._of(entry.kind).table
        known = await self.find(entry.kind, entry.request_id)
        is_another = known is not None and known.record.received_at != entry.at  # its id was free, and is used again
        if known is not None and not is_another:
            if known.record.state not in ENDED or known.record.ended_at is None or known.record.ended_at >= before:
                await self.note(known.record)
                return 0
            removed = await self._forget_parts(entry, limit)
            if removed >= limit or not await table.delete_unchanged(*self._place(known.record.key), known.etag):
                return removed
        else:
            removed = 0
        await self._log.remove(entry)
        return removed + 1

    async def _forget_parts(self, whole: RequestLogEntry, limit: int) -> int:
        removed, table = 0, self._of(whole.kind).table
        async for note in self._notes_of(whole.kind, whole.request_id):
            if removed >= limit:
                break
            if note.key.startswith(f"{part_key(whole.kind, whole.request_id)}|"):  # others are requests themselves
                await table.delete(*self._place(note.key))
            await table.delete(_partition_of(note), note.key)
            removed += 1
        return removed

    @staticmethod
    def _place(key: str) -> tuple[str, str]:
        return spread(key), key

    async def renote(self, entry: RequestLogEntry) -> None:
        """Make a row of the list say what its request is now."""
        known = await self.find(entry.kind, entry.request_id)
        if known is not None and known.record.received_at == entry.at:
            await self.note(known.record)


def _listed(request: RequestRecord) -> object:
    """Give what changes of a request where it is listed or counted."""
    note = part_note(request, request.received_at)
    return request.state, note and note.state


def _partition_of(note: PartNote) -> str:
    """Spread the parts of a request over sixteen partitions."""
    return f"parts|{note.kind}|{note.whole}|{spread(note.key)[0]}"
