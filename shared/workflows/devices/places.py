"""Who goes first in a worker: what shuts devices out goes before what lets them in."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 5.0


class Places:
    """Places for the lines of orders in a worker. None is taken while a device is being shut out.

    All of a worker's work shares one event loop. Dozens of lines, each with a dozen steps, would come between any two
    steps of a revocation.

    Args:
        at_once: how many lines are worked on at the same time.
        patience: seconds that a line waits at most, so that orders go on while many devices are revoked.
    """

    def __init__(self, *, at_once: int, patience: float = _PATIENCE) -> None:
        self._places, self.patience = asyncio.Semaphore(at_once), patience
        self._shutting_out, self._free = 0, asyncio.Event()

    @contextmanager
    def shutting_out(self) -> Iterator[None]:
        """Shut a device out: meanwhile no further line begins."""
        self._shutting_out += 1
        self._free.clear()
        try:
            yield
        finally:
            self._shutting_out -= 1
            if not self._shutting_out:
                self._free.set()

    async def __aenter__(self) -> None:
        await self._places.acquire()
        try:
            if self._shutting_out and self.patience:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.patience):
                        await self._free.wait()
        except BaseException:
            self._places.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._places.release()
