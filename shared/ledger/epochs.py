"""The ledger's epoch: one row, beside the CAs, where the public zone can read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.epochs import EpochRecord
from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from shared.ledger.table import Versioned
    from shared.ports.rows import Table

_PARTITION, _ROW = "epoch", "ledger"


class EpochRows:
    """The row of the epoch, in the CAs' table."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, EpochRecord, key=lambda _: (_PARTITION, _ROW))

    async def get(self) -> Versioned[EpochRecord] | None:
        """Read it; ``None`` in a ledger that is new."""
        return await self._rows.get(_PARTITION, _ROW)

    async def try_put(self, known: Versioned[EpochRecord] | None, record: EpochRecord) -> bool:
        """Write it, if the row is as it was read; ``known`` is ``None`` for the first one."""
        written = await (self._rows.try_replace(known, record) if known else self._rows.try_insert(record))
        return written is not None
