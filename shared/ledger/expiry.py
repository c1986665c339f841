"""The expiry index: what is to be done on which day.

A row stands in the partition of the day on which something is due, and is deleted when that was done. So a sweep reads
what is due and not yet done, whenever it runs and however often it was missed, and never the fleet.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.ledger.table import Record, Table, keyed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Notice(StrEnum):
    """What is due."""

    EXPIRING = "expiring"
    EXPIRED = "expired"
    KEY_DELETION = "keyDeletion"


class DueNotice(Record):
    """One notice.

    Attributes:
        due: day on which it is to be given (UTC).
        not_after: when the certificate ends; of a key that was handed out, when it is deleted.
    """

    due: str
    notice: Notice
    serial_number: str
    subject: str
    not_after: datetime

    @classmethod
    def on(cls, day: date, notice: Notice, *, serial_number: str, subject: str, not_after: datetime) -> DueNotice:
        """Make a notice for a day."""
        return cls(
            due=day.isoformat(), notice=notice, serial_number=serial_number, subject=subject, not_after=not_after
        )

    @property
    def key(self) -> str:
        """Its row in the day's partition."""
        return f"{self.serial_number}:{self.notice}"


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
