"""Whatever is asked for of one device, in whatever order its steps fall and wherever they break: at rest all is well.

``PROVE=1`` (``make prove``) tries every scene with every pair, and two preemptions for every pair of acts on the device.
"""

from __future__ import annotations

import os

import pytest

from tests.world.acts import ACTS, FORMER, MESSAGES, SCENES, held, registered
from tests.world.prover import Proof

DEEPER = os.environ.get("PROVE") == "1"
OFTEN = (*MESSAGES, "boot", "disable", "enable", "expire")
USUAL = {
    # What pauses, and what runs meanwhile. What else there is needs a device.
    "ordered": (("order", "order again", "revoke", "hold", "delete"),) * 2,
    "registered": (OFTEN, OFTEN),
    "renewing": (("renew", "renew again", "revoke", "delete", "boot", "expire"), OFTEN),
    "held": (("revoke", "reinstate", "delete", "enable", "boot"), OFTEN),
    "renewed": ((FORMER, "renew again", "revoke", "reinstate"),) * 2,
    "refused": (("replay", "hold", "revoke"),) * 2,
}
PAIRED = dict.fromkeys(SCENES, (ACTS, ACTS)) if DEEPER else USUAL
IN_TURN = (
    [(scene, first, second) for scene in SCENES for first in OFTEN for second in OFTEN]
    if DEEPER
    else [("registered", "hold", "boot"), ("held", "reinstate", "revoke"), ("renewing", "delete", "boot")]
)


@pytest.mark.parametrize("scene", SCENES)
async def test_an_act_that_breaks_off_at_any_step_is_finished_or_has_not_begun(scene: str) -> None:
    """Killed before each step, and after each with its answer lost, then delivered again."""
    proof, world = Proof(), await SCENES[scene]()
    for act in ACTS:
        await proof.break_off(world, act)
    proof.check()


@pytest.mark.parametrize(("scene", "first"), [(scene, first) for scene, (acts, _) in PAIRED.items() for first in acts])
async def test_two_acts_at_once_end_as_if_one_had_come_after_the_other(scene: str, first: str) -> None:
    """One pauses before each of its steps while the other one, or its own second delivery, runs to its end."""
    proof, world = Proof(), await SCENES[scene]()
    for second in PAIRED[scene][1]:
        await proof.interleave(world, first, second)
    proof.check()


@pytest.mark.parametrize("scene", ["registered", "renewing"])
async def test_a_certificate_is_replaced_once_whatever_else_is_asked_for(scene: str) -> None:
    """By two requests of the app itself, beside renewals and revocations by others, and killed at any step."""
    proof, world = Proof(), await SCENES[scene]()
    await proof.break_off(world, "replace")
    for second in ("replace", "replace again", "renew again", "boot", "expire", "revoke", "hold"):
        await proof.interleave(world, "replace", second)
    await proof.interleave(world, "renew again", "replace")
    proof.check()


@pytest.mark.parametrize(
    ("scene", "first"),
    [(scene, first) for scene, (firsts, _) in USUAL.items() for first in firsts]
    if DEEPER
    else [("registered", "disable"), ("registered", "enable")],
)
async def test_a_worker_that_is_killed_after_another_act_leaves_no_door_open(scene: str, first: str) -> None:
    """It takes one more step after the other act has ended, such as to write what nobody has a note of any more."""
    proof, world = Proof(), await SCENES[scene]()
    for second in USUAL[scene][1]:
        await proof.interleave_and_kill(world, first, second)
    assert proof.faults == []


@pytest.mark.parametrize(("scene", "first", "second"), IN_TURN)
async def test_two_acts_that_pause_in_turn_end_as_if_one_had_come_after_the_other(
    scene: str, first: str, second: str
) -> None:
    """Both pause before each of their steps."""
    proof, world = Proof(), await SCENES[scene]()
    await proof.interleave_twice(world, first, second)
    proof.check()


async def test_the_auditor_sees_a_door_that_is_opened_whatever_its_version() -> None:
    """A DPS that takes no notice of ETags lets a reinstatement that is late open what a revocation has shut."""
    proof, world = Proof(), await held()
    world.provisioning.careless = True
    await proof.interleave(world, "reinstate", "revoke")
    assert any("DPS was opened after it had been told" in fault for fault in proof.faults)


async def test_the_auditor_sees_what_is_lost_by_a_row_that_the_last_writer_wins() -> None:
    """A table that takes no notice of ETags loses an act, or a certificate, between a read and a write."""
    proof, world = Proof(), await registered()
    world.storage.table("identities").careless = True
    await proof.interleave(world, "renew", "revoke")
    await proof.interleave(world, "renew", "renew again")
    assert proof.faults
