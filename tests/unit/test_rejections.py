"""What is refused is kept, and what must not be kept is not."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ServerDisconnectedError
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from shared import tracing
from shared.adapters.breakers import ServiceSilent
from shared.contracts.devices import RenewalRequest
from shared.contracts.messages import Queue, command
from shared.contracts.orders import DeviceOrder, DeviceRegistration
from shared.contracts.parsing import parse
from shared.domain.orders import LineState, OrderLine, OrderRecord, OrderState
from shared.domain.rejections import RejectionState
from shared.domain.requests import RequestState
from shared.domain.words import RegisterBy
from shared.errors import Conflict, NotFound, Rejected
from shared.ledger.orders import Orders
from shared.ledger.rejections import Filters
from shared.workflows.intake.following import FollowedRequests
from shared.workflows.intake.outbox import Outbox
from shared.workflows.intake.rejections import ReceivedMessage
from shared.workflows.intake.requests import submit
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeQueues, FakeTable, Killed
from tests.unit.rejecting import rejecting

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "MHcCAQEEIO3"
KEY = f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----\n"
CSR = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"
REMOVED = "[a private key was here, and is not kept]"


async def kept(body: bytes) -> str:
    """Record a message, and read it as an operator does."""
    table, queues = FakeTable(), FakeQueues()
    outbox: Any = Outbox(queues=queues, clock=lambda: NOW)
    orders = Orders(orders=FakeTable(), lines=FakeTable())
    subject = rejecting(table, orders, outbox, lambda: NOW)
    message = ReceivedMessage(queue=Queue.DEVICE_ORDERS, message_id="message-1", body=body, received=NOW)
    await subject.record(message, Rejected.because("no"))
    [item], _ = await subject.page(size=10, continuation=None)
    assert SECRET.encode() not in b"".join(str(row.values).encode() for row in table.rows.values())
    return str(item.body)


async def test_a_message_is_kept_byte_for_byte() -> None:
    """What a sender sent can be looked at and replayed as it was."""
    body = json.dumps({"orderId": "1", "devices": [{"registrationId": "a", "csr": CSR}]})
    assert await kept(body.encode()) == body


async def test_an_order_says_which_of_its_devices_waits_for_a_replay() -> None:
    """A line whose message was set aside stays open, and names the rejection and the trace of the cause."""
    orders, queues = Orders(orders=FakeTable(), lines=FakeTable()), FakeQueues()
    outbox: Any = Outbox(queues=queues, clock=lambda: NOW)
    line = OrderLine(
        order_id="1",
        line=0,
        state=LineState.ORDERED,
        requested_id="press",
        enrollment_group="line",
        register_by=RegisterBy.SERVICE,
        accepted_at=NOW,
    )
    await orders.insert_lines([line])
    body = command(
        Queue.DEVICE_REGISTRATIONS, DeviceRegistration(order_id="1", line=0), traceparent=None, at=NOW
    ).encode()
    message = ReceivedMessage(queue=Queue.DEVICE_REGISTRATIONS, message_id="message-1", body=body, received=NOW)
    with tracing.continued("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
        identifier = await rejecting(FakeTable(), orders, outbox, lambda: NOW).record_poison(message)
    known = await orders.get_line("1", 0)
    assert known is not None
    assert known.record.state is LineState.ORDERED
    assert known.record.reason == (
        f"set aside as rejection {identifier}: every delivery from device-registrations failed; the causes are in the log "
        "under traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01. Mend the cause, then replay it"
    )


async def test_every_open_line_of_a_message_says_that_it_waits() -> None:
    """Of a message of three lines one was done: the other two name the rejection."""
    orders, queues = Orders(orders=FakeTable(), lines=FakeTable()), FakeQueues()
    outbox: Any = Outbox(queues=queues, clock=lambda: NOW)
    lines = [
        OrderLine(
            order_id="1",
            line=index,
            state=LineState.REGISTERED if index == 1 else LineState.ORDERED,
            requested_id=f"press-{index}",
            enrollment_group="line",
            register_by=RegisterBy.SERVICE,
            accepted_at=NOW,
        )
        for index in range(4)
    ]
    await orders.insert_lines(lines)
    text = command(
        Queue.DEVICE_REGISTRATIONS, DeviceRegistration(order_id="1", line=0, lines=3), traceparent=None, at=NOW
    )
    message = ReceivedMessage(
        queue=Queue.DEVICE_REGISTRATIONS, message_id="message-1", body=text.encode(), received=NOW
    )
    identifier = await rejecting(FakeTable(), orders, outbox, lambda: NOW).record_poison(message)
    reasons = [
        (line.reason or "").startswith(f"set aside as rejection {identifier}: ") async for line in orders.lines("1")
    ]
    assert reasons == [True, False, True, False]


async def test_a_message_that_is_refused_again_is_told_as_it_was_recorded() -> None:
    """Its first delivery broke off after it was recorded; meanwhile the reason is another. One event says one thing."""
    queues, orders = FakeQueues(), Orders(orders=FakeTable(), lines=FakeTable())
    outbox: Any = Outbox(queues=queues, clock=lambda: NOW)
    subject = rejecting(FakeTable(), orders, outbox, lambda: NOW)
    message = ReceivedMessage(
        queue=Queue.RENEWAL_REQUESTS, message_id="message-1", body=b'{"requestId": "r1"}', received=NOW
    )
    first = await subject.record(message, Rejected.because("'press' is deleted"))
    assert await subject.record(message, Rejected.because("'press' is issued")) == first
    told = [body["data"]["reasons"] for _, body, _ in queues.sent]
    assert told == [[{"field": "", "message": "'press' is deleted"}]] * 2


@pytest.mark.parametrize("poison", [False, True])
async def test_an_order_that_was_refused_is_known_by_its_id(poison: bool) -> None:  # noqa: FBT001
    """Refused or set aside, its reasons are found under its orderId; an order that is under way is left alone."""
    orders, queues = Orders(orders=FakeTable(), lines=FakeTable()), FakeQueues()
    outbox: Any = Outbox(queues=queues, clock=lambda: NOW)
    subject = rejecting(FakeTable(), orders, outbox, lambda: NOW)
    under_way = OrderRecord(order_id="there", state=OrderState.ACCEPTED, accepted_at=NOW, fingerprint="f")
    await orders.insert(under_way)
    bodies: tuple[Any, ...] = ({"orderId": "1", "x": 1}, {"orderId": "there"}, {"orderId": "no/id"}, {"devices": []})
    for body in bodies:
        message = ReceivedMessage(
            queue=Queue.DEVICE_ORDERS, message_id=str(body), body=json.dumps({"data": body}).encode(), received=NOW
        )
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


SECRETS = {
    "password": "hunter2",
    "devicesUrl": "https://a.blob.core.windows.net/orders/l.csv?sv=1&sig=c2VjcmV0c2ln",
    "jwk": {"kty": "EC", "crv": "P-256", "d": "c2VjcmV0ZAc2VjcmV0ZAc2VjcmV0ZAc2VjcmV0ZAx"},
    "pkcs8": "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgc2VjcmV0",
    "key": "c2VjcmV0a2V5",
}


async def test_no_secret_of_a_refused_message_is_kept_or_told() -> None:
    """Neither the row nor the event has it, in the body or in a reason; ids that hold one are told with a mark."""
    table, queues = FakeTable(), FakeQueues()
    outbox: Any = Outbox(queues=queues, clock=lambda: NOW)
    subject = rejecting(table, Orders(orders=FakeTable(), lines=FakeTable()), outbox, lambda: NOW)
    body = json.dumps({"orderId": "1", "registrationId": KEY, **SECRETS})
    reasons = Rejected.because(f"it is {body!r}")
    await subject.record(
        ReceivedMessage(queue=Queue.DEVICE_ORDERS, message_id="m", body=body.encode(), received=NOW), reasons
    )
    told = f"{[row.values for row in table.rows.values()]} {queues.sent} {reasons}"
    for secret in (SECRET, "hunter2", "c2VjcmV0"):
        assert secret not in told
    assert queues.sent[0][1]["subject"] == REMOVED


class Kept:
    """A rejection that can be replayed, and what the queues got."""

    def __init__(self, table: FakeTable | None = None) -> None:
        self.table, self.queues, self.now = table or FakeTable(), FakeQueues(), NOW
        outbox: Any = Outbox(queues=self.queues, clock=lambda: self.now)
        self.subject = rejecting(self.table, Orders(orders=FakeTable(), lines=FakeTable()), outbox, lambda: self.now)

    async def record(self, body: bytes = b'{"orderId": "1"}') -> str:
        message = ReceivedMessage(queue=Queue.DEVICE_ORDERS, message_id="message-1", body=body, received=NOW)
        identifier = await self.subject.record(message, Rejected.because("no"))
        self.queues.sent.clear()
        return identifier

    async def ids(self, **filters: Any) -> list[str]:
        items, _ = await self.subject.page(Filters(**filters), size=10, continuation=None)
        return [item.id for item in items]


async def test_a_replay_is_done_once_and_shown() -> None:
    """What was replayed is no longer listed as open, and a second replay sends nothing."""
    kept = Kept()
    identifier = await kept.record()
    assert (await kept.ids(), await kept.ids(state=RejectionState.REPLAYED)) == ([identifier], [])
    first = await kept.subject.replay(identifier)
    kept.now += timedelta(hours=1)
    assert await kept.subject.replay(identifier) == first == await kept.subject.describe(identifier)
    assert (first.state, first.replayed_at) == ("replayed", NOW)
    assert kept.queues.sent == [(Queue.DEVICE_ORDERS, {"orderId": "1"}, None)]
    assert (await kept.ids(), await kept.ids(state=RejectionState.REPLAYED)) == ([], [identifier])
    assert await kept.ids(state=None) == [identifier]


async def test_of_two_replays_at_once_one_is_told_that_the_other_is_under_way() -> None:
    """Both have read the rejection as open; the later one sends nothing."""
    kept = Kept()
    identifier = await kept.record()

    class Late(FakeTable):
        async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
            if not kept.queues.sent:
                await kept.subject.replay(identifier)
            return await kept.table.replace(values, etag)

    late = Kept(Late(rows=kept.table.rows))
    with pytest.raises(Conflict, match=f"'{identifier}' is being replayed at this moment"):
        await late.subject.replay(identifier)
    assert (len(kept.queues.sent), late.queues.sent) == (1, [])


async def test_a_replayed_message_may_wait_as_long_as_a_new_one() -> None:
    """One that was set aside after days of waiting begins to count anew."""
    kept = Kept()
    event = {"specversion": "1.0", "id": "1", "source": "/erp", "type": "x", "data": {"orderId": "1"}}
    await kept.subject.replay(await kept.record(json.dumps({**event, "deliveryattempt": 1000}).encode()))
    assert kept.queues.sent == [(Queue.DEVICE_ORDERS, event, None)]


async def test_a_message_that_does_not_fit_its_queue_any_more_is_not_put_back() -> None:
    """It came without base64. It stays open, so that it can be closed, and the others are put back."""
    kept = Kept()
    identifier = await kept.record(b'{"orderId": "1"}'.ljust(50_000))
    refused = (
        f"the message of '{identifier}' has 50000 bytes, and at most 49152 fit a queue; send a shorter one instead"
    )
    with pytest.raises(Rejected) as error:
        await kept.subject.replay(identifier)
    assert str(error.value) == refused
    replayed = await kept.subject.replay_many(Filters(), per_minute=60)
    assert [(each.id, each.reason) for each in replayed.not_replayed] == [(identifier, refused)]
    assert kept.queues.sent == []
    assert (await kept.subject.close(identifier, "sent anew")).state == "closed"


def answered(status: int) -> HttpResponseError:
    answer: Any = SimpleNamespace(status_code=status, reason="because", headers={}, text=lambda: "")
    return HttpResponseError(f"the queue says {status}", response=answer)


@pytest.mark.parametrize(
    "error",
    [
        *map(answered, (400, 401, 403, 404, 409, 413)),
        ServiceRequestError("connection refused"),
        ServiceSilent("queue storage", calls=3, seconds=5),
        ClientAuthenticationError("the identity endpoint gives no token"),
    ],
    ids=str,
)
async def test_a_replay_that_the_queue_has_refused_is_open_still(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Nothing of it is on its way, so it can be closed."""
    kept = Kept()
    identifier = await kept.record()

    async def refused(*_: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(kept.queues, "send", refused)
    with pytest.raises(type(error)):
        await kept.subject.replay(identifier)
    assert (await kept.subject.describe(identifier)).state == "open"
    assert (await kept.subject.close(identifier, "sent anew")).state == "closed"


@pytest.mark.parametrize(
    "error",
    [
        *map(answered, (408, 429, 500, 503)),
        ServiceResponseError("no answer came"),
        ServiceRequestError("the connection was lost", error=ServerDisconnectedError()),
        ConnectionError("broken"),
    ],
    ids=str,
)
async def test_a_replay_that_may_have_been_sent_is_listed_and_sent_again_and_not_closed(error: Exception) -> None:
    """The queue did not answer: the message may be there, and carried out, so nobody can say that it is not."""
    kept = Kept()
    identifier = await kept.record()

    def down() -> None:
        raise error

    kept.queues.step = down
    with pytest.raises(type(error)):
        await kept.subject.replay(identifier)
    shown = await kept.subject.describe(identifier)
    assert (shown.state, shown.replayed_at, await kept.ids()) == ("replaying", None, [identifier])
    with pytest.raises(Conflict, match=f"'{identifier}' may be in its queue again, since nobody knows what became"):
        await kept.subject.close(identifier, "scrapped")

    def refused() -> None:
        raise answered(404)

    kept.queues.step = refused  # which says nothing of the call before
    with pytest.raises(HttpResponseError):
        await kept.subject.replay(identifier)
    assert (await kept.subject.describe(identifier)).state == "replaying"
    kept.queues.step = lambda: None
    assert (await kept.subject.replay(identifier)).state == "replayed"


async def test_a_replay_that_was_killed_is_taken_up_a_minute_later() -> None:
    """Until then another call is told that one is under way; the rejection stays listed."""
    kept = Kept()
    identifier = await kept.record()

    def killed() -> None:
        raise Killed

    kept.queues.step = killed
    with pytest.raises(Killed):
        await kept.subject.replay(identifier)
    kept.queues.step = lambda: None
    with pytest.raises(Conflict) as caught:
        await kept.subject.replay(identifier)
    assert str(caught.value) == (
        f"id: {identifier!r} is being replayed at this moment; look at it again in a minute, and replay it then if its "
        "state is not 'replayed'"
    )
    assert await kept.ids() == [identifier]
    kept.now += timedelta(minutes=1)
    assert (await kept.subject.replay(identifier)).state == "replayed"


async def test_what_is_not_whole_is_not_replayed() -> None:
    """A body too large for a row is cut, with the count of what is missing, and one that is not text is not sent."""
    kept = Kept()
    identifier = await kept.record(b'{"a": "' + b"x" * 65_536)
    assert (await kept.subject.describe(identifier)).bytes_left_out == 65_536 + 7 - 61_440
    with pytest.raises(Rejected) as cut:
        await kept.subject.replay(identifier)
    assert str(cut.value) == (
        f"the last 4103 bytes of the message of {identifier!r} are not kept; send it anew instead"
    )
    kept = Kept()
    identifier = await kept.record(b"\xff")
    with pytest.raises(Rejected, match="is not UTF-8: byte 0xFF at position 0, in line 1"):
        await kept.subject.replay(identifier)
    assert kept.queues.sent == []


async def test_an_order_line_loses_its_old_reason_when_its_message_is_replayed() -> None:
    """It does not wait for a replay any more."""
    kept = Kept()
    orders = kept.subject.orders
    line = OrderLine(order_id="1", line=0, state=LineState.ORDERED, requested_id="press", enrollment_group="line",
                     register_by=RegisterBy.SERVICE, accepted_at=NOW)  # fmt: skip
    await orders.insert_lines([line])
    text = command(Queue.DEVICE_REGISTRATIONS, DeviceRegistration(order_id="1", line=0), traceparent=None, at=NOW)
    identifier = await kept.subject.record_poison(
        ReceivedMessage(queue=Queue.DEVICE_REGISTRATIONS, message_id="message-1", body=text.encode(), received=NOW)
    )
    await kept.subject.replay(identifier)
    known = await orders.get_line("1", 0)
    assert known is not None
    assert known.record.reason is None


async def test_a_refusal_with_thousands_of_reasons_fits_its_row_and_its_event() -> None:
    """3,500 unknown fields, and a row and an event that Azure takes."""
    kept = Kept()
    body = {"orderId": "1", "enrollmentGroup": "g", "devices": [{}], **{f"f\u00fc{index}": 1 for index in range(3500)}}
    with pytest.raises(Rejected) as caught:
        parse(DeviceOrder, body)
    message = ReceivedMessage(
        queue=Queue.DEVICE_ORDERS, message_id="message-1", body=json.dumps(body).encode(), received=NOW
    )
    identifier = await kept.subject.record(message, caught.value)
    [row] = kept.table.rows.values()
    assert len(row.values["reasons"]) <= 16_384
    assert len(json.dumps(kept.queues.sent[-1][1])) <= 32_768
    assert (
        (await kept.subject.describe(identifier)).reasons[-1].message.endswith("mend these first, then send it again")
    )


async def test_what_failed_again_and_again_is_kept_with_the_cause_and_time_of_each_try() -> None:
    """The copy in the poison queue says nothing of that; what is noted goes when it is kept."""
    kept = Kept()
    tried = ReceivedMessage(queue=Queue.DEVICE_ORDERS, message_id="message-1", body=b'{"orderId": "1"}', received=NOW)
    for second in range(6):
        kept.now = NOW + timedelta(seconds=second)
        await kept.subject.note_failure(tried, KeyError(f"csr {second}"))
    copied = ReceivedMessage(queue=Queue.DEVICE_ORDERS, message_id="another id", body=tried.body, received=NOW)
    found = await kept.subject.describe(await kept.subject.record_poison(copied))
    assert found.attempts == 6
    assert [(each.at.second, each.cause) for each in found.failures] == [
        (second, f"KeyError: 'csr {second}'") for second in range(1, 6)
    ]
    again = ReceivedMessage(queue=Queue.DEVICE_ORDERS, message_id="a third id", body=tried.body, received=NOW)
    assert (await kept.subject.describe(await kept.subject.record_poison(again))).attempts is None


async def three(kept: Kept) -> list[str]:
    """Two refused renewals, an hour apart, and an order."""
    identifiers = []
    for hours, queue, reason in (
        (0, Queue.RENEWAL_REQUESTS, "the CSR is wrong"),
        (1, Queue.RENEWAL_REQUESTS, "'press' is deleted"),
        (2, Queue.DEVICE_ORDERS, "the CSR is wrong"),
    ):
        kept.now = NOW + timedelta(hours=hours)
        message = ReceivedMessage(
            queue=queue, message_id=f"message-{hours}", body=b'{"requestId": "r"}', received=kept.now
        )
        identifiers.append(await kept.subject.record(message, Rejected.because(reason)))
    kept.queues.sent.clear()
    return identifiers


async def test_rejections_are_found_by_queue_cause_and_time() -> None:
    kept = Kept()
    first, second, order = await three(kept)
    assert sorted(await kept.ids(queue="renewal-requests")) == sorted([first, second])
    assert sorted(await kept.ids(cause="csr")) == sorted([first, order])
    assert await kept.ids(since=NOW + timedelta(hours=1), until=NOW + timedelta(hours=1)) == [second]
    assert await kept.ids(kind="poison") == []


async def test_many_are_replayed_at_a_pace_and_what_can_not_be_is_told() -> None:
    """Thirty a minute: one every two seconds. What is damaged stays open, and is named."""
    kept = Kept()
    first, second, _ = await three(kept)
    damaged = ReceivedMessage(
        queue=Queue.RENEWAL_REQUESTS,
        message_id="big",
        body=b'{"requestId": "r", "csr": "' + b"x" * 70_000,
        received=NOW,
    )
    big = await kept.subject.record(damaged, Rejected.because("it is too large"))
    kept.queues.sent.clear()
    done = await kept.subject.replay_many(Filters(queue="renewal-requests"), per_minute=30)
    assert (done.replayed, done.is_more) == (2, False)
    assert [each.id for each in done.not_replayed] == [big]
    assert [delay for _, _, delay in kept.queues.sent] == [None, timedelta(seconds=2)]
    assert sorted(await kept.ids(state=RejectionState.REPLAYED)) == sorted([first, second])
    assert (await kept.subject.replay_many(Filters(queue="renewal-requests"), per_minute=30)).replayed == 0


async def test_a_closed_rejection_is_not_replayed_and_says_why() -> None:
    """Closing it again changes nothing; one that was replayed can't be closed."""
    kept = Kept()
    first, second, _ = await three(kept)
    closed = await kept.subject.close(first, "mended by hand")
    assert (closed.state, closed.comment, closed.closed_at) == ("closed", "mended by hand", kept.now)
    assert await kept.subject.close(first, "another word") == closed
    with pytest.raises(Conflict, match=f"'{first}' is closed: mended by hand"):
        await kept.subject.replay(first)
    assert first not in await kept.ids()
    await kept.subject.replay(second)
    with pytest.raises(Conflict, match=f"'{second}' is replayed; close an open one"):
        await kept.subject.close(second, "too late")


async def test_who_closes_once_more_ends_the_request_that_a_killed_worker_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would wait for an operator for ever, and the request of many that it is a part of with it."""
    kept = Kept()
    following = kept.subject.following
    request = RenewalRequest(request_id="r-1", registration_id="press")
    await submit(following.requests, kept.subject.outbox, Queue.RENEWAL_REQUESTS, request, lambda: kept.now)
    body = b'{"requestId": "r-1", "registrationId": "press"}'
    message = ReceivedMessage(queue=Queue.RENEWAL_REQUESTS, message_id="message-1", body=body, received=NOW)
    identifier = await kept.subject.record_poison(message)

    async def killed(*_of_it: Any) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(FollowedRequests, "closed", killed)
        with pytest.raises(Killed):
            await kept.subject.close(identifier, "scrapped")
    assert (await following.describe("r-1", None)).state is RequestState.WAITING
    closed = await kept.subject.close(identifier, "scrapped indeed")
    assert closed.comment == "scrapped"
    assert (await following.describe("r-1", None)).state is RequestState.REJECTED


async def test_a_rejection_that_is_not_there_is_said_to_not_exist() -> None:
    outbox: Any = Outbox(queues=FakeQueues(), clock=lambda: NOW)
    subject = rejecting(FakeTable(), Orders(orders=FakeTable(), lines=FakeTable()), outbox, lambda: NOW)
    for asked in (subject.describe("r-9"), subject.replay("r-9"), subject.close("r-9", "why")):
        with pytest.raises(NotFound) as refused:
            await asked
        assert str(refused.value) == "id: the rejection 'r-9' does not exist"
