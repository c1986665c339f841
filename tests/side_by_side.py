"""Runs the parts of the tests side by side: ``python -m tests.side_by_side check | test | prove``.

Most of the end-to-end tests wait (for queues to be polled, for a DPS that answers 202 first), and the others compute: so
what waits starts first, with a stack for each part, and what computes fills the processors below it, the longest part
first. A part that would go on when all others are done is divided. A part that fails shows all that it has printed; the
others go on to their ends. The parts keep compiled modules for each other, also where ``PYTHONDONTWRITEBYTECODE`` is
set: a test run starts the app and its tests some eighty times.

With ``COVERAGE`` in the environment ``test`` also tells how many branches of ``shared/`` and ``triggers/`` were taken,
also by the functions hosts that the tests start, and fails below ``FLOOR``; ``make coverage`` names the branches that
are missing. It takes half as long again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REPOSITORY = Path(__file__).parents[1]
MEASURED = REPOSITORY / ".devstack" / "coverage"
FLOOR = 95.0
"""Percent of the branches; raise it whenever more are reached."""

_ALONE = ("test_recovery", "test_crashes", "test_zones", "test_api", "test_groups")
"""The longest files of the end-to-end tests; each gets a stack of its own, the others share two."""

_QUICK = ("-m", "not hypothesis and not long")
"""Leaves out what hypothesis makes input for, which it marks by itself, and what is marked as long."""

_STACKS_OF_THEIR_OWN = ("test_planted_drift", "test_foreign_attestations", "test_telemetry")
"""They start stacks by themselves, and one that is shared would run beside them for nothing."""

IN_A_BROWSER = "tests/console"
"""Needs Chromium, which not every machine has: `make test-console`."""

PYTEST = (sys.executable, "-m", "pytest", "-q")
PYTEST_MEASURED = (sys.executable, "-m", "coverage", "run", *PYTEST[1:])
_MANY_RUNS = (
    "test_acts_at_once",
    "test_any_sequence",
    "test_devices_under_interleaving",
    "test_groups_under_interleaving",
    "test_restored_under_interleaving",
)
"""Files of the world's tests that do the same thousands of times, in ever other orders."""

_AT_ONCE = 5 * (os.cpu_count() or 1)
"""As many as leave no processor without work while the end-to-end tests wait."""

_BELOW = ("nice", "-n", "10")

_ROOM = 2 << 30
"""Bytes that temporary files get in memory, or they are on the disk; a run of all tests had 60 MiB there at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one process runs.

    Attributes:
        arguments: what its program gets: for pytest, where the tests are.
        waits: it waits more than it computes, so it goes before what computes.
        runs_app: the branches of the app that it takes are counted.
        environment: beside what is there.
        share: which one of how many shares of the tests it runs; see :func:`share_of`.
    """

    name: str
    arguments: tuple[str, ...]
    program: tuple[str, ...] = PYTEST
    waits: bool = False
    runs_app: bool = True
    environment: Mapping[str, str] | None = None
    share: tuple[int, int] = (1, 1)


def share_of[T](found: Sequence[T], share: str, *, key: Callable[[T], str]) -> list[T]:
    """Give one share of what was found: ``2/3`` is the second of three, and the three together are all.

    What is near each other, such as the pairs of one act, is in different shares: their lengths are alike.

    Raises:
        ValueError: it is not a share.
    """
    number, _, count = share.partition("/")
    if not 1 <= int(number) <= int(count):
        raise ValueError(f"{share!r} is not a share; the second of three is '2/3'")
    return sorted(found, key=lambda each: (crc32(key(each).encode()), key(each)))[int(number) - 1 :: int(count)]


def _divided(part: Part, count: int) -> list[Part]:
    """Divide a part's tests among several processes."""
    return [replace(part, name=f"{part.name}, {n}", share=(n, count)) for n in range(1, count + 1)]


