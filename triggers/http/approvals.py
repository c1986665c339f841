"""Acts that wait for a second person: shown, approved and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.answers_approvals import Approval, ApprovalDecision, ApprovalPage
from shared.contracts.base import told_actor
from shared.contracts.ids import EnrollmentGroupId, path_value
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.approvals import ApprovalAct, ApprovalState
from shared.domain.callers import Role
from shared.errors import Rejected
from shared.workflows.intake.following import location_of
from triggers import auditing
from triggers.http.endpoints import (
    PAGING,
    body_of,
    chosen,
    continuation_of,
    endpoint,
    json_answer,
    page_answer,
    page_size_of,
)
from triggers.http.paths import approval_id_of
from triggers.http.scopes import by_group, of_approval
from triggers.openapi import Answer, Parameter

if TYPE_CHECKING:
    import azure.functions as func

    from shared.domain.approvals import ApprovalRecord
    from shared.services import Services


def shown_approval(record: ApprovalRecord) -> Approval:
    """Give an approval as answers have it."""
    queue, request_id = record.queue, record.request_id
    return Approval(
        id=record.approval_id,
        act=record.act,
        what=record.what,
        state=record.state,
        subject_kind=record.subject_kind,
        subject=record.subject,
        enrollment_group=record.enrollment_group,
        devices=record.devices,
        queue=Queue(queue) if queue else None,
        request_id=request_id,
        request=location_of(Queue(queue), request_id) if queue and request_id else None,
        asked_by=told_actor(record.asked_by),
        asked_with=record.asked_with,
        asked_at=record.asked_at,
        expires_at=record.expires_at,
        decided_by=told_actor(record.decided_by),
        decided_at=record.decided_at,
        comment=record.comment,
    )


@endpoint(
    "GET",
    "approvals",
    answers=[Answer(200, "a page of approvals", (ApprovalPage,))],
    parameters=(
        Parameter("state", "only those in this state", ApprovalState),
        Parameter("act", "only those of this act", ApprovalAct),
        Parameter("group", "only those about this enrollment group, and what belongs to it", EnrollmentGroupId),
        *PAGING,
    ),
    role=Role.FLEET_READ,
    scope=by_group,
)
async def list_approvals(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List acts that wait for a second person, or did, the latest first."""
    group = request.params.get("group")
    columns = {
        "state": chosen(request, "state", tuple(ApprovalState)),
        "act": chosen(request, "act", tuple(ApprovalAct)),
        "enrollmentGroup": path_value("enrollmentGroup", group) if group else None,
    }
    found, following = await services.approvals.page(
        columns, size=page_size_of(request), continuation=continuation_of(request)
    )
    return page_answer(ApprovalPage, [shown_approval(each) for each in found], following)


@endpoint(
    "GET",
    "approvals/{id}",
    answers=[Answer(200, "the approval", (Approval,))],
    refuses={404},
    role=Role.FLEET_READ,
    scope=of_approval,
)
async def get_approval(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show an act that waits for a second person, or did."""
    return json_answer(shown_approval(await services.approvals.describe(approval_id_of(request))))


@endpoint(
    "POST",
    "approvals/{id}/approve",
    answers=[Answer(200, "the approval", (Approval,))],
    refuses={404, 409},
    body=ApprovalDecision,
    body_required=False,
    role=Role.APPROVALS_GIVE,
    scope=of_approval,
    act="approve",
)
async def approve_act(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Approve what somebody else has asked for; then it is carried out."""
    identifier = approval_id_of(request)
    parse(ApprovalDecision, body_of(request, optional=True))
    return json_answer(shown_approval(await services.approvals.approve(identifier)))


@endpoint(
    "POST",
    "approvals/{id}/refuse",
    answers=[Answer(200, "the approval", (Approval,))],
    refuses={404, 409},
    body=ApprovalDecision,
    body_required=False,
    role=Role.APPROVALS_GIVE,
    scope=of_approval,
    act="refuse",
)
async def refuse_act(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Refuse what waits for a second person, and say why in the comment."""
    identifier = approval_id_of(request)
    parse(ApprovalDecision, body_of(request, optional=True))
    if auditing.comment_of(request) is None:
        raise Rejected.because("is required: who asked is to know why", field="comment")
    return json_answer(shown_approval(await services.approvals.refuse(identifier)))
