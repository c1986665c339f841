"""Feedback on cloud-to-device messages: what became of them, read over AMQP."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from emulator.platform.context import utc_now
from emulator.platform.store import Store
from emulator.protocols.amqp.composites import Accepted, Detach, Flow, Modified, Rejected, Released
from emulator.protocols.amqp.messages import Message
from emulator.services.iot_hub import feedback_link
from emulator.services.iot_hub.feedback import BATCH_LIMIT, Ending, FeedbackQueue, is_wanted
from emulator.services.iot_hub.state import IotHub
from emulator.tests.amqp_clients import FEEDBACK, RawClient, message_to, trusted_client
from emulator.tests.dps_clients import DpsService
from emulator.tests.iot_hub_clients import device_certificate, device_client
from emulator.tests.running import RunningEmulator, SetClock, emulator_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def running(tmp_path: Path, clock: SetClock) -> Iterator[RunningEmulator]:
    """An emulator whose clock stands still, with the device "d"."""
    with emulator_in_thread(tmp_path, clock=clock) as emulator:
        DpsService(emulator).hub("PUT", "/devices/d", {"deviceId": "d"}).raise_for_status()
        yield emulator


def acknowledged(device_id: str, message_id: str, ack: str = "full", **properties: Any) -> Message:
    """A message whose sender wants to know."""
    message = message_to(device_id, message_id=message_id, **properties)
    return Message(body=b"x", properties=message.properties, application_properties={"iothub-ack": ack})


def records(client: RawClient) -> tuple[int, list[dict[str, Any]]]:
    """The next batch, with its delivery id."""
    number, message = client.receive()
    assert message.properties.content_type == "application/vnd.microsoft.iothub.feedback.json"
    found: list[dict[str, Any]] = json.loads(message.body)
    return number, found


def endings(client: RawClient) -> tuple[int, list[tuple[str, str]]]:
    number, found = records(client)
    return number, [(each["originalMessageId"], each["statusCode"]) for each in found]


def test_the_sender_learns_that_microsofts_device_sdk_has_its_message(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """The device gets the wish as ``ack``; the sender gets the record with all that Microsoft documents."""
    device_id = f"device-{uuid.uuid4().hex[:8]}"
    certificate = device_certificate(tmp_path, device_id)
    thumbprint = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": certificate.sha1}}
    body = {"deviceId": device_id, "authentication": thumbprint}
    identity = DpsService(emulator).hub("PUT", f"/devices/{device_id}", body).json()
    received: list[Any] = []
    with trusted_client(emulator) as client, device_client(emulator.endpoints, device_id, certificate) as device:
        device.connect()
        device.on_message_received = received.append
        sender = client.sender()
        client.receiver(FEEDBACK)
        assert client.outcome(sender, acknowledged(device_id, "m-1")) is None
        number, message = client.receive()
        client.settle(number, Accepted())
        client.close()
    [record] = json.loads(message.body)
    assert record.pop("enqueuedTimeUtc").endswith("Z")
    assert record == {
        "originalMessageId": "m-1",
        "statusCode": "Success",
        "description": "Success",
        "deviceId": device_id,
        "deviceGenerationId": identity["generationId"],
    }
    assert message.properties.user_id == emulator.endpoints["iotHubs"][0]["hostName"].encode()
    enqueued = message.annotations["iothub-enqueuedtime"] / 1000
    assert abs(enqueued - utc_now().timestamp()) < 60
    assert [each.ack for each in received] == ["full"]


def test_every_bad_end_is_told(running: RunningEmulator, clock: SetClock) -> None:
    """Expired, delivered too often, purged; who asked for the good end only hears none of it."""
    hub = IotHub(running.context, running.endpoints["iotHubs"][0]["hostName"])
    soon = int(clock.now.timestamp() * 1000) + 60_000

    async def deliver_in_vain() -> None:
        for _ in range(11):
            hub.due_messages("d", skip=())

    with trusted_client(running) as client:
        sender = client.sender()
        for ack in ("none", "positive", "negative", "full"):
            assert client.outcome(sender, acknowledged("d", f"{ack}-1", ack, absolute_expiry_time=soon)) is None
        clock.pass_(60)
        DpsService(running).hub("GET", "/devices/d").raise_for_status()
        assert client.outcome(sender, acknowledged("d", "m-2")) is None
        running.run(deliver_in_vain())
        assert client.outcome(sender, acknowledged("d", "m-3")) is None
        DpsService(running).hub("DELETE", "/devices/d/commands").raise_for_status()
        client.receiver(FEEDBACK)
        assert endings(client)[1] == [
            ("negative-1", "Expired"),
            ("full-1", "Expired"),
            ("m-2", "DeliveryCountExceeded"),
            ("m-3", "Purged"),
        ]


def test_a_reader_sees_messages_expire(
    running: RunningEmulator, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to look at the device for that."""
    monkeypatch.setattr(feedback_link, "LOOK_SECONDS", 0.01)
    with trusted_client(running) as client:
        assert client.outcome(client.sender(), acknowledged("d", "m-1", "negative")) is None
        client.receiver(FEEDBACK)
        clock.pass_(3600)
        assert endings(client)[1] == [("m-1", "Expired")]


