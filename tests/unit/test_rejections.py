"""What is refused is kept, and what must not be kept is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared import tracing
from shared.contracts import DeviceRegistration, DeviceState, Queue, RegisterBy, command
from shared.errors import Rejected
from shared.ledger.orders import OrderLine, OrderRecord, Orders, OrderState
from shared.ledger.rejections import Rejections
from shared.workflows.events import Outbox
from shared.workflows.rejections import ReceivedMessage, RejectedMessages
from tests.unit.fakes import FakeQueues, FakeTable
from tests.unit.pki.hierarchy import NOW

SECRET = "MHcCAQEEIO3"
KEY = f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----\n"
CSR = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"
REMOVED = "[a private key was here, and is not kept]"


async def kept(body: bytes) -> str:
    """Record a message, and read it as an operator does."""
    table, queues = FakeTable(), FakeQueues()
    outbox: Any = Outbox(queues, lambda: NOW)  # type: ignore[arg-type]
    orders = Orders(FakeTable(), FakeTable())
    subject = RejectedMessages(Rejections(table), orders, outbox, lambda: NOW)
    message = ReceivedMessage(Queue.DEVICE_ORDERS, "message-1", body, NOW)
    await subject.record(message, Rejected.because("no"))
    [item], _ = await subject.page(size=10, continuation=None)
    assert SECRET.encode() not in b"".join(str(row.values).encode() for row in table.rows.values())
    return str(item["body"])


async def test_a_message_is_kept_byte_for_byte() -> None:
    """What a sender sent can be looked at and replayed as it was."""
    body = json.dumps({"orderId": "1", "devices": [{"registrationId": "a", "csr": CSR}]})
    assert await kept(body.encode()) == body


async def test_an_order_says_which_of_its_devices_waits_for_a_replay() -> None:
    """A line whose message was set aside stays open, and names the rejection and the trace of the cause."""
    orders, queues = Orders(FakeTable(), FakeTable()), FakeQueues()
    outbox: Any = Outbox(queues, lambda: NOW)  # type: ignore[arg-type]
    line = OrderLine(
        order_id="1",
        line=0,
        state=DeviceState.ORDERED,
        requested_id="press",
        enrollment_group="line",
        register_by=RegisterBy.SERVICE,
        accepted_at=NOW,
    )
    await orders.insert_lines([line])
    body = command(
        Queue.DEVICE_REGISTRATIONS, DeviceRegistration(order_id="1", line=0), traceparent=None, at=NOW
    ).encode()
    message = ReceivedMessage(Queue.DEVICE_REGISTRATIONS, "message-1", body, NOW)
    with tracing.continued("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
        identifier = await RejectedMessages(Rejections(FakeTable()), orders, outbox, lambda: NOW).record_poison(message)
    known = await orders.get_line("1", 0)
    assert known is not None
    assert known.record.state is DeviceState.ORDERED
    assert known.record.reason == (
        f"set aside as rejection {identifier}: every delivery from device-registrations failed; the causes are in the log "
        "under traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01. Mend the cause, then replay it"
    )


@pytest.mark.parametrize("poison", [False, True])
async def test_an_order_that_was_refused_is_known_by_its_id(poison: bool) -> None:  # noqa: FBT001
    """Refused or set aside, its reasons are found under its orderId; an order that is under way is left alone."""
    orders, queues = Orders(FakeTable(), FakeTable()), FakeQueues()
    outbox: Any = Outbox(queues, lambda: NOW)  # type: ignore[arg-type]
    subject = RejectedMessages(Rejections(FakeTable()), orders, outbox, lambda: NOW)
    under_way = OrderRecord(order_id="there", state=OrderState.ACCEPTED, accepted_at=NOW, fingerprint="f")
    await orders.insert(under_way)
    bodies: tuple[Any, ...] = ({"orderId": "1", "x": 1}, {"orderId": "there"}, {"orderId": "no/id"}, {"devices": []})
    for body in bodies:
        message = ReceivedMessage(Queue.DEVICE_ORDERS, str(body), json.dumps({"data": body}).encode(), NOW)
        await (subject.record_poison(message) if poison else subject.record(message, Rejected.because("no", field="x")))
    known = await orders.get("1")
    assert known is not None
    assert known.record.state is OrderState.REJECTED
    assert known.record.reasons is not None
    [reason] = known.record.reasons
    assert reason == {"field": "x", "message": "no"} or (poison and "every delivery" in reason["message"])
    there = await orders.get("there")
    assert there is not None
    assert there.record == under_way
    assert await orders.get("no/id") is None


@pytest.mark.parametrize(
    ("leaked", "left"),
    [
        (KEY, REMOVED + "\n"),
        (KEY.replace("EC ", "ENCRYPTED "), REMOVED + "\n"),
        (CSR + KEY, CSR + REMOVED + "\n"),
        (KEY[:-40], REMOVED),
    ],
    ids=["alone", "encrypted", "beside a CSR", "cut off"],
)
async def test_private_keys_are_not_kept(leaked: str, left: str) -> None:
    """A key that was sent by mistake is cut out, in JSON as in anything else, and the rest stays what it was."""
    body = json.dumps({"orderId": "1", "devices": [{"csr": leaked}, {"csr": CSR}], "key": KEY})
    assert [each["csr"] for each in json.loads(await kept(body.encode()))["devices"]] == [left, CSR]
    assert await kept(leaked.encode()) == left
