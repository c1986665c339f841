"""The audit log: rows that are only ever added, the latest first, once in the list of all and once for each look-up.

An entry is written before the deed, and what came of it after: as a row of its own, so that neither is ever changed.
Whoever repeats an act writes the same rows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.domain.audit_entries import AuditedAct, AuditEntry, AuditOutcome, SubjectKind
from shared.domain.record import Record
from shared.ledger.latest_first import LatestFirst
from shared.ledger.rows import Rows
from shared.ledger.table import spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.ports.rows import Table

_ALL = "log"
_ENDS = (AuditOutcome.DONE, AuditOutcome.REFUSED, AuditOutcome.FAILED, AuditOutcome.DENIED)
"""What may come of an act. That one counts which stands first, where a try was refused and the next one was not, or a
call failed whose act was carried out later."""


class AuditRow(AuditEntry):
    """An entry as its rows have it.

    Attributes:
        actor_id: of its actor, by which it is found.
    """

    actor_id: str


class AuditEnd(Record):
    """What came of an act that was written down before."""

    entry_id: str
    outcome: AuditOutcome
    at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """Which entries are meant; ``None`` for whatever they have.

    Attributes:
        device: registration id.
        group: an enrollment group, and all that belongs to it.
        authority: name of a CA.
        actor: object id of a user or an app, or name of a key, queue or timer.
        since: time of the first, inclusive.
        until: time of the last, inclusive.
    """

    device: str | None = None
    group: str | None = None
    authority: str | None = None
    actor: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def place(self) -> str:
        """The partition that has the fewest of what else would be read."""
        for kind, name in (
            (SubjectKind.DEVICE, self.device),
            (SubjectKind.AUTHORITY, self.authority),
            ("actor", self.actor),
            (SubjectKind.GROUP, self.group),
        ):
            if name is not None:
                return _place(kind, name)
        return _ALL

    def columns(self) -> Mapping[str, str | None]:
        """Give what entries must have besides, by column."""
        subject = self.device or self.authority
        kind = SubjectKind.DEVICE if self.device else SubjectKind.AUTHORITY if self.authority else None
        return {
            "subject": subject,
            "subjectKind": kind and kind.value,
            "actorId": self.actor,
            "action": self.action,
            "enrollmentGroup": self.group,
        }


class AuditTable:
    """The audit log in a table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._ends = Rows(table, AuditEnd, key=lambda each: (_end(each.entry_id), f"{each.entry_id}|{each.outcome}"))

    async def append(self, entry: AuditEntry) -> None:
        """Add an entry, or what came of one that was begun; repeated, it adds nothing."""
        if await self._list(_ALL).has(_row(entry)):
            if entry.outcome in _ENDS:
                end = AuditEnd(entry_id=entry.entry_id, outcome=entry.outcome, at=entry.at, reason=entry.reason)
                _ = await self._ends.try_insert(end)  # it is there: the time at which it was written first counts
            return
        # The list of all comes last: an entry that is in it can be found by whatever it is about.
        await asyncio.gather(*(self._list(place).note(_row(entry)) for place in _places(entry)))
        await self._list(_ALL).note(_row(entry))

    async def find(self, act: AuditedAct) -> AuditEntry | None:
        """Find the entry of an act, as it was begun; ``None`` if it is not there."""
        known = await self._list(_ALL).find(act.at, act.entry_id)
        return AuditEntry(**{name: getattr(known, name) for name in AuditEntry.model_fields}) if known else None

    async def outcome(self, act: AuditedAct) -> AuditOutcome | None:
        """Tell what came of an act, whose time is known to the millisecond, as the log has it.

        Returns:
            ``None`` if its entry is not there.
        """
        log, last = self._list(_ALL), act.at + timedelta(microseconds=999)
        known = await log.find(act.at, act.entry_id) or await log.find(last, act.entry_id)
        return (await self._ended(known)).outcome if known else None

    async def page(
        self, filters: AuditFilters, *, size: int, continuation: str | None
    ) -> tuple[Sequence[AuditEntry], str | None]:
        """List one page, the latest first, each with what came of it, and the continuation of the next."""
        found, following = await self._list(filters.place).page(
            filters.columns(), since=filters.since, until=filters.until, size=size, continuation=continuation
        )
        return await asyncio.gather(*map(self._ended, found)), following

    async def _ended(self, entry: AuditRow) -> AuditEntry:
        if entry.outcome is not AuditOutcome.BEGUN:
            return entry
        for outcome in _ENDS:
            end = await self._ends.get(_end(entry.entry_id), f"{entry.entry_id}|{outcome}")
            if end is not None:
                return entry.changed(outcome=outcome, reason=end.record.reason or entry.reason)
        return entry

    def _list(self, place: str) -> LatestFirst[AuditRow]:
        return LatestFirst(
            self._table,
            AuditRow,
            partition=place,
            place=lambda each: (each.at, each.entry_id),
            revision=lambda _: 0,
        )


def _row(entry: AuditEntry) -> AuditRow:
    return AuditRow(**{**dict(entry), "actor_id": entry.actor.id})


def _places(entry: AuditEntry) -> Iterator[str]:
    """Give the partitions in which an entry is looked for, beside the list of all."""
    yield _place("actor", entry.actor.id)
    if entry.subject_kind in {SubjectKind.DEVICE, SubjectKind.AUTHORITY}:
        yield _place(entry.subject_kind, entry.subject)
    if entry.enrollment_group is not None:
        yield _place(SubjectKind.GROUP, entry.enrollment_group)


def _place(kind: str, name: str) -> str:
    # What somebody is called may have characters that a key may not.
    return f"{kind}|{sha256(name.encode(errors='replace')).hexdigest()[:40]}"


def _end(entry_id: str) -> str:
    return f"end|{spread(entry_id)}"
