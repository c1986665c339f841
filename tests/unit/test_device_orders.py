"""Orders: whatever is lost, repeated or changed on their way, each comes to its end and says how it stands."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.answers_devices import OrderResultPage
from shared.contracts.messages import Queue, read_message
from shared.contracts.orders import DeviceOrder, OrderWatch
from shared.contracts.parsing import parse
from shared.domain.orders import LineState, OrderLine, OrderState
from shared.errors import Conflict, Deferred, Rejected
from shared.ledger.orders import Orders
from shared.ports.blobs import StoredBlob
from shared.threads import ThreadPool
from shared.workflows.devices import order_answers, order_blobs, order_dispatch, order_lines
from shared.workflows.devices.order_answers import OrderAnswers
from shared.workflows.devices.order_blobs import OrderBlobs
from shared.workflows.devices.order_dispatch import OrderDispatch
from shared.workflows.devices.order_endings import OrderEndings
from shared.workflows.devices.order_progress import OrderProgressEvents
from shared.workflows.devices.order_results import OrderResults
from shared.workflows.devices.orders import DeviceOrders
from shared.workflows.intake.outbox import Outbox
from tests.unit.fakes import FakeBlobs, FakeQueues, FakeTable, Killed, Trap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACCOUNT = "http://127.0.0.1:10000/account"
LIST = {"orderId": "o", "enrollmentGroup": "g", "devicesUrl": f"{ACCOUNT}/orders/list.csv"}


@dataclass
class TableWithLostAnswers(FakeTable):
    """Forgets to tell of one write that it took place."""

    lose: int | None = None
    told: int = 0

    async def insert(self, values: Mapping[str, Any]) -> str | None:
        return self._tell(await super().insert(values))

    async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
        return self._tell(await super().replace(values, etag))

    def _tell(self, etag: str | None) -> str | None:
        self.told += 1
        return None if self.told - 1 == self.lose else etag


class TableOfAzure(FakeTable):
    """Takes of a transaction what Azure Tables does."""

    async def insert_together(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        assert 0 < len(rows) <= 100
        assert len({row["PartitionKey"] for row in rows}) == 1
        assert len(json.dumps(rows, default=str)) <= 4 * 1024 * 1024
        for row in rows:
            assert all(len(value) <= 32_768 for value in row.values() if isinstance(value, str))
        return await super().insert_together(rows)


class FakeGroups:
    """Takes devices into every group."""

    async def get(self, _group: str) -> None:
        return


@dataclass
class FakeFailures:
    """Remembers which lines were announced as failed."""

    failed: list[OrderLine] = field(default_factory=list)

    async def announce(self, line: OrderLine) -> None:
        self.failed.append(line)


@dataclass
class World:
    """The workflow with its surroundings, and a queue whose messages are delivered by hand."""

    now: datetime = START
    rows: TableWithLostAnswers = field(default_factory=TableWithLostAnswers)
    lines: FakeTable = field(default_factory=TableOfAzure)
    blobs: FakeBlobs = field(default_factory=FakeBlobs)
    queues: FakeQueues = field(default_factory=FakeQueues)
    failures: FakeFailures = field(default_factory=FakeFailures)
    threads: ThreadPool = field(default_factory=lambda: ThreadPool("lists", 2))

    def __post_init__(self) -> None:
        anything: Any = self
        queues: Any = self.queues
        blobs: Any = self.blobs
        groups: Any = FakeGroups()
        failures: Any = self.failures

        def clock() -> datetime:
            return self.now

        self.orders = Orders(orders=self.rows, lines=self.lines)
        outbox = Outbox(queues=queues, clock=clock)
        self.lists = OrderBlobs(blobs=blobs, settings=anything, threads=self.threads)
        dispatch = OrderDispatch(
            orders=self.orders, lists=self.lists, failures=failures, outbox=outbox, clock=clock, threads=self.threads
        )
        endings = OrderEndings(
            orders=self.orders, requests=anything, devices=anything, failures=failures, outbox=outbox, clock=clock
        )
        self.subject = DeviceOrders(
            orders=self.orders,
            groups=groups,
            lists=self.lists,
            dispatch=dispatch,
            endings=endings,
            results=OrderResults(orders=self.orders, blobs=blobs, settings=anything),
            progress=OrderProgressEvents(orders=self.orders, outbox=outbox),
            outbox=outbox,
            clock=clock,
        )
        self.answers = OrderAnswers(orders=self.orders)

    order_lists_url = ACCOUNT

    def upload(self, content: str, etag: str = "v1") -> None:
        self.blobs.blobs["orders", "list.csv"] = StoredBlob(content.encode(), {}, etag)

    async def post(self, **order: Any) -> None:
        await self.subject.advance(parse(DeviceOrder, order))

    def standing(self) -> list[dict[str, Any]]:
        """Take the messages that see to orders out of their queue."""
        taken = [body for queue, body, _ in self.queues.sent if queue == Queue.DEVICE_ORDERS]
        self.queues.sent = [each for each in self.queues.sent if each[0] != Queue.DEVICE_ORDERS]
        return taken

    async def deliver(self, message: dict[str, Any]) -> None:
        body = read_message(json.dumps(message)).data
        if "watch" in body:
            await self.subject.watch(parse(OrderWatch, body))
        else:
            await self.subject.advance(parse(DeviceOrder, body))

    async def deliver_all(self) -> int:
        """Deliver the messages that stand in the queue, and give how many there were."""
        messages = self.standing()
        for message in messages:
            await self.deliver(message)
        return len(messages)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [
            body
            for queue, body, _ in self.queues.sent
            if queue == Queue.PROVISIONING_EVENTS and body["type"] == f"DeviceProvisioning.{kind}"
        ]

    def on_their_way(self) -> list[int]:
        """Give the lines for which there is a message, in order."""
        sent = [body["data"] for queue, body, _ in self.queues.sent if queue == "device-registrations"]
        return sorted(each["line"] + further for each in sent for further in range(each["lines"]))

    async def finish_lines(self, order_id: str = "o") -> None:
        """Let every device be registered whose message was sent."""
        for index in set(self.on_their_way()):
            known = await self.orders.get_line(order_id, index)
            assert known is not None
            if known.record.is_open:
                await self.orders.replace_line(known, known.record.changed(state=LineState.REGISTERED))

    async def state(self) -> OrderState:
        known = await self.orders.get("o")
        assert known is not None
        return known.record.state


@pytest.fixture
async def world() -> AsyncIterator[World]:
    there = World()
    yield there
    there.threads.close()


def csv_of(count: int) -> str:
    return "registrationId\n" + "".join(f"d{index}\n" for index in range(count))


def inline(count: int = 1) -> dict[str, Any]:
    devices = [{"registrationId": f"d{index}"} for index in range(count)]
    return {"orderId": "o", "enrollmentGroup": "g", "devices": devices}


@pytest.mark.parametrize("form", ["list", "inline"])
async def test_an_order_comes_to_its_end(world: World, form: str) -> None:
    """Accepted, dispatched, watched by one message and completed, with an event at either end."""
    world.upload(csv_of(250))
    await world.post(**(LIST if form == "list" else inline(250)))
    if form == "list":
        assert await world.deliver_all() == 1
    assert world.on_their_way() == list(range(250))
    assert await world.deliver_all() == 1
    assert (await described(world))["state"] == "processing"
    await world.finish_lines()
    assert await world.deliver_all() == 1
    assert world.standing() == []
    assert [each["data"]["deviceCount"] for each in world.events("OrderAccepted")] == [250]
    [completed] = world.events("OrderCompleted")
    assert completed["data"] == {
        "actor": None,
        "orderId": "o",
        "enrollmentGroup": "g",
        "state": "completed",
        "progress": {"total": 250, "ordered": 0, "issued": 0, "registered": 250, "failed": 0, "cancelled": 0},
        "failed": [],
        "failedNotListed": 0,
        "results": f"{ACCOUNT}/results/o.csv",
        "resultsJson": f"{ACCOUNT}/results/o.json",
    }
    rows = world.blobs.blobs["results", "o.csv"].content.decode().split("\r\n")
    assert rows[0] == "registrationId,state,deviceId,assignedHub,serialNumber,thumbprint,expiresAt,reason,place"
    assert rows[-2] == f"d249,registered,,,,,,,{'line 251' if form == 'list' else 'devices[249]'}"
    assert len(rows) == 252
    results = json.loads(world.blobs.blobs["results", "o.json"].content)
    OrderResultPage.model_validate(results)
    assert [len(results["items"]), results["state"], results["items"][249]["registrationId"]] == [
        250,
        "completed",
        "d249",
    ]
    assert (await described(world))["state"] == "completed"


async def described(world: World, **wanted: Any) -> dict[str, Any]:
    return (await world.answers.describe("o", **wanted)).shown()


async def finish(world: World, *lines: int) -> None:
    """Let the devices of some lines be registered."""
    for index in lines:
        known = await world.orders.get_line("o", index)
        assert known is not None
        await world.orders.replace_line(known, known.record.changed(state=LineState.REGISTERED))


async def test_an_order_tells_its_progress_after_so_many_lines() -> None:
    """Once for each step, however often it is looked at; the end is told as the end."""
    world = World()
    await world.post(**inline(10), progressEvents={"every": 3})
    told = []
    for lines in ((0, 1), (2,), (), (3, 4, 5, 6, 7, 8), (9,)):
        await finish(world, *lines)
        await world.deliver_all()
        told.append([each["data"]["finished"] for each in world.events("OrderProgressed")])
    assert told == [[], [3], [3], [3, 9], [3, 9]]
    assert world.events("OrderProgressed")[1]["id"] == "OrderProgressed/o/o/9"
    assert world.events("OrderProgressed")[1]["data"] == {
        "actor": None,
        "orderId": "o",
        "enrollmentGroup": "g",
        "state": "processing",
        "finished": 9,
        "progress": {"total": 10, "ordered": 1, "issued": 0, "registered": 9, "failed": 0, "cancelled": 0},
    }
    assert await world.state() is OrderState.COMPLETED
    world.threads.close()


async def test_an_order_that_does_not_ask_tells_no_progress(world: World) -> None:
    """Its begin and its end are enough."""
    await world.post(**inline(10))
    await finish(world, *range(9))
    await world.deliver_all()
    assert world.events("OrderProgressed") == []


@pytest.mark.parametrize("every", [0, -1, 1_000_001, "10", 1.5, None])
def test_progress_is_told_after_one_line_or_more(every: Any) -> None:
    """What is not a number of lines is refused by its field."""
    with pytest.raises(Rejected) as refused:
        parse(DeviceOrder, {**inline(), "progressEvents": {"every": every}})
    assert [reason.field for reason in refused.value.reasons] == ["progressEvents.every"]


def test_an_order_without_a_field_that_came_later_is_the_same_order() -> None:
    """One that was accepted before an upgrade may be posted again after it; with the field it is another one."""
    plain = parse(DeviceOrder, inline())
    assert plain.fingerprint == "938996ab8478ae3ce12d3d908ff8e8ca457a14c9d13747a648338008498dcd35"
    assert parse(DeviceOrder, {**inline(), "progressEvents": {"every": 1}}).fingerprint != plain.fingerprint


async def test_progress_is_told_as_it_was_written_down_wherever_a_worker_is_killed() -> None:
    """After each write: an event that comes twice says one thing, though more lines are done by then."""
    killed_at, trap = 0, Trap()
    while trap.steps >= killed_at:
        killed_at += 1
        world, trap = World(), Trap(after=killed_at)
        await world.post(**inline(6), progressEvents={"every": 2})
        [watch] = world.standing()
        world.rows.step = world.queues.step = trap.step
        done = 0
        for _ in range(10):
            await finish(world, *range(done, min(done + 2, 6)))
            done += 2
            with suppress(Killed):
                await world.deliver(watch)
            standing = world.standing()
            watch = standing[-1] if standing else watch
        assert await world.state() is OrderState.COMPLETED, f"killed at step {killed_at}"
        said: dict[str, Any] = {}
        for event in world.events("OrderProgressed"):
            assert said.setdefault(event["id"], event["data"]) == event["data"], f"killed at step {killed_at}"
        world.threads.close()
    assert killed_at > 8, "it was killed nowhere"


async def test_one_message_stands_for_twenty_lines(world: World) -> None:
    """Each begins and ends with a line that is on its way; lines that are refused need no message."""
    wrong = {0, 4, *range(20, 40), 43, 44}
    devices = [{"registrationId": "?" if index in wrong else f"d{index}"} for index in range(45)]
    await world.post(orderId="o", enrollmentGroup="g", devices=devices)
    sent = [body["data"] for queue, body, _ in world.queues.sent if queue == "device-registrations"]
    assert [(each["line"], each["lines"]) for each in sent] == [(1, 19), (40, 3)]
    assert sorted(line.line for line in world.failures.failed) == sorted(wrong)


@pytest.mark.parametrize("form", ["list", "inline"])
async def test_one_message_watches_an_order_however_often_it_is_posted(world: World, form: str) -> None:
    """A hundred posts, before it is dispatched and after it: one message stands, and none more comes of them."""
    world.upload(csv_of(3))
    for _ in range(100):
        await world.post(**(LIST if form == "list" else inline(3)))
    assert len(world.standing()) == 1
    for _ in range(2):
        world.queues.sent.clear()
        assert await world.subject.revive() == 0
        for _ in range(100):
            await world.post(**(LIST if form == "list" else inline(3)))
        assert world.standing() == []


async def test_of_several_watching_messages_one_goes_on(world: World) -> None:
    """Posts that came at once, each before the others were written down: the last one stays, the others end."""
    await world.post(**inline())
    known = await world.orders.get("o")
    assert known is not None
    for _ in range(9):
        world.now += timedelta(milliseconds=1)
        await world.subject._hand_over(known, timedelta(seconds=1))  # noqa: SLF001 - what a post does that read too early
    assert await world.deliver_all() == 10
    assert await world.deliver_all() == 1
    assert await world.deliver_all() == 1


async def test_a_watch_that_was_lost_is_taken_up_again(world: World) -> None:
    """Overdue by more than a quarter of an hour, by the next post or by the timer; the lost one, replayed, is the same."""
    await world.post(**inline())
    [lost] = world.standing()
    world.now += timedelta(minutes=15)
    await world.post(**inline())
    assert world.standing() == [], "it may still come"
    world.now += timedelta(minutes=2)
    await world.post(**inline())
    assert len(world.standing()) == 1
    world.now += timedelta(minutes=20)
    assert await world.subject.revive() == 1
    [revived] = world.standing()
    await world.deliver(lost)
    assert world.standing() == [], "another one watches"
    await world.finish_lines()
    await world.deliver(revived)
    assert await world.state() is OrderState.COMPLETED
    assert await world.subject.revive() == 0


@pytest.mark.parametrize("form", ["list", "inline"])
async def test_what_is_under_way_is_sent_again_where_its_messages_are_gone(world: World, form: str) -> None:
    """Of the lines those that are not done, also what waits for a first boot; then the order completes."""
    world.upload(csv_of(150))
    await world.post(**(LIST if form == "list" else inline(150)))
    await world.deliver_all()
    for index, state in ((0, LineState.REGISTERED), (1, LineState.ISSUED), (25, LineState.FAILED)):
        known = await world.orders.get_line("o", index)
        assert known is not None
        await world.orders.replace_line(known, known.record.changed(state=state))
    world.queues.sent.clear()
    assert await world.subject.send_again() == 1
    assert {*range(150)} - {*world.on_their_way()} == {0}, (
        "a message names what lies between the lines that it is about"
    )
    await world.finish_lines()
    await world.deliver_all()
    assert await world.state() is OrderState.COMPLETED_WITH_FAILURES
    world.queues.sent.clear()
    assert (await world.subject.send_again(), world.queues.sent) == (0, [])


@pytest.mark.parametrize("form", ["list", "inline"])
@pytest.mark.parametrize("lost", range(7))
async def test_an_order_completes_although_an_answer_is_lost(form: str, lost: int) -> None:
    """Whichever write of its row seems not to have taken place: the row says that it did, and the order goes on."""
    world = World(rows=TableWithLostAnswers(lose=lost))
    world.upload(csv_of(150))
    await world.post(**(LIST if form == "list" else inline(150)))
    for _ in range(10):
        if not await world.deliver_all():
            break
        await world.finish_lines()
    assert await world.state() is OrderState.COMPLETED
    assert world.rows.told > lost
    world.threads.close()


@pytest.mark.parametrize("form", ["list", "inline"])
async def test_an_order_completes_wherever_its_worker_is_killed(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every write and every message: delivered again, what was begun is finished, and no line is left out."""
    monkeypatch.setattr(order_dispatch, "PARTITION_LINES", 2)
    monkeypatch.setattr(order_lines, "PARTITION_LINES", 2)
    order, killed_at, trap = LIST if form == "list" else inline(5), 0, Trap()
    while trap.steps >= killed_at:
        killed_at += 1
        world, trap = World(), Trap(after=killed_at)
        world.rows.step = world.lines.step = world.queues.step = trap.step
        world.upload(csv_of(5))
        standing = [order]
        for _ in range(10):
            message = standing.pop()
            try:
                await world.deliver(message)
                await world.finish_lines()
            except* Killed:
                standing.append(message)
            standing = [*world.standing(), *standing]
            if not standing:
                break
        assert not standing, f"killed at step {killed_at}"
        assert await world.state() is OrderState.COMPLETED
        assert set(world.on_their_way()) == set(range(5))
        assert len(world.lines.rows) == 5
        assert {each["id"] for each in world.events("OrderCompleted")} == {"OrderCompleted/o/o"}
        assert await listed(world) == [("o", "completed")], f"killed at step {killed_at}"
        world.threads.close()
    assert killed_at > 20


