"""Requests that were accepted, found by their kind and id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.requests import RequestRecord
from shared.ledger.rows import Rows
from shared.ledger.table import spread

if TYPE_CHECKING:
    from datetime import datetime

    from shared.ledger.table import Versioned
    from shared.ports.rows import Table


class Requests:
    """The requests' table."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, RequestRecord, key=lambda record: (spread(record.key), record.key))

    async def claim(self, record: RequestRecord) -> Versioned[RequestRecord]:
        """Record a request unless its id is taken, and give what is recorded under its id."""
        while True:
            known = await self._rows.try_insert(record) or await self._at(record.key)
            if known is not None and known.record.refused_at is not None:
                known = await self._rows.try_replace(known, record)
            if known is not None:
                return known

    async def get(self, kind: str, request_id: str) -> Versioned[RequestRecord] | None:
        """Find a request; ``None`` if its id is free."""
        known = await self._at(f"{kind}|{request_id}")
        return known if known is not None and known.record.refused_at is None else None

    async def _at(self, key: str) -> Versioned[RequestRecord] | None:
        return await self._rows.get(spread(key), key)

    async def enter(self, record: RequestRecord, **changes: datetime) -> None:
        """Record what became of a request, unless it is carried out already or its id belongs to another one by now."""
        while True:
            known = await self._at(record.key)
            if known is None or known.record.nonce != record.nonce or known.record.carried_out_at is not None:
                return
            if await self._rows.try_replace(known, known.record.changed(**changes)) is not None:
                return
