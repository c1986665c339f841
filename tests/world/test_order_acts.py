"""Acts on orders that others come in between with, or whose hosts are killed: each comes to its end."""

from __future__ import annotations

from base64 import b64decode
from datetime import timedelta
from itertools import chain, count
from random import Random

import pytest

from shared.contracts.messages import Queue
from shared.domain.orders import LineState, OrderState
from shared.domain.requests import RequestState
from shared.domain.words import DeviceState
from tests.world.host import MAX_DEQUEUE_COUNT
from tests.world.order_acts import DEVICES, WAITING, ask, call_to_cancel, ordered, request, states
from tests.world.world import DEVICE, GROUP, World


async def test_a_line_is_begun_or_cancelled_and_never_both() -> None:
    """Two hosts take their steps in any order: one begins the lines, the other one cancels the order."""
    ends = set()
    for seed in range(60):
        world = await ordered(DEVICES[:1])
        ask(world, "cancel")
        queue, message = Queue.DEVICE_REGISTRATIONS, world.queues.queues[Queue.DEVICE_REGISTRATIONS][0]
        taken = world.take("cancel")
        assert taken is not None
        leased = world.queues.lease(queue, message, lease=timedelta(minutes=10))
        world.conductor.start("line", world.hosts[0].deliver(queue, leased))
        world.conductor.start("cancel", world.hosts[1].deliver(*taken))
        moving, random = ["line", "cancel"], Random(seed)  # noqa: S311 - the same each time
        while moving:
            actor = random.choice(moving)
            if not await world.conductor.advance(actor, 1):
                moving.remove(actor)
        await world.drain()
        state, [line] = await states(world)
        made = {identity for _, identity in world.hubs.identities}
        assert state is OrderState.CANCELLED, seed
        assert (line, made) in (("cancelled", set()), ("registered", {DEVICE})), seed
        assert (await request(world, "cancel"))["state"] is RequestState.DONE, seed
        assert world.bugs == [], seed
        ends.add(line)
    assert ends == {"cancelled", "registered"}


async def test_who_has_cancelled_an_order_is_told_whichever_message_finds_it_cancelled() -> None:
    """The order's message pauses after each of its steps, while its second delivery ends, and the order is cancelled."""
    told = dict[int, list[tuple[str, str | None]]]()
    for step in count(1):
        world = await World().prepare()
        world.ask(
            "the order", Queue.DEVICE_ORDERS, {"orderId": "order-1", "enrollmentGroup": GROUP, "devices": WAITING}
        )
        taken = world.take("the order")
        assert taken is not None
        world.conductor.start("first", world.hosts[0].deliver(*taken))
        if await world.conductor.advance("first", step) < step:
            break
        await world.hosts[1].deliver(*taken)
        ask(world, "cancel")
        await world.deliver("cancel")
        await world.conductor.advance("first")
        await world.drain()
        events = [each["data"] for each in world.events() if each["type"].endswith("OrderCompleted")]
        told[step] = [(each["state"], each["actor"]["requestId"]) for each in events]
    assert set(chain(*told.values())) == {("cancelled", "cancel-1")}
    assert max(map(len, told.values())) > 1, "by both messages"


@pytest.mark.parametrize("action", ["cancel", "close", "retry"])
async def test_an_act_is_carried_out_wherever_its_host_is_killed(action: str) -> None:
    """Delivered again, it goes on; no line stays without a message, and no order without an end."""
    scene = await ordered([*(DEVICES if action == "retry" else WAITING), {"registrationId": "mill"}])
    scene.registrar.refuses = action == "retry"
    await scene.drain()
    scene.registrar.refuses = False
    if action == "cancel":
        await call_to_cancel(scene, "revoke")
    else:
        ask(scene, action)
    steps, unfinished = 0, True
    while unfinished:
        steps += 1
        world = scene.copy()
        taken = world.take(action)
        assert taken is not None
        world.conductor.start("killed", world.hosts[0].deliver(*taken))
        unfinished = await world.conductor.advance("killed", steps) == steps
        if unfinished:
            await world.conductor.kill("killed")
        world.now += timedelta(minutes=10)
        await world.drain()
        order, lines = await states(world)
        expected = {
            "cancel": (OrderState.CANCELLED, ["issued", "registered", "registered"]),
            "close": (OrderState.COMPLETED, ["issued", "registered", "registered"]),
            "retry": (OrderState.COMPLETED, ["registered"] * 3),
        }[action]
        assert (order, lines) == expected, f"killed at step {steps}"
        assert (await request(world, action))["state"] is RequestState.DONE, f"killed at step {steps}"
        assert world.rejections() == []
        assert steps < MAX_DEQUEUE_COUNT * 40
    assert steps > 10


