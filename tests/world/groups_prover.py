"""Runs acts on groups in every order of their steps, and breaks them at every step; then an auditor looks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.world.groups_acts import CALLS, message
from tests.world.groups_auditor import audit_groups
from tests.world.groups_world import GroupWorld
from tests.world.prover import RUNS, Proof

if TYPE_CHECKING:
    from tests.world.world import World


class GroupProof(Proof):
    """What was tried, and what was found."""

    async def _close(self, world: World, kind: str, what: str) -> None:
        assert isinstance(world, GroupWorld)
        await world.drain()
        self.runs += 1
        RUNS[f"of groups {kind}"] += 1
        self.faults += [f"{what}: {fault}" for fault in await audit_groups(world)]
        self.faults += [f"{what}: {bug!r}" for bug in world.bugs]

    def begin(self, world: World, actor: str, name: str, *, host: int = 0) -> None:
        """Have an actor stand before the first step of an act; what begins later was asked for later."""
        assert isinstance(world, GroupWorld)
        if name in CALLS:
            world.conductor.start(actor, CALLS[name](world))
            return
        asked = message(world, name)
        if asked is None:
            return
        if name not in world.asked:
            world.now += timedelta(seconds=2)
            world.ask(name, *asked)
        taken = world.take(name)
        if taken is not None:
            world.conductor.start(actor, world.hosts[host].deliver(*taken))
