"""Notes of device records that are about to change, which the directory is kept by.

A note is written before the change, and says as what the record was read. So nothing depends on when a worker is
killed: as long as the record is as it was read, the change may still come, and the note stays. When it is not, that
change was made, or can't be made any more.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import batched
from typing import TYPE_CHECKING

from shared.domain.record import Record
from shared.ledger.table import TRANSACTION_LIMIT, keyed
from shared.ports.rows import Delete, Put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from shared.domain.devices import DeviceRecord
    from shared.ports.rows import Table

_PARTITION = "!changes"
_NEW = "new"
_MEMORY = 10_000
_HOLDS = timedelta(hours=1)
"""So long the note of a device that does not exist yet is relied upon; it is kept for a day."""


class ChangeNote(Record):
    """A device whose record changes, or has changed.

    Attributes:
        before: the stamp of the record as it was read; ``None`` of one that does not exist yet.
        since: when it was written.
    """

    registration_id: str
    before: str | None = None
    since: datetime

    @property
    def row(self) -> str:
        """Its row: who changes the same record writes the same note."""
        return f"{self.registration_id}|{_NEW if self.before is None else self.before}"

    def answered(self, record: DeviceRecord | None) -> bool:
        """Tell whether the change that it announced was made, or can't be made any more."""
        return record is not None and (self.before is None or record.stamp != self.before)


class ChangeNotes:
    """The notes, in a partition of the directory's table.

    Attributes:
        clock: gives the present time.
        unread: whether this worker has written one since it was last asked.
        at_work: devices that this worker is working on, so that more is to come.
    """

    def __init__(self, directory: Table, *, clock: Callable[[], datetime]) -> None:
        self._table, self.clock = directory, clock
        self._announced: dict[str, datetime] = {}
        self.unread = False
        self.at_work: set[str] = set()

    @contextmanager
    def working(self, registration_ids: Iterable[str]) -> Iterator[None]:
        """Work on devices. If two messages of one device come at once, it is at work until the first one ends."""
        own = set(registration_ids) - self.at_work
        self.at_work |= own
        try:
            yield
        finally:
            self.at_work -= own

    async def enter(self, registration_id: str, before: str | None) -> None:
        """Note that a record is about to change, before it does."""
        now = self.clock()
        announced = self._announced.pop(registration_id, None) if before is None else None
        if announced is None or now - announced > _HOLDS:
            note = ChangeNote(registration_id=registration_id, before=before, since=now)
            await self._table.put(keyed(_PARTITION, note.row, note))
        self.unread = True

    async def announce(self, registration_ids: Sequence[str], *, expected: bool = True) -> None:
        """Note devices that are about to be made, many at once; the notes of those that exist do no harm.

        Args:
            registration_ids: the devices.
            expected: whether this worker makes them now, so that they need not be noted again.
        """
        now = self.clock()
        notes = [ChangeNote(registration_id=each, since=now) for each in dict.fromkeys(registration_ids)]
        for some in batched(notes, TRANSACTION_LIMIT, strict=False):
            # A put meets no state that could refuse it.
            _ = await self._table.write_together([Put(keyed(_PARTITION, note.row, note)) for note in some])
        if not expected:
            return
        if len(self._announced) > _MEMORY:
            self._announced.clear()
        self._announced.update({note.registration_id: now for note in notes})

    async def all(self) -> AsyncIterator[ChangeNote]:
        """List the notes, by device."""
        async for row in self._table.query("PartitionKey eq @partition", {"partition": _PARTITION}):
            yield ChangeNote.from_columns(row.values)

    async def some(self, limit: int) -> frozenset[str] | None:
        """Give the devices that have notes; ``None`` if they are more than a limit."""
        rows, _ = await self._table.page(
            "PartitionKey eq @partition", {"partition": _PARTITION}, size=2 * limit + 1, continuation=None
        )
        found = frozenset(ChangeNote.from_columns(row.values).registration_id for row in rows)
        return found if len(found) <= limit and len(rows) <= 2 * limit else None

    async def forget(self, notes: Sequence[ChangeNote]) -> None:
        """Delete notes whose devices are in the directory."""
        for some in batched(notes, TRANSACTION_LIMIT, strict=False):
            steps = [Delete({"PartitionKey": _PARTITION, "RowKey": note.row}) for note in some]
            if await self._table.write_together(steps) is None:  # somebody else has deleted one of them
                for note in some:
                    await self._table.delete(_PARTITION, note.row)
