"""A service that is down costs no message: it waits, says why, and goes on by itself."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest
import requests
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.iot.device.exceptions import ClientError, ConnectionFailedError, CredentialError, ServiceError
from msrest.exceptions import ClientRequestError, HttpOperationError

from shared.adapters.breakers import ServiceSilent
from shared.adapters.sdk_errors import is_outage, role_missing, unusable_key
from shared.contracts.messages import Queue, attempts_of, command, read_message
from shared.contracts.orders import DeviceRegistration
from shared.domain.orders import LineState, OrderLine
from shared.domain.words import RegisterBy
from shared.errors import Deferred, Rejected
from shared.ledger.in_hand import InHandRows
from shared.ledger.orders import Orders
from shared.ports.queues import TakenMessage
from shared.ports.registrar import AssignmentFailed
from shared.workflows.intake.in_hand import InHand
from shared.workflows.intake.outbox import Outbox
from shared.workflows.intake.rejections import RejectedMessages
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeQueues, FakeTable
from tests.unit.rejecting import rejecting
from tests.world.conductor import Conductor
from tests.world.storage import Queues, Table
from triggers import observed, outcomes, poison, time_limits
from triggers.observed import sweep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Answer:
    """A response as far as an error looks at it."""

    status_code: int
    reason: str = "because"
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def http(status: int) -> HttpResponseError:
    answer: Any = Answer(status)
    return HttpResponseError("the service says no", response=answer)


def hub(status: int) -> HttpOperationError:
    error = HttpOperationError.__new__(HttpOperationError)
    error.response = Answer(status)
    return error


ANSWERED: Any = Answer(200)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((http(status), True) for status in (401, 403, 408, 429, 500, 502, 503, 504)),
        *((http(status), False) for status in (400, 404, 409, 412)),
        *((hub(status), True) for status in (401, 403, 500, 503)),
        (hub(404), False),
        (ResourceNotFoundError("a table is not there"), False),
        (ServiceRequestError("nothing was sent"), True),
        (ServiceResponseError("no answer came"), True),
        (ClientAuthenticationError("the identity endpoint does not answer"), True),
        (IncompleteReadError("the answer broke off", response=ANSWERED), True),
        (requests.ConnectionError("the hub can't be reached"), True),
        (ClientRequestError("the hub can't be reached"), True),
        (ConnectionFailedError("DPS can't be reached"), True),
        (caused(ClientError("Unexpected failure"), ServiceError("status code of 500")), True),
        (caused(ClientError("Unexpected failure"), ValueError("a bug")), False),
        (caused(ConnectionFailedError("DPS can't be reached"), ValueError("of the library's own")), True),
        (AssignmentFailed("DPS found no hub for 'press'"), True),
        (CredentialError("a damaged certificate"), False),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (ssl.SSLEOFError(), True),
        (FileNotFoundError(), False),
        (ExceptionGroup("at once", [http(503), ServiceRequestError("x")]), True),
        (ExceptionGroup("at once", [http(503), KeyError("x")]), False),
        (RuntimeError("a bug"), False),
        (KeyError("a bug"), False),
    ],
    ids=repr,
)
def test_an_outage_is_told_from_a_bug(error: Exception, expected: bool) -> None:  # noqa: FBT001 - a row of the table
    """The network, a service's own failure and a missing role are not the fault of a message; anything else may be."""
    assert is_outage(error) is expected


def test_a_missing_role_is_told() -> None:
    """It takes an operator, so the log says so, even of one call among several."""
    assert role_missing(ExceptionGroup("at once", [http(503), http(403)]))
    assert not role_missing(http(503))


