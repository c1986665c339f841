"""Enrollment groups: which issuing CA signs for which group. DPS itself holds the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.groups import GroupRecord
from shared.ledger.table import Versioned, keyed, versioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.ports.rows import Table

_PARTITION = "group"  # DPS takes 100


class Groups:
    """The groups' table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def get(self, group_id: str) -> Versioned[GroupRecord] | None:
        """Find a group by its id."""
        row = await self._table.get(_PARTITION, group_id)
        return Versioned(GroupRecord.from_columns(row.values), row.etag) if row else None

    async def insert(self, record: GroupRecord) -> Versioned[GroupRecord] | None:
        """Record a group; ``None`` if it is known."""
        return versioned(record, await self._table.insert(keyed(_PARTITION, record.enrollment_group, record)))

    async def replace(self, known: Versioned[GroupRecord], record: GroupRecord) -> Versioned[GroupRecord] | None:
        """Replace a row as it was read; ``None`` if it has changed since."""
        return versioned(
            record, await self._table.replace(keyed(_PARTITION, record.enrollment_group, record), known.etag)
        )

    async def list(self) -> AsyncIterator[GroupRecord]:
        """List all groups by id."""
        async for row in self._table.query("PartitionKey eq @partition", {"partition": _PARTITION}):
            yield GroupRecord.from_columns(row.values)
