"""Writes an archive into an account whose tables are empty, and goes on with that where it was broken off.

Before the first row stands a row that says that the ledger is not whole. It goes when all tables were read again, and
have what the archive has. While it is there the app signs nothing and answers nothing from the ledger.

Rows are created and never replaced. So a run that was overtaken by another can't undo what came after it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_hex
from typing import TYPE_CHECKING

from shared.backup.contents import Manifest, StoredBlob, StoredRow, line_of
from shared.backup.reading import TABLES_IN_ORDER, rows_of, unsealed, verified
from shared.backup.sealing import ArchiveError
from shared.domain.restores import HELD_FOR, RestoreRecord
from shared.ports.rows import Insert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from shared.backup.sealing import Opener
    from shared.ledger.epochs import EpochRows
    from shared.ledger.table import Versioned
    from shared.ports.blobs import Blobs
    from shared.ports.rows import Table
    from shared.workflows.intake.outbox import Clock

_AT_ONCE, _ROWS, _BYTES = 32, 100, 3_000_000
_SIGN_EVERY = HELD_FOR / 3
_BEGIN_ANEW = "stop the apps, empty all tables, and restore again (docs/recover.md)"


@dataclass(slots=True, kw_only=True)
class Restore:
    """One run of a restore.

    Attributes:
        holder: its name.
    """

    table: Callable[[str], Table]
    blobs: Blobs
    rows: EpochRows
    clock: Clock
    holder: str = field(default_factory=lambda: token_hex(8))
    _held: Versioned[RestoreRecord] | None = None

    async def run(self, path: Path, opener: Opener) -> Manifest:
        """Write an archive. A blob that is there stays: it is a later one.

        Raises:
            ArchiveError: the archive is not whole, a table is not empty, or another archive is half restored. Then
                nothing was written. Or others wrote into the tables meanwhile: then the ledger stays not whole.
        """
        manifest = await asyncio.to_thread(verified, path, opener)  # connections that idle meanwhile are closed
        unknown = [name for name in manifest.parts if not name.endswith("/") and name not in TABLES_IN_ORDER]
        if unknown:
            raise ArchiveError(f"the archive has tables that this version of the app does not have: {unknown}")
        await self._begin(path, manifest)
        try:
            await self._write_all(path, opener)
            await self._compare(manifest)
        except (Exception, asyncio.CancelledError):
            await self._let_go()
            raise
        if not await self.rows.try_end(await self._signed()):
            raise _overtaken()
        return manifest

    # --- whose turn it is ---

    async def _begin(self, path: Path, manifest: Manifest) -> None:
        """Say that the ledger is not whole, before anything else is written."""
        known, now = await self.rows.restore(), self.clock()
        record = RestoreRecord(
            archive=sha256(manifest.line()).hexdigest(),
            file=path.name,
            epoch=manifest.epoch,
            read_from=manifest.begun_at,
            begun_at=known.record.begun_at if known else now,
            holder=self.holder,
            seen_at=now,
        )
        refusal = await self._refusal(known, record)
        if refusal is not None:
            raise ArchiveError(refusal)
        self._held = await self.rows.try_hold(known, record) or await self._mine()
        if self._held is None:
            present = await self.rows.restore()
            raise ArchiveError(_under_way(present.record)) if present else _overtaken()

    async def _refusal(self, known: Versioned[RestoreRecord] | None, wanted: RestoreRecord) -> str | None:
        """Tell why nothing may be written now, and what to do."""
        if known is None:
            name = await self._occupied()
            known = await self.rows.restore() if name else None  # others may have begun while the tables were looked at
            if name and known is None:
                return f"the table {name!r} is not empty; an archive is written into empty tables alone"
        if known is not None and known.record.archive != wanted.archive:
            return (
                f"a restore of another archive, {known.record.shown}, was begun and is not whole. Restore that one "
                f"again; or {_BEGIN_ANEW}"
            )
        return _under_way(known.record) if known and known.record.free_at > wanted.seen_at else None

    async def _occupied(self) -> str | None:
        """Name a table that is not empty."""
        for name in TABLES_IN_ORDER:
            async for _ in self.table(name).query("", {}, select=["PartitionKey"]):
                return name
        return None

    async def _mine(self) -> Versioned[RestoreRecord] | None:
        """Read the row anew; ``None`` if it is another's. What was written may look as if others had been quicker."""
        known = await self.rows.restore()
        return known if known is not None and known.record.holder == self.holder else None

    async def _signed(self) -> Versioned[RestoreRecord]:
        """Give the row, with a sign of life if the last one is some time ago.

        Raises:
            ArchiveError: others go on with the restore.
        """
        held, now = self._held, self.clock()
        if held is None:
            raise _overtaken()
        if now - held.record.seen_at >= _SIGN_EVERY:
            held = await self.rows.try_hold(held, held.record.changed(seen_at=now)) or await self._mine()
            if held is None:
                raise _overtaken()
            self._held = held
        return held

    async def _let_go(self) -> None:
        """Have the next run go on at once: this one has failed, and gives no further sign of life."""
        held = self._held
        if held is not None:
            with suppress(Exception):
                # What it failed of is told. Without this, or if others have the row, the next run waits for a minute.
                _ = await self.rows.try_hold(held, held.record.changed(seen_at=self.clock() - HELD_FOR))

    # --- what is written ---

    async def _write_all(self, path: Path, opener: Opener) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for together in _together(unsealed(path, opener)):
                    await self._signed()
                    await gate.acquire()
                    group.create_task(self._write(together)).add_done_callback(lambda _: gate.release())
        except ExceptionGroup as several:  # one is enough to tell why
            raise several.exceptions[0] from several

    async def _write(self, together: Sequence[StoredRow] | StoredBlob) -> None:
        if isinstance(together, StoredBlob):
            metadata, kind = together.metadata, "application/octet-stream"
            # What is there is from a run before, or newer than the archive, as a list may be: it stays.
            _ = await self.blobs.create(
                together.container, together.name, together.content, content_type=kind, metadata=metadata
            )
            return
        table = self.table(together[0].table)
        if await table.write_together([Insert(each.values) for each in together]) is not None:
            return
        there = await self._there(table, together)
        missing = [Insert(each.values) for each in together if each.values["RowKey"] not in there]
        if missing and await table.write_together(missing) is None:
            raise ArchiveError(f"others write into the table {together[0].table!r} as well: {_BEGIN_ANEW}")

    async def _there(self, table: Table, rows: Sequence[StoredRow]) -> set[str]:
        """Tell which rows of a partition are there: a run before has written them."""
        names = sorted(each.values["RowKey"] for each in rows)
        condition = "PartitionKey eq @partition and RowKey ge @first and RowKey le @last"
        bounds = {"partition": rows[0].values["PartitionKey"], "first": names[0], "last": names[-1]}
        return {str(row.values["RowKey"]) async for row in table.query(condition, bounds, select=["RowKey"])}

    async def _compare(self, manifest: Manifest) -> None:
        """See that the tables have what the archive has, and nothing else.

        Raises:
            ArchiveError: they do not.
        """
        found = Manifest(manifest.epoch, manifest.begun_at)
        for name in TABLES_IN_ORDER:
            async for row in rows_of(self.table, name):
                found.add(*line_of(row))
                await self._signed()
        for name in TABLES_IN_ORDER:
            there, wanted = found.part(name), manifest.part(name)
            if there != wanted:
                counts = f"{there['count']} rows, of {wanted['count']}"
                raise ArchiveError(
                    f"the table {name!r} does not have what the archive has: {counts}. "
                    f"Others have written into it, so the ledger stays not whole: {_BEGIN_ANEW}"
                )


def _under_way(record: RestoreRecord) -> str:
    return (
        f"another restore of the archive {record.shown} is under way: its last sign of life was at "
        f"{record.seen_at:%H:%M:%S} UTC. If it was broken off, run this again after {record.free_at:%H:%M:%S} UTC: it "
        "goes on then"
    )


def _overtaken() -> ArchiveError:
    return ArchiveError("another restore has taken over, and this one has ended: see to the other one")


def _together(found: Iterator[StoredRow | StoredBlob]) -> Iterator[Sequence[StoredRow] | StoredBlob]:
    """Put rows of one partition together that fit into one transaction (100 rows, 4 MiB)."""
    rows, size = list[StoredRow](), 0
    for each in found:
        if isinstance(each, StoredBlob):
            yield each
            continue
        length = sum(len(str(value)) for value in each.values.values()) * 2
        place = (each.table, each.values["PartitionKey"])
        full = len(rows) == _ROWS or size + length > _BYTES
        if rows and (full or (rows[0].table, rows[0].values["PartitionKey"]) != place):
            yield rows
            rows, size = [], 0
        rows.append(each)
        size += length
    if rows:
        yield rows