async def test_a_list_that_changes_before_it_is_read_ends_its_order(world: World) -> None:
    """What was ordered can't be known any more: the order says so, tells it, and its id is free for another try."""
    world.upload(csv_of(3))
    await world.post(**LIST)
    world.upload(csv_of(4), etag="v2")
    assert await world.deliver_all() == 1
    reasons = (
        {
            "field": "devicesUrl",
            "message": "'list.csv' was changed or deleted since the order came; order what is missing again, with a "
            "list that stays as it is",
        },
    )
    shown = await described(world)
    assert (shown["state"], shown["reasons"], shown["devices"]) == ("rejected", reasons, [])
    [told] = world.events("RequestRejected")
    assert (told["subject"], told["data"]["reasons"]) == ("o", list(reasons))
    assert world.standing() == []
    assert await world.subject.revive() == 0
    await world.post(**LIST)
    await world.deliver_all()
    assert world.on_their_way() == [0, 1, 2, 3]
    assert "reasons" not in await described(world)


async def test_a_list_that_changes_while_it_is_read_leaves_what_was_taken_from_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The devices on their way are carried out, and the order says what is missing."""
    monkeypatch.setattr(order_dispatch, "_SLICE", timedelta())  # one partition at a time
    world.upload(csv_of(350))
    await world.post(**LIST)
    assert await world.deliver_all() == 1
    assert await world.deliver_all() == 1
    assert world.on_their_way() == list(range(200))
    del world.blobs.blobs["orders", "list.csv"]
    assert await world.deliver_all() == 1
    await world.finish_lines()
    assert await world.deliver_all() == 1
    shown = await described(world)
    assert shown["state"] == "completed"
    expected = {"total": 200, "ordered": 0, "issued": 0, "registered": 200, "failed": 0, "cancelled": 0}
    assert shown["progress"] == expected
    assert shown["reasons"][0]["message"].startswith("'list.csv' was changed or deleted since the order came; ")
    assert len(world.events("RequestRejected")) == 1


async def test_a_device_given_twice_is_found_across_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second line is refused, by the line of the file that was first, though another message read that one."""
    monkeypatch.setattr(order_dispatch, "_SLICE", timedelta())
    world.upload("\n" + csv_of(150) + "D7\n")
    await world.post(**LIST)
    for _ in range(2):
        await world.deliver_all()
    [failed] = world.failures.failed
    assert failed.reason == "line 153.registrationId: 'd7' is ordered by line 10 already; give each device once"
    assert world.on_their_way() == list(range(150))


