"""What operators do to an order: acts on its record, and what follows for its lines."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.orders import COMPLETED, UNDER_WAY, Ending, LineState, OrderLine, OrderRecord, OrderState
from shared.domain.words import IssuedDevices
from shared.errors import Conflict, Deferred, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    type OrderChange = Callable[[OrderRecord], OrderRecord]
    type LineChange = Callable[[OrderLine], OrderLine]

_BEGUN_AND_LEFT = timedelta(minutes=15)
"""A line that was begun so long ago, and has no certificate, is not at work: a service is down, or it was set aside."""

_OVERDUE = timedelta(hours=1)
"""An order that had ended has no message that sees to it; whoever looks first sends one."""

_BUSY = timedelta(seconds=5)


def cancelled_by(request_id: str, issued: IssuedDevices) -> OrderChange:
    """Cancel an order: what has not begun is not begun, and what is issued is kept or revoked.

    Raises:
        Conflict: the order is not under way, or is being cancelled already.
    """

    def change(order: OrderRecord) -> OrderRecord:
        if order.ended_by == request_id:
            return order
        if order.state not in UNDER_WAY:
            raise _not_under_way(order, "cancelled")
        if order.ending is Ending.CANCEL:
            raise Conflict.because(f"order {order.order_id!r} is being cancelled by request {order.ended_by!r}")
        return order.changed(ending=Ending.CANCEL, issued=issued, ended_by=request_id)

    return change


def closed_by(request_id: str) -> OrderChange:
    """Close an order: it does not wait for first boots of devices.

    Raises:
        Conflict: the order is not under way, or is being cancelled.
    """

    def change(order: OrderRecord) -> OrderRecord:
        if order.ended_by == request_id:
            return order
        if order.state not in UNDER_WAY:
            raise _not_under_way(order, "closed")
        if order.ending is not None:
            verb = "cancelled" if order.ending is Ending.CANCEL else "closed"
            raise Conflict.because(f"order {order.order_id!r} is being {verb} by request {order.ended_by!r}")
        return order.changed(ending=Ending.CLOSE, ended_by=request_id)

    return change


def _not_under_way(order: OrderRecord, what: str) -> Rejected:
    done = order.state in COMPLETED
    advice = "; revoke its devices if they are not wanted any more" if done and what == "cancelled" else ""
    return Conflict.because(
        f"order {order.order_id!r} is {order.state}; only an order that is under way can be {what}{advice}"
    )


def retried_by(request_id: str, at: datetime) -> OrderChange:
    """Have the failed lines of an order tried again.

    Raises:
        Conflict: the order has no failed line, is cancelled, or its lines are still being recorded.
        Deferred: failed lines are being sent at this moment.
    """

    def change(order: OrderRecord) -> OrderRecord:
        if order.retried_by == request_id:
            return order
        if order.ending is Ending.CANCEL:
            raise Conflict.because(f"order {order.order_id!r} was cancelled; order its devices anew")
        if order.state in {OrderState.ACCEPTED, OrderState.COMPLETED, OrderState.REJECTED}:
            raise Conflict.because(f"order {order.order_id!r} is {order.state}; it has no failed line to try again")
        if order.retrying:
            raise Deferred(f"request {order.retried_by!r} has failed lines tried again", retry_after=_BUSY)
        return order.changed(
            state=OrderState.PROCESSING,
            completed_at=None,
            ending=None if order.state in COMPLETED else order.ending,
            watch_due=order.watch_due or at - _OVERDUE,
            retries=order.retries + 1,
            retrying=True,
            retried_by=request_id,
            progress=None,
        )

    return change


def retry_sent(order: OrderRecord) -> OrderRecord:
    """Enter that the failed lines are on their way again."""
    return order.changed(retrying=False)


def revoked_until(line: int) -> OrderChange:
    """Enter that the devices of the first lines are being revoked."""
    return lambda order: order.changed(revoked=max(order.revoked, line))


# --- lines ---


def begun(at: datetime) -> LineChange:
    """Enter that a line is at work: from now on it goes on, whatever becomes of its order."""

    def change(line: OrderLine) -> OrderLine:
        if not line.is_open or line.state is not LineState.ORDERED or line.begun_at is not None:
            return line
        return line.changed(begun_at=at)

    return change


def left_lying(line: OrderLine, at: datetime) -> bool:
    """Tell whether a line was begun, and nobody has been heard of since."""
    if not line.is_open or line.state is not LineState.ORDERED or line.begun_at is None:
        return False
    return line.begun_at < at - _BEGUN_AND_LEFT


def line_cancelled(at: datetime, issued: IssuedDevices | None) -> LineChange:
    """End a line of an order that is cancelled; one that is at work goes on until it has its certificate."""

    def change(line: OrderLine) -> OrderLine:
        if not line.is_open:
            return line
        if line.state is LineState.ISSUED:
            kept = "is revoked" if issued is IssuedDevices.REVOKE else "is kept"
            said = Rejected.because(f"the order was cancelled; the device's certificate {kept}").documented()
            return line.changed(finished_at=at, awaits_device=False, reasons=said)
        return _not_made(line, at) if line.begun_at is None else line

    return change


def given_up(at: datetime) -> LineChange:
    """End a line of an order that is cancelled, which was begun, and nobody has been heard of since."""
    return lambda line: _not_made(line, at) if left_lying(line, at) else line


def _not_made(line: OrderLine, at: datetime) -> OrderLine:
    said = Rejected.because("the order was cancelled before this device was made").documented()
    return line.changed(state=LineState.CANCELLED, finished_at=at, reasons=said)


def line_closed(at: datetime) -> LineChange:
    """End a line that waits for the first boot of its device."""

    def change(line: OrderLine) -> OrderLine:
        if not (line.is_open and line.state is LineState.ISSUED and line.awaits_device):
            return line
        said = Rejected.because(
            "the order was closed before the first boot of this device; its certificate is valid, and it can register"
        ).documented()
        return line.changed(finished_at=at, awaits_device=False, reasons=said)

    return change


def tried_again(attempt: int) -> LineChange:
    """Have a line that failed begin anew; what is wrong as it was ordered stays so."""

    def change(line: OrderLine) -> OrderLine:
        if line.state is not LineState.FAILED or line.registration_id is None:
            return line
        return line.changed(
            state=LineState.ORDERED, attempt=attempt, reasons=None, refusal=None, finished_at=None, begun_at=None
        )

    return change
