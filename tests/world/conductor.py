"""Lets actors take steps one by one, in an order that a test decides.

Each effect on a service is a step. An actor that is not conducted takes its steps at once.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import defaultdict, deque
from contextlib import asynccontextmanager, contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from azure.core.exceptions import ServiceRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from typing import Any

_ACTOR: contextvars.ContextVar[str | None] = contextvars.ContextVar("actor", default=None)
_TURNS = 3  # of the event loop, so that what one step has set off gets to its next one
_PATIENCE = 2000


class Go(Enum):
    """How a step ends."""

    ON = "on"
    LOSE_ANSWER = "lose the answer"


class LostAnswer(ConnectionError):
    """The effect took place, and its answer got lost."""


class Conductor:
    """Holds actors before each of their steps."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        """Names of services that do not answer."""
        self._waiting: dict[str, deque[asyncio.Future[Go]]] = defaultdict(deque)
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self.steps: dict[str, list[str]] = defaultdict(list)

    @asynccontextmanager
    async def step(self, label: str, service: str = "") -> AsyncIterator[None]:
        """Wait for permission, have the effect take place, and lose its answer if that is the plan.

        Args:
            label: names the step.
            service: whose effect it is; while it is down, there is none.

        Raises:
            ServiceRequestError: the service is down.
            LostAnswer: the effect took place.
        """
        actor = _ACTOR.get()
        if actor is None:
            self._check_up(service)
            yield
            return
        permission: asyncio.Future[Go] = asyncio.get_running_loop().create_future()
        self._waiting[actor].append(permission)
        go = await permission
        self.steps[actor].append(label)
        self._check_up(service)
        yield
        if go is Go.LOSE_ANSWER:
            raise LostAnswer(label)

    def _check_up(self, service: str) -> None:
        if service in self.down:
            raise ServiceRequestError(f"{service} can't be reached")

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Take the steps inside without waiting: they are parts of one."""
        before = _ACTOR.set(None)
        try:
            yield
        finally:
            _ACTOR.reset(before)

    def start(self, actor: str, work: Coroutine[Any, Any, Any]) -> None:
        """Have an actor begin; it stands before its first step."""
        context = contextvars.copy_context()
        context.run(_ACTOR.set, actor)
        self._tasks[actor] = asyncio.get_running_loop().create_task(work, context=context)

    async def advance(self, actor: str, count: int | None = None, *, go: Go = Go.ON) -> int:
        """Let an actor take steps, all of them if no number is given.

        Returns:
            How many it took; fewer than wanted if it is done.
        """
        taken = 0
        while count is None or taken < count:
            if not await self._stands(actor):
                break
            self._waiting[actor].popleft().set_result(go)
            taken += 1
        await self._stands(actor)
        return taken

    async def _stands(self, actor: str) -> bool:
        """Wait until an actor stands before a step, or is done."""
        for turn in range(_PATIENCE):
            if turn >= _TURNS and self._waiting[actor]:
                return True
            if actor not in self._tasks or self._tasks[actor].done():
                return False
            await asyncio.sleep(0)
        raise AssertionError(f"{actor} waits for something that is not a step: {self._tasks[actor].get_stack()}")

    async def kill(self, actor: str) -> None:
        """End an actor where it stands."""
        task = self._tasks.get(actor)
        if task is None:
            return
        self._waiting[actor].clear()
        task.cancel()
        await asyncio.wait([task])

    def outcome(self, actor: str) -> BaseException | None:
        """Give what an actor that is done was ended by, if anything."""
        task = self._tasks.get(actor)
        return None if task is None or task.cancelled() else task.exception()
