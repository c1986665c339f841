"""A device that has come with its next certificate is entered by a pass, whatever is asked for of it meanwhile."""

from __future__ import annotations

import pytest

from tests.world.acts import LOOK, come
from tests.world.prover import Proof


async def test_a_look_that_breaks_off_at_any_step_leaves_a_renewal_that_is_finished() -> None:
    """Killed before each step, and after each with its answer lost; the message of the renewal comes after that."""
    proof = Proof()
    await proof.break_off(await come(), LOOK)
    proof.check()


@pytest.mark.parametrize("act", ["renew", "renew again", "revoke", "hold", "delete", "boot", "disable", "expire", LOOK])
async def test_a_look_and_an_act_at_once_end_as_if_one_had_come_after_the_other(act: str) -> None:
    """One pauses before each of its steps while the other one runs to its end."""
    proof, world = Proof(), await come()
    await proof.interleave(world, LOOK, act)
    await proof.interleave(world, act, LOOK)
    proof.check()
