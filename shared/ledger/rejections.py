"""What was refused or set aside, whole, so that it can be mended and replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.rejections import RejectionRecord, RejectionState
from shared.ledger.table import Versioned, keyed, versioned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.ports.rows import Table


class Rejections:
    """The rejections' table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def insert(self, record: RejectionRecord) -> Versioned[RejectionRecord] | None:
        """Record a refused message; ``None`` if it is recorded already."""
        return versioned(
            record, await self._table.insert(keyed(_day(record.rejection_id), record.rejection_id, record))
        )

    async def get(self, identifier: str) -> Versioned[RejectionRecord] | None:
        """Find a refused message."""
        row = await self._table.get(_day(identifier), identifier)
        return Versioned(RejectionRecord.from_columns(row.values), row.etag) if row else None

    async def replace(
        self, known: Versioned[RejectionRecord], record: RejectionRecord
    ) -> Versioned[RejectionRecord] | None:
        """Replace a row as it was read; ``None`` if it has changed since."""
        return versioned(
            record, await self._table.replace(keyed(_day(record.rejection_id), record.rejection_id, record), known.etag)
        )

    async def page(
        self, *, replayed: bool | None, size: int, continuation: str | None
    ) -> tuple[Sequence[RejectionRecord], str | None]:
        """List one page of those that were replayed, or were not, or of all (``None``), and the next continuation.

        The oldest day comes first.
        """
        condition = "" if replayed is None else "state eq @state" if replayed else "state ne @state"
        parameters = {"state": RejectionState.REPLAYED.value} if condition else {}
        rows, following = await self._table.page(condition, parameters, size=size, continuation=continuation)
        return [RejectionRecord.from_columns(row.values) for row in rows], following


def _day(identifier: str) -> str:
    return identifier[: len("2026-01-31")]
