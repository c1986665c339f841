"""What was refused or set aside, whole, so that it can be mended and replayed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - a field's type
from typing import TYPE_CHECKING

from shared.domain.rejections import FailureNote, RejectionRecord, RejectionState
from shared.ledger.rows import Rows
from shared.telemetry.metrics import QUEUE, REJECTIONS, WHAT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.ledger.table import Versioned
    from shared.ports.rows import Table


_FAILURES = "failures"
"""Partition of the notes; those of rejections are days."""

_OPEN = RejectionState.OPEN


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rejections are meant.

    Attributes:
        state: ``open`` stands for those that are being replayed, too; ``None`` for all.
        cause: a text that one of the reasons or causes has, whatever its case.
        since: when the first of them was refused, inclusive.
        until: when the last of them was.
    """

    state: RejectionState | None = RejectionState.OPEN
    queue: str | None = None
    kind: str | None = None
    cause: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def fit(self, record: RejectionRecord) -> bool:
        """Tell whether a rejection is meant, of those that the table gave."""
        if self.since is not None and record.rejected_at < self.since:
            return False
        if self.until is not None and record.rejected_at > self.until:
            return False
        texts = [*(each["message"] for each in record.reasons), *(each.cause for each in record.failures)]
        return self.cause is None or any(self.cause.casefold() in text.casefold() for text in texts)


class Rejections:
    """The rejections' table."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, RejectionRecord, key=lambda each: (_day(each.rejection_id), each.rejection_id))
        self._notes = Rows(table, FailureNote, key=lambda each: (_FAILURES, each.message))
        self._table = table

    async def try_insert(self, record: RejectionRecord) -> Versioned[RejectionRecord] | None:
        """Record a refused message; ``None`` if it is recorded already, which is as good."""
        recorded = await self._rows.try_insert(record)
        if recorded is not None:
            REJECTIONS.record(1, {QUEUE: record.queue, WHAT: record.kind.value})
        return recorded

    async def get(self, identifier: str) -> Versioned[RejectionRecord] | None:
        """Find a refused message."""
        return await self._rows.get(_day(identifier), identifier)

    async def try_replace(
        self, known: Versioned[RejectionRecord], record: RejectionRecord
    ) -> Versioned[RejectionRecord] | None:
        """Replace a row as it was read; ``None`` if somebody else replays the message."""
        return await self._rows.try_replace(known, record)

    async def page(
        self, filters: Filters, *, size: int, continuation: str | None
    ) -> tuple[Sequence[RejectionRecord], str | None]:
        """List one page, the oldest day first, and the next continuation.

        A cause is looked for in what was read, so a page may have fewer than asked for, and another one follow it.
        """
        terms, parameters = ["PartitionKey lt @letters"], {"letters": _FAILURES}
        for name, value in {"queue": filters.queue, "kind": filters.kind}.items():
            if value is not None:
                terms.append(f"{name} eq @{name}")
                parameters[name] = value
        if filters.state is _OPEN:
            terms.append("state ne @replayed and state ne @closed")
            parameters |= {"replayed": RejectionState.REPLAYED.value, "closed": RejectionState.CLOSED.value}
        elif filters.state is not None:
            terms.append("state eq @state")
            parameters["state"] = filters.state.value
        if filters.since is not None:
            terms.append("PartitionKey ge @since")
            parameters["since"] = filters.since.date().isoformat()
        if filters.until is not None:
            terms.append("PartitionKey le @until")
            parameters["until"] = filters.until.date().isoformat()
        found, following = await self._rows.page(" and ".join(terms), parameters, size=size, continuation=continuation)
        return [each for each in found if filters.fit(each)], following

    async def ended(self, before: datetime) -> AsyncIterator[RejectionRecord]:
        """List those that were replayed or closed before some time; days after it are not read."""
        for state in (RejectionState.REPLAYED, RejectionState.CLOSED):
            condition = "PartitionKey le @day and state eq @state"
            async for record in self._rows.list(condition, {"day": before.date().isoformat(), "state": state.value}):
                ended_at = record.closed_at if state is RejectionState.CLOSED else record.replayed_at
                if ended_at is not None and ended_at < before:
                    yield record

    async def forget(self, record: RejectionRecord) -> None:
        """Delete one that has ended, which stays as it is."""
        await self._table.delete(_day(record.rejection_id), record.rejection_id)

    # --- what went wrong before a message is set aside ---

    async def note_failure(self, message: str, at: datetime, cause: str) -> None:
        """Note why a try failed."""
        while True:
            known = await self._notes.get(_FAILURES, message)
            if known is None:
                if await self._notes.try_insert(FailureNote(message=message).failed(at, cause)) is not None:
                    return
            elif await self._notes.try_replace(known, known.record.failed(at, cause)) is not None:
                return

    async def failures_of(self, message: str) -> FailureNote | None:
        """Read what went wrong with a message."""
        known = await self._notes.get(_FAILURES, message)
        return known.record if known else None

    async def forget_failures(self, message: str) -> None:
        """Delete what was noted of a message, which now stands in its rejection."""
        await self._table.delete(_FAILURES, message)


def _day(identifier: str) -> str:
    return identifier[: len("2026-01-31")]
