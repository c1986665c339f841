"""What the console has done to enrollment groups: each act is shown first, with what it does and to how many."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from shared.contracts.devices import GroupRenewal, RevocationRequest
from shared.contracts.groups import EnrollmentGroupRequest, GroupAction
from shared.contracts.ids import path_value
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.contracts.plans import PACE_LIMIT
from shared.domain.callers import Role
from shared.domain.orders import UNDER_WAY
from shared.domain.words import DeviceState, KeyCustody, RevocationReason
from shared.errors import NotFound, Rejected
from shared.reading.numbers import whole_number
from shared.workflows.intake.requests import submit
from triggers.console.acts import check_unsigned, pace_of
from triggers.console.pages import ROOT, form_of, page, redirect, rendered, segment
from triggers.http.endpoints import is_new
from triggers.http.paths import group_id_of
from triggers.http.scopes import of_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    import azure.functions as func

    from shared.services import Services

_ACTS = (GroupAction.DISABLE, GroupAction.ENABLE, GroupAction.ROLL, GroupAction.DELETE)
_ORDERS = 50
"""Orders under way that are counted, of each state; more are only said to be there."""

_PER_MINUTE = 60
_LIMIT = 10_000_000


@page("groups/{id}/{act}", role=Role.GROUPS_MANAGE, scope=of_group)
async def console_group_act(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what an act on a group will do, and to how many, and ask."""
    action, group_id = _action_of(request), group_id_of(request)
    refusal = await _refusal(services, _asked_for(group_id, action, "preview", {}))
    group, counts, orders = await asyncio.gather(
        services.groups.directory.summary(group_id), services.devices.counts(group_id), _orders(services, group_id)
    )
    return rendered(
        "group_act.html",
        act=action.value,
        group=group,
        total=counts.total,
        registered=counts.states.get(DeviceState.REGISTERED, 0),
        orders=orders,
        refusal=refusal,
        custodies=list(KeyCustody),
        request_id=_new_request_id(),
    )


async def _refusal(services: Services, wanted: EnrollmentGroupRequest) -> str:
    """Say why an act can't be done unless its form says which CA is meant; empty if it can.

    Raises:
        NotFound, Conflict, Rejected: it can't be done, whatever the form says.
    """
    try:
        await services.groups.checks.foresee(wanted)
    except Rejected as refused:
        if wanted.action is not GroupAction.ROLL or refused.reasons[0].field != "issuer":
            raise
        return refused.reasons[0].message
    return ""


async def _orders(services: Services, group_id: str) -> tuple[int, bool]:
    """Count the orders of a group that are under way, and tell whether there are more."""
    pages = await asyncio.gather(
        *(
            services.order_answers.page(state=state, group=group_id, since=None, size=_ORDERS, continuation=None)
            for state in UNDER_WAY
        )
    )
    return sum(len(found) for found, _ in pages), any(following for _, following in pages)