def _end_to_end() -> list[Part]:
    files = {path.stem: f"tests/end_to_end/{path.name}" for path in REPOSITORY.glob("tests/end_to_end/test_*.py")}
    alone = [Part(f"end to end: {name}", (files.pop(name),), waits=True) for name in _ALONE]
    apart = Part("end to end: stacks of their own", tuple(map(files.pop, _STACKS_OF_THEIR_OWN)), waits=True)
    others = sorted(files.values())
    halves = [Part(f"end to end: the others, {n + 1}", tuple(others[n::2]), waits=True) for n in range(2)]
    return [apart, *alone, *halves]


def _units() -> list[Part]:
    """Unit tests but those of pki, in two processes.

    Each is told what to leave out: for every file that it is given pytest looks through the whole folder. Long files are
    dealt out first, so that the halves take about the same time.
    """
    found = [path for path in REPOSITORY.glob("tests/unit/**/test_*.py") if path.parent.name != "pki"]
    found.sort(key=lambda path: (-path.stat().st_size, path))
    files = [str(path.relative_to(REPOSITORY)) for path in found]
    others = [["--ignore=tests/unit/pki", *(f"--ignore={file}" for file in files[half::2])] for half in (1, 0)]
    return [Part(f"unit: the others, {n}", ("tests/unit", *left_out)) for n, left_out in enumerate(others, 1)]


def _world() -> list[Part]:
    """Thousands of runs of the same code, which it would take minutes to count branches in; and the others."""
    runs = sorted(f"tests/world/{name}.py" for name in _MANY_RUNS)
    others = ("tests/world", *(f"--ignore={file}" for file in runs))
    many = Part("world: many runs", tuple(runs), runs_app=False)
    return [*_divided(Part("world: the others", others), 2), *_divided(many, 2)]


def lint() -> Part:
    """Formatting, linting, types and import rules."""
    return Part("lint", ("--no-print-directory", "lint"), program=("make",))


def parts() -> list[Part]:
    """All tests, each in one part; the longest first."""
    return [
        *_end_to_end(),
        Part("contracts", ("tests/contract",)),
        Part("emulator", ("emulator/tests",), runs_app=False),
        *_world(),
        Part("unit: pki", ("tests/unit/pki",)),
        lint(),
        *_units(),
        Part("infrastructure", ("tests/infra",)),
    ]


def parts_apart(zones: int) -> list[Part]:
    """The end-to-end tests against so many trust zones. test_zones needs no telling, and the other tests have none."""
    apart = [part for part in _end_to_end() if part.arguments != ("tests/end_to_end/test_zones.py",)]
    return [replace(part, name=f"{part.name}, {zones} zones", environment={"ZONES": str(zones)}) for part in apart]


def quick_parts() -> list[Part]:
    """What is worth knowing before a commit: unit tests but the long ones, and contracts of the app's adapters."""
    others = ("tests/contract/adapters", "tests/unit/pki", "tests/infra", "--ignore=tests/unit/pki/test_fuzz.py")
    return [
        lint(),
        *(replace(part, arguments=(*part.arguments, *_QUICK)) for part in _units()),
        Part("unit: pki; contracts: adapters; infrastructure", (*others, *_QUICK)),
    ]


