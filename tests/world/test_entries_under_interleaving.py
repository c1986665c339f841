"""What operators want of a device's individual enrollment comes about, whatever else is asked for and wherever it breaks.

``PROVE=1`` (``make prove``) kills a worker after another act in every scene.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.world import acts
from tests.world.acts import PUT_OTHERWISE, ordered, registered
from tests.world.prover import Proof
from tests.world.world import DEVICE

if TYPE_CHECKING:
    from tests.world.world import World

ENTRY = ("put the entry", PUT_OTHERWISE, "disable the entry", "delete the entry")
OTHERS = (*ENTRY, "revoke", "hold", "delete", "renew", "sweep")


async def entered() -> World:
    """The device has an individual enrollment of its own."""
    world = await registered()
    await acts.CALLS["put the entry"](world)
    return world


async def shut() -> World:
    """It has one that is disabled."""
    world = await entered()
    await acts.CALLS["disable the entry"](world)
    return world


DEEPER = os.environ.get("PROVE") == "1"
SCENES = {"registered": registered, "entered": entered, "disabled": shut, "held": acts.held}


@pytest.mark.parametrize("scene", SCENES)
async def test_an_act_on_an_entry_that_breaks_off_is_finished_or_has_not_begun(scene: str) -> None:
    """Nobody repeats it: the timer goes on with it."""
    proof, world = Proof(), await SCENES[scene]()
    for act in ENTRY:
        await proof.break_off(world, act)
    proof.check()


@pytest.mark.parametrize("first", ENTRY)
@pytest.mark.parametrize("scene", ["registered", "entered"])
async def test_an_act_on_an_entry_beside_another_ends_as_if_one_had_come_after_the_other(
    scene: str, first: str
) -> None:
    proof, world = Proof(), await SCENES[scene]()
    for second in OTHERS:
        await proof.interleave(world, first, second)
    proof.check()


@pytest.mark.parametrize("first", ENTRY)
@pytest.mark.parametrize("scene", SCENES if DEEPER else ["registered"])
async def test_a_worker_that_is_killed_after_another_act_leaves_what_is_finished(scene: str, first: str) -> None:
    """What it makes after the entry was deleted is a finding, and none of these."""
    proof, world = Proof(), await SCENES[scene]()
    for second in OTHERS:
        if second != "delete the entry":
            await proof.interleave_and_kill(world, first, second)
    assert proof.faults == []


@pytest.mark.parametrize("second", ENTRY)
async def test_another_act_beside_one_on_an_entry_ends_as_if_one_had_come_after_the_other(second: str) -> None:
    proof = Proof()
    for scene, firsts in ((registered, ("hold", "revoke", "renew")), (acts.held, ("reinstate",)), (entered, ("hold",))):
        world = await scene()
        for first in firsts:
            await proof.interleave(world, first, second)
    proof.check()


@pytest.mark.parametrize("act", ENTRY)
async def test_an_act_on_the_entry_of_a_device_that_is_being_ordered_comes_before_or_after_the_order(act: str) -> None:
    """Whoever asks for it sees no device at first: what is wanted of its entry is in its record all the same."""
    proof, world = Proof(), await ordered()
    for order in ("order", "order again"):
        await proof.interleave(world, act, order)
        await proof.interleave(world, order, act)
        await proof.interleave_twice(world, act, order)
    proof.check()


@pytest.mark.parametrize("killed", [True, False])
async def test_an_act_that_is_late_does_not_open_an_entry_that_somebody_has_disabled_in_the_portal(
    *, killed: bool
) -> None:
    """It was decided on another entry: its caller is told to try again, and the timer opens nothing either."""
    scene, told = await shut(), list[str]()
    steps = await Proof().length(scene, "put the entry")
    for step in range(1, steps):
        world = scene.copy()
        world.conductor.start("a", acts.ALL_CALLS["put the entry"](world))
        await world.conductor.advance("a", step)
        if killed:
            await world.conductor.kill("a")
        await acts.ALL_CALLS[acts.STRANGER](world)
        await world.conductor.advance("a")
        told += [str(outcome) for outcome in [world.conductor.outcome("a")] if outcome is not None]
        await world.drain()
        entry, record = world.provisioning.enrollments[DEVICE], world.record()
        assert record is not None
        assert entry["provisioningStatus"] == "disabled", f"at step {step + 1}"
        assert (record.entry_change, record.entry_asked_at, record.settled) == (None, None, True), f"at step {step + 1}"
        assert not world.unsettled, f"at step {step + 1}"
    busy = "the individual enrollment 'press' is being changed by someone else"
    assert set(told) == (set() if killed else {busy})