async def test_a_list_is_dispatched_in_partitions(world: World) -> None:
    """No more than a partition of lines is there before its messages are sent, whatever the order's length."""
    most = 0

    def step() -> None:
        nonlocal most
        most = max(most, len(world.lines.rows) - len(world.on_their_way()))

    world.lines.step = step
    world.upload(csv_of(1000))
    await world.post(**LIST)
    await world.deliver_all()
    assert len(world.on_their_way()) == 1000
    assert most == 100


async def test_a_line_that_no_row_can_hold_is_refused_alone(world: World) -> None:
    """Twins above the column's limit fail by name, those that are large together are written in several transactions."""
    large = {"registrationId": "a", "initialTwin": {"properties": {"desired": {f"p{i}": '"' * 4000 for i in range(5)}}}}
    fitting = {
        "initialTwin": {"properties": {"desired": {f"p{i}": "ä" * 2000 for i in range(15)}}},
        "csr": "c" * 16_000,
    }
    devices = [large, *({**fitting, "registrationId": f"b{index}"} for index in range(99))]
    world.blobs.blobs["orders", "list.csv"] = StoredBlob(json.dumps(devices).encode(), {}, "v1")
    await world.post(**LIST)
    await world.deliver_all()
    [failed] = world.failures.failed
    assert (
        failed.reason == "devices[0]: its desired properties have 40041 characters as JSON; at most 32768 can be kept"
    )
    assert world.on_their_way() == list(range(1, 100))
    assert len(world.lines.rows) == 100


