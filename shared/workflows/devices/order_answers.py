"""Orders as they are shown: progress, and lines in pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contracts.answers_devices import ListedOrder, Order, OrderedDevice
from shared.contracts.base import stated
from shared.contracts.events_orders import OrderProgress
from shared.domain.orders import LineState, OrderRecord, OrderState
from shared.errors import Rejected
from shared.workflows.devices.unknown import unknown_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from shared.domain.orders import OrderLine
    from shared.ledger.orders import Orders

SHOWN_LIMIT = 5000
"""Lines that an order shows at once; those of a longer one come in pages."""

PAGE_SIZE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAnswers:
    """Shows orders."""

    orders: Orders

    async def describe(
        self,
        order_id: str,
        *,
        state: LineState | None = None,
        size: int | None = None,
        continuation: str | None = None,
    ) -> Order:
        """Show an order with its progress and its lines.

        Args:
            order_id: of the order.
            state: only lines in this state.
            size: lines of the page; without it, all lines if there are at most 5,000.
            continuation: of the page before.

        Raises:
            NotFound: the order does not exist.
            Rejected: the continuation is not valid.
        """
        order = await self.order(order_id)
        counts = _recorded(order)
        lines: Sequence[OrderLine]
        if state is not None:
            lines, following = await self.orders.page_of_lines(
                order_id, state, size=size or PAGE_SIZE, continuation=continuation
            )
        else:
            whole = order.device_count <= SHOWN_LIMIT and size is None and continuation is None
            lines, following = await self.page_of_lines(
                order, order.device_count if whole else size or PAGE_SIZE, continuation
            )
            counts = _counts_of(lines) if whole else counts
        return Order(
            order_id=order.order_id,
            enrollment_group=order.enrollment_group or None,
            state=order.state,
            register_by=order.register_by,
            accepted_at=order.accepted_at,
            completed_at=order.completed_at,
            reasons=stated(order.reasons) if order.reasons is not None else None,
            progress=progress_of(counts, order),
            devices=[_described(line) for line in lines],
            continuation_token=following,
        ).sparse()

    async def progress(self, order_id: str) -> OrderProgress:
        """Count the lines of an order by state, as its row has them: one read.

        Raises:
            NotFound: the order does not exist.
        """
        order = await self.order(order_id)
        return progress_of(_recorded(order), order)

    async def page_of_lines(
        self, order: OrderRecord, size: int, continuation: str | None
    ) -> tuple[Sequence[OrderLine], str | None]:
        """List one page of an order's lines, and the continuation of the next.

        Raises:
            Rejected: the continuation is not valid.
        """
        start = _start_of(continuation, order.device_count)
        lines = [line async for line in self.orders.lines(order.order_id, start=start, end=start + size)]
        end = start + len(lines)
        return lines, str(end) if lines and end < order.device_count else None

    async def order(self, order_id: str) -> OrderRecord:
        """Find an order; one that was refused is ``rejected``, and its id is free.

        Raises:
            NotFound: it does not exist.
        """
        known = await self.orders.get(order_id)
        if known is None:
            raise unknown_order(order_id)
        return known.record

    async def page(
        self,
        *,
        state: OrderState | None,
        group: str | None,
        since: datetime | None,
        size: int,
        continuation: str | None,
    ) -> tuple[list[ListedOrder], str | None]:
        """List a page of orders, the latest first."""
        found, following = await self.orders.page(
            state=state, group=group, since=since, size=size, continuation=continuation
        )
        return [
            ListedOrder(
                order_id=each.order_id,
                state=each.state,
                enrollment_group=each.enrollment_group or None,
                device_count=each.device_count,
                accepted_at=each.accepted_at,
                completed_at=each.completed_at,
                location=f"/api/device-orders/{each.order_id}",
            )
            for each in found
        ], following


def progress_of(counts: Mapping[str, int], order: OrderRecord) -> OrderProgress:
    """Give an order's progress: its lines, by state. What was not recorded when it was cancelled is cancelled."""
    total = order.device_count
    if order.is_cancelled:
        counted = {state.value: counts.get(state.value, 0) for state in LineState if state is not LineState.CANCELLED}
        counts = {**counted, LineState.CANCELLED: total - sum(counted.values())}
    return OrderProgress(total=total, **{state.value: counts.get(state.value, 0) for state in LineState})


def _recorded(order: OrderRecord) -> Mapping[str, int]:
    return order.counts or {LineState.ORDERED.value: order.dispatched}


def _counts_of(lines: Sequence[OrderLine]) -> dict[str, int]:
    return {state.value: sum(line.state is state for line in lines) for state in LineState}


def _start_of(continuation: str | None, total: int) -> int:
    if continuation is None:
        return 0
    if not (continuation.isascii() and continuation.isdecimal() and len(continuation) <= len(str(total))):
        raise Rejected.because(
            f"{continuation[:100]!r} is not a continuation; give the one of the previous page, unchanged",
            field="continuationToken",
        )
    return int(continuation)


def _described(line: OrderLine) -> OrderedDevice:
    return OrderedDevice(
        registration_id=line.registration_id or line.requested_id,
        requested_as=line.requested_id if line.requested_id != line.registration_id else None,
        place=line.place or None,
        state=line.state,
        device_id=line.device_id,
        assigned_hub=line.assigned_hub,
        serial_number=line.serial_number,
        bundle=f"/api/devices/{line.registration_id}/bundle" if line.serial_number else None,
        reason=line.reason,
        finished_at=line.finished_at,
    ).sparse()
