"""What workers have in hand: a row for each worker, and one for each of its messages."""

from __future__ import annotations

from itertools import batched
from typing import TYPE_CHECKING

from shared.domain.in_hand import HeldMessage, WorkerRecord
from shared.ledger.rows import Rows
from shared.ledger.table import TRANSACTION_LIMIT
from shared.ports.rows import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from shared.ports.rows import Step, Table

_WORKERS = "!workers"


class InHandRows:
    """The table of what is in hand."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._workers = Rows(table, WorkerRecord, key=lambda each: (_WORKERS, each.worker))
        self._messages = Rows(table, HeldMessage, key=lambda each: (each.worker, each.message_id))

    async def see(self, record: WorkerRecord) -> None:
        """Enter that a worker is at work."""
        await self._table.put(self._workers.row(record))

    async def leave(self, worker: str) -> None:
        """Delete the row of a worker that has nothing in hand."""
        await self._table.delete(_WORKERS, worker)

    async def workers(self) -> list[WorkerRecord]:
        """List the workers that have something in hand, or had when they were killed."""
        found = self._workers.list("PartitionKey eq @partition", {"partition": _WORKERS})
        return [each async for each in found]

    async def change(self, worker: str, taken: Sequence[HeldMessage], done: Collection[str]) -> None:
        """Enter what a worker has taken, and what it is done with: one write for a hundred."""
        steps: list[Step] = [Put(self._messages.row(each)) for each in taken]
        for some in batched(steps, TRANSACTION_LIMIT, strict=False):
            _ = await self._table.write_together(list(some))  # a put meets no state that could refuse it
        for ids in batched(done, TRANSACTION_LIMIT, strict=False):
            deletes = [Delete({"PartitionKey": worker, "RowKey": each}) for each in ids]
            if await self._table.write_together(deletes) is None:  # somebody has taken them for left behind
                for each in ids:
                    await self._table.delete(worker, each)

    async def of(self, worker: str) -> list[HeldMessage]:
        """List what a worker has in hand."""
        found = self._messages.list("PartitionKey eq @partition", {"partition": worker})
        return [each async for each in found]
