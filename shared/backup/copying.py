"""Reads the ledger into an archive while the app runs, and writes an archive into an account that is empty.

What refers to others is read before what it refers to, and indexes come last, since the app writes them first. So a
copy has everything that it speaks of, and what it lacks was done after the copy was begun. The epoch is noted before
anything is read, and raised at once: so every ledger that is made of an archive is an older one, and is noticed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.backup.contents import Manifest, StoredBlob, StoredRow, contents, line_of
from shared.backup.sealing import ArchiveError, Sealer, opened
from shared.ports.rows import Insert
from shared.storage_layout import TABLES
from shared.workflows.devices.bundles import BUNDLES, Bundle
from shared.workflows.evidence.storage import LOG, LOG_HEAD
from shared.workflows.status.revocation_lists import CRLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any, BinaryIO

    from shared.backup.sealing import Lock, Opener
    from shared.ports.blobs import Blobs
    from shared.ports.rows import Table
    from shared.workflows.epochs import Epochs
    from shared.workflows.intake.outbox import Clock

REFERRING_FIRST = ("identities", "orderlines", "orders", "groups", "requests", "actrequests", "rejections", "issuers")
"""Devices name their orders and groups, groups their CAs. The other tables are indexes, and what stands for itself."""

CONTAINERS = (LOG_HEAD, LOG, CRLS, BUNDLES)
"""The head of the log before its tiles, which are never ahead of it."""

_log = logging.getLogger(__name__)
_EPOCH = ("epoch", "ledger")
_AT_ONCE, _ROWS, _BYTES = 32, 100, 3_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """The tables and containers of the ledger's account."""

    table: Callable[[str], Table]
    blobs: Blobs
    epochs: Epochs
    clock: Clock

    async def export(self, path: Path, lock: Lock) -> Manifest:
        """Write an archive.

        Raises:
            ArchiveError: the file exists.
            LedgerBehind: the ledger is an older one: what it has forgotten is to be taken back first.
        """
        await self.epochs.check_now()
        if await self.epochs.rows.get() is None:
            await self.epochs.advance()
        epoch = await self.epochs.rows.get()
        if epoch is None:
            raise ArchiveError("the ledger has no epoch, and no vault was named to keep it in")
        manifest = Manifest(epoch.record.number, self.clock().isoformat(timespec="seconds"))
        row = await self.table("issuers").get(*_EPOCH)
        await self.epochs.advance()
        with _written_whole(path) as file:
            sealer = Sealer(file, lock)
            async for each in self._read(row.values if row else {}):
                name, line = line_of(each)
                manifest.add(name, line)
                sealer.write(line)
            sealer.write(manifest.line())
            sealer.close()
        return manifest

    async def _read(self, epoch: Mapping[str, Any]) -> AsyncIterator[StoredRow | StoredBlob]:
        for name in (*REFERRING_FIRST, *(each for each in TABLES if each not in REFERRING_FIRST)):
            async for row in self.table(name).query("", {}):
                is_epoch = (row.values["PartitionKey"], row.values["RowKey"]) == _EPOCH
                yield StoredRow(name, dict(epoch if is_epoch else row.values))
        for container in CONTAINERS:
            for name in await self.blobs.names(container, ""):
                stored = await self.blobs.get(container, name)
                if stored is None:
                    continue  # it was deleted meanwhile
                content = stored.content
                if container == BUNDLES:
                    bundle = Bundle.found(content)
                    if bundle is None:
                        _log.warning("the blob %r in %r is not a bundle; the archive does not have it", name, container)
                        continue
                    content = bundle.without_key().to_bytes()  # a key that the app deletes must not live on in a copy
                yield StoredBlob(container, name, content, stored.metadata)

    async def restore(self, path: Path, opener: Opener) -> Manifest:
        """Write an archive into tables that are empty. A blob that is there stays: it is a later one.

        Raises:
            ArchiveError: the archive is not whole, or a table is not empty. Then nothing was written.
        """
        manifest = await asyncio.to_thread(verified, path, opener)  # connections that idle meanwhile are closed
        for name in TABLES:
            async for _ in self.table(name).query("", {}, select=["PartitionKey"]):
                raise ArchiveError(f"the table {name!r} is not empty; an archive is written into empty tables alone")
        gate = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for together in _together(_unsealed(path, opener)):
                await gate.acquire()
                group.create_task(self._write(together)).add_done_callback(lambda _: gate.release())
        return manifest

    async def _write(self, together: Sequence[StoredRow] | StoredBlob) -> None:
        if isinstance(together, StoredBlob):
            metadata, kind = together.metadata, "application/octet-stream"
            await self.blobs.create(
                together.container, together.name, together.content, content_type=kind, metadata=metadata
            )
            return
        table = together[0].table
        if await self.table(table).write_together([Insert(each.values) for each in together]) is None:
            raise ArchiveError(f"somebody else writes into the table {table!r}: stop the apps, and begin again")


@contextmanager
def _written_whole(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write, that has its name when it is whole; only its owner can read it.

    Raises:
        ArchiveError: there is one of that name.
    """
    if path.exists():
        raise ArchiveError(f"{path} exists; an archive is not overwritten")
    part = path.with_name(f"{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def verified(path: Path, opener: Opener) -> Manifest:
    """Read a whole archive, and give its manifest.

    Raises:
        ArchiveError: it is not what was written.
    """
    manifest: Manifest | None = None
    with path.open("rb") as file:
        for each in contents(opened(file, opener)):
            manifest = each if isinstance(each, Manifest) else None
    if manifest is None:
        raise ArchiveError("the archive is empty")
    return manifest


def _unsealed(path: Path, opener: Opener) -> Iterator[StoredRow | StoredBlob]:
    with path.open("rb") as file:
        for each in contents(opened(file, opener)):
            if not isinstance(each, Manifest):
                yield each


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