def refused_by_vault(inner: str, said: str) -> HttpResponseError:
    """Make what Key Vault answers: 403 Forbidden, whether a role is missing or the key is at fault."""
    body = json.dumps({"error": {"code": "Forbidden", "message": said, "innererror": {"code": inner}}})
    answer: Any = SimpleNamespace(
        status_code=403,
        reason="Forbidden",
        headers={},
        text=lambda: body,
        request=SimpleNamespace(url="https://v.vault.azure.net/keys/line-1-ca1/0123/sign?api-version=7.5"),
    )
    return HttpResponseError(response=answer)


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ("KeyDisabled", "the key 'line-1-ca1' of Key Vault is disabled"),
        ("KeyNotYetValid", "the key 'line-1-ca1' of Key Vault is not valid yet"),
        ("KeyExpired", "the key 'line-1-ca1' of Key Vault has expired"),
        ("KeyOfAnotherKind", "the key 'line-1-ca1' of Key Vault can't be used (KeyOfAnotherKind)"),
        ("ForbiddenByRbac", None),
        ("AccessDenied", None),
        ("", None),
    ],
)
def test_a_key_that_cannot_be_used_is_told_from_a_missing_role(inner: str, said: str | None) -> None:
    """Key Vault answers both with 403 and Forbidden; either is waited for."""
    error = refused_by_vault(inner, "Operation sign is not allowed on a disabled key.")
    assert (unusable_key(error), role_missing(error), is_outage(error)) == (said, said is None, True)
    assert unusable_key(ExceptionGroup("at once", [http(403), error])) == said


@dataclass
class PoisonQueues(FakeQueues):
    """Queues whose poison can be swept."""

    in_poison: dict[str, list[TakenMessage]] = field(default_factory=dict)

    async def take(self, queue: str, *, lease: timedelta) -> AsyncIterator[TakenMessage]:
        assert lease >= timedelta(minutes=1)
        for message in list(self.in_poison.get(queue, [])):
            yield message

    async def delete(self, queue: str, message_id: str, receipt: str) -> None:
        [found] = [each for each in self.in_poison[queue] if each.message_id == message_id]
        assert found.receipt == receipt
        self.in_poison[queue].remove(found)


@dataclass
class BrokenTable(FakeTable):
    """A table that fails while ``fault`` is set."""

    fault: Exception | None = None

    async def insert(self, values: Any) -> str | None:
        if self.fault is not None:
            raise self.fault
        return await super().insert(values)


class Host:
    """A worker on fakes, with one order line that waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queues, self.table, self.orders = (
            PoisonQueues(),
            BrokenTable(),
            Orders(orders=FakeTable(), lines=FakeTable()),
        )
        outbox: Any = Outbox(queues=self.queues, clock=lambda: NOW)
        self.rejected_messages = rejecting(self.table, self.orders, outbox, lambda: NOW)
        self.following, self.clock = self.rejected_messages.following, lambda: NOW
        self.clients = self
        self.settings: Any = None  # names senders, and nobody but the app sends these messages
        hand = Table("inhand", Conductor())
        self.in_hand = InHand(rows=InHandRows(hand), queues=Queues(), clock=self.clock)
        self.fault: Exception | None = None
        self.asked: list[datetime] = []
        for module in (outcomes, poison):
            monkeypatch.setattr(module, "services", lambda: self)

    async def carry_out(self, _services: Any, _body: Any, asked_at: datetime) -> None:
        self.asked.append(asked_at)
        if self.fault is not None:
            raise self.fault

    async def deliver(self, text: str, queue: Queue = Queue.DEVICE_REGISTRATIONS, at: datetime = NOW) -> None:
        await outcomes.settle(queue, Delivered(text, at), self.carry_out)

    async def reason(self) -> str | None:
        known = await self.orders.get_line("1", 0)
        assert known is not None
        return known.record.reason

    def last(self) -> tuple[str, timedelta]:
        queue, body, delay = self.queues.sent[-1]
        assert queue == Queue.DEVICE_REGISTRATIONS
        assert delay is not None
        return json.dumps(body), delay

    async def listed(self) -> list[dict[str, Any]]:
        items, _ = await self.rejected_messages.page(size=10, continuation=None)
        return [each.shown() for each in items]


class Delivered(func.QueueMessage):
    """A message as the host hands it over."""

    def __init__(self, text: str, at: datetime) -> None:
        super().__init__(id="message-1", body=text)
        self._at = at

    @property
    def insertion_time(self) -> datetime:
        return self._at


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(monkeypatch)
    line = OrderLine(
        order_id="1", line=0, state=LineState.ORDERED, requested_id="press", enrollment_group="line",
        register_by=RegisterBy.SERVICE, accepted_at=NOW,
    )  # fmt: skip
    await made.orders.insert_lines([line])
    return made


MESSAGE = command(Queue.DEVICE_REGISTRATIONS, DeviceRegistration(order_id="1", line=0), at=NOW, traceparent=TRACE)


async def test_a_message_waits_for_a_service_that_is_down_and_goes_on(host: Host) -> None:
    """Each wait is longer, up to a minute and after an hour to five; no delivery is used up; the line says why."""
    host.fault = http(503)
    text, delays = MESSAGE, []
    for _ in range(62):
        await host.deliver(text)
        text, delay = host.last()
        delays.append(delay.total_seconds())
        assert read_message(text) == read_message(MESSAGE)
    assert delays == [10, 20, 40, *[60] * 57, 300, 300]
    assert sum(delays[:60]) > 3400
    assert await host.reason() == "waits, and is tried again: a service fails: the service says no"
    host.fault = None
    await host.deliver(text)
    assert await host.reason() is None
    assert await host.listed() == []
    assert len(host.queues.sent) == 62


@pytest.mark.parametrize(
    "failure",
    [ServiceRequestError("connection refused"), ServiceSilent("queue storage", calls=3, seconds=5)],
    ids=["refused", "silent"],
)
async def test_a_message_whose_queue_cannot_be_reached_is_held_until_it_can_be(
    host: Host, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """It can't be put back, and raised it would be poison after five deliveries, in less than three minutes."""
    send, paused = host.queues.send, list[float]()

    async def refuse(*_args: Any, **_options: Any) -> None:
        raise failure

    async def pause(seconds: float) -> None:
        paused.append(seconds)
        if sum(paused) >= 200:
            monkeypatch.setattr(host.queues, "send", send)

    monkeypatch.setattr(host.queues, "send", refuse)
    monkeypatch.setattr("asyncio.sleep", pause)
    host.fault = http(503)
    await host.deliver(MESSAGE)
    assert (sum(paused), len(host.queues.sent)) == (200, 1)


