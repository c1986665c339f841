"""Dispatching an order: its lines are recorded, and messages sent for them, a few lines in each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from shared.contracts.base import stated
from shared.contracts.events import RequestRejected
from shared.contracts.messages import Queue
from shared.contracts.orders import MESSAGE_LINES, DeviceRegistration
from shared.domain.orders import OPEN_STATES, LineState, all_dispatched, cut, dispatched
from shared.domain.rejections import RejectionKind
from shared.errors import Rejected
from shared.ledger.orders import PARTITION_LINES
from shared.workflows.devices.batches import in_batches
from shared.workflows.devices.order_blobs import turn
from shared.workflows.devices.order_lines import OrderLines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from datetime import datetime

    from shared.domain.orders import OrderLine, OrderRecord
    from shared.ledger.orders import Orders
    from shared.ledger.table import Versioned
    from shared.threads import ThreadPool
    from shared.workflows.devices.failures import Failures
    from shared.workflows.devices.order_blobs import OrderBlobs
    from shared.workflows.devices.order_lists import Listed
    from shared.workflows.intake.outbox import Clock, Outbox

_STEP = 5000
_SENDERS = 32
_SLICE = timedelta(minutes=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDispatch:
    """Puts the lines of orders on their way."""

    orders: Orders
    lists: OrderBlobs
    failures: Failures
    outbox: Outbox
    clock: Clock
    threads: ThreadPool
    dispatching: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a large list is dispatched: one at a time, whose digests take 100 MB."""

    async def carry_on(
        self, known: Versioned[OrderRecord], devices: Iterator[Listed], *, until: datetime | None = None
    ) -> Versioned[OrderRecord]:
        """Record an order's lines and send their messages, from where an earlier attempt broke off.

        Args:
            known: the order, accepted.
            devices: all of its devices.
            until: when to stop, with what is left for the next message.
        """
        lines, watch = OrderLines(order=known.record, devices=devices), known.record.watch
        for start in range(0, known.record.dispatched, _STEP):
            await self.threads.run(lines.skip, min(_STEP, known.record.dispatched - start))
        while batch := await self.threads.run(lines.take):
            await self.orders.insert_lines(batch)
            await self._send(batch)
            known = await self.orders.change(known, dispatched(batch[-1].line + 1))
            if (
                known.record.is_cancelled
                or known.record.watch != watch
                or (until is not None and self.clock() >= until)
            ):
                return known
            if len(batch) < PARTITION_LINES:
                break
        return await self.orders.change(known, all_dispatched)

    async def _send(self, lines: Sequence[OrderLine]) -> None:
        """Send the messages of lines that were recorded; of those that are wrong, the event."""
        gate = asyncio.Semaphore(_SENDERS)

        async def tell(line: OrderLine) -> None:
            async with gate:
                await self.failures.announce(line)

        async def send(message: DeviceRegistration) -> None:
            async with gate:
                await self.outbox.send(Queue.DEVICE_REGISTRATIONS, message)

        async with asyncio.TaskGroup() as group:
            for line in lines:
                if line.state is LineState.FAILED:
                    group.create_task(tell(line))
            for message in messages(lines):
                group.create_task(send(message))

    async def send_open(self, order_id: str) -> None:
        """Send the messages of the lines of an order that are not done."""
        for state in sorted(OPEN_STATES):
            async for batch in in_batches(self._in_state(order_id, state), PARTITION_LINES):
                await self._send(batch)

    async def _in_state(self, order_id: str, state: LineState) -> AsyncIterator[OrderLine]:
        async for known in self.orders.lines_in(order_id, state):
            yield known.record

    async def carry_on_with_list(self, known: Versioned[OrderRecord]) -> Versioned[OrderRecord]:
        """Dispatch the lines of an order's list, for some minutes at most.

        Raises:
            Deferred: another large list is being read.
        """
        try:
            async with turn(self.dispatching, known.record):
                return await self.carry_on(known, self.lists.listed(known.record), until=self.clock() + _SLICE)
        except Rejected as rejection:
            return await self._cut_short(known, rejection)

    async def _cut_short(self, known: Versioned[OrderRecord], rejection: Rejected) -> Versioned[OrderRecord]:
        """End an order whose list can't be read any more: rejected, unless devices of it are on their way already."""
        order_id, reasons = known.record.order_id, rejection.documented()
        taken = sum((await self.orders.count(order_id)).by_state.values())
        left = self.orders.lines(order_id, start=known.record.dispatched)
        async for batch in in_batches(left, PARTITION_LINES):
            await self._send(batch)
        await self.outbox.publish(
            RequestRejected(
                queue=Queue.DEVICE_ORDERS,
                kind=RejectionKind.REJECTED,
                order_id=order_id,
                reasons=stated(reasons),
            ),
            subject=order_id,
            correlation_id=order_id,
            occasion=f"list {known.record.list_etag}",
        )
        return await self.orders.change(known, cut(taken, reasons))


def messages(lines: Sequence[OrderLine]) -> Iterator[DeviceRegistration]:
    """Give the messages of lines that follow each other, of which those that failed need none."""
    on_their_way = [line for line in lines if line.state is not LineState.FAILED]
    for _, together in groupby(on_their_way, key=lambda line: line.line // MESSAGE_LINES):
        first, *others = together
        last = others[-1] if others else first
        yield DeviceRegistration(order_id=first.order_id, line=first.line, lines=last.line - first.line + 1)
