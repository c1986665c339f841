"""Answers about acts that wait for a second person."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import StringConstraints

from shared.contracts.base import Contract, ToldActor, example_of, with_example
from shared.contracts.ids import Words
from shared.contracts.messages import COMMENT_LIMIT, Queue
from shared.domain.approvals import ApprovalAct, ApprovalState
from shared.domain.audit_entries import SubjectKind

_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"


class AwaitingApproval(Contract):
    """A call that waits for a second person, and is not kept: its caller sends it again once it is approved."""

    model_config = with_example(
        {
            "status": "awaitingApproval",
            "location": f"/api/approvals/{_ID}",
            "approvalId": _ID,
            "waitingFor": "to import the CA 'factory-1', which the key 'ops' asked for, needs a second person",
        }
    )

    status: Literal["awaitingApproval"]
    location: str
    approval_id: str
    waiting_for: str


class ApprovalDecision(Contract):
    """Body of ``POST /approvals/{id}/approve`` and ``refuse``."""

    model_config = with_example({"comment": "agreed on the phone with Ada"})

    comment: Annotated[str, StringConstraints(min_length=1, max_length=COMMENT_LIMIT), Words] | None = None


class Approval(Contract):
    """An act that waits for a second person, or did.

    ``what`` says what it does, and ``devices`` to how many, as it was when it was asked for. ``request`` is the path at
    which its request can be followed; a call without one is sent again by its caller once it is approved.
    """

    model_config = with_example(
        {
            "id": _ID,
            "act": "deleteGroup",
            "what": "delete the enrollment group 'line-1'",
            "state": "approved",
            "subjectKind": "enrollmentGroup",
            "subject": "line-1",
            "enrollmentGroup": "line-1",
            "devices": 1200,
            "queue": "enrollment-group-requests",
            "requestId": "group-7",
            "request": "/api/requests/group-7?kind=enrollment-group-requests",
            "askedBy": example_of(ToldActor),
            "askedWith": "the line is closed",
            "askedAt": "2026-05-01T12:00:00Z",
            "expiresAt": "2026-05-04T12:00:00Z",
            "decidedBy": {**example_of(ToldActor), "name": "bob@example.com", "role": "Approvals.Give"},
            "decidedAt": "2026-05-01T12:20:00Z",
            "comment": "agreed on the phone with Ada",
        }
    )

    id: str
    act: ApprovalAct
    what: str
    state: ApprovalState
    subject_kind: SubjectKind
    subject: str
    enrollment_group: str | None
    devices: int | None
    queue: Queue | None
    request_id: str | None
    request: str | None
    asked_by: ToldActor
    asked_with: str | None
    asked_at: datetime
    expires_at: datetime
    decided_by: ToldActor | None
    decided_at: datetime | None
    comment: str | None


class ApprovalPage(Contract):
    """A page of approvals, the latest first."""

    model_config = with_example({"items": [example_of(Approval)], "continuationToken": None})

    items: list[Approval]
    continuation_token: str | None
