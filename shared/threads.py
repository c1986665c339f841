"""Threads for what blocks: one pool for each thing that can hang or compute, so that none holds up the others.

The event loop's own pool is left to the loop (it resolves host names there): a service that does not answer would
otherwise stop every other call of the worker, name resolution first.
"""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ThreadPool:
    """Runs blocking calls beside the event loop.

    Args:
        name: of the threads, as a stack trace shows it.
        size: how many calls run at once; further ones wait.
    """

    def __init__(self, name: str, size: int) -> None:
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def run[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call in a thread of the pool, in the caller's context, and give what it gives."""
        within = contextvars.copy_context()
        bound = partial(within.run, call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, bound)

    def close(self) -> None:
        """Take no further calls; what waits is dropped, what runs is left to end by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)