async def test_tags_that_are_too_large_together_are_refused(world: World) -> None:
    """Those of the initial twin and the device's own go to one twin; the hub would refuse the device."""
    tags = {"a" * 10: "x" * 4000, "b" * 10: "x" * 2000}
    others = {"c" * 10: "x" * 4000}
    await world.post(
        orderId="o",
        enrollmentGroup="g",
        devices=[{"registrationId": "a", "initialTwin": {"tags": tags}, "tags": others}],
    )
    [failed] = world.failures.failed
    assert failed.reason == "devices[0].tags: with those of initialTwin, its size is 10030; at most 8192 is taken"


async def test_an_order_without_a_single_good_device_completes(world: World) -> None:
    """Each device is told of, and the last event fits its queue, however many failed and however long their reasons."""
    world.upload("registrationId,keyAlgorithm\n" + "".join(f"d{index},{'ä' * 200}\n" for index in range(300)))
    await world.post(**LIST)
    await world.deliver_all()
    assert await world.state() is OrderState.COMPLETED_WITH_FAILURES
    assert len(world.failures.failed) == 300
    [completed] = world.events("OrderCompleted")
    assert completed["data"]["state"] == "completedWithFailures"
    assert completed["data"]["progress"]["failed"] == 300
    assert 10 < len(completed["data"]["failed"]) <= 100
    assert completed["data"]["failedNotListed"] == 300 - len(completed["data"]["failed"])
    assert len(json.dumps(completed)) < 48 * 1024
    assert world.standing() == []


