"""The expiry index: what is to be done on which day.

A row stands in the partition of the day on which something is due, and is deleted when that was done. So a sweep reads
what is due and not yet done, whenever it runs and however often it was missed, and never the fleet.

Beside the days each enrollment group has a partition of the devices that missed their renewal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.expiry import DueNotice, MissedRenewal, Notice
from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import date

    from shared.domain.words import RenewalNeeds
    from shared.ports.rows import Table


class ExpiryIndex:
    """The expiry table. Its rows are not changed: each is written as it stays, and deleted."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._notices = Rows(table, DueNotice, key=lambda notice: (notice.due, notice.key))
        self._missed = Rows(
            table,
            MissedRenewal,
            key=lambda each: _missed(each.enrollment_group, each.registration_id, each.serial_number),
        )

    async def put(self, notice: DueNotice) -> None:
        """Schedule a notice."""
        await self._notices.put(notice)

    async def done(self, notice: DueNotice) -> None:
        """Delete a notice that was given."""
        await self._table.delete(notice.due, notice.key)

    def due(self, day: date) -> AsyncIterator[DueNotice]:
        """List all notices due on a day or before it and not given yet, oldest first."""
        return self._notices.list("PartitionKey le @day", {"day": day.isoformat()})

    def key_deletions(self, day: date) -> AsyncIterator[DueNotice]:
        """List the keys that are to be deleted on a day or before it, and are not yet."""
        condition = "PartitionKey le @day and notice eq @notice"
        return self._notices.list(condition, {"day": day.isoformat(), "notice": Notice.KEY_DELETION.value})

    # --- missed renewals ---

    async def enter_missed(self, record: MissedRenewal) -> None:
        """Put a device on its group's list of missed renewals; one that is there is entered anew."""
        await self._missed.put(record)

    async def leave_missed(self, enrollment_group: str, registration_id: str, serial_number: str) -> None:
        """Take a device off its group's list of missed renewals, if it is on it for this certificate."""
        await self._table.delete(*_missed(enrollment_group, registration_id, serial_number))

    async def page_of_missed(
        self, enrollment_group: str, *, needs: RenewalNeeds | None, size: int, continuation: str | None
    ) -> tuple[Sequence[MissedRenewal], str | None]:
        """List a page of a group's missed renewals, and the continuation of the next."""
        condition, parameters = "PartitionKey eq @group", {"group": _missed_of(enrollment_group)}
        if needs is not None:
            condition += " and needs eq @needs"
            parameters["needs"] = needs.value
        return await self._missed.page(condition, parameters, size=size, continuation=continuation)


def _missed(enrollment_group: str, registration_id: str, serial_number: str) -> tuple[str, str]:
    return _missed_of(enrollment_group), f"{registration_id}|{serial_number}"


def _missed_of(enrollment_group: str) -> str:
    # After all days, so that no sweep reads it; no id has such a sign.
    return f"missed|{enrollment_group}"
