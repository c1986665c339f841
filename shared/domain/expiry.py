"""What is to be done on which day, as the ledger keeps it."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.domain.record import Record
from shared.domain.words import RenewalNeeds

if TYPE_CHECKING:
    from collections.abc import Collection


class Notice(StrEnum):
    """What is due: ``kept``, that a key was kept for long enough; ``keyDeletion``, that one goes for another reason."""

    RENEWAL = "renewal"
    EXPIRING = "expiring"
    REMINDER = "reminder"
    EXPIRED = "expired"
    KEY_DELETION = "keyDeletion"
    KEPT = "kept"


class DueNotice(Record):
    """One notice.

    Attributes:
        due: day on which it is to be given (UTC).
        not_after: when the certificate ends; of a key that was handed out, when it is deleted.
    """

    due: str
    notice: Notice
    serial_number: str
    subject: str
    not_after: datetime

    @classmethod
    def on(cls, day: date, notice: Notice, *, serial_number: str, subject: str, not_after: datetime) -> DueNotice:
        """Make a notice for a day."""
        return cls(
            due=day.isoformat(), notice=notice, serial_number=serial_number, subject=subject, not_after=not_after
        )

    def then(self, day: date, notice: Notice) -> DueNotice:
        """Make another notice for the same certificate."""
        return self.changed(due=day.isoformat(), notice=notice)

    @property
    def key(self) -> str:
        """Its row in the day's partition."""
        return f"{self.serial_number}:{self.notice}"


def told_warning(not_after: datetime, warnings: Collection[int], today: date) -> int | None:
    """Give the warning time that counts today, in days before the end: the last one that has come."""
    come = [days for days in warnings if (not_after - timedelta(days=days)).date() <= today]
    return min(come, default=None)


def next_warning(not_after: datetime, warnings: Collection[int], today: date) -> date | None:
    """Give the day of the next warning after today; ``None`` after the last one."""
    days = sorted((not_after - timedelta(days=each)).date() for each in warnings)
    return next((day for day in days if day > today), None)


def first_warning(not_after: datetime, warnings: Collection[int]) -> date:
    """Give the day of the first warning of a certificate."""
    return (not_after - timedelta(days=max(warnings))).date()


class MissedRenewal(Record):
    """A device of a group that should be renewed by now, and can't be before somebody acts.

    Attributes:
        serial_number: of the certificate that it uses.
        needs: who has to act.
        since: when that was seen.
    """

    enrollment_group: str
    registration_id: str
    serial_number: str
    not_after: datetime
    needs: RenewalNeeds
    since: datetime