def run(part: Part) -> tuple[int, str, float]:
    """Run a part; returns its exit status, what it printed, and the seconds of a processor that it and its children took.

    Each has a folder of its own for temporary files, since one pytest deletes what another one left behind, and several
    that do so at once meet. It stays if the part fails.
    """
    files = tempfile.mkdtemp(prefix="part-", dir=temporary_files())
    process = subprocess.Popen(
        [*(() if part.waits else _BELOW), *part.program, *part.arguments],
        cwd=REPOSITORY,
        env={**_environment(part), "TMPDIR": files},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        printed = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == 0:
        shutil.rmtree(files, ignore_errors=True)
    return process.returncode, printed, used.ru_utime + used.ru_stime


def temporary_files(memory: str = "/dev/shm") -> str | None:  # noqa: S108 - each part makes a folder of its own there
    """Give where temporary files are quick to make and to delete, if the memory has room and programs may run there.

    ``None`` is the place that the user has chosen by ``TMPDIR``, or the usual one.
    """
    if "TMPDIR" in os.environ:
        return None
    try:
        there = os.statvfs(memory)
    except OSError:
        return None  # not on Linux
    room = there.f_bavail * there.f_frsize
    return memory if room >= _ROOM and not there.f_flag & os.ST_NOEXEC and os.access(memory, os.W_OK) else None


def _environment(part: Part) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    number, count = part.share
    return {**kept, **(part.environment or {}), **({"SHARE": f"{number}/{count}"} if count > 1 else {})}


def run_all(chosen: Sequence[Part], at_once: int = _AT_ONCE) -> bool:
    """Run parts side by side, and say of each how it went; returns whether all is well."""
    began, well, counts = time.monotonic(), True, Counter[str]()
    with ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(run, part): part for part in chosen}
        for done in as_completed(running):
            status, printed, used = done.result()
            well = well and status == 0
            counts.update(_counted(printed))
            said = printed if status else "; ".join(_told(printed))
            passed = f"{time.monotonic() - began:5.0f} s, {used:4.0f} s of a processor"
            print(f"{passed}  {running[done].name}: {said}", flush=True)
    failed = counts["failed"] + counts["error"] + counts["errors"]
    print(f"tests: {counts['passed']} passed, {failed} failed, {counts['skipped']} skipped", flush=True)
    return well


def _told(printed: str) -> list[str]:
    """Give the last line of what was printed, after what the tests in the world say of how much they have tried."""
    lines = printed.strip().splitlines() or ["nothing found"]
    return [*(line for line in lines[:-1] if line.startswith("runs in the world")), lines[-1]]


def _counted(printed: str) -> dict[str, int]:
    """Read the last line of pytest, as in ``3 failed, 120 passed, 2 skipped in 4.1s``."""
    last = (printed.strip().splitlines() or [""])[-1]
    return {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", last)}


def measured(part: Part) -> Part:
    """The same part, with coverage of what it and its child processes run of the app."""
    return replace(part, program=PYTEST_MEASURED) if part.program == PYTEST and part.runs_app else part


def report() -> bool:
    """Say how many branches the measured parts have taken; returns whether that is enough."""
    coverage = (sys.executable, "-m", "coverage")
    file = MEASURED / "report.json"
    subprocess.run([*coverage, "combine", "--quiet"], cwd=REPOSITORY, check=True)
    subprocess.run([*coverage, "json", "--quiet", "-o", file], cwd=REPOSITORY, check=True)
    totals: dict[str, int] = json.loads(file.read_text())["totals"]
    taken, all_of_them = totals["covered_branches"], totals["num_branches"]
    print(f"branches: {taken} of {all_of_them}, {100 * taken / all_of_them:.1f} %; the floor is {FLOOR} %", flush=True)
    return 100 * taken >= FLOOR * all_of_them


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.side_by_side", description="Run the tests side by side.")
    parser.add_argument("what", choices=("check", "test", "prove"))
    parser.add_argument("--zones", type=int, default=1, help="of test: the end-to-end tests alone, in so many zones")
    given = parser.parse_args(arguments)
    if given.zones > 1:
        return _status(run_all(parts_apart(given.zones), at_once=_AT_ONCE // given.zones))
    if given.what == "prove":
        deeper = Part("world, deeper", ("tests/world",), environment={"PROVE": "1"})
        return _status(run_all(_divided(deeper, _AT_ONCE), at_once=os.cpu_count() or 1))
    if given.what == "check":
        return _status(run_all(quick_parts()))
    if not os.environ.get("COVERAGE"):
        return _status(run_all(parts()))
    shutil.rmtree(MEASURED, ignore_errors=True)
    MEASURED.mkdir(parents=True)
    return _status(run_all([measured(part) for part in parts()]) and report())


def _status(well: bool) -> int:  # noqa: FBT001 - what there is to say
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
