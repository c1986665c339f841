"""Orders of devices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import azure.functions as func
from pydantic import Field

from shared.contracts.answers_bundles import BundleFormat
from shared.contracts.answers_devices import Order, OrderPage, OrderResultPage
from shared.contracts.ids import EnrollmentGroupId, RequestId, path_value
from shared.contracts.messages import MESSAGE_LIMIT, Queue
from shared.contracts.orders import DeviceOrder, DeviceOrderSchema, OrderAct, OrderAction, OrderCancellation
from shared.contracts.parsing import decoded, parse
from shared.domain.callers import Role
from shared.domain.orders import LineState, OrderState
from shared.domain.words import IssuedDevices, RegisterBy
from shared.errors import Reason, Rejected
from shared.reading.numbers import whole_number
from shared.reading.times import point_in_time
from shared.workflows.devices.order_results import CSV, csv_of, result_of
from shared.workflows.intake.following import location_of
from triggers import callers
from triggers.http.endpoints import (
    CONTINUATION,
    PAGING,
    QUEUED,
    accepted,
    authenticated,
    body_of,
    chosen,
    continuation_of,
    endpoint,
    holder_of,
    is_new,
    json_answer,
    page_answer,
    page_size_of,
    queued,
    request_id_of,
    shown_continuation,
)
from triggers.http.paths import order_id_of
from triggers.http.scopes import by_group, of_new_order, of_order, permit
from triggers.openapi import IDEMPOTENCY_KEY, SIGNATURE, Answer, Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.domain.orders import OrderLine, OrderRecord
    from shared.services import Services


_FORMATS: tuple[BundleFormat, ...] = ("pem", "pfx")
_OF_CSV = ("orderId", "enrollmentGroup", "registerBy", "validityDays", "progressEvery")
_WAY_OUT = ": put the devices of a large order into a blob and name it in devicesUrl"


@endpoint(
    "POST",
    "device-orders",
    answers=[QUEUED],
    refuses={404, 409},
    body=DeviceOrderSchema,
    other_bodies=(CSV,),
    parameters=(
        Parameter("orderId", "of an order in CSV; the Idempotency-Key, if it is left out", RequestId),
        Parameter("enrollmentGroup", "of an order in CSV", EnrollmentGroupId),
        Parameter("registerBy", "of an order in CSV", RegisterBy),
        Parameter("validityDays", "of an order in CSV", Annotated[int, Field(ge=1, le=3650)]),
        Parameter("progressEvery", "of an order in CSV: progressEvents.every", Annotated[int, Field(ge=1)]),
        IDEMPOTENCY_KEY,
    ),
    role=Role.ORDERS_WRITE,
    scope=of_new_order,
)
async def create_device_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Order devices, in JSON or with a list in CSV; orderId is the idempotency key."""
    order, upload = _ordered(services, request)
    if await services.device_orders.check_unchanged(order) is None:
        if upload is None:
            await services.device_orders.check(order)
        else:
            await services.usable_groups.get(order.enrollment_group)
            await services.order_uploads.keep(order.order_id, *upload)
    sent = services.outbox.send(Queue.DEVICE_ORDERS, order)
    await services.following.order_accepted(order.order_id, order.fingerprint, sent)
    return accepted(order, location_of(Queue.DEVICE_ORDERS, order.order_id))


