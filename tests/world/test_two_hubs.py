"""A device that is shut out is shut out of the hubs that it is not in as well, wherever that breaks off.

``PROVE=1`` (``make prove``) tries each pair of acts in both scenes, and two preemptions for those that revoke.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.world.acts import MESSAGES, TWO_HUBS, copied
from tests.world.prover import Proof
from tests.world.services import HUB, OTHER, DpsResource
from tests.world.world import DEVICE

if TYPE_CHECKING:
    from tests.world.world import World

DEEPER = os.environ.get("PROVE") == "1"
SHUT, DELETE = ("revoke", "hold"), "delete"
USUAL = {
    "copied": [("revoke", "delete"), ("delete", "order again"), ("hold", "revoke"), ("reinstate", "revoke")],
    "moving": [("revoke", "boot"), ("boot", "revoke"), ("delete", "boot"), ("boot", "delete")],
}
EVERY = (*SHUT, DELETE, "boot", "order again", "enable", "disable")
PAIRS = {scene: [(a, b) for a in EVERY for b in EVERY] if DEEPER else USUAL[scene] for scene in TWO_HUBS}


def let_in(world: World) -> set[tuple[str, str]]:
    return {place for place, each in world.hubs.identities.items() if each.enabled}


@pytest.mark.parametrize("act", [*SHUT, DELETE])
@pytest.mark.parametrize("scene", TWO_HUBS)
async def test_an_act_that_breaks_off_at_any_step_ends_with_both_hubs_shut(scene: str, act: str) -> None:
    """Killed before each step, and after each with its answer lost, then delivered again."""
    proof, world = Proof(), await TWO_HUBS[scene]()
    await proof.break_off(world, act)
    proof.check()


@pytest.mark.parametrize(("scene", "first", "second"), [(scene, *pair) for scene in TWO_HUBS for pair in PAIRS[scene]])
async def test_two_acts_at_once_end_with_every_hub_as_the_last_wants_it(scene: str, first: str, second: str) -> None:
    """DPS may assign the other hub to it between any two reads."""
    proof, world = Proof(), await TWO_HUBS[scene]()
    await proof.interleave(world, first, second)
    proof.check()


@pytest.mark.parametrize("first", [*SHUT, DELETE] if DEEPER else [DELETE])
async def test_an_act_and_a_boot_that_pause_in_turn_end_with_both_hubs_shut(first: str) -> None:
    proof, world = Proof(), await TWO_HUBS["moving"]()
    await proof.interleave_twice(world, first, "boot")
    proof.check()


async def test_a_hub_that_is_down_holds_up_no_other_door() -> None:
    """The revocation is told when the hub answers, and the work goes on by itself."""
    world = await copied()
    world.conductor.down.add(OTHER)
    world.ask("revoke", *MESSAGES["revoke"])
    await world.deliver("revoke")
    assert let_in(world) == {(OTHER, DEVICE)}
    assert not any(each["type"].endswith("DeviceRevoked") for each in world.events())
    world.conductor.down.clear()
    await world.drain()
    assert let_in(world) == set()
    assert any(each["type"].endswith("DeviceRevoked") for each in world.events())


async def test_the_auditor_sees_a_hub_that_nobody_has_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def own_alone(_resource: DpsResource) -> tuple[str, ...]:
        return (HUB,)

    monkeypatch.setattr(DpsResource, "linked_hubs", own_alone)
    proof, world = Proof(), await copied()
    await proof.break_off(world, "revoke")
    assert any("'press' in hub-2 lets in a device that is revoked" in fault for fault in proof.faults)
    assert any("hub-2 is not told as closed" in fault for fault in proof.faults)
