"""What became of the devices of an order, line by line: for people's spreadsheets and for machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from shared.contracts.base import timestamp
from shared.ledger.orders import PARTITION_LINES
from shared.rules.csv_cells import csv_text
from shared.workflows.devices.batches import in_batches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from shared.domain.orders import OrderLine
    from shared.ledger.orders import Orders
    from shared.ports.blobs import Blobs
    from shared.settings import Settings

RESULTS = "results"
"""Container of the results of orders that have ended."""

CSV = "text/csv"

COLUMNS = (
    "registrationId",
    "state",
    "deviceId",
    "assignedHub",
    "serialNumber",
    "thumbprint",
    "expiresAt",
    "reason",
    "place",
)


def result_of(line: OrderLine) -> dict[str, Any]:
    """Give what became of a line, by the names of :data:`COLUMNS`; ``None`` where there is nothing."""
    return {
        "registrationId": line.registration_id or line.requested_id,
        "state": line.state,
        "deviceId": line.device_id,
        "assignedHub": line.assigned_hub,
        "serialNumber": line.serial_number,
        "thumbprint": line.thumbprint,
        "expiresAt": line.expires_at,
        "reason": line.reason,
        "place": line.where,
    }


def csv_of(lines: Iterable[OrderLine], *, header: bool) -> str:
    """Write lines as CSV, with a header or without."""
    return csv_text((*([COLUMNS] if header else ()), *map(_cells, lines)))


def _cells(line: OrderLine) -> list[str | None]:
    result = result_of(line)
    result["expiresAt"] = timestamp(line.expires_at) if line.expires_at else None
    return [result[name] for name in COLUMNS]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResults:
    """Writes the results of orders that end."""

    orders: Orders
    blobs: Blobs
    settings: Settings

    async def write(self, order_id: str) -> str:
        """Write an order's results into a blob, over those that are there, and give its URL."""
        name = f"{order_id}.csv"
        await self.blobs.write(RESULTS, name, self._parts(order_id), content_type=CSV)
        return f"{self.settings.order_lists_url}/{RESULTS}/{quote(name)}"

    async def _parts(self, order_id: str) -> AsyncIterator[bytes]:
        is_first = True
        async for batch in in_batches(self.orders.lines(order_id), PARTITION_LINES):
            yield csv_of(batch, header=is_first).encode()
            is_first = False
        if is_first:
            yield csv_of((), header=True).encode()
