"""What the audit log answers."""

from __future__ import annotations

from datetime import datetime

from shared.contracts.base import Contract, ToldActor, example_of, with_example
from shared.domain.audit_entries import AuditOutcome, SubjectKind


class AuditedAct(Contract):
    """One act: who did or tried what to what, and what came of it.

    ``begun`` is an act that is under way, or was broken off.
    """

    model_config = with_example(
        {
            "at": "2026-05-01T12:00:00Z",
            "actor": example_of(ToldActor),
            "action": "revoke",
            "subjectKind": "device",
            "subject": "press-1",
            "enrollmentGroup": "line-1",
            "outcome": "done",
            "requestId": "revocation-1",
            "reason": "keyCompromise",
            "comment": "found on a dump",
        }
    )

    at: datetime
    actor: ToldActor
    action: str
    subject_kind: SubjectKind
    subject: str
    enrollment_group: str | None
    outcome: AuditOutcome
    request_id: str | None
    reason: str | None
    comment: str | None


class AuditPage(Contract):
    """A page of the audit log, the latest act first."""

    model_config = with_example({"items": [example_of(AuditedAct)], "continuationToken": None})

    items: list[AuditedAct]
    continuation_token: str | None
