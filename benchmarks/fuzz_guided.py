"""One of the engine's properties under libFuzzer, which looks for inputs that reach new lines of code.

Needs ``pip install atheris``; ``python -m benchmarks.fuzz_guided a_request_is_taken_or_rejected --seconds 60``.
Hypothesis turns libFuzzer's bytes into the property's input: the same properties are tried as in the tests.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def target(name: str) -> Callable[[bytes], Any]:
    """Give a property as libFuzzer calls it.

    Raises:
        SystemExit: that name does not exist.
    """
    from tests.unit.pki.cases import cases  # noqa: PLC0415 - what is imported before is not instrumented

    known = {case.name: case for case in cases()}
    if name not in known:
        sys.exit(f"{name!r} is not a property; the properties are {', '.join(known)}")
    case = known[name]

    def check(given_input: tuple[Any, ...]) -> None:
        case.check(*given_input)

    drawn: Any = given(st.tuples(*case.inputs))(check)
    drawn = settings(deadline=None, database=None, suppress_health_check=[*HealthCheck])(drawn)
    one_input: Callable[[bytes], Any] = drawn.hypothesis.fuzz_one_input
    return one_input


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until the time is over, or an input breaks the property; libFuzzer ends the process either way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_guided", description=__doc__)
    parser.add_argument("property")
    parser.add_argument("--seconds", type=int, default=60)
    chosen = parser.parse_args(arguments)
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris")
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["shared"]):
        check = target(chosen.property)
    atheris.Setup([sys.argv[0], f"-max_total_time={chosen.seconds}", "-max_len=8192", "-rss_limit_mb=2048"], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
