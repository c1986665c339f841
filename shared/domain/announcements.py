"""What a device's record announces: an event that becomes true when the services are as wanted.

Each model has the fields that the event of its type tells (:mod:`shared.contracts.events`), beside who asked for it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from shared.domain.callers import Actor
from shared.domain.held_certificates import CertificateSummary
from shared.domain.record import Part
from shared.domain.words import CertificateKind, DeviceState, EventType, RevocationReason


class Announced(Part):
    """Base of what is announced of a device."""

    event_type: ClassVar[EventType]

    registration_id: str


class Issued(Announced):
    """It has a certificate."""

    event_type = EventType.CERTIFICATE_ISSUED

    kind: CertificateKind = CertificateKind.DEVICE
    name: str
    serial_number: str
    thumbprint: str
    not_before: datetime
    not_after: datetime
    issuer: str
    device_id: str | None
    assigned_hub: str | None
    enrollment_group: str | None
    order_id: str
    certificate: CertificateSummary
    bundle: str


class Revoked(Announced):
    """It is revoked, or a certificate of it."""

    event_type = EventType.DEVICE_REVOKED

    serial_number: str | None
    assigned_hub: str | None
    reason: RevocationReason
    state: DeviceState


class Reinstated(Announced):
    """Its hold is undone, or that of a certificate of it."""

    event_type = EventType.DEVICE_REINSTATED

    serial_number: str | None
    assigned_hub: str | None
    state: DeviceState


class Renewed(Announced):
    """It uses the certificate that it was renewed with."""

    event_type = EventType.CERTIFICATE_RENEWED

    serial_number: str
    previous_serial_number: str | None
    not_after: datetime
    assigned_hub: str


class Announcement(Part):
    """An event that becomes true when the services are as wanted; ``actor`` is who asked for what it tells.

    ``data`` has the fields of one of these models, as they stand on the wire. So a row that another version of the app
    has written is read.
    """

    kind: EventType
    correlation: str
    data: dict[str, Any]
    occasion: str = ""
    actor: Actor | None = None

    @classmethod
    def of(cls, announced: Announced, correlation: str, occasion: str) -> Announcement:
        """Announce it."""
        data = announced.model_dump(mode="json", by_alias=True)
        return cls(kind=announced.event_type, correlation=correlation, data=data, occasion=occasion)

    @property
    def name(self) -> tuple[str, str, str]:
        """What tells it from other events of the device."""
        return self.kind, self.correlation, self.occasion
