"""Whatever is asked for of one group, in whatever order its steps fall and wherever they break: at rest all is well.

``PROVE=1`` (``make prove``) tries every scene with every pair, also with acts on a device of the group.
"""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.world.groups_acts import ACTS, ON_DEVICES, SCENES, WITH_DEVICES, enabled
from tests.world.groups_prover import GroupProof

DEEPER = os.environ.get("PROVE") == "1"
BROKEN_OFF = tuple(SCENES) if DEEPER else ("absent", "enabled")
PAIRED = tuple(SCENES) if DEEPER else ("enabled",)
OFTEN = ACTS if DEEPER else ("put", "disable the group", "enable the group", "delete the group", "roll", "roll again")
DEVICES = tuple(WITH_DEVICES) if DEEPER else ("with a device",)
ON_GROUP = ("disable the group", "delete the group", "roll", "retire") if DEEPER else ("disable the group", "roll")
IN_TURN = (
    [(scene, first, second) for scene in SCENES for first in ACTS for second in ACTS]
    if DEEPER
    else [("enabled", "disable the group", "enable the group")]
)


@pytest.mark.parametrize("scene", BROKEN_OFF)
async def test_an_act_that_breaks_off_at_any_step_is_finished_or_has_not_begun(scene: str) -> None:
    """Killed before each step, and after each with its answer lost, then delivered again."""
    proof, world = GroupProof(), await SCENES[scene]()
    for act in ACTS:
        await proof.break_off(world, act)
    proof.check()


@pytest.mark.parametrize("first", OFTEN)
@pytest.mark.parametrize("scene", PAIRED)
async def test_two_acts_at_once_end_as_if_one_had_come_after_the_other(scene: str, first: str) -> None:
    """One pauses before each of its steps while the other one, or its own second delivery, runs to its end."""
    proof, world = GroupProof(), await SCENES[scene]()
    for second in OFTEN:
        await proof.interleave(world, first, second)
    proof.check()


@pytest.mark.parametrize("first", ACTS if DEEPER else ("put", "enable the group"))
@pytest.mark.parametrize("scene", PAIRED)
async def test_a_worker_that_is_killed_after_another_act_lets_nobody_in(scene: str, first: str) -> None:
    """It takes one more step after the other act has ended, such as to make the entry of a group that was deleted."""
    proof, world = GroupProof(), await SCENES[scene]()
    for second in OFTEN:
        await proof.interleave_and_kill(world, first, second)
    proof.check()


@pytest.mark.parametrize("scene", DEVICES)
async def test_an_act_on_a_device_meets_one_on_its_group(scene: str) -> None:
    """Either pauses before each of its steps while the other one runs to its end."""
    proof, world = GroupProof(), await WITH_DEVICES[scene]()
    for on_group in ON_GROUP:
        for on_device in ON_DEVICES:
            await proof.interleave(world, on_group, on_device)
            await proof.interleave(world, on_device, on_group)
    proof.check()


@pytest.mark.parametrize(("scene", "first", "second"), IN_TURN)
async def test_two_acts_that_pause_in_turn_end_as_if_one_had_come_after_the_other(
    scene: str, first: str, second: str
) -> None:
    """Both pause before each of their steps."""
    proof, world = GroupProof(), await SCENES[scene]()
    await proof.interleave_twice(world, first, second)
    proof.check()


@pytest.mark.skipif(not DEEPER, reason="make prove")
@pytest.mark.parametrize("seed", range(10))
async def test_several_acts_at_once_end_as_if_one_had_come_after_the_other(seed: int) -> None:
    """Three or four acts take their steps in any order."""
    proof, random = GroupProof(), Random(seed)  # noqa: S311 - orders of steps, the same each time
    for scene in SCENES.values():
        world = await scene()
        for _ in range(20):
            acts = tuple(random.sample(ACTS, k=random.choice((3, 4))))
            await proof.at_random(world, acts, random)
    proof.check()


async def test_the_auditor_sees_what_a_dps_without_etags_loses() -> None:
    """A DPS that takes no notice of ETags lets a request that is late undo what came after it."""
    proof, world = GroupProof(), await enabled()
    world.provisioning.careless = True
    await proof.interleave(world, "disable the group", "enable the group")
    await proof.interleave(world, "roll", "delete the group")
    assert proof.faults
