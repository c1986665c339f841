"""Events about devices."""

from __future__ import annotations

from pydantic import Field

from shared.contracts.base import Told, with_example
from shared.contracts.events_certificates import CERTIFICATE, SERIAL
from shared.domain.held_certificates import CertificateSummary
from shared.domain.words import DeviceState, EventType, RevocationReason


class DeviceRegistered(Told):
    """A device is in its hub."""

    event_type = EventType.DEVICE_REGISTERED
    model_config = with_example(
        {
            "registrationId": "press-1",
            "deviceId": "press-1",
            "assignedHub": "hub-1.azure-devices.net",
            "enrollmentGroup": "line-1",
            "orderId": "order-1",
            "certificate": CERTIFICATE,
            "bundle": "/api/devices/press-1/bundle",
        }
    )

    registration_id: str = Field(description="of the device")
    device_id: str | None = Field(description="of its identity in the hub")
    assigned_hub: str | None = Field(description="host name of the hub")
    enrollment_group: str | None = Field(description="that it belongs to")
    order_id: str = Field(description="of the order or request that its certificate comes from")
    certificate: CertificateSummary | None = Field(description="what `GET /api/devices/{registrationId}` shows of it")
    bundle: str = Field(description="path at which its bundle is fetched")


class DeviceRevoked(Told):
    """A device, or one certificate of it, is revoked, and DPS and the hubs follow."""

    event_type = EventType.DEVICE_REVOKED
    model_config = with_example(
        {
            "registrationId": "press-1",
            "serialNumber": SERIAL,
            "assignedHub": "hub-1.azure-devices.net",
            "reason": "keyCompromise",
            "state": "revoked",
        }
    )

    registration_id: str = Field(description="of the device")
    serial_number: str | None = Field(
        description="of the certificate; of the present one if the whole device is revoked"
    )
    assigned_hub: str | None = Field(description="host name of the hub that does not let it in any more")
    reason: RevocationReason = Field(description="one of RFC 5280")
    state: DeviceState = Field(description="of the device after that: it goes on if a former certificate was revoked")


class DeviceReinstated(Told):
    """The hold of a device, or of one certificate of it, is undone, and DPS and the hubs follow."""

    event_type = EventType.DEVICE_REINSTATED
    model_config = with_example(
        {
            "registrationId": "press-1",
            "serialNumber": SERIAL,
            "assignedHub": "hub-1.azure-devices.net",
            "state": "registered",
        }
    )

    registration_id: str = Field(description="of the device")
    serial_number: str | None = Field(
        description="of the certificate; of the present one if the whole device was on hold"
    )
    assigned_hub: str | None = Field(description="host name of the hub that lets it in again")
    state: DeviceState = Field(description="of the device after that")
