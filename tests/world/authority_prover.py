"""Runs acts on CAs in every order of their steps, and breaks them at every step; then an auditor looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.errors import Deferred, Rejected
from tests.world.authority_acts import ACTS, CALLS
from tests.world.authority_auditor import audit
from tests.world.conductor import Go
from tests.world.prover import RUNS

if TYPE_CHECKING:
    from tests.world.authority_world import AuthorityWorld

_GONE = timedelta(minutes=15)
_EXPECTED = (Deferred, Rejected, ConnectionError, ExceptionGroup)


@dataclass
class AuthorityProof:
    """What was tried, and what was found."""

    runs: int = 0
    faults: list[str] = field(default_factory=list)

    async def _close(self, world: AuthorityWorld, kind: str, what: str) -> None:
        await world.drain()
        self.runs += 1
        RUNS[kind] += 1
        self.faults += [f"{what}: {fault}" for fault in await audit(world)]

    def _begin(self, world: AuthorityWorld, actor: str, name: str) -> None:
        if name in CALLS:
            world.conductor.start(actor, CALLS[name](world))
        else:
            message = world.post(name, lambda: ACTS[name](world))
            world.conductor.start(actor, world.attempt(message))

    def _check_outcome(self, world: AuthorityWorld, actor: str, what: str) -> None:
        ended_by = world.conductor.outcome(actor)
        if ended_by is not None and not isinstance(ended_by, _EXPECTED):
            self.faults.append(f"{what}: {actor} ended by {ended_by!r}")

    async def length(self, scene: AuthorityWorld, name: str) -> int:
        """Give how many steps an act takes by itself."""
        world = scene.copy()
        self._begin(world, "a", name)
        steps = await world.conductor.advance("a")
        self._check_outcome(world, "a", name)
        return steps

    async def break_off(self, scene: AuthorityWorld, name: str) -> None:
        """Stop an act before each step, and after each with its answer lost; then deliver it again."""
        for step in range(await self.length(scene, name)):
            world, what = scene.copy(), f"{name} killed before step {step + 1}"
            self._begin(world, "a", name)
            await world.conductor.advance("a", step)
            await world.conductor.kill("a")
            await self._close(world, "broken off", what)
            world, what = scene.copy(), f"{name} without the answer to step {step + 1}"
            self._begin(world, "a", name)
            await world.conductor.advance("a", step)
            await world.conductor.advance("a", 1, go=Go.LOSE_ANSWER)
            await world.conductor.advance("a")
            self._check_outcome(world, "a", what)
            await self._close(world, "answers lost", what)

    async def interleave(self, scene: AuthorityWorld, first: str, second: str) -> None:
        """Pause one act before each of its steps while the other, or its second delivery, runs to its end."""
        for step in range(await self.length(scene, first) + 1):
            world, what = scene.copy(), f"{first} paused after {step} steps for {second}"
            plan = (("a", step), ("b", None), ("a", None))
            await self._run(world, "interleaved", what, (first, second), plan)

    async def interleave_later(self, scene: AuthorityWorld, first: str, second: str) -> None:
        """As :meth:`interleave`, and the first one is taken for gone: a quarter of an hour goes by, with the sweeps."""
        for step in range(await self.length(scene, first) + 1):
            world, what = scene.copy(), f"{first} gone for long after {step} steps for {second}"
            self._begin(world, "a", first)
            await world.conductor.advance("a", step)
            if second in CALLS:
                self._begin(world, "b", second)
                await world.conductor.advance("b")
                self._check_outcome(world, "b", what)
            elif second != first:
                world.post(second, lambda: ACTS[second](world))  # noqa: B023 - delivered before the next round
            await world.drain(_GONE)
            await world.conductor.advance("a")
            self._check_outcome(world, "a", what)
            await self._close(world, "taken for gone", what)

    async def interleave_twice(self, scene: AuthorityWorld, first: str, second: str) -> None:
        """Pause the one before each of its steps, and the other before each of its own."""
        lengths = await self.length(scene, first), await self.length(scene, second)
        for step in range(1, lengths[0] + 1):
            for other in range(1, lengths[1] + 1):
                world, what = scene.copy(), f"{first} paused after {step} steps for {other} of {second}"
                plan = (("a", step), ("b", other), ("a", None), ("b", None))
                await self._run(world, "interleaved twice", what, (first, second), plan)

    async def _run(
        self,
        world: AuthorityWorld,
        kind: str,
        what: str,
        acts: tuple[str, str],
        plan: tuple[tuple[str, int | None], ...],
    ) -> None:
        first, second = acts
        self._begin(world, "a", first)
        if first == second and first not in CALLS:
            world.conductor.start("b", world.attempt(world.messages[first]))  # delivered twice
        else:
            self._begin(world, "b", second)
        for actor, count in plan:
            await world.conductor.advance(actor, count)
        for actor in ("a", "b"):
            self._check_outcome(world, actor, what)
        await self._close(world, kind, what)
