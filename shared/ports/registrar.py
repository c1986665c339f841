"""The device side of DPS, as workflows need it: a device registers with its own certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shared.errors import Reason, Rejected, ServiceFailed


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where DPS put a device.

    Attributes:
        assigned_hub: host name of the IoT Hub.
        device_id: id of the device in that hub.
    """

    assigned_hub: str
    device_id: str


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """What a device authenticates with.

    Attributes:
        pem: leaf first, then its chain, then the key as encrypted PKCS#8.
        password: opens the key.
    """

    pem: bytes
    password: str


class RegistrationRefused(Rejected):
    """DPS refuses a device.

    Args:
        message: says so.
        status: of DPS's answer, an HTTP status.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(Reason("", message))
        self.status = status


class AssignmentFailed(ServiceFailed):
    """DPS ended a registration as failed: for instance, the webhook of a custom allocation did not answer."""


class DeviceRegistrar(Protocol):
    """Registers devices at one DPS."""

    async def register(self, registration_id: str, credentials: ClientCredentials) -> Assignment:
        """Register a device and wait until a hub is assigned to it.

        Raises:
            RegistrationRefused: DPS refuses the device.
            Deferred: DPS is throttling, or still assigning, or another registration of the device has taken this one's
                place.
            AssignmentFailed: DPS knows the device, and found no hub for it.
        """
        ...
