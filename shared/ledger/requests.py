"""Requests that were received, found by their id."""

from __future__ import annotations

from datetime import datetime

from shared.ledger.table import Record, Table, keyed, spread


class RequestRecord(Record):
    """One request.

    Attributes:
        fingerprint: of its content: the same id with other content is refused.
        received_at: when it was asked for.
        carried_out_at: when it was done; ``None`` while it is not.
    """

    request_id: str
    fingerprint: str
    received_at: datetime
    carried_out_at: datetime | None = None


class Requests:
    """The requests' table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def claim(self, record: RequestRecord) -> RequestRecord:
        """Record a request unless its id is known, and give what is recorded under its id."""
        if await self._table.insert(keyed(spread(record.request_id), record.request_id, record)):
            return record
        return await self.get(record.request_id) or record

    async def get(self, request_id: str) -> RequestRecord | None:
        """Find a request by its id."""
        row = await self._table.get(spread(request_id), request_id)
        return RequestRecord.from_columns(row.values) if row else None

    async def put(self, record: RequestRecord) -> None:
        """Record the outcome."""
        await self._table.put(keyed(spread(record.request_id), record.request_id, record))
