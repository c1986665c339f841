"""What a device's certificate is issued by, for what and for how long; and what the issuance does and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.workflows.devices.drawn_numbers import NO_NUMBERS, DrawnNumbers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime, timedelta

    from shared.domain.devices import DeviceRecord
    from shared.domain.held_certificates import Purpose
    from shared.domain.issuance import Committed
    from shared.ports.registrar import ClientCredentials
    from shared.workflows.devices.bundles import Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which CA signs.

    Attributes:
        issuer: its name.
        decided_at: when it was looked up; ``None`` where that can't change.
    """

    issuer: str
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCertificateRequest:
    """What a device is to get.

    Attributes:
        registration_id: in canonical form; becomes the CN.
        issuer: finds the name of the issuing CA, if one has to sign, and when it was looked up; ``None`` for a time
            where the request itself names the CA.
        purpose, cause: what it is issued for; with the registration id they are the idempotency key.
        validity: its life.
        csr: the device's own request in PEM; without it the service makes the key.
        key_algorithm: of a service-made key.
        field: path of the CSR in the request, for error messages.
        expected_new: whether the device is most likely not known yet; then it is looked for only if that proves wrong.
        drawn: serial numbers that were drawn for it and others beforehand, if any were.
    """

    registration_id: str
    issuer: Callable[[], Awaitable[Decision]]
    purpose: Purpose
    cause: str
    validity: timedelta
    csr: str | None = None
    key_algorithm: str | None = None
    enrollment_group: str | None = None
    predecessor: str | None = None
    field: str = "csr"
    expected_new: bool = False
    drawn: DrawnNumbers = NO_NUMBERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Acts:
    """What an issuance does to its device.

    Attributes:
        take: claims the device, which is ``None`` if it is not known; raises why it can't be had.
        commit: makes the certificate the device's.
    """

    take: Callable[[DeviceRecord | None], DeviceRecord]
    commit: Callable[[DeviceRecord, Committed], DeviceRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """What an issuance gave.

    Attributes:
        bundle: as stored.
        credentials: what to register the device with; ``None`` if the device has its own key, or has its bundle.
    """

    bundle: Bundle
    credentials: ClientCredentials | None
