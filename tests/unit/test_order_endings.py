"""What becomes of the lines and the devices of an order that is cancelled: the order's own, and nobody else's."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.acting import acting
from shared.contracts.devices import revocation_request
from shared.contracts.messages import Queue
from shared.domain.callers import Actor, CallerKind
from shared.domain.orders import Ending, LineState, OrderLine, OrderRecord, OrderState
from shared.domain.words import DeviceState, IssuedDevices, RegisterBy, RevocationReason
from shared.workflows.devices.order_endings import OrderEndings
from tests.unit.devices import DeviceScene

if TYPE_CHECKING:
    from typing import Any

    from shared.ledger.table import Versioned

HOLD = RevocationReason.CERTIFICATE_HOLD


def subject(scene: DeviceScene) -> OrderEndings:
    return OrderEndings(
        orders=scene.orders,
        requests=scene.requests,
        devices=scene.devices,
        failures=scene.failures,
        outbox=scene.outbox,
        clock=scene.clock,
    )


async def cancelled(*devices: str, **fields: Any) -> tuple[DeviceScene, Versioned[OrderRecord]]:
    """Give an order of devices in their hubs that is cancelled, and whose devices are to be revoked."""
    scene = await DeviceScene().set_up()
    lines = [
        OrderLine(
            order_id="order",
            line=number,
            state=LineState.ORDERED,
            requested_id=name,
            registration_id=name,
            enrollment_group="line",
            register_by=RegisterBy.SERVICE,
            accepted_at=scene.now,
            **fields,
        )
        for number, name in enumerate(devices)
    ]
    record = OrderRecord(
        order_id="order",
        fingerprint="f",
        state=OrderState.PROCESSING,
        enrollment_group="line",
        device_count=len(lines),
        accepted_at=scene.now,
        ending=Ending.CANCEL,
        ended_by="cancel-it",
        issued=IssuedDevices.REVOKE,
    )
    await scene.orders.insert(record)
    await scene.orders.insert_lines(lines)
    known = await scene.orders.get("order")
    assert known is not None
    return scene, known


def registered(line: OrderLine) -> OrderLine:
    return line.changed(state=LineState.ISSUED).changed(state=LineState.REGISTERED)


async def in_hubs(scene: DeviceScene, *devices: str) -> None:
    """Have devices of the order in their hubs, and their lines say so."""
    for number, name in enumerate(devices):
        await scene.order(f"order-of-{name}", name)
        known = await scene.known(name)
        await scene.devices.replace(known, known.record.changed(order_id="order"))
        line = await scene.orders.get_line("order", number)
        assert line is not None
        await scene.orders.change_lines([line], registered)
    scene.queues.sent.clear()


def revoked(scene: DeviceScene) -> list[str]:
    """Give the devices that are asked to be revoked."""
    return sorted(
        body["data"]["registrationId"] for queue, body, _ in scene.queues.sent if queue == Queue.REVOCATION_REQUESTS
    )


async def test_the_devices_of_a_cancelled_order_are_revoked_and_no_others() -> None:
    """One that another order has by now goes on; one that is out of service for good has nothing left to revoke."""
    scene, known = await cancelled("press", "moved", "held", "deleted", "waiting")
    await in_hubs(scene, "press", "moved", "held", "deleted")
    moved = await scene.known("moved")
    await scene.devices.replace(moved, moved.record.changed(order_id="another"))
    await scene.revoke(HOLD, registration_id="held")
    await scene.delete("deleted")
    scene.queues.sent.clear()
    after = await subject(scene).revoke(known)
    assert revoked(scene) == ["held", "press"]
    assert after.record.revoked == 5
    await subject(scene).revoke(after)
    assert revoked(scene) == ["held", "press"], "it goes on where it was"


async def test_a_device_whose_row_is_not_there_holds_up_none_of_the_others() -> None:
    scene, known = await cancelled("press", "lost")
    await in_hubs(scene, "press", "lost")
    rows = scene.rows.rows
    del rows[next(each for each in rows if each[1] == "d:lost")]
    await subject(scene).revoke(known)
    assert revoked(scene) == ["press"]


async def test_a_cancellation_that_is_not_kept_any_more_is_carried_on_and_revokes_each_device_once() -> None:
    """Its request was forgotten: whoever goes on asks for nobody in particular."""
    scene, known = await cancelled("press")
    await in_hubs(scene, "press")
    with acting(Actor(kind=CallerKind.TIMER, id="sweep")):
        await subject(scene).revoke(known)
    [body] = [body["data"] for queue, body, _ in scene.queues.sent if queue == Queue.REVOCATION_REQUESTS]
    request = await scene.requests.find(Queue.REVOCATION_REQUESTS, body["requestId"])
    assert request is not None
    assert request.record.actor is None
    await scene.revocations.carry_out(revocation_request(body))
    assert await scene.state() is DeviceState.REVOKED
    await subject(scene).revoke(known)
    assert revoked(scene) == ["press"]


async def test_a_line_that_was_left_lying_is_given_up_unless_its_device_came_into_its_hub() -> None:
    """Somebody was at work on it after all, and writes what became of it."""
    scene, known = await cancelled("press", "drill")
    for number, name in enumerate(("press", "drill")):
        line = await scene.orders.get_line("order", number)
        assert line is not None
        await scene.orders.change_lines([line], lambda each: each.changed(begun_at=scene.now))
        if name == "press":
            await scene.order("order-of-press", "press")
            device = await scene.known("press")
            await scene.devices.replace(device, device.record.changed(order_id="order"))
    scene.now += timedelta(hours=1)
    await subject(scene).follow(known)
    states = [each.state async for each in scene.orders.lines("order", start=0)]
    assert states == [LineState.ORDERED, LineState.CANCELLED]
    assert await scene.state("press") is DeviceState.REGISTERED
