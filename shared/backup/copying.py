"""Reads the ledger into an archive while the app runs, and writes an archive into an account that is empty.

What refers to others is read before what it refers to, and indexes come last, since the app writes them first. So a
copy has everything that it speaks of, and what it lacks was done after the copy was begun. The epoch is noted before
anything is read, and raised at once: so every ledger that is made of an archive is an older one, and is noticed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.backup.claiming import written_whole
from shared.backup.contents import Manifest, StoredBlob, StoredRow, line_of
from shared.backup.reading import TABLES_IN_ORDER, rows_of
from shared.backup.restoring import Restore
from shared.backup.sealing import ArchiveError, Sealer
from shared.ledger.epochs import EPOCH
from shared.workflows.devices.bundles import BUNDLES, Bundle
from shared.workflows.evidence.storage import LOG, LOG_HEAD
from shared.workflows.status.revocation_lists import CRLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path
    from typing import Any

    from shared.backup.sealing import Lock, Opener
    from shared.domain.epochs import EpochRecord
    from shared.ports.blobs import Blobs
    from shared.ports.rows import Table
    from shared.workflows.epochs import Epochs
    from shared.workflows.intake.outbox import Clock

CONTAINERS = (LOG_HEAD, LOG, CRLS, BUNDLES)
"""The head of the log before its tiles, which are never ahead of it."""

_log = logging.getLogger(__name__)


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
            ArchiveError: the file exists, or another export writes it. Then the epoch is not raised.
            LedgerBehind: the ledger is an older one: what it has forgotten is to be taken back first.
        """
        with written_whole(path) as file:
            epoch, row = await self._begun()
            manifest = Manifest(epoch.number, self.clock().isoformat(timespec="seconds"))
            sealer = Sealer(file, lock)
            async for each in self._read(row):
                name, line = line_of(each)
                manifest.add(name, line)
                sealer.write(line)
            sealer.write(manifest.line())
            sealer.close()
        return manifest

    async def _begun(self) -> tuple[EpochRecord, Mapping[str, Any]]:
        """Give the ledger's epoch, and its row, and raise it."""
        await self.epochs.check_now()
        if await self.epochs.rows.get() is None:
            await self.epochs.advance()
        epoch = await self.epochs.rows.get()
        if epoch is None:
            raise ArchiveError("the ledger has no epoch, and no vault was named to keep it in")
        row = await self.table("issuers").get(*EPOCH)
        await self.epochs.advance()
        return epoch.record, row.values if row else {}

    async def _read(self, epoch: Mapping[str, Any]) -> AsyncIterator[StoredRow | StoredBlob]:
        for name in TABLES_IN_ORDER:
            async for row in rows_of(self.table, name):
                is_epoch = (row.values["PartitionKey"], row.values["RowKey"]) == EPOCH
                yield StoredRow(name, dict(epoch)) if is_epoch else row
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
        """Write an archive into tables that are empty; see :class:`shared.backup.restoring.Restore`."""
        run = Restore(table=self.table, blobs=self.blobs, rows=self.epochs.rows, clock=self.clock)
        return await run.run(path, opener)
