"""Acts that wait for a second person: which these are, and what is kept of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

from shared.domain import lifecycles
from shared.domain.audit_entries import SubjectKind
from shared.domain.callers import Actor, CallerKind
from shared.domain.record import Record
from shared.errors import Conflict, Forbidden
from shared.reading.numbers import digits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.errors import Rejected

_MOST = 1_000_000
_SHARE = 10
"""An approval is good for a tenth more devices than it was shown with, since devices come and go."""


class ApprovalAct(StrEnum):
    """What can need a second person, as the settings name it."""

    CREATE_ROOT = "createRoot"
    IMPORT_AUTHORITY = "importAuthority"
    INSTALL_CERTIFICATE = "installCertificate"
    DELETE_GROUP = "deleteGroup"
    REVOKE_DEVICES = "revokeDevices"
    REINSTATE_DEVICE = "reinstateDevice"
    REVOKE_AUTHORITY = "revokeAuthority"


class ApprovalState(StrEnum):
    """How far an approval is. One that was given stays so, whatever becomes of the act."""

    OPEN = "open"
    APPROVED = "approved"
    REFUSED = "refused"
    EXPIRED = "expired"


def read_approvals(text: str) -> Mapping[ApprovalAct, int]:
    """Read entries such as ``createRoot`` or ``revokeDevices>100``, separated by ``;``.

    Returns:
        The acts that need a second person, each with how many devices it may concern without one.

    Raises:
        ValueError: with one argument for each thing that is wrong.
    """
    found, problems = dict[ApprovalAct, int](), list[str]()
    for entry in filter(None, (each.strip() for each in text.split(";"))):
        name, above, number = (each.strip() for each in entry.partition(">"))
        act = next((each for each in ApprovalAct if each == name), None)
        count = digits(number) if above else 0
        if act is None:
            problems.append(f"has {entry[:60]!r}, which is not an act; give some of {', '.join(ApprovalAct)}")
        elif above and act is not ApprovalAct.REVOKE_DEVICES:
            problems.append(f"has {entry[:60]!r}; only {ApprovalAct.REVOKE_DEVICES} counts, so leave the number out")
        elif count is None or count > _MOST:
            problems.append(f"has {entry[:60]!r}; after > there must be a whole number from 0 to {_MOST}")
        elif act in found:
            problems.append(f"has {act.value!r} more than once")
        else:
            found[act] = count
    if problems:
        raise ValueError(*problems)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What an act would do, as the ledger has it now.

    Attributes:
        what: in words, as in ``delete the enrollment group 'line-1'``.
        kind: of what it is done to.
        subject: its id.
        group: that this belongs to.
        devices: how many it concerns; ``None`` where that is not counted.
        is_needed: whether it needs a second person.
    """

    act: ApprovalAct
    what: str
    kind: SubjectKind
    subject: str
    group: str | None = None
    devices: int | None = None
    is_needed: bool = True


class ApprovalRecord(Record):
    """One act that waits for a second person, or did.

    Attributes:
        approval_id: follows from the request, so that it is asked for once.
        what: it does, in words.
        subject_kind: what kind of thing it is done to.
        devices: how many it concerned when it was asked for.
        fingerprint: of what was asked for: nothing else is approved.
        token: of the request's row; ``None`` of a call.
        queue: that its request came by; ``None`` of a call that its caller repeats.
        request_id: of the request.
        asked_by: who asked for it.
        asked_with: what they said to it.
        asked_at: when that was.
        expires_at: when it can't be approved any more.
        told: whether an event has told that it is wanted.
        decided_by: who approved or refused it.
        comment: what they said to it.
        end_told: whether an event has told how it ended; ``None`` while it is open.
        revision: goes up with each change.
    """

    lifecycle = lifecycles.APPROVAL
    documents: ClassVar[frozenset[str]] = frozenset({"asked_by", "decided_by"})

    approval_id: str
    act: ApprovalAct
    what: str
    subject_kind: SubjectKind
    subject: str
    fingerprint: str
    asked_by: Actor
    asked_at: datetime
    expires_at: datetime
    state: ApprovalState = ApprovalState.OPEN
    enrollment_group: str | None = None
    devices: int | None = None
    token: str | None = None
    queue: str | None = None
    request_id: str | None = None
    asked_with: str | None = None
    told: bool = False
    decided_by: Actor | None = None
    decided_at: datetime | None = None
    comment: str | None = None
    end_told: bool | None = None
    revision: int = 0

    def covers(self, deed: Deed) -> bool:
        """Tell whether it is good for what the act would do now."""
        if self.devices is None or deed.devices is None:
            return True
        return (deed.devices - self.devices) * _SHARE <= self.devices

    def is_over(self, now: datetime) -> bool:
        """Tell whether its time has run out."""
        return now >= self.expires_at


def approval_id(asked: str) -> str:
    """Give the id of an approval, by what tells apart what is asked for."""
    return sha256(asked.encode(errors="replace")).hexdigest()[:32]


def same_person(one: Actor | None, other: Actor | None) -> bool:
    """Tell whether two are one. Two keys of one name are one person, whatever address they come from."""
    return one is not None and other is not None and (one.kind, one.id) == (other.kind, other.id)


def named(actor: Actor) -> str:
    """Name somebody in words."""
    if actor.kind is CallerKind.QUEUE:
        return f"the queue {actor.id!r}" + (f" of {actor.name!r}" if actor.name else "")
    return f"the {actor.kind} {actor.name or actor.id!r}"


def decided(
    record: ApprovalRecord, state: ApprovalState, by: Actor, comment: str | None, now: datetime
) -> ApprovalRecord:
    """Enter that somebody approves or refuses.

    Raises:
        Conflict: it is decided, or its time has run out.
        Forbidden: whoever asked would approve it.
    """
    if record.state is state and same_person(record.decided_by, by):
        return record
    if record.state in {ApprovalState.APPROVED, ApprovalState.REFUSED} and record.decided_by is not None:
        raise Conflict.because(
            f"{named(record.decided_by)} has {record.state} it on {record.decided_at:%Y-%m-%d at %H:%M} UTC, and that "
            "stays",
            field="id",
        )
    if record.state is not ApprovalState.OPEN or record.is_over(now):
        raise Conflict.because(
            f"nobody approved it until {record.expires_at:%Y-%m-%d at %H:%M} UTC, so it has expired; to have it done, "
            "ask for it anew",
            field="id",
        )
    if state is ApprovalState.APPROVED and same_person(record.asked_by, by):
        raise Forbidden.because("whoever asked for it can't approve it; somebody else with this role can")
    return record.changed(
        state=state, decided_by=by, decided_at=now, comment=comment, end_told=False, revision=record.revision + 1
    )


def expired(record: ApprovalRecord, now: datetime) -> ApprovalRecord:
    """Enter that nobody decided in time; gives the same record if somebody did, or still may."""
    if record.state is not ApprovalState.OPEN or not record.is_over(now):
        return record
    return record.changed(state=ApprovalState.EXPIRED, decided_at=now, end_told=False, revision=record.revision + 1)


def not_approved(record: ApprovalRecord) -> Rejected:
    """Say of an act that it is not carried out, and why."""
    if record.state is ApprovalState.REFUSED and record.decided_by is not None:
        said = f": {record.comment}" if record.comment else ""
        return Conflict.because(f"{named(record.decided_by)} has refused to {record.what}{said}")
    return Conflict.because(
        f"it needs a second person to {record.what}, and nobody approved that until "
        f"{record.expires_at:%Y-%m-%d at %H:%M} UTC; ask for it anew, with a new id"
    )
