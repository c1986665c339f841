"""What workers have in hand, so that what a killed one leaves behind is taken up before its lease ends."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.domain.record import Record

ALIVE_FOR = timedelta(seconds=50)
"""So long a worker that was seen is taken to be alive."""


class WorkerRecord(Record):
    """A worker that has messages in hand.

    Attributes:
        worker: drawn at its start.
        seen_at: when it last said that it is at work.
    """

    worker: str
    seen_at: datetime

    def is_gone(self, now: datetime) -> bool:
        """Tell whether it must have been killed: it says that it is at work more often."""
        return self.seen_at < now - ALIVE_FOR


class HeldMessage(Record):
    """A message that a worker has in hand.

    Attributes:
        message_id: the queue's own id of it.
        text: that is to be put into the queue if the worker is killed.
        receipt: with which the message itself is deleted then, if nobody else has taken it; ``None`` if it is left.
    """

    worker: str
    message_id: str
    queue: str
    text: str
    receipt: str | None = None
