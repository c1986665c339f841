"""Events: what the app tells the outside. Each type has one set of fields, and no field ever holds a private key."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import Field

from shared.contracts.base import SOURCE, StatedReason, Told, timestamp, with_example
from shared.contracts.events_approvals import ApprovalEnded, ApprovalWanted
from shared.contracts.events_certificates import (
    CertificateExpired,
    CertificateExpiring,
    CertificateIssued,
    CertificateRenewed,
)
from shared.contracts.events_devices import DeviceRegistered, DeviceReinstated, DeviceRevoked
from shared.contracts.events_orders import OrderAccepted, OrderCompleted, OrderProgressed
from shared.contracts.messages import Queue
from shared.domain.authorities import AuthorityAction, AuthorityState
from shared.domain.findings import SubjectKind
from shared.domain.groups import ChangeAction, GroupState
from shared.domain.rejections import RejectionKind
from shared.domain.treatments import FindingKind, Severity
from shared.domain.words import EventType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.domain.callers import Actor


class CertificateAuthorityChanged(Told):
    """An act on a CA is done, and everything follows it. ``enrollmentGroups`` have the CA, or one below it.

    ``reason`` of a revocation is one of RFC 5280.
    """

    event_type = EventType.CERTIFICATE_AUTHORITY_CHANGED
    model_config = with_example(
        {
            "name": "line-1-ca1",
            "action": "revoke",
            "state": "revoked",
            "reason": "keyCompromise",
            "comment": None,
            "enrollmentGroups": ["line-1"],
        }
    )

    name: str = Field(description="of the CA")
    action: AuthorityAction = Field(description="what was asked for")
    state: AuthorityState = Field(description="of the CA after that")
    reason: str | None = Field(default=None, description="of a revocation: one of RFC 5280")
    comment: str | None = Field(default=None, description="of who asked")
    enrollment_groups: list[str] = Field(description="that have the CA, or one below it")


class EnrollmentGroupChanged(Told):
    """What was asked for of an enrollment group is done, or was overtaken by what was asked for later."""

    event_type = EventType.ENROLLMENT_GROUP_CHANGED
    model_config = with_example(
        {
            "enrollmentGroup": "line-1",
            "action": "create",
            "state": "enabled",
            "issuer": "line-1-ca1",
            "overtaken": False,
        }
    )

    enrollment_group: str = Field(description="its id")
    action: ChangeAction = Field(description="what was asked for")
    state: GroupState = Field(description="of the group after that")
    issuer: str = Field(description="name of the CA that signs for it")
    overtaken: bool = Field(default=False, description="whether what was asked for later is done instead")


class RequestRejected(Told):
    """A request, an order or one line of an order can't be carried out.

    ``rejectionId`` names what is kept of a message, and can be replayed. A line of an order does not have one. ``line``
    counts from 0.
    """

    event_type = EventType.REQUEST_REJECTED
    model_config = with_example(
        {
            "queue": "revocation-requests",
            "kind": "rejected",
            "reasons": [{"field": "reason", "message": "is required to revoke"}],
            "rejectionId": "2026-05-01-6f1ed002ab5595859014",
            "orderId": None,
            "line": None,
            "registrationId": None,
        }
    )

    queue: Queue = Field(description="that it came by")
    kind: RejectionKind = Field(description="`rejected`, or `poison` if every delivery failed")
    reasons: tuple[StatedReason, ...] = Field(description="each with the field that it is about")
    rejection_id: str | None = Field(
        default=None, description="of what is kept of a message, for `POST /api/rejections/{id}/replay`"
    )
    order_id: str | None = Field(default=None, description="of an order or a line of one")
    line: int | None = Field(default=None, description="of an order, counted from 0")
    registration_id: str | None = Field(default=None, description="of the line")


class Drift(Told):
    """What both events of a finding tell. ``where`` is ``DPS``, a hub's host name, ``Key Vault`` or ``ledger``."""

    finding_id: str = Field(description="for `GET /api/findings/{id}`")
    kind: FindingKind = Field(description="of difference; see findings.md")
    severity: Severity = Field(description="how much it matters")
    subject_kind: SubjectKind = Field(description="what kind of thing it concerns")
    subject: str = Field(description="its id")
    where: str = Field(description="`DPS`, a hub's host name, `Key Vault` or `ledger`")
    ledger: str = Field(description="what the ledger says")
    service: str = Field(description="what is there")
    since: datetime = Field(description="when it was first seen")
    enrollment_group: str | None = Field(description="that it belongs to")
    certificate_authority: str | None = Field(description="that it belongs to")


_DRIFT = {
    "findingId": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "kind": "doorOpen",
    "severity": "critical",
    "subjectKind": "device",
    "subject": "press-1",
    "where": "hub-1.azure-devices.net",
    "ledger": "the device is revoked",
    "service": "its identity is enabled",
    "since": "2026-05-01T12:00:00Z",
    "enrollmentGroup": "line-1",
    "certificateAuthority": "line-1-ca1",
}


class DriftFound(Drift):
    """The ledger and a service say different things."""

    event_type = EventType.DRIFT_FOUND
    model_config = with_example(_DRIFT)


class DriftMended(Drift):
    """The ledger and a service say the same again, which they did not."""

    event_type = EventType.DRIFT_MENDED
    model_config = with_example(_DRIFT)


EVENTS: Mapping[EventType, type[Told]] = {
    each.event_type: each
    for each in (
        CertificateIssued,
        CertificateAuthorityChanged,
        EnrollmentGroupChanged,
        OrderAccepted,
        OrderProgressed,
        DeviceRegistered,
        OrderCompleted,
        DeviceRevoked,
        DeviceReinstated,
        CertificateExpiring,
        CertificateExpired,
        CertificateRenewed,
        RequestRejected,
        ApprovalWanted,
        ApprovalEnded,
        DriftFound,
        DriftMended,
    )
}
"""The model of each type's ``data``."""


def event(
    told: Told,
    *,
    subject: str,
    correlation_id: str,
    at: datetime,
    traceparent: str | None,
    occasion: str = "",
    actor: Actor | None = None,
) -> str:
    """Compose an event for ``provisioning-events``.

    Its id follows from what happened, so that an event sent again after a crash is known as the same one
    (CloudEvents: source + id are unique per event).

    Args:
        told: what happened; never a private key or a password.
        subject: the id concerned.
        correlation_id: the order or request that caused it.
        at: when it happened, UTC.
        traceparent: W3C trace context to carry on.
        occasion: tells repeated events of one kind, subject and cause apart, such as a serial number.
        actor: who asked for it.
    """
    kind = told.event_type
    name = "/".join(filter(None, (kind.removeprefix("DeviceProvisioning."), subject, correlation_id, occasion)))
    body: dict[str, Any] = {
        "specversion": "1.0",
        "id": name,
        "source": SOURCE,
        "type": kind.value,
        "subject": subject,
        "time": timestamp(at),
        "datacontenttype": "application/json",
        "correlationid": correlation_id,
        "data": told.by(actor).model_dump(mode="json", by_alias=True),
    }
    if traceparent:
        body["traceparent"] = traceparent
    return json.dumps(body, separators=(",", ":"))
