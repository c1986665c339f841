"""Differences between the ledger and the services, and what becomes of one that was found.

A difference is found by comparing (:mod:`shared.domain.reconciliation`), looked at once more, and kept until it is
gone, or somebody has seen to it. Which kinds there are, and what can be done about each:
:mod:`shared.domain.treatments`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, ClassVar

from pydantic import Field

from shared.domain import lifecycles
from shared.domain.audit_entries import AuditedCall
from shared.domain.callers import Actor
from shared.domain.identities_seen import IdentitySeen
from shared.domain.record import Part, Record
from shared.domain.treatments import TREATMENTS, FindingKind, Policy, Severity, Treatment


class SubjectKind(StrEnum):
    """What a difference is about."""

    DEVICE = "device"
    GROUP = "group"
    AUTHORITY = "certificateAuthority"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, as it is now.

    Attributes:
        subject: id of the device or the group, or name of the CA.
        ledger: what the ledger says, in words.
        service: what the service says.
        where: the service, as in ``DPS``, or a hub's host name.
        enrollment_group: the group concerned, if there is one.
        certificate_authority: the CA concerned, likewise.
        identity: in the hub, where it is not the one that the ledger has of a device.
    """

    kind: FindingKind
    subject_kind: SubjectKind
    subject: str
    ledger: str
    service: str
    where: str
    enrollment_group: str | None = None
    certificate_authority: str | None = None
    identity: IdentitySeen | None = None

    @property
    def finding_id(self) -> str:
        """The same for the same difference, whenever it is found; 32 hexadecimal digits."""
        named = f"{self.kind}|{self.subject_kind}|{self.subject}|{self.where}"
        if self.identity is not None and self.identity.device_id != self.subject:
            named = f"{named}|{self.identity.device_id}"
        return sha256(named.encode()).hexdigest()[:32]


class FindingState(StrEnum):
    """What has become of a finding."""

    OPEN = "open"
    MENDED = "mended"
    ADOPTED = "adopted"
    GONE = "gone"
    CLOSED = "closed"


class Claim(Part):
    """Who is about a finding: one at a time, so that it is not mended and adopted at once.

    Attributes:
        token: tells it from all others.
        act: what is done, ``mend`` or ``adopt``.
        since: when it was begun.
        until: when others need not wait any more, since that worker must be gone.
        actor: who asked; ``None`` where a policy did.
    """

    token: str
    act: Policy
    since: datetime
    until: datetime
    actor: Actor | None = None


class FindingRecord(Record):
    """One finding.

    Attributes:
        since: when it was found first, after the last time that it was not there.
        seen_at: when it was seen last.
        reconciliation: id of the pass that has seen it last.
        told: whether its event was sent.
        problem: why the last try to mend it did not succeed.
        ended_at: when it was mended, adopted, gone or closed.
        comment: of who closed it, or what is left to do since it was mended.
        occurrence: how often it has been found, after it had ended.
        claim: who is about it.
        audited: calls about it that an entry of the audit log is about, until it ends.
        identity: as in :class:`Difference`.
    """

    lifecycle = lifecycles.FINDING
    documents: ClassVar[frozenset[str]] = frozenset({"claim", "audited", "identity"})

    finding_id: str
    kind: FindingKind
    severity: Severity
    subject_kind: SubjectKind
    subject: str
    ledger: str
    service: str
    where: str
    since: datetime
    seen_at: datetime
    reconciliation: str
    state: FindingState = FindingState.OPEN
    enrollment_group: str | None = None
    certificate_authority: str | None = None
    told: bool = False
    problem: str | None = None
    ended_at: datetime | None = None
    comment: str | None = None
    occurrence: int = Field(default=1)
    claim: Claim | None = None
    audited: tuple[AuditedCall, ...] = ()
    identity: IdentitySeen | None = None

    ENDED: ClassVar[frozenset[FindingState]] = frozenset(FindingState) - {FindingState.OPEN}

    @property
    def treatment(self) -> Treatment:
        """What can be done about it."""
        return TREATMENTS[self.kind]

    @property
    def difference(self) -> Difference:
        """What differs, as it was seen last."""
        return Difference(
            kind=self.kind,
            subject_kind=self.subject_kind,
            subject=self.subject,
            ledger=self.ledger,
            service=self.service,
            where=self.where,
            enrollment_group=self.enrollment_group,
            certificate_authority=self.certificate_authority,
            identity=self.identity,
        )

    def ended(self, state: FindingState, at: datetime, comment: str | None = None) -> FindingRecord:
        """Give it when it is no more."""
        return self.changed(
            state=state, ended_at=at, problem=None, claim=None, audited=(), comment=comment or self.comment
        )


def found(difference: Difference, before: FindingRecord | None, *, at: datetime, reconciliation: str) -> FindingRecord:
    """Give the finding of a difference that is there now. One that somebody has closed stays closed while it lasts."""
    seen: dict[str, Any] = {
        "ledger": difference.ledger,
        "service": difference.service,
        "seen_at": at,
        "reconciliation": reconciliation,
        "enrollment_group": difference.enrollment_group,
        "certificate_authority": difference.certificate_authority,
        "identity": difference.identity,
    }
    if before is not None and before.state in {FindingState.OPEN, FindingState.CLOSED}:
        return before.changed(**seen)
    if before is not None:
        again: dict[str, Any] = {"state": FindingState.OPEN, "since": at, "told": False}
        again |= dict.fromkeys(("ended_at", "problem", "comment"))
        return before.changed(**seen, **again, occurrence=before.occurrence + 1)
    return FindingRecord(
        finding_id=difference.finding_id,
        kind=difference.kind,
        severity=TREATMENTS[difference.kind].severity,
        subject_kind=difference.subject_kind,
        subject=difference.subject,
        where=difference.where,
        since=at,
        **seen,
    )
