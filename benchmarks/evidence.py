"""``python -m benchmarks.evidence [DEVICES]``: what the log of certificates takes.

Appends by the app's own code on blobs in memory; the bytes of a certificate's entry; the whole of a log with 1,000,000
entries checked as a mirror checks it; what the log adds to an order (:mod:`benchmarks.log_share`). With a number,
orders of so many devices end to end, with the log and without it, in turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
import tracemalloc
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import log_share
from benchmarks.main_job import run_order
from devstack.outside import World as Outside
from devstack.stack import Stack
from shared.evidence.leaves import certificate_entry
from shared.evidence.mirror import check_grows
from shared.evidence.tiles import HASH_SIZE, WIDTH
from shared.evidence.trees import GrowingTree
from shared.evidence.verify import leaf_hash
from shared.workflows.evidence.sequencing import Sequencer
from tests.end_to_end.conftest import prepare
from tests.pki.hierarchy import NOW
from tests.unit.evidence.stored import Place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from benchmarks.main_job import OrderFigures

LEAVES = 1_000_000
APPENDS = 20_000
AT_ONCE = 200
_ROUNDS = 3
_LATENCY, _RATE, _SECONDS = 0.01, 20, 10


def entry(number: int) -> bytes:
    """Give an entry as a device's certificate has it."""
    digest = sha256(b"%d" % number).hexdigest()
    return certificate_entry(
        NOW,
        {
            "serialNumber": digest[:40],
            "tbs": digest,
            "issuer": "line-1-ca1",
            "kind": "device",
            "subject": f"order-2026-03-01-{number:07d}",
            "cause": "order-2026-03-01",
            "chain": digest,
            "actor": "app:00000000-0000-0000-0000-000000000000",
        },
    )


async def appends(workers: int) -> float:
    """Append entries by workers that go on at the same time, and give how many a second they get in."""
    place = Place()

    async def crowd(sequencer: Sequencer, first: int) -> None:
        for number in range(first, first + APPENDS // AT_ONCE):
            await sequencer.append(entry(number))

    sequencers = [place.worker().sequencer for _ in range(workers)]
    began = time.perf_counter()
    await asyncio.gather(*(crowd(sequencers[each % workers], each * (APPENDS // AT_ONCE)) for each in range(AT_ONCE)))
    return APPENDS / (time.perf_counter() - began)


async def side_by_side(workers: int) -> tuple[float, float, float]:
    """Let workers issue side by side, each so many certificates a second, on blobs that answer after 10 ms.

    Returns:
        Operations on storage for each entry, and the milliseconds that the middle one and the 95th of 100 waits.
    """
    place, waits = Slow(), list[float]()

    async def issue(sequencer: Sequencer, number: int) -> None:
        began = time.perf_counter()
        await sequencer.append(entry(number))
        waits.append(1000 * (time.perf_counter() - began))

    async def work(worker: int) -> None:
        sequencer = Sequencer(storage=place.storage, checkpoints=place.checkpoints)
        async with asyncio.TaskGroup() as group:
            for number in range(_SECONDS * _RATE):
                group.create_task(issue(sequencer, worker * 10_000 + number))
                await asyncio.sleep(1 / _RATE)

    await asyncio.gather(*map(work, range(workers)))
    waits.sort()
    return place.calls / len(waits), waits[len(waits) // 2], waits[len(waits) * 95 // 100]


class Slow(Place):
    """Blobs that answer after 10 ms, and how often they were asked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calls = 0
        for name in ("get", "create", "exchange", "describe"):
            setattr(self.blobs, name, self._late(getattr(self.blobs, name)))

    def _late(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def late(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            await asyncio.sleep(_LATENCY)
            return await call(*args, **kwargs)

        return late


def bundles() -> Iterator[Sequence[bytes]]:
    """Give the bundles of a log with 1,000,000 entries, as a mirror reads them."""
    for first in range(0, LEAVES, WIDTH):
        yield [entry(number) for number in range(first, min(LEAVES, first + WIDTH))]


def verification() -> tuple[float, float]:
    """Check all entries against a tree: give the seconds without making them, and the mebibytes held meanwhile."""
    growing = GrowingTree()
    for bundle in bundles():
        growing.extend(map(leaf_hash, bundle))
    began = time.perf_counter()
    for bundle in bundles():
        del bundle
    making = time.perf_counter() - began
    began = time.perf_counter()
    check_grows(bundles(), [growing.tree])
    seconds = time.perf_counter() - began - making
    tracemalloc.start()
    check_grows((each for _, each in zip(range(400), bundles(), strict=False)), [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, peak / 2**20


def orders(devices: int) -> dict[str, list[OrderFigures]]:
    """Run orders end to end with the log and without it, in turns, each on a stack of its own."""
    found: dict[str, list[OrderFigures]] = {"on": [], "off": []}
    before = dict(os.environ)
    for turn in range(_ROUNDS):
        for kind in list(found)[:: -1 if turn % 2 else 1]:
            with (
                tempfile.TemporaryDirectory(prefix="bench-") as folder,
                Stack.free(
                    Path(folder),
                    storage_log=True,
                    variants={"dpsRegistration": "atOnce"},
                    settings={"EVIDENCE_LOG": kind},
                ) as stack,
                contextlib.closing(Outside(stack.endpoints, Path(folder) / "devices")) as world,
            ):
                prepare(world)
                run_order(stack, world, 20)
                found[kind].append(run_order(stack, world, devices))
            os.environ.clear()
            os.environ.update(before)
    return found


def main(devices: int = 0) -> None:
    """Measure, and print."""
    size = statistics.mean(len(entry(number)) for number in range(100))
    stored = size + 2 + HASH_SIZE * (1 + 1 / WIDTH)
    print(f"an entry of a certificate   {size:8.0f} bytes, {stored:.0f} with its hashes in tiles")
    for workers in (1, 2):
        rate = asyncio.run(appends(workers))
        print(f"appends, {workers} workers          {rate:8.0f} a second, blobs in memory, {AT_ONCE} at once")
    for workers in (1, 2, 5, 10):
        calls, middle, late = asyncio.run(side_by_side(workers))
        print(
            f"{workers:2} workers side by side    {calls:8.2f} operations an entry; waits {middle:.0f} ms, "
            f"{late:.0f} ms (95 of 100)"
        )
    seconds, peak = verification()
    print(f"verification of {LEAVES:,}   {seconds:8.1f} s, {peak:.1f} MiB at most")
    log_share.main()
    if not devices:
        return
    found = orders(devices)
    for kind, figures in found.items():
        processor = [1000 * each.processor["functions_host"] / devices for each in figures]
        operations = [sum(each.operations.values()) / devices for each in figures]
        took = [1000 * each.seconds / devices for each in figures]
        print(
            f"log {kind:3}: {statistics.median(took):6.1f} ms a device ({min(took):.1f} to {max(took):.1f}), "
            f"{statistics.median(processor):.1f} ms of the host's processor ({min(processor):.1f} to "
            f"{max(processor):.1f}), {statistics.median(operations):.2f} operations on storage"
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
