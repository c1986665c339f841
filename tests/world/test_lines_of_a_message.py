"""An order and its message of two lines, broken off at each of their steps and delivered twice: each line ends once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.contracts.messages import Queue
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.devices import DeviceRecord
from shared.domain.words import DeviceState
from tests.world.auditor import audit
from tests.world.deliveries import broken_off
from tests.world.host import LEASE
from tests.world.services import HUB
from tests.world.world import DEVICE, GROUP, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.world.storage import Queued

DEVICES = (DEVICE, "lathe")
ORDER = {"orderId": "o", "enrollmentGroup": GROUP, "devices": [{"registrationId": each} for each in DEVICES]}


async def dispatched() -> World:
    """Give a world in which an order of two devices is on its way, in one message."""
    world = await World().prepare()
    world.ask("order", Queue.DEVICE_ORDERS, ORDER)
    await world.deliver("order")
    assert len(world.queues.queues[Queue.DEVICE_REGISTRATIONS]) == 1
    return world


def take(world: World) -> Queued:
    [message] = world.queues.queues[Queue.DEVICE_REGISTRATIONS]
    return world.queues.lease(Queue.DEVICE_REGISTRATIONS, message, lease=LEASE)


async def faults(world: World) -> list[str]:
    """Give what is wrong when nothing is on its way any more."""
    await world.drain()
    found = await audit(world)
    rows = world.storage.table("identities").rows
    for device in DEVICES:
        [record] = [row.read(DeviceRecord) for (_, key), row in rows.items() if key == f"d:{device}"]
        made = [row.read(CertificateRecord) for (_, key), row in rows.items() if key.startswith("c:")]
        active = [each for each in made if each.subject == device and each.state is CertificateState.ACTIVE]
        if record.state is not DeviceState.REGISTERED or len(active) != 1:
            found.append(f"{device} is {record.state} with {len(active)} certificates in force")
        if (HUB, device) not in world.hubs.identities:
            found.append(f"{device} is not in its hub")
    told = {each["id"]: each["type"].removeprefix("DeviceProvisioning.") for each in world.events()}
    if sorted(told.values()) != sorted(EVENTS):
        found.append(f"told were {sorted(told.values())}")
    return found + [repr(bug) for bug in world.bugs]


EVENTS = ("OrderAccepted", *("CertificateIssued", "DeviceRegistered") * 2, "OrderCompleted")


def begun(scene: World) -> World:
    world = scene.copy()
    world.conductor.start("a", world.hosts[0].deliver(Queue.DEVICE_REGISTRATIONS, take(world)))
    return world


async def length(scene: World) -> int:
    return await begun(scene).conductor.advance("a")


async def test_a_message_of_two_lines_is_finished_wherever_it_is_broken_off() -> None:
    """Killed before each step, or with the answer to it lost; whatever of the other line is done then stays done once."""
    scene = await dispatched()
    assert await length(scene) > 20
    assert await broken_off(lambda: begun(scene), faults) == []


async def test_a_message_of_two_lines_that_two_workers_have_ends_well() -> None:
    """One is paused before each of its steps while the other, which has the same message, runs to its end."""
    scene, found = await dispatched(), list[str]()
    for step in range(await length(scene) + 1):
        world = scene.copy()
        message = take(world)
        for actor, host in zip("ab", world.hosts, strict=True):
            world.conductor.start(actor, host.deliver(Queue.DEVICE_REGISTRATIONS, message))
        await world.conductor.advance("a", step)
        await world.conductor.advance("b")
        await world.conductor.advance("a")
        found += [f"paused after {step} steps: {fault}" for fault in await faults(world)]
    assert found == []


async def queued() -> World:
    """Give a world in which an order of two devices lies in its queue."""
    world = await World().prepare()
    world.ask("order", Queue.DEVICE_ORDERS, ORDER)
    return world


async def nearly_done() -> World:
    """Give a world in which every line is done, and the order's message has not come since."""
    world = await dispatched()
    await world.hosts[0].deliver(Queue.DEVICE_REGISTRATIONS, take(world))
    return world


@pytest.mark.parametrize("scene", [queued, nearly_done])
async def test_an_order_is_completed_wherever_its_own_message_is_broken_off(
    scene: Callable[[], Awaitable[World]],
) -> None:
    """One that loses the answer to the order's row, at its beginning or at its end, must not count as done."""
    made = await scene()

    def begun_with_order() -> World:
        world = made.copy()
        [message] = world.queues.queues[Queue.DEVICE_ORDERS]
        world.now = max(world.now, message.visible)
        taken = world.queues.lease(Queue.DEVICE_ORDERS, message, lease=LEASE)
        world.conductor.start("a", world.hosts[0].deliver(Queue.DEVICE_ORDERS, taken))
        return world

    assert await begun_with_order().conductor.advance("a") > 5
    assert await broken_off(begun_with_order, faults) == []