@pytest.mark.parametrize("resumed", ["when its line waits for the retry", "when its line is carried out again"])
async def test_a_late_failure_of_an_attempt_leaves_the_retry_of_its_line_alone(resumed: str) -> None:
    """A delivery pauses after each of its steps, while another one fails, and an operator has the line tried again."""
    told = list[int]()
    for step in count(1):
        world = await ordered(DEVICES[:1])
        world.registrar.refuses = True
        queue, message = Queue.DEVICE_REGISTRATIONS, world.queues.queues[Queue.DEVICE_REGISTRATIONS][0]
        leased = world.queues.lease(queue, message, lease=timedelta(minutes=10))
        world.conductor.start("late", world.hosts[0].deliver(queue, leased))
        if await world.conductor.advance("late", step) < step:
            break
        await world.hosts[1].deliver(queue, leased)
        await world.drain()
        world.registrar.refuses = False
        ask(world, "retry")
        await world.deliver("retry")
        before = await states(world)
        told.append(before[1] == ["ordered"])
        if resumed == "when its line is carried out again":
            again = world.queues.queues[Queue.DEVICE_REGISTRATIONS][-1]
            taken = world.queues.lease(queue, again, lease=timedelta(minutes=10))
            world.conductor.start("again", world.hosts[1].deliver(queue, taken))
            await world.conductor.advance("again", 15)
            await world.conductor.advance("late")
            await world.conductor.advance("again")
        await world.conductor.advance("late")
        await world.drain()
        assert await states(world) == (OrderState.COMPLETED, ["registered"]), (step, before)
        record = world.record()
        assert record is not None
        assert record.state is DeviceState.REGISTERED, step
        assert world.bugs == [], step
    assert sum(told) > 20, told


async def test_progress_is_told_as_it_was_while_two_hosts_see_to_an_order() -> None:
    """They count in any order: no event says two things."""
    heard = 0
    for seed in range(20):
        world = await World().prepare()
        devices = [{"registrationId": f"{DEVICE}-{number}"} for number in range(4)]
        body = {"orderId": "order-1", "enrollmentGroup": GROUP, "devices": devices, "progressEvents": {"every": 1}}
        world.ask("the order", Queue.DEVICE_ORDERS, body)
        await world.deliver("the order")
        random = Random(seed)  # noqa: S311 - the same each time
        for number in range(4):
            known = await world.orders.get_line("order-1", number)
            assert known is not None
            if random.random() < 0.7:
                state = random.choice([LineState.REGISTERED, LineState.FAILED])
                done = known.record.changed(state=state, finished_at=world.now)
                await world.orders.replace_line(known, done)
            watch = next(each for each in world.lying_of_order("order-1") if b'"watch"' in b64decode(each.content))
            world.now = max(world.now, watch.visible)
            leased = world.queues.lease(Queue.DEVICE_ORDERS, watch, lease=timedelta(minutes=10))
            for actor, host in zip("ab", world.hosts, strict=True):
                world.conductor.start(actor, host.deliver(Queue.DEVICE_ORDERS, leased))
            moving = ["a", "b"]
            while moving:
                actor = random.choice(moving)
                if not await world.conductor.advance(actor, 1):
                    moving.remove(actor)
        said: dict[str, str] = {}
        for event in world.events():
            if event["type"].endswith(".OrderProgressed"):
                assert said.setdefault(event["id"], str(event["data"])) == str(event["data"]), seed
        heard += len(said)
        assert world.bugs == [], seed
    assert heard > 20
