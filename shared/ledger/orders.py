"""Orders and their lines.

An order's lines stand in partitions of 100, so that few transactions write a partition and no partition is hot.

A row of the list of orders is written when an order has come into another state. Who died in between is repeated, and
writes it then.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from shared.domain.orders import (
    OPEN_STATES,
    UPLOADS,
    LineCounts,
    LineState,
    ListedOrder,
    OrderLine,
    OrderRecord,
    OrderState,
    listed,
)
from shared.ledger.latest_first import LatestFirst
from shared.ledger.rows import Rows
from shared.ledger.table import (
    TEXT_LIMIT,
    TRANSACTION_BYTES,
    TRANSACTION_LIMIT,
    Stale,
    Versioned,
    keyed,
    spread,
)
from shared.ports.rows import Replace
from shared.telemetry.metrics import ORDERS, REGISTRATION_DURATION, STATE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from shared.ports.rows import Table

PARTITION_LINES = TRANSACTION_LIMIT
"""Lines of one partition."""

_LIST = "list"
"""Partition of the list of orders; those of orders have two characters."""

_WRITTEN_TOGETHER = 20
"""Lines of a transaction that changes them: each has 160 KiB at most, and a transaction takes 4 MiB."""

_ROW_OVERHEAD = 1024
"""Bytes around a row in a transaction, generously."""


class Orders:
    """The orders' and lines' tables."""

    def __init__(self, *, orders: Table, lines: Table) -> None:
        self._orders = Rows(orders, OrderRecord, key=lambda record: (spread(record.order_id), record.order_id))
        self._list = LatestFirst(
            orders,
            ListedOrder,
            partition=_LIST,
            place=lambda entry: (entry.accepted_at, entry.order_id),
            revision=lambda entry: entry.revision,
        )
        self._lines = lines

    async def get(self, order_id: str) -> Versioned[OrderRecord] | None:
        """Find an order by its id."""
        return await self._orders.get(spread(order_id), order_id)

    async def insert(self, record: OrderRecord) -> Versioned[OrderRecord]:
        """Record an order.

        Raises:
            Stale: its id is known.
        """
        return await self._noted(None, await self._orders.insert(record))

    async def replace(self, known: Versioned[OrderRecord], record: OrderRecord) -> Versioned[OrderRecord]:
        """Replace an order as it was read.

        Raises:
            Stale: it has changed since.
        """
        return await self._noted(known.record, await self._orders.replace(known, _revised(known.record, record)))

    async def change(
        self, known: Versioned[OrderRecord], change: Callable[[OrderRecord], OrderRecord]
    ) -> Versioned[OrderRecord]:
        """Write a change of an order; if the order has changed since it was read, to what it is now."""
        while True:
            changed = change(known.record)
            if changed == known.record:
                return known
            written = await self._orders.try_replace(known, _revised(known.record, changed))
            if written is not None:
                return await self._noted(known.record, written)
            present = await self.get(known.record.order_id)
            if present is None:
                raise RuntimeError(f"order {known.record.order_id!r} was there a moment ago and is gone")
            known = present

    async def refuse(
        self, order_id: str, reasons: tuple[dict[str, str], ...], at: datetime, *, group: str = ""
    ) -> None:
        """Record why an order was refused, unless there is an order of this id that was not."""
        refused = OrderRecord(
            order_id=order_id, state=OrderState.REJECTED, accepted_at=at, reasons=reasons, enrollment_group=group
        )
        made = await self._orders.try_insert(refused)
        if made is not None:
            await self._noted(None, made)
            return
        known = await self.get(order_id)
        if known is not None and known.record.state is OrderState.REJECTED:
            # Of two refusals at once either is true.
            written = await self._orders.try_replace(known, refused.changed(revision=known.record.revision + 1))
            if written is not None:
                await self._noted(known.record, written)
                await self.note(written.record)

    # --- the list of orders ---

    async def _noted(self, before: OrderRecord | None, known: Versioned[OrderRecord]) -> Versioned[OrderRecord]:
        """Count and list an order that has come into another state."""
        if before is None or before.state is not known.record.state:
            ORDERS.record(1, {STATE: known.record.state.value})
            await self.note(known.record)
        if before is not None and before.accepted_at != known.record.accepted_at:
            await self._list.remove(listed(before))  # refused then, and taken in now
        return known

    async def note(self, order: OrderRecord) -> None:
        """Have the list of orders say what has become of one, if it does not say so yet."""
        await self._list.note(listed(order))

    async def page(
        self,
        *,
        state: OrderState | None,
        group: str | None,
        since: datetime | None,
        size: int,
        continuation: str | None,
    ) -> tuple[Sequence[ListedOrder], str | None]:
        """List one page of orders, the latest first, and the continuation of the next."""
        return await self._list.page(
            {"state": state and state.value, "enrollmentGroup": group},
            since=since,
            size=size,
            continuation=continuation,
        )

    async def with_lists(self, before: datetime) -> AsyncIterator[ListedOrder]:
        """List the orders that ended before some time, and whose list the app still keeps."""
        kept = {"first": UPLOADS}
        async for entry in self._list.older(
            before, "listName ge @first and completedAt lt @before", {**kept, "before": before}
        ):
            yield entry
        rejected = {**kept, "state": OrderState.REJECTED.value}
        async for entry in self._list.older(before, "listName ge @first and state eq @state", rejected):
            yield entry

    async def forget_list(self, entry: ListedOrder) -> None:
        """Enter that an order's list is deleted."""
        await self._list.replace(entry, entry.changed(list_name=None))

    # --- lines ---

    async def unwatched(self, since: datetime) -> AsyncIterator[OrderRecord]:
        """List the open orders whose message has been due since a point in time."""
        async for order in self._orders.list("watchDue le @since", {"since": since}):
            yield order

    async def insert_lines(self, lines: Sequence[OrderLine]) -> None:
        """Record lines of an order; those of an earlier, broken-off attempt stay as they are."""
        for start in range(0, len(lines), PARTITION_LINES):
            rows = [self._row(line) for line in lines[start : start + PARTITION_LINES]]
            for batch in _transactions(rows):
                if not await self._lines.insert_together(batch):
                    for row in batch:
                        _ = await self._lines.insert(row)  # it is there from before, and may be carried out already

    async def get_line(self, order_id: str, line: int) -> Versioned[OrderLine] | None:
        """Find one line."""
        row = await self._lines.get(_line_partition(order_id, line), _line_row(line))
        return Versioned(OrderLine.from_columns(row.values), row.etag) if row else None

    async def get_lines(self, order_id: str, line: int, count: int) -> list[Versioned[OrderLine]]:
        """Find some lines that follow each other; fewer if there are fewer."""
        if count == 1:
            known = await self.get_line(order_id, line)
            return [known] if known else []
        found = []
        for partition in dict.fromkeys(_line_partition(order_id, each) for each in range(line, line + count)):
            rows = self._lines.query(
                "PartitionKey eq @partition and RowKey ge @first and RowKey lt @end",
                {"partition": partition, "first": _line_row(line), "end": _line_row(line + count)},
            )
            found += [Versioned(OrderLine.from_columns(row.values), row.etag) async for row in rows]
        return found

    async def replace_line(self, known: Versioned[OrderLine], line: OrderLine) -> Versioned[OrderLine]:
        """Replace a line as it was read.

        Raises:
            Stale: it has changed since.
        """
        etag = await self._lines.replace(self._row(line), known.etag)
        if etag is None:
            raise Stale(f"{line.order_id} {line.line}")
        return Versioned(line, etag)

    async def change_lines(
        self, lines: Sequence[Versioned[OrderLine]], change: Callable[[OrderLine], OrderLine]
    ) -> list[Versioned[OrderLine]]:
        """Write a change of some lines, and give them as they are then.

        Lines that stand together are written in one transaction. If one has changed since it was read, each is changed
        as it is now.
        """
        together = defaultdict[int, list[Versioned[OrderLine]]](list)
        for known in lines:
            together[known.record.line // _WRITTEN_TOGETHER].append(known)
        found = []
        for several in together.values():
            found += await self._change_together(several, change)
        return found

    async def _change_together(
        self, lines: Sequence[Versioned[OrderLine]], change: Callable[[OrderLine], OrderLine]
    ) -> list[Versioned[OrderLine]]:
        changed = {known.record.line: change(known.record) for known in lines}
        concerned = [known for known in lines if changed[known.record.line] != known.record]
        steps = [Replace(self._row(changed[known.record.line]), known.etag) for known in concerned]
        etags = await self._lines.write_together(steps) if len(steps) > 1 else None
        if etags is None:
            return [await self._change_line(known, change) for known in lines]
        written = {
            known.record.line: Versioned(changed[known.record.line], etag)
            for known, etag in zip(concerned, etags, strict=True)
        }
        return [written.get(known.record.line, known) for known in lines]

    async def _change_line(
        self, known: Versioned[OrderLine], change: Callable[[OrderLine], OrderLine]
    ) -> Versioned[OrderLine]:
        while (changed := change(known.record)) != known.record:
            try:
                return await self.replace_line(known, changed)
            except Stale:
                present = await self.get_line(changed.order_id, changed.line)
                if present is None:
                    raise RuntimeError(f"line {changed.line} of order {changed.order_id!r} is gone") from None
                known = present
        return known

    async def close_lines(self, done: Sequence[tuple[Versioned[OrderLine], OrderLine]]) -> None:
        """Write lines that are done, each as it was read and as it is to be.

        Those of one partition are written in one transaction. One that has changed since is read again: if it is done
        by then, it stays as it is. So does one that is being tried again: what an attempt before has ended with says
        nothing of that.
        """
        by_partition = defaultdict[str, list[tuple[Versioned[OrderLine], OrderLine]]](list)
        for known, line in done:
            by_partition[_line_partition(line.order_id, line.line)].append((known, line))
        for together in by_partition.values():
            steps = [Replace(self._row(line), known.etag) for known, line in together]
            if len(together) > 1 and await self._lines.write_together(steps) is not None:
                for _, line in together:
                    _tell(line)
                continue
            for known, line in together:
                await self._close_line(known, line)

    async def _close_line(self, known: Versioned[OrderLine], line: OrderLine) -> None:
        present: Versioned[OrderLine] | None = known
        while present is not None and present.record.is_open and present.record.attempt == line.attempt:
            try:
                await self.replace_line(present, line)
            except Stale:
                present = await self.get_line(line.order_id, line.line)
            else:
                _tell(line)
                return

    async def lines(self, order_id: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[OrderLine]:
        """List the lines of an order in their order, from one on, up to another that is not listed."""
        async for row in self._lines.query(*_lines_of(order_id, start, end)):
            if _line_row(start) <= row.values["RowKey"] and (end is None or row.values["RowKey"] < _line_row(end)):
                yield OrderLine.from_columns(row.values)

    async def lines_in(self, order_id: str, state: LineState) -> AsyncIterator[Versioned[OrderLine]]:
        """List the lines that are in a state, in their order."""
        condition, parameters = _lines_of(order_id)
        async for row in self._lines.query(f"{condition} and state eq @state", {**parameters, "state": state.value}):
            yield Versioned(OrderLine.from_columns(row.values), row.etag)

    async def page_of_lines(
        self, order_id: str, state: LineState, *, size: int, continuation: str | None
    ) -> tuple[Sequence[OrderLine], str | None]:
        """List one page of an order's lines in a state, and the continuation of the next."""
        condition, parameters = _lines_of(order_id)
        rows, following = await self._lines.page(
            f"{condition} and state eq @state",
            {**parameters, "state": state.value},
            size=size,
            continuation=continuation,
        )
        return [OrderLine.from_columns(row.values) for row in rows], following

    async def count(self, order_id: str) -> LineCounts:
        """Count an order's lines."""
        by_state: Counter[str] = Counter()
        left = awaiting = 0
        columns = ["RowKey", "state", "finishedAt", "awaitsDevice"]
        async for row in self._lines.query(*_lines_of(order_id), select=columns):
            state = row.values["state"]
            by_state[state] += 1
            if state in OPEN_STATES and row.values.get("finishedAt") is None:
                left += 1
                awaiting += state == LineState.ISSUED and bool(row.values.get("awaitsDevice"))
        return LineCounts(by_state=dict(by_state), left=left, awaiting=awaiting)

    @staticmethod
    def _row(line: OrderLine) -> dict[str, object]:
        return keyed(_line_partition(line.order_id, line.line), _line_row(line.line), line)


def _revised(before: OrderRecord, after: OrderRecord) -> OrderRecord:
    """Count the changes of an order's state, so that of two that are noted the later one is known."""
    return after if before.state is after.state else after.changed(revision=before.revision + 1)


def _tell(line: OrderLine) -> None:
    """Tell how long a device took that is registered."""
    if line.state is LineState.REGISTERED and line.finished_at is not None:
        took = (line.finished_at - line.accepted_at).total_seconds()
        REGISTRATION_DURATION.record(took, {"device_factory.register_by": line.register_by.value})


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