@page("groups/{id}/{act}", method="POST", role=Role.GROUPS_MANAGE, scope=of_group)
async def console_group_acted(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a group disabled, enabled, rolled or deleted."""
    form = form_of(request)
    wanted = _asked_for(group_id_of(request), _action_of(request), _request_id(form), form)
    if await is_new(services, Queue.ENROLLMENT_GROUP_REQUESTS, wanted):
        await services.groups.checks.foresee(wanted)
    return await _queued(services, Queue.ENROLLMENT_GROUP_REQUESTS, wanted)


def _asked_for(group_id: str, action: GroupAction, request_id: str, form: Mapping[str, str]) -> EnrollmentGroupRequest:
    rolls = action is GroupAction.ROLL
    given = {name: form[name].strip() for name in ("issuer", "custody") if rolls and form.get(name, "").strip()}
    return parse(
        EnrollmentGroupRequest,
        {"requestId": request_id, "enrollmentGroup": group_id, "action": action.value, **given},
    )


def _action_of(request: func.HttpRequest) -> GroupAction:
    """Read what is to be done to a group; a page that does not exist is not found.

    Raises:
        NotFound: a group has no such page.
    """
    act = request.route_params["act"]
    found = next((each for each in _ACTS if each == act), None)
    if found is None:
        raise NotFound.because(f"an enrollment group has no page {act[:40]!r}")
    return found


# --- renewals ---


@page("group-renewals/{id}", known=("onlyIssuer",), role=Role.GROUPS_MANAGE, scope=of_group)
async def console_group_renew(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what renewing the devices of a group will do, and to how many, and ask."""
    group_id = group_id_of(request)
    only = (request.params.get("onlyIssuer") or "").strip()
    await services.lifetimes.group_renewals.check(_renewal(group_id, "preview", {"onlyIssuer": only}))
    group, counts = await asyncio.gather(services.groups.directory.summary(group_id), services.devices.counts(group_id))
    return rendered(
        "group_renew.html",
        group=group,
        only=only,
        total=counts.total,
        issuers=[each for each in (group.issuer, group.previous_issuer) if each],
        per_minute=_PER_MINUTE,
        minutes=-(-counts.total // _PER_MINUTE),
        limit=PACE_LIMIT,
        request_id=_new_request_id(),
    )


@page("group-renewals/{id}", method="POST", role=Role.GROUPS_MANAGE, scope=of_group)
async def console_group_renewed(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have the devices of a group renewed, so many a minute."""
    form = form_of(request)
    wanted = _renewal(group_id_of(request), _request_id(form), form)
    if await is_new(services, Queue.RENEWAL_REQUESTS, wanted):
        await services.lifetimes.group_renewals.check(wanted)
    return await _queued(services, Queue.RENEWAL_REQUESTS, wanted)


def _renewal(group_id: str, request_id: str, form: Mapping[str, str]) -> GroupRenewal:
    body: dict[str, object] = {"requestId": request_id, "enrollmentGroup": group_id, **pace_of(form)}
    if form.get("onlyIssuer"):
        body["onlyIssuer"] = form["onlyIssuer"]
    return parse(GroupRenewal, body)


# --- revocation ---


@page("group-revocations/{id}", role=Role.DEVICES_REVOKE, scope=of_group)
async def console_group_revoke(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what revoking the devices of a group will do, to how many, and how long it takes, and ask why."""
    check_unsigned(services)
    group_id = group_id_of(request)
    form = {"reason": RevocationReason.KEY_COMPROMISE.value}
    preview = await services.revocations.foresee(_revocation(group_id, "preview", form))
    return rendered(
        "group_revoke.html",
        group_id=group_id,
        preview=preview,
        reasons=list(RevocationReason),
        limit=PACE_LIMIT,
        request_id=_new_request_id(),
    )


@page("group-revocations/{id}", method="POST", role=Role.DEVICES_REVOKE, scope=of_group)
async def console_group_revoked(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have the devices of a group revoked, or put on hold."""
    check_unsigned(services)
    form = form_of(request)
    wanted = _revocation(group_id_of(request), _request_id(form), form)
    if await is_new(services, Queue.REVOCATION_REQUESTS, wanted):
        await services.revocations.check(wanted)
    return await _queued(services, Queue.REVOCATION_REQUESTS, wanted)


def _revocation(group_id: str, request_id: str, form: Mapping[str, str]) -> RevocationRequest:
    body: dict[str, object] = {"requestId": request_id, "enrollmentGroup": group_id, **pace_of(form)}
    if form.get("reason"):
        body["reason"] = form["reason"]
    if form.get("devices"):
        body["devices"] = whole_number(form["devices"], 1, _LIMIT, field="devices", what="number of devices")
    return parse(RevocationRequest, body)


def _new_request_id() -> str:
    return f"console-{uuid.uuid4().hex}"


def _request_id(form: Mapping[str, str]) -> str:
    return path_value("requestId", form.get("requestId", ""))


async def _queued(
    services: Services, queue: Queue, wanted: EnrollmentGroupRequest | GroupRenewal | RevocationRequest
) -> func.HttpResponse:
    await submit(services.requests, services.outbox, queue, wanted, services.clock)
    return redirect(f"{ROOT}/requests/{segment(wanted.request_id)}?kind={queue.value}")
