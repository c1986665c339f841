"""Runs acts on groups in every order of their steps, and breaks them at every step; then an auditor looks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from tests.world.groups_acts import CALLS, message
from tests.world.groups_auditor import audit_groups
from tests.world.groups_world import GroupWorld
from tests.world.prover import Proof

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from shared.contracts.messages import Queue


class GroupProof(Proof[GroupWorld]):
    """What was tried in worlds of groups. What begins later was asked for later."""

    of: ClassVar[str] = "of groups "

    async def _found(self, world: GroupWorld) -> list[str]:
        return [*await audit_groups(world), *(repr(bug) for bug in world.bugs)]

    def _call(self, world: GroupWorld, name: str) -> Coroutine[None, None, None] | None:
        return CALLS[name](world) if name in CALLS else None

    def _message(self, world: GroupWorld, name: str) -> tuple[Queue, Mapping[str, Any]] | None:
        return message(world, name)

    def _ask(self, world: GroupWorld, name: str, queue: Queue, body: Mapping[str, Any]) -> None:
        world.now += timedelta(seconds=2)
        world.ask(name, queue, body)
