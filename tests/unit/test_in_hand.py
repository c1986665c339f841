"""What a killed worker had in hand is taken up long before its lease ends, and what a living one has is left to it."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.contracts.messages import INBOUND_QUEUES, MESSAGE_LIMIT, Queue, anew, left_behind, read_message
from shared.ledger.in_hand import InHandRows
from shared.workflows.intake.in_hand import InHand
from tests.pki.hierarchy import NOW
from tests.world.conductor import Conductor
from tests.world.storage import Queues, Table
from triggers.timers import _NOT_OF_REVOCATION, _OF_REVOCATION

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMERS = Path(__file__).parents[2] / "triggers" / "timers.py"
QUEUE = Queue.RENEWAL_REQUESTS
SWEPT = tuple(each for each in INBOUND_QUEUES if each is not Queue.REVOCATION_REQUESTS)
BODY = {"requestId": "r-1", "registrationId": "press-1"}


class Factory:
    """Several workers on the same table and queues, whose seconds the test counts."""

    def __init__(self) -> None:
        self.now = NOW
        conductor = Conductor()
        self.table = Table("inhand", conductor)
        self.queues = Queues(conductor, lambda: self.now)
        self.pauses: list[asyncio.Future[None]] = []

    def worker(self, name: str) -> InHand:
        return InHand(
            rows=InHandRows(self.table), queues=self.queues, clock=lambda: self.now, worker=name, pause=self.pause
        )

    async def pause(self, _seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pauses.append(waiting)
        await waiting

    async def settle(self) -> None:
        """Have everything go on that needs no time."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def second(self, seconds: float = 1) -> None:
        """Have time pass."""
        self.now += timedelta(seconds=seconds)
        waiting, self.pauses = self.pauses, []
        for each in waiting:
            each.set_result(None)
        await self.settle()

    def sent(self) -> list[str]:
        return [each.text for each in self.queues.queues.get(QUEUE, ())]

    def rows(self) -> set[tuple[str, str]]:
        return set(self.table.rows)


@pytest.fixture
def factory() -> Factory:
    return Factory()


def text() -> str:
    copy = left_behind(json.dumps(BODY), QUEUE, asked_at=NOW)
    assert copy is not None
    return copy


async def test_what_is_in_hand_is_written_down_at_once_and_deleted_when_it_is_done(factory: Factory) -> None:
    worker = factory.worker("a")
    async with worker.holding(QUEUE, "m-1", text()), worker.holding(QUEUE, "m-2", text()):
        await factory.settle()
        assert factory.rows() == {("!workers", "a"), ("a", "m-1"), ("a", "m-2")}
    await factory.second()
    assert factory.rows() == set()


async def test_a_killed_workers_messages_are_sent_again_once(factory: Factory) -> None:
    """As they were, and when they were asked for; the living worker's are left to it."""
    killed, living = factory.worker("killed"), factory.worker("living")
    async with killed.holding(QUEUE, "m-1", text()):
        await factory.settle()
        factory.pauses.clear()  # it is killed: nothing of it goes on
        async with living.holding(QUEUE, "m-2", text()):
            for _ in range(49):
                await factory.second()
            assert await living.sweep(SWEPT) == 0
            for _ in range(2):
                await factory.second()
            assert await living.sweep(SWEPT) == 1
            assert [read_message(each).data for each in factory.sent()] == [BODY]
            assert read_message(factory.sent()[0]).time == NOW
            assert factory.rows() == {("!workers", "living"), ("living", "m-2")}
            assert await living.sweep(SWEPT) == 0


def taken(factory: Factory, queue: str = QUEUE) -> tuple[str, str]:
    """Have a message in a queue, and give its id and its receipt as the host gets them."""
    factory.queues.put(queue, text())
    message = factory.queues.receive(queue, lease=timedelta(minutes=10))
    assert message is not None
    return message.message_id, message.receipt


async def swept(factory: Factory, queue: str, message_id: str, receipt: str, queues: Sequence[Queue]) -> list[str]:
    """Kill a worker that has a message in hand, have another one sweep, and name what its queue has then."""
    killed, living = factory.worker("killed"), factory.worker("living")
    async with killed.holding(queue, message_id, text(), receipt=receipt):
        await factory.settle()
        factory.pauses.clear()
        await factory.second(60)
        assert await living.sweep(queues) == (queue in queues)
    return [each.message_id for each in factory.queues.queues[queue]]


@pytest.mark.parametrize("renewals", [0, 1])
async def test_a_message_of_which_a_copy_was_sent_does_not_come_back(factory: Factory, renewals: int) -> None:
    """So that a request that waits has one message, and not one more for each worker that was killed with it.

    If the host has renewed its lease, or somebody else has it, it is left: nobody's message is taken away.
    """
    message_id, receipt = taken(factory)
    for _ in range(renewals):
        factory.queues.lease(QUEUE, factory.queues.queues[QUEUE][0], lease=timedelta(minutes=10))
    present = await swept(factory, QUEUE, message_id, receipt, SWEPT)
    assert len(present) == 1 + renewals
    assert present.count(message_id) == renewals