@pytest.mark.parametrize(
    ("failure", "tries"),
    [(ServiceRequestError("connection refused"), 48), (ServiceResponseError("no answer"), 1), (KeyError("x"), 1)],
    ids=["refused for long", "sent, and not answered", "a bug"],
)
async def test_a_message_that_can_not_be_put_back_is_the_hosts(
    host: Host, monkeypatch: pytest.MonkeyPatch, failure: Exception, tries: int
) -> None:
    """What was sent may be there already: sent again, there would be two, and each of them would be two again."""
    tried = list[str]()

    async def refuse(queue: str, *_args: Any, **_options: Any) -> None:
        tried.append(queue)
        raise failure

    async def pause(_seconds: float) -> None:
        pass

    monkeypatch.setattr(host.queues, "send", refuse)
    monkeypatch.setattr("asyncio.sleep", pause)
    host.fault = http(503)
    with pytest.raises(type(failure)):
        await host.deliver(MESSAGE)
    assert tried == [Queue.DEVICE_REGISTRATIONS] * tries


async def test_a_missing_role_is_waited_for_and_cried_out(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """An operator is told what is missing, and grants it; the message goes on then."""
    host.fault = http(403)
    await host.deliver(MESSAGE)
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert await host.reason() == ("waits, and is tried again: a role is missing at a service: the service says no")


async def test_a_disabled_key_is_waited_for_and_named(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody has to look for a role that is not missing."""
    host.fault = refused_by_vault("KeyDisabled", "Operation sign is not allowed on a disabled key.")
    await host.deliver(MESSAGE)
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert await host.reason() == (
        "waits, and is tried again: the key 'line-1-ca1' of Key Vault is disabled: (Forbidden) Operation sign is not "
        "allowed on a disabled key. Code: Forbidden Message: Operation sign is not allowed on a disabled key. Inner "
        'error: { "code": "KeyDisabled" }'
    )


async def test_a_bug_is_the_hosts_to_retry(host: Host) -> None:
    """What a service that is there can't mend is raised, so that it becomes poison and is seen."""
    host.fault = KeyError("x")
    with pytest.raises(KeyError):
        await host.deliver(MESSAGE)
    assert host.queues.sent == []


async def test_what_waits_for_days_is_set_aside(host: Host) -> None:
    """A fault that only looks like an outage does not go round for ever."""
    host.fault = http(500)
    with pytest.raises(HttpResponseError):
        await host.deliver(json.dumps({**json.loads(MESSAGE), "deliveryattempt": 1000}))


async def test_a_wait_that_is_no_outage_begins_the_count_anew(host: Host) -> None:
    """A device that takes weeks to boot is not held to have failed for the outages of those weeks."""
    host.fault = http(503)
    await host.deliver(MESSAGE)
    host.fault = Deferred("not yet", retry_after=timedelta(seconds=7))
    await host.deliver(host.last()[0])
    text, delay = host.last()
    assert (attempts_of(text), delay) == (0, timedelta(seconds=7))
    assert await host.reason() is None


async def test_the_reason_that_the_registration_gives_stays(host: Host) -> None:
    """Only what was said of the outage is taken back when it is over."""
    host.fault = http(503)
    await host.deliver(MESSAGE)
    known = await host.orders.get_line("1", 0)
    assert known is not None
    own = Rejected.because("the device has not registered yet").documented()
    await host.orders.replace_line(known, known.record.changed(reasons=own))
    host.fault = Deferred("not yet", retry_after=timedelta(seconds=7))
    await host.deliver(host.last()[0])
    assert await host.reason() == "the device has not registered yet"


@pytest.mark.parametrize("broken", [http(503), KeyError("a bug")], ids=["outage", "bug"])
async def test_a_reason_that_can_not_be_entered_does_not_lose_the_message(
    host: Host, monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    """The message waits already. In an outage the reason is entered at the next try; a bug is the host's to see."""

    async def fail(*_: object) -> None:
        raise broken

    monkeypatch.setattr(host, "rejected_messages", SimpleNamespace(show_waiting=fail))
    host.fault = http(503)
    if isinstance(broken, KeyError):
        with pytest.raises(KeyError):
            await host.deliver(MESSAGE)
    else:
        await host.deliver(MESSAGE)
    assert host.last()[1] == timedelta(seconds=10)


async def test_a_bare_message_that_waits_stays_as_old_as_it_was(host: Host) -> None:
    """What was asked for last is what stays, so a request that waits must not get younger."""
    bare = json.dumps({"orderId": "1", "line": 0})
    host.fault = Deferred("not yet", retry_after=timedelta(seconds=7))
    await host.deliver(bare)
    await host.deliver(host.last()[0], at=NOW + timedelta(hours=2))
    assert host.asked == [NOW, NOW]


async def test_a_message_without_room_for_a_count_waits_a_minute(host: Host) -> None:
    """One that fills its queue is put back as it is."""
    host.fault = http(503)
    full = json.dumps({"orderId": "1", "x": "y" * (48 * 1024 - 25)})
    await host.deliver(full, Queue.DEVICE_REGISTRATIONS)
    assert host.last() == (full, timedelta(minutes=1))


async def test_a_refusal_that_can_not_be_recorded_is_refused_again_later(host: Host) -> None:
    """The tables are down: the message waits, and is refused with its own reasons when they are back."""
    host.fault, host.table.fault = Rejected.because("no"), ServiceRequestError("the tables are down")
    await host.deliver(MESSAGE)
    text, _ = host.last()
    host.table.fault = None
    await host.deliver(text)
    [item] = await host.listed()
    assert (item["kind"], [reason["message"] for reason in item["reasons"]]) == ("rejected", ["no"])


@pytest.mark.parametrize(
    ("error", "status", "retry_after"), [(http(503), 503, "30"), (http(403), 503, "30"), (KeyError("a bug"), 500, None)]
)
async def test_a_caller_is_told_whether_to_come_again(
    host: Host, error: Exception, status: int, retry_after: str | None
) -> None:
    """In an outage the answer is 503 with Retry-After, after a bug 500; either names the trace, and not the cause."""

    async def fail(_services: Any, _request: Any) -> func.HttpResponse:
        raise error

    del host
    request = func.HttpRequest(method="GET", url="/api/devices", body=b"", headers={"traceparent": TRACE})
    answer = await outcomes.answer(request, fail)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry_after)
    assert TRACE in answer.get_body().decode()
    assert str(error) not in answer.get_body().decode()


# --- what takes too long ---


async def never_ends(*_: Any) -> Any:
    await asyncio.Event().wait()


async def test_work_on_a_message_that_takes_too_long_is_broken_off_and_waits(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the platform would end the worker, with all that it has in hand."""
    monkeypatch.setattr(time_limits, "MESSAGE", 0)
    host.carry_out = never_ends  # type: ignore[method-assign, assignment]
    await host.deliver(MESSAGE)
    text, delay = host.last()
    assert (read_message(text), delay) == (read_message(MESSAGE), timedelta(seconds=10))
    assert await host.reason() == (
        "waits, and is tried again: a service fails: its work did not come to its end within 0 s and was broken off"
    )


async def test_an_answer_that_takes_too_long_says_to_come_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it any more after 230 seconds."""
    del host
    monkeypatch.setattr(time_limits, "ANSWER", 0)
    answer = await outcomes.answer(func.HttpRequest(method="GET", url="/api/devices", body=b""), never_ends)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "30")


async def test_a_timer_s_work_that_takes_too_long_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which one; what it left is done when it runs next."""
    monkeypatch.setattr(time_limits, "SWEEP", 0)
    monkeypatch.setattr(observed, "services", SimpleNamespace)
    with pytest.raises(TimeoutError, match=r"^never_ends did not come to its end within 0 s and was broken off$"):
        await sweep(never_ends)()


async def test_a_service_that_takes_too_long_is_not_taken_for_the_work() -> None:
    """Its own words say what was slow."""
    with pytest.raises(TimeoutError, match=r"^the hub was silent$"):
        async with time_limits.within(60, "its work"):
            raise TimeoutError("the hub was silent")


def test_all_of_it_ends_before_the_platform_ends_the_worker() -> None:
    """The work, and putting its message back into a queue that can't be reached, take less than functionTimeout."""
    hours, minutes, seconds = json.loads(Path("host.json").read_text())["functionTimeout"].split(":")
    longest = timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds)).total_seconds()
    assert longest > time_limits.MESSAGE + time_limits.PUTTING_BACK + time_limits.FOLLOWING
    assert longest > time_limits.SWEEP
    assert time_limits.ANSWER + time_limits.FOLLOWING < 230


