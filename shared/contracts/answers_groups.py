"""Answers about enrollments: groups, and those of single devices. What DPS holds is passed on as it is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from shared.contracts.answers import Serial
from shared.contracts.base import Contract, with_example
from shared.domain.groups import GroupState, RolloverState
from shared.domain.words import RenewalNeeds

_ROLLOVER = {
    "from": "line-1-ca1",
    "to": "line-1-ca2",
    "state": "rolling",
    "startedAt": "2026-05-01T12:00:00Z",
    "retiredAt": None,
    "problem": None,
}
_GROUP = {
    "enrollmentGroup": "line-1",
    "state": "enabled",
    "issuer": "line-1-ca2",
    "previousIssuer": "line-1-ca1",
    "renewAutomatically": False,
    "rollover": _ROLLOVER,
    "updatedAt": "2026-05-01T12:00:00Z",
}
_ENTRY = {"enrollmentGroupId": "line-1", "provisioningStatus": "enabled", "etag": '"1"'}
_ENROLLMENT = {"registrationId": "press-1", "provisioningStatus": "enabled", "etag": '"1"'}
_RECORD = {"registrationId": "press-1", "status": "assigned", "assignedHub": "hub-1.azure-devices.net"}


class RolloverSummary(Contract):
    """How far a group's change from one issuing CA to the next is."""

    model_config = with_example(_ROLLOVER)

    source: Annotated[str, Field(alias="from")]
    target: Annotated[str, Field(alias="to")]
    state: RolloverState
    started_at: datetime
    retired_at: datetime | None
    problem: str | None


class Rollover(RolloverSummary):
    """The same, with the certificates of the CA that is leaving: counted up to 10,000, ``moreLeft`` then."""

    model_config = with_example({**_ROLLOVER, "certificatesLeft": 12, "moreLeft": False})

    certificates_left: int
    more_left: bool


_LEFT = {"registrationId": "press-1", "serialNumber": "4" * 40, "endsBy": "2027-05-01T12:00:00Z"}


class DeviceLeft(Contract):
    """A certificate of the CA that is leaving, which may still be used; it ends at ``endsBy`` at the latest."""

    model_config = with_example(_LEFT)

    registration_id: str
    serial_number: Serial
    ends_by: datetime


class DeviceLeftPage(Contract):
    """A page of the devices that a rollover waits for."""

    model_config = with_example({"items": [_LEFT], "continuationToken": None})

    items: list[DeviceLeft]
    continuation_token: str | None


_MISSED = {
    "registrationId": "press-1",
    "serialNumber": "4" * 40,
    "notAfter": "2027-05-01T11:59:59Z",
    "needs": "csr",
    "since": "2027-01-01T03:10:00Z",
}


class MissedRenewal(Contract):
    """A device that should be renewed by now; ``needs`` says who has to act."""

    model_config = with_example(_MISSED)

    registration_id: str
    serial_number: Serial
    not_after: datetime
    needs: RenewalNeeds
    since: datetime


class MissedRenewalPage(Contract):
    """A page of the devices of a group that missed their renewal."""

    model_config = with_example({"items": [_MISSED], "continuationToken": None})

    items: list[MissedRenewal]
    continuation_token: str | None


class GroupEntry(Contract):
    """An enrollment group as DPS holds it (DPS: ``EnrollmentGroup``)."""

    model_config = with_example(_ENTRY, extra="allow")

    enrollment_group_id: str
    etag: str


class GroupSummary(Contract):
    """An enrollment group, as far as the app's own records have it."""

    model_config = with_example(_GROUP)

    enrollment_group: str
    state: GroupState
    issuer: str
    previous_issuer: str | None
    renew_automatically: bool
    rollover: RolloverSummary | None
    updated_at: datetime


class Group(Contract):
    """An enrollment group, with what DPS holds of it; ``etag`` guards changes."""

    model_config = with_example(
        {
            **_GROUP,
            "rollover": {**_ROLLOVER, "certificatesLeft": 12, "moreLeft": False},
            "etag": '"1"',
            "provisioningService": _ENTRY,
        }
    )

    enrollment_group: str
    state: GroupState
    issuer: str
    previous_issuer: str | None
    renew_automatically: bool
    rollover: Rollover | None
    updated_at: datetime
    etag: str | None
    provisioning_service: GroupEntry | None


class GroupPage(Contract):
    """All enrollment groups."""

    model_config = with_example({"items": [_GROUP], "continuationToken": None})

    items: list[GroupSummary]
    continuation_token: str | None


class RegistrationRecord(Contract):
    """A registration as DPS holds it (DPS: ``DeviceRegistrationState``)."""

    model_config = with_example(_RECORD, extra="allow")

    registration_id: str


class RegistrationPage(Contract):
    """A page of registrations."""

    model_config = with_example({"items": [_RECORD], "continuationToken": None})

    items: list[RegistrationRecord]
    continuation_token: str | None


class Enrollment(Contract):
    """An individual enrollment as DPS holds it (DPS: ``IndividualEnrollment``); ``etag`` guards changes."""

    model_config = with_example(_ENROLLMENT, extra="allow")

    registration_id: str
    etag: str
