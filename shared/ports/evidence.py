"""The log, as whoever acts needs it: written ahead, and told where the entry stands."""

from __future__ import annotations

from typing import Protocol


class EvidenceLog(Protocol):
    """An append-only log."""

    async def append(self, entry: bytes) -> int | None:
        """Append an entry and give its place, from 0; ``None`` where no log is kept.

        When it returns, the entry is in the log for good. An error may mean that it is or that it is not.

        Raises:
            Deferred: others are writing the log all the time.
            LogDamaged: the log is not what it was, and nothing is appended to it.
        """
        ...
