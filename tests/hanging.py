"""A plugin of pytest that ends the run when a test hangs: it computes for ever, or waits for what never comes.

What counts is the time for which the process computes, not the clock's: on a machine that is busy with other things a
test may take minutes, and is as good as ever. It is given as ``-p tests.hanging``.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

BUSY = 60.0
"""So many seconds a test may compute; none needs half of that."""

IDLE = 90.0
"""So many seconds of the clock a test may wait, while the process computes next to nothing."""

_EVERY, _NEXT_TO_NOTHING = 1.0, 0.1
_ERRORS = os.dup(2)  # pytest captures what is written to it from now on
EXIT = 1
"""Exit status of the process: as if the test had failed."""


def hangs(
    has_ended: Callable[[float], bool],
    *,
    computed: Callable[[], float] = time.process_time,
    clock: Callable[[], float] = time.monotonic,
) -> str | None:
    """Watch the process until a test has ended; say how the test hangs, ``None`` if it has ended.

    Args:
        has_ended: waits for so many seconds, or until the test has ended, and tells whether it has.
        computed: gives for how many seconds the process has computed.
        clock: gives the seconds that have gone by.
    """
    began = before = computed()
    since = clock()
    while not has_ended(_EVERY):
        present, now = computed(), clock()
        if present - began > BUSY:
            return f"it has computed for {present - began:.0f} seconds"
        if present - before > _NEXT_TO_NOTHING:
            before, since = present, now
        elif now - since > IDLE:
            return f"it has waited for {now - since:.0f} seconds"
    return None


def _watch(test: str, ended: threading.Event) -> None:
    why = hangs(ended.wait)
    if why is not None:
        os.write(_ERRORS, f"{test} hangs: {why}\n".encode())
        os._exit(EXIT)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have each test watched."""
    ended = threading.Event()
    threading.Thread(target=_watch, args=(item.nodeid, ended), name="hanging", daemon=True).start()
    try:
        return (yield)
    finally:
        ended.set()
