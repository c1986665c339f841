"""Deliveries of a request's message: which of them are at work, and which one may refuse the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.requests import DELIVERY_LASTS, ENDED, Delivery, begun, rejected

if TYPE_CHECKING:
    from datetime import datetime

    from shared.domain.requests import Change, RequestRecord


def taken_up(by: str, at: datetime, message: str | None = None) -> Change:
    """Enter that one more delivery of its message begins. A request that waits does so until something comes of it."""

    def change(request: RequestRecord) -> RequestRecord:
        if request.state in ENDED:
            return request
        number = request.deliveries + 1
        alive = tuple(each for each in request.at_work if each.began_at > at - DELIVERY_LASTS)
        at_work = (*alive, Delivery(number=number, by=by, began_at=at, message=message))
        shown = request if request.waits_by_itself else begun(request)
        return shown.changed(deliveries=number, at_work=at_work)

    return change


def has_left_it(begun_as: RequestRecord, after: RequestRecord, message: str | None) -> bool:
    """Tell whether a delivery may leave the verdict to one that began later.

    The later one's message must be there until it gives one, and so be another: who ends here deletes their own.

    Args:
        begun_as: the request when that delivery had begun.
        after: the request now.
        message: the queue's id of the message that was delivered.
    """
    return any(each.number > begun_as.deliveries and each.message != message for each in after.at_work)


def left(by: str) -> Change:
    """Enter that a delivery has ended, and the request has not."""

    def change(request: RequestRecord) -> RequestRecord:
        at_work = tuple(each for each in request.at_work if each.by != by)
        return request if len(at_work) == len(request.at_work) else request.changed(at_work=at_work)

    return change


def put_off(by: str, wait: Change) -> Change:
    """Enter that a delivery has ended, and what the request waits for."""
    return lambda request: wait(left(by)(request))


def refused_by(
    by: str, begun_as: RequestRecord, at: datetime, reasons: tuple[dict[str, str], ...], message: str | None
) -> Change:
    """Enter that it was refused by a delivery, if no other one can carry it out.

    Another one may have met a better moment: one that began later, or one that was at work when this one began.

    Args:
        by: that delivery.
        begun_as: the request when that delivery had begun.
        at: now.
        reasons: why it is refused.
        message: the queue's id of the message that was delivered.
    """

    def change(request: RequestRecord) -> RequestRecord:
        if begun_as.is_alone and request.deliveries == begun_as.deliveries:
            after = rejected(at, reasons)(request)
            return after if after is request else after.changed(refused_message=message)
        return left(by)(request)

    return change
