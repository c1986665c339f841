"""Commands to the app's own queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared import tracing
from shared.contracts.events_orders import OrderAccepted
from shared.contracts.groups import EnrollmentGroupRequest
from shared.contracts.messages import Queue
from shared.contracts.orders import DeviceOrder
from shared.contracts.parsing import parse
from shared.errors import Rejected
from shared.telemetry.metrics import received
from shared.workflows.intake.outbox import Outbox
from tests.measured import Kept
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeQueues
from tests.world.services import Topic

if TYPE_CHECKING:
    from shared.contracts.base import Contract

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TEXT = "ü" * 2000
TWIN = {"properties": {"desired": {f"p{index}": TEXT for index in range(10)}}}
GROUP = parse(EnrollmentGroupRequest, {"requestId": "r", "enrollmentGroup": "g", "action": "put", "initialTwin": TWIN})
ORDER = parse(DeviceOrder, {"orderId": "o", "enrollmentGroup": "g", "devices": [TEXT] * 5})


@pytest.mark.parametrize(
    ("queue", "body", "way_out"),
    [
        (Queue.ENROLLMENT_GROUP_REQUESTS, GROUP, ""),
        (Queue.DEVICE_ORDERS, ORDER, ": put the devices into a blob and name it in devicesUrl"),
    ],
)
async def test_what_does_not_fit_a_queue_is_refused(queue: Queue, body: Contract, way_out: str) -> None:
    """A body within the limit may be a message beyond it, since JSON can spell a character in six bytes."""
    queues = FakeQueues()
    with pytest.raises(Rejected) as refused:
        await Outbox(queues=queues, clock=lambda: NOW).send(queue, body)
    assert str(refused.value).startswith("as a message it has ")
    assert str(refused.value).endswith(f" bytes; at most 49152 fit a queue{way_out}")
    assert queues.sent == []


async def test_the_trace_goes_along_with_commands_and_events() -> None:
    """Storage queues carry no trace context, so it is in the message: what it leads to is seen as one story."""
    queues = FakeQueues()
    outbox = Outbox(queues=queues, clock=lambda: NOW)
    told = OrderAccepted(order_id="o", enrollment_group="g", device_count=2)
    with tracing.continued(TRACE):
        await outbox.publish(told, subject="o", correlation_id="o")
        await outbox.send(
            Queue.DEVICE_ORDERS, parse(DeviceOrder, {"orderId": "o", "enrollmentGroup": "g", "devices": ["d"]})
        )
    assert [body["traceparent"].split("-")[1] for _, body, _ in queues.sent] == [TRACE.split("-")[1]] * 2


async def test_events_go_to_the_topic_where_there_is_one_and_commands_stay_in_queues() -> None:
    queues, topic = FakeQueues(), Topic()
    outbox = Outbox(queues=queues, clock=lambda: NOW, topic=topic)
    told = OrderAccepted(order_id="o", enrollment_group="g", device_count=2)
    with received(kept := Kept()):
        await outbox.publish(told, subject="o", correlation_id="o")
        await outbox.send(
            Queue.DEVICE_ORDERS, parse(DeviceOrder, {"orderId": "o", "enrollmentGroup": "g", "devices": ["d"]})
        )
    assert [(each["messaging.system"], each["messaging.destination.name"]) for _, _, each in kept.values] == [
        ("eventgrid", "provisioning-events"),
        ("azure_storage_queue", "device-orders"),
    ]
    data = {"orderId": "o", "enrollmentGroup": "g", "deviceCount": 2, "actor": None}
    assert [(sent["type"], sent["data"]) for sent in topic.events] == [("DeviceProvisioning.OrderAccepted", data)]
    assert [queue for queue, _, _ in queues.sent] == [Queue.DEVICE_ORDERS]


async def test_without_a_topic_events_go_into_their_queue() -> None:
    queues = FakeQueues()
    outbox = Outbox(queues=queues, clock=lambda: NOW)
    told = OrderAccepted(order_id="o", enrollment_group="g", device_count=2)
    await outbox.publish(told, subject="o", correlation_id="o")
    assert [queue for queue, _, _ in queues.sent] == [Queue.PROVISIONING_EVENTS]
