"""What is read of tables and of archives, by those who export and those who restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.backup.contents import Manifest, StoredRow, contents
from shared.backup.sealing import ArchiveError, opened
from shared.ledger.epochs import RESTORATION, RESTORE
from shared.storage_layout import TABLES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from shared.backup.contents import StoredBlob
    from shared.backup.sealing import Opener
    from shared.ports.rows import Table

REFERRING_FIRST = (
    "audit",
    "identities",
    "orderlines",
    "orders",
    "groups",
    "requests",
    "actrequests",
    "rejections",
    "issuers",
)
"""What the audit log says is done, the others have. Devices name their orders and groups, groups their CAs. The other
tables are indexes, and what stands for itself."""

TABLES_IN_ORDER = (*REFERRING_FIRST, *(each for each in TABLES if each not in REFERRING_FIRST))


async def rows_of(table: Callable[[str], Table], name: str) -> AsyncIterator[StoredRow]:
    """Read a table, without the rows of a restore and a restoration: what is made of a copy has neither behind it."""
    async for row in table(name).query("", {}):
        if (row.values["PartitionKey"], row.values["RowKey"]) not in {RESTORE, RESTORATION}:
            yield StoredRow(name, dict(row.values))


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


def unsealed(path: Path, opener: Opener) -> Iterator[StoredRow | StoredBlob]:
    """Give the rows and blobs of an archive."""
    with path.open("rb") as file:
        for each in contents(opened(file, opener)):
            if not isinstance(each, Manifest):
                yield each
