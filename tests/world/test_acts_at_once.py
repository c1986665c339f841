"""What two hosts did to each other before acts changed the record alone, again and again: at rest all is well.

Two workers on one storage take their steps in any order. Each seed is another order, the same on every machine.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.world.acts import SCENES
from tests.world.prover import Proof

REPETITIONS = 30
AT_ONCE = (
    ("registered", ("revoke", "hold")),
    ("renewing", ("revoke", "hold")),
    ("registered", ("hold", "reinstate")),
    ("held", ("reinstate", "hold again")),
    ("held", ("reinstate", "revoke")),
    ("held", ("reinstate", "delete")),
    ("registered", ("renew", "renew again")),
    ("renewing", ("renew again", "boot", "renew")),
    ("ordered", ("order", "delete")),
    ("ordered", ("order", "order again", "delete")),
    ("deleted", ("order again", "delete again")),
    ("waiting", ("boot", "revoke")),
    ("registered", ("boot", "revoke")),
    ("renewing", ("boot", "revoke", "renew")),
    ("registered", ("enable", "revoke")),
    ("held", ("enable", "revoke", "reinstate")),
    ("renewed", ("revoke the former", "hold", "boot")),
    ("renewing", ("renew", "expire")),
    ("refused", ("replay", "revoke", "boot")),
    ("registered", ("revoke", "sweep", "hold", "boot")),
)


@pytest.mark.parametrize(("scene", "acts"), AT_ONCE, ids=[f"{scene}: {', '.join(acts)}" for scene, acts in AT_ONCE])
async def test_acts_at_once_on_two_hosts_end_well(scene: str, acts: tuple[str, ...]) -> None:
    """Thirty orders of their steps; one service's answers may come in between any two of another's."""
    proof, world = Proof(), await SCENES[scene]()
    for seed in range(REPETITIONS):
        await proof.at_random(world, acts, Random(seed))  # noqa: S311 - the same each time
    assert proof.runs == REPETITIONS
    assert proof.faults == []