def purged(running: RunningEmulator, client: RawClient, sender: int, message_id: str) -> None:
    """Send a message, and make feedback of it."""
    assert client.outcome(sender, acknowledged("d", message_id)) is None
    DpsService(running).hub("DELETE", "/devices/d/commands").raise_for_status()


def test_what_is_not_read_comes_again(running: RunningEmulator) -> None:
    """Released and modified batches come once more, to whoever listens; accepted and rejected ones do not."""
    with trusted_client(running) as client:
        sender = client.sender()
        purged(running, client, sender, "m-1")
        handle = client.receiver(FEEDBACK)
        for outcome in (Released(), Modified()):
            number, found = endings(client)
            assert found == [("m-1", "Purged")]
            client.settle(number, outcome)
        assert endings(client)[1] == [("m-1", "Purged")]
        with trusted_client(running) as other:
            other.receiver(FEEDBACK)
            client.send(Detach(handle=handle, closed=True))
            number, found = endings(other)
            assert found == [("m-1", "Purged")]
            other.settle(number, Rejected())
            client.next(Detach)
            purged(running, client, sender, "m-2")
            number, found = endings(other)
            assert found == [("m-2", "Purged")]
            other.settle(number, Accepted())
            other.close()
    with trusted_client(running) as client:
        handle = client.receiver(FEEDBACK, 0)
        client.allow(handle, 5, drain=True)
        flow = client.next(Flow)
        assert (flow.link_credit, flow.delivery_count) == (0, 5)  # there was nothing to drain


def test_feedback_waits_for_credit_and_fits_the_frames(running: RunningEmulator) -> None:
    """A client that takes small frames gets the batch in several, and each credit is for one batch."""
    with trusted_client(running, max_frame_size=512) as client:
        sender = client.sender()
        for number in range(5):
            purged(running, client, sender, f"m-{number}")
        handle = client.receiver(FEEDBACK, 0)
        client.allow(handle, 1)
        number, found = endings(client)
        assert len(found) == 5
        client.settle(number, Accepted())
        purged(running, client, sender, "m-5")
        client.allow(handle, 0, echo=True, delivery_count=1)
        assert client.next(Flow).link_credit == 0
        client.allow(handle, 1, delivery_count=1)
        assert endings(client)[1] == [("m-5", "Purged")]


# --- the queue by itself ---


@pytest.mark.parametrize(
    ("ack", "good", "bad"),
    [("none", False, False), ("positive", True, False), ("negative", False, True), ("full", True, True)],
)
def test_a_message_says_what_it_wants_to_know(ack: str, *, good: bool, bad: bool) -> None:
    """Microsoft's table of ``Ack``."""
    worse: tuple[Ending, ...] = ("Expired", "DeliveryCountExceeded", "Purged")
    assert is_wanted(ack, "Success") is good
    assert [is_wanted(ack, ending) for ending in worse] == [bad] * 3


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[FeedbackQueue]:
    store = Store(tmp_path / "store")
    yield FeedbackQueue(store, "hub")
    store.close()


def test_batches_are_limited_and_records_do_not_last(queue: FeedbackQueue) -> None:
    """Sixty-four at a time, for an hour."""
    for number in range(BATCH_LIMIT + 1):
        queue.add({"originalMessageId": str(number)}, NOON.isoformat())
    first, second = queue.take(NOON), queue.take(NOON)
    assert first is not None
    assert second is not None
    assert [record["originalMessageId"] for record in second.records] == [str(BATCH_LIMIT)]
    assert len(first.records) == BATCH_LIMIT
    assert queue.take(NOON) is None
    queue.done(second)
    queue.give_back(first)
    assert queue.take(NOON + timedelta(hours=1)) is None


def test_a_record_comes_ten_times_at_most(queue: FeedbackQueue) -> None:
    """A reader that always gives back is not asked for ever."""
    queue.add({}, NOON.isoformat())
    for _ in range(10):
        batch = queue.take(NOON)
        assert batch is not None
        queue.give_back(batch)
    assert queue.take(NOON) is None
