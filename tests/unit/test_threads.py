"""What blocks runs beside the event loop, and holds up nothing but its own kind."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

from shared.threads import ThreadPool

TRACE: ContextVar[str] = ContextVar("trace", default="none")


async def test_a_full_pool_holds_up_no_other_pool_nor_the_loop() -> None:
    """While every thread of one pool waits, another pool works and so does the loop's own."""
    release = threading.Event()
    stuck, free = ThreadPool("stuck", 2), ThreadPool("free", 1)
    waiting = [asyncio.create_task(stuck.run(release.wait)) for _ in range(50)]
    try:
        assert await free.run(int, "7") == 7
        assert await asyncio.to_thread(int, "8") == 8
        assert not any(task.done() for task in waiting)
    finally:
        release.set()
        assert all(await asyncio.gather(*waiting))
        stuck.close()
        free.close()


async def test_a_call_runs_in_the_context_of_its_caller() -> None:
    """The trace of a message reaches the log lines of the thread that works for it."""
    pool = ThreadPool("traced", 1)
    TRACE.set("00-abc")
    assert await pool.run(TRACE.get) == "00-abc"
    pool.close()
