"""Events about acts that need a second person."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from shared.contracts.base import Told, ToldActor, with_example
from shared.domain.approvals import ApprovalAct
from shared.domain.audit_entries import SubjectKind


class ApprovalWanted(Told):
    """An act needs a second person: ``POST /approvals/{approvalId}/approve``, or ``refuse``.

    ``actor`` is who asked for it, and can't approve it. ``what`` says in words what it does, and ``devices`` to how
    many.
    """

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

    approval_id: str
    act: ApprovalAct
    what: str
    subject_kind: SubjectKind
    subject: str
    enrollment_group: str | None
    devices: int | None
    expires_at: datetime


class ApprovalEnded(Told):
    """An act that needed a second person was approved or refused, or nobody has decided about it in time.

    ``askedBy`` is who asked. ``actor`` is who decided, with a ``comment``. Both are ``null`` if it has expired.
    """

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

    approval_id: str
    act: ApprovalAct
    what: str
    subject_kind: SubjectKind
    subject: str
    enrollment_group: str | None
    devices: int | None
    state: Literal["approved", "refused", "expired"]
    asked_by: ToldActor | None
    comment: str | None
