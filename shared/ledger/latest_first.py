"""A list in a partition of its own, in which what came last comes first: a page of it is one read.

A row is written after the record that it is of, and says from which revision it was made: the later one stays, in
whatever order they are written.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from shared.domain.record import Record
    from shared.ports.rows import Table

_LAST = datetime(2286, 1, 1, tzinfo=UTC)
"""Times are counted backwards from here."""

_MILLISECOND = timedelta(milliseconds=1)


class LatestFirst[E: Record]:
    """One list.

    Args:
        table: that it stands in.
        kind: of its rows.
        partition: its name, which nothing else in the table has.
        place: gives the time of an entry, and its id.
        revision: gives the revision of the record that an entry was made from; 0 for a new one.
    """

    def __init__(
        self,
        table: Table,
        kind: type[E],
        *,
        partition: str,
        place: Callable[[E], tuple[datetime, str]],
        revision: Callable[[E], int],
    ) -> None:
        self._table, self._partition, self._place, self._revision = table, partition, place, revision
        self._rows = Rows(table, kind, key=self._key)

    async def note(self, entry: E) -> None:
        """Have the list say what an entry says, if it does not say so, or something later, already."""
        written = await self._rows.try_insert(entry) if self._revision(entry) == 0 else None
        while written is None:
            known = await self._rows.get(*self._key(entry))
            if known is None:
                written = await self._rows.try_insert(entry)
            elif self._revision(known.record) >= self._revision(entry):
                return
            else:
                written = await self._rows.try_replace(known, entry)

    async def has(self, entry: E) -> bool:
        """Tell whether an entry is in the list."""
        return await self.find(*self._place(entry)) is not None

    async def find(self, at: datetime, name: str) -> E | None:
        """Find an entry by its time and its id."""
        known = await self._rows.get(self._partition, _row(at, name))
        return known.record if known else None

    async def remove(self, entry: E) -> None:
        """Take an entry out."""
        await self._table.delete(*self._key(entry))

    async def page(
        self,
        columns: Mapping[str, str | None],
        *,
        since: datetime | None,
        until: datetime | None = None,
        size: int,
        continuation: str | None,
    ) -> tuple[Sequence[E], str | None]:
        """List one page, and give the continuation of the next.

        Args:
            columns: what entries must have, by column; ``None`` for whatever they have.
            since: the earliest time.
            until: the latest time.
            size: entries at most.
            continuation: of the page before.
        """
        terms, parameters = ["PartitionKey eq @partition"], {"partition": self._partition}
        for name, value in columns.items():
            if value is not None:
                terms.append(f"{name} eq @{name}")
                parameters[name] = value
        if since is not None:
            terms.append("RowKey lt @since")
            parameters["since"] = f"{_backwards(since) + 1:013d}"
        if until is not None:
            terms.append("RowKey ge @until")
            parameters["until"] = f"{_backwards(until):013d}"
        return await self._rows.page(" and ".join(terms), parameters, size=size, continuation=continuation)

    async def where(self, condition: str, parameters: Mapping[str, Any]) -> AsyncIterator[E]:
        """List the entries that fulfil a condition."""
        within = {"partition": self._partition, **parameters}
        async for entry in self._rows.list(f"PartitionKey eq @partition and {condition}", within):
            yield entry

    async def older(self, at: datetime, condition: str, parameters: Mapping[str, Any]) -> AsyncIterator[E]:
        """List the entries from before some time that fulfil a condition; no others are read."""
        async for entry in self.where(
            f"RowKey gt @older and {condition}", {"older": f"{_backwards(at):013d}", **parameters}
        ):
            yield entry

    async def replace(self, entry: E, changed: E) -> None:
        """Replace an entry, unless it is another one by now."""
        known = await self._rows.get(*self._key(entry))
        if known is not None and known.record == entry:
            _ = await self._rows.try_replace(known, changed)  # it is another by now

    def _key(self, entry: E) -> tuple[str, str]:
        return self._partition, _row(*self._place(entry))


def _row(at: datetime, name: str) -> str:
    return f"{_backwards(at):013d}|{name}"


def _backwards(at: datetime) -> int:
    return (_LAST - at) // _MILLISECOND