# --- the poison queues ---


def lying(body: str, name: str = "a") -> TakenMessage:
    return TakenMessage(name, body.encode(), NOW, "receipt")


async def test_nothing_stays_in_a_poison_queue(host: Host) -> None:
    """The host leaves there what its function could not take; the sweep keeps it when the tables are back."""
    name = Queue.DEVICE_REGISTRATIONS.poison
    host.queues.in_poison = {name: [lying(MESSAGE, "a"), lying("no JSON", "b"), lying("", "c")]}
    host.table.fault = ServiceRequestError("the tables are down")
    assert await poison.sweep() == 0
    assert len(host.queues.in_poison[name]) == 3
    host.table.fault = None
    assert await poison.sweep() == 3
    assert host.queues.in_poison[name] == []
    assert sorted((item["kind"], item["body"]) for item in await host.listed()) == [
        ("poison", MESSAGE),
        ("rejected", ""),
        ("rejected", "no JSON"),
    ]
    assert str(await host.reason()).startswith("set aside as rejection ")


async def test_a_poison_message_that_can_not_be_kept_does_not_stop_the_others(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays for the next sweep, and the log says why."""
    queue = Queue.REVOCATION_REQUESTS
    host.queues.in_poison = {queue.poison: [lying('{"a": 1}', "a"), lying('{"a": 2}', "b")]}
    record = RejectedMessages.record_poison

    async def broken(self: RejectedMessages, message: Any) -> str:
        if message.message_id == "a":
            raise KeyError("a bug")
        return await record(self, message)

    monkeypatch.setattr(RejectedMessages, "record_poison", broken)
    assert await poison.sweep() == 1
    assert [message.message_id for message in host.queues.in_poison[queue.poison]] == ["a"]
