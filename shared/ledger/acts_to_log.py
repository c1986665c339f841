"""Acts that wait for the log of certificates, and a mark for each one that is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.acts_to_log import ActInLog, ActToLog
from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.ports.rows import Table

_WAITING, _LOGGED = "waiting", "logged"


class ActsToLog:
    """The table of acts on their way into the log."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._waiting = Rows(table, ActToLog, key=lambda record: (_WAITING, record.act))
        self._marks = Rows(table, ActInLog, key=lambda record: (_LOGGED, record.act))

    async def add(self, record: ActToLog) -> None:
        """Have an act wait; one that waits already is the same."""
        _ = await self._waiting.try_insert(record)  # it is there: it was left before, and is logged once

    async def waiting(self, size: int) -> Sequence[ActToLog]:
        """List so many that wait."""
        found, _ = await self._waiting.page("PartitionKey eq @kind", {"kind": _WAITING}, size=size, continuation=None)
        return found

    async def is_marked(self, act: str) -> bool:
        """Tell whether an act is known to be in the log."""
        return await self._marks.get(_LOGGED, act) is not None

    async def mark(self, act: str) -> None:
        """Note that an act is in the log; a mark that is there already says the same."""
        _ = await self._marks.try_insert(ActInLog(act=act))  # it is there: others have marked it

    async def remove(self, act: str) -> None:
        """Have an act wait no more."""
        await self._table.delete(_WAITING, act)
