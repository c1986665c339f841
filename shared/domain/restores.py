"""What was begun with a ledger and has not ended: a restore of an archive, and what takes back what a ledger lacks."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.domain.record import Record

HELD_FOR = timedelta(minutes=1)
"""So long after its last sign of life another worker may go on with a restore."""


class RestoreRecord(Record):
    """A restore that is not whole: while its row is there, the ledger counts for nothing.

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
            f"the ledger is not whole: a restore of {self.shown} has not ended; if it broke off, run python -m "
            "shared.backup restore with this archive again (docs/recover.md). It was begun at "
            f"{self.begun_at:%Y-%m-%d %H:%M:%S} UTC. Until it ends nothing is signed and nothing is answered"
        )


class RestorationRecord(Record):
    """What takes back what a ledger lacks, from its first write until everything follows.

    Attributes:
        begun_at: when it was begun.
        is_lost: whether the ledger was lost, and is taken over from the services.
        since: how far the ledger had come by its epoch, when this was begun; ``None`` if it had none.
        accepted: whether the ledger has everything, and may sign. The services are still to follow.
    """

    begun_at: datetime
    is_lost: bool
    since: datetime | None = None
    accepted: bool = False

    @property
    def command(self) -> str:
        """Name what carries it on."""
        return "python -m shared.restoration adopt" if self.is_lost else "python -m shared.restoration"

    @property
    def shown(self) -> str:
        """Say what was begun, and what carries it on."""
        begun = f"{self.command} was begun at {self.begun_at:%Y-%m-%d %H:%M:%S} UTC and has not ended"
        return f"{begun}. If it was broken off, run it again with the same options (docs/recover.md)"

    @property
    def fault(self) -> str | None:
        """Tell what of the ledger is wrong; ``None`` if it has everything."""
        return None if self.accepted else f"the ledger lacks what is being taken back: {self.shown}"