async def test_a_line_keeps_no_secret_of_a_device_that_is_refused(world: World) -> None:
    """A key where the id belongs, or beside a CSR: neither the row nor the event has it."""
    secret = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgc2VjcmV0c2VjcmV0"
    pem = f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"
    devices = [{"registrationId": pem}, {"registrationId": secret}, {"registrationId": "a", "csr": pem + "x" * 20_000}]
    await world.post(orderId="o", enrollmentGroup="g", devices=devices)
    await world.deliver_all()
    kept = [row.values for row in world.lines.rows.values()]
    mark = "[a private key was here, and is not kept]"
    assert sorted(row["requestedId"] for row in kept) == [mark, mark, "a"]
    assert len(world.failures.failed) == 3
    assert secret[-16:] not in f"{kept} {world.queues.sent}"


async def test_a_wrong_header_is_one_refusal(world: World) -> None:
    """Nothing is recorded of such an order, and no event comes of its lines."""
    world.upload("id\n" + "x\n" * 300)
    with pytest.raises(Rejected, match=r"'list\.csv', line 1: a device list does not have these columns: 'id'"):
        await world.post(**LIST)
    assert world.rows.rows == world.lines.rows == {}
    assert world.queues.sent == []


async def test_a_list_that_does_not_come_is_read_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that does not answer holds no thread for long, and the order stays in its queue."""
    ended = asyncio.Event()

    async def hanging(*_: Any, **__: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    monkeypatch.setattr(order_blobs, "_PART_TIME", 0.01)
    monkeypatch.setattr(world.blobs, "part", hanging)
    world.upload(csv_of(1))
    with pytest.raises(Deferred, match=r"'list\.csv' can't be read at the moment"):
        await world.post(**LIST)
    await ended.wait()


async def test_one_large_list_is_read_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one waits in its queue, and a small one does not."""
    monkeypatch.setattr(order_blobs, "_LARGE", 20)
    world.upload(csv_of(3))
    async with world.lists.checking:
        with pytest.raises(Deferred, match="order 'o' waits: another large list is being read"):
            await world.post(**LIST)
        world.upload(csv_of(1))
        await world.post(**LIST)


