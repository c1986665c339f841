"""Messages of the queues, carried out by the app's own functions in memory: the main job, retries, poison, replay."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.messages import Queue
from shared.domain.certificates import CertificateState
from shared.domain.rejections import RejectionKind
from shared.domain.requests import RequestState
from shared.domain.words import DeviceState
from shared.errors import Conflict
from tests.world.acts import MESSAGES, registered
from tests.world.auditor import audit
from tests.world.conductor import Go
from tests.world.host import MAX_DEQUEUE_COUNT, RETRY_SECONDS, TIMERS
from tests.world.services import HUB
from tests.world.world import DEVICE, GROUP, World, csr_of

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.ports.registrar import Assignment

ORDER = {
    "orderId": "order-1",
    "enrollmentGroup": GROUP,
    "devices": [
        {"registrationId": DEVICE, "tags": {"plant": "Bremen"}},
        {"registrationId": "lathe"},
        {"registrationId": "no id at all!"},
        {"registrationId": DEVICE.upper()},
    ],
}


def told(world: World) -> Counter[str]:
    """Count the events by type, each one once."""
    return Counter({each["id"]: each["type"].removeprefix("DeviceProvisioning.") for each in world.events()}.values())


def last(world: World, kind: str) -> dict[str, Any]:
    return next(each for each in reversed(world.events()) if each["type"].endswith(f".{kind}"))


def record_of(world: World) -> DeviceRecord:
    record = world.record()
    assert record is not None
    return record


async def world_at_rest(world: World) -> None:
    await world.drain()
    assert await audit(world) == []
    assert world.bugs == []


async def test_an_order_ends_with_its_devices_in_their_hub() -> None:
    """Each line is told, the bad ones with their reason; the order is told once, when the last line is done."""
    world = await World().prepare()
    world.ask("the order", Queue.DEVICE_ORDERS, ORDER)
    await world_at_rest(world)
    assert told(world) == {
        "OrderAccepted": 1,
        "CertificateIssued": 2,
        "DeviceRegistered": 2,
        "RequestRejected": 2,
        "OrderCompleted": 1,
    }
    assert last(world, "OrderCompleted")["data"]["progress"] == {
        "total": 4,
        "ordered": 0,
        "issued": 0,
        "registered": 2,
        "failed": 2,
        "cancelled": 0,
    }
    assert set(world.hubs.identities) == {(HUB, DEVICE), (HUB, "lathe")}
    assert world.hubs.twins == {(HUB, DEVICE): {"tags": {"plant": "Bremen"}, "desired": {}}}
    assert all(not world.queues.queues.get(queue) for queue in (Queue.DEVICE_ORDERS, Queue.DEVICE_REGISTRATIONS))


async def test_an_order_that_comes_twice_is_one_order() -> None:
    """Its lines are made once, and each event has the same id."""
    world = await World().prepare()
    for name in ("the order", "the order, once more"):
        world.ask(name, Queue.DEVICE_ORDERS, ORDER)
    await world_at_rest(world)
    assert told(world)["OrderCompleted"] == 1
    assert len(record_of(world).held) == 1


async def test_a_revocation_shuts_every_door() -> None:
    """DPS refuses the device, its hub has it disabled, and the list names its certificate."""
    world = await registered()
    world.ask("revoke", *MESSAGES["revoke"])
    await world_at_rest(world)
    assert world.provisioning.enrollments[DEVICE]["provisioningStatus"] == "disabled"
    assert not world.hubs.identities[HUB, DEVICE].enabled
    assert world.lists.listed == {record_of(world).held[0].serial_number}
    assert told(world)["DeviceRevoked"] == 1


async def test_a_renewal_waits_for_its_device() -> None:
    """The message is put back until the device has registered with its new certificate."""
    world = await registered()
    world.ask("renew", *MESSAGES["renew"])
    await world_at_rest(world)
    assert record_of(world).state is DeviceState.RENEWING
    assert [each.taken for each in world.lying(world.asked["renew"])] == [0], "it is put back as a new message"
    await world.boot()
    await world_at_rest(world)
    assert record_of(world).state is DeviceState.REGISTERED
    assert [each.state for each in record_of(world).held] == [CertificateState.SUPERSEDED, CertificateState.ACTIVE]
    assert told(world)["CertificateRenewed"] == 1


LOOK = [
    "requests.get",
    "requests.replace",
    "identities.get",
    "identities.get",
    "blobs.get",
    "identities.get",
    "dps.get_registration",
    "hub.get",
    "requests.replace",
    "send renewal-requests",
]
"""What a look at a renewal that waits for its device reads and writes. It is looked at some hundred times a day."""


async def test_a_look_at_a_renewal_that_waits_is_cheap() -> None:
    """It says all the time that it waits, and its row in the list of requests stays as it is."""
    world = await registered()
    world.ask("renew", *MESSAGES["renew"])
    await world_at_rest(world)
    world.now += timedelta(minutes=20)
    tries = (await world.services.following.describe("r1", Queue.RENEWAL_REQUESTS)).tries
    message = world.take("renew")
    assert message is not None
    assert tries is not None
    world.conductor.start("look", world.hosts[0].deliver(*message))
    while (await world.services.following.describe("r1", Queue.RENEWAL_REQUESTS)).state == "waiting":
        if not await world.conductor.advance("look", 1):
            break
    assert [each for each in world.conductor.steps["look"] if not each.startswith("delete")] == LOOK
    shown = await world.services.following.describe("r1", Queue.RENEWAL_REQUESTS)
    assert (shown.state, shown.tries) == ("waiting", tries + 1)


@pytest.mark.parametrize("service", ["dps", "hub", "tables", "vault", "blobs"])
async def test_an_outage_uses_up_no_delivery(service: str) -> None:
    """Ten minutes without a service: every message waits, none turns poison, and all go on when it is back."""
    world = await registered()
    world.ask("revoke", *MESSAGES["revoke"])
    world.ask("order", Queue.DEVICE_ORDERS, ORDER)
    world.conductor.down = {service}
    until = world.now + timedelta(minutes=10)
    while world.now < until:
        await world.deliver_visible()
        world.now += timedelta(seconds=5)
    world.conductor.down = set()
    await world_at_rest(world)
    assert record_of(world).state is DeviceState.REVOKED
    assert told(world)["OrderCompleted"] == 1
    assert world.rejections() == []


async def test_a_bug_makes_poison_and_a_replay_carries_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five tries, with the pause of host.json between them; then it is kept, and told; replayed, it is done."""
    world = await World().prepare()
    tries: list[Any] = []

    async def broken(*_: object) -> Assignment:
        tries.append(world.now)
        raise KeyError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(world.registrar, "register", broken)
        world.ask("the order", Queue.DEVICE_ORDERS, {**ORDER, "devices": [{"registrationId": DEVICE}]})
        await world.drain()
    assert len(tries) == MAX_DEQUEUE_COUNT
    assert {(after - before).total_seconds() for before, after in pairwise(tries)} == {RETRY_SECONDS}
    [kept] = world.rejections()
    assert (kept.kind, kept.queue) == (RejectionKind.POISON, Queue.DEVICE_REGISTRATIONS)
    assert world.poison() == []
    assert told(world)["OrderCompleted"] == 0
    await world.services.rejected_messages.replay(kept.rejection_id)
    for host in world.hosts:
        host.bugs.clear()
    await world_at_rest(world)
    assert told(world)["OrderCompleted"] == 1


