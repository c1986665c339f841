"""Findings and passes as HTTP shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.contracts.base import told_actor
from shared.domain.findings import FindingState
from shared.domain.treatments import FindingKind
from shared.domain.words import RevocationReason

if TYPE_CHECKING:
    from shared.domain.findings import FindingRecord
    from shared.domain.passes import ReconciliationRecord
    from shared.workflows.reconciliation.budget import Share


def shown_finding(record: FindingRecord) -> dict[str, Any]:
    """Show a finding, with the calls that can be made about it."""
    return {
        "id": record.finding_id,
        "kind": record.kind,
        "severity": record.severity,
        "state": record.state,
        "subjectKind": record.subject_kind,
        "subject": record.subject,
        "where": record.where,
        "ledger": record.ledger,
        "service": record.service,
        "since": record.since,
        "seenAt": record.seen_at,
        "enrollmentGroup": record.enrollment_group,
        "certificateAuthority": record.certificate_authority,
        "problem": record.problem,
        "endedAt": record.ended_at,
        "comment": record.comment,
        "underWay": _under_way(record),
        "mending": record.treatment.mending,
        "adopting": record.treatment.adopting,
        "acts": _acts(record) if record.state in {FindingState.OPEN, FindingState.CLOSED} else [],
    }


def _under_way(record: FindingRecord) -> dict[str, Any] | None:
    claim = record.claim
    if claim is None:
        return None
    return {"act": claim.act, "since": claim.since, "until": claim.until, "actor": told_actor(claim.actor)}


def _acts(record: FindingRecord) -> list[dict[str, Any]]:
    here = f"/api/findings/{record.finding_id}"
    acts = [
        _post(f"{here}/{act}", what)
        for act, what in (("mend", record.treatment.mending), ("adopt", record.treatment.adopting))
        if what is not None
    ]
    group, authority = record.enrollment_group, record.certificate_authority
    if record.kind is FindingKind.ROGUE_CERTIFICATE and group is not None:
        acts.append(
            _post(f"/api/enrollment-groups/{group}/disable", f"the enrollment group {group!r} lets no device in")
        )
    if record.kind is FindingKind.ROGUE_CERTIFICATE and authority is not None:
        path, reason = f"/api/certificate-authorities/{authority}/revoke", RevocationReason.KEY_COMPROMISE
        acts.append(_post(path, f"the CA {authority!r} is revoked", body={"reason": reason.value}))
    return acts


def _post(path: str, what: str, *, body: dict[str, str] | None = None) -> dict[str, Any]:
    return {"what": what, "method": "POST", "path": path, "body": body}


def shown_pass(record: ReconciliationRecord, share: Share) -> dict[str, Any]:
    """Show a pass."""
    return {
        "id": record.reconciliation_id,
        "state": record.state,
        "stage": record.stage,
        "registrationId": record.registration_id,
        "enrollmentGroup": record.enrollment_group,
        "beganAt": record.began_at,
        "endedAt": record.ended_at,
        "continuesAt": None if record.ended_at is not None else share.next_step([record.spent]),
        "lookedAt": record.looked_at,
        "calls": record.calls,
        "found": record.found,
        "unread": record.unread,
        "unreadSubjects": [{"subject": each, "why": why} for each, why in sorted(record.unread_subjects.items())],
    }
