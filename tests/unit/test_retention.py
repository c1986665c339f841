"""What has ended is deleted after a while; what is open, never."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from shared.contracts.messages import Queue
from shared.domain.orders import OrderRecord, OrderState
from shared.domain.rejections import RejectionKind, RejectionRecord, RejectionState
from shared.domain.request_parts import PartNote
from shared.domain.requests import RequestLogEntry, RequestRecord, RequestState, done, part_key
from shared.ledger.orders import Orders
from shared.ledger.rejections import Rejections
from shared.ledger.requests import Requests
from shared.ports.blobs import StoredBlob
from shared.workflows.devices import retention
from shared.workflows.devices.retention import Retention
from tests.unit.fakes import FakeBlobs, FakeTable, Killed, Trap

if TYPE_CHECKING:
    import pytest

START = datetime(2026, 3, 1, tzinfo=UTC)
KIND = Queue.REVOCATION_REQUESTS


@dataclass
class Scene:
    now: datetime = START
    request_rows: FakeTable = field(default_factory=FakeTable)
    rejection_rows: FakeTable = field(default_factory=FakeTable)
    blobs: FakeBlobs = field(default_factory=FakeBlobs)

    def __post_init__(self) -> None:
        self.requests = Requests(self.request_rows, clock=self.clock)
        self.rejections = Rejections(self.rejection_rows)
        self.orders = Orders(orders=FakeTable(), lines=FakeTable())
        settings: Any = SimpleNamespace(
            retain_requests=timedelta(days=90),
            retain_rejections=timedelta(days=60),
            retain_order_lists=timedelta(days=7),
        )
        lists: Any = self.blobs
        self.retention = Retention(
            requests=self.requests,
            rejections=self.rejections,
            orders=self.orders,
            lists=lists,
            settings=settings,
            clock=self.clock,
        )

    def clock(self) -> datetime:
        return self.now

    async def request(self, request_id: str, *, ends: bool = True, member: str | None = None) -> RequestRecord:
        record = RequestRecord(kind=KIND, request_id=request_id, member=member, fingerprint="f", received_at=self.now)
        await self.requests.claim(record)
        if ends:
            await self.requests.enter(record, done(self.now))
        return record

    async def expect(self, whole: str, key: str) -> None:
        await self.requests.expect_part(PartNote(kind=KIND, whole=whole, key=key, noted_at=self.now))

    async def rejection(self, name: str, state: RejectionState, at: datetime) -> None:
        record = RejectionRecord(
            rejection_id=f"{at:%Y-%m-%d}-{name}",
            kind=RejectionKind.REJECTED,
            queue=KIND,
            body=b"",
            reasons=(),
            rejected_at=at,
            state=state,
            replayed_at=at if state is RejectionState.REPLAYED else None,
            closed_at=at if state is RejectionState.CLOSED else None,
        )
        await self.rejections.try_insert(record)

    async def order(self, order_id: str, state: OrderState, list_name: str | None, at: datetime) -> None:
        ended = state in {OrderState.COMPLETED, OrderState.CANCELLED}
        record = OrderRecord(
            order_id=order_id,
            fingerprint="f",
            state=state,
            accepted_at=at,
            completed_at=at if ended else None,
            list_name=list_name,
        )
        await self.orders.insert(record)
        if list_name is not None:
            self.blobs.blobs["orders", list_name] = StoredBlob(b"", {}, "v1")

    async def sweep(self) -> dict[str, int]:
        return await self.retention.sweep()

    def kept(self) -> set[str]:
        return {f"{row.values['PartitionKey']}/{row.values['RowKey']}" for row in self.request_rows.rows.values()}


async def test_a_request_is_kept_for_a_while_after_its_end_and_an_open_one_until_then() -> None:
    """Then it is gone from the list, too, and its id is free."""
    scene = Scene()
    await scene.request("ended")
    await scene.request("open", ends=False)
    scene.now += timedelta(days=89)
    assert (await scene.sweep())["requests"] == 0
    scene.now += timedelta(days=2)
    await scene.request("new")
    assert (await scene.sweep())["requests"] == 1
    found = [await scene.requests.find(KIND, each) for each in ("ended", "open", "new")]
    assert [each is not None for each in found] == [False, True, True]
    listed, _ = await scene.requests.page(state=None, kind=None, since=None, size=10, continuation=None)
    assert [each.request_id for each in listed] == ["new", "open"]
    scene.now += timedelta(days=3650)
    await scene.sweep()
    assert await scene.requests.find(KIND, "open") is not None


async def test_a_request_that_ended_late_is_kept_from_then_on() -> None:
    """Its row of the list may be outdated, since who wrote it died; the row is mended, and the request stays."""
    scene = Scene()
    record = await scene.request("late", ends=False)
    key = f"{(datetime(2286, 1, 1, tzinfo=UTC) - START) // timedelta(milliseconds=1):013d}|{KIND}|late"
    row = scene.request_rows.rows["log", key]
    wrong = RequestLogEntry.from_columns(row.values).changed(state=RequestState.DONE, is_open=False, revision=1)
    await scene.request_rows.put({**row.values, **wrong.columns()})
    scene.now += timedelta(days=100)
    assert (await scene.sweep())["requests"] == 0
    await scene.requests.enter(record, done(scene.now))
    scene.now += timedelta(days=80)
    assert (await scene.sweep())["requests"] == 0
    scene.now += timedelta(days=11)
    assert (await scene.sweep())["requests"] == 1


async def test_an_id_that_is_used_again_keeps_the_later_request() -> None:
    """The earlier one was refused, which left the id free."""
    scene = Scene()
    refused = RequestRecord(
        kind=KIND,
        request_id="r",
        fingerprint="f",
        received_at=START,
        state=RequestState.REJECTED,
        ended_at=START,
    )
    await scene.requests.refuse(refused)
    scene.now += timedelta(days=80)
    await scene.request("r", ends=False)
    scene.now += timedelta(days=20)
    assert (await scene.sweep())["requests"] == 1
    known = await scene.requests.find(KIND, "r")
    assert known is not None
    assert known.record.state is RequestState.RUNNING
    listed, _ = await scene.requests.page(state=None, kind=None, since=None, size=10, continuation=None)
    assert [each.at for each in listed] == [START + timedelta(days=80)]


async def test_the_parts_of_a_request_go_with_it_wherever_a_sweep_is_killed() -> None:
    """Its rows and theirs; those of another one with a like id stay."""
    for after in range(1, 60):
        scene = Scene()
        for name in ("all", "al"):
            await scene.request(name)
            for member in ("a", "b", "c"):
                await scene.expect(name, part_key(KIND, name, member))
                await scene.request(name, member=member)
        before = scene.kept()
        scene.now += timedelta(days=100)
        await scene.request("other")
        await scene.requests.enter((await _found(scene, "al")), _kept_open)
        trap = Trap(after)
        scene.request_rows.step = trap.step
        try:
            await scene.sweep()
        except Killed:
            trap.after = None
            await scene.sweep()
        left = scene.kept() & before
        assert {each for each in left if "|all" in each} == set(), f"killed after {after}"
        assert len({each for each in left if "|al" in each and "|all" not in each}) >= 7
        if trap.after is not None:
            break


async def _found(scene: Scene, request_id: str) -> RequestRecord:
    known = await scene.requests.find(KIND, request_id)
    assert known is not None
    return known.record


def _kept_open(request: RequestRecord) -> RequestRecord:
    return request.changed(ended_at=request.received_at + timedelta(days=99))


async def test_a_sweep_deletes_a_bounded_number_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of the parts of one request."""
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    scene = Scene()
    await scene.request("all")
    for member in ("a", "b", "c"):
        await scene.expect("all", part_key(KIND, "all", member))
        await scene.request("all", member=member)
    for number in range(3):
        await scene.request(f"r-{number}")
    scene.now += timedelta(days=100)
    swept = []
    while count := (await scene.sweep())["requests"]:
        swept.append(count)
    assert (sum(swept), max(swept)) == (7, 2)
    assert scene.request_rows.rows == {}


