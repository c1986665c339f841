"""OCSP responders: one for each CA, with its key wrapped for the zone that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.responders import ResponderRecord
from shared.ledger.table import Versioned, keyed

if TYPE_CHECKING:
    from shared.ports.rows import Table

_PARTITION = "responder"  # as many rows as there are CAs


class ResponderRows:
    """The table of responders. The newest counts, whoever has written it."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def get(self, issuer: str) -> Versioned[ResponderRecord] | None:
        """Find the responder of a CA."""
        row = await self._table.get(_PARTITION, issuer.lower())
        return Versioned(ResponderRecord.from_columns(row.values), row.etag) if row else None

    async def put(self, record: ResponderRecord) -> None:
        """Put a CA's next responder in the place of the one before."""
        await self._table.put(keyed(_PARTITION, record.issuer.lower(), record))
