"""OCSP responders: one for each CA, with its key wrapped for the zone that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.responders import ResponderRecord
from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from shared.ledger.table import Versioned
    from shared.ports.rows import Table

_PARTITION = "responder"  # as many rows as there are CAs


class ResponderRows:
    """The table of responders."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, ResponderRecord, key=lambda record: (_PARTITION, record.issuer.lower()))

    async def get(self, issuer: str) -> Versioned[ResponderRecord] | None:
        """Find the responder of a CA."""
        return await self._rows.get(_PARTITION, issuer.lower())

    async def renew(self, known: Versioned[ResponderRecord] | None, record: ResponderRecord) -> bool:
        """Put a CA's next responder in the place of the one that was read.

        Returns:
            Whether it is there: if somebody else has put one there since, that one counts.
        """
        written = self._rows.try_insert(record) if known is None else self._rows.try_replace(known, record)
        return await written is not None
