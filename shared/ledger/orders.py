"""Orders and their lines.

An order's lines stand in partitions of 100, so that one transaction writes a partition and no partition is hot.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from shared.contracts import DeviceState, RegisterBy
from shared.ledger.table import TRANSACTION_LIMIT, Record, Table, Versioned, keyed, spread, versioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

OPEN_STATES = frozenset({DeviceState.ORDERED, DeviceState.ISSUED})
"""States of a line that something is still to be done for."""


class OrderState(StrEnum):
    """States of an order."""

    ACCEPTED = "accepted"
    DISPATCHED = "dispatched"
    COMPLETED = "completed"


class OrderRecord(Record):
    """One order.

    Attributes:
        fingerprint: of its content: the same id with other content is refused.
    """

    order_id: str
    fingerprint: str
    state: OrderState
    enrollment_group: str
    register_by: RegisterBy
    device_count: int
    accepted_at: datetime
    validity_days: int | None = None
    completed_at: datetime | None = None


class OrderLine(Record):
    """One device of an order, with all of the order that its registration needs.

    Attributes:
        line: its index in the order, from 0.
        requested_id: the registration id as the order spells it.
        registration_id: in canonical form; ``None`` when it has none, since the line is wrong.
        reasons: why it failed, each ``{"field", "message"}``.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"tags", "desired", "reasons"})

    order_id: str
    line: int
    state: DeviceState
    requested_id: str
    enrollment_group: str
    register_by: RegisterBy
    accepted_at: datetime
    validity_days: int | None = None
    registration_id: str | None = None
    csr: str | None = None
    key_algorithm: str | None = None
    tags: dict[str, Any] | None = None
    desired: dict[str, Any] | None = None
    serial_number: str | None = None
    device_id: str | None = None
    assigned_hub: str | None = None
    reasons: tuple[dict[str, str], ...] | None = None
    finished_at: datetime | None = None

    @property
    def reason(self) -> str | None:
        """Why it failed, in one line."""
        if self.reasons is None:
            return None
        return "; ".join(f"{each['field']}: {each['message']}" if each["field"] else each["message"]
                         for each in self.reasons)  # fmt: skip


class Orders:
    """The orders' and lines' tables."""

    def __init__(self, orders: Table, lines: Table) -> None:
        self._orders = orders
        self._lines = lines

    async def get(self, order_id: str) -> Versioned[OrderRecord] | None:
        """Find an order by its id."""
        row = await self._orders.get(spread(order_id), order_id)
        return Versioned(OrderRecord.from_columns(row.values), row.etag) if row else None

    async def insert(self, record: OrderRecord) -> Versioned[OrderRecord] | None:
        """Record an order; ``None`` if its id is known."""
        return versioned(record, await self._orders.insert(keyed(spread(record.order_id), record.order_id, record)))

    async def replace(self, known: Versioned[OrderRecord], record: OrderRecord) -> Versioned[OrderRecord] | None:
        """Replace a row as it was read; ``None`` if it has changed since."""
        return versioned(
            record, await self._orders.replace(keyed(spread(record.order_id), record.order_id, record), known.etag)
        )

    async def insert_lines(self, lines: Sequence[OrderLine]) -> None:
        """Record all lines of an order; those of an earlier, broken-off attempt stay as they are."""
        for start in range(0, len(lines), TRANSACTION_LIMIT):
            batch = lines[start : start + TRANSACTION_LIMIT]
            # A partition is written by one transaction, so what exists is whole.
            await self._lines.insert_together([self._row(line) for line in batch])

    async def get_line(self, order_id: str, line: int) -> Versioned[OrderLine] | None:
        """Find one line."""
        row = await self._lines.get(_line_partition(order_id, line), _line_row(line))
        return Versioned(OrderLine.from_columns(row.values), row.etag) if row else None

    async def replace_line(self, known: Versioned[OrderLine], line: OrderLine) -> Versioned[OrderLine] | None:
        """Replace a line as it was read; ``None`` if it has changed since."""
        return versioned(line, await self._lines.replace(self._row(line), known.etag))

    async def lines(self, order_id: str) -> AsyncIterator[OrderLine]:
        """List all lines of an order in their order."""
        async for row in self._lines.query(*_lines_of(order_id)):
            yield OrderLine.from_columns(row.values)

    async def open_lines(self, order_id: str) -> int:
        """Count the lines that something is still to be done for."""
        condition, parameters = _lines_of(order_id)
        states = {f"state{index}": state.value for index, state in enumerate(sorted(OPEN_STATES))}
        still_open = " or ".join(f"state eq @{name}" for name in states)
        rows = self._lines.query(f"{condition} and ( {still_open} )", {**parameters, **states}, select=["RowKey"])
        return sum([1 async for _ in rows])

    @staticmethod
    def _row(line: OrderLine) -> dict[str, object]:
        return keyed(_line_partition(line.order_id, line.line), _line_row(line.line), line)


def _line_partition(order_id: str, line: int) -> str:
    return f"{order_id}|{line // TRANSACTION_LIMIT:05d}"


def _line_row(line: int) -> str:
    return f"{line:07d}"


def _lines_of(order_id: str) -> tuple[str, dict[str, str]]:
    # "|" sorts below "}" and occurs in no order id, so the range holds this order's partitions and no other's.
    return "PartitionKey ge @first and PartitionKey lt @last", {"first": f"{order_id}|", "last": f"{order_id}}}"}
