"""What holds for all tests in the world: the triggers serve whichever worker calls them; the runs are counted."""

from __future__ import annotations

import gc
import logging
from contextlib import nullcontext
from inspect import signature
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.record import Record
from tests.world.host import SERVING
from tests.world.kept import made_anew
from tests.world.prover import PASSED_OVER, RUNS
from tests.world.storage import read_once
from triggers import observed, outcomes, poison, timers, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_OFTEN = 10_000
"""Objects between two collections of garbage: a run leaves its world in cycles, and a processor's cache holds few."""


@pytest.fixture(scope="session", autouse=True)
def rarely_collected() -> Iterator[None]:
    """Look for garbage less often."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what is imported is no garbage
    gc.set_threshold(_OFTEN, 20, 20)
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.fixture(autouse=True)
def changed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have a test that changes the app make its worlds itself."""
    changes = "monkeypatch" in signature(request.function).parameters
    with made_anew() if changes else nullcontext():
        yield


@pytest.fixture(autouse=True)
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the triggers serve the worker that calls them, and keep what they log of thousands of runs to themselves."""
    for module in (observed, outcomes, poison, timers):
        monkeypatch.setattr(module, "services", SERVING.get)
    monkeypatch.setattr(whole, "unfinished", _none)  # no world is restored, and each look would be a step of it
    monkeypatch.setattr(outcomes, "_PUT_BACKS", 1)  # here the host's other deliveries are what is looked at
    monkeypatch.setattr(Record, "from_columns", classmethod(_from_columns))
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


_READ = vars(Record)["from_columns"].__func__


def _from_columns(kind: type[Record], values: Mapping[str, Any]) -> Record:
    return read_once(values, kind, lambda columns: _READ(kind, columns))


async def _none(_services: object) -> None:
    """Tell of no restore."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried."""
    if RUNS:
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(RUNS.items()))
        terminalreporter.write_line(f"runs in the world: {sum(RUNS.values()):,} ({told})")
    if passed_over := PASSED_OVER.total():
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(PASSED_OVER.items()) if count)
        terminalreporter.write_line(f"runs in the world that need no running: {passed_over:,} ({told})")
