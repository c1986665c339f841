"""What was found to differ between the ledger and the services, and the passes that look for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.findings import FindingRecord, FindingState
from shared.domain.passes import ReconciliationRecord, ReconciliationState
from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from shared.domain.treatments import FindingKind
    from shared.ledger.table import Versioned
    from shared.ports.rows import Table

_FINDINGS, _PASSES = "finding", "pass"
_THERE = frozenset({FindingState.OPEN, FindingState.CLOSED})


class Findings:
    """The findings' table."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, FindingRecord, key=lambda each: (_FINDINGS, each.finding_id))

    async def get(self, finding_id: str) -> Versioned[FindingRecord] | None:
        """Find one."""
        return await self._rows.get(_FINDINGS, finding_id)

    async def try_insert(self, record: FindingRecord) -> Versioned[FindingRecord] | None:
        """Record a new one; ``None`` if another worker did."""
        return await self._rows.try_insert(record)

    async def try_replace(
        self, known: Versioned[FindingRecord], record: FindingRecord
    ) -> Versioned[FindingRecord] | None:
        """Replace one as it was read; ``None`` if it has changed since, where what others made of it counts."""
        return await self._rows.try_replace(known, record)

    async def page(
        self, filters: Mapping[str, str | None], *, size: int, continuation: str | None
    ) -> tuple[Sequence[FindingRecord], str | None]:
        """List one page of those that have certain values, by column."""
        terms, parameters = ["PartitionKey eq @partition"], {"partition": _FINDINGS}
        for name, value in filters.items():
            if value is not None:
                terms.append(f"{name} eq @{name}")
                parameters[name] = value
        return await self._rows.page(" and ".join(terms), parameters, size=size, continuation=continuation)

    async def of_kind(self, kind: FindingKind, *, limit: int) -> list[FindingRecord]:
        """List some of a kind that are there as far as is known, those that are closed among them."""
        over = {each.value: each.value for each in FindingState if each not in _THERE}
        terms = ["PartitionKey eq @partition", "kind eq @kind", *(f"state ne @{name}" for name in over)]
        condition, parameters = " and ".join(terms), {"partition": _FINDINGS, "kind": kind.value, **over}
        found: list[FindingRecord] = []
        async for record in self._rows.list(condition, parameters):
            found.append(record)
            if len(found) == limit:
                break
        return found

    async def not_seen_by(self, reconciliation_id: str) -> AsyncIterator[FindingRecord]:
        """List those that are there as far as is known, and that a pass has not seen."""
        over = {each.value: each.value for each in FindingState if each not in _THERE}
        terms = ["PartitionKey eq @partition", "reconciliation ne @pass", *(f"state ne @{name}" for name in over)]
        condition, parameters = " and ".join(terms), {"partition": _FINDINGS, "pass": reconciliation_id, **over}
        async for record in self._rows.list(condition, parameters):
            yield record


class Reconciliations:
    """The passes, in the findings' table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows = Rows(table, ReconciliationRecord, key=lambda each: (_PASSES, each.reconciliation_id))

    async def get(self, reconciliation_id: str) -> Versioned[ReconciliationRecord] | None:
        """Find one."""
        return await self._rows.get(_PASSES, reconciliation_id)

    async def try_insert(self, record: ReconciliationRecord) -> Versioned[ReconciliationRecord] | None:
        """Begin one; ``None`` if it was begun already."""
        return await self._rows.try_insert(record)

    async def try_replace(
        self, known: Versioned[ReconciliationRecord], record: ReconciliationRecord
    ) -> Versioned[ReconciliationRecord] | None:
        """Enter how far one is; ``None`` if another worker has carried it on, and this one stops."""
        return await self._rows.try_replace(known, record)

    async def forget(self, record: ReconciliationRecord) -> None:
        """Delete one that has ended."""
        await self._table.delete(_PASSES, record.reconciliation_id)

    async def all(self) -> list[ReconciliationRecord]:
        """List all passes by their ids, which begin with their time."""
        found = self._rows.list("PartitionKey eq @partition", {"partition": _PASSES})
        return [each async for each in found]

    async def running(self) -> list[ReconciliationRecord]:
        """List those that are not done."""
        condition = "PartitionKey eq @partition and state eq @running"
        parameters = {"partition": _PASSES, "running": ReconciliationState.RUNNING.value}
        return [each async for each in self._rows.list(condition, parameters)]
