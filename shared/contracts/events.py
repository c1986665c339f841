"""Events: what the app tells the outside. Each type has one set of fields, and no field ever holds a private key."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from shared.contracts.base import SOURCE, StatedReason, Told, timestamp, told_actor, with_example
from shared.contracts.events_approvals import ApprovalEnded, ApprovalWanted
from shared.contracts.events_orders import OrderAccepted, OrderCompleted, OrderProgressed
from shared.contracts.messages import Queue
from shared.domain.authorities import AuthorityAction, AuthorityState
from shared.domain.certificates import InternalKind
from shared.domain.findings import SubjectKind
from shared.domain.groups import GroupState
from shared.domain.held_certificates import CertificateSummary
from shared.domain.rejections import RejectionKind
from shared.domain.treatments import FindingKind, Severity
from shared.domain.words import CertificateKind, DeviceState, EventType, RenewalNeeds, RevocationReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.domain.callers import Actor


_SERIAL = "1f7d1b3c5a6e4f8091a2b3c4d5e6f70819203142"
_CERTIFICATE = {
    "serialNumber": _SERIAL,
    "thumbprint": "0A1B2C3D4E5F60718293A4B5C6D7E8F901234567",
    "notBefore": "2026-05-01T11:50:00Z",
    "notAfter": "2027-05-01T11:59:59Z",
    "issuer": "line-1-ca1",
}


class CertificateIssued(Told):
    """A certificate was signed and entered.

    ``name`` is the device's registration id, the CA's name, or the code of a verification certificate. The fields from
    ``certificate`` on are a device's; ``certificate`` of a verification certificate is the certificate itself, in PEM.
    """

    model_config = with_example(
        {
            "kind": "device",
            "name": "press-1",
            "issuer": "line-1-ca1",
            "serialNumber": _SERIAL,
            "thumbprint": _CERTIFICATE["thumbprint"],
            "notBefore": "2026-05-01T11:50:00Z",
            "notAfter": "2027-05-01T11:59:59Z",
            "certificate": _CERTIFICATE,
            "registrationId": "press-1",
            "deviceId": None,
            "assignedHub": None,
            "enrollmentGroup": "line-1",
            "orderId": "order-1",
            "bundle": "/api/devices/press-1/bundle",
        }
    )

    kind: CertificateKind
    name: str
    issuer: str
    serial_number: str
    thumbprint: str
    not_before: datetime
    not_after: datetime
    certificate: CertificateSummary | str | None = None
    registration_id: str | None = None
    device_id: str | None = None
    assigned_hub: str | None = None
    enrollment_group: str | None = None
    order_id: str | None = None
    bundle: str | None = None


class CertificateAuthorityChanged(Told):
    """An act on a CA is done, and everything follows it. ``enrollmentGroups`` have the CA, or one below it.

    ``reason`` of a revocation is one of RFC 5280.
    """

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

    name: str
    action: AuthorityAction
    state: AuthorityState
    reason: str | None = None
    comment: str | None = None
    enrollment_groups: list[str]


class EnrollmentGroupChanged(Told):
    """What was asked for of an enrollment group is done, or was overtaken by what was asked for later."""

    model_config = with_example(
        {
            "enrollmentGroup": "line-1",
            "action": "create",
            "state": "enabled",
            "issuer": "line-1-ca1",
            "overtaken": False,
        }
    )

    enrollment_group: str
    action: Literal["create", "update", "disable", "enable", "roll", "delete", "retire"]
    state: GroupState
    issuer: str
    overtaken: bool = False


class DeviceRegistered(Told):
    """A device is in its hub."""

    model_config = with_example(
        {
            "registrationId": "press-1",
            "deviceId": "press-1",
            "assignedHub": "hub-1.azure-devices.net",
            "enrollmentGroup": "line-1",
            "orderId": "order-1",
            "certificate": _CERTIFICATE,
            "bundle": "/api/devices/press-1/bundle",
        }
    )

    registration_id: str
    device_id: str | None
    assigned_hub: str | None
    enrollment_group: str | None
    order_id: str
    certificate: CertificateSummary | None
    bundle: str


class DeviceRevoked(Told):
    """A device, or one certificate of it, is revoked, and DPS and the hubs follow."""

    model_config = with_example(
        {
            "registrationId": "press-1",
            "serialNumber": _SERIAL,
            "assignedHub": "hub-1.azure-devices.net",
            "reason": "keyCompromise",
            "state": "revoked",
        }
    )

    registration_id: str
    serial_number: str | None
    assigned_hub: str | None
    reason: RevocationReason
    state: DeviceState


class DeviceReinstated(Told):
    """The hold of a device, or of one certificate of it, is undone, and DPS and the hubs follow."""

    model_config = with_example(
        {
            "registrationId": "press-1",
            "serialNumber": _SERIAL,
            "assignedHub": "hub-1.azure-devices.net",
            "state": "registered",
        }
    )

    registration_id: str
    serial_number: str | None
    assigned_hub: str | None
    state: DeviceState


class CertificateRenewed(Told):
    """A device uses the certificate that it was renewed with."""

    model_config = with_example(
        {
            "registrationId": "press-1",
            "serialNumber": _SERIAL,
            "previousSerialNumber": _SERIAL[::-1],
            "notAfter": "2027-05-01T11:59:59Z",
            "assignedHub": "hub-1.azure-devices.net",
        }
    )

    registration_id: str
    serial_number: str
    previous_serial_number: str | None
    not_after: datetime
    assigned_hub: str | None


class CertificateDue(Told):
    """A certificate of a device or a CA expires soon, or has expired.

    ``warningDays`` is the warning time that has come, in days before its end: each is told once.
    ``renewalNeeds`` says who has to act, if a device should be renewed by now and can't be.
    """

    model_config = with_example(
        {
            "kind": "device",
            "subject": "press-1",
            "serialNumber": _SERIAL,
            "issuer": "line-1-ca1",
            "enrollmentGroup": "line-1",
            "notAfter": "2027-05-01T11:59:59Z",
            "renewalNeeds": None,
            "warningDays": 30,
        }
    )

    kind: CertificateKind | InternalKind
    subject: str
    serial_number: str
    issuer: str
    enrollment_group: str | None
    not_after: datetime
    renewal_needs: RenewalNeeds | None = None
    warning_days: int | None = None


class RequestRejected(Told):
    """A request, an order or one line of an order can't be carried out.

    ``rejectionId`` names what is kept of a message, and can be replayed; a line of an order has none. ``line`` counts
    from 0.
    """

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

    queue: Queue
    kind: RejectionKind
    reasons: list[StatedReason]
    rejection_id: str | None = None
    order_id: str | None = None
    line: int | None = None
    registration_id: str | None = None


class Drift(Told):
    """The ledger and a service say different things, or did so until it was put right.

    ``where`` is ``DPS``, a hub's host name, ``Key Vault`` or ``ledger``.
    """

    model_config = with_example(
        {
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
    )

    finding_id: str
    kind: FindingKind
    severity: Severity
    subject_kind: SubjectKind
    subject: str
    where: str
    ledger: str
    service: str
    since: datetime
    enrollment_group: str | None
    certificate_authority: str | None


EVENTS: Mapping[EventType, type[Told]] = {
    EventType.CERTIFICATE_ISSUED: CertificateIssued,
    EventType.CERTIFICATE_AUTHORITY_CHANGED: CertificateAuthorityChanged,
    EventType.ENROLLMENT_GROUP_CHANGED: EnrollmentGroupChanged,
    EventType.ORDER_ACCEPTED: OrderAccepted,
    EventType.ORDER_PROGRESSED: OrderProgressed,
    EventType.DEVICE_REGISTERED: DeviceRegistered,
    EventType.ORDER_COMPLETED: OrderCompleted,
    EventType.DEVICE_REVOKED: DeviceRevoked,
    EventType.DEVICE_REINSTATED: DeviceReinstated,
    EventType.CERTIFICATE_EXPIRING: CertificateDue,
    EventType.CERTIFICATE_EXPIRED: CertificateDue,
    EventType.CERTIFICATE_RENEWED: CertificateRenewed,
    EventType.REQUEST_REJECTED: RequestRejected,
    EventType.APPROVAL_WANTED: ApprovalWanted,
    EventType.APPROVAL_ENDED: ApprovalEnded,
    EventType.DRIFT_FOUND: Drift,
    EventType.DRIFT_MENDED: Drift,
}
"""The fields of each type's ``data``."""


def event(
    kind: EventType,
    *,
    subject: str,
    correlation_id: str,
    at: datetime,
    traceparent: str | None,
    data: Mapping[str, Any],
    occasion: str = "",
    actor: Actor | None = None,
) -> str:
    """Compose an event for ``provisioning-events``.

    Its id follows from what happened, so that an event sent again after a crash is known as the same one
    (CloudEvents: source + id are unique per event).

    Args:
        kind: what happened.
        subject: the id concerned.
        correlation_id: the order or request that caused it.
        at: when it happened, UTC.
        traceparent: W3C trace context to carry on.
        data: the event's own fields, as :data:`EVENTS` has them for its type; never a private key or a password.
        occasion: tells repeated events of one kind, subject and cause apart, such as a serial number.
        actor: who asked for it.
    """
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
        "data": EVENTS[kind]
        .model_validate({**data, "actor": told_actor(actor)})
        .model_dump(mode="json", by_alias=True),
    }
    if traceparent:
        body["traceparent"] = traceparent
    return json.dumps(body, separators=(",", ":"))
