"""Runs acts on CAs in every order of their steps, and breaks them at every step; then an auditor looks."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from shared.domain.authorities import AuthorityAction
from tests.world.authority_acts import ACTS, CALLS
from tests.world.authority_auditor import audit, waits
from tests.world.authority_world import LINE, AuthorityWorld
from tests.world.prover import GONE, Prover


class AuthorityProof(Prover[AuthorityWorld]):
    """What was tried in worlds of CAs."""

    of: ClassVar[str] = "of CAs "
    traced: ClassVar[bool] = True

    async def _found(self, world: AuthorityWorld) -> list[str]:
        """Give what is wrong; what waits for a CA to be enabled is to end when it is."""
        found = await audit(world)
        if any(not each.done and waits(each, world.known()) for each in world.messages.values()):
            await world.act(LINE.name, AuthorityAction.ENABLE)
            await world.drain()
            found += await audit(world)
        return found

    def _killed(self, world: AuthorityWorld) -> AuthorityWorld:
        left = super()._killed(world)
        for message in world.messages.values():
            left.post(message.name, partial(ACTS[message.name], left))
        return left

    def begin(self, world: AuthorityWorld, actor: str, name: str, *, host: int = 0) -> None:
        """Have an actor stand before the first step of an act, which a worker of its own does."""
        del host
        if name in CALLS:
            world.conductor.start(actor, CALLS[name](world))
        else:
            message = world.post(name, lambda: ACTS[name](world))
            world.conductor.start(actor, world.attempt(message))

    def _begin_again(self, world: AuthorityWorld, name: str) -> bool:
        if name in CALLS:
            return False
        world.conductor.start("b", world.attempt(world.messages[name]))
        return True

    async def interleave_later(self, scene: AuthorityWorld, first: str, second: str) -> None:
        """As :meth:`interleave`, and the first one is taken for gone: a quarter of an hour goes by, with the sweeps."""
        for step in range(await self.length(scene, first) + 1):
            world, what = scene.copy(), f"{first} gone for long after {step} steps for {second}"
            self.begin(world, "a", first)
            await world.conductor.advance("a", step)
            if second in CALLS:
                self.begin(world, "b", second)
                await world.conductor.advance("b")
                self._check_outcome(world, "b", what)
            elif second != first:
                world.post(second, lambda: ACTS[second](world))  # noqa: B023 - delivered before the next round
            await world.drain(GONE)
            await world.conductor.advance("a")
            self._check_outcome(world, "a", what)
            await self._close(world, "taken for gone", what)
