"""Which devices are to be renewed and when, and whose turn it is: pure decisions on their records."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.domain.devices import IN_ITS_HUB, IN_SERVICE
from shared.domain.expiry import DueNotice, Notice, first_warning
from shared.domain.words import DeviceState, RenewalNeeds

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import date, datetime

    from shared.domain.devices import DeviceRecord
    from shared.domain.held_certificates import CertificateSummary


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
    if present is None and device.unseen and only_issuer is None and device.state in IN_ITS_HUB:
        return Step.RENEW
    if present is None or device.state not in IN_ITS_HUB:
        return Step.SKIP
    held = device.find(present.serial_number)
    if held is None or held.recorded_at > asked_at or only_issuer not in {None, present.issuer}:
        return Step.SKIP
    if device.next_certificate is not None and only_issuer is None:
        return Step.SKIP
    return Step.NEEDS_CSR if device.own_key else Step.RENEW


# --- renewals by themselves ---

REMINDERS = (30, 7, 1)
"""So many days before the end of a certificate whoever has to act is told again."""

_SPREAD = timedelta(hours=1)
"""More would make the age of the queue look like that of a queue that nobody reads."""


def renewal_day(not_before: datetime, not_after: datetime, serial_number: str) -> date:
    """Give the day on which a certificate is to be replaced: between two thirds and three quarters of its life.

    Which one follows from the serial number, so that what was issued on one day is not renewed on one day.
    """
    life = not_after - not_before
    return (not_before + life * 2 / 3 + life / 12 * _share(serial_number, 0)).date()


def first_notice(
    *,
    serial_number: str,
    subject: str,
    not_before: datetime,
    not_after: datetime,
    warnings: Collection[int],
    kept_until: datetime | None = None,
) -> DueNotice:
    """Give the notice of a device's certificate that is due first; the sweep puts what comes after it.

    Args:
        serial_number: of the certificate.
        subject: registration id.
        not_before: of the certificate.
        not_after: of the certificate.
        warnings: days before its end on which it is told.
        kept_until: when its key in the bundle is deleted at the latest; ``None`` without a key there.
    """
    days = {
        Notice.RENEWAL: renewal_day(not_before, not_after, serial_number),
        Notice.EXPIRING: first_warning(not_after, warnings),
        **({Notice.KEPT: kept_until.date()} if kept_until is not None else {}),
    }
    first = min(days, key=lambda each: days[each])
    return DueNotice.on(days[first], first, serial_number=serial_number, subject=subject, not_after=not_after)


def within_the_day(not_after: datetime, serial_number: str, now: datetime) -> timedelta:
    """Give how long a renewal that is due today still waits, so that not all of a day begin at once."""
    return max(min(_SPREAD, (not_after - now) / 8), timedelta(0)) * _share(serial_number, 1)


def _share(serial_number: str, which: int) -> float:
    """Give a number from 0 to 1 out of the random digits of a serial number; the first four are its device's."""
    start = 4 + 8 * which
    return int(serial_number[start : start + 8], 16) / 16**8


def next_reminder(not_after: datetime, today: date) -> date | None:
    """Give the day of the next reminder after today; ``None`` after the last one."""
    days = ((not_after - timedelta(days=before)).date() for before in REMINDERS)
    return next((day for day in days if day > today), None)


def turn_of(device: DeviceRecord, serial_number: str, now: datetime) -> RenewalNeeds | None:
    """Tell whose turn it is, if a certificate of a device is to be replaced.

    While the certificate in use has not ended, the one that waits to be used says nothing: a device is named once.

    Returns:
        ``None`` if the device does not need a successor of it; ``OPERATOR`` also stands for the app itself.
    """
    if device.state not in IN_SERVICE or serial_number not in device.in_use:
        return None
    present = device.certificate
    if present is not None and present.serial_number != serial_number and present.not_after >= now:
        return None
    if device.next_certificate is not None or device.state is DeviceState.ISSUED:
        return RenewalNeeds.DEVICE
    return RenewalNeeds.CSR if device.own_key else RenewalNeeds.OPERATOR
