"""Lets actors take steps one by one, in an order that a test decides.

Each effect on a service is a step. An actor that is not conducted takes its steps at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections import defaultdict, deque
from contextlib import AbstractAsyncContextManager, contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from azure.core.exceptions import ServiceRequestError

from tests.world.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from typing import Any

_ACTOR: contextvars.ContextVar[str | None] = contextvars.ContextVar("actor", default=None)
WORKER: contextvars.ContextVar[int] = contextvars.ContextVar("worker", default=0)
"""The number of the worker that somebody calls who waits for an answer."""

_TURNS = 3  # of the event loop, so that what one step has set off gets to its next one
_PATIENCE = 2000


class RestlessError(Exception):
    """A world whose messages and sweeps go on changing things; its fault is found with the others."""


class Go(Enum):
    """How a step ends."""

    ON = "on"
    LOSE_ANSWER = "lose the answer"


class LostAnswer(ConnectionError):
    """The effect took place, and its answer got lost."""


class Step(AbstractAsyncContextManager[None]):
    """One effect on a service. Entered millions of times: a class costs a fraction of what a generator does."""

    __slots__ = ("_conductor", "_go", "_label", "_service")

    def __init__(self, conductor: Conductor, label: str, service: str) -> None:
        self._conductor, self._label, self._service = conductor, label, service
        self._go = Go.ON

    async def __aenter__(self) -> None:
        actor = _ACTOR.get()
        if actor is not None:
            self._go = await self._conductor.permission(actor)
            self._conductor.steps[actor].append(self._label)
            self._conductor.trace.step(actor)
        self._conductor.check_up(self._service)

    async def __aexit__(self, kind: type[BaseException] | None, *_of_it: object) -> None:
        if kind is None and self._go is Go.LOSE_ANSWER:
            raise LostAnswer(self._label)


class StepAtOnce(Step):
    """An effect before which nobody is held."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        self._conductor.check_up(self._service)


class Conductor:
    """Holds actors before each of their steps."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        """Names of services that do not answer."""
        self._waiting: dict[str, deque[asyncio.Future[Go]]] = defaultdict(deque)
        self._permitted: dict[str, float] = defaultdict(float)
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._killed = set[str]()
        self.steps: dict[str, list[str]] = defaultdict(list)
        self.trace = Trace()

    def step(self, label: str, service: str = "") -> AbstractAsyncContextManager[None]:
        """Wait for permission, have the effect take place, and lose its answer if that is the plan.

        Args:
            label: names the step.
            service: whose effect it is; while it is down, there is none.

        Raises:
            ServiceRequestError: the service is down.
            LostAnswer: the effect took place.
        """
        return Step(self, label, service)

    async def permission(self, actor: str) -> Go:
        """Wait until an actor may take a step; what else it does at the same time gets to its own first.

        Raises:
            CancelledError: it was killed, and what would clean up after it has no effect.
        """
        if actor in self._killed:
            raise asyncio.CancelledError
        if self._permitted[actor] > 0:
            self._permitted[actor] -= 1
            await asyncio.sleep(0)
            return Go.ON
        permission: asyncio.Future[Go] = asyncio.get_running_loop().create_future()
        self._waiting[actor].append(permission)
        return await permission

    def check_up(self, service: str) -> None:
        """Raise as a service does that is down."""
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

    def start(self, actor: str, work: Coroutine[Any, Any, Any], *, worker: int = 0) -> None:
        """Have an actor begin, which calls a worker; it stands before its first step."""
        context = contextvars.copy_context()
        context.run(WORKER.set, worker)
        context.run(_ACTOR.set, actor)
        context.run(self.trace.starts, actor)
        self._tasks[actor] = asyncio.get_running_loop().create_task(work, context=context)

    async def advance(self, actor: str, count: int | None = None, *, go: Go = Go.ON) -> int:
        """Let an actor take steps, all of them if no number is given.

        Returns:
            How many it took; fewer than wanted if it is done.
        """
        before, left = len(self.steps[actor]), math.inf if count is None else count
        if go is Go.ON:
            await self._let(actor, left)
        else:
            while left and await self.stands(actor):
                self._waiting[actor].popleft().set_result(go)
                left -= 1
            await self.stands(actor)
        return len(self.steps[actor]) - before

    async def _let(self, actor: str, count: float) -> None:
        """Permit so many steps beforehand, so that nobody has to wait for each of them."""
        waiting = self._waiting[actor]
        while count and waiting and not self._is_done(actor):
            waiting.popleft().set_result(Go.ON)
            count -= 1
        self._permitted[actor] = count
        await self.stands(actor)
        self._permitted[actor] = 0

    def _is_done(self, actor: str) -> bool:
        return actor not in self._tasks or self._tasks[actor].done()

    async def stands(self, actor: str) -> bool:
        """Wait until an actor stands before a step, or is done."""
        steps, waiting, turns, taken = self.steps[actor], self._waiting[actor], 0, 0
        while turns < _PATIENCE:
            if len(steps) != taken:
                turns, taken = 0, len(steps)
            elif turns >= _TURNS and waiting:
                return True
            if self._is_done(actor):
                return False
            await asyncio.sleep(0)
            turns += 1
        raise AssertionError(f"{actor} waits for something that is not a step: {self._tasks[actor].get_stack()}")

    async def kill(self, actor: str) -> None:
        """End an actor where it stands."""
        task = self._tasks.get(actor)
        if task is None:
            return
        self._killed.add(actor)
        self._waiting[actor].clear()
        task.cancel()
        await asyncio.wait([task])

    def outcome(self, actor: str) -> BaseException | None:
        """Give what an actor that is done was ended by, if anything."""
        task = self._tasks.get(actor)
        return None if task is None or task.cancelled() else task.exception()


class AtOnce(Conductor):
    """Holds nobody, and knows which services are down."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self.down = conductor.down
        self.trace = conductor.trace

    def step(self, label: str, service: str = "") -> AbstractAsyncContextManager[None]:
        return StepAtOnce(self, label, service)
