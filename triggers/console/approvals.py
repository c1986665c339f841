"""Approvals: what waits for a second person, what it does and to how many, and the two answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.answers_approvals import ApprovalDecision
from shared.contracts.ids import path_value
from shared.contracts.parsing import parse
from shared.domain.approvals import ApprovalState, same_person
from shared.domain.callers import Role
from shared.errors import Rejected
from shared.rules.zones import Zone
from triggers import callers
from triggers.console.pages import ROOT, form_of, page, redirect, rendered, segment
from triggers.http.approvals import shown_approval
from triggers.http.endpoints import chosen, continuation_of, shown_continuation
from triggers.http.paths import approval_id_of
from triggers.http.scopes import by_group, of_approval

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

_SHOWN = 50


@page("approvals", known=("state", "group", "continuationToken"), scope=by_group)
async def console_approvals(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List acts that wait for a second person, or did."""
    state = chosen(request, "state", tuple(ApprovalState)) or ApprovalState.OPEN
    group = (request.params.get("group") or "").strip()
    columns = {"state": state, "enrollmentGroup": path_value("enrollmentGroup", group) if group else None}
    found, following = await services.approvals.page(columns, size=_SHOWN, continuation=continuation_of(request))
    return rendered(
        "approvals.html",
        state_wanted=state,
        states=list(ApprovalState),
        group=group,
        items=[shown_approval(each) for each in found],
        following=shown_continuation(following),
    )


@page("approvals/{id}", scope=of_approval)
async def console_approval(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show what an act does, to how many, and who asked for it; and ask for a decision."""
    record = await services.approvals.describe(approval_id_of(request))
    me = callers.current().as_actor(Role.APPROVALS_GIVE)
    return rendered(
        "approval.html",
        approval=shown_approval(record),
        is_mine=same_person(record.asked_by, me),
        is_over=record.is_over(services.clock()),
        acts_here=services.settings.zone is Zone.ALL,
    )


@page("approvals/{id}/approve", method="POST", role=Role.APPROVALS_GIVE, scope=of_approval, act="approve")
async def console_approved(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Approve an act."""
    record = await services.approvals.approve(_asked_in(request))
    return redirect(f"{ROOT}/approvals/{segment(record.approval_id)}")


@page("approvals/{id}/refuse", method="POST", role=Role.APPROVALS_GIVE, scope=of_approval, act="refuse")
async def console_refused(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Refuse an act, and say why."""
    identifier = _asked_in(request)
    if not form_of(request).get("comment"):
        raise Rejected.because("is required: who asked is to know why", field="comment")
    record = await services.approvals.refuse(identifier)
    return redirect(f"{ROOT}/approvals/{segment(record.approval_id)}")


def _asked_in(request: func.HttpRequest) -> str:
    """Read which approval is meant, and see that the comment is one.

    Raises:
        NotFound: it does not exist.
        Rejected: the comment is too long.
    """
    parse(ApprovalDecision, {"comment": form_of(request).get("comment") or None})
    return approval_id_of(request)