async def test_a_long_order_is_shown_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lines of an order up to the limit, else a page; any order in pages of the size that is asked for."""
    assert order_answers.SHOWN_LIMIT == 5000
    monkeypatch.setattr(order_answers, "SHOWN_LIMIT", 250)
    assert order_answers.PAGE_SIZE == 100
    world.upload(csv_of(250))
    await world.post(**LIST)
    await world.deliver_all()
    assert len((await described(world))["devices"]) == 250
    monkeypatch.setattr(order_answers, "SHOWN_LIMIT", 249)
    seen, token = [], None
    for size in (100, 100, 50):
        page = await described(world, continuation=token)
        assert len(page["devices"]) == size
        expected = {"total": 250, "ordered": 250, "issued": 0, "registered": 0, "failed": 0, "cancelled": 0}
        assert page["progress"] == expected
        token = page.get("continuationToken")
        seen += [each["registrationId"] for each in page["devices"]]
    assert token is None
    assert seen == [f"d{index}" for index in range(250)]
    for start, end in ((97, 104), (100, 200), (199, 200), (0, 1), (200, 250)):
        page = await described(world, size=end - start, continuation=str(start))
        assert [each["registrationId"] for each in page["devices"]] == [f"d{index}" for index in range(start, end)]
    for wrong in ("x", "-1", "²", "9999", ""):
        with pytest.raises(Rejected, match="is not a continuation; give the one of the previous page, unchanged"):
            await described(world, continuation=wrong)


async def test_an_order_waits_when_nothing_is_left_but_first_boots(world: World) -> None:
    """It says so, and that it is worked on as long as one line does not wait for its device."""
    await world.post(**inline(3))
    assert await world.state() is OrderState.PROCESSING
    for index, awaits in enumerate((True, False)):
        known = await world.orders.get_line("o", index)
        assert known is not None
        state = LineState.ISSUED if awaits else LineState.REGISTERED
        await world.orders.replace_line(known, known.record.changed(state=state, awaits_device=awaits))
    await world.deliver_all()
    assert await world.state() is OrderState.PROCESSING, "the third is not issued yet"
    known = await world.orders.get_line("o", 2)
    assert known is not None
    tried = await world.orders.replace_line(known, known.record.changed(state=LineState.ISSUED))
    await world.deliver_all()
    assert await world.state() is OrderState.PROCESSING, "the third waits for a service"
    await world.orders.replace_line(tried, tried.record.changed(awaits_device=True))
    await world.deliver_all()
    assert await world.state() is OrderState.WAITING
    assert (await described(world))["progress"]["issued"] == 2
    counted = await world.answers.progress("o")
    assert (counted.total, counted.ordered, counted.issued, counted.registered) == (3, 0, 2, 1)
    await world.finish_lines()
    await world.deliver_all()
    assert await world.state() is OrderState.COMPLETED


async def test_lines_are_shown_by_their_state(world: World) -> None:
    """In pages, with the progress of the whole order."""
    devices = [{"registrationId": "?" if index % 2 else f"d{index}"} for index in range(10)]
    await world.post(orderId="o", enrollmentGroup="g", devices=devices)
    await world.deliver_all()
    first = await described(world, state=LineState.FAILED, size=3)
    assert [each["place"] for each in first["devices"]] == ["devices[1]", "devices[3]", "devices[5]"]
    second = await described(world, state=LineState.FAILED, size=3, continuation=first["continuationToken"])
    assert [each["place"] for each in second["devices"]] == ["devices[7]", "devices[9]"]
    assert "continuationToken" not in second
    assert second["progress"]["ordered"] == 5
    assert (await described(world, state=LineState.REGISTERED))["devices"] == []


# --- the list of orders ---


async def listed(world: World, **wanted: Any) -> list[tuple[str, str]]:
    filters = {"state": None, "group": None, "since": None, "size": 100, "continuation": None, **wanted}
    items, _ = await world.answers.page(**filters)
    return [(each.order_id, each.state) for each in items]


async def test_orders_are_listed_by_state_group_and_time(world: World) -> None:
    """The latest first, each as it is now; no line is read for it."""
    for name, group in (("a", "g"), ("b", "h"), ("c", "g")):
        world.now += timedelta(hours=1)
        await world.post(**{**inline(2), "orderId": name, "enrollmentGroup": group})
    world.now += timedelta(hours=1)
    await world.orders.refuse("d", Rejected.because("is not a known field", field="colour").documented(), world.now)
    for index in range(2):
        known = await world.orders.get_line("a", index)
        assert known is not None
        await world.orders.replace_line(known, known.record.changed(state=LineState.REGISTERED))
    await world.deliver_all()
    world.lines.rows.clear()
    everything = [("d", "rejected"), ("c", "processing"), ("b", "processing"), ("a", "completed")]
    assert await listed(world) == everything
    assert await listed(world, state=OrderState.PROCESSING) == everything[1:3]
    assert await listed(world, group="g") == [everything[1], everything[3]]
    assert await listed(world, since=START + timedelta(hours=3)) == everything[:2]
    items, following = await world.answers.page(state=None, group=None, since=None, size=3, continuation=None)
    assert items[1].shown() == {
        "orderId": "c",
        "state": "processing",
        "enrollmentGroup": "g",
        "deviceCount": 2,
        "acceptedAt": START + timedelta(hours=3),
        "completedAt": None,
        "location": "/api/device-orders/c",
    }
    assert await listed(world, continuation=following) == everything[3:]


async def test_an_order_that_was_refused_and_sent_again_is_listed_once(world: World) -> None:
    """As what it is now, when it came."""
    await world.orders.refuse("o", Rejected.because("is not a known field", field="colour").documented(), START)
    world.now += timedelta(hours=1)
    await world.orders.refuse("o", Rejected.because("is not a known field", field="color").documented(), world.now)
    assert await listed(world) == [("o", "rejected")]
    world.now += timedelta(hours=1)
    await world.post(**inline())
    assert await listed(world) == [("o", "processing")]


async def test_an_order_of_the_version_before_goes_on(world: World) -> None:
    """What was dispatched is being processed."""
    await world.post(**inline())
    [row] = [row for row in world.rows.rows.values() if "fingerprint" in row.values]
    await world.rows.put({**row.values, "state": "dispatched", "schemaVersion": 1})
    assert await world.state() is OrderState.PROCESSING
    await world.finish_lines()
    await world.deliver_all()
    assert await world.state() is OrderState.COMPLETED


async def test_a_line_says_why_it_waits(world: World) -> None:
    """What keeps a device is shown while it does, and not only when it has failed."""
    await world.post(**inline(2))
    waiting = Rejected.because("tried again: no route").documented()
    known = await world.orders.get_line("o", 0)
    assert known is not None
    await world.orders.replace_line(known, known.record.changed(state=LineState.ISSUED, reasons=waiting))
    shown = (await described(world))["devices"]
    assert [each.get("reason") for each in shown] == ["tried again: no route", None]


async def test_a_line_shows_what_there_is_of_its_device_and_leaves_out_the_rest(world: World) -> None:
    """``requestedAs`` as well, unless the order spells the id as it is."""
    await world.post(orderId="o", enrollmentGroup="g", devices=[{"registrationId": "D0"}, {"registrationId": "d1"}])
    known = await world.orders.get_line("o", 0)
    assert known is not None
    serial = "4" * 40
    made = known.record.changed(
        state=LineState.REGISTERED, device_id="d0", assigned_hub="h", serial_number=serial, finished_at=START
    )
    await world.orders.replace_line(known, made)
    assert (await described(world))["devices"] == [
        {
            "registrationId": "d0",
            "requestedAs": "D0",
            "place": "devices[0]",
            "state": "registered",
            "deviceId": "d0",
            "assignedHub": "h",
            "serialNumber": serial,
            "bundle": "/api/devices/d0/bundle",
            "finishedAt": START,
        },
        {"registrationId": "d1", "place": "devices[1]", "state": "ordered"},
    ]


async def test_a_refused_order_is_a_rejected_one_and_leaves_its_id_free(world: World) -> None:
    """It is shown as any other, with what was refused last under its id, until an accepted one takes the id."""
    await world.orders.refuse("o", Rejected.because("must be a number", field="validityDays").documented(), START)
    await world.orders.refuse("o", Rejected.because("is not known", field="colour").documented(), START, group="g")
    assert await described(world) == {
        "orderId": "o",
        "enrollmentGroup": "g",
        "state": "rejected",
        "registerBy": "service",
        "acceptedAt": START,
        "completedAt": None,
        "reasons": ({"field": "colour", "message": "is not known"},),
        "progress": {"total": 0, "ordered": 0, "issued": 0, "registered": 0, "failed": 0, "cancelled": 0},
        "devices": [],
    }
    items, _ = await world.answers.page(state=OrderState.REJECTED, group="g", since=None, size=10, continuation=None)
    assert [(each.order_id, each.state) for each in items] == [("o", "rejected")]
    world.now += timedelta(seconds=1)
    await world.post(**inline())
    assert (await described(world))["state"] == "processing"
    await world.orders.refuse("o", Rejected.because("too late").documented(), START)
    assert (await described(world))["state"] == "processing"
    assert await listed(world) == [("o", "processing")]


async def test_another_order_of_the_same_id_is_refused(world: World) -> None:
    """Its content tells."""
    await world.post(**inline())
    with pytest.raises(Conflict, match="order 'o' was accepted on 2026-03-01 with other content"):
        await world.post(**inline(2))


async def test_a_message_for_an_order_that_is_gone_ends(world: World) -> None:
    """Nothing comes of it."""
    await world.subject.watch(OrderWatch(order_id="o", watch=START))
    assert world.queues.sent == []


@pytest.mark.parametrize("watch", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
async def test_a_message_that_is_not_of_the_app_takes_no_watch(world: World, watch: datetime) -> None:
    """Before the order was accepted, or far ahead of the clock, it changes nothing."""
    await world.post(**inline())
    before = await world.orders.get("o")
    world.standing()
    await world.subject.watch(OrderWatch(order_id="o", watch=watch))
    assert world.standing() == []
    assert await world.orders.get("o") == before
