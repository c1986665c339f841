"""Orders and their lines.

An order's lines stand in partitions of 100, so that few transactions write a partition and no partition is hot.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from shared.contracts import DeviceState, RegisterBy
from shared.ledger.table import (
    TEXT_LIMIT,
    TRANSACTION_BYTES,
    TRANSACTION_LIMIT,
    Record,
    Table,
    Versioned,
    keyed,
    spread,
    versioned,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

PARTITION_LINES = TRANSACTION_LIMIT
"""Lines of one partition."""

_ROW_OVERHEAD = 1024
"""Bytes around a row in a transaction, generously."""

OPEN_STATES = frozenset({DeviceState.ORDERED, DeviceState.ISSUED})
"""States of a line that something is still to be done for."""


class OrderState(StrEnum):
    """States of an order: ``rejected`` as a whole, it has no lines, and its id is free."""

    ACCEPTED = "accepted"
    DISPATCHED = "dispatched"
    COMPLETED = "completed"
    REJECTED = "rejected"


class OrderRecord(Record):
    """One order.

    Attributes:
        fingerprint: of its content: the same id with other content is refused.
        device_count: its lines.
        accepted_at: when it was accepted, or rejected.
        list_name: of the blob with its devices; ``None`` if they came with the order.
        list_etag: of the blob when the order was accepted: what it holds is what was ordered.
        list_size: bytes of the blob.
        dispatched: lines that are on their way; a multiple of 100, or all.
        watch: tells the one message that sees to the order from those that did before.
        watch_due: when that message is to be seen; ``None`` when nothing is to be done any more.
        counts: lines by state as they were last counted.
        reasons: why it is rejected, or why it has fewer lines than its list; each ``{"field", "message"}``.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"counts", "reasons"})

    order_id: str
    fingerprint: str = ""
    state: OrderState
    enrollment_group: str = ""
    register_by: RegisterBy = RegisterBy.SERVICE
    device_count: int = 0
    accepted_at: datetime
    validity_days: int | None = None
    completed_at: datetime | None = None
    list_name: str | None = None
    list_etag: str | None = None
    list_size: int = 0
    dispatched: int = 0
    watch: datetime | None = None
    watch_due: datetime | None = None
    counts: dict[str, int] | None = None
    reasons: tuple[dict[str, str], ...] | None = None


class OrderLine(Record):
    """One device of an order, with all of the order that its registration needs.

    Attributes:
        line: its index in the order, from 0.
        place: where it stands in the order, for messages: ``devices[3]``, or ``line 5`` of a CSV file.
        requested_id: the registration id as the order spells it.
        registration_id: in canonical form; ``None`` when it has none, since the line is wrong.
        reasons: why it failed, or does not get on; each ``{"field", "message"}``.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"tags", "desired", "reasons"})

    order_id: str
    line: int
    state: DeviceState
    requested_id: str
    enrollment_group: str
    register_by: RegisterBy
    accepted_at: datetime
    place: str = ""
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
        """Why it failed, or does not get on, in one line."""
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

    async def refuse(self, order_id: str, reasons: tuple[dict[str, str], ...], at: datetime) -> None:
        """Record why an order was refused, unless there is an order of this id that was not."""
        refused = OrderRecord(order_id=order_id, state=OrderState.REJECTED, accepted_at=at, reasons=reasons)
        if await self.insert(refused) is None:
            known = await self.get(order_id)
            if known is not None and known.record.state is OrderState.REJECTED:
                # Of two refusals at once either is true.
                await self.replace(known, refused)

    async def unwatched(self, since: datetime) -> AsyncIterator[OrderRecord]:
        """List the open orders whose message has been due since a point in time."""
        async for row in self._orders.query("watchDue le @since", {"since": since}):
            yield OrderRecord.from_columns(row.values)

    async def insert_lines(self, lines: Sequence[OrderLine]) -> None:
        """Record lines of an order; those of an earlier, broken-off attempt stay as they are."""
        for start in range(0, len(lines), PARTITION_LINES):
            rows = [self._row(line) for line in lines[start : start + PARTITION_LINES]]
            for batch in _transactions(rows):
                if not await self._lines.insert_together(batch):
                    for row in batch:
                        await self._lines.insert(row)

    async def get_line(self, order_id: str, line: int) -> Versioned[OrderLine] | None:
        """Find one line."""
        row = await self._lines.get(_line_partition(order_id, line), _line_row(line))
        return Versioned(OrderLine.from_columns(row.values), row.etag) if row else None

    async def replace_line(self, known: Versioned[OrderLine], line: OrderLine) -> Versioned[OrderLine] | None:
        """Replace a line as it was read; ``None`` if it has changed since."""
        return versioned(line, await self._lines.replace(self._row(line), known.etag))

    async def lines(self, order_id: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[OrderLine]:
        """List the lines of an order in their order, from one on, up to another that is not listed."""
        async for row in self._lines.query(*_lines_of(order_id, start, end)):
            if _line_row(start) <= row.values["RowKey"] and (end is None or row.values["RowKey"] < _line_row(end)):
                yield OrderLine.from_columns(row.values)

    async def failed_lines(self, order_id: str) -> AsyncIterator[OrderLine]:
        """List the lines that failed."""
        condition, parameters = _lines_of(order_id)
        failed = {**parameters, "state": DeviceState.FAILED.value}
        async for row in self._lines.query(f"{condition} and state eq @state", failed):
            yield OrderLine.from_columns(row.values)

    async def count(self, order_id: str) -> Counter[str]:
        """Count an order's lines by state."""
        counts: Counter[str] = Counter()
        async for row in self._lines.query(*_lines_of(order_id), select=["RowKey", "state"]):
            counts[row.values["state"]] += 1
        return counts

    @staticmethod
    def _row(line: OrderLine) -> dict[str, object]:
        return keyed(_line_partition(line.order_id, line.line), _line_row(line.line), line)


def _line_partition(order_id: str, line: int) -> str:
    return f"{order_id}|{line // TRANSACTION_LIMIT:05d}"


def _line_row(line: int) -> str:
    return f"{line:07d}"


def _lines_of(order_id: str, start: int = 0, end: int | None = None) -> tuple[str, dict[str, str]]:
    """Give the condition for the partitions of some lines."""
    # "|" sorts below "}" and occurs in no order id, so the range holds this order's partitions and no other's.
    last = f"{order_id}}}" if end is None else _line_partition(order_id, end + PARTITION_LINES - 1)
    return (
        "PartitionKey ge @first and PartitionKey lt @last",
        {"first": _line_partition(order_id, start), "last": last},
    )


def fault_of(line: OrderLine) -> str | None:
    """Say why a line does not fit a row; ``None`` if it does. What else it holds is short."""
    for name, value in (("tags", line.tags), ("desired properties", line.desired)):
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False) if value else ""
        # A character beyond the Basic Multilingual Plane takes two of UTF-16.
        size = len(text.encode("utf-16-le")) // 2
        if size > TEXT_LIMIT:
            return f"its {name} have {size} characters as JSON; at most {TEXT_LIMIT} can be kept"
    return None


def _transactions(rows: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Cut rows of one partition into what one transaction takes."""
    batch: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        added = len(json.dumps(row, default=str)) + _ROW_OVERHEAD
        if batch and size + added > TRANSACTION_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += added
    if batch:
        yield batch
