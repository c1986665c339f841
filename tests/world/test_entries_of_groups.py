"""An entry that follows its group, beside other acts: each order of their steps ends as if one had come after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.contracts.messages import Queue
from tests.world import acts
from tests.world.prover import Proof

if TYPE_CHECKING:
    from tests.world.world import World


@pytest.mark.parametrize("first", [acts.FORMER, "disable the entry", acts.WITH_ID, "hold", acts.ALONG])
async def test_a_group_that_changes_while_an_entry_is_made_is_followed(first: str) -> None:
    """It changes before each step of the act in turn."""
    proof = Proof()
    await proof.interleave(await (behind() if first == acts.ALONG else acts.renewed()), first, acts.CHANGE_GROUP)
    proof.check()


async def behind() -> World:
    """A device has an entry of its own, and its group has other settings by now."""
    world = await acts.renewed()
    queue, body = acts.message(world, acts.FORMER) or (Queue.REVOCATION_REQUESTS, {})
    world.ask("former", queue, body)
    await world.deliver("former")
    world.asked.clear()
    await acts.ALL_CALLS[acts.CHANGE_GROUP](world)
    return world


@pytest.mark.parametrize(
    "other",
    [
        "revoke",
        "hold",
        "delete",
        "renew again",
        "disable",
        "put the entry",
        acts.PUT_OTHERWISE,
        "disable the entry",
        "delete the entry",
        acts.ALONG,
        "sweep",
    ],
)
async def test_an_entry_that_is_brought_along_beside_another_act_ends_as_if_one_had_come_after_the_other(
    other: str,
) -> None:
    proof, world = Proof(), await behind()
    await proof.interleave(world, acts.ALONG, other)
    await proof.interleave(world, other, acts.ALONG)
    proof.check()


async def test_an_entry_that_is_being_brought_along_is_brought_along_though_its_worker_is_killed() -> None:
    proof = Proof()
    await proof.break_off(await behind(), acts.ALONG)
    proof.check()
