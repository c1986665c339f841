"""A revocation of a group, broken off at each of its steps and carried out twice: it ends when its devices are revoked."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING

from shared.contracts.messages import Queue
from shared.domain.devices import DeviceRecord
from shared.domain.words import DeviceState
from tests.world.auditor import audit
from tests.world.deliveries import broken_off
from tests.world.host import LEASE
from tests.world.world import DEVICE, GROUP, World

if TYPE_CHECKING:
    from tests.world.storage import Queued

DEVICES = (DEVICE, "lathe")
ORDER = {"orderId": "o", "enrollmentGroup": GROUP, "devices": [{"registrationId": each} for each in DEVICES]}
WANTED = {"requestId": "all", "enrollmentGroup": GROUP, "reason": "keyCompromise"}
KIND = Queue.REVOCATION_REQUESTS


async def asked() -> World:
    """Give a world with two devices in service, whose group is to be revoked."""
    world = await World().prepare()
    world.ask("order", Queue.DEVICE_ORDERS, ORDER)
    await world.drain()
    world.ask("all", KIND, WANTED)
    return world


def take(world: World, number: int = 0) -> Queued:
    return world.queues.lease(KIND, world.queues.queues[KIND][number], lease=LEASE)


async def faults(world: World) -> list[str]:
    """Give what is wrong when nothing is on its way any more."""
    await world.drain()
    found = await audit(world)
    for (_, key), row in world.storage.table("identities").rows.items():
        if key.startswith("d:") and (record := row.read(DeviceRecord)).state is not DeviceState.REVOKED:
            found.append(f"{record.registration_id} is {record.state}")
    followed = await world.services.following.describe("all", KIND)
    counts = followed.progress
    if counts is None or (followed.state, counts.queued, counts.done) != ("done", 2, 2):
        found.append(f"the request is {followed.state} with {counts}")
    revoked = {each["id"] for each in world.events() if each["type"].endswith(".DeviceRevoked")}
    if len(revoked) != len(DEVICES):
        found.append(f"told were {sorted(revoked)}")
    return found + [repr(bug) for bug in world.bugs]


def begun(scene: World, number: int = 0) -> World:
    world = scene.copy()
    world.conductor.start("a", world.hosts[0].deliver(KIND, take(world, number)))
    return world


async def length(scene: World) -> int:
    return await begun(scene).conductor.advance("a")


async def test_a_group_is_revoked_wherever_its_message_is_broken_off() -> None:
    """Killed before each step, or with the answer to it lost."""
    scene = await asked()
    assert await length(scene) > 8
    assert await broken_off(lambda: begun(scene), faults) == []


async def test_a_group_is_revoked_wherever_the_message_of_one_device_is_broken_off() -> None:
    """The request waits for that device as well, and counts it once."""
    scene = await asked()
    await scene.hosts[0].deliver(KIND, take(scene))
    names = [number for number, each in enumerate(scene.queues.queues[KIND]) if b'"part"' in b64decode(each.content)]
    assert len(names) == len(DEVICES)
    assert await broken_off(lambda: begun(scene, names[0]), faults) == []


async def test_a_group_s_request_ends_though_somebody_else_revokes_a_device_before_it_goes_on() -> None:
    """Also where that device was counted by a delivery that was killed before it had asked for it."""
    scene, left = await asked(), list[str]()
    for step in range(await length(scene)):
        world = begun(scene)
        await world.conductor.advance("a", step)
        await world.conductor.kill("a")
        world.ask("alone", KIND, {"requestId": "alone", "registrationId": DEVICE, "reason": "keyCompromise"})
        await world.deliver("alone", host=1)
        await world.drain()
        state = (await world.services.following.describe("all", KIND)).state
        left += [f"killed before step {step + 1}: it is {state}"] if state != "done" else []
        left += [f"killed before step {step + 1}: {fault}" for fault in await audit(world)]
    assert left == []


async def test_a_group_s_message_that_two_workers_have_ends_well() -> None:
    """One is paused before each of its steps while the other, which has the same message, runs to its end."""
    scene, found = await asked(), list[str]()
    for step in range(await length(scene) + 1):
        world = scene.copy()
        message = take(world)
        for actor, host in zip("ab", world.hosts, strict=True):
            world.conductor.start(actor, host.deliver(KIND, message))
        await world.conductor.advance("a", step)
        await world.conductor.advance("b")
        await world.conductor.advance("a")
        found += [f"paused after {step} steps: {fault}" for fault in await faults(world)]
    assert found == []
