"""Who goes first in a worker: what shuts devices out goes before what lets them in.

All of a worker's work shares one event loop. Each step of a revocation would wait for a step of every line of an order
that is at work, and for each line that begins.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_LINES = 48
"""Lines that a worker works on at the same time, of all its messages.

A registration takes 2 seconds and more (azure-iot-device looks every 2 seconds), and DPS takes 17 a second.
"""

_BUSY = 12
"""Lines of these that have not come to DPS yet: enough to keep a worker busy, and few for others to wait for."""

_PATIENCE = 5.0
"""Seconds that a line waits for revocations, so that orders go on while many devices are revoked."""


@dataclass(slots=True, kw_only=True)
class _Line:
    """A line that is worked on, and whether it holds one of the places of the busy ones."""

    busy: bool = True


_line: ContextVar[_Line | None] = ContextVar("line", default=None)


class Places:
    """Places for the lines of orders in a worker. None is taken while a device is being shut out.

    Attributes:
        patience: seconds that a line waits for that at most; 0 for not at all.
    """

    def __init__(self) -> None:
        self.patience = _PATIENCE
        self._lines, self._busy = asyncio.Semaphore(_LINES), asyncio.Semaphore(_BUSY)
        self._shutting_out, self._free = 0, asyncio.Event()

    @contextmanager
    def shutting_out(self) -> Iterator[None]:
        """Shut a device out: meanwhile no line begins, and none goes on that has waited for DPS."""
        self._shutting_out += 1
        self._free.clear()
        try:
            yield
        finally:
            self._shutting_out -= 1
            if not self._shutting_out:
                self._free.set()

    @asynccontextmanager
    async def line(self) -> AsyncIterator[None]:
        """Work on a line, when there is a place."""
        async with self._lines:
            await self._busy.acquire()
            line = _Line()
            token = _line.set(line)
            try:
                await self._others_first()
                yield
            finally:
                _line.reset(token)
                self._leave(line)

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Wait for DPS, as part of the work on a line: from then on another line may be busy.

        The little that is left to do afterwards takes no place. Lines that wait for a vault which does not answer
        would hold all of them, and keep those from their end that DPS has registered.
        """
        if line := _line.get():
            self._leave(line)
        try:
            yield
        finally:
            await self._others_first()

    def _leave(self, line: _Line) -> None:
        if line.busy:
            line.busy = False
            self._busy.release()

    async def _others_first(self) -> None:
        if not self._shutting_out or not self.patience:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self.patience):
                await self._free.wait()
