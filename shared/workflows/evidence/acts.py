"""Brings what people and apps do into the log: from the zones that do not write it, by the one that does.

Whoever writes an entry of the audit log leaves it in a table first. A projector takes it from there, puts it into the
log, and marks it. The head says what the last projection put into the log, so that none is put there twice: before the
next one, those are marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.evidence.leaves import act_entry

if TYPE_CHECKING:
    from datetime import datetime

    from shared.domain.audit_entries import AuditEntry
    from shared.evidence.head import Head
    from shared.ports.rows import Table
    from shared.workflows.evidence.sequencing import Sequencer

_WAITING, _LOGGED = "waiting", "logged"
_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ActsToLog:
    """The table of acts on their way into the log."""

    table: Table

    async def append(self, entry: AuditEntry) -> None:
        """Leave an entry for the log; repeated, it is logged once."""
        at: datetime = entry.at
        fields = entry.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"at"})
        content = act_entry(at, fields).decode()
        row = sha256(f"{entry.entry_id}|{entry.outcome}".encode(errors="replace")).hexdigest()
        await self.table.insert({"PartitionKey": _WAITING, "RowKey": row, "entry": content})

    async def gather(self, head: Head) -> dict[str, bytes]:
        """Mark what the head says is logged, and give some of what waits."""
        for row in head.projected:
            await self._mark(row)
        found = dict[str, bytes]()
        rows, _ = await self.table.page("PartitionKey eq @kind", {"kind": _WAITING}, size=_AT_ONCE, continuation=None)
        for each in rows:
            row = str(each.values["RowKey"])
            if await self.table.get(_LOGGED, row) is not None:
                await self.table.delete(_WAITING, row)  # it was left again after it was logged
            else:
                found[row] = str(each.values["entry"]).encode()
        return found

    async def _mark(self, row: str) -> None:
        await self.table.insert({"PartitionKey": _LOGGED, "RowKey": row})
        await self.table.delete(_WAITING, row)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActProjection:
    """Puts acts into the log."""

    acts: ActsToLog
    sequencer: Sequencer

    async def run(self) -> int:
        """Put what waits into the log, and tell how much that was."""
        total = 0
        while count := await self.sequencer.project(self.acts.gather):
            total += count
        return total
