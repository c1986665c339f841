"""The newest checkpoint of the log: one row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.checkpoints import CheckpointRecord
from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from shared.ledger.table import Versioned
    from shared.ports.rows import Table

_PARTITION, _ROW = "log", "newest"


class Checkpoints:
    """The table of checkpoints."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, CheckpointRecord, key=lambda _: (_PARTITION, _ROW))

    async def newest(self) -> Versioned[CheckpointRecord] | None:
        """Read the newest one, ``None`` before the first."""
        return await self._rows.get(_PARTITION, _ROW)

    async def put(
        self, known: Versioned[CheckpointRecord] | None, record: CheckpointRecord
    ) -> Versioned[CheckpointRecord] | None:
        """Put one in the place of the one that was read; ``None`` if others have."""
        if known is None:
            return await self._rows.try_insert(record)
        return await self._rows.try_replace(known, record)
