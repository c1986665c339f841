"""What was refused or set aside, whole, so that it can be mended and replayed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

from shared.ledger.table import Record, Table, Versioned, keyed, versioned

if TYPE_CHECKING:
    from collections.abc import Sequence


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


class Rejections:
    """The rejections' table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def insert(self, record: RejectionRecord) -> Versioned[RejectionRecord] | None:
        """Record a refused message; ``None`` if it is recorded already."""
        return versioned(
            record, await self._table.insert(keyed(_day(record.rejection_id), record.rejection_id, record))
        )

    async def get(self, identifier: str) -> Versioned[RejectionRecord] | None:
        """Find a refused message."""
        row = await self._table.get(_day(identifier), identifier)
        return Versioned(RejectionRecord.from_columns(row.values), row.etag) if row else None

    async def replace(
        self, known: Versioned[RejectionRecord], record: RejectionRecord
    ) -> Versioned[RejectionRecord] | None:
        """Replace a row as it was read; ``None`` if it has changed since."""
        return versioned(
            record, await self._table.replace(keyed(_day(record.rejection_id), record.rejection_id, record), known.etag)
        )

    async def page(
        self, *, replayed: bool | None, size: int, continuation: str | None
    ) -> tuple[Sequence[RejectionRecord], str | None]:
        """List one page of those that were replayed, or were not, or of all (``None``), and the next continuation.

        The oldest day comes first.
        """
        condition = "" if replayed is None else "state eq @state" if replayed else "state ne @state"
        parameters = {"state": RejectionState.REPLAYED.value} if condition else {}
        rows, following = await self._table.page(condition, parameters, size=size, continuation=continuation)
        return [RejectionRecord.from_columns(row.values) for row in rows], following


def _day(identifier: str) -> str:
    return identifier[: len("2026-01-31")]
