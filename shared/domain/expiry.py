"""What is to be done on which day, as the ledger keeps it."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum

from shared.domain.record import Record
from shared.domain.words import RenewalNeeds


class Notice(StrEnum):
    """What is due."""

    RENEWAL = "renewal"
    EXPIRING = "expiring"
    REMINDER = "reminder"
    EXPIRED = "expired"
    KEY_DELETION = "keyDeletion"


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
