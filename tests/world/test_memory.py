"""A world that begins again is as one that is new: whatever was done in it, nothing of it is left."""

from __future__ import annotations

import asyncio
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest

from tests.world import acts, groups_acts, restored_acts
from tests.world.groups_prover import GroupProof
from tests.world.memory import again, attributes, found_below, leave, wired
from tests.world.prover import Proof
from tests.world.restored_prover import RestoredProof

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.world.world import World

WORLDS: tuple[tuple[Any, Callable[[], Awaitable[World]], Sequence[str]], ...] = (
    (Proof, acts.registered, acts.ACTS),
    (Proof, acts.moving, ("boot", "renew", "delete")),
    (GroupProof, groups_acts.with_device, (*groups_acts.ACTS, "renew", "revoke")),
    (RestoredProof, restored_acts.SCENES["revoked"], (*restored_acts.OTHERS, "roll", "order")),
)
_OF_CHANCE = frozenset({"_worker", "worker", "holder"})
"""Names that workers draw for themselves."""


@pytest.mark.parametrize(("kind", "scene", "names"), WORLDS, ids=["devices", "two hubs", "groups", "put back"])
async def test_a_world_that_begins_again_is_as_a_new_one(kind: Any, scene: Any, names: Sequence[str]) -> None:
    before, proof = await scene(), kind()
    expected = told(before.copy(wired(before)))
    for name in names:
        world = again(before)
        proof.begin(world, "a", name)
        await world.conductor.advance("a")
        await world.drain()
        assert told(world) != expected, f"{name} does nothing that is seen here"
        leave(world)
        assert again(before) is world
        assert told(world) == expected, f"{name} leaves something behind"
        leave(world)


async def test_a_world_in_which_somebody_is_at_work_is_nobody_elses() -> None:
    before = await acts.registered()
    world, gate = again(before), asyncio.Event()
    working = asyncio.create_task(gate.wait())
    leave(world)
    assert again(before) is not world
    gate.set()
    await working


def told(world: World) -> dict[str, Any]:
    """Describe a world and its workers, but for what they have drawn, and for what is kept of rows that were read."""
    return {way: _plain(each) for way, each in found_below(world) if "as_read" not in way}


def _plain(each: Any) -> Any:
    if isinstance(each, dict):
        return type(each).__name__, {str(key): _name(value) for key, value in dict.items(each)}
    if isinstance(each, list | tuple):
        return type(each).__name__, [_name(value) for value in each]
    if isinstance(each, set | frozenset):
        return type(each).__name__, sorted(map(_name, each))
    return type(each).__name__, {
        name: _name(value) for name, value in attributes(each).items() if name not in _OF_CHANCE
    }


def _name(value: Any) -> str:
    is_plain = isinstance(value, str | bytes | int | float | datetime | Enum | None)
    return repr(value) if is_plain else type(value).__name__
