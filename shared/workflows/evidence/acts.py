"""Brings what people and apps do into the log: from the zones that do not write it, by the one that does.

Whoever writes an entry of the audit log leaves it in a table first. A projector takes it from there, puts it into the
log, and marks it. The head says what the last projection put into the log, so that none is put there twice: before the
next one, those are marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.acts_to_log import ActToLog

if TYPE_CHECKING:
    from shared.domain.audit_entries import AuditEntry
    from shared.evidence.head import Head
    from shared.ledger.acts_to_log import ActsToLog
    from shared.workflows.evidence.sequencing import Sequencer

_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ActsForLog:
    """Leaves acts for the log, and takes them from there."""

    rows: ActsToLog

    async def append(self, entry: AuditEntry) -> None:
        """Leave an entry for the log; repeated, it is logged once."""
        await self.rows.add(ActToLog.of(entry))

    async def gather(self, head: Head) -> dict[str, bytes]:
        """Mark what the head says is logged, and give some of what waits."""
        for act in head.projected:
            await self.rows.mark(act)
            await self.rows.remove(act)
        found = dict[str, bytes]()
        for each in await self.rows.waiting(_AT_ONCE):
            if await self.rows.is_marked(each.act):
                await self.rows.remove(each.act)  # it was left again after it was logged
            else:
                found[each.act] = each.entry.encode()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ActProjection:
    """Puts acts into the log."""

    acts: ActsForLog
    sequencer: Sequencer

    async def run(self) -> int:
        """Put what waits into the log, and tell how much that was."""
        total = 0
        while count := await self.sequencer.project(self.acts.gather):
            total += count
        return total
