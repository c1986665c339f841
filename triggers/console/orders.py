"""Orders: how far each is, line by line."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import azure.functions as func

from shared.contracts.ids import path_value
from shared.contracts.orders import OrderAction
from shared.domain.orders import COMPLETED, UNDER_WAY, LineState, OrderState
from shared.errors import Rejected
from shared.workflows.devices.order_results import CSV, csv_of
from triggers.console.pages import ROOT, page, redirect, rendered, segment
from triggers.http.endpoints import chosen, continuation_of, shown_continuation
from triggers.http.paths import order_id_of
from triggers.http.scopes import by_group, of_order

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.services import Services

_SHOWN = 50
RESULT_LINES = 5000
"""Lines of an answer with results."""


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


@page("orders/{orderId}", known=("state", "continuationToken", "live"), scope=of_order)
async def console_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show an order: its progress, and its lines in pages."""
    state = chosen(request, "state", tuple(LineState))
    order = await services.order_answers.describe(
        order_id_of(request),
        state=state,
        size=_SHOWN,
        continuation=continuation_of(request),
    )
    progress = order.progress.model_dump()
    finished = finished_of(progress)
    now = services.clock()
    is_running = order.state in UNDER_WAY
    is_live = is_running and "live" in request.params
    shown = rendered(
        "order.html",
        order=order,
        counts=[(name, count) for name, count in progress.items() if name != "total"],
        acts=[act.value for act, states in _ACTS.items() if order.state in states],
        finished=finished,
        rate=rate(order.accepted_at, now, finished=finished) if order.state is OrderState.PROCESSING else None,
        ends=expected_end(order.accepted_at, now, finished=finished, total=progress["total"])
        if order.state is OrderState.PROCESSING
        else None,
        state_wanted=state or "",
        states=list(LineState),
        following=shown_continuation(order.continuation_token),
        is_running=is_running,
        is_live=is_live,
        refresh=_REFRESH,
        result_lines=RESULT_LINES,
        results=services.device_orders.results.urls(order.order_id) if order.state in _WITH_RESULTS else None,
    )
    if is_live:
        shown.headers["Refresh"] = str(_REFRESH)
    return shown


@page("order-results/{orderId}", scope=of_order)
async def console_order_results(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the results of an order as CSV, if they fit one answer; those of a longer one lie in a blob."""
    order = await services.order_answers.order(order_id_of(request))
    lines, following = await services.order_answers.page_of_lines(order, RESULT_LINES, None)
    if following is not None:
        where = services.device_orders.results.urls(order.order_id).csv
        raise Rejected.because(
            f"the order has {order.device_count} lines, and at most {RESULT_LINES} are given here: when it has ended, "
            f"all are in {where}"
        )
    name = order.order_id.replace(":", "_")
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return func.HttpResponse(csv_of(lines, header=True), mimetype=CSV, charset="utf-8", headers=headers)


def expected_end(began: datetime, now: datetime, *, finished: int, total: int) -> datetime | None:
    """Say when an order ends if it goes on as fast as it went so far; ``None`` while nobody can tell."""
    if not 0 < finished < total or now <= began:
        return None
    return now + (now - began) * (total - finished) / finished


def rate(began: datetime, now: datetime, *, finished: int) -> float | None:
    """Say how many devices a minute were finished so far; ``None`` while nobody can tell."""
    if finished == 0 or now <= began:
        return None
    return finished / ((now - began) / timedelta(minutes=1))


def finished_of(progress: Mapping[str, int]) -> int:
    """Count the lines of an order that nothing is to be done for any more."""
    return sum(progress.get(name, 0) for name in _FINISHED)


_ACTS: Mapping[OrderAction, frozenset[OrderState]] = {
    OrderAction.CANCEL: UNDER_WAY,
    OrderAction.CLOSE: frozenset({OrderState.WAITING}),
    OrderAction.RETRY: frozenset({OrderState.COMPLETED_WITH_FAILURES}),
}
"""What is offered in which states; whether it can be done is for the workflow to say."""

_WITH_RESULTS = COMPLETED | {OrderState.CANCELLED}
_REFRESH = 5
"""Seconds after which the page of an order comes anew, for who has asked for that (WCAG 2.2, 2.2.2 and 3.2.5)."""

_FINISHED = (LineState.REGISTERED, LineState.FAILED, LineState.CANCELLED)
