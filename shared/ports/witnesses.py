"""Witnesses of the log, as workflows need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Cosigning:
    """What a witness answers.

    Attributes:
        lines: its signatures, as lines of a note; empty if it has another checkpoint of the log than was thought.
        size: how many entries that one has; ``None`` if it signed.
    """

    lines: str = ""
    size: int | None = None


class Witnesses(Protocol):
    """Reaches witnesses over HTTP."""

    async def add_checkpoint(self, url: str, body: bytes) -> Cosigning:
        """Send a checkpoint with what proves that it continues the one that the witness has (C2SP tlog-witness).

        Raises:
            WitnessRefused: it does not sign; the message says why.
        """
        ...


class WitnessRefused(RuntimeError):
    """A witness does not sign, or can't be reached."""