async def test_what_is_closed_after_a_replay_whose_answer_was_lost_is_carried_out_or_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not both, whichever answer was lost: the message may be in its queue though nobody was told."""
    scene = await registered()

    async def broken(*_: object, **_named: object) -> None:
        raise KeyError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(scene.blobs, "create", broken)
        scene.ask("renew", *MESSAGES["renew"])
        await scene.drain()
    [kept] = scene.rejections()
    request_id, ends = scene.asked["renew"].body["requestId"], set()
    for step in count(1):
        world = scene.copy()
        world.conductor.start("replay", world.services.rejected_messages.replay(kept.rejection_id))
        await world.conductor.advance("replay", step - 1)
        if not await world.conductor.advance("replay", 1, go=Go.LOSE_ANSWER):
            break
        await world.conductor.advance("replay")
        is_closed = True
        try:
            await world.services.rejected_messages.close(kept.rejection_id, "scrapped")
        except Conflict:
            is_closed = False
            world.now += timedelta(minutes=1)
            await world.services.rejected_messages.replay(kept.rejection_id)
        await world.drain()
        state = (await world.services.following.describe(request_id, Queue.RENEWAL_REQUESTS)).state
        is_renewed = record_of(world).state is DeviceState.RENEWING
        assert (is_renewed, state is RequestState.REJECTED) == (not is_closed, is_closed), f"answer {step} was lost"
        assert world.bugs == []
        ends.add(is_closed)
    assert ends == {True, False}


async def test_poison_that_could_not_be_kept_is_swept() -> None:
    """The tables are down while the message is in the poison queue: its function gives up, and the timer does it."""
    world = await World().prepare()
    world.queues.put(Queue.RENEWAL_REQUESTS.poison, '{"requestId": "r1", "registrationId": "press"}')
    world.conductor.down = {"tables"}
    for _ in range(MAX_DEQUEUE_COUNT + 1):
        await world.deliver_visible()
        world.now += timedelta(minutes=11)
    assert len(world.poison()) == 1
    world.conductor.down = set()
    await world.hosts[0].tick("poison_sweep")
    assert world.poison() == []
    assert [each.kind for each in world.rejections()] == [RejectionKind.POISON]


async def test_what_can_not_succeed_is_kept_and_told() -> None:
    """A request that is refused is done at its first delivery, and its sender is told why."""
    world = await World().prepare()
    world.ask("renew", *MESSAGES["renew"])
    await world_at_rest(world)
    [kept] = world.rejections()
    assert kept.kind is RejectionKind.REJECTED
    [reason] = last(world, "RequestRejected")["data"]["reasons"]
    assert reason == {"field": "registrationId", "message": "the device 'press' does not exist"}


async def test_a_worker_that_is_killed_leaves_its_message_to_the_next() -> None:
    """It comes again when its lease ends, and not before; what was done is found."""
    world = await registered()
    world.ask("revoke", *MESSAGES["revoke"])
    taken = world.take("revoke")
    assert taken is not None
    world.conductor.start("killed", world.hosts[0].deliver(*taken))
    await world.conductor.advance("killed", 6)
    await world.conductor.kill("killed")
    world.now += timedelta(minutes=9)
    assert await world.deliver_visible() == 0
    world.now += timedelta(minutes=1)
    assert await world.deliver_visible() == 1
    await world_at_rest(world)
    assert told(world)["DeviceRevoked"] == 1


async def test_a_device_with_a_key_of_its_own_is_waited_for() -> None:
    """It registers itself at its first boot; the order shows its certificate meanwhile, and is completed then."""
    world = await World().prepare()
    device = {"registrationId": DEVICE, "csr": csr_of("own")}
    world.ask("the order", Queue.DEVICE_ORDERS, {**ORDER, "devices": [device]})
    await world.drain()
    shown = await world.services.order_answers.describe("order-1")
    assert (shown.state, shown.devices[0].state) == ("waiting", "issued")
    await world.boot()
    await world_at_rest(world)
    assert told(world)["OrderCompleted"] == 1


async def test_keys_are_deleted_when_their_time_is_over() -> None:
    """A bundle that was handed out keeps its key for an hour, and the timer then deletes it."""
    world = await registered()
    handed_out = await world.services.devices.hand_out(DEVICE, wanted="pem", caller="installer")
    assert b"PRIVATE KEY" in handed_out.content
    world.now += timedelta(minutes=61)
    await world_at_rest(world)
    assert all(b"PRIVATE KEY" not in blob.content for blob in world.blobs.blobs.values())


async def test_what_expires_is_told_before_and_after() -> None:
    """A month before its end a certificate is warned of; when it has ended, the device has."""
    world = await registered()
    world.now += timedelta(days=336)
    await world_at_rest(world)
    assert told(world)["CertificateExpiring"] == 1
    world.now += timedelta(days=30)
    await world_at_rest(world)
    assert told(world)["CertificateExpired"] == 1
    assert record_of(world).state is DeviceState.EXPIRED


async def test_an_order_whose_message_was_lost_is_taken_up_by_a_timer() -> None:
    """Nothing of it is left in a queue; a quarter of an hour later the sweep sees to it."""
    world = await World().prepare()
    world.ask("the order", Queue.DEVICE_ORDERS, ORDER)
    await world.deliver_visible()
    world.queues.queues[Queue.DEVICE_ORDERS].clear()
    world.now += timedelta(hours=1)
    await world_at_rest(world)
    assert told(world)["OrderCompleted"] == 1


@pytest.mark.parametrize("timer", TIMERS)
async def test_a_timer_changes_nothing_where_nothing_is_due(timer: str) -> None:
    """Whenever it comes, and however often."""
    world = await registered()
    await world.services.directory_upkeep.run()
    before = world.changes()
    await world.hosts[0].tick(timer)
    await world.hosts[1].tick(timer)
    assert world.changes() == before
    assert world.bugs == []
