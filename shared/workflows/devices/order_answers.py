"""Orders as they are shown: progress, and lines in pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.contracts.base import timestamp
from shared.domain.orders import OrderRecord, OrderState
from shared.domain.words import DeviceState
from shared.errors import NotFound, Reason, Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.domain.orders import OrderLine
    from shared.ledger.orders import Orders

SHOWN_LIMIT = 5000
"""Lines that an order shows at once; those of a longer one come in pages."""

PAGE_SIZE = 100

_COUNTED = (DeviceState.ORDERED, DeviceState.ISSUED, DeviceState.REGISTERED, DeviceState.FAILED)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAnswers:
    """Shows orders."""

    orders: Orders

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
