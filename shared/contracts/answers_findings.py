"""What reconciliation is asked for, and what it answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from shared.contracts.base import Contract, ToldActor, example_of, with_example
from shared.contracts.ids import EnrollmentGroupId, RegistrationId, Words
from shared.domain.findings import FindingState, SubjectKind
from shared.domain.passes import ReconciliationState, Stage
from shared.domain.treatments import FindingKind, Policy, Severity

_FINDING = {
    "id": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "kind": "identityDisabled",
    "severity": "medium",
    "state": "open",
    "subjectKind": "device",
    "subject": "press-1",
    "where": "hub-1.azure-devices.net",
    "ledger": "the device is registered",
    "service": "its identity is disabled: maintenance",
    "since": "2026-05-01T12:00:00Z",
    "seenAt": "2026-05-01T13:00:00Z",
    "enrollmentGroup": "line-1",
    "certificateAuthority": "line-1-ca1",
    "problem": None,
    "endedAt": None,
    "comment": None,
    "underWay": None,
    "mending": "the identity is enabled",
    "adopting": "the ledger says that the device is disabled",
    "acts": [
        {
            "what": "the identity is enabled",
            "method": "POST",
            "path": "/api/findings/0a1b2c3d4e5f60718293a4b5c6d7e8f9/mend",
            "body": None,
        }
    ],
}


class ProposedAct(Contract):
    """A call that sees to a finding; ``body`` is its JSON, if it needs one."""

    model_config = with_example(
        {
            "what": "the CA 'line-1-ca1' is revoked",
            "method": "POST",
            "path": "/api/certificate-authorities/line-1-ca1/revoke",
            "body": {"reason": "keyCompromise"},
        }
    )

    what: str
    method: str
    path: str
    body: dict[str, str] | None


class FindingUnderWay(Contract):
    """Who mends a finding, or adopts it, at this moment.

    ``actor`` is who asked; ``null`` where that was the app itself. After ``until`` others need not wait for them.
    """

    model_config = with_example(
        {
            "act": "mend",
            "since": "2026-05-01T13:05:00Z",
            "until": "2026-05-01T13:15:00Z",
            "actor": example_of(ToldActor),
        }
    )

    act: Literal[Policy.MEND, Policy.ADOPT]
    since: datetime
    until: datetime
    actor: ToldActor | None


class DriftFinding(Contract):
    """A difference between the ledger and a service.

    ``underWay`` says who sees to it now: of two that come at once, the other is answered 503, and nothing is done.
    ``mending`` says what making the services follow the ledger does, ``adopting`` what making the ledger follow the
    services does; ``null`` where the app can't. ``acts`` are the calls that can be made about it.
    """

    model_config = with_example(_FINDING)

    id: str
    kind: FindingKind
    severity: Severity
    state: FindingState
    subject_kind: SubjectKind
    subject: str
    where: str
    ledger: str
    service: str
    since: datetime
    seen_at: datetime
    enrollment_group: str | None
    certificate_authority: str | None
    problem: str | None
    ended_at: datetime | None
    comment: str | None
    under_way: FindingUnderWay | None
    mending: str | None
    adopting: str | None
    acts: tuple[ProposedAct, ...]


class DriftFindingPage(Contract):
    """A page of findings."""

    model_config = with_example({"items": [_FINDING], "continuationToken": None})

    items: list[DriftFinding]
    continuation_token: str | None


class DriftFindingClosing(Contract):
    """Why a finding may stay as it is."""

    model_config = with_example({"comment": "under repair until June"})

    comment: Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True), Words]


class ReconciliationRequest(Contract):
    """What is to be compared: one device, one group with its devices, or everything."""

    model_config = with_example({"enrollmentGroup": "line-1"})

    registration_id: RegistrationId | None = None
    enrollment_group: EnrollmentGroupId | None = None

    @model_validator(mode="after")
    def _one_scope(self) -> Self:
        if self.registration_id is not None and self.enrollment_group is not None:
            raise PydanticCustomError(
                "one_scope",
                "give registrationId or enrollmentGroup, and not both; without both, everything is compared",
            )
        return self


class UnreadSubject(Contract):
    """What a pass could not compare: the id of a device, a group or a CA, or the name of a hub."""

    model_config = with_example({"subject": "press-17", "why": "the IoT hub does not answer"})

    subject: str
    why: str


class Reconciliation(Contract):
    """A pass of reconciliation.

    ``lookedAt`` counts what was compared by stage, ``calls`` the calls by service, ``found`` the differences by kind.
    ``unread`` counts what could not be compared, since a service did not answer, or the app met what it does not know:
    devices, groups, CAs, identities, and each hub that did not list its identities. The next pass looks at them.
    ``unreadSubjects`` names the first twenty, with why: of these a pass says nothing else.
    ``continuesAt`` is the time from which on it may use the services again, if it has used its share.
    """

    model_config = with_example(
        {
            "id": "2026-05-01T120000-0a1b2c3d",
            "state": "done",
            "stage": "gone",
            "registrationId": None,
            "enrollmentGroup": None,
            "beganAt": "2026-05-01T12:00:00Z",
            "endedAt": "2026-05-01T12:00:04Z",
            "continuesAt": None,
            "lookedAt": {"registrations": 40, "identities": 40, "devices": 40},
            "calls": {"dps": 4, "queries hub-1.azure-devices.net": 2},
            "found": {"identityDisabled": 1},
            "unread": 1,
            "unreadSubjects": [{"subject": "press-17", "why": "the IoT hub does not answer"}],
        }
    )

    id: str
    state: ReconciliationState
    stage: Stage
    registration_id: str | None
    enrollment_group: str | None
    began_at: datetime
    ended_at: datetime | None
    continues_at: datetime | None
    looked_at: dict[str, Annotated[int, Field(ge=0)]]
    calls: dict[str, Annotated[int, Field(ge=0)]]
    found: dict[str, Annotated[int, Field(ge=0)]]
    unread: int
    unread_subjects: tuple[UnreadSubject, ...]


class ReconciliationPage(Contract):
    """The passes of the last weeks, the latest first."""

    model_config = with_example({"items": [], "continuationToken": None})

    items: list[Reconciliation]
    continuation_token: str | None
