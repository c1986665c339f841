"""Runs acts in every order of their steps, and breaks them at every step; then an auditor looks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.errors import Deferred, Rejected
from tests.world.acts import ALL_CALLS, message
from tests.world.auditor import audit
from tests.world.conductor import Go

if TYPE_CHECKING:
    from random import Random

    from tests.world.world import World

_EXPECTED = (Deferred, Rejected, ConnectionError, ExceptionGroup)

RUNS: Counter[str] = Counter()
"""What was tried in this session, by its kind; the end of the session tells it."""


@dataclass
class Proof:
    """What was tried, and what was found."""

    runs: int = 0
    faults: list[str] = field(default_factory=list)

    async def _close(self, world: World, kind: str, what: str) -> None:
        await world.drain()
        self.runs += 1
        RUNS[kind] += 1
        self.faults += [f"{what}: {fault}" for fault in await audit(world)]
        self.faults += [f"{what}: {bug!r}" for bug in world.bugs]

    def begin(self, world: World, actor: str, name: str, *, host: int = 0) -> None:
        """Have an actor stand before the first step of an act."""
        if name in ALL_CALLS:
            world.conductor.start(actor, ALL_CALLS[name](world))
            return
        asked = message(world, name)
        if asked is None:
            return
        if name not in world.asked:
            world.ask(name, *asked)
        taken = world.take(name)
        if taken is not None:
            world.conductor.start(actor, world.hosts[host].deliver(*taken))

    def _check_outcome(self, world: World, actor: str, what: str) -> None:
        ended_by = world.conductor.outcome(actor)
        if ended_by is not None and not isinstance(ended_by, _EXPECTED):
            self.faults.append(f"{what}: {actor} ended by {ended_by!r}")

    async def length(self, scene: World, name: str) -> int:
        """Give how many steps an act takes by itself."""
        world = scene.copy()
        self.begin(world, "a", name)
        steps = await world.conductor.advance("a")
        self._check_outcome(world, "a", name)
        return steps

    async def break_off(self, scene: World, name: str) -> None:
        """Stop an act before each step, and after each with its answer lost; then deliver it again."""
        steps = await self.length(scene, name)
        for step in range(steps):
            world, what = scene.copy(), f"{name} killed before step {step + 1}"
            self.begin(world, "a", name)
            await world.conductor.advance("a", step)
            await world.conductor.kill("a")
            await self._close(world, "broken off", what)
            world, what = scene.copy(), f"{name} without the answer to step {step + 1}"
            self.begin(world, "a", name)
            await world.conductor.advance("a", step)
            await world.conductor.advance("a", 1, go=Go.LOSE_ANSWER)
            await world.conductor.advance("a")
            self._check_outcome(world, "a", what)
            await self._close(world, "answers lost", what)

    async def interleave(self, scene: World, first: str, second: str) -> None:
        """Pause one act before each of its steps while the other runs to its end."""
        for step in range(await self.length(scene, first) + 1):
            world, what = scene.copy(), f"{first} paused after {step} steps for {second}"
            await self._run(world, what, (first, second), (("a", step), ("b", None), ("a", None)))
            await self._close(world, "interleaved", what)

    async def interleave_twice(self, scene: World, first: str, second: str) -> None:
        """Pause the one before each of its steps, and the other before each of its own."""
        lengths = await self.length(scene, first), await self.length(scene, second)
        for step in range(1, lengths[0] + 1):
            for other in range(1, lengths[1] + 1):
                world, what = scene.copy(), f"{first} paused after {step} steps for {other} of {second}"
                plan = (("a", step), ("b", other), ("a", None), ("b", None))
                await self._run(world, what, (first, second), plan)
                await self._close(world, "interleaved twice", what)

    async def at_random(self, scene: World, acts: tuple[str, ...], random: Random) -> None:
        """Let acts take their steps in any order, each by one of two workers."""
        world = scene.copy()
        actors = [f"{name} by {index % 2 + 1}" for index, name in enumerate(acts)]
        for index, (actor, name) in enumerate(zip(actors, acts, strict=True)):
            self.begin(world, actor, name, host=index % 2)
        moving, order = list(actors), list[str]()
        while moving:
            actor = random.choice(moving)
            order.append(actor)
            if not await world.conductor.advance(actor, 1):
                moving.remove(actor)
        what = f"{' with '.join(acts)} in the order {order}"
        for actor in actors:
            self._check_outcome(world, actor, what)
        await self._close(world, "at random", what)

    async def _run(
        self, world: World, what: str, acts: tuple[str, str], plan: tuple[tuple[str, int | None], ...]
    ) -> None:
        first, second = acts
        self.begin(world, "a", first)
        if first == second and first in world.asked:
            for lying in world.lying(world.asked[first]):  # delivered twice
                world.conductor.start("b", world.hosts[1].deliver(world.asked[first].queue, lying))
        else:
            self.begin(world, "b", second, host=1)
        for actor, count in plan:
            await world.conductor.advance(actor, count)
        for actor in ("a", "b"):
            self._check_outcome(world, actor, what)
