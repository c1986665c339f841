"""The engine's properties on generated input, for as long as asked: ``python -m benchmarks.fuzz --seed 7``.

The tests try the same properties on the same inputs each time; this goes on from there. What breaks one is made as
small as can be, printed, and written to a file.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.unit.pki.cases import cases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.unit.pki.cases import Case

BATCH = 500
"""Inputs for one property before it is the next one's turn."""


@dataclass
class Tally:
    """What came of one property's inputs.

    Attributes:
        outcomes: how many inputs had each.
        slowest: seconds that the slowest took.
        broken: the traces of what broke it, the input made small.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    broken: list[str] = field(default_factory=list)


def run_batch(case: Case, number: int, tally: Tally) -> None:
    """Try a property on a batch of inputs."""

    def check(given_input: tuple[Any, ...]) -> None:
        began = time.perf_counter()
        outcome = case.check(*given_input)
        tally.outcomes[outcome] += 1
        tally.slowest = max(tally.slowest, time.perf_counter() - began)

    drawn = given(st.tuples(*case.inputs))(check)
    run = settings(
        max_examples=BATCH,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[*HealthCheck],
        print_blob=False,
    )(seed(number)(drawn))
    try:
        run()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a panic in cryptography's Rust code is not an Exception, and is looked for too
        tally.broken.append(traceback.format_exc())


def _line(name: str, tally: Tally) -> str:
    outcomes = ", ".join(f"{outcome}: {count:,}" for outcome, count in tally.outcomes.most_common())
    state = "  BROKEN" if tally.broken else ""
    return (
        f"{name:<60} {tally.outcomes.total():>9,} inputs, slowest {tally.slowest * 1000:7.1f} ms{state}\n    {outcomes}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; gives 1 when a property was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, help="the same inputs again; drawn and printed if not given")
    parser.add_argument("--only", nargs="+", metavar="PROPERTY", help="by their names")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings.txt"), help="where the traces go")
    chosen = parser.parse_args(arguments)
    start = random.randrange(2**32) if chosen.seed is None else chosen.seed  # noqa: S311 - no secret
    print(f"seed {start}")
    warnings.simplefilter("ignore")
    tallies = {case.name: (case, Tally()) for case in cases() if not chosen.only or case.name in chosen.only}
    end = time.monotonic() + 60 * chosen.minutes
    for batch in itertools.count(start):
        for case, tally in tallies.values():
            if not tally.broken and time.monotonic() < end:
                run_batch(case, batch, tally)
        if time.monotonic() >= end or all(tally.broken for _, tally in tallies.values()):
            break
    for name, (_, tally) in tallies.items():
        print(_line(name, tally))
    broken = [trace for _, tally in tallies.values() for trace in tally.broken]
    if broken:
        chosen.out.write_text("\n\n".join(broken))
        print(f"{len(broken)} properties are broken; the traces are in {chosen.out}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
