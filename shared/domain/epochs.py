"""Epochs: a number in the ledger and in a vault, raised together, by which a ledger that was put back is noticed.

The ledger's is raised first. So the vault's is never the later one, unless the ledger is older than it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from shared.domain.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUMBER, _REACHED_AT = "epoch", "reachedAt"
_LOG_ORIGIN, _LOG_ENTRIES = "logOrigin", "logEntries"
_TAG_LIMIT = 256
"""Characters of a tag (Microsoft: "About keys", "Key tags")."""
_REMEDY = (
    "nothing is signed, and no certificate is called good, until python -m shared.restoration has taken back what "
    "happened meanwhile (docs/recover.md)"
)
_REMEDY_OF_EMPTY = (
    "nothing is signed, and no certificate is called good, until a copy of it is restored, or python -m "
    "shared.restoration adopt has taken over what the services have (docs/recover.md)"
)


class EpochRecord(Record):
    """How far the ledger has come.

    Attributes:
        number: from 1.
        reached_at: when.
    """

    number: int
    reached_at: datetime

    @property
    def mark(self) -> EpochMark:
        """What the vault is told of it."""
        return EpochMark(self.number, self.reached_at)


@dataclass(frozen=True, slots=True)
class EpochMark:
    """How far the vault says that the ledger has come."""

    number: int
    reached_at: datetime

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> EpochMark | None:
        """Read it; ``None`` if it is not written yet.

        Raises:
            ValueError: somebody else has written it.
        """
        if _NUMBER not in tags:
            return None
        return cls(int(tags[_NUMBER]), datetime.fromisoformat(tags[_REACHED_AT]))

    def to_tags(self) -> dict[str, str]:
        """Write it."""
        return {_NUMBER: str(self.number), _REACHED_AT: self.reached_at.isoformat(timespec="seconds")}


@dataclass(frozen=True, slots=True)
class LogMark:
    """How many entries the log has, as far as the vault was told: head and ledger may be lost together.

    Attributes:
        origin: names the log.
        entries: that were signed.
    """

    origin: str
    entries: int

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> LogMark | None:
        """Read it; ``None`` if it is not written yet.

        Raises:
            ValueError: somebody else has written it.
        """
        return cls(tags.get(_LOG_ORIGIN, ""), int(tags[_LOG_ENTRIES])) if _LOG_ENTRIES in tags else None

    def to_tags(self) -> dict[str, str]:
        """Write it."""
        return {_LOG_ORIGIN: self.origin[:_TAG_LIMIT], _LOG_ENTRIES: str(self.entries)}

    def is_of(self, origin: str) -> bool:
        """Tell whether it is of the log of that name."""
        return self.origin == origin[:_TAG_LIMIT]


def lost_past(ledger: EpochRecord | None, vault: EpochMark | None) -> str | None:
    """Tell what of the ledger is lost; ``None`` if nothing is known to be.

    Args:
        ledger: what the ledger says, read after the vault's.
        vault: what the vault says.
    """
    if vault is None or (ledger is not None and ledger.number >= vault.number):
        return None
    reached = f"the vault says that it had reached epoch {vault.number} at {_at(vault.reached_at)}"
    if ledger is None:
        return f"the ledger is empty, and {reached}: {_REMEDY_OF_EMPTY}"
    return (
        f"the ledger is older than it was: it is at epoch {ledger.number}, of {_at(ledger.reached_at)}, and {reached}: "
        f"{_REMEDY}"
    )


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
