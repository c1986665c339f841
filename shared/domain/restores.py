"""A restore of the ledger that was begun: while its row is there, the ledger is not whole, and counts for nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.domain.record import Record

HELD_FOR = timedelta(minutes=1)
"""So long after its last sign of life another worker may go on with a restore."""


class RestoreRecord(Record):
    """A restore that is not whole.

    Attributes:
        archive: SHA-256 of the archive's manifest, in hexadecimal.
        file: name of the archive.
        epoch: of the ledger, when the archive was made.
        read_from: when that was, as the archive says it.
        begun_at: when the restore was begun.
        holder: who carries it out; each run has another one.
        seen_at: its last sign of life.
    """

    archive: str
    file: str
    epoch: int
    read_from: str
    begun_at: datetime
    holder: str
    seen_at: datetime

    @property
    def shown(self) -> str:
        """Name the archive."""
        return f"{self.file!r} (epoch {self.epoch}, read from {self.read_from})"

    @property
    def free_at(self) -> datetime:
        """Tell when another run may go on, if this one gives no sign of life."""
        return self.seen_at + HELD_FOR

    @property
    def fault(self) -> str:
        """Tell what of the ledger is wrong, and what is to be done."""
        return (
            f"the ledger is not whole: a restore of the archive {self.shown} was begun at "
            f"{self.begun_at:%Y-%m-%d %H:%M:%S} UTC and has not ended. Nothing is signed and nothing is answered from "
            "it. If it was broken off, run python -m shared.backup restore with the same archive again "
            "(docs/recover.md)"
        )
