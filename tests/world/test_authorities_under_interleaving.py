"""Whatever is asked for of CAs, in whatever order its steps fall and wherever they break: at rest all is well.

``PROVE=1`` (``make prove``) tries every pair of the acts that a scene is for, with one and with two preemptions.
"""

from __future__ import annotations

import os

import pytest

from tests.world.authority_acts import BROKEN_OFF, MEANT, OFTEN, SCENES, TWICE, rooted
from tests.world.authority_prover import AuthorityProof
from tests.world.authority_world import AuthorityWorld

DEEPER = os.environ.get("PROVE") == "1"
PAIRS = (
    tuple((scene, first, second) for scene, acts in MEANT.items() for first in acts for second in acts)
    if DEEPER
    else OFTEN
)


@pytest.mark.parametrize("scene", SCENES)
async def test_an_act_on_a_ca_that_breaks_off_at_any_step_is_finished_or_leaves_no_trace(scene: str) -> None:
    """Killed before each step, and after each with its answer lost; what comes by a queue is delivered again."""
    proof, world = AuthorityProof(), await SCENES[scene]()
    for act in (MEANT if DEEPER else BROKEN_OFF)[scene]:
        await proof.break_off(world, act)
    proof.check()


@pytest.mark.parametrize(("scene", "first", "second"), PAIRS)
async def test_two_acts_on_cas_at_once_end_as_if_one_had_come_after_the_other(
    scene: str, first: str, second: str
) -> None:
    """One pauses before each of its steps while the other one, or its own second delivery, runs to its end."""
    proof, world = AuthorityProof(), await SCENES[scene]()
    await proof.interleave(world, first, second)
    proof.check()


@pytest.mark.parametrize(("scene", "first", "second"), TWICE if DEEPER else TWICE[:1])
async def test_a_worker_that_comes_back_after_others_took_it_for_gone_only_loses(
    scene: str, first: str, second: str
) -> None:
    """A quarter of an hour goes by while it stands at any of its steps; others finish what it has begun."""
    proof, world = AuthorityProof(), await SCENES[scene]()
    await proof.interleave_later(world, first, second)
    proof.check()


@pytest.mark.parametrize(
    ("scene", "first", "second"),
    PAIRS
    if DEEPER
    else [
        ("acting", "renew the root", "revoke the root"),
        ("unproved", "create root", "delete the root"),
        ("grouped", "create the group", "revoke the group's CA"),
        ("taken out", "put the group", "revoke the group's CA"),
    ],
)
async def test_a_worker_that_is_killed_after_another_act_leaves_nothing_open(
    scene: str, first: str, second: str
) -> None:
    """It takes one more step after the other act has ended, such as to upload a root that is revoked by then."""
    proof, world = AuthorityProof(), await SCENES[scene]()
    await proof.interleave_and_kill(world, first, second)
    proof.check()


@pytest.mark.parametrize(("scene", "first", "second"), PAIRS if DEEPER else TWICE[:1])
async def test_two_acts_on_cas_that_pause_in_turn_end_as_if_one_had_come_after_the_other(
    scene: str, first: str, second: str
) -> None:
    """Both pause before each of their steps."""
    proof, world = AuthorityProof(), await SCENES[scene]()
    await proof.interleave_twice(world, first, second)
    proof.check()


@pytest.mark.skipif(not DEEPER, reason="make prove")
@pytest.mark.parametrize(
    ("scene", "request_", "other"),
    [("proving", "ask for a proof", "retire the CA"), ("asked for", "ask for the CA", "revoke the root")],
)
@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_of_two_deliveries_between_which_a_ca_ends_one_certificate_is_told(
    scene: str, request_: str, other: str, order: str
) -> None:
    """Both pause before each of their steps, and the CA that would sign ends in between."""
    proof, world = AuthorityProof(), await SCENES[scene]()
    await proof.change_between(world, request_, other, order=order)
    proof.check()


async def test_the_auditor_sees_a_ca_that_is_signed_twice_by_a_row_that_the_last_writer_wins() -> None:
    """A table that takes no notice of ETags lets two workers sign, and a DPS keep the other one's certificate."""
    proof = AuthorityProof()
    await proof.interleave(AuthorityWorld(careless=True), "create root", "create root")
    for seen in ("in force are", "the DPS holds another certificate", "told was"):
        assert any(seen in fault for fault in proof.faults), seen


async def test_the_auditor_sees_a_revocation_that_is_lost() -> None:
    """What is revoked and not on the list, or was on a list and is not on a later one, is a fault."""
    world = await rooted()
    await world.enter("root", 7)
    proof = AuthorityProof()
    await proof.interleave(world, "create", "create")
    assert any("revoked and not on its list" in fault for fault in proof.faults)
