"""One act in the audit log: who did or tried what to what, and what came of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from shared.domain.callers import Actor
from shared.domain.record import Part, Record

REASON_LIMIT = 1000
"""Characters that are kept of a reason and of a comment."""

_AUDITED = 100
"""So many calls may fail one after the other while a service is down."""


class SubjectKind(StrEnum):
    """What kind of thing an act is about."""

    DEVICE = "device"
    GROUP = "enrollmentGroup"
    AUTHORITY = "certificateAuthority"
    CERTIFICATE = "certificate"
    ORDER = "order"
    REQUEST = "request"
    REJECTION = "rejection"
    FINDING = "finding"
    APPROVAL = "approval"
    OPERATION = "operation"


class AuditOutcome(StrEnum):
    """What came of an act.

    ``begun``: it is written ahead of the deed; one that stays so was broken off, or is still waiting. ``done``: it took
    effect, perhaps after it failed for its caller. ``refused``: it can't be. ``failed``: the world is wrong.
    ``denied``: the caller may not do it.
    """

    BEGUN = "begun"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    DENIED = "denied"


class AuditedAct(Part):
    """Names the entry of an act that a record wants followed: it is done when the services follow, whoever sees to it.

    Attributes:
        entry_id: of the entry.
        at: its time.
        enabled: what a switch of a device's identity wants; ``None`` of other acts.
    """

    entry_id: str
    at: datetime
    enabled: bool | None = None


class AuditedCall(Part):
    """Names the entry of a call about a finding: it is done when that is so which it asks for, whoever sees to it.

    Attributes:
        entry: the entry.
        act: what it asks for, ``mend`` or ``adopt``.
        said: what the ledger said then of what the finding is about (:mod:`shared.domain.finding_calls`).
    """

    entry: AuditedAct
    act: str
    said: dict[str, str]


def with_act[A: AuditedAct | AuditedCall](acts: tuple[A, ...], act: A) -> tuple[A, ...]:
    """Give the acts of a record with one more, as many as it has room for: the latest."""
    return (*acts, act)[-_AUDITED:]


class AuditEntry(Record):
    """One act.

    Attributes:
        entry_id: tells acts of one moment apart; the same however often one act is repeated.
        at: when it was asked for.
        actor: who asked.
        action: what for, as in ``revoke``.
        subject: id of what it is about: a registration id, a group's id, a CA's name, or an operation's name.
        enrollment_group: that the subject belongs to, where that is known.
        request_id: of the request; ``None`` of what was carried out at once.
        reason: for which it was asked, or why it was not done.
        comment: as who asked gave it.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"actor"})

    entry_id: str
    at: datetime
    actor: Actor
    action: str
    subject_kind: SubjectKind
    subject: str
    outcome: AuditOutcome
    enrollment_group: str | None = None
    request_id: str | None = None
    reason: str | None = None
    comment: str | None = None
