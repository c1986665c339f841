"""Findings and passes as HTTP shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.answers_findings import DriftFinding, FindingUnderWay, ProposedAct, Reconciliation, UnreadSubject
from shared.contracts.base import told_actor
from shared.domain.findings import FindingState
from shared.domain.treatments import FindingKind, Policy
from shared.domain.words import RevocationReason

if TYPE_CHECKING:
    from shared.domain.findings import FindingRecord
    from shared.domain.passes import ReconciliationRecord
    from shared.workflows.reconciliation.budget import Share


def shown_finding(record: FindingRecord) -> DriftFinding:
    """Show a finding, with the calls that can be made about it."""
    return DriftFinding(
        id=record.finding_id,
        kind=record.kind,
        severity=record.severity,
        state=record.state,
        subject_kind=record.subject_kind,
        subject=record.subject,
        where=record.where,
        ledger=record.ledger,
        service=record.service,
        since=record.since,
        seen_at=record.seen_at,
        enrollment_group=record.enrollment_group,
        certificate_authority=record.certificate_authority,
        problem=record.problem,
        ended_at=record.ended_at,
        comment=record.comment,
        under_way=_under_way(record),
        mending=record.treatment.mending,
        adopting=record.treatment.adopting,
        acts=tuple(_acts(record)) if record.state in {FindingState.OPEN, FindingState.CLOSED} else (),
    )


def _under_way(record: FindingRecord) -> FindingUnderWay | None:
    claim = record.claim
    if claim is None:
        return None
    assert claim.act is not Policy.REPORT  # noqa: S101 - nobody is about that
    return FindingUnderWay(act=claim.act, since=claim.since, until=claim.until, actor=told_actor(claim.actor))


def _acts(record: FindingRecord) -> list[ProposedAct]:
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


def _post(path: str, what: str, *, body: dict[str, str] | None = None) -> ProposedAct:
    return ProposedAct(what=what, method="POST", path=path, body=body)


def shown_pass(record: ReconciliationRecord, share: Share) -> Reconciliation:
    """Show a pass."""
    return Reconciliation(
        id=record.reconciliation_id,
        state=record.state,
        stage=record.stage,
        registration_id=record.registration_id,
        enrollment_group=record.enrollment_group,
        began_at=record.began_at,
        ended_at=record.ended_at,
        continues_at=None if record.ended_at is not None else share.next_step([record.spent]),
        looked_at=record.looked_at,
        calls=record.calls,
        found=record.found,
        unread=record.unread,
        unread_subjects=tuple(
            UnreadSubject(subject=each, why=why) for each, why in sorted(record.unread_subjects.items())
        ),
    )
