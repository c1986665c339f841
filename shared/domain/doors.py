"""The doors to a device: what it could still come in by, or be believed by, when it is shut out."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from shared.domain.record import Part


class Door(StrEnum):
    """What a device that is shut out could still come in by, or be believed by."""

    DPS = "dps"
    HUB = "hub"
    CRL = "crl"
    OCSP = "ocsp"


class ClosedDoor(Part):
    """A door of a device that is shut out, as it was read back at the service.

    Attributes:
        where: ``DPS``, a hub's host name, or the CA whose list or answers name the certificate.
        since: when it was closed.
        checked_at: when it was seen closed last.
    """

    door: Door
    where: str
    since: datetime
    checked_at: datetime
