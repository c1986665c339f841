"""What the log of certificates adds to an order: the same order with the log and without it, in turns.

The app runs as it is wired for the cloud, on services in memory that take as long as real ones. Time is the event
loop's own: it goes on to the next moment at which something happens, so other work on the machine does not change it.
It has no time for computing in it, so that is measured by itself, by the processor's clock.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import statistics
import sys
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

DEVICES, ROUNDS = 200, 15
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
    with asyncio.Runner(loop_factory=OwnTime) as runner:
        loop: Any = runner.get_loop()
        return runner.run(order(loop, devices, registration, logged=logged))


@contextmanager
def serving() -> Iterator[None]:
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


def measured(devices: int, rounds: int, registration: float) -> dict[bool, list[Taken]]:
    """Carry orders out with the log and without it, in turns, after one of each that does not count."""
    found: dict[bool, list[Taken]] = {True: [], False: []}
    with serving():
        for turn in range(rounds + 1):
            for logged in (True, False)[:: -1 if turn % 2 else 1]:
                taken = once(devices, registration, logged=logged)
                if turn:
                    found[logged].append(taken)
    return found


def show(devices: int, rounds: int, registration: float) -> None:
    """Measure, and print."""
    found = measured(devices, rounds, registration)
    pairs = list(zip(found[True], found[False], strict=True))
    on, off = (statistics.median(each.seconds for each in found[logged]) for logged in (True, False))
    print(f"{devices} devices, {registration:g} s a registration: {on:.2f} s with the log, {off:.2f} s without it")
    _line("time", [on.seconds / off.seconds for on, off in pairs])
    _line("processor", [on.processor / off.processor for on, off in pairs])
    _line("operations on storage", [on.operations / off.operations for on, off in pairs])
    added = statistics.median(1000 * (on.processor - off.processor) / devices for on, off in pairs)
    print(f"  the log takes {added:.2f} ms of the processor a device")


def _line(what: str, ratios: list[float]) -> None:
    least, middle, most = (100 * (each - 1) for each in (min(ratios), statistics.median(ratios), max(ratios)))
    print(f"  {what:22} {middle:+6.1f} %  ({least:+.1f} to {most:+.1f})")


def main(devices: int = DEVICES, rounds: int = ROUNDS) -> None:
    """Measure, and print."""
    logging.disable(logging.CRITICAL)
    for registration in (REGISTRATION, AT_ONCE):
        show(devices, rounds, registration)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
