"""A revocation of many whose worker is killed: nobody takes what it has done for drift, and a timer goes on with it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.domain.requests import DELIVERY_LASTS
from shared.domain.treatments import Policy
from shared.domain.words import DeviceState
from tests.world.auditor import audit
from tests.world.deliveries import broken_off
from tests.world.drift import fleet_in, fleet_of
from tests.world.groups_world import GroupWorld
from tests.world.host import LEASE
from tests.world.services import HUB
from tests.world.test_group_revocation import KIND, WANTED, asked, begun, length, take
from tests.world.world import DEVICE, World

if TYPE_CHECKING:
    from tests.world.drift import Fleet

MINUTE = timedelta(seconds=61)
"""After that the timer takes what nobody has seen to."""

HELD = {**WANTED, "reason": "certificateHold"}


def is_let_in(world: World, device: str = DEVICE) -> bool:
    return world.hubs.identities[HUB, device].enabled


def is_revoked(world: World, device: str = DEVICE) -> bool:
    return world.records()[device].state is DeviceState.REVOKED


async def found_and_left(fleet: Fleet) -> list[str]:
    """Have a pass mend what it finds before anything goes on; give what it found, and what is wrong at rest."""
    await fleet.look()
    findings, _ = await fleet.reconciler.findings.page({}, size=100, continuation=None)
    wrong = [f"{each.state} is {each.kind}: {each.service}" for each in findings]
    wrong += ["a revoked device was let in"] if fleet.world.reopened else []
    await fleet.world.done()
    wrong += await audit(fleet.world)
    wrong += [] if is_revoked(fleet.world) and not is_let_in(fleet.world) else ["the device is let in at rest"]
    return wrong


async def test_no_pass_takes_the_revocation_of_a_group_for_drift_wherever_it_is_broken_off() -> None:
    """Also where the policy has a disabled identity mended: it would let in what is being revoked."""
    scene = await fleet_of()
    scene.world.ask("all", KIND, WANTED)

    def killed() -> GroupWorld:
        world = scene.world.copy()
        message = world.queues.lease(KIND, world.queues.queues[KIND][0], lease=LEASE)
        world.conductor.start("a", world.hosts[0].deliver(KIND, message))
        return world

    async def faults(world: World) -> list[str]:
        assert isinstance(world, GroupWorld)
        return await found_and_left(fleet_in(world, scene.keys, scene.places, identityDisabled=Policy.MEND))

    assert "hub.disable_many" in await steps(killed())
    assert await broken_off(killed, faults) == []


async def steps(world: World) -> list[str]:
    await world.conductor.advance("a")
    return world.conductor.steps["a"]


async def shut_by_timer(world: World) -> list[str]:
    """Have the timer run when a minute is over, and name the devices of which the hub alone had been told."""
    touched = [each for each in world.records() if not is_let_in(world, each)]
    world.now += MINUTE
    await world.hosts[1].tick("convergence_sweep")
    records, entries = world.records(), world.provisioning.enrollments
    return [
        each
        for each in touched
        if not (
            records[each].state is DeviceState.REVOKED
            and records[each].settled
            and entries[each]["provisioningStatus"] == "disabled"
        )
    ]


async def test_a_timer_shuts_out_at_dps_as_well_what_a_killed_worker_has_shut_out_of_the_hub() -> None:
    """No message comes back: those of the killed worker are leased for ten minutes."""
    scene = await asked()
    assert await length(scene) > 8
    assert await broken_off(lambda: begun(scene), shut_by_timer) == []


async def test_a_timer_ends_a_part_whose_worker_was_killed_and_the_request_with_it() -> None:
    scene, left = await asked(), list[str]()
    await scene.hosts[0].deliver(KIND, take(scene))
    parts = [number for number, each in enumerate(scene.queues.queues[KIND]) if each.visible <= scene.now]
    for step in range(await begun(scene, parts[0]).conductor.advance("a")):
        world = begun(scene, parts[0])
        await world.conductor.advance("a", step)
        await world.conductor.kill("a")
        world.now += MINUTE
        await world.hosts[1].tick("convergence_sweep")
        await world.deliver("all", host=1)
        state = (await world.services.following.describe("all", KIND)).state
        left += [f"killed before step {step + 1}: it is {state}"] if state != "done" else []
    assert left == []


async def test_a_device_that_is_reinstated_amid_the_hold_of_its_group_is_let_in() -> None:
    """Its hub is told to shut it out together with others, perhaps after it was told to let it in again."""
    scene, wrong, reinstated = await asked(), list[str](), 0
    del scene.queues.queues[KIND][:]
    scene.ask("held", KIND, HELD)
    for step in range(await length(scene)):
        world = begun(scene)
        await world.conductor.advance("a", step)
        world.ask("back", KIND, {"requestId": "back", "registrationId": DEVICE, "action": "reinstate"})
        await world.deliver("back", host=1)
        await world.conductor.advance("a")
        await world.drain()
        is_back = not is_revoked(world)
        reinstated += is_back
        wrong += [f"paused before step {step + 1}: {fault}" for fault in await audit(world)]
        wrong += [] if is_let_in(world) is is_back else [f"paused before step {step + 1}: let in is {not is_back}"]
    assert (wrong, reinstated > 0) == ([], True)


@pytest.mark.parametrize("is_slow", [False, True])
async def test_a_device_that_is_reinstated_amid_a_hold_whose_worker_is_killed_is_let_in_by_the_timer(
    *, is_slow: bool
) -> None:
    """Its hub was told to shut it out together with others, after it was told to let it in again.

    Of a worker that is slow, the timer has gone on with the device before.
    """
    scene, wrong, reinstated = await asked(), list[str](), 0
    del scene.queues.queues[KIND][:]
    scene.ask("held", KIND, HELD)
    for step in range(await length(scene)):
        world = begun(scene)
        await world.conductor.advance("a", step)
        if is_slow:
            world.now += MINUTE
            await world.hosts[1].tick("convergence_sweep")
        was_held = is_revoked(world)
        world.ask("back", KIND, {"requestId": "back", "registrationId": DEVICE, "action": "reinstate"})
        await world.deliver("back", host=1)
        is_back = was_held and not is_revoked(world)
        await world.conductor.advance("a", 1)
        await world.conductor.kill("a")
        reinstated += is_back
        world.now += DELIVERY_LASTS
        await world.hosts[1].tick("convergence_sweep")
        if is_back and not is_let_in(world):
            wrong.append(f"killed after step {step + 1}, {world.conductor.steps['a'][-1]}: it is kept out")
        await world.drain()
        world.now += MINUTE
        await world.drain()
        wrong += [f"killed after step {step + 1}: {fault}" for fault in await audit(world)]
    assert (wrong, reinstated > 0) == ([], True)
