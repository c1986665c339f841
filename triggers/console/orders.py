"""Orders: how far each is, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.ids import path_value
from shared.contracts.messages import Queue
from triggers.console.pages import ROOT, page, redirect, rendered, segment
from triggers.http.endpoints import continuation_of, shown_continuation

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

_SHOWN = 50


@page("orders", known=("find", "continuationToken"))
async def console_orders(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show the orders, the latest first."""
    wanted = (request.params.get("find") or "").strip()
    if wanted:
        return redirect(f"{ROOT}/orders/{segment(path_value('orderId', wanted))}")
    items, following = await services.following.page(
        state=None, kind=Queue.DEVICE_ORDERS, since=None, size=_SHOWN, continuation=continuation_of(request)
    )
    return rendered("orders.html", items=items, following=shown_continuation(following))


@page("orders/{orderId}", known=("continuationToken",))
async def console_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show an order: its progress, and its lines in pages."""
    order = await services.order_answers.describe(
        path_value("orderId", request.route_params["orderId"]), size=_SHOWN, continuation=continuation_of(request)
    )
    return rendered("order.html", order=order, following=shown_continuation(order.get("continuationToken")))
