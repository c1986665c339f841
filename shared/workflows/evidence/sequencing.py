"""Appends entries: what waits in a worker goes into the log together, with one write of its head.

An entry waits for the write that is under way, and for its own. Among workers the ETag of the head decides. Each sees
in the head how often the others write, and goes the slower the more they are: so they seldom meet, and batches get
larger.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.errors import Deferred, LogDamaged
from shared.workflows.evidence.continuity import LogMemory, check_continues, tree_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from shared.evidence.head import Head
    from shared.evidence.verify import Tree
    from shared.ledger.checkpoints import Checkpoints
    from shared.workflows.evidence.storage import LogStorage, StoredHead

GATHERING = 0.005
"""Seconds for which a batch waits for others that come at the same moment."""

SHORTEST, LONGEST = 0.1, 2.0
"""Seconds from one write of a worker to its next one, while it has something to write: alone, and among many."""

SHARE = 0.08
"""Seconds that a worker leaves to each other one for a write, which takes 10 to 20 ms with the reading before it."""

_ATTEMPTS = 60
_BATCH = 2000
SOON = timedelta(seconds=2)
"""When it is tried again, if others were always quicker."""


@dataclass(slots=True, eq=False, kw_only=True)
class _Waiting:
    """An entry that waits.

    Attributes:
        since: how long the log was when a write of it was sent whose outcome is not known.
        index: its place in the log.
    """

    entry: bytes
    since: int | None = None
    index: int | None = None


@dataclass(slots=True, kw_only=True)
class Sequencer:
    """Appends entries to the log, in batches.

    Attributes:
        memory: of how long the log was.
        grown: is called after each batch.
        pause: waits for so many seconds.
        monotonic: gives seconds.
        chance: gives a number from 0 to 1, so that workers who have met do not meet again.
    """

    storage: LogStorage
    checkpoints: Checkpoints
    memory: LogMemory = field(default_factory=LogMemory)
    grown: Callable[[], None] = lambda: None
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: list[_Waiting] = field(default_factory=list)
    _known: StoredHead | None = None
    _seen: Tree | None = None
    _next: float = 0.0
    _interval: float = SHORTEST
    _turn: int | None = None

    async def append(self, entry: bytes) -> int:
        """Append an entry; see :class:`shared.ports.evidence.EvidenceLog`."""
        mine = _Waiting(entry=entry)
        self._waiting.append(mine)
        try:
            async with self._lock:
                while mine.index is None:
                    await self._append_waiting()
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
        return mine.index

    async def project(self, gather: Callable[[Head], Awaitable[Mapping[str, bytes]]]) -> int:
        """Append what waits elsewhere, each once, however often it is tried and by how many workers.

        Args:
            gather: takes away what the head says is in the log already, and gives what is left, by its id. It is called
                anew whenever the head has changed.

        Returns:
            How many entries were appended.
        """
        async with self._lock:
            for _ in range(_ATTEMPTS):
                self._known = None
                known = await self.read()
                found = await gather(known.head)
                if not found:
                    return 0
                settled, tiles = known.head.settled()
                await self.storage.write(tiles)
                head = settled.appended(list(found.values()), projected=tuple(found))
                if await self.storage.replace(known, head) is not None:
                    self.grown()
                    return len(found)
                await self.pause(self.chance() * 2 * SHARE)
        raise Deferred("the log is being written by others", retry_after=SOON)

    async def _append_waiting(self) -> None:
        await self.pause(max(GATHERING, self._next - self.monotonic()))
        batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
        try:
            await self._append_batch(batch)
        except BaseException:
            # Whoever waits with others for one who was killed, or failed, goes on by himself.
            self._known = None
            self._waiting[:0] = [each for each in batch if each.index is None]
            raise
        self._next = self.monotonic() + self._interval

    async def _append_batch(self, batch: Sequence[_Waiting]) -> None:
        for _ in range(_ATTEMPTS):
            known = self._known or await self.read()
            await self._find(known.head, batch)
            left = [each for each in batch if each.index is None]
            if not left or await self._written(known, left):
                return
            await self.pause(self.chance() * 2 * SHARE)
        raise Deferred("the log is being written by others", retry_after=SOON)

    async def _written(self, known: StoredHead, batch: Sequence[_Waiting]) -> bool:
        """Replace the head; ``False`` if others have. Until an answer comes, nobody knows."""
        settled, tiles = known.head.settled()
        await self.storage.write(tiles)
        for each in batch:
            each.since = known.head.size
        self._known = None
        written = await self.storage.replace(known, settled.appended([each.entry for each in batch]))
        if written is None:
            return False
        for index, each in enumerate(batch, start=known.head.size):
            each.index = index
        self._known, self._seen = written, written.head.tree
        self._adapt(written.head.turns)
        self.grown()
        return True

    def _adapt(self, turn: int) -> None:
        """Go as fast as the others leave time for."""
        if self._turn is not None:
            wanted = (turn - self._turn) * SHARE
            self._interval = min(LONGEST, max(SHORTEST, (self._interval + wanted) / 2))
        self._turn = turn

    async def read(self) -> StoredHead:
        """Read the head, and compare it with what this worker saw before.

        Raises:
            LogDamaged: the log got shorter, or is another one.
        """
        found, seen = await self.storage.head(), self._seen
        if seen is None:
            await self.memory.check(found.head)
            signed = await self.checkpoints.newest()
            if signed is not None and not self.storage.is_other(signed.record.origin):
                await check_continues(self.storage, tree_of(signed.record.note), found.head)
        if seen is not None and seen.size > found.head.size:
            raise LogDamaged(
                f"the log had {seen.size} entries and has {found.head.size}: it was truncated, or an older one was put "
                "in its place"
            )
        if seen is not None and seen.size >= found.head.written:
            before = await self.storage.tree(found.head, seen.size)
            if before != seen:
                raise LogDamaged(
                    f"the first {seen.size} entries of the log are not those that were there: it was forked"
                )
        self._seen = found.head.tree
        return found

    async def _find(self, head: Head, batch: Sequence[_Waiting]) -> None:
        """Find entries whose write was sent before, and got into the log although no answer came."""
        doubtful = [each for each in batch if each.since is not None and each.since < head.size]
        if not doubtful:
            return
        since = min(each.since or 0 for each in doubtful)
        later = await self.storage.entries(head, since, head.size)
        places = {entry: index for index, entry in enumerate(later, start=since)}
        for each in doubtful:
            each.index = places.get(each.entry)
