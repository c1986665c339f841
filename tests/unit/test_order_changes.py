"""What operators do to an order and to its lines: when it is done, when it was done before, and when it is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain import order_acts
from shared.domain.orders import Ending, LineState, OrderLine, OrderRecord, OrderState
from shared.domain.words import IssuedDevices, RegisterBy
from shared.errors import Conflict, Deferred
from tests.pki.hierarchy import NOW

if TYPE_CHECKING:
    from collections.abc import Callable


def order(state: OrderState = OrderState.PROCESSING, **fields: Any) -> OrderRecord:
    return OrderRecord(order_id="o", state=state, accepted_at=NOW, **fields)


def line(state: LineState = LineState.ORDERED, **fields: Any) -> OrderLine:
    given = {"registration_id": "press", **fields}
    return OrderLine(
        order_id="o", line=0, state=state, requested_id="press", enrollment_group="g",
        register_by=RegisterBy.SERVICE, accepted_at=NOW, **given,
    )  # fmt: skip


CANCEL = order_acts.cancelled_by("r1", IssuedDevices.KEEP)
CLOSE = order_acts.closed_by("r1")
RETRY = order_acts.retried_by("r1", NOW)


def test_an_order_under_way_is_cancelled_closed_or_tried_again() -> None:
    """It says by which request."""
    cancelled = CANCEL(order())
    assert (cancelled.ending, cancelled.issued, cancelled.ended_by) == (Ending.CANCEL, IssuedDevices.KEEP, "r1")
    closed = CLOSE(order())
    assert (closed.ending, closed.ended_by) == (Ending.CLOSE, "r1")
    failed = order(OrderState.COMPLETED_WITH_FAILURES, completed_at=NOW, ending=Ending.CLOSE, retries=1)
    again = RETRY(failed)
    assert (again.state, again.completed_at, again.ending, again.retries) == (OrderState.PROCESSING, None, None, 2)
    assert (again.retrying, again.retried_by, again.watch_due) == (True, "r1", NOW - timedelta(hours=1))
    assert not order_acts.retry_sent(again).retrying


@pytest.mark.parametrize(
    ("change", "record"),
    [
        (CANCEL, order(ending=Ending.CANCEL, ended_by="r1")),
        (CANCEL, order(OrderState.CANCELLED, ended_by="r1")),
        (CLOSE, order(ending=Ending.CLOSE, ended_by="r1")),
        (RETRY, order(retrying=True, retried_by="r1")),
    ],
)
def test_a_request_that_comes_again_changes_nothing(
    change: Callable[[OrderRecord], OrderRecord], record: OrderRecord
) -> None:
    assert change(record) is record


@pytest.mark.parametrize(
    ("change", "record", "message"),
    [
        (CANCEL, order(OrderState.COMPLETED),
         "order 'o' is completed; only an order that is under way can be cancelled; revoke its devices if they are "
         "not wanted any more"),
        (CANCEL, order(OrderState.REJECTED),
         "order 'o' is rejected; only an order that is under way can be cancelled"),
        (CANCEL, order(ending=Ending.CANCEL, ended_by="r0"), "order 'o' is being cancelled by request 'r0'"),
        (CLOSE, order(OrderState.COMPLETED), "order 'o' is completed; only an order that is under way can be closed"),
        (CLOSE, order(ending=Ending.CANCEL, ended_by="r0"), "order 'o' is being cancelled by request 'r0'"),
        (CLOSE, order(ending=Ending.CLOSE, ended_by="r0"), "order 'o' is being closed by request 'r0'"),
        (RETRY, order(ending=Ending.CANCEL), "order 'o' was cancelled; order its devices anew"),
        (RETRY, order(OrderState.COMPLETED), "order 'o' is completed; it has no failed line to try again"),
    ],
)  # fmt: skip
def test_an_act_that_comes_too_late_is_refused(
    change: Callable[[OrderRecord], OrderRecord], record: OrderRecord, message: str
) -> None:
    with pytest.raises(Conflict) as refused:
        change(record)
    assert str(refused.value) == message


def test_a_second_retry_waits_for_the_first() -> None:
    """Its lines are being sent at this moment."""
    with pytest.raises(Deferred, match="request 'r0' has failed lines tried again"):
        RETRY(order(OrderState.COMPLETED_WITH_FAILURES, retrying=True, retried_by="r0"))


def test_what_is_revoked_never_becomes_less() -> None:
    assert order_acts.revoked_until(5)(order(revoked=3)).revoked == 5
    assert order_acts.revoked_until(5)(order(revoked=7)).revoked == 7


LATE = NOW + timedelta(minutes=15, seconds=1)


@pytest.mark.parametrize(
    ("record", "at", "lies"),
    [
        (line(), LATE, False),
        (line(begun_at=NOW), LATE, True),
        (line(begun_at=NOW), NOW + timedelta(minutes=15), False),
        (line(LineState.ISSUED, begun_at=NOW), LATE, False),
        (line(LineState.FAILED, begun_at=NOW, finished_at=NOW), LATE, False),
    ],
)
def test_a_line_is_left_lying_a_quarter_of_an_hour_after_it_was_begun(
    record: OrderLine, at: Any, *, lies: bool
) -> None:
    """Only one without a certificate is; and only such a line is given up."""
    assert order_acts.left_lying(record, at) is lies
    assert (order_acts.given_up(at)(record).state is LineState.CANCELLED) is lies


def test_a_line_is_begun_once() -> None:
    assert order_acts.begun(NOW)(line()).begun_at == NOW
    assert order_acts.begun(LATE)(line(begun_at=NOW)).begun_at == NOW
    assert order_acts.begun(NOW)(line(LineState.ISSUED)).begun_at is None


def told(record: OrderLine) -> str:
    [said] = record.reasons or ({"message": ""},)
    return said["message"]


def test_a_line_of_a_cancelled_order_ends_unless_it_is_at_work() -> None:
    """One with a certificate says what becomes of it."""
    keep = order_acts.line_cancelled(NOW, IssuedDevices.KEEP)
    revoke = order_acts.line_cancelled(NOW, IssuedDevices.REVOKE)
    assert keep(line()).state is LineState.CANCELLED
    assert told(keep(line())) == "the order was cancelled before this device was made"
    assert keep(line(begun_at=NOW)) == line(begun_at=NOW)
    issued = line(LineState.ISSUED, awaits_device=True)
    assert told(keep(issued)) == "the order was cancelled; the device's certificate is kept"
    assert told(revoke(issued)) == "the order was cancelled; the device's certificate is revoked"
    assert (keep(issued).finished_at, keep(issued).awaits_device) == (NOW, False)
    over = line(LineState.FAILED, finished_at=NOW)
    assert keep(over) is over


def test_a_line_of_a_closed_order_ends_if_it_waits_for_its_device() -> None:
    close = order_acts.line_closed(NOW)
    assert told(close(line(LineState.ISSUED, awaits_device=True))) == (
        "the order was closed before the first boot of this device; its certificate is valid, and it can register"
    )
    for other in (line(), line(LineState.ISSUED)):
        assert close(other) is other


def test_only_a_line_that_failed_is_tried_again() -> None:
    """And not one that has no device, since what was ordered is wrong."""
    again = order_acts.tried_again(2)(line(LineState.FAILED, finished_at=NOW, reasons=({"field": "", "message": "m"},)))
    assert (again.state, again.attempt, again.reasons, again.finished_at) == (LineState.ORDERED, 2, None, None)
    for other in (line(), line(LineState.REGISTERED), line(LineState.FAILED, registration_id=None)):
        assert order_acts.tried_again(2)(other) is other
