"""Orders: how far each is, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.ids import path_value
from shared.contracts.orders import OrderAction
from shared.domain.orders import UNDER_WAY, LineState, OrderState
from triggers.console.pages import ROOT, page, redirect, rendered, segment
from triggers.http.endpoints import chosen, continuation_of, order_id_of, shown_continuation
from triggers.http.scopes import by_group, of_order

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import azure.functions as func

    from shared.services import Services

_SHOWN = 50


@page("orders", known=("find", "group", "state", "continuationToken"), scope=by_group)
async def console_orders(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List orders, the latest first."""
    wanted = (request.params.get("find") or "").strip()
    if wanted:
        return redirect(f"{ROOT}/orders/{segment(path_value('orderId', wanted))}")
    state = chosen(request, "state", tuple(OrderState))
    group = (request.params.get("group") or "").strip()
    items, following = await services.order_answers.page(
        state=state,
        group=path_value("enrollmentGroup", group) if group else None,
        since=None,
        size=_SHOWN,
        continuation=continuation_of(request),
    )
    return rendered(
        "orders.html",
        group=group,
        state_wanted=state or "",
        states=list(OrderState),
        items=items,
        following=shown_continuation(following),
    )


@page("orders/{orderId}", known=("state", "continuationToken"), scope=of_order)
async def console_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show an order: its progress, and its lines in pages."""
    state = chosen(request, "state", tuple(LineState))
    order = await services.order_answers.describe(
        order_id_of(request),
        state=state,
        size=_SHOWN,
        continuation=continuation_of(request),
    )
    progress = order["progress"]
    finished = sum(progress.get(name, 0) for name in _FINISHED)
    now = services.clock()
    return rendered(
        "order.html",
        order=order,
        counts=[(name, count) for name, count in progress.items() if name != "total"],
        acts=[act.value for act, states in _ACTS.items() if order["state"] in states],
        finished=finished,
        ends=expected_end(order["acceptedAt"], now, finished=finished, total=progress["total"])
        if order["state"] == OrderState.PROCESSING
        else None,
        state_wanted=state or "",
        states=list(LineState),
        following=shown_continuation(order.get("continuationToken")),
    )


def expected_end(began: datetime, now: datetime, *, finished: int, total: int) -> datetime | None:
    """Say when an order ends if it goes on as fast as it went so far; ``None`` while nobody can tell."""
    if not 0 < finished < total or now <= began:
        return None
    return now + (now - began) * (total - finished) / finished


_ACTS: Mapping[OrderAction, frozenset[OrderState]] = {
    OrderAction.CANCEL: UNDER_WAY,
    OrderAction.CLOSE: frozenset({OrderState.WAITING}),
    OrderAction.RETRY: frozenset({OrderState.COMPLETED_WITH_FAILURES}),
}
"""What is offered in which states; whether it can be done is for the workflow to say."""

_FINISHED = (LineState.REGISTERED, LineState.FAILED, LineState.CANCELLED)
