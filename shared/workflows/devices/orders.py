"""Orders: taken apart into lines, fanned out to one message per device, and watched until the last line is done.

An order's own message is answered when the order is accepted; what came with it is on its way by then. From then on one
message of the app's own sees to the order, and puts its successor into the queue before it ends: so an order can't be
lost, and however often it is posted, one message stands for it. A list in a blob is read as it was when the order was
accepted, part by part, in threads.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING, Any

from shared.contracts.base import timestamp
from shared.contracts.messages import Queue
from shared.contracts.orders import DeviceRegistration, OrderWatch
from shared.domain.orders import OPEN_STATES, OrderRecord, OrderState
from shared.domain.rejections import RejectionKind
from shared.domain.words import DeviceState, EventType
from shared.errors import Conflict, Deferred, NotFound, Reason, Rejected
from shared.ledger.orders import PARTITION_LINES
from shared.reading.blob_names import blob_name
from shared.workflows.devices.order_lines import OrderLines
from shared.workflows.devices.order_lists import FIELD, listed, read_list

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from datetime import datetime

    from shared.contracts.orders import DeviceOrder
    from shared.domain.orders import OrderLine
    from shared.ledger.orders import Orders
    from shared.ledger.table import Versioned
    from shared.ports.blobs import Blobs
    from shared.settings import Settings
    from shared.threads import ThreadPool
    from shared.workflows.devices.order_lists import Listed
    from shared.workflows.devices.registrations import Registrations
    from shared.workflows.intake.outbox import Clock, Outbox

ORDERS = "orders"
"""Container of device lists that are too long for a message."""

SHOWN_LIMIT = 5000
"""Lines that an order shows at once; those of a longer one come in pages."""

PAGE_SIZE = 100

_LIST_BYTES = 1024 * 1024 * 1024
_PART = 1024 * 1024
_PART_TIME = 120.0
_LARGE = 1024 * 1024
_STEP = 5000
_SENDERS = 32
_SLICE = timedelta(minutes=4)
_WATCH_PER_LINE = timedelta(milliseconds=25)
_WATCH = (timedelta(seconds=1), timedelta(minutes=1))
_COUNT_PER_LINE = timedelta(milliseconds=1)
_OVERDUE = timedelta(minutes=15)
_BUSY = timedelta(seconds=5)
_CLOCKS_APART = timedelta(minutes=5)
_FAILED_SHOWN = 100
_FAILED_BYTES = 32 * 1024
_COUNTED = (DeviceState.ORDERED, DeviceState.ISSUED, DeviceState.REGISTERED, DeviceState.FAILED)
_OPEN = frozenset({OrderState.ACCEPTED, OrderState.DISPATCHED})


_STATES = {
    OrderState.ACCEPTED: "processing",
    OrderState.DISPATCHED: "processing",
    OrderState.COMPLETED: "completed",
    OrderState.REJECTED: "rejected",
}


class Refused(NotFound):
    """An order of this id does not exist: one that came by the queue was refused, and its id is free.

    Attributes:
        shown: the order's id, its state, when it was rejected, and the reasons, each ``{"field", "message"}``.
    """

    def __init__(self, order: OrderRecord) -> None:
        message = (
            f"the order {order.order_id!r} does not exist: what came under this id was refused; its reasons say why"
        )
        super().__init__(Reason("orderId", message))
        self.shown = {
            "orderId": order.order_id,
            "state": "rejected",
            "rejectedAt": timestamp(order.accepted_at),
            "reasons": order.reasons,
        }


@dataclass(frozen=True, slots=True)
class DeviceOrders:
    """Takes orders in and sees them through."""

    orders: Orders
    registrations: Registrations
    blobs: Blobs
    outbox: Outbox
    settings: Settings
    clock: Clock
    threads: ThreadPool
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)
    dispatching: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a large list is read: one at a time is checked, and one dispatched, whose digests take 100 MB."""

    async def advance(self, order: DeviceOrder) -> None:
        """Take an order in, and see to it that a message watches it.

        Raises:
            Rejected: the order as a whole can't be carried out.
            Deferred: its group is being made, or another large list is being read.
        """
        known = await self.check_unchanged(order) or await self._accept(order)
        if known.record.state is OrderState.ACCEPTED and order.devices is not None:
            known = await self._dispatch(known, listed(order.devices))
        if known.record.state in _OPEN and not self._watched(known.record):
            await self._announce_accepted(known.record)
            await self._see_to(known)

    async def check_unchanged(self, order: DeviceOrder) -> Versioned[OrderRecord] | None:
        """Find an order by its id, ``None`` if it is new; one that was rejected leaves its id free.

        Raises:
            Conflict: its id was used with other content.
        """
        known = await self.orders.get(order.order_id)
        if known is None or known.record.state is OrderState.REJECTED:
            return None
        if known.record.fingerprint != order.fingerprint:
            raise Conflict.because(
                f"order {order.order_id!r} was accepted on {known.record.accepted_at:%Y-%m-%d} with other content; a "
                "changed order needs a new orderId",
                field="orderId",
            )
        return known

    # --- accepting ---

    async def _accept(self, order: DeviceOrder) -> Versioned[OrderRecord]:
        await self.registrations.usable_group(order.enrollment_group)
        record = OrderRecord(
            order_id=order.order_id,
            fingerprint=order.fingerprint,
            state=OrderState.ACCEPTED,
            enrollment_group=order.enrollment_group,
            register_by=order.register_by,
            validity_days=order.validity_days,
            device_count=len(order.devices or ()),
            accepted_at=self.clock(),
        )
        if order.devices_url is not None:
            record = await self._with_list(record, str(order.devices_url))
        refused = await self.orders.get(order.order_id)
        if refused is not None and refused.record.state is OrderState.REJECTED:
            known = await self.orders.replace(refused, record)
        else:
            known = await self.orders.insert(record)
        # Its answer may be lost, or another delivery was faster: what is there says it.
        known = known or await self.check_unchanged(order)
        if known is None:
            raise Deferred(f"order {order.order_id!r} is being changed by another message", retry_after=_BUSY)
        return known

    async def _with_list(self, record: OrderRecord, url: str) -> OrderRecord:
        """Note an order's list as it is now, and read it through: what can't be read is refused before the deed."""
        name = blob_name(url, f"{self.settings.blob_service_url}/{ORDERS}")
        found = await self.blobs.describe(ORDERS, name)
        if found is None:
            raise NotFound.because(f"the blob {url!r} does not exist", field=FIELD)
        if found.size > _LIST_BYTES:
            raise Rejected.because(f"{name!r} has {found.size} bytes; at most {_LIST_BYTES} are read", field=FIELD)
        record = record.changed(list_name=name, list_etag=found.etag, list_size=found.size)
        async with _turn(self.checking, record):
            devices, count = self._listed(record), 0
            while passed := await self.threads.run(_passed, devices):
                count += passed
        return record.changed(device_count=count)

    # --- reading lists ---

    def _listed(self, order: OrderRecord) -> Iterator[Listed]:
        """Read an order's list as it was accepted; it blocks, and belongs into a thread."""
        loop = asyncio.get_running_loop()
        name, etag = order.list_name or "", order.list_etag or ""

        def parts() -> Iterator[bytes]:
            for start in range(0, order.list_size, _PART):
                length = min(_PART, order.list_size - start)
                reading = self.blobs.part(ORDERS, name, etag=etag, start=start, length=length)
                waiting = asyncio.run_coroutine_threadsafe(reading, loop)
                try:
                    part = waiting.result(_PART_TIME)
                except TimeoutError:
                    waiting.cancel()
                    raise Deferred(f"{name!r} can't be read at the moment", retry_after=_BUSY) from None
                if part is None:
                    raise Rejected.because(
                        f"{name!r} was changed or deleted since the order came; order what is missing again, with a "
                        "list that stays as it is",
                        field=FIELD,
                    )
                yield part

        return read_list(parts(), name)

    # --- dispatching ---

    async def _dispatch(
        self, known: Versioned[OrderRecord], devices: Iterator[Listed], *, until: datetime | None = None
    ) -> Versioned[OrderRecord]:
        """Record an order's lines and send a message for each, from where an earlier attempt broke off.

        Args:
            known: the order, accepted.
            devices: all of its devices.
            until: when to stop, with what is left for the next message.
        """
        lines, watch = OrderLines(known.record, devices), known.record.watch
        for start in range(0, known.record.dispatched, _STEP):
            await self.threads.run(lines.skip, min(_STEP, known.record.dispatched - start))
        while batch := await self.threads.run(lines.take):
            await self.orders.insert_lines(batch)
            await self._send(batch)
            known = await self._change(known, _dispatched(batch[-1].line + 1))
            if known.record.watch != watch or (until is not None and self.clock() >= until):
                return known
            if len(batch) < PARTITION_LINES:
                break
        return await self._change(known, _all_dispatched)

    async def _send(self, lines: list[OrderLine]) -> None:
        gate = asyncio.Semaphore(_SENDERS)

        async def send(line: OrderLine) -> None:
            async with gate:
                if line.state is DeviceState.FAILED:
                    await self.registrations.announce_failed(line)
                else:
                    message = DeviceRegistration(order_id=line.order_id, line=line.line)
                    await self.outbox.order(Queue.DEVICE_REGISTRATIONS, message)

        async with asyncio.TaskGroup() as group:
            for line in lines:
                group.create_task(send(line))

    async def _dispatch_list(self, known: Versioned[OrderRecord]) -> Versioned[OrderRecord]:
        try:
            async with _turn(self.dispatching, known.record):
                return await self._dispatch(known, self._listed(known.record), until=self.clock() + _SLICE)
        except Rejected as rejection:
            return await self._cut_short(known, rejection)

    async def _cut_short(self, known: Versioned[OrderRecord], rejection: Rejected) -> Versioned[OrderRecord]:
        """End an order whose list can't be read any more: rejected, unless devices of it are on their way already."""
        order_id, reasons = known.record.order_id, rejection.documented()
        taken = sum((await self.orders.count(order_id)).values())
        batch: list[OrderLine] = []
        async for line in self.orders.lines(order_id, start=known.record.dispatched):
            batch.append(line)
            if len(batch) == PARTITION_LINES:
                await self._send(batch)
                batch = []
        await self._send(batch)
        await self.outbox.publish(
            EventType.REQUEST_REJECTED,
            subject=order_id,
            correlation_id=order_id,
            data={
                "queue": Queue.DEVICE_ORDERS,
                "kind": RejectionKind.REJECTED,
                "orderId": order_id,
                "reasons": reasons,
            },
            occasion=f"list {known.record.list_etag}",
        )
        return await self._change(known, _cut(taken, reasons))

    async def _announce_accepted(self, order: OrderRecord) -> None:
        await self.outbox.publish(
            EventType.ORDER_ACCEPTED,
            subject=order.order_id,
            correlation_id=order.order_id,
            data={
                "orderId": order.order_id,
                "enrollmentGroup": order.enrollment_group,
                "deviceCount": order.device_count,
            },
        )

    # --- watching ---

    async def watch(self, message: OrderWatch) -> None:
        """See to an order: carry on with its list, or look whether it is complete, and have it looked at again.

        Raises:
            Deferred: another large list is being read.
        """
        known = await self.orders.get(message.order_id)
        if known is None or known.record.state not in _OPEN:
            return
        if known.record.watch is None or message.watch > known.record.watch:
            # What sent it has not come to write it down, or broke off before it could.
            if not known.record.accepted_at - _CLOCKS_APART <= message.watch <= self.clock() + _CLOCKS_APART:
                return  # it is not one of this order's
            known = await self._change(known, _watched_by(message.watch, self.clock()))
        if message.watch == known.record.watch:
            await self._see_to(known)

    async def revive(self) -> int:
        """Have the orders watched whose message is long overdue, since it was lost; give how many there were."""
        revived = 0
        async for order in self.orders.unwatched(self.clock() - _OVERDUE):
            known = await self.orders.get(order.order_id)
            if known is not None and known.record.state in _OPEN and not self._watched(known.record):
                await self._hand_over(known, timedelta())
                revived += 1
        return revived

    def _watched(self, order: OrderRecord) -> bool:
        return order.watch_due is not None and self.clock() < order.watch_due + _OVERDUE

    async def _see_to(self, known: Versioned[OrderRecord]) -> None:
        watch = known.record.watch
        if known.record.state is OrderState.ACCEPTED and watch is None:
            # The order's own message, of which many may come, leaves its list to the one that watches.
            await self._hand_over(known, timedelta())
            return
        if known.record.state is OrderState.ACCEPTED:
            known = await self._dispatch_list(known)
        pause = timedelta()
        if known.record.state is OrderState.DISPATCHED:
            known, pause = await self._count(known)
        if known.record.state in _OPEN and known.record.watch == watch:
            await self._hand_over(known, pause)

    async def _hand_over(self, known: Versioned[OrderRecord], pause: timedelta) -> None:
        """Send the message that sees to an order next, and write down that it is the one."""
        now, last = self.clock(), known.record.watch
        watch = max(now, last + timedelta(microseconds=1)) if last else now
        await self.outbox.order(
            Queue.DEVICE_ORDERS, OrderWatch(order_id=known.record.order_id, watch=watch), delay=pause or None
        )
        await self._change(known, _watched_by(watch, now + pause))

    async def _count(self, known: Versioned[OrderRecord]) -> tuple[Versioned[OrderRecord], timedelta]:
        """Count an order's lines, and complete it if all are done; otherwise say when to look again."""
        order = known.record
        counts = await self.orders.count(order.order_id)
        remaining = sum(counts[state.value] for state in OPEN_STATES)
        if not remaining:
            await self._announce_completed(order, counts)
            return await self._change(known, _completed(counts, self.clock())), timedelta()
        low, high = _WATCH
        # Soon while devices pour in; the longer an order waits for a first boot, or is to count, the rarer.
        pause = max(low, remaining * _WATCH_PER_LINE, (self.clock() - order.accepted_at) / 8)
        pause = min(pause, max(high, order.device_count * _COUNT_PER_LINE))
        return await self._change(known, _counted(counts)), timedelta(seconds=ceil(pause.total_seconds()))

    async def _announce_completed(self, order: OrderRecord, counts: Mapping[str, int]) -> None:
        failed: list[dict[str, Any]] = []
        left = _FAILED_BYTES
        async for line in self.orders.failed_lines(order.order_id):
            entry = {"line": line.line, "registrationId": line.requested_id, "reason": (line.reason or "")[:1000]}
            left -= len(json.dumps(entry))
            if left < 0 or len(failed) == _FAILED_SHOWN:
                break
            failed.append(entry)
        await self.outbox.publish(
            EventType.ORDER_COMPLETED,
            subject=order.order_id,
            correlation_id=order.order_id,
            data={
                "orderId": order.order_id,
                "enrollmentGroup": order.enrollment_group,
                "progress": progress_of(counts, order.device_count),
                "failed": failed,
            },
        )

    async def _change(
        self, known: Versioned[OrderRecord], change: Callable[[OrderRecord], OrderRecord]
    ) -> Versioned[OrderRecord]:
        """Write a change of an order's row; if the row has changed since it was read, to what it is now."""
        while True:
            changed = change(known.record)
            if changed == known.record:
                return known
            replaced = await self.orders.replace(known, changed)
            if replaced is not None:
                return replaced
            present = await self.orders.get(known.record.order_id)
            if present is None:
                raise RuntimeError(f"order {known.record.order_id!r} was there a moment ago and is gone")
            known = present

    # --- reading ---

    async def describe(
        self, order_id: str, *, size: int | None = None, continuation: str | None = None
    ) -> dict[str, Any]:
        """Show an order with its progress and its lines.

        Args:
            order_id: of the order.
            size: lines of the page; without it, all lines if there are at most 5,000.
            continuation: of the page before.

        Raises:
            NotFound: the order does not exist; :class:`Refused`, if one of this id was refused.
            Rejected: the continuation is not valid.
        """
        known = await self.orders.get(order_id)
        if known is None:
            raise NotFound.because(f"the order {order_id!r} does not exist", field="orderId")
        order = known.record
        if order.state is OrderState.REJECTED and not order.fingerprint:
            raise Refused(order)
        whole = order.device_count <= SHOWN_LIMIT and size is None and continuation is None
        start = _start_of(continuation, order.device_count)
        end = None if whole else start + (size or PAGE_SIZE)
        lines = [line async for line in self.orders.lines(order_id, start=start, end=end)]
        following = start + len(lines)
        counts = _counts_of(lines) if whole else order.counts or {DeviceState.ORDERED.value: order.dispatched}
        shown = {
            "orderId": order.order_id,
            "enrollmentGroup": order.enrollment_group,
            "state": _STATES[order.state],
            "registerBy": order.register_by,
            "acceptedAt": order.accepted_at,
            "completedAt": order.completed_at,
            "reasons": order.reasons,
            "progress": progress_of(counts, order.device_count),
            "devices": [_described(line) for line in lines],
            "continuationToken": str(following) if lines and following < order.device_count else None,
        }
        optional = {"reasons", "continuationToken"}
        return {name: value for name, value in shown.items() if value is not None or name not in optional}


