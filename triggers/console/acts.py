"""What the console has done to devices and orders: each act is checked and shown first, and becomes a request."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from shared.contracts.devices import RenewalRequest, RevocationAction, RevocationRequest
from shared.contracts.ids import path_value
from shared.contracts.messages import Queue
from shared.contracts.orders import OrderAct, OrderAction
from shared.contracts.parsing import parse
from shared.contracts.plans import PACE_LIMIT
from shared.domain.callers import Role
from shared.domain.words import IssuedDevices, RevocationReason
from shared.errors import NotAuthentic, NotFound
from shared.reading.numbers import whole_number
from shared.workflows.intake.requests import submit
from triggers import callers
from triggers.console.pages import ROOT, form_of, page, redirect, rendered, segment
from triggers.http.endpoints import is_new
from triggers.http.paths import registration_id_of
from triggers.http.scopes import of_device, of_order, permit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import azure.functions as func

    from shared.services import Services


@page("devices/{registrationId}/renew", role=Role.ORDERS_WRITE, scope=of_device)
async def console_renew(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what a renewal will do, and ask."""
    registration_id = registration_id_of(request)
    await services.renewals.check(RenewalRequest(request_id="preview", registration_id=registration_id))
    return await _asked(services, registration_id, "renew")


@page("devices/{registrationId}/renew", method="POST", role=Role.ORDERS_WRITE, scope=of_device)
async def console_renewed(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a device's certificate renewed."""
    wanted = RenewalRequest(request_id=_request_id(request), registration_id=registration_id_of(request))
    if await is_new(services, Queue.RENEWAL_REQUESTS, wanted):
        await services.renewals.check(wanted)
    return await _queued(services, Queue.RENEWAL_REQUESTS, wanted)


@page("devices/{registrationId}/revoke", role=Role.DEVICES_REVOKE, scope=of_device)
async def console_revoke(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what a revocation will do, and ask why."""
    check_unsigned(services)
    registration_id = registration_id_of(request)
    await services.revocations.check(_revocation(registration_id, reason=RevocationReason.KEY_COMPROMISE.value))
    return await _asked(services, registration_id, "revoke")


@page("devices/{registrationId}/revoke", method="POST", role=Role.DEVICES_REVOKE, scope=of_device)
async def console_revoked(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a device revoked, or put on hold."""
    reason = form_of(request).get("reason") or None
    wanted = _revocation(registration_id_of(request), _request_id(request), reason=reason)
    return await _about_revocation(services, wanted)


@page("devices/{registrationId}/reinstate", role=Role.DEVICES_REVOKE, scope=of_device)
async def console_reinstate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what it means to undo a hold, and ask."""
    check_unsigned(services)
    registration_id = registration_id_of(request)
    await services.revocations.check(_revocation(registration_id, action=RevocationAction.REINSTATE.value))
    return await _asked(services, registration_id, "reinstate")


@page("devices/{registrationId}/reinstate", method="POST", role=Role.DEVICES_REVOKE, scope=of_device)
async def console_reinstated(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a hold undone."""
    wanted = _revocation(registration_id_of(request), _request_id(request), action=RevocationAction.REINSTATE.value)
    return await _about_revocation(services, wanted)


@page("orders/{orderId}/{act}", role=Role.ORDERS_WRITE, scope=of_order)
async def console_order_act(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what cancelling, closing or retrying an order will do, and to how many, and ask."""
    act = _order_act(request, "preview")
    await services.order_requests.check(act)
    order = await services.order_answers.describe(act.order_id, size=1)
    return rendered("order_act.html", act=act.action.value, order=order, request_id=_new_request_id())


@page("orders/{orderId}/{act}", method="POST", role=Role.ORDERS_WRITE, scope=of_order)
async def console_order_acted(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have an order cancelled, closed, or its failed lines tried again."""
    act = _order_act(request, _request_id(request), issued=form_of(request).get("issued") or None)
    if act.issued is IssuedDevices.REVOKE:
        await permit(services, request, callers.current(), Role.DEVICES_REVOKE, of_order)
        check_unsigned(services)
    if await is_new(services, Queue.DEVICE_ORDERS, act):
        await services.order_requests.check(act)
    return await _queued(services, Queue.DEVICE_ORDERS, act)


def _order_act(request: func.HttpRequest, request_id: str, *, issued: str | None = None) -> OrderAct:
    """Read what is to be done to which order; a page that does not exist is not found.

    Raises:
        NotFound: an order has no such page.
        Rejected: an id or a field is not valid.
    """
    act = request.route_params["act"]
    if act not in list(OrderAction):
        raise NotFound.because(f"an order has no page {act[:40]!r}")
    body = {"requestId": request_id, "orderId": request.route_params["orderId"], "action": act}
    return parse(OrderAct, {**body, **({"issued": issued} if issued else {})})


def check_unsigned(services: Services) -> None:
    """Refuse where what revokes is to be signed: the console does not have the secret, and does not lead around it.

    Raises:
        NotAuthentic: always, in such a deployment.
    """
    if services.settings.webhook_secret_name:
        raise NotAuthentic.because(
            "this deployment has what revokes or reinstates a device signed (WEBHOOK_SECRET_NAME), which the console "
            "can't do; send a signed call to POST /api/revocations"
        )


def _revocation(registration_id: str, request_id: str = "preview", **given: str | None) -> RevocationRequest:
    body = {"requestId": request_id, "registrationId": registration_id, **given}
    return parse(RevocationRequest, body)


async def _about_revocation(services: Services, wanted: RevocationRequest) -> func.HttpResponse:
    check_unsigned(services)
    if await is_new(services, Queue.REVOCATION_REQUESTS, wanted):
        await services.revocations.check(wanted)
    return await _queued(services, Queue.REVOCATION_REQUESTS, wanted)


async def _asked(services: Services, registration_id: str, act: str) -> func.HttpResponse:
    """Show what an act will do. The form has the id of its request, so that sent twice it is done once."""
    device = await services.devices.describe(registration_id)
    reasons = list(RevocationReason)
    return rendered("act.html", act=act, device=device, reasons=reasons, request_id=_new_request_id())


def _new_request_id() -> str:
    return f"console-{uuid.uuid4().hex}"


def _request_id(request: func.HttpRequest) -> str:
    return path_value("requestId", form_of(request).get("requestId", ""))


async def _queued(services: Services, queue: Queue, wanted: Any) -> func.HttpResponse:
    await submit(services.requests, services.outbox, queue, wanted, services.clock)
    return redirect(f"{ROOT}/requests/{segment(wanted.request_id)}?kind={queue.value}")


def pace_of(form: Mapping[str, str]) -> dict[str, int]:
    """Read how many devices a minute a form asks for, as a field of the request; none if it says nothing."""
    if not form.get("perMinute"):
        return {}
    return {"perMinute": whole_number(form["perMinute"], 1, PACE_LIMIT, field="perMinute", what="number of devices")}
