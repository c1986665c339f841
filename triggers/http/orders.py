"""Orders of devices."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from shared.contracts.answers_devices import Order, OrderPage, OrderResultPage, RefusedOrder
from shared.contracts.ids import EnrollmentGroupId, path_value
from shared.contracts.messages import Queue
from shared.contracts.orders import DeviceOrder, DeviceOrderSchema, OrderAct, OrderAction, OrderCancellation
from shared.contracts.parsing import parse
from shared.domain.orders import LineState, OrderState
from shared.reading.times import point_in_time
from shared.workflows.devices.order_answers import Refused
from shared.workflows.devices.order_results import CSV, csv_of, result_of
from shared.workflows.intake.following import location_of
from triggers import outcomes
from triggers.http.endpoints import (
    CONTINUATION,
    PAGING,
    QUEUED,
    accepted,
    body_of,
    chosen,
    continuation_of,
    endpoint,
    is_new,
    json_answer,
    page_answer,
    page_size_of,
    queued,
    request_id_of,
    shown_continuation,
)
from triggers.openapi import IDEMPOTENCY_KEY, Answer, Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.domain.orders import OrderLine, OrderRecord
    from shared.domain.words import IssuedDevices
    from shared.services import Services


@endpoint("POST", "device-orders", answers=[QUEUED], refuses={404, 409}, body=DeviceOrderSchema)
async def create_device_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Order devices; orderId is the idempotency key."""
    way_out = ": put the devices of a large order into a blob and name it in devicesUrl"
    order = parse(DeviceOrder, body_of(request, way_out=way_out))
    if await services.device_orders.check_unchanged(order) is None:
        await services.usable_groups.get(order.enrollment_group)
    sent = services.outbox.order(Queue.DEVICE_ORDERS, order)
    await services.following.order_accepted(order.order_id, order.fingerprint, sent)
    return accepted(order, location_of(Queue.DEVICE_ORDERS, order.order_id))


@endpoint(
    "GET",
    "device-orders/{orderId}",
    answers=[Answer(200, "the order", (Order,))],
    refuses={404: RefusedOrder},
    parameters=(Parameter("state", "only the lines in this state", LineState), *PAGING),
)
async def get_device_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show an order: its progress, and its devices; those of more than 5,000, or of a state, come in pages."""
    try:
        described = await services.order_answers.describe(
            path_value("orderId", request.route_params["orderId"]),
            state=chosen(request, "state", tuple(LineState)),
            size=page_size_of(request) if "pageSize" in request.params else None,
            continuation=continuation_of(request),
        )
    except Refused as refused:
        return _refused(refused)
    following = described.get("continuationToken")
    return json_answer(
        Order, {**described, "continuationToken": shown_continuation(following)} if following else described
    )


@endpoint(
    "GET",
    "device-orders",
    answers=[Answer(200, "a page of orders", (OrderPage,))],
    parameters=(
        Parameter("state", "only those in this state", OrderState),
        Parameter("group", "only of this enrollment group", EnrollmentGroupId),
        Parameter("since", "only those that came since this time (RFC 3339)"),
        *PAGING,
    ),
)
async def list_device_orders(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List orders, the latest first."""
    group, since = request.params.get("group"), request.params.get("since")
    items, following = await services.order_answers.page(
        state=chosen(request, "state", tuple(OrderState)),
        group=path_value("enrollmentGroup", group) if group else None,
        since=point_in_time(since, field="since") if since else None,
        size=page_size_of(request),
        continuation=continuation_of(request),
    )
    return page_answer(OrderPage, items, following)


@endpoint(
    "POST",
    "device-orders/{orderId}/cancel",
    answers=[QUEUED],
    refuses={404, 409},
    body=OrderCancellation,
    body_required=False,
    parameters=(IDEMPOTENCY_KEY,),
)
async def cancel_device_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Cancel an order: what has not begun is not begun, and what is issued is kept or revoked."""
    issued = parse(OrderCancellation, body_of(request, optional=True)).issued
    return await _act(services, request, OrderAction.CANCEL, issued=issued)


@endpoint(
    "POST",
    "device-orders/{orderId}/close",
    answers=[QUEUED],
    refuses={404, 409},
    parameters=(IDEMPOTENCY_KEY,),
)
async def close_device_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Close an order: it completes without waiting for first boots of devices."""
    return await _act(services, request, OrderAction.CLOSE)


@endpoint(
    "POST",
    "device-orders/{orderId}/retry",
    answers=[QUEUED],
    refuses={404, 409},
    parameters=(IDEMPOTENCY_KEY,),
)
async def retry_device_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Try the failed lines of an order again."""
    return await _act(services, request, OrderAction.RETRY)


async def _act(
    services: Services, request: func.HttpRequest, action: OrderAction, **further: IssuedDevices
) -> func.HttpResponse:
    order_id = path_value("orderId", request.route_params["orderId"])
    act = OrderAct(request_id=request_id_of(request), order_id=order_id, action=action, **further)
    if await is_new(services, Queue.DEVICE_ORDERS, act):
        await services.order_requests.check(act)
    return await queued(services, Queue.DEVICE_ORDERS, act)


# --- results ---

_RESULT_LINES = 5000
"""Lines of an answer with results."""


@endpoint(
    "GET",
    "device-orders/{orderId}/results.csv",
    answers=[
        Answer(200, "a page of the results", (CSV,), (("Link", "the next page, with `rel=next` (RFC 8288)"),)),
    ],
    refuses={404: RefusedOrder},
    parameters=(CONTINUATION,),
)
async def get_order_results_csv(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give what became of the devices of an order, 5,000 lines at a time; the first page has the header."""
    try:
        order, lines, following = await _results(services, request)
    except Refused as refused:
        return _refused(refused)
    text = csv_of(lines, header=not request.params.get("continuationToken"))
    headers = {"Content-Disposition": f'attachment; filename="{order.order_id.replace(":", "_")}.csv"'}
    if following:
        path = f"/api/device-orders/{order.order_id}/results.csv"
        headers["Link"] = f'<{path}?continuationToken={shown_continuation(following)}>; rel="next"'
    return func.HttpResponse(text, mimetype=CSV, charset="utf-8", headers=headers)


@endpoint(
    "GET",
    "device-orders/{orderId}/results.json",
    answers=[Answer(200, "a page of the results", (OrderResultPage,))],
    refuses={404: RefusedOrder},
    parameters=(CONTINUATION,),
)
async def get_order_results_json(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give what became of the devices of an order, 5,000 lines at a time."""
    try:
        order, lines, following = await _results(services, request)
    except Refused as refused:
        return _refused(refused)
    return json_answer(
        OrderResultPage,
        {
            "orderId": order.order_id,
            "state": order.state,
            "items": [result_of(line) for line in lines],
            "continuationToken": shown_continuation(following),
        },
    )


async def _results(
    services: Services, request: func.HttpRequest
) -> tuple[OrderRecord, Sequence[OrderLine], str | None]:
    order = await services.order_answers.order(path_value("orderId", request.route_params["orderId"]))
    lines, following = await services.order_answers.page_of_lines(order, _RESULT_LINES, continuation_of(request))
    return order, lines, following


def _refused(refused: Refused) -> func.HttpResponse:
    return outcomes.problem(
        HTTPStatus.NOT_FOUND, str(refused), errors=refused.documented(), model=RefusedOrder, more=refused.shown
    )