@asynccontextmanager
async def _turn(lock: asyncio.Lock, order: OrderRecord) -> AsyncIterator[None]:
    """Let one large list be read at a time.

    Raises:
        Deferred: another one is being read.
    """
    if order.list_size <= _LARGE:
        yield
        return
    if lock.locked():
        raise Deferred(f"order {order.order_id!r} waits: another large list is being read", retry_after=_BUSY)
    async with lock:
        yield


def _passed(devices: Iterator[Listed]) -> int:
    """Go past some devices of a list; give how many, none at the end."""
    return sum(1 for _, _ in zip(range(_STEP), devices, strict=False))


# --- changes of an order's row: each does nothing where it was done ---


def _dispatched(count: int) -> Callable[[OrderRecord], OrderRecord]:
    return lambda order: order.changed(dispatched=max(order.dispatched, count))


def _all_dispatched(order: OrderRecord) -> OrderRecord:
    return order.changed(state=OrderState.DISPATCHED) if order.state is OrderState.ACCEPTED else order


def _cut(taken: int, reasons: tuple[dict[str, str], ...]) -> Callable[[OrderRecord], OrderRecord]:
    def change(order: OrderRecord) -> OrderRecord:
        if order.state is not OrderState.ACCEPTED:
            return order
        if not taken:
            return order.changed(state=OrderState.REJECTED, watch_due=None, reasons=reasons)
        return order.changed(state=OrderState.DISPATCHED, device_count=taken, dispatched=taken, reasons=reasons)

    return change


