"""One at a time: what a worker does for one CA, or in one pass, while others of its callers want the same."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """A lock for each name, kept only while somebody has it or waits for it: strangers may name what they like."""

    def __init__(self) -> None:
        self._locks = WeakValueDictionary[str, asyncio.Lock]()

    def of(self, name: str) -> asyncio.Lock:
        """Give the lock of a name."""
        return self._locks.setdefault(name, asyncio.Lock())
