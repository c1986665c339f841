"""Records of one kind in a table: found by their key, and replaced only as they were read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.ledger.table import TEXT_LIMIT, Stale, Versioned, keyed, versioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from shared.domain.record import Record
    from shared.ports.rows import Table

type Key = tuple[str, str]
"""Partition and row."""

_PART = "_part"


class Rows[R: Record]:
    """The rows of one kind of record. A text that is longer than a column takes stands in several."""

    def __init__(self, table: Table, kind: type[R], *, key: Callable[[R], Key]) -> None:
        self._table, self._kind, self._key = table, kind, key

    async def get(self, partition: str, row: str) -> Versioned[R] | None:
        """Find a record."""
        found = await self._table.get(partition, row)
        return Versioned(self._read(found.values), found.etag) if found else None

    async def insert(self, record: R) -> Versioned[R]:
        """Record what is not known.

        Raises:
            Stale: it is known.
        """
        return _won(await self.try_insert(record), record)

    async def try_insert(self, record: R) -> Versioned[R] | None:
        """Record what is not known; ``None`` if it is, where what is known then counts."""
        return versioned(record, await self._table.insert(self.row(record)))

    async def replace(self, known: Versioned[R], record: R) -> Versioned[R]:
        """Replace a record as it was read.

        Raises:
            Stale: it has changed since.
        """
        return _won(await self.try_replace(known, record), record)

    async def try_replace(self, known: Versioned[R], record: R) -> Versioned[R] | None:
        """Replace a record as it was read; ``None`` if it has changed since, where what others made of it counts."""
        return versioned(record, await self._table.replace(self.row(record), known.etag))

    async def put(self, record: R) -> None:
        """Write a record, whatever was there: for what every writer writes alike, and nobody reads to change it."""
        await self._table.put(self.row(record))

    async def list(self, condition: str, parameters: Mapping[str, Any]) -> AsyncIterator[R]:
        """List records in the order of their keys."""
        async for row in self._table.query(condition, parameters):
            yield self._read(row.values)

    async def page(
        self, condition: str, parameters: Mapping[str, Any], *, size: int, continuation: str | None
    ) -> tuple[Sequence[R], str | None]:
        """List one page, and the continuation of the next."""
        rows, following = await self._table.page(condition, parameters, size=size, continuation=continuation)
        return [self._read(row.values) for row in rows], following

    def row(self, record: R) -> dict[str, Any]:
        """Give the row of a record, for a write with others."""
        return _in_parts(keyed(*self._key(record), record))

    def _read(self, columns: Mapping[str, Any]) -> R:
        return self._kind.from_columns(_whole(columns))


def _won[R: Record](written: Versioned[R] | None, record: R) -> Versioned[R]:
    if written is None:
        raise Stale(f"a {type(record).__name__} has changed since it was read")
    return written


def _in_parts(row: dict[str, Any]) -> dict[str, Any]:
    """Divide the texts that are longer than a column takes."""
    long = [name for name, value in row.items() if isinstance(value, str) and len(value) > TEXT_LIMIT]
    for name in long:
        text = row[name]
        row[name] = text[:TEXT_LIMIT]
        for part, start in enumerate(range(TEXT_LIMIT, len(text), TEXT_LIMIT), start=1):
            row[f"{name}{_PART}{part:02}"] = text[start : start + TEXT_LIMIT]
    return row


def _whole(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """Join the texts that were divided."""
    parts = sorted(name for name in columns if _PART in name)
    if not parts:
        return columns
    whole = {name: value for name, value in columns.items() if _PART not in name}
    for name in parts:
        whole[name.partition(_PART)[0]] += columns[name]
    return whole
