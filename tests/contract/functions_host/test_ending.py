"""How a host ends."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import Any

import pytest

from devstack.functions_host import __main__ as program


class Broken:
    """A host that can't go on, and is told to end while it is being stopped."""

    rounds: int

    def __init__(self, *_: Any) -> None:
        pass

    async def start(self) -> dict[str, Any]:
        return {}

    async def ended(self) -> None:
        pass

    async def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(self.rounds):
            await asyncio.sleep(0)


@pytest.mark.parametrize("rounds", [0, 1, 2, 10])
def test_a_host_that_is_told_to_end_while_it_starts_anew_ends(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the signal was lost, and whoever waits for its end waits for ever: however often its loop turns yet."""
    monkeypatch.setattr(Broken, "rounds", rounds, raising=False)
    monkeypatch.setattr(program, "_Host", Broken)
    nothing: Any = None
    try:
        assert asyncio.run(program.serve(nothing, nothing)) is False
    finally:
        gc.unfreeze()  # what a host does about garbage is for a process of its own
