"""An order with the log and without it, in a time of its own.

The app runs as it is wired for the cloud, on services in memory that take as long as real ones. Time is the event
loop's own: it goes on to the next moment at which something happens, so other work on the machine does not change it.
It has no time for computing in it, so that is measured by itself, by the processor's clock.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from shared.contracts.messages import Queue
from shared.domain.orders import LineState, OrderLine
from shared.ledger.checkpoints import Checkpoints
from shared.workflows.evidence.sequencing import Sequencer
from shared.workflows.evidence.signing import CheckpointSigner
from shared.workflows.evidence.storage import LogStorage
from tests.unit.evidence.stored import Vault
from tests.world.conductor import Conductor
from tests.world.host import LEASE, SERVING
from tests.world.world import GROUP, World
from triggers import outcomes, timers

if TYPE_CHECKING:
    from collections.abc import Iterator

LATENCIES = {"tables": 0.01, "blobs": 0.01, "queues": 0.01, "vault": 0.025, "hub": 0.05}
"""Seconds that a service takes."""

REGISTRATION, AT_ONCE = 2.0, 0.05
"""Seconds of a registration: Microsoft's device SDK looks after two (docs/facts.md); and if DPS answered at once."""

_AT_ONCE = 16
"""Messages that the host takes at once (host.json, ``batchSize``)."""


class OwnTime(asyncio.SelectorEventLoop):
    """Goes on to the next moment at which something happens, at once."""

    def __init__(self) -> None:
        super().__init__()
        self._moment = 0.0

    def time(self) -> float:
        """Give the time."""
        return self._moment

    def _run_once(self) -> None:
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self._moment = max(self._moment, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


class Taking(AbstractAsyncContextManager[None]):
    """An effect on a service that takes a while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __aenter__(self) -> None:
        await asyncio.sleep(self._seconds)

    async def __aexit__(self, *_of_it: object) -> None:
        return None


class Timed(Conductor):
    """Holds nobody; each effect takes as long as its service does, and is counted."""

    def __init__(self, registration: float) -> None:
        super().__init__()
        self.operations = Counter[str]()
        self.latencies = {**LATENCIES, "dps": registration}

    def step(self, label: str, service: str = "") -> AbstractAsyncContextManager[None]:
        """Take a step."""
        self.operations[service] += 1
        return Taking(self.latencies.get("hub" if label == "dps makes the identity" else service, 0.0))


class Everything:
    """Stands for serial numbers that nobody logs."""

    def __contains__(self, _serial: object) -> bool:
        return True


class Without:
    """No log."""

    async def append(self, entry: bytes) -> None:
        """Append nothing."""
        del entry

    def certificates(self) -> Everything:
        """Have nobody look for a serial number."""
        return Everything()


class With(Without):
    """The log, as the app writes it, with its checkpoints."""

    def __init__(self, world: World, loop: OwnTime) -> None:
        blobs: Any = world.blobs
        vault: Any = Vault(world.conductor)
        storage = LogStorage(blobs=blobs, origin="example.com/log")
        checkpoints = Checkpoints(world.storage.table("checkpoints"))
        self.signer = CheckpointSigner(
            storage=storage, checkpoints=checkpoints, vault=vault, key_name="evidence-log", clock=world.clock
        )
        self.sequencer = Sequencer(
            storage=storage,
            checkpoints=checkpoints,
            grown=self.signer.soon,
            monotonic=loop.time,
            chance=Random(7).random,  # noqa: S311 - it spreads tries, and keeps nothing secret
        )

    async def append(self, entry: bytes) -> int:  # type: ignore[override]
        """Append an entry."""
        return await self.sequencer.append(entry)


@dataclass(frozen=True, slots=True)
class Taken:
    """What an order took: seconds, seconds of the processor, and operations on storage."""

    seconds: float
    processor: float
    operations: int


async def order(loop: OwnTime, devices: int, registration: float, *, logged: bool) -> Taken:
    """Carry an order out in a world of its own, up to the last line."""
    conductor = Timed(registration)
    world = await World(conductor=conductor).prepare()
    log: Any = With(world, loop) if logged else Without()
    world.log = world.authorities.log = log
    body = {
        "orderId": "order-2026-03-01",
        "enrollmentGroup": GROUP,
        "devices": [{"registrationId": f"order-2026-03-01-{number:07d}"} for number in range(devices)],
    }
    conductor.operations.clear()
    gc.collect()
    began, used = loop.time(), time.process_time()
    world.ask("order", Queue.DEVICE_ORDERS, body)
    await world.deliver("order")
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def deliver(message: Any) -> None:
        async with at_once:
            await world.hosts[0].deliver(Queue.DEVICE_REGISTRATIONS, message)

    queue = world.queues.queues[Queue.DEVICE_REGISTRATIONS]
    leased = [world.queues.lease(Queue.DEVICE_REGISTRATIONS, each, lease=LEASE) for each in list(queue)]
    await asyncio.gather(*map(deliver, leased))
    taken = Taken(
        loop.time() - began,
        time.process_time() - used,
        conductor.operations["tables"] + conductor.operations["blobs"],
    )
    lines = [row.read(OrderLine) for row in world.storage.table("orderlines").rows.values()]
    if world.bugs or [line.state for line in lines] != [LineState.REGISTERED] * devices:
        raise RuntimeError(f"the order was not carried out: {world.bugs}, {Counter(line.state for line in lines)}")
    return taken


def once(devices: int, registration: float, *, logged: bool) -> Taken:
    """Carry an order out in a loop of its own."""
    with _serving(), asyncio.Runner(loop_factory=OwnTime) as runner:
        loop: Any = runner.get_loop()
        return runner.run(order(loop, devices, registration, logged=logged))


@contextmanager
def _serving() -> Iterator[None]:
    """Have the triggers serve the worker that calls them."""
    modules: tuple[Any, ...] = (outcomes, timers)
    before = [each.services for each in modules]
    for each in modules:
        each.services = SERVING.get
    try:
        yield
    finally:
        for each, services in zip(modules, before, strict=True):
            each.services = services
