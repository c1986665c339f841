"""What the ledger needs of a table, and how its records become rows."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from shared.domain.record import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from shared.ports.rows import Step


TRANSACTION_LIMIT = 100
"""Rows of one partition that one transaction may write (Azure Tables: entity group transactions)."""


TEXT_LIMIT = 32_768
"""Characters of one column's text (Azure Tables: a string is at most 64 KiB in UTF-16)."""

TRANSACTION_BYTES = 4 * 1024 * 1024
"""Bytes of what one transaction sends (Azure Tables: entity group transactions)."""


class Row(Protocol):
    """A row as read, with the ETag that guards its replacement."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Its columns."""
        ...

    @property
    def etag(self) -> str:
        """Its version."""
        ...


class Table(Protocol):
    """A table, as :mod:`shared.adapters.storage` gives it."""

    async def get(self, partition: str, row: str) -> Row | None:
        """Read one row, ``None`` if it does not exist."""
        ...

    async def insert(self, values: Mapping[str, Any]) -> str | None:
        """Create a row and give its ETag; ``None`` if it exists."""
        ...

    async def insert_together(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Create rows of one partition, all or none; ``False`` if one exists."""
        ...

    async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
        """Replace a row as it was read and give its new ETag; ``None`` if it has changed or gone since."""
        ...

    async def put(self, values: Mapping[str, Any]) -> None:
        """Create or replace a row."""
        ...

    async def write_together(self, steps: Sequence[Step]) -> Sequence[str] | None:
        """Write rows of one partition, all or none, and give their ETags; ``None`` if a step met another state."""
        ...

    async def delete(self, partition: str, row: str) -> None:
        """Delete a row, if it exists."""
        ...

    async def delete_unchanged(self, partition: str, row: str, etag: str) -> bool:
        """Delete a row as it was read; ``False`` if it has changed since. One that is gone is deleted."""
        ...

    def query(
        self, condition: str, parameters: Mapping[str, Any], *, select: Iterable[str] | None = None
    ) -> AsyncIterator[Row]:
        """List rows in the order of their keys."""
        ...

    async def page(
        self, condition: str, parameters: Mapping[str, Any], *, size: int, continuation: str | None
    ) -> tuple[Sequence[Row], str | None]:
        """List one page, and the continuation of the next."""
        ...


class Stale(Exception):
    """A row has changed since it was read."""


@dataclass(frozen=True, slots=True)
class Versioned[R: Record]:
    """A record as read, with the ETag that guards its replacement."""

    record: R
    etag: str


def versioned[R: Record](record: R, etag: str | None) -> Versioned[R] | None:
    """Give what a write made of a record; ``None`` when it did not take place."""
    return None if etag is None else Versioned(record, etag)


def keyed(partition: str, row: str, record: Record) -> dict[str, Any]:
    """Give a record as a row."""
    return {"PartitionKey": partition, "RowKey": row, **record.columns()}


def spread(key: str) -> str:
    """Give the partition of a key: one of 256, by hash, so that none is hot."""
    return sha256(key.encode()).hexdigest()[:2]
