"""``python -m benchmarks.order_lists``: long lists of devices, in memory and in time.

Each list is read in a process of its own, as an order's dispatch reads it: decoded, parsed, each device checked, made a
line and compared with those before it. Memory is the growth of the peak over the idle process. Time is compared with
what reads the same list and does nothing else: ``csv.reader`` line by line, and ``json.loads`` of all of it.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import resource
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from benchmarks.measuring import Bar, Figure
from shared.domain.orders import OrderRecord, OrderState
from shared.workflows.devices.order_lines import OrderLines
from shared.workflows.devices.order_lists import DEVICES_LIMIT, read_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PART = 1024 * 1024
MEMORY_BAR = Bar(256)
PAUSE_BAR = Bar(1)
_TICK = 0.02
_SPAWN = multiprocessing.get_context("spawn")
_ROW = "press-%08d;EC-P256;plant-0000000000000000;" + "line-".ljust(52, "0") + "\n"
_OBJECT = '{"registrationId":"press-%08d","keyAlgorithm":"EC-P256","tags":{"plant":"plant-0000000000"}}'
_HEADER = "registrationId;keyAlgorithm;tags.plant;tags.line\n"


def parts(form: str, count: int) -> Iterator[bytes]:
    """Write a list of so many devices, of 100 bytes each, part by part."""
    held = _HEADER if form == "csv" else "["
    pattern = _ROW if form == "csv" else _OBJECT
    for index in range(count):
        held += pattern % index + ("" if form == "csv" else "]" if index == count - 1 else ",\n")
        if len(held) >= _PART:
            yield held.encode()
            held = ""
    yield held.encode()


def read_through(form: str, count: int) -> None:
    """Read a list as its acceptance does."""
    for _ in read_list(parts(form, count), "list"):
        pass


def make_lines(form: str, count: int) -> None:
    """Make an order's lines of a list, as its dispatch does."""
    order = OrderRecord(order_id="o", state=OrderState.ACCEPTED, enrollment_group="g", accepted_at=datetime.now(UTC))
    lines = OrderLines(order=order, devices=read_list(parts(form, count), "list"))
    while lines.take():
        pass


def floor(form: str, count: int) -> None:
    """Read a list with the standard library alone, CSV line by line and JSON as a whole."""
    content = b"".join(parts(form, count))
    if form == "csv":
        for _ in csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8", newline=""), delimiter=";"):
            pass
    else:
        json.loads(content)


def _measure(
    pipe: multiprocessing.connection.Connection, work: Callable[[str, int], None], form: str, count: int
) -> None:
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = threading.Event()

    def run() -> None:
        work(form, count)
        done.set()

    thread = threading.Thread(target=run)
    began = last = time.perf_counter()
    longest = 0.0
    thread.start()
    while not done.wait(_TICK):  # what an event loop would have to wait for its turn
        now = time.perf_counter()
        longest, last = max(longest, now - last - _TICK), now
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle
    pipe.send((time.perf_counter() - began, grown / 1024, longest))


def measured(work: Callable[[str, int], None], form: str, count: int) -> tuple[float, float, float]:
    """Give the seconds, the growth of memory in MiB, and the longest wait of another thread in seconds."""
    near, far = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_measure, args=(far, work, form, count))
    process.start()
    result: tuple[float, float, float] = near.recv()
    process.join()
    return result


def figures(count: int) -> Iterator[Figure]:
    """Measure lists of a tenth of so many devices, and of so many."""
    for form in ("csv", "json"):
        short, long = measured(make_lines, form, count // 10), measured(make_lines, form, count)
        reading, bare = measured(read_through, form, count), measured(floor, form, count)
        yield Figure.of(f"{form}, {count} devices: memory, lines", [long[1]], unit="MiB", bar=MEMORY_BAR)
        yield Figure.of(f"{form}, {count} devices: memory, reading alone", [reading[1]], unit="MiB", bar=MEMORY_BAR)
        yield Figure.of(f"{form}, {count} devices: longest wait of another thread", [long[2]], unit="s", bar=PAUSE_BAR)
        yield Figure.of(f"{form}: time for 10 times the devices", [long[0] / short[0]])
        yield Figure.of(f"{form}: time, reading / standard library", [reading[0] / bare[0]])
        yield Figure.of(f"{form}: time, lines / standard library", [long[0] / bare[0]])
        yield Figure.of(f"{form}: memory, lines / standard library", [long[1] / bare[1]])


def main() -> int:
    """Print the figures; 1 if one of them misses what is wanted."""
    count = int(sys.argv[1]) if sys.argv[1:] else DEVICES_LIMIT
    missed = False
    for figure in figures(count):
        print(figure, flush=True)
        missed = missed or figure.verdict == "MISSED"
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
