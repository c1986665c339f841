"""Events about certificates."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from shared.contracts.base import Told, with_example
from shared.domain.certificates import InternalKind
from shared.domain.held_certificates import CertificateSummary
from shared.domain.words import CertificateKind, EventType, RenewalNeeds

SERIAL = "1f7d1b3c5a6e4f8091a2b3c4d5e6f70819203142"
CERTIFICATE = {
    "serialNumber": SERIAL,
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

    event_type = EventType.CERTIFICATE_ISSUED
    model_config = with_example(
        {
            "kind": "device",
            "name": "press-1",
            "issuer": "line-1-ca1",
            "serialNumber": SERIAL,
            "thumbprint": CERTIFICATE["thumbprint"],
            "notBefore": "2026-05-01T11:50:00Z",
            "notAfter": "2027-05-01T11:59:59Z",
            "certificate": CERTIFICATE,
            "registrationId": "press-1",
            "deviceId": None,
            "assignedHub": None,
            "enrollmentGroup": "line-1",
            "orderId": "order-1",
            "bundle": "/api/devices/press-1/bundle",
        }
    )

    kind: CertificateKind = Field(description="of certificate")
    name: str = Field(
        description="registration id of a device, name of a CA, or the code of a verification certificate"
    )
    issuer: str = Field(description="name of the CA that has signed it")
    serial_number: str = Field(description="in hexadecimal")
    thumbprint: str = Field(description="SHA-1 of the certificate, as DPS and the hubs show it")
    not_before: datetime = Field(description="when it begins to be valid")
    not_after: datetime = Field(description="its last second")
    certificate: CertificateSummary | str | None = Field(
        default=None,
        description="of a device: what `GET /api/devices/{registrationId}` shows of it; of a verification certificate: "
        "the certificate itself, in PEM",
    )
    registration_id: str | None = Field(default=None, description="of a device")
    device_id: str | None = Field(default=None, description="of a device that was in a hub before")
    assigned_hub: str | None = Field(default=None, description="host name of the hub that a device was in before")
    enrollment_group: str | None = Field(
        default=None, description="of a device, or of an issuing CA that was made for one"
    )
    order_id: str | None = Field(default=None, description="of a device: of the order or request that asked for it")
    bundle: str | None = Field(default=None, description="of a device: path at which its bundle is fetched")


class CertificateRenewed(Told):
    """A device uses the certificate that it was renewed with."""

    event_type = EventType.CERTIFICATE_RENEWED
    model_config = with_example(
        {
            "registrationId": "press-1",
            "serialNumber": SERIAL,
            "previousSerialNumber": SERIAL[::-1],
            "notAfter": "2027-05-01T11:59:59Z",
            "assignedHub": "hub-1.azure-devices.net",
        }
    )

    registration_id: str = Field(description="of the device")
    serial_number: str = Field(description="of the certificate that it uses now")
    previous_serial_number: str | None = Field(description="of the one before")
    not_after: datetime = Field(description="last second of the new certificate")
    assigned_hub: str | None = Field(description="host name of its hub")


class CertificateDue(Told):
    """What the events of a certificate's end have in common. ``subject`` is a registration id, or the name of a CA."""

    kind: CertificateKind | InternalKind = Field(description="of certificate")
    subject: str = Field(description="registration id of a device, or name of a CA")
    serial_number: str = Field(description="of the certificate")
    issuer: str = Field(description="name of the CA that has signed it")
    enrollment_group: str | None = Field(description="that it belongs to")
    not_after: datetime = Field(description="its last second")
    renewal_needs: RenewalNeeds | None = Field(
        default=None, description="who has to act, if a device should be renewed by now and can't be"
    )
    warning_days: int | None = Field(default=None, description="the warning time that has come, in days before the end")


_DUE = {
    "kind": "device",
    "subject": "press-1",
    "serialNumber": SERIAL,
    "issuer": "line-1-ca1",
    "enrollmentGroup": "line-1",
    "notAfter": "2027-05-01T11:59:59Z",
    "renewalNeeds": None,
}


class CertificateExpiring(CertificateDue):
    """A certificate of a device or a CA expires soon.

    ``warningDays`` is the warning time that has come, in days before its end: each is told once.
    ``renewalNeeds`` says who has to act, if a device should be renewed by now and can't be.
    """

    event_type = EventType.CERTIFICATE_EXPIRING
    model_config = with_example({**_DUE, "warningDays": 30})


class CertificateExpired(CertificateDue):
    """A certificate of a device or a CA has expired. ``warningDays`` and ``renewalNeeds`` are always ``null``."""

    event_type = EventType.CERTIFICATE_EXPIRED
    model_config = with_example({**_DUE, "warningDays": None})