async def test_a_part_that_outlives_its_request_is_noted_nowhere() -> None:
    """A renewal that waits for its device goes on after the renewal of its group, which nobody asks for any more."""
    scene = Scene()
    await scene.request("all")
    part = RequestRecord(kind=KIND, request_id="part", whole="all", fingerprint="f", received_at=START)
    await scene.expect("all", part.key)
    await scene.requests.claim(part)
    scene.now += timedelta(days=100)
    await scene.sweep()
    await scene.requests.enter(part, done(scene.now))
    assert (await scene.requests.count_parts(KIND, "all")).total == 0


async def test_a_rejection_is_kept_for_a_while_after_it_was_replayed_or_closed_and_an_open_one_until_then() -> None:
    """Whatever its age."""
    scene = Scene()
    for state in RejectionState:
        await scene.rejection(state.value, state, START)
        await scene.rejection(f"later-{state.value}", state, START + timedelta(days=30))
    scene.now += timedelta(days=61)
    assert (await scene.sweep())["rejections"] == 2
    left = {RejectionRecord.from_columns(row.values).rejection_id for row in scene.rejection_rows.rows.values()}
    assert left == {
        "2026-03-01-open",
        "2026-03-01-replaying",
        *(f"2026-03-31-later-{state.value}" for state in RejectionState),
    }


async def test_a_list_that_the_app_keeps_is_deleted_a_while_after_its_order_s_end() -> None:
    """Not one that somebody else put there, and none of an order that is under way."""
    scene = Scene()
    await scene.order("done", OrderState.COMPLETED, "uploads/done.csv", START)
    await scene.order("cancelled", OrderState.CANCELLED, "uploads/cancelled.json", START)
    await scene.order("rejected", OrderState.REJECTED, "uploads/rejected.csv", START)
    await scene.order("foreign", OrderState.COMPLETED, "erp/foreign.csv", START)
    await scene.order("under-way", OrderState.PROCESSING, "uploads/under-way.csv", START)
    await scene.order("new", OrderState.COMPLETED, "uploads/new.csv", START + timedelta(days=2))
    await scene.order("inline", OrderState.COMPLETED, None, START)
    scene.now += timedelta(days=8)
    assert (await scene.sweep())["lists"] == 3
    assert sorted(name for _, name in scene.blobs.blobs) == [
        "erp/foreign.csv",
        "uploads/new.csv",
        "uploads/under-way.csv",
    ]
    assert (await scene.sweep())["lists"] == 0, "each is deleted once"
    listed, _ = await scene.orders.page(state=None, group=None, since=None, size=10, continuation=None)
    assert len(listed) == 7, "the orders stay"
