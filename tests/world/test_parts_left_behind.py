"""A request about many is killed anywhere, and somebody else changes a device before it goes on: it ends all the same."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.devices import renewal_request, revocation_request
from shared.contracts.messages import Queue
from shared.domain.requests import RequestState
from shared.workflows.intake.requests import submit
from tests.world.auditor import audit
from tests.world.host import LEASE
from tests.world.test_authority_revocation import in_service
from tests.world.world import DEVICE, GROUP, ISSUER, World, csr_of

if TYPE_CHECKING:
    from collections.abc import Mapping

DEVICES = (DEVICE, "lathe")
REVOCATIONS, RENEWALS = Queue.REVOCATION_REQUESTS, Queue.RENEWAL_REQUESTS

TABLES = {REVOCATIONS: "actrequests", RENEWALS: "requests"}

MANY: Mapping[str, tuple[Queue, Mapping[str, Any]]] = {
    "revoke the order": (REVOCATIONS, {"orderId": "o", "reason": "keyCompromise"}),
    "revoke with the CA": (REVOCATIONS, {"issuer": ISSUER, "reason": "keyCompromise"}),
    "renew the group": (RENEWALS, {"enrollmentGroup": GROUP}),
    "renew what the CA signed": (RENEWALS, {"enrollmentGroup": GROUP, "onlyIssuer": ISSUER}),
}
"""What asks for a part of each device."""

OTHERS: Mapping[str, tuple[Queue, Mapping[str, Any]]] = {
    "revoke": (REVOCATIONS, {"registrationId": DEVICE, "reason": "keyCompromise"}),
    "renew": (RENEWALS, {"registrationId": DEVICE, "csr": csr_of("alone")}),
}
"""What somebody else asks for one of them meanwhile."""


async def asked(name: str) -> World:
    """Give a world with two devices in service, and something that is asked of both."""
    world = await in_service(*DEVICES)
    world.now += timedelta(minutes=5)
    queue, wanted = MANY[name]
    read = revocation_request if queue is REVOCATIONS else renewal_request
    await submit(world.requests, world.services.outbox, queue, read({"requestId": "all", **wanted}), world.clock)
    return world


def begun(scene: World, queue: Queue) -> World:
    world = scene.copy()
    message = world.queues.lease(queue, world.queues.queues[queue][0], lease=LEASE)
    world.conductor.start("a", world.hosts[0].deliver(queue, message))
    return world


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("revoke the order", "revoke"),
        ("revoke with the CA", "revoke"),
        ("renew the group", "revoke"),
        ("renew the group", "renew"),
        ("renew what the CA signed", "revoke"),
        ("renew what the CA signed", "renew"),
    ],
)
async def test_a_request_about_many_ends_though_a_device_is_changed_before_it_goes_on(name: str, other: str) -> None:
    """Killed before each step from where the first device is counted: it may be counted, and not be asked for."""
    scene, left, queue = await asked(name), list[str](), MANY[name][0]
    whole = begun(scene, queue)
    length = await whole.conductor.advance("a")
    counted = whole.conductor.steps["a"].index(f"{TABLES[queue]}.insert", 1)
    for step in range(counted, length):
        world = begun(scene, queue)
        await world.conductor.advance("a", step)
        await world.conductor.kill("a")
        kind, wanted = OTHERS[other]
        world.ask("alone", kind, {"requestId": "alone", **wanted})
        await world.deliver("alone", host=1)
        await world.drain()
        known = await world.requests.find(queue, "all")
        if known is None or known.record.state is not RequestState.DONE:
            left.append(f"killed before step {step + 1}: it is {known and known.record.state}")
        left += [f"killed before step {step + 1}: {fault}" for fault in await audit(world)]
        left += [f"killed before step {step + 1}: {bug!r}" for bug in world.bugs]
    assert left == []
