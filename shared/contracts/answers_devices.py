"""Answers about orders, devices and their identities."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from shared.contracts.answers import Serial
from shared.contracts.base import Contract, StatedReason, with_example
from shared.contracts.devices import RevocationAction, RevocationTarget
from shared.contracts.events_orders import OrderProgress
from shared.contracts.plans import PLANNED, RevocationPlan
from shared.domain.doors import Door
from shared.domain.held_certificates import CertificateSummary
from shared.domain.history import HistoryEntry
from shared.domain.orders import LineState, OrderState
from shared.domain.words import DeviceState, RegisterBy

_SERIAL = "1f7d1b3c5a6e4f8091a2b3c4d5e6f70819203142"
_CERTIFICATE = {
    "serialNumber": _SERIAL,
    "thumbprint": "0A1B2C3D4E5F60718293A4B5C6D7E8F901234567",
    "notBefore": "2026-05-01T11:50:00Z",
    "notAfter": "2027-05-01T11:59:59Z",
    "issuer": "line-1-ca1",
}
_DEVICE = {
    "registrationId": "press-1",
    "state": "registered",
    "enrollmentGroup": "line-1",
    "orderId": "order-1",
    "deviceId": "press-1",
    "assignedHub": "hub-1.azure-devices.net",
    "certificate": _CERTIFICATE,
    "nextCertificate": None,
    "reason": None,
    "updatedAt": "2026-05-01T12:00:03Z",
}
_LINE = {
    "registrationId": "press-1",
    "requestedAs": "PRESS-1",
    "state": "registered",
    "deviceId": "press-1",
    "assignedHub": "hub-1.azure-devices.net",
    "serialNumber": _SERIAL,
    "bundle": "/api/devices/press-1/bundle",
    "finishedAt": "2026-05-01T12:00:03Z",
}


class OrderedDevice(Contract):
    """One line of an order. ``requestedAs`` is its id as the order spells it, if that is another one."""

    model_config = with_example(_LINE)

    registration_id: str
    requested_as: str | None = None
    place: str | None = None
    state: LineState
    device_id: str | None = None
    assigned_hub: str | None = None
    serial_number: Serial | None = None
    bundle: str | None = None
    reason: str | None = None
    finished_at: datetime | None = None


class Order(Contract):
    """An order, with all of its lines or a page of them.

    One that was refused as a whole is ``rejected``, and has ``reasons`` and no lines. ``acceptedAt`` is when it was
    refused then, and ``enrollmentGroup`` is ``null`` if the message did not name a valid one.
    """

    model_config = with_example(
        {
            "orderId": "order-1",
            "enrollmentGroup": "line-1",
            "state": "completed",
            "registerBy": "service",
            "acceptedAt": "2026-05-01T12:00:00Z",
            "completedAt": "2026-05-01T12:00:05Z",
            "progress": {"total": 1, "ordered": 0, "issued": 0, "registered": 1, "failed": 0, "cancelled": 0},
            "devices": [_LINE],
        }
    )

    order_id: str
    enrollment_group: str | None
    state: OrderState
    register_by: RegisterBy
    accepted_at: datetime
    completed_at: datetime | None
    reasons: tuple[StatedReason, ...] | None = None
    progress: OrderProgress
    devices: list[OrderedDevice]
    continuation_token: str | None = None


_LISTED_ORDER = {
    "orderId": "order-1",
    "state": "completed",
    "enrollmentGroup": "line-1",
    "deviceCount": 1,
    "acceptedAt": "2026-05-01T12:00:00Z",
    "completedAt": "2026-05-01T12:00:05Z",
    "location": "/api/device-orders/order-1",
}


class ListedOrder(Contract):
    """An order in a list. One that was refused has no devices, and its reasons are at ``location``."""

    model_config = with_example(_LISTED_ORDER)

    order_id: str
    state: OrderState
    enrollment_group: str | None
    device_count: int
    accepted_at: datetime
    completed_at: datetime | None
    location: str


class OrderPage(Contract):
    """A page of orders, the latest first."""

    model_config = with_example({"items": [_LISTED_ORDER], "continuationToken": None})

    items: list[ListedOrder]
    continuation_token: str | None


_RESULT = {
    "registrationId": "press-1",
    "state": "registered",
    "deviceId": "press-1",
    "assignedHub": "hub-1.azure-devices.net",
    "serialNumber": _SERIAL,
    "thumbprint": _CERTIFICATE["thumbprint"],
    "expiresAt": "2027-05-01T11:59:59Z",
    "reason": None,
    "place": "line 2",
}


class OrderResult(Contract):
    """What became of a line of an order; ``place`` is where its owner finds it in the order."""

    model_config = with_example(_RESULT)

    registration_id: str
    state: LineState
    device_id: str | None
    assigned_hub: str | None
    serial_number: Serial | None
    thumbprint: str | None
    expires_at: datetime | None
    reason: str | None
    place: str


class OrderResultPage(Contract):
    """A page of the results of an order, in its order."""

    model_config = with_example(
        {"orderId": "order-1", "state": "completed", "items": [_RESULT], "continuationToken": None}
    )

    order_id: str
    state: OrderState
    items: list[OrderResult]
    continuation_token: str | None


class DeviceSummary(Contract):
    """A device, without its history."""

    model_config = with_example(_DEVICE)

    registration_id: str
    state: DeviceState
    enrollment_group: str | None
    order_id: str
    device_id: str | None
    assigned_hub: str | None
    certificate: CertificateSummary | None
    next_certificate: CertificateSummary | None
    reason: str | None
    updated_at: datetime


class ShownDoor(Contract):
    """A door that is closed to a device that is shut out, as it was read back at the service.

    ``where`` is ``DPS``, a hub's host name, or the CA whose list (``crl``) or answers (``ocsp``) name its certificate.
    """

    model_config = with_example(
        {
            "door": "hub",
            "where": "hub-1.azure-devices.net",
            "since": "2026-05-01T12:00:00Z",
            "checkedAt": "2026-05-01T12:00:01Z",
        }
    )

    door: Door
    where: str
    since: datetime
    checked_at: datetime


class Device(DeviceSummary):
    """A device, with its history: the oldest entry first.

    ``closedDoors`` is empty unless it is shut out everywhere; each hub that is linked to the DPS is one.
    """

    model_config = with_example(
        {
            **_DEVICE,
            "history": [
                {
                    "at": "2026-05-01T12:00:00Z",
                    "state": "ordered",
                    "note": "order order-1",
                    "actor": None,
                    "comment": None,
                }
            ],
            "closedDoors": [],
        }
    )

    history: list[HistoryEntry]
    closed_doors: list[ShownDoor]


class DevicePage(Contract):
    """A page of devices."""

    model_config = with_example({"items": [_DEVICE], "continuationToken": None})

    items: list[DeviceSummary]
    continuation_token: str | None


class DeviceCertificate(Contract):
    """The certificate that a device in service uses; ``state`` is the device's."""

    model_config = with_example(
        {**_CERTIFICATE, "registrationId": "press-1", "enrollmentGroup": "line-1", "state": "registered"}
    )

    registration_id: str
    enrollment_group: str | None
    state: DeviceState
    serial_number: Serial
    thumbprint: str
    not_before: datetime
    not_after: datetime
    issuer: str


