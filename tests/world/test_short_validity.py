"""A certificate that is ordered for less than the warning time is told of all the same, wherever its order breaks off."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.contracts.messages import Queue
from tests.world.auditor import audit
from tests.world.deliveries import broken_off
from tests.world.host import LEASE
from tests.world.world import DEVICE, GROUP, SETTINGS, World

if TYPE_CHECKING:
    from datetime import datetime

DAYS = (1, 20)


async def dispatched(days: int) -> World:
    """Give a world in which a device that is ordered for so many days is on its way."""
    assert days < max(SETTINGS.device_warnings)
    world = await World().prepare()
    order = {"orderId": "o", "enrollmentGroup": GROUP, "validityDays": days, "devices": [{"registrationId": DEVICE}]}
    world.ask("order", Queue.DEVICE_ORDERS, order)
    await world.deliver("order")
    return world


def begun(scene: World) -> World:
    world = scene.copy()
    [message] = world.queues.queues[Queue.DEVICE_REGISTRATIONS]
    taken = world.queues.lease(Queue.DEVICE_REGISTRATIONS, message, lease=LEASE)
    world.conductor.start("a", world.hosts[0].deliver(Queue.DEVICE_REGISTRATIONS, taken))
    return world


def told(world: World, kind: str) -> set[str]:
    """Give the serial numbers of which an event of a kind tells."""
    return {each["data"]["serialNumber"] for each in world.events() if each["type"].endswith(f".{kind}")}


def end_of(world: World) -> datetime:
    record = world.record()
    assert record is not None
    assert record.certificate is not None
    return record.certificate.not_after


async def faults(world: World) -> list[str]:
    """Give what is wrong when the order is done, and when the certificate has ended."""
    await world.drain()
    found, issued = await audit(world), told(world, "CertificateIssued")
    if told(world, "CertificateExpiring") != issued or len(issued) != 1:
        found.append(f"issued was {issued}, and told as expiring {told(world, 'CertificateExpiring')}")
    world.now = end_of(world) + timedelta(days=1)
    await world.drain()
    if told(world, "CertificateExpired") != issued:
        found.append(f"issued was {issued}, and told as expired {told(world, 'CertificateExpired')}")
    return [*found, *(repr(bug) for bug in world.bugs)]


@pytest.mark.parametrize("days", DAYS)
async def test_the_notice_of_an_order_that_is_shorter_than_the_warning_time_is_given(days: int) -> None:
    """Killed before each step, or with the answer to it lost, with a sweep while it is under way."""
    scene = await dispatched(days)
    assert await broken_off(lambda: begun(scene), faults) == []


@pytest.mark.parametrize("days", DAYS)
async def test_a_sweep_that_runs_between_any_two_steps_of_such_an_order_loses_no_notice(days: int) -> None:
    """The notice is there before the certificate is, and due at once: a sweep leaves it until the certificate counts."""
    scene, found, step = await dispatched(days), list[str](), 0
    while True:
        world = begun(scene)
        if await world.conductor.advance("a", step) < step:
            break
        await world.hosts[1].tick("expiry_sweep")
        await world.conductor.advance("a")
        found += [f"swept after {step} steps: {fault}" for fault in await faults(world)]
        step += 1
    assert step > 20
    assert found == []
