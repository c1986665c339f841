"""Lists that were imported: a row for each CA whose key is not here, beside the CAs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.imported_lists import ImportedList
from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from shared.ledger.table import Versioned
    from shared.ports.rows import Table

_PARTITION = "importedList"


class ImportedListRows:
    """The rows of imported lists, in the CAs' table."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, ImportedList, key=lambda record: (_PARTITION, record.name.lower()))

    async def get(self, name: str) -> Versioned[ImportedList] | None:
        """Find the list of a CA."""
        return await self._rows.get(_PARTITION, name.lower())

    async def try_put(self, known: Versioned[ImportedList] | None, record: ImportedList) -> bool:
        """Record a list, if the row is as it was read; ``known`` is ``None`` for the first one."""
        written = await (self._rows.try_replace(known, record) if known else self._rows.try_insert(record))
        return written is not None