def _ordered(services: Services, request: func.HttpRequest) -> tuple[DeviceOrder, tuple[bytes, str] | None]:
    """Read an order; of one that is too long for a message, or in CSV, the list and its form as well."""
    raw = request.get_body()
    media = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if media == CSV:
        _check_size(services, raw)
        return _with_list(services, _options_of_csv(request), raw, "csv")
    given = [Reason(name, "is for an order in CSV; give it in the body") for name in _OF_CSV if name in request.params]
    if given:
        raise Rejected(*given)
    if len(raw) <= MESSAGE_LIMIT:
        return parse(DeviceOrder, body_of(request)), None
    _check_size(services, raw)
    body = decoded(raw, "the body")
    order = parse(DeviceOrder, body)
    if order.devices is None:
        raise Rejected.because(f"the body has {len(raw)} bytes, and no devices", field="devices")
    content = json.dumps(order.devices, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
    options = {name: value for name, value in body.items() if name != "devices"}
    return _with_list(services, options, content, "json")


def _check_size(services: Services, raw: bytes) -> None:
    limit = services.settings.order_upload_megabytes * 1024 * 1024
    if len(raw) > limit:
        raise Rejected.because(f"the body has {len(raw)} bytes, at most {limit} are taken{_WAY_OUT}")


def _options_of_csv(request: func.HttpRequest) -> dict[str, Any]:
    options: dict[str, Any] = {name: request.params[name] for name in _OF_CSV if request.params.get(name)}
    options.setdefault("orderId", request_id_of(request))
    if "validityDays" in options:
        options["validityDays"] = whole_number(
            options["validityDays"], 1, 3650, field="validityDays", what="number of days"
        )
    every = options.pop("progressEvery", None)
    if every is not None:
        number = whole_number(every, 1, 1_000_000, field="progressEvery", what="number of lines")
        options["progressEvents"] = {"every": number}
    return options


def _with_list(
    services: Services, options: dict[str, Any], content: bytes, form: str
) -> tuple[DeviceOrder, tuple[bytes, str]]:
    url = services.order_uploads.url_of(str(options.get("orderId")), content, form)
    return parse(DeviceOrder, {**options, "devicesUrl": url}), (content, form)


@endpoint(
    "GET",
    "device-orders/{orderId}",
    answers=[Answer(200, "the order", (Order,))],
    refuses={404},
    parameters=(Parameter("state", "only the lines in this state", LineState), *PAGING),
    role=Role.FLEET_READ,
    scope=of_order,
)
async def get_device_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show an order: its progress, and its devices; those of more than 5,000, or of a state, come in pages."""
    order = await services.order_answers.describe(
        order_id_of(request),
        state=chosen(request, "state", tuple(LineState)),
        size=page_size_of(request) if "pageSize" in request.params else None,
        continuation=continuation_of(request),
    )
    if order.continuation_token is not None:
        order = order.model_copy(update={"continuation_token": shown_continuation(order.continuation_token)})
    return json_answer(order)


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
    role=Role.FLEET_READ,
    scope=by_group,
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
    parameters=(IDEMPOTENCY_KEY, *SIGNATURE),
    role=Role.ORDERS_WRITE,
    scope=of_order,
)
async def cancel_device_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Cancel an order: what has not begun is not begun, and what is issued is kept or revoked.

    To revoke needs that role, and a signature where a secret is set.
    """
    issued, request_id = parse(OrderCancellation, body_of(request, optional=True)).issued, None
    if issued is IssuedDevices.REVOKE:
        await permit(services, request, callers.current(), Role.DEVICES_REVOKE, of_order)
        request_id = await authenticated(services, request)
    return await _act(services, request, OrderAction.CANCEL, request_id=request_id, issued=issued)


@endpoint(
    "POST",
    "device-orders/{orderId}/close",
    answers=[QUEUED],
    refuses={404, 409},
    parameters=(IDEMPOTENCY_KEY,),
    role=Role.ORDERS_WRITE,
    scope=of_order,
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
    role=Role.ORDERS_WRITE,
    scope=of_order,
)
async def retry_device_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Try the failed lines of an order again."""
    return await _act(services, request, OrderAction.RETRY)


async def _act(
    services: Services,
    request: func.HttpRequest,
    action: OrderAction,
    *,
    request_id: str | None = None,
    **further: IssuedDevices,
) -> func.HttpResponse:
    order_id = order_id_of(request)
    act = OrderAct(request_id=request_id or request_id_of(request), order_id=order_id, action=action, **further)
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
    refuses={404},
    parameters=(CONTINUATION,),
    role=Role.FLEET_READ,
    scope=of_order,
)
async def get_order_results_csv(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give what became of the devices of an order, 5,000 lines at a time; the first page has the header."""
    order, lines, following = await _results(services, request)
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
    refuses={404},
    parameters=(CONTINUATION,),
    role=Role.FLEET_READ,
    scope=of_order,
)
async def get_order_results_json(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give what became of the devices of an order, 5,000 lines at a time."""
    order, lines, following = await _results(services, request)
    return json_answer(
        OrderResultPage(
            order_id=order.order_id,
            state=order.state,
            items=[result_of(line) for line in lines],
            continuation_token=shown_continuation(following),
        )
    )


async def _results(
    services: Services, request: func.HttpRequest
) -> tuple[OrderRecord, Sequence[OrderLine], str | None]:
    order = await services.order_answers.order(order_id_of(request))
    lines, following = await services.order_answers.page_of_lines(order, _RESULT_LINES, continuation_of(request))
    return order, lines, following


# --- bundles ---

ZIP = "application/zip"


@endpoint(
    "GET",
    "device-orders/{orderId}/bundles",
    answers=[
        Answer(
            200,
            "an archive with `manifest.json` (ArchiveManifest) and the bundles",
            (ZIP,),
            (("Link", "the next page, with `rel=next` (RFC 8288)"),),
        )
    ],
    refuses={404},
    parameters=(
        Parameter("format", "what bundles are wanted as", Annotated[BundleFormat, Field(default="pem")]),
        *PAGING,
        IDEMPOTENCY_KEY,
    ),
    head=False,
    role=Role.BUNDLES_READ,
    scope=of_order,
    act="handOutBundle",
)
async def get_order_bundles(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Hand out the bundles of an order that may still be handed out, as an archive of a page of its devices.

    Each goes to one caller, as it does alone; the same caller gets the same archive again.
    """
    order_id, wanted = order_id_of(request), chosen(request, "format", _FORMATS) or "pem"
    size = page_size_of(request)
    archive = await services.order_bundles.archive(
        order_id, wanted=wanted, caller=holder_of(request), size=size, continuation=continuation_of(request)
    )
    name = order_id.replace(":", "_")
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}-bundles.zip"'}
    if archive.following:
        token = shown_continuation(archive.following)
        path = f"/api/device-orders/{order_id}/bundles"
        headers["Link"] = f'<{path}?format={wanted}&pageSize={size}&continuationToken={token}>; rel="next"'
    return func.HttpResponse(archive.content, mimetype=ZIP, headers=headers)