def _watched_by(watch: datetime, due: datetime) -> Callable[[OrderRecord], OrderRecord]:
    def change(order: OrderRecord) -> OrderRecord:
        if order.state not in _OPEN or (order.watch is not None and order.watch >= watch):
            return order
        return order.changed(watch=watch, watch_due=due)

    return change


def _counted(counts: Mapping[str, int]) -> Callable[[OrderRecord], OrderRecord]:
    return lambda order: order.changed(counts=dict(counts)) if order.state is OrderState.DISPATCHED else order


def _completed(counts: Mapping[str, int], at: datetime) -> Callable[[OrderRecord], OrderRecord]:
    def change(order: OrderRecord) -> OrderRecord:
        if order.state is OrderState.COMPLETED:
            return order
        return order.changed(state=OrderState.COMPLETED, completed_at=at, counts=dict(counts), watch_due=None)

    return change


# --- what is shown ---


def progress_of(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Give an order's progress: its lines, by state."""
    return {"total": total, **{state.value: counts.get(state.value, 0) for state in _COUNTED}}


def _counts_of(lines: list[OrderLine]) -> dict[str, int]:
    return {state.value: sum(line.state is state for line in lines) for state in _COUNTED}


def _start_of(continuation: str | None, total: int) -> int:
    if continuation is None:
        return 0
    if not (continuation.isascii() and continuation.isdecimal() and len(continuation) <= len(str(total))):
        raise Rejected.because(
            f"{continuation[:100]!r} is not a continuation; give the one of the previous page, unchanged",
            field="continuationToken",
        )
    return int(continuation)


def _described(line: OrderLine) -> Mapping[str, Any]:
    shown = {
        "registrationId": line.registration_id or line.requested_id,
        "requestedAs": line.requested_id if line.requested_id != line.registration_id else None,
        "place": line.place or None,
        "state": line.state,
        "deviceId": line.device_id,
        "assignedHub": line.assigned_hub,
        "serialNumber": line.serial_number,
        "bundle": f"/api/devices/{line.registration_id}/bundle" if line.serial_number else None,
        "reason": line.reason,
        "finishedAt": line.finished_at,
    }
    return {name: value for name, value in shown.items() if value is not None}
