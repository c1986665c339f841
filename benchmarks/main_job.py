"""The main job under load: an order of 500 devices, end to end, against what bare Azurite can do.

The bar is the storage alone: the same number of operations of the same kinds, sent to the same Azurite by the same
number of clients at once, with nothing between them. What the app reaches of that says what the app costs; the rest is
Azurite's, which runs on one core.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from devstack.outside import World, until
from devstack.stack import Stack
from shared.adapters.identity import Identity
from shared.adapters.storage import Blobs, Queues, Tables
from tests.end_to_end.conftest import GROUP, prepare

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from devstack.stack import Endpoints

CLIENTS = 24
"""As many as the functions host works on at once: batchSize + newBatchThreshold."""

_ACCESS_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/1\.1" (?P<status>\d{3})')
_SERVICES = ("blob", "queue", "table")


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """What one order gave.

    Attributes:
        seconds: from posting the order to the last device registered.
        operations: on storage, by service and method, the whole stack's, from Azurite's own access log.
        host_peak: peak memory of the functions host, bytes.
    """

    devices: int
    seconds: float
    operations: Counter[str]
    host_peak: int


def operations_since(log: Path, start: int) -> Counter[str]:
    """Count the operations in Azurite's access log behind a position, without polls of empty queues."""
    counts: Counter[str] = Counter()
    with log.open(encoding="utf-8", errors="replace") as lines:
        lines.seek(start)
        for line in lines:
            if match := _ACCESS_LINE.search(line):
                counts[f"{match['method']} {_kind(match['path'])}"] += 1
    return counts


def _kind(path: str) -> str:
    if "/messages" in path:
        return "queue"
    return "blob" if re.search(r"/(bundles|crls|orders)/", path) else "table"


def run_order(stack: Stack, world: World, count: int) -> OrderFigures:
    """Post an order of service-registered devices, and wait for the last one."""
    order_id = f"bench-{uuid.uuid4().hex[:8]}"
    log = stack.options.state_dir / "logs" / "azurite.log"
    start = log.stat().st_size
    host = psutil.Process(stack.process_id("functions_host"))
    devices = [{"registrationId": f"{order_id}-{index}"} for index in range(count)]
    began = time.perf_counter()
    world.post_message("device-orders", {"orderId": order_id, "enrollmentGroup": GROUP, "devices": devices})
    peak = 0

    def progress() -> int:
        nonlocal peak
        peak = max(peak, host.memory_info().rss)
        time.sleep(0.5)  # asking reads all lines, which would weigh on what is measured
        body = world.get(f"device-orders/{order_id}", missing=None)
        return int(body["progress"]["registered"]) if body else 0

    until(f"{count} devices", progress, lambda done: done == count, seconds=600)
    seconds = time.perf_counter() - began
    return OrderFigures(count, seconds, operations_since(log, start), peak)


async def bare_storage(endpoints: Endpoints, mix: Counter[str], devices: int) -> float:
    """Send the operations of one device, for as many devices, straight to Azurite, and give the seconds it took."""
    identity = Identity.managed(None)
    queues = Queues(endpoints.queue_service_url, identity.asynchronous)
    tables = Tables(endpoints.table_service_url, identity.asynchronous)
    blobs = Blobs(endpoints.blob_service_url, identity.asynchronous)
    await asyncio.gather(queues.create("bare"), tables.create("bare"), blobs.create_container("bare"))
    table = tables.table("bare")
    value = "x" * 1000

    async def table_read() -> object:
        return await table.get("none", "none")

    async def table_write() -> object:
        name = uuid.uuid4().hex
        return await table.insert({"PartitionKey": name[:2], "RowKey": name, "value": value})

    async def queue_write() -> None:
        await queues.send("bare", value)

    async def blob_write() -> object:
        name = uuid.uuid4().hex
        return await blobs.create("bare", name, b"x" * 6000, content_type="application/json", metadata={})

    kinds: dict[str, Callable[[], Awaitable[object]]] = {
        "GET table": table_read,
        "POST table": table_write,
        "PUT table": table_write,
        "POST queue": queue_write,
        "DELETE queue": queue_write,
        "GET queue": queue_write,
        "PUT blob": blob_write,
    }
    each: list[Callable[[], Awaitable[object]]] = [
        call for kind, call in kinds.items() for _ in range(round(mix[kind] / devices))
    ]
    gate = asyncio.Semaphore(CLIENTS)

    async def one_device(calls: Sequence[Callable[[], Awaitable[object]]]) -> None:
        async with gate:
            for call in calls:
                await call()

    began = time.perf_counter()
    await asyncio.gather(*(one_device(each) for _ in range(devices)))
    seconds = time.perf_counter() - began
    await asyncio.gather(queues.close(), tables.close(), blobs.close(), identity.close())
    return seconds


def main(count: int = 500) -> dict[str, Any]:
    """Measure, print, and give the figures."""
    before = dict(os.environ)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Stack.free(Path(folder), storage_log=True) as stack,
        contextlib.closing(World(stack.endpoints, Path(folder) / "devices")) as world,
    ):
        prepare(world)
        run_order(stack, world, 20)  # warms up connections, tokens and caches
        figures = run_order(stack, world, count)
        bare = asyncio.run(bare_storage(stack.endpoints, figures.operations, count))
    os.environ.clear()
    os.environ.update(before)
    total = sum(figures.operations.values())
    print(f"order of {figures.devices} devices: service-made P-256 keys, CA key in the emulated vault, one machine")
    print(f"  end to end                {figures.devices / figures.seconds:8.1f} devices/s  ({figures.seconds:.1f} s)")
    print(f"  storage operations        {total / figures.devices:8.1f} per device")
    for kind, number in figures.operations.most_common():
        print(f"    {kind:22}  {number / figures.devices:8.2f}")
    print(f"  bare Azurite, same number {figures.devices / bare:8.1f} devices/s  ({bare:.1f} s)")
    print(f"  ratio end to end / bare   {bare / figures.seconds:8.2f}")
    print(f"  functions host, peak      {figures.host_peak / 2**20:8.0f} MiB")
    return {"devices_per_second": figures.devices / figures.seconds, "ratio": bare / figures.seconds}
