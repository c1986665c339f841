"""Orders: taken apart into lines, which go their way, and watched until the last line is done.

An order's own message is answered when the order is accepted; what came with it is on its way by then. From then on one
message of the app's own sees to the order, and puts its successor into the queue before it ends: so an order can't be
lost, and however often it is posted, one message stands for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING, Protocol

from shared import acting
from shared.contracts.events_orders import FailedLine, OrderAccepted, OrderCompleted
from shared.contracts.messages import Queue
from shared.contracts.orders import OrderWatch
from shared.domain.orders import (
    DISPATCHED,
    UNDER_WAY,
    LineCounts,
    LineState,
    OrderRecord,
    OrderState,
    completed,
    counted,
    end_of,
    watched_by,
)
from shared.errors import Conflict, Deferred
from shared.ledger.table import Stale
from shared.workflows.devices.order_answers import progress_of
from shared.workflows.devices.order_lines import refuse_if_all_wrong
from shared.workflows.devices.order_lists import listed
from shared.workflows.intake.requests import asked_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from shared.contracts.orders import DeviceOrder
    from shared.ledger.orders import Orders
    from shared.ledger.table import Versioned
    from shared.workflows.devices.order_blobs import OrderBlobs
    from shared.workflows.devices.order_dispatch import OrderDispatch
    from shared.workflows.devices.order_endings import OrderEndings
    from shared.workflows.devices.order_progress import OrderProgressEvents
    from shared.workflows.devices.order_results import OrderResults
    from shared.workflows.devices.usable_groups import UsableGroups
    from shared.workflows.intake.outbox import Clock, Outbox

_WATCH_PER_LINE = timedelta(milliseconds=25)
_WATCH = (timedelta(seconds=1), timedelta(minutes=1))
_COUNT_PER_LINE = timedelta(milliseconds=1)
_OVERDUE = timedelta(minutes=15)
_AHEAD = timedelta(days=1)
"""No message that sees to an order is due later."""

_BUSY = timedelta(seconds=5)
_CLOCKS_APART = timedelta(minutes=5)
_FAILED_SHOWN = 100
_FAILED_BYTES = 32 * 1024


class OrderTrail(Protocol):
    """Writes down that orders are taken in."""

    async def ordered(self, order_id: str, group: str, at: datetime) -> None:
        """Write down that an order was taken in; repeated, it adds nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOrders:
    """Takes orders in and sees them through."""

    orders: Orders
    groups: UsableGroups
    lists: OrderBlobs
    dispatch: OrderDispatch
    endings: OrderEndings
    results: OrderResults
    progress: OrderProgressEvents
    outbox: Outbox
    clock: Clock
    trail: OrderTrail | None = None

    async def advance(self, order: DeviceOrder) -> None:
        """Take an order in, and see to it that a message watches it.

        Raises:
            Rejected: the order as a whole can't be carried out.
            Deferred: its group is being made, or another large list is being read.
        """
        known = await self.check_unchanged(order)
        if known is not None:
            await self.orders.note(known.record)  # who accepted it may have died before
        known = known or await self._accept(order)
        is_new = known.record.state is OrderState.ACCEPTED and not known.record.is_cancelled
        if is_new and order.devices is not None:
            known = await self.dispatch.carry_on(known, listed(order.devices))
        if known.record.state in UNDER_WAY and not self.is_watched(known.record):
            await self._write_down(known.record)
            await self._announce_accepted(known.record)
            await self._see_to(known)

    async def check(self, order: DeviceOrder) -> None:
        """Refuse what can be seen not to succeed; a wrong device fails alone, unless all of them are.

        Raises:
            Rejected: the list can't be read, or no device can be had.
            NotFound: the group or the list does not exist.
            Deferred: the group is being made.
        """
        await self.groups.get(order.enrollment_group)
        if order.devices is not None:
            refuse_if_all_wrong(order.devices)
        if order.devices_url is not None:
            await self.lists.check(str(order.devices_url))

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
        await self.groups.get(order.enrollment_group)
        record = OrderRecord(
            order_id=order.order_id,
            fingerprint=order.fingerprint,
            state=OrderState.ACCEPTED,
            enrollment_group=order.enrollment_group,
            register_by=order.register_by,
            validity_days=order.validity_days,
            progress_every=order.progress_events.every if order.progress_events else None,
            device_count=len(order.devices or ()),
            accepted_at=self.clock(),
            actor=asked_by(order.order_id),
            comment=acting.comment(),
        )
        if order.devices_url is not None:
            record = await self.lists.noted(record, str(order.devices_url))
        known = await self._enter(record)
        # Its answer may be lost, or another delivery was faster: what is there says it.
        known = known or await self.check_unchanged(order)
        if known is None:
            raise Deferred(f"order {order.order_id!r} is being changed by another message", retry_after=_BUSY)
        return known

    async def _enter(self, record: OrderRecord) -> Versioned[OrderRecord] | None:
        """Record an order, also where one of its id was refused; ``None`` if somebody else has recorded one."""
        refused = await self.orders.get(record.order_id)
        try:
            if refused is None or refused.record.state is not OrderState.REJECTED:
                return await self.orders.insert(record)
            return await self.orders.replace(refused, record)
        except Stale:
            return None

    async def _write_down(self, order: OrderRecord) -> None:
        if self.trail is not None:
            await self.trail.ordered(order.order_id, order.enrollment_group, order.accepted_at)

    async def _announce_accepted(self, order: OrderRecord) -> None:
        await self.outbox.publish(
            OrderAccepted(
                order_id=order.order_id,
                enrollment_group=order.enrollment_group,
                device_count=order.device_count,
            ),
            subject=order.order_id,
            correlation_id=order.order_id,
        )

    # --- watching ---

    async def watch(self, message: OrderWatch) -> None:
        """See to an order: carry on with its list, or look whether it is complete, and have it looked at again.

        Raises:
            Deferred: another large list is being read.
        """
        known = await self.orders.get(message.order_id)
        if known is None:
            return
        if known.record.state not in UNDER_WAY:
            await self.orders.note(known.record)  # who ended it may have died before
            return
        if known.record.watch is None or message.watch > known.record.watch:
            # What sent it has not come to write it down, or broke off before it could.
            if not known.record.accepted_at - _CLOCKS_APART <= message.watch <= self.clock() + _CLOCKS_APART:
                return  # it is not one of this order's
            known = await self.orders.change(known, watched_by(message.watch, self.clock()))
        if message.watch == known.record.watch:
            await self._see_to(known)

    async def revive(self) -> int:
        """Have the orders watched whose message is long overdue, since it was lost; give how many there were."""
        revived = 0
        async for known in self._due(self.clock() - _OVERDUE):
            if not self.is_watched(known.record):
                await self._hand_over(known, timedelta())
                revived += 1
        return revived

    async def send_again(self) -> int:
        """Send the messages of orders under way again: a ledger was put back, or a queue lost, and they may be gone.

        Whoever gets a message a second time finds what is left to do.

        Returns:
            How many orders there were.
        """
        sent = 0
        async for known in self._due(self.clock() + _AHEAD):
            await self.dispatch.send_open(known.record.order_id)
            await self._hand_over(known, timedelta())
            sent += 1
        return sent

    async def _due(self, at: datetime) -> AsyncIterator[Versioned[OrderRecord]]:
        """Give the orders under way whose message is due by a time, each as it is now."""
        async for order in self.orders.unwatched(at):
            known = await self.orders.get(order.order_id)
            if known is not None and known.record.state in UNDER_WAY:
                yield known

    def is_watched(self, order: OrderRecord) -> bool:
        """Tell whether a message sees to an order, or may still come."""
        return order.watch_due is not None and self.clock() < order.watch_due + _OVERDUE

    async def see_to_ending(self, known: Versioned[OrderRecord]) -> None:
        """Bring an order to what an operator wants of it, unless its lines are still being recorded and wanted."""
        if known.record.is_cancelled or known.record.state in DISPATCHED:
            await self._see_to(known)

    async def _see_to(self, known: Versioned[OrderRecord]) -> None:
        watch = known.record.watch
        if known.record.state is OrderState.ACCEPTED and not known.record.is_cancelled:
            if watch is None:
                # The order's own message, of which many may come, leaves its list to the one that watches.
                await self._hand_over(known, timedelta())
                return
            known = await self.dispatch.carry_on_with_list(known)
        pause = timedelta()
        # Of a cancelled order, lines may still be recorded: who takes up their message looks at the order.
        if known.record.state in DISPATCHED or (known.record.is_cancelled and known.record.state in UNDER_WAY):
            known, pause = await self._count(known)
        if known.record.state in UNDER_WAY and known.record.watch == watch:
            await self._hand_over(known, pause)

    async def _hand_over(self, known: Versioned[OrderRecord], pause: timedelta) -> None:
        """Send the message that sees to an order next, and write down that it is the one."""
        now, last = self.clock(), known.record.watch
        watch = max(now, last + timedelta(microseconds=1)) if last else now
        await self.outbox.send(
            Queue.DEVICE_ORDERS, OrderWatch(order_id=known.record.order_id, watch=watch), delay=pause or None
        )
        await self.orders.change(known, watched_by(watch, now + pause))

    async def _count(self, known: Versioned[OrderRecord]) -> tuple[Versioned[OrderRecord], timedelta]:
        """Count an order's lines, and complete it if all are done; otherwise say when to look again."""
        known = await self.endings.follow(known)
        order = known.record
        counts = await self.orders.count(order.order_id)
        if not counts.left:
            # Lines that are done may be so because it was cancelled since it was read: then that is what is told.
            present = await self.orders.get(order.order_id)
            if present is not None and present.record.ending is not order.ending:
                return await self._count(present)
            known = await self.endings.revoke(known)
            with acting.acting(*await self.endings.by_whom(order)):
                await self._announce_completed(order, counts)
            return await self.orders.change(known, completed(counts, order, self.clock())), timedelta()
        low, high = _WATCH
        # Soon while devices pour in; the longer an order waits for a first boot, or is to count, the rarer.
        pause = max(low, counts.left * _WATCH_PER_LINE, (self.clock() - order.accepted_at) / 8)
        if order.is_cancelled:
            high = _BUSY
        pause = min(pause, max(high, order.device_count * _COUNT_PER_LINE))
        known = await self.orders.change(known, counted(counts))
        with acting.acting(*await self.endings.by_whom(order)):
            known = await self.progress.tell(known, counts)
        return known, timedelta(seconds=ceil(pause.total_seconds()))

    async def _announce_completed(self, order: OrderRecord, counts: LineCounts) -> None:
        state = end_of(order, counts)
        results = await self.results.write(order.order_id, state)
        failed: list[FailedLine] = []
        left = _FAILED_BYTES
        async for known in self.orders.lines_in(order.order_id, LineState.FAILED):
            line = known.record
            entry = FailedLine(line=line.line, registration_id=line.requested_id, reason=(line.reason or "")[:1000])
            left -= len(json.dumps(entry.model_dump(by_alias=True)))
            if left < 0 or len(failed) == _FAILED_SHOWN:
                break
            failed.append(entry)
        await self.outbox.publish(
            OrderCompleted(
                order_id=order.order_id,
                enrollment_group=order.enrollment_group,
                state=state,
                progress=progress_of(counts.by_state, order),
                failed=failed,
                failed_not_listed=counts.by_state.get(LineState.FAILED, 0) - len(failed),
                results=results.csv,
                results_json=results.json,
            ),
            subject=order.order_id,
            correlation_id=order.order_id,
            occasion=_occasion(order),
        )


def _occasion(order: OrderRecord) -> str:
    """Tell the ends of an order apart, of which it has several if it is tried again."""
    if order.is_cancelled:
        return "cancelled"
    return f"again {order.retries}" if order.retries else ""