class DeviceCertificatePage(Contract):
    """A page of certificates of devices, those first that expire first."""

    model_config = with_example(
        {
            "items": [
                {**_CERTIFICATE, "registrationId": "press-1", "enrollmentGroup": "line-1", "state": "registered"}
            ],
            "continuationToken": None,
        }
    )

    items: list[DeviceCertificate]
    continuation_token: str | None


class MonthOfExpiry(Contract):
    """How many devices in service have a certificate that expires in a month."""

    month: str
    devices: int


class DeviceCounts(Contract):
    """How many devices there are."""

    model_config = with_example(
        {
            "total": 3,
            "states": {
                **{state.value: 0 for state in DeviceState},
                "registered": 2,
                "revoked": 1,
            },
            "expiries": [{"month": "2027-05", "devices": 2}],
        }
    )

    total: int
    states: dict[DeviceState, int]
    expiries: list[MonthOfExpiry]


class RevocationPreview(RevocationPlan):
    """What a revocation would do and take (``dryRun``): the plan, and what the request has to say.

    ``target`` is the field of the request that says whose. ``repeatDevices`` says that the request has to repeat the
    number.
    """

    model_config = with_example({"action": "revoke", "target": "enrollmentGroup", "repeatDevices": True, **PLANNED})

    action: RevocationAction
    target: RevocationTarget
    repeat_devices: bool


class Identity(Contract):
    """A device's identity, as the hub has it that DPS has assigned.

    Attributes:
        authentication: its type, as the hub names it: ``selfSigned``, by the certificates that the app has issued.
            By ``sas`` or ``certificateAuthority`` others have changed it, and may be let in as the device.
        thumbprint: of a certificate that it takes; ``null`` if it authenticates otherwise.
    """

    model_config = with_example(
        {
            "registrationId": "press-1",
            "deviceId": "press-1",
            "assignedHub": "hub-1.azure-devices.net",
            "status": "enabled",
            "statusReason": None,
            "connectionState": "disconnected",
            "authentication": "selfSigned",
            "thumbprint": "0A1B2C3D4E5F60718293A4B5C6D7E8F901234567",
        }
    )

    registration_id: str
    device_id: str
    assigned_hub: str
    status: Literal["enabled", "disabled"]
    status_reason: str | None
    connection_state: Literal["connected", "disconnected"]
    authentication: str
    thumbprint: str | None
