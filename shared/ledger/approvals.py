"""Approvals, found by their id, and listed with the latest first. None is ever deleted.

The list is a copy of the rows. One that could not be brought up to date any more says that its approval is open, or
that its end is not told, and is found by the sweep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.approvals import ApprovalRecord, ApprovalState
from shared.ledger.latest_first import LatestFirst
from shared.ledger.rows import Rows
from shared.ledger.table import spread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from shared.ledger.table import Versioned
    from shared.ports.rows import Table

_LOG = "log"
"""Partition of the list; those of approvals have two characters."""


class ApprovalRows:
    """The approvals' table."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, ApprovalRecord, key=lambda each: _place(each.approval_id))
        self._log = LatestFirst(
            table,
            ApprovalRecord,
            partition=_LOG,
            place=lambda each: (each.asked_at, each.approval_id),
            revision=lambda each: each.revision,
        )

    async def get(self, approval_id: str) -> Versioned[ApprovalRecord] | None:
        """Find one."""
        return await self._rows.get(*_place(approval_id))

    async def ask(self, record: ApprovalRecord) -> Versioned[ApprovalRecord]:
        """Record a new one, or find the one that is there."""
        while True:
            known = await self.get(record.approval_id) or await self._rows.try_insert(record)
            if known is not None:
                return known

    async def try_replace(
        self, known: Versioned[ApprovalRecord], record: ApprovalRecord
    ) -> Versioned[ApprovalRecord] | None:
        """Replace one as it was read; ``None`` if it has changed since, where what others made of it counts."""
        return await self._rows.try_replace(known, record)

    async def note(self, record: ApprovalRecord) -> None:
        """Have the list say what one says, if it does not yet."""
        await self._log.note(record)

    async def page(
        self, columns: Mapping[str, str | None], *, size: int, continuation: str | None
    ) -> tuple[Sequence[ApprovalRecord], str | None]:
        """List one page of those that have certain values, by column, the latest first."""
        return await self._log.page(columns, since=None, size=size, continuation=continuation)

    async def unsettled(self) -> AsyncIterator[ApprovalRecord]:
        """List those that the list says are open, and those whose end it says is not told."""
        async for record in self._log.where("state eq @open", {"open": ApprovalState.OPEN.value}):
            yield record
        async for record in self._log.where("endTold eq @told", {"told": False}):
            yield record


def _place(approval_id: str) -> tuple[str, str]:
    return spread(approval_id), approval_id
