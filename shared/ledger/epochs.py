"""The ledger's epoch, and what was begun and has not ended: rows beside the CAs, which the public zone can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.epochs import EpochRecord
from shared.domain.restores import RestorationRecord, RestoreRecord
from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from shared.ledger.rows import Key
    from shared.ledger.table import Versioned
    from shared.ports.rows import Table

EPOCH: Key = ("epoch", "ledger")
RESTORE: Key = ("epoch", "restore")
RESTORATION: Key = ("epoch", "restoration")


class EpochRows:
    """The rows of the epoch, of a restore and of a restoration, in the CAs' table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows = Rows(table, EpochRecord, key=lambda _: EPOCH)
        self._restores = Rows(table, RestoreRecord, key=lambda _: RESTORE)
        self._restorations = Rows(table, RestorationRecord, key=lambda _: RESTORATION)

    async def get(self) -> Versioned[EpochRecord] | None:
        """Read it; ``None`` in a ledger that is new."""
        return await self._rows.get(*EPOCH)

    async def try_put(self, known: Versioned[EpochRecord] | None, record: EpochRecord) -> bool:
        """Write it, if the row is as it was read; ``known`` is ``None`` for the first one."""
        written = await (self._rows.try_replace(known, record) if known else self._rows.try_insert(record))
        return written is not None

    async def restore(self) -> Versioned[RestoreRecord] | None:
        """Read the row of a restore that is not whole; ``None`` if there is none."""
        return await self._restores.get(*RESTORE)

    async def try_hold(
        self, known: Versioned[RestoreRecord] | None, record: RestoreRecord
    ) -> Versioned[RestoreRecord] | None:
        """Begin a restore, go on with it, or give a sign of life; ``None`` if others were quicker."""
        return await (self._restores.try_replace(known, record) if known else self._restores.try_insert(record))

    async def try_end(self, known: Versioned[RestoreRecord]) -> bool:
        """Say that the ledger is whole, if nobody else goes on with the restore."""
        return await self._table.delete_unchanged(*RESTORE, known.etag)

    async def restoration(self) -> Versioned[RestorationRecord] | None:
        """Read the row of a restoration that has not ended; ``None`` if there is none."""
        return await self._restorations.get(*RESTORATION)

    async def try_put_restoration(self, known: Versioned[RestorationRecord] | None, record: RestorationRecord) -> bool:
        """Write it, if the row is as it was read; ``known`` is ``None`` for one that begins."""
        written = await (
            self._restorations.try_replace(known, record) if known else self._restorations.try_insert(record)
        )
        return written is not None

    async def end_restoration(self, known: Versioned[RestorationRecord]) -> None:
        """Say that one has ended, unless its row has changed since it was read."""
        # One that has changed is carried on by another run, which ends it.
        _ = await self._table.delete_unchanged(*RESTORATION, known.etag)
