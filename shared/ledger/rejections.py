"""What was refused or set aside, whole, so that it can be mended and replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.rejections import RejectionRecord, RejectionState
from shared.ledger.rows import Rows
from shared.telemetry.metrics import QUEUE, REJECTIONS, WHAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.ledger.table import Versioned
    from shared.ports.rows import Table


class Rejections:
    """The rejections' table."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, RejectionRecord, key=lambda each: (_day(each.rejection_id), each.rejection_id))

    async def try_insert(self, record: RejectionRecord) -> Versioned[RejectionRecord] | None:
        """Record a refused message; ``None`` if it is recorded already, which is as good."""
        recorded = await self._rows.try_insert(record)
        if recorded is not None:
            REJECTIONS.record(1, {QUEUE: record.queue, WHAT: record.kind.value})
        return recorded

    async def get(self, identifier: str) -> Versioned[RejectionRecord] | None:
        """Find a refused message."""
        return await self._rows.get(_day(identifier), identifier)

    async def try_replace(
        self, known: Versioned[RejectionRecord], record: RejectionRecord
    ) -> Versioned[RejectionRecord] | None:
        """Replace a row as it was read; ``None`` if somebody else replays the message."""
        return await self._rows.try_replace(known, record)

    async def page(
        self, *, replayed: bool | None, size: int, continuation: str | None
    ) -> tuple[Sequence[RejectionRecord], str | None]:
        """List one page of those that were replayed, or were not, or of all (``None``), and the next continuation.

        The oldest day comes first.
        """
        condition = "" if replayed is None else "state eq @state" if replayed else "state ne @state"
        parameters = {"state": RejectionState.REPLAYED.value} if condition else {}
        return await self._rows.page(condition, parameters, size=size, continuation=continuation)


def _day(identifier: str) -> str:
    return identifier[: len("2026-01-31")]
