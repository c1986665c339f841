"""Which devices a renewal of many is about: pure decisions on their records."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from shared.domain.words import DeviceState

if TYPE_CHECKING:
    from datetime import datetime

    from shared.domain.devices import CertificateSummary, DeviceRecord


class Step(StrEnum):
    """What becomes of one device."""

    RENEW = "renew"
    NEEDS_CSR = "needsCsr"
    SKIP = "skip"


def latest(device: DeviceRecord) -> CertificateSummary | None:
    """Give the certificate of a device that was made last, be it in use or not."""
    return device.next_certificate or device.certificate


def step_of(device: DeviceRecord, *, only_issuer: str | None, asked_at: datetime) -> Step:
    """Decide what the renewal of a group does to one of its devices.

    A device that has got a certificate since it was asked for, or waits to use one of another CA than the one that is
    meant, is skipped; so is one that can't be renewed in its state.

    Args:
        device: as it is.
        only_issuer: CA whose certificates are meant; ``None`` for any.
        asked_at: when the renewal of the group was asked for.
    """
    present = latest(device)
    if present is None or device.state not in {DeviceState.REGISTERED, DeviceState.RENEWING}:
        return Step.SKIP
    held = device.find(present.serial_number)
    if held is None or held.recorded_at > asked_at or only_issuer not in {None, present.issuer}:
        return Step.SKIP
    if device.next_certificate is not None and only_issuer is None:
        return Step.SKIP
    return Step.NEEDS_CSR if device.own_key else Step.RENEW
