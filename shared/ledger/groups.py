"""Enrollment groups: what is wanted of each, and which issuing CA signs for it. DPS itself holds the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared import acting
from shared.domain.groups import GroupRecord, having
from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from shared.ledger.table import Versioned
    from shared.ports.rows import Table

_PARTITION = "group"  # DPS takes 100


class Groups:
    """The groups' table."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, GroupRecord, key=lambda record: (_PARTITION, record.enrollment_group))

    async def get(self, group_id: str) -> Versioned[GroupRecord] | None:
        """Find a group by its id."""
        return await self._rows.get(_PARTITION, group_id)

    async def insert(self, record: GroupRecord) -> Versioned[GroupRecord]:
        """Record a group.

        Raises:
            Stale: it is known.
        """
        return await self._rows.insert(_asked(None, record))

    async def replace(self, known: Versioned[GroupRecord], record: GroupRecord) -> Versioned[GroupRecord]:
        """Replace a record as it was read.

        Raises:
            Stale: it has changed since.
        """
        return await self._rows.replace(known, _asked(known.record, record))

    async def try_replace(self, known: Versioned[GroupRecord], record: GroupRecord) -> Versioned[GroupRecord] | None:
        """Replace a record as it was read; ``None`` if it has changed since, where what others made of it counts."""
        return await self._rows.try_replace(known, _asked(known.record, record))

    async def list(self) -> AsyncIterator[GroupRecord]:
        """List all groups by id."""
        async for record in self._rows.list("PartitionKey eq @partition", {"partition": _PARTITION}):
            yield record

    async def having(self, authorities: Collection[str], *, deleted: bool = False) -> Sequence[GroupRecord]:
        """Find the groups of some CAs, as :func:`shared.domain.groups.having` does."""
        return having([each async for each in self.list()], authorities, deleted=deleted)


def _asked(before: GroupRecord | None, record: GroupRecord) -> GroupRecord:
    """Say of a change that is new who the work under way is done for."""
    change, actor, present = record.change, acting.actor(), before.change if before else None
    if actor is None or change is None or change.actor is not None or (present and present.is_same_as(change)):
        return record
    return record.changed(change=change.changed(actor=actor))
