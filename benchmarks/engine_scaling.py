"""How the engine grows: with processes, with threads, with the entries of a CRL, with what was issued before."""

from __future__ import annotations

import json
import math
import multiprocessing
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engine_world import World
from benchmarks.measuring import Bar, Figure, interleaved, timed
from shared.pki.issuance import new_serial_number
from shared.pki.revocation_lists import RevokedCertificate, build_crl, encode_entry
from shared.pki.signing_keys import KeyAlgorithm, generate_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from benchmarks.measuring import Work

EXPONENT_BAR = Bar(1.25)
"""1 is in proportion, 2 with the square; a little more than 1 is due to copying what no longer fits the cache."""

_SPAWN = multiprocessing.get_context("spawn")


# --- processes -------------------------------------------------------------------------------------------------------


def _worker(pipe: Connection) -> None:
    """Do what it is told, ``("leaf", 1000)``, and answer the seconds; ends with ``None``."""
    world = World.made()
    works = {"leaf": timed(world.leaf), "bundle": timed(world.bundle)}
    pipe.send(0.0)
    while (order := pipe.recv()) is not None:
        name, times = order
        pipe.send(works[name](times) * times)


@contextmanager
def _workers(number: int) -> Iterator[list[Connection]]:
    pairs = [_SPAWN.Pipe() for _ in range(number)]
    processes = [_SPAWN.Process(target=_worker, args=(far,), daemon=True) for _, far in pairs]
    for process in processes:
        process.start()
    ours = [near for near, _ in pairs]
    for pipe in ours:
        pipe.recv()  # ready
    yield ours
    for pipe, process in zip(ours, processes, strict=True):
        pipe.send(None)
        process.join()


def processes(*, quick: bool) -> list[Figure]:
    """Compare two worker processes with one."""
    rounds, counts = (2, {"leaf": 100, "bundle": 10}) if quick else (9, {"leaf": 4000, "bundle": 400})
    figures = []
    with _workers(2) as pipes:

        def together(name: str, workers: int) -> Work:
            def work(times: int) -> float:
                for pipe in pipes[:workers]:
                    pipe.send((name, times))
                slowest: float = max(pipe.recv() for pipe in pipes[:workers])
                return slowest / (times * workers)

            return work

        for name, times in counts.items():
            taken = interleaved({str(each): (together(name, each), times) for each in (1, 2)}, rounds)
            title = f"two worker processes / one, {name}"
            figures.append(Figure.ratio(title, taken["1"], taken["2"], bar=Bar(1.7, at_least=True)))
    return figures


# --- threads ---------------------------------------------------------------------------------------------------------


def threads(world: World, *, quick: bool) -> list[Figure]:
    """Compare two threads with one: the same number of works, shared between them."""
    rounds = 2 if quick else 5
    jobs: dict[str, tuple[Callable[[], object], int, Bar | None]] = {
        "P-256 key and leaf (one thread is used)": (world.leaf, 50 if quick else 2000, None),
        "PFX (one thread is used)": (world.pfx_alone, 10 if quick else 400, None),
        "RSA-2048 key (threads are used)": (
            lambda: generate_key(KeyAlgorithm.RSA_2048),
            2 if quick else 40,  # the time of one varies as much as it is long
            Bar(1.3, at_least=True),
        ),
    }
    figures = []
    with ThreadPoolExecutor(2) as pool:
        for name, (once, times, bar) in jobs.items():
            works = {each: (_shared(pool, once, each), times) for each in (1, 2)}
            taken = interleaved({str(each): work for each, work in works.items()}, rounds)
            figures.append(Figure.ratio(f"two threads / one, {name}", taken["1"], taken["2"], bar=bar))
    return figures


def _shared(pool: ThreadPoolExecutor, once: Callable[[], object], number: int) -> Work:
    def work(times: int) -> float:
        each = max(1, times // number)
        began = time.perf_counter()
        list(pool.map(timed(once), [each] * number))
        return (time.perf_counter() - began) / (each * number)

    return work


# --- revocation lists ------------------------------------------------------------------------------------------------


def revocation_lists(*, quick: bool) -> list[Figure]:
    """Build lists of growing length, each in a process of its own, and fit a line through their times."""
    sizes = [1_000, 10_000] if quick else [1_000, 10_000, 100_000, 1_000_000]
    bars = {100_000: (Bar(0.3), None), 1_000_000: (Bar(5), Bar(300))}
    measured = [_list_of(size) for size in sizes]
    figures = []
    for size, each in zip(sizes, measured, strict=True):
        time_bar, memory_bar = bars.get(size, (None, None))
        figures += [
            Figure.of(f"CRL of {size:,}: the list, from kept entries", each["built"], unit="s", bar=time_bar),
            Figure.of(f"CRL of {size:,}: its entries, encoded for the first time", each["encoded"], unit="s"),
            Figure.of(f"CRL of {size:,}: peak memory of the process", [each["peak"]], unit="MB", bar=memory_bar),
        ]
    for name in ("built", "encoded"):
        figures += _fit(name, sizes, [statistics.median(each[name]) for each in measured])
    return figures


def _fit(name: str, sizes: list[int], seconds: list[float]) -> list[Figure]:
    """Fit a line, and a power: the exponent is 1 where time is in proportion."""
    line = statistics.linear_regression(sizes, seconds)
    fits = statistics.correlation(sizes, seconds) ** 2
    # The shortest list is left out: what does not depend on its length weighs on it.
    exponent = statistics.linear_regression(*[[math.log(each) for each in values[-3:]] for values in (sizes, seconds)])
    return [
        Figure.of(f"CRL {name}: microseconds per entry, by linear fit", [line.slope * 1e6], unit="us"),
        Figure.of(f"CRL {name}: share of the variance that the line explains", [fits], unit=""),
        Figure.of(f"CRL {name}: exponent of time over entries", [exponent.slope], unit="", bar=EXPONENT_BAR),
    ]


def _list_of(size: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.engine_scaling", str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own program
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _measure_list(size: int) -> dict[str, Any]:
    world = World.made()
    began = time.perf_counter()
    entries = [
        encode_entry(RevokedCertificate(new_serial_number(), world.now - timedelta(seconds=index), "superseded"))
        for index in range(size)
    ]
    encoded = time.perf_counter() - began

    def build() -> bytes:
        later = world.now + timedelta(days=7)
        return build_crl(entries, issuer=world.issuing, crl_number=1, now=world.now, next_update=later)

    built = [timed(build)(1) for _ in range(3)]
    return {"encoded": [encoded], "built": built, "peak": _peak()}


def _peak() -> float:
    """Give this program's peak in megabytes (getrusage would count its parent's in, from before exec)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


# --- what was issued before ------------------------------------------------------------------------------------------


def growth(world: World, *, quick: bool) -> list[Figure]:
    """Issue many certificates, and compare the last with the first: nothing grows with their number."""
    total, slice_of = (1_000, 200) if quick else (50_000, 2_000)
    leaf = timed(world.leaf)
    leaf(slice_of // 2)  # warms up
    memory = _resident()
    first = leaf(slice_of)
    leaf(total - 2 * slice_of)
    last = leaf(slice_of)
    return [
        Figure.of(f"time of the last {slice_of:,} of {total:,} leaves / the first", [last / first], bar=Bar(1.15)),
        Figure.of(f"memory gained over {total:,} leaves", [_resident() - memory], unit="MB", bar=Bar(5)),
    ]


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure_list(int(sys.argv[1]))))
