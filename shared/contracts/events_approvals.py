"""Events about acts that need a second person."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from shared.contracts.base import Told, ToldActor, with_example
from shared.domain.approvals import ApprovalAct, ApprovalState
from shared.domain.audit_entries import SubjectKind
from shared.domain.words import EventType


class ApprovalWanted(Told):
    """An act needs a second person: ``POST /approvals/{approvalId}/approve``, or ``refuse``.

    ``actor`` is who asked for it, and can't approve it. ``what`` says in words what it does, and ``devices`` to how
    many.
    """

    event_type = EventType.APPROVAL_WANTED
    model_config = with_example(
        {
            "approvalId": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
            "act": "deleteGroup",
            "what": "delete the enrollment group 'line-1'",
            "subjectKind": "enrollmentGroup",
            "subject": "line-1",
            "enrollmentGroup": "line-1",
            "devices": 1200,
            "expiresAt": "2026-05-04T12:00:00Z",
        }
    )

    approval_id: str = Field(description="for `POST /api/approvals/{approvalId}/approve`, or `refuse`")
    act: ApprovalAct = Field(description="that needs a second person")
    what: str = Field(description="the act in words")
    subject_kind: SubjectKind = Field(description="what kind of thing it concerns")
    subject: str = Field(description="its id")
    enrollment_group: str | None = Field(description="that it belongs to")
    devices: int | None = Field(description="how many devices it concerns")
    expires_at: datetime = Field(description="after that nobody can approve it")


class ApprovalEnded(Told):
    """An act that needed a second person was approved or refused, or nobody has decided about it in time.

    ``askedBy`` is who asked. ``actor`` is who decided, with a ``comment``. Both are ``null`` if it has expired.
    """

    event_type = EventType.APPROVAL_ENDED
    model_config = with_example(
        {
            "approvalId": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
            "act": "importAuthority",
            "what": "import the CA 'factory-1'",
            "subjectKind": "certificateAuthority",
            "subject": "factory-1",
            "enrollmentGroup": None,
            "devices": None,
            "state": "refused",
            "askedBy": {
                "kind": "key",
                "id": "pki",
                "name": None,
                "role": "CertificateAuthorities.Manage",
                "requestId": "import-1",
                "address": "192.0.2.8",
            },
            "comment": "not the root that its owner told us",
        }
    )

    approval_id: str = Field(description="of the approval")
    act: ApprovalAct = Field(description="that needed a second person")
    what: str = Field(description="the act in words")
    subject_kind: SubjectKind = Field(description="what kind of thing it concerns")
    subject: str = Field(description="its id")
    enrollment_group: str | None = Field(description="that it belongs to")
    devices: int | None = Field(description="how many devices it concerns")
    state: Literal[ApprovalState.APPROVED, ApprovalState.REFUSED, ApprovalState.EXPIRED] = Field(
        description="how it has ended"
    )
    asked_by: ToldActor | None = Field(description="who asked for the act")
    comment: str | None = Field(description="of who decided")
