"""What holds for all tests."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

from tests.side_by_side import share_of

if TYPE_CHECKING:
    import pytest

gc.disable()  # until the tests are found: next to nothing of what is imported is garbage

# The same inputs on every machine and in every run; the longer, random runs are in benchmarks/.
settings.register_profile(
    "same-every-time",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # it reads the clock, and on a busy machine it fails
)
settings.load_profile("same-every-time")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the other shares of the tests to other processes, if ``SHARE`` tells which one is wanted here."""
    if share := os.environ.get("SHARE"):
        kept = {item.nodeid for item in share_of(items, share, key=lambda item: item.nodeid)}
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
        items[:] = [item for item in items if item.nodeid in kept]


def pytest_collection_finish() -> None:
    """Spare what was imported from being looked through again and again: it stays."""
    gc.collect()
    gc.freeze()
    gc.enable()
