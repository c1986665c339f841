"""What became of the devices of an order, line by line: for people's spreadsheets and for machines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from shared.contracts.answers_devices import OrderResult
from shared.contracts.base import timestamp
from shared.ledger.orders import PARTITION_LINES
from shared.rules.csv_cells import csv_text
from shared.workflows.devices.batches import in_batches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from shared.domain.orders import OrderLine, OrderState
    from shared.ledger.orders import Orders
    from shared.ports.blobs import Blobs
    from shared.settings import Settings

RESULTS = "results"
"""Container of the results of orders that have ended."""

CSV = "text/csv"
JSON = "application/json"

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


def result_of(line: OrderLine) -> OrderResult:
    """Give what became of a line; ``None`` where there is nothing."""
    return OrderResult(
        registration_id=line.registration_id or line.requested_id,
        state=line.state,
        device_id=line.device_id,
        assigned_hub=line.assigned_hub,
        serial_number=line.serial_number,
        thumbprint=line.thumbprint,
        expires_at=line.expires_at,
        reason=line.reason,
        place=line.where,
    )


def csv_of(lines: Iterable[OrderLine], *, header: bool) -> str:
    """Write lines as CSV, with a header or without."""
    return csv_text((*([COLUMNS] if header else ()), *map(_cells, lines)))


def _json_of(line: OrderLine) -> str:
    return result_of(line).model_dump_json(by_alias=True)


def _cells(line: OrderLine) -> list[str | None]:
    return [
        line.registration_id or line.requested_id,
        line.state,
        line.device_id,
        line.assigned_hub,
        line.serial_number,
        line.thumbprint,
        timestamp(line.expires_at) if line.expires_at else None,
        line.reason,
        line.where,
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The URLs of the results of an order."""

    csv: str
    json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResults:
    """Writes the results of orders that end."""

    orders: Orders
    blobs: Blobs
    settings: Settings

    async def write(self, order_id: str, state: OrderState) -> Written:
        """Write an order's results into blobs, over those that are there."""
        await self.blobs.write(RESULTS, f"{order_id}.csv", self._csv(order_id), content_type=CSV)
        await self.blobs.write(RESULTS, f"{order_id}.json", self._json(order_id, state), content_type=JSON)
        return self.urls(order_id)

    def urls(self, order_id: str) -> Written:
        """Tell where an order's results are when it has ended."""
        return Written(csv=self._url(f"{order_id}.csv"), json=self._url(f"{order_id}.json"))

    def _url(self, name: str) -> str:
        return f"{self.settings.order_lists_url}/{RESULTS}/{quote(name)}"

    async def _csv(self, order_id: str) -> AsyncIterator[bytes]:
        yield csv_of((), header=True).encode()
        async for batch in self._batches(order_id):
            yield csv_of(batch, header=False).encode()

    async def _json(self, order_id: str, state: OrderState) -> AsyncIterator[bytes]:
        """Write what ``results.json`` answers, with all lines in one page."""
        separator = f'{{"orderId":{json.dumps(order_id)},"state":"{state.value}","items":['
        async for batch in self._batches(order_id):
            yield (separator + ",".join(map(_json_of, batch))).encode()
            separator = ","
        yield (separator.removesuffix(",") + '],"continuationToken":null}\n').encode()

    def _batches(self, order_id: str) -> AsyncIterator[list[OrderLine]]:
        return in_batches(self.orders.lines(order_id), PARTITION_LINES)
