"""Queues, as workflows need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class TakenMessage:
    """A message that was taken out of a queue for a while.

    Attributes:
        message_id: the queue's own id of it.
        content: as it stands in the queue, base64 or not.
        inserted: when it was put there.
        receipt: proves that it was taken.
    """

    message_id: str
    content: bytes
    inserted: datetime
    receipt: str


class Queues(Protocol):
    """Queues by name; what is sent is text."""

    async def send(self, queue: str, text: str, *, delay: timedelta | None = None) -> None:
        """Put a message that never expires, visible after ``delay``.

        What it raises tells of all its tries whether the message may be in the queue.
        """
        ...

    def take(self, queue: str, *, lease: timedelta) -> AsyncIterator[TakenMessage]:
        """Take what is visible in a queue, message by message; what is not deleted comes back after the lease."""
        ...

    async def waiting_since(self, queue: str) -> datetime | None:
        """Tell when the message was put there that is at the front of what is visible; ``None`` if nothing is."""
        ...

    async def delete(self, queue: str, message_id: str, receipt: str) -> None:
        """Delete a message that was taken, unless it is gone.

        Raises:
            HttpResponseError: somebody else has taken it since.
        """
        ...
