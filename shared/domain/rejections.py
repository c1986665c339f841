"""What was refused or set aside, as the ledger keeps it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import ClassVar

from shared.domain.record import Part, Record


class RejectionKind(StrEnum):
    """Why a message is here."""

    REJECTED = "rejected"
    POISON = "poison"


class RejectionState(StrEnum):
    """What became of a refused message."""

    OPEN = "open"
    REPLAYING = "replaying"
    REPLAYED = "replayed"
    CLOSED = "closed"


BODY_LIMIT = 60 * 1024
"""Bytes of a message that are kept: a column holds 64 KiB (Azure Tables), a queue's message the same."""


FAILURES_KEPT = 5
"""As often as a message is tried before it is set aside (host.json: maxDequeueCount)."""


class Failure(Part):
    """A try that failed, and was not told to wait."""

    at: datetime
    cause: str


class FailureNote(Record):
    """What went wrong with a message that is still in its queue; the copy in the poison queue does not say.

    Attributes:
        message: of what it is: a digest of its queue and its content.
        failures: the last ones.
        count: of all.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"failures"})

    message: str
    failures: tuple[Failure, ...] = ()
    count: int = 0

    def failed(self, at: datetime, cause: str) -> FailureNote:
        """Enter one more."""
        failures = (*self.failures, Failure(at=at, cause=cause))[-FAILURES_KEPT:]
        return self.changed(failures=failures, count=self.count + 1)


class RejectionRecord(Record):
    """One refused message.

    Attributes:
        rejection_id: begins with the day, which is its partition.
        queue: where the message came from, and where a replay puts it.
        body: the message as it came, byte for byte, but with a mark for each secret.
        left_out: bytes of it that are not kept, since a row does not hold them.
        reasons: each ``{"field", "message"}``.
        state: ``replaying`` while it is being put back; one that stays so was not, or nobody knows.
        replayed_at: when that began; ``None`` if it has ended, and nobody knows how.
        failures: the tries that failed, of a message that was set aside.
        attempts: how many there were.
        comment: why it was closed.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"reasons", "failures"})

    rejection_id: str
    kind: RejectionKind
    queue: str
    body: bytes
    reasons: tuple[dict[str, str], ...]
    rejected_at: datetime
    traceparent: str | None = None
    left_out: int = 0
    state: RejectionState = RejectionState.OPEN
    replayed_at: datetime | None = None
    failures: tuple[Failure, ...] = ()
    attempts: int | None = None
    closed_at: datetime | None = None
    comment: str | None = None


def message_digest(queue: str, body: bytes) -> str:
    """Name a message by what it is: its copy in the poison queue has another id."""
    return sha256(queue.encode() + b"\n" + body).hexdigest()


def rejection_id(received: datetime, queue: str, message_id: str) -> str:
    """Give the id of a refused message: the same however often the message is delivered."""
    digest = sha256(f"{queue}\n{message_id}".encode()).hexdigest()[:20]
    return f"{received.date().isoformat()}-{digest}"
