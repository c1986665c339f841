"""The main job under load: an order of 500 devices, end to end, against what bare Azurite can do.

The bar is the storage alone: the same number of operations of the same kinds, sent to the same Azurite by the same
number of clients at once, with nothing between them. What the app reaches of that says what the app costs; the rest is
Azurite's, which runs on one core.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
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
from tests.end_to_end.conftest import GROUP, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIANTS = {"dpsRegistration": "atOnce"}
"""Otherwise Microsoft's device SDK waits for 2 seconds with each device, and the bench measures that."""

_ACCESS_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/1\.1" (?P<status>\d{3})')


_HOST_FILES = "/azure-webjobs-"
"""Containers of the functions host."""


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """What one order gave.

    Attributes:
        seconds: from posting the order to the last device registered.
        operations: on storage, by service and method, the whole stack's, from Azurite's own access log.
        host_peak: peak memory of the functions host, bytes.
        processor: seconds of the processors by part of the stack, which other work on the machine does not change.
    """

    devices: int
    seconds: float
    operations: Counter[str]
    host_peak: int
    processor: Mapping[str, float]


def operations_since(log: Path, start: int) -> Counter[str]:
    """Count the operations in Azurite's access log behind a position.

    What the functions host does by the clock is left out: its own locks and timers, and polls of empty queues, of which
    the log does not tell that they brought nothing. So at most one poll counts for each message that was taken.
    """
    counts, polls, taken = Counter[str](), Counter[str](), Counter[str]()
    with log.open(encoding="utf-8", errors="replace") as lines:
        lines.seek(start)
        for line in lines:
            if not (match := _ACCESS_LINE.search(line)) or _HOST_FILES in match["path"]:
                continue
            queue = match["path"].partition("/messages")[0]
            if (kind := f"{match['method']} {_kind(match['path'])}") == "GET queue":
                polls[queue] += 1
                continue
            counts[kind] += 1
            taken[queue] += kind == "DELETE queue"
    counts["GET queue"] = sum(min(polls[queue], number) for queue, number in taken.items())
    return counts


def _kind(path: str) -> str:
    if "/messages" in path:
        return "queue"
    if path.partition("?")[0].endswith("/$batch"):
        return "transaction"
    return "blob" if re.search(r"/(bundles|crls|orders|log|loghead)/", path) else "table"


def run_order(stack: Stack, world: World, count: int) -> OrderFigures:
    """Post an order of service-registered devices, and wait for the last one."""
    order_id = f"bench-{uuid.uuid4().hex[:8]}"
    log = stack.options.state_dir / "logs" / "azurite.log"
    start = log.stat().st_size
    host = psutil.Process(stack.process_id("functions_host"))
    devices = [{"registrationId": f"{order_id}-{index}"} for index in range(count)]
    present = world.devices_in_hub()
    before, began = _processor(stack), time.perf_counter()
    world.post_message("device-orders", {"orderId": order_id, "enrollmentGroup": GROUP, "devices": devices})
    peak = 0

    def in_the_hub() -> int:
        nonlocal peak
        peak = max(peak, host.memory_info().rss)
        return world.devices_in_hub() - present

    # The hub is asked, since the app's own answer reads all lines, and would weigh on what is measured.
    until(f"{count} devices in the hub", in_the_hub, lambda done: done == count, seconds=600)
    until("all lines are done", lambda: world.get(f"device-orders/{order_id}")["progress"]["registered"],
          lambda done: done == count)  # fmt: skip
    seconds = time.perf_counter() - began
    processor = {part: used - before[part] for part, used in _processor(stack).items()}
    # What the directory takes for these devices counts, too; it is kept beside the work, and may end after it.
    until("the directory has them", lambda: world.get("device-counts")["states"]["registered"],
          lambda registered: registered == present + count)  # fmt: skip
    return OrderFigures(count, seconds, operations_since(log, start), peak, processor)


def _processor(stack: Stack) -> dict[str, float]:
    """Give the seconds of the processors that each part of the stack has taken."""

    def used(part: str) -> float:
        process = psutil.Process(stack.process_id(part))
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    return {part: used(part) for part in ("functions_host", "azurite", "emulator")}


def run_bare_storage(stack: Stack, operations: Counter[str], count: int) -> float:
    """Send the same operations to Azurite without the app, and give the seconds it took."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "benchmarks.bare_storage", str(count), json.dumps(operations)],
        env={**os.environ, **stack.endpoints.environment(), **stack.settings()},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main(count: int = 500) -> dict[str, Any]:
    """Measure, print, and give the figures."""
    before = dict(os.environ)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Stack.free(Path(folder), storage_log=True, variants=_VARIANTS) as stack,
        contextlib.closing(World(stack.endpoints, Path(folder) / "devices")) as world,
    ):
        prepare(world)
        run_order(stack, world, 20)  # warms up connections, tokens and caches
        figures = run_order(stack, world, count)
        bare = run_bare_storage(stack, figures.operations, count)
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
    for part, used in figures.processor.items():
        print(f"  processors, {part:14}{1000 * used / figures.devices:8.1f} ms per device")
    print(f"  functions host, peak      {figures.host_peak / 2**20:8.0f} MiB")
    return {"devices_per_second": figures.devices / figures.seconds, "ratio": bare / figures.seconds}
