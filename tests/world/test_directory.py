"""The directory of devices: whenever it is kept, by however many, and wherever that breaks off, it ends as the records are.

The auditor holds it against the records: each row, the counts, the notes. So do all tests of the world.
"""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.world.acts import KEEP_TOO, MESSAGES, SCENES, registered
from tests.world.auditor import audit
from tests.world.prover import Proof

if TYPE_CHECKING:
    from tests.world.world import World

KEEP = "keep the directory"
DEEPER = os.environ.get("PROVE") == "1"
MEANWHILE = {
    "ordered": ("order", "hold", "delete"),
    "waiting": ("boot", "revoke"),
    "registered": ("renew", "revoke", "delete"),
    "renewing": ("boot", "renew again", "expire"),
    "held": ("reinstate", "delete"),
}


async def late(scene: World, act: str) -> list[str]:
    """Let one keeper pause before each of its steps, while an act runs to its end, and then another keeper."""
    proof, faults = Proof(), list[str]()
    for step in range(await proof.length(scene, KEEP) + 1):
        world = scene.copy()
        proof.begin(world, "late", KEEP)
        await world.conductor.advance("late", step)
        for host, actor in enumerate((act, KEEP_TOO)):
            proof.begin(world, actor, actor, host=host)
            await world.conductor.advance(actor)
        await world.conductor.advance("late")
        await world.drain()
        faults += [f"{KEEP} paused after {step} steps for {act}: {fault}" for fault in await audit(world)]
    return faults


@pytest.mark.parametrize("kept_before", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("scene", MEANWHILE)
async def test_the_directory_is_kept_while_devices_change(scene: str, *, kept_before: bool) -> None:
    """It pauses before each of its steps while an act runs to its end, and the other way round."""
    proof, world = Proof(), await SCENES[scene]()
    if kept_before:
        await world.services.directory_upkeep.run()
    for act in MEANWHILE[scene]:
        await proof.interleave(world, KEEP, act)
        await proof.interleave(world, act, KEEP)
    proof.check()


async def behind(*, careless: bool = False) -> World:
    """The directory has the device as it was registered; it has been put on hold since."""
    world = await registered()
    await world.services.directory_upkeep.run()
    world.storage.table("directory").careless = careless
    world.ask("hold", *MESSAGES["hold"])
    await world.deliver("hold")
    return world


@pytest.mark.parametrize("act", ["reinstate", "delete", "disable"])
async def test_a_keeper_that_is_late_overwrites_nothing(act: str) -> None:
    """It pauses before each of its steps; meanwhile the device changes, and another worker keeps the directory."""
    assert await late(await behind(), act) == []
    assert await late(await registered(), act) == []


@pytest.mark.skipif(not DEEPER, reason="make prove")
@pytest.mark.parametrize("scene", ["registered", "renewing"])
async def test_two_workers_keep_the_directory_in_turn(scene: str) -> None:
    """Both pause before each of their steps."""
    proof, world = Proof(), await SCENES[scene]()
    await proof.interleave_twice(world, KEEP, KEEP_TOO)
    proof.check()


@pytest.mark.parametrize("acts", [("revoke", "hold"), ("renew", "boot", "renew"), ("delete",)], ids=", ".join)
async def test_two_workers_keep_the_directory_while_devices_change(acts: tuple[str, ...]) -> None:
    """Their steps fall in any order; each seed is another one, the same on every machine."""
    proof, world = Proof(), await SCENES["renewing" if "boot" in acts else "registered"]()
    for seed in range(40):
        await proof.at_random(world, (*acts, KEEP, KEEP_TOO), Random(seed))  # noqa: S311 - the same each time
    assert proof.faults == []


async def test_the_auditor_sees_a_directory_without_guards() -> None:
    """A table that takes no notice of ETags lets a keeper that is late write what was so before."""
    faults = await late(await behind(careless=True), "reinstate")
    assert any("the directory still has ('state|revoked', 'press')" in fault for fault in faults)


async def test_the_auditor_sees_a_change_that_was_not_noted() -> None:
    """What is written to a record without a note does not come into the directory."""
    world = await registered()
    await world.drain()
    assert await audit(world) == []
    known = await world.devices.get("press")
    assert known is not None
    rows = world.storage.table("identities")
    key = next(key for key in rows.rows if key[1] == "d:press")
    rows._store({**rows.rows[key].values, "enrollmentGroup": "other"})  # noqa: SLF001 - past everything
    assert any("the directory is late at" in fault for fault in await audit(world))


async def test_what_was_there_before_the_directory_comes_into_it() -> None:
    """The records are read through once, as an app finds them that did not have a directory."""
    world = await registered()
    directory = world.storage.table("directory").rows
    directory.clear()
    assert any("the directory does not have" in fault for fault in await audit(world))
    await world.services.directory_upkeep.run()
    assert await audit(world) == []
    assert directory["!filled2", "!"].values.get("continuation") is None
