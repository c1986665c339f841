"""Takes up what a killed worker had in hand, within a minute and a half.

The host that runs a function leases its message for ten minutes (QueueProcessor of the WebJobs SDK), so what a killed
host had in hand would come back that late. So each worker writes down what it has in hand, a moment after it has taken
it, and says every few seconds that it is alive. A timer puts what a worker left behind into the queue once more, and
deletes the message itself. Where that can't be, it comes back after its lease, and finds what was done: two deliveries
do no harm. But of a request that waits for days both would wait, and each death of a worker would double them.

A message that kills its worker must not be sent again for ever: a copy knows how often it was made, and the deliveries
of a message count at the host.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.domain.in_hand import HeldMessage, WorkerRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Container
    from datetime import datetime

    from shared.ledger.in_hand import InHandRows
    from shared.ports.queues import Queues
    from shared.workflows.intake.outbox import Clock

_log = logging.getLogger(__name__)
WRITE_EVERY = 0.25
"""Seconds between two writes of a worker that is busy. What it took since comes back by its lease."""

SEEN_EVERY = 15.0
"""Seconds after which a worker says that it is still alive."""


@dataclass(slots=True, kw_only=True)
class InHand:
    """What this worker has in hand, and what others left behind.

    Attributes:
        worker: its name.
        pause: waits some seconds.
    """

    rows: InHandRows
    queues: Queues
    clock: Clock
    worker: str = field(default_factory=lambda: uuid.uuid4().hex)
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _held: dict[str, HeldMessage] = field(default_factory=dict)
    _written: set[str] = field(default_factory=set)
    _seen_at: datetime | None = None
    _keeping: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def holding(
        self, queue: str, message_id: str, text: str | None, *, receipt: str | None = None
    ) -> AsyncIterator[None]:
        """Have a message known as in hand while the body runs; nobody waits for that.

        Args:
            queue: where it came from.
            message_id: the queue's own id of it.
            text: what is to be sent if this worker is killed; ``None`` if nothing is.
            receipt: with which the queue has handed the message over.
        """
        if text is None:
            yield
            return
        self._held[message_id] = HeldMessage(
            worker=self.worker, message_id=message_id, queue=queue, text=text, receipt=receipt
        )
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.get_running_loop().create_task(self._keep())
        try:
            yield
        finally:
            del self._held[message_id]

    async def _keep(self) -> None:
        """Keep the rows as what is in hand, until nothing is."""
        while self._held or self._written:
            try:
                await self._write()
            except Exception as error:  # noqa: BLE001 - then the lease has to end; the work itself goes on
                _log.warning("what is in hand can't be written down: %s", error)
                if not self._held:
                    return
            await self.pause(WRITE_EVERY)

    async def _write(self) -> None:
        now = self.clock()
        if self._held and (self._seen_at is None or (now - self._seen_at).total_seconds() >= SEEN_EVERY):
            await self.rows.see(WorkerRecord(worker=self.worker, seen_at=now))
            self._seen_at = now
        held = dict(self._held)
        taken = [each for name, each in held.items() if name not in self._written]
        done = self._written - held.keys()
        if taken or done:
            await self.rows.change(self.worker, taken, done)
            self._written = set(held)
        if not self._held and not self._written:
            await self.rows.leave(self.worker)
            self._seen_at = None

    async def sweep(self, queues: Container[str]) -> int:
        """Put what killed workers had in hand into its queues once more, and give how many messages that were.

        Args:
            queues: those of the sweep's zone. It may delete from no others: a message of which there is a copy would
                come back after its lease.
        """
        sent, failed = 0, list[Exception]()
        for worker in await self.rows.workers():
            if worker.worker == self.worker or not worker.is_gone(self.clock()):
                continue
            left, taken_up = await self.rows.of(worker.worker), list[str]()
            for each in (held for held in left if held.queue in queues):
                try:
                    await self.queues.send(each.queue, each.text)
                    taken_up.append(each.message_id)
                except Exception as error:  # noqa: BLE001 - another queue may be in another account
                    failed.append(error)
                else:
                    await self._take_away(each)
            await self.rows.change(worker.worker, [], taken_up)
            if len(taken_up) == len(left):
                await self.rows.leave(worker.worker)
            sent += len(taken_up)
            if taken_up:
                _log.warning("a worker was killed, and %d messages that it had in hand are taken up", len(taken_up))
        if failed:
            raise failed[0]
        return sent

    async def _take_away(self, held: HeldMessage) -> None:
        """Delete a message of which a copy was sent, unless the host has renewed its lease, or somebody else has it."""
        if held.receipt is None:
            return
        try:
            await self.queues.delete(held.queue, held.message_id, held.receipt)
        except Exception as error:  # noqa: BLE001 - then it comes back after its lease
            _log.info("%s: message %s is left to its lease: %s", held.queue, held.message_id, error)