async def test_a_revocation_is_left_to_the_zone_that_may_delete_its_message(factory: Factory) -> None:
    """The zone of issuing leaves it as it is, and that of revocation puts a copy of it in its place."""
    revocations = Queue.REVOCATION_REQUESTS
    message_id, receipt = taken(factory, revocations)
    assert await swept(factory, revocations, message_id, receipt, SWEPT) == [message_id]
    assert ("killed", message_id) in factory.rows()
    assert await factory.worker("another").sweep([revocations]) == 1
    assert message_id not in [each.message_id for each in factory.queues.queues[revocations]]
    assert factory.rows() == set()


def test_each_queue_is_swept_by_one_timer_in_the_zone_that_takes_its_messages() -> None:
    """Only there may a message be deleted that its killed worker has leased."""
    zones = json.loads((TIMERS.parents[1] / "infra" / "zones.json").read_text(encoding="utf-8"))["zones"]
    of_timer = {"in_hand_sweep": _NOT_OF_REVOCATION, "revocation_in_hand_sweep": _OF_REVOCATION}
    assert sorted(queue for queues in of_timer.values() for queue in queues) == sorted(INBOUND_QUEUES)
    for timer, queues in of_timer.items():
        [zone] = [each for each in zones.values() if timer in each["functions"]]
        assert {each.value.replace("-", "_") for each in queues} <= set(zone["functions"])


async def test_a_worker_that_works_for_long_says_that_it_is_alive(factory: Factory) -> None:
    worker, other = factory.worker("a"), factory.worker("b")
    async with worker.holding(QUEUE, "m-1", text()):
        await factory.settle()
        for _ in range(300):
            await factory.second()
            assert await other.sweep(SWEPT) == 0
    await factory.second()
    assert factory.rows() == set()


async def test_many_messages_in_a_second_are_written_together(factory: Factory) -> None:
    worker = factory.worker("a")
    before = factory.table.writes
    for number in range(500):
        async with worker.holding(QUEUE, f"m-{number}", text()):
            await asyncio.sleep(0)
    await factory.second()
    await factory.second()
    assert factory.table.writes - before < 10
    assert factory.rows() == set()


async def test_work_goes_on_while_the_tables_are_down(factory: Factory) -> None:
    worker = factory.worker("a")
    factory.table.conductor.down.add("tables")
    async with worker.holding(QUEUE, "m-1", text()):
        await factory.settle()
        assert factory.rows() == set()
        factory.table.conductor.down.clear()
        await factory.second()
        assert factory.rows() == {("!workers", "a"), ("a", "m-1")}


async def test_a_worker_that_was_only_slow_goes_on_and_leaves_nothing(factory: Factory) -> None:
    """Its messages were sent again meanwhile, which does no harm."""
    slow, other = factory.worker("slow"), factory.worker("other")
    async with slow.holding(QUEUE, "m-1", text()):
        await factory.settle()
        factory.now += timedelta(minutes=2)
        assert await other.sweep(SWEPT) == 1
        await factory.second()
    await factory.second()
    await factory.second()
    assert factory.rows() == set()


def test_a_copy_is_made_three_times_and_no_more() -> None:
    """A message that kills its worker is left to the host after that, which counts deliveries; a replay counts anew."""
    message: str | None = json.dumps(BODY)
    made = list[str]()
    while message is not None:
        message = left_behind(message, QUEUE, asked_at=NOW)
        if message is not None:
            made.append(message)
    assert len(made) == 3
    assert left_behind(anew(made[-1]), QUEUE, asked_at=NOW) is not None
    assert read_message(made[-1]).data == BODY


def test_a_message_without_room_for_the_count_is_left_to_its_lease() -> None:
    assert left_behind(json.dumps({**BODY, "csr": "x" * (MESSAGE_LIMIT - 200)}), QUEUE, asked_at=NOW) is None


@pytest.mark.parametrize("timer", ["convergence_sweep", "group_sweep", "in_hand_sweep", "revocation_in_hand_sweep"])
def test_what_nobody_has_seen_to_for_a_minute_is_gone_on_with_within_90_seconds(timer: str) -> None:
    """A record is left to its worker for a minute, and then it is the next tick's."""
    schedule = rf'"{timer}"\).timer_trigger\(arg_name="timer", schedule="([\d,]+) \* \* \* \* \*"\)'
    [seconds] = re.findall(schedule, TIMERS.read_text(encoding="utf-8"))
    ticks = sorted(map(int, seconds.split(",")))
    assert max(later - sooner for sooner, later in pairwise([*ticks, ticks[0] + 60])) <= 30
