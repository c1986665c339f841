"""Orders that are cancelled, closed and tried again: whatever their lines are at, each comes to its end."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.contracts.messages import Queue
from shared.domain.callers import CallerKind
from shared.domain.orders import OrderState
from shared.domain.requests import RequestRecord, RequestState
from shared.domain.words import DeviceState, RevocationReason
from tests.world.conftest import changed, serving  # noqa: F401 - every test here uses them
from tests.world.order_acts import DEVICES, WAITING, ask, call_to_cancel, ordered, request, shown, states
from tests.world.services import HUB
from tests.world.test_messages import last, told, world_at_rest
from tests.world.world import DEVICE, GROUP, World


async def test_a_cancelled_order_begins_no_line_whose_message_lies_in_its_queue() -> None:
    """It ends at once, tells so, and what its messages find later is not begun."""
    world = await ordered(DEVICES)
    assert world.queues.queues[Queue.DEVICE_REGISTRATIONS]
    ask(world, "cancel")
    await world.deliver("cancel")
    assert await states(world) == (OrderState.CANCELLED, ["cancelled", "cancelled"])
    assert (await request(world, "cancel"))["state"] is RequestState.DONE
    await world_at_rest(world)
    assert world.record() is None
    assert world.hubs.identities == {}
    data = last(world, "OrderCompleted")["data"]
    assert (data["state"], data["progress"]["cancelled"], data["failed"]) == ("cancelled", 2, [])
    assert (await shown(world))["devices"][0]["reason"] == "the order was cancelled before this device was made"


@pytest.mark.long
async def test_a_cancelled_order_begins_no_line_that_is_recorded_later() -> None:
    """Its own message was recording its lines, on another host, when it was cancelled."""
    orders = 0
    for steps in range(1, 100):
        world = await World().prepare()
        body = {"orderId": "order-1", "enrollmentGroup": GROUP, "devices": DEVICES}
        world.ask("the order", Queue.DEVICE_ORDERS, body)
        taken = world.take("the order")
        assert taken is not None
        world.conductor.start("order", world.hosts[0].deliver(*taken))
        if await world.conductor.advance("order", steps) < steps:
            break
        if await world.orders.get("order-1") is not None:
            ask(world, "cancel")
            await world.deliver("cancel", host=1)
            await world.conductor.advance("order")
            await world.drain()
            order = await shown(world)
            assert order["state"] is OrderState.CANCELLED, steps
            assert order["progress"]["cancelled"] == 2, steps
            assert world.hubs.identities == {}, steps
            assert world.bugs == []
            orders += 1
        await world.conductor.advance("order")
    assert orders > 3


@pytest.mark.parametrize("issued", ["keep", "revoke"])
async def test_what_is_issued_is_kept_or_revoked_as_asked(issued: str) -> None:
    """Also a device that waits for its first boot; the order does not wait for it any more."""
    world = await ordered(WAITING)
    await world.drain()
    assert (await shown(world))["state"] is OrderState.WAITING
    await call_to_cancel(world, issued)
    await world_at_rest(world)
    assert await states(world) == (OrderState.CANCELLED, ["issued", "registered"])
    device, lathe = world.record(), await world.devices.get("lathe")
    assert device is not None
    assert lathe is not None
    expected = [DeviceState.REVOKED] * 2 if issued == "revoke" else [DeviceState.ISSUED, DeviceState.REGISTERED]
    assert [device.state, lathe.record.state] == expected
    assert told(world)["DeviceRevoked"] == (2 if issued == "revoke" else 0)
    reason = (await shown(world))["devices"][0]["reason"]
    kept = "is revoked" if issued == "revoke" else "is kept"
    assert reason == f"the order was cancelled; the device's certificate {kept}"


async def test_devices_of_a_cancelled_order_are_revoked_for_who_cancelled_it() -> None:
    """Their history and their events name her, and what she said: not the queue that their requests go by."""
    world = await waiting_order()
    await call_to_cancel(world, "revoke")
    await world_at_rest(world)
    record = world.record()
    assert record is not None
    entry = next(each for each in record.history if each.state is DeviceState.REVOKED)
    assert entry.actor is not None
    assert (entry.actor.kind, entry.actor.id, entry.comment) == (CallerKind.USER, "5b54", "wrong plant")
    assert last(world, "DeviceRevoked")["data"]["actor"]["id"] == "5b54"


async def test_a_device_on_hold_is_revoked_with_its_cancelled_order() -> None:
    """A hold can be undone, and a cancelled order is not wanted any more."""
    world = await waiting_order()
    world.ask(
        "hold", Queue.REVOCATION_REQUESTS, {"requestId": "h", "registrationId": DEVICE, "reason": "certificateHold"}
    )
    await world.deliver("hold")
    await call_to_cancel(world, "revoke")
    await world.drain()
    assert {each.revoked for each in world.records().values()} == {RevocationReason.CESSATION_OF_OPERATION}


async def waiting_order() -> World:
    """Give a world in which one device of an order is in service, and the other one has not booted."""
    world = await ordered(WAITING)
    await world.drain()
    return world


def revocations(world: World) -> dict[str, str]:
    """Give the device of each revocation that was accepted, by the id of its request."""
    rows = [row.read(RequestRecord) for row in world.storage.table("actrequests").rows.values()]
    return {each.request_id: (each.about or "").rpartition("/")[2] for each in rows}


async def test_nobody_can_take_the_ids_by_which_devices_of_a_cancelled_order_are_revoked() -> None:
    """Not even who does all the same elsewhere, at the same time, to see what they become."""
    elsewhere = await waiting_order()
    await call_to_cancel(elsewhere, "revoke")
    await elsewhere.drain()
    wanted = revocations(elsewhere)
    assert sorted(wanted.values()) == ["lathe", DEVICE]
    world = await waiting_order()
    for identifier, device in wanted.items():
        hold = {"requestId": identifier, "registrationId": device, "reason": "certificateHold"}
        world.ask(f"hold {device}", Queue.REVOCATION_REQUESTS, hold)
        await world.deliver(f"hold {device}")
    await call_to_cancel(world, "revoke")
    await world.drain()
    assert {each.revoked for each in world.records().values()} == {RevocationReason.CESSATION_OF_OPERATION}
    assert (await request(world, "cancel"))["state"] is RequestState.DONE


async def test_a_message_alone_cancels_an_order_but_has_no_device_revoked() -> None:
    """A right on the queue of orders is not one to revoke; the refusal says where to ask, and the order goes on."""
    world = await ordered(WAITING)
    await world.drain()
    ask(world, "cancel", issued="revoke")
    await world.deliver("cancel")
    followed = await request(world, "cancel")
    assert (followed["state"], followed["reasons"][0]["message"]) == (
        RequestState.REJECTED,
        "a message in device-orders can't have devices revoked: cancel the order with issued 'keep' and revoke its "
        "devices by revocation-requests, or send POST /api/device-orders/order-1/cancel, which needs the role "
        "Devices.Revoke",
    )
    assert (await shown(world))["state"] is OrderState.WAITING
    ask(world, "cancel", issued="keep")
    await world_at_rest(world)
    assert await states(world) == (OrderState.CANCELLED, ["issued", "registered"])
    assert told(world)["DeviceRevoked"] == 0


async def test_a_cancelled_order_does_not_wait_for_a_line_that_was_set_aside() -> None:
    """It was begun, and its message failed again and again; a quarter of an hour later it is given up, with its device."""
    world = await ordered(DEVICES[:1])
    world.conductor.down.add("vault")
    await world.deliver_visible()
    known = await world.orders.get_line("order-1", 0)
    assert known is not None
    assert known.record.begun_at is not None
    world.queues.queues[Queue.DEVICE_REGISTRATIONS].clear()
    ask(world, "cancel")
    await world.deliver("cancel")
    waits = await request(world, "cancel")
    assert waits["waitingFor"] == "devices of order 'order-1' are still at work"
    world.now += timedelta(minutes=16)
    await world.drain()
    assert await states(world) == (OrderState.CANCELLED, ["cancelled"])
    assert (await request(world, "cancel"))["state"] is RequestState.DONE
    record = world.record()
    assert record is None or record.state is DeviceState.FAILED


async def test_an_order_is_closed_without_the_first_boots() -> None:
    """It is complete; the device has its certificate, and can register whenever it boots."""
    world = await ordered(WAITING)
    await world.drain()
    ask(world, "close")
    await world_at_rest(world)
    assert await states(world) == (OrderState.COMPLETED, ["issued", "registered"])
    assert (await request(world, "close"))["state"] is RequestState.DONE
    assert last(world, "OrderCompleted")["data"]["progress"]["issued"] == 1
    reason = (await shown(world))["devices"][0]["reason"]
    assert reason.startswith("the order was closed before the first boot of this device")
    results = world.blobs.blobs[("results", "order-1.csv")].content.decode()
    device = world.record()
    assert device is not None
    assert device.certificate is not None
    assert device.certificate.thumbprint in results
    assert f"{device.certificate.not_after:%Y-%m-%dT%H:%M:%SZ}" in results
    await world.boot()
    assert (HUB, DEVICE) in world.hubs.identities


async def test_failed_lines_alone_are_tried_again() -> None:
    """One whose cause is mended is registered; one that is wrong as it was ordered stays as it is."""
    world = await ordered([*DEVICES, {"registrationId": "no id at all!"}])
    other = {"orderId": "order-0", "enrollmentGroup": GROUP, "devices": DEVICES[:1]}
    world.queues.queues[Queue.DEVICE_REGISTRATIONS], lines = [], world.queues.queues[Queue.DEVICE_REGISTRATIONS]
    world.ask("other", Queue.DEVICE_ORDERS, other)
    await world.deliver("other")
    await world.deliver_visible()
    world.queues.queues[Queue.DEVICE_REGISTRATIONS] += lines
    await world.drain()
    assert await states(world) == (OrderState.COMPLETED_WITH_FAILURES, ["failed", "registered", "failed"])
    first = last(world, "OrderCompleted")
    assert len(first["data"]["failed"]) == 2
    world.ask("delete", Queue.REVOCATION_REQUESTS, {"requestId": "d", "registrationId": DEVICE, "action": "delete"})
    await world.drain()
    ask(world, "retry")
    await world.deliver("retry")
    assert (await request(world, "retry"))["state"] is RequestState.DONE
    assert await states(world) == (OrderState.PROCESSING, ["ordered", "registered", "failed"])
    await world.drain()
    assert world.bugs == []
    assert await states(world) == (OrderState.COMPLETED_WITH_FAILURES, ["registered", "registered", "failed"])
    second = last(world, "OrderCompleted")
    assert first["id"] != second["id"]
    assert [each["registrationId"] for each in second["data"]["failed"]] == ["no id at all!"]


async def test_a_device_that_its_own_order_failed_with_is_tried_again() -> None:
    """DPS had no hub for it: it failed, was tried again in vain, which is told apart, and then registered."""
    world = await ordered(DEVICES[:1])
    world.registrar.refuses = True
    await world.drain()
    assert await states(world) == (OrderState.COMPLETED_WITH_FAILURES, ["failed"])
    ask(world, "retry")
    await world.drain()
    assert await states(world) == (OrderState.COMPLETED_WITH_FAILURES, ["failed"])
    assert told(world)["RequestRejected"] == 2
    world.registrar.refuses = False
    world.ask("again", Queue.DEVICE_ORDERS, {"requestId": "r-2", "orderId": "order-1", "action": "retry"})
    await world_at_rest(world)
    assert await states(world) == (OrderState.COMPLETED, ["registered"])


async def test_acts_that_an_order_does_not_allow_are_refused() -> None:
    """With the state that it is in; the order stays as it is, and no order of the id is made where there is none."""
    world = await ordered(DEVICES)
    await world_at_rest(world)
    for action, why in {
        "cancel": "order 'order-1' is completed; only an order that is under way can be cancelled; revoke its devices "
        "if they are not wanted any more",
        "retry": "order 'order-1' is completed; it has no failed line to try again",
    }.items():
        ask(world, action)
        await world.deliver(action)
        followed = await request(world, action)
        assert (followed["state"], followed["reasons"][0]["message"]) == (RequestState.REJECTED, why)
    body = {"requestId": "x", "orderId": "order-9", "action": "cancel"}
    world.ask("unknown", Queue.DEVICE_ORDERS, body)
    await world.deliver("unknown")
    followed = (await world.services.following.describe("x", Queue.DEVICE_ORDERS)).shown()
    assert followed["reasons"] == ({"field": "orderId", "message": "the order 'order-9' does not exist"},)
    assert await world.orders.get("order-9") is None
    assert (await states(world))[0] is OrderState.COMPLETED
