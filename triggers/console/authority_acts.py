"""What the console has done to CAs: each act is shown first, with what it does and to how many, and is a request."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from shared.contracts.authorities import AuthorityAct
from shared.contracts.ids import path_value
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.contracts.plans import PACE_LIMIT
from shared.domain.authorities import AuthorityAction
from shared.domain.authority_acts import BECOMES
from shared.domain.callers import Role
from shared.domain.words import RevocationReason
from shared.errors import NotFound
from shared.reading.numbers import whole_number
from shared.workflows.intake.requests import submit
from triggers.console.acts import check_unsigned, pace_of
from triggers.console.pages import ROOT, form_of, page, redirect, rendered, segment
from triggers.http.endpoints import is_new
from triggers.http.paths import authority_name_of
from triggers.http.scopes import of_authority

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

_REASONS = [each for each in RevocationReason if each is not RevocationReason.CERTIFICATE_HOLD]
_LIMIT = 1_000_000_000


@page("authorities/{name}/{act}", role=Role.AUTHORITIES_MANAGE, scope=of_authority)
async def console_authority_act(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what an act on a CA will do, and to how many, and ask."""
    action = _action_of(services, request)
    preview = await services.authority_workflows.acts.preview(authority_name_of(request), action)
    plan = None
    if action is AuthorityAction.REVOKE:
        plan = await services.revocations.foresee_authorities(preview.authorities)
    request_id = f"console-{uuid.uuid4().hex}"
    return rendered(
        "authority_act.html",
        act=action.value,
        preview=preview,
        plan=plan,
        reasons=_REASONS,
        limit=PACE_LIMIT,
        request_id=request_id,
    )


@page("authorities/{name}/{act}", method="POST", role=Role.AUTHORITIES_MANAGE, scope=of_authority)
async def console_authority_acted(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a CA disabled, enabled, retired, revoked or deleted."""
    action, form = _action_of(services, request), form_of(request)
    body: dict[str, object] = {
        "requestId": path_value("requestId", form.get("requestId", "")),
        "name": authority_name_of(request),
        "action": action.value,
        **{name: form[name] for name in ("reason", "comment") if form.get(name)},
        **pace_of(form),
    }
    if form.get("devices"):
        body["devices"] = whole_number(form["devices"], 0, _LIMIT, field="devices", what="number of devices")
    act = parse(AuthorityAct, body)
    if await is_new(services, Queue.ENROLLMENT_GROUP_REQUESTS, act):
        await services.authority_workflows.acts.foresee(act)
    await submit(services.requests, services.outbox, Queue.ENROLLMENT_GROUP_REQUESTS, act, services.clock)
    return redirect(f"{ROOT}/requests/{segment(act.request_id)}?kind={Queue.ENROLLMENT_GROUP_REQUESTS.value}")


def _action_of(services: Services, request: func.HttpRequest) -> AuthorityAction:
    """Read what is to be done to a CA; a page that does not exist is not found.

    Raises:
        NotFound: a CA has no such page.
        NotAuthentic: it revokes, and what revokes is signed in this deployment.
    """
    found = next((each for each in BECOMES if each == request.route_params["act"]), None)
    if found is None:
        raise NotFound.because(f"a CA has no page {request.route_params['act'][:40]!r}")
    if found is AuthorityAction.REVOKE:
        check_unsigned(services)
    return found
