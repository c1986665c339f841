"""What was refused or set aside, as the ledger keeps it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import ClassVar

from shared.domain.record import Record


class RejectionKind(StrEnum):
    """Why a message is here."""

    REJECTED = "rejected"
    POISON = "poison"


class RejectionState(StrEnum):
    """What became of a refused message."""

    OPEN = "open"
    REPLAYING = "replaying"
    REPLAYED = "replayed"


BODY_LIMIT = 60 * 1024
"""Bytes of a message that are kept: a column holds 64 KiB (Azure Tables), a queue's message the same."""


class RejectionRecord(Record):
    """One refused message.

    Attributes:
        rejection_id: begins with the day, which is its partition.
        queue: where the message came from, and where a replay puts it.
        body: the message as it came, byte for byte, but with a mark for each secret.
        left_out: bytes of it that are not kept, since a row does not hold them.
        reasons: each ``{"field", "message"}``.
        state: ``replaying`` while it is being put back; one that stays so was not, or nobody knows.
        replayed_at: when that began.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"reasons"})

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


def rejection_id(received: datetime, queue: str, message_id: str) -> str:
    """Give the id of a refused message: the same however often the message is delivered."""
    digest = sha256(f"{queue}\n{message_id}".encode()).hexdigest()[:20]
    return f"{received.date().isoformat()}-{digest}"
