"""The expiry index: what is to be done on which day.

A row stands in the partition of the day on which something is due, and is deleted when that was done. So a sweep reads
what is due and not yet done, whenever it runs and however often it was missed, and never the fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.expiry import DueNotice
from shared.ledger.table import keyed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import date

    from shared.ports.rows import Table


class ExpiryIndex:
    """The expiry table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def put(self, notice: DueNotice) -> None:
        """Schedule a notice."""
        await self._table.put(keyed(notice.due, notice.key, notice))

    async def done(self, notice: DueNotice) -> None:
        """Delete a notice that was given."""
        await self._table.delete(notice.due, notice.key)

    async def due(self, day: date) -> AsyncIterator[DueNotice]:
        """List all notices due on a day or before it and not given yet, oldest first."""
        async for row in self._table.query("PartitionKey le @day", {"day": day.isoformat()}):
            yield DueNotice.from_columns(row.values)
