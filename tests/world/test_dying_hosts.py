"""A host that dies with messages in hand, again and again: what never failed is not set aside, and comes to its end.

The workers write down what they have in hand, as in the cloud, and a timer takes up what a killed one left behind.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import pytest

from shared.contracts.messages import Queue
from shared.domain.in_hand import ALIVE_FOR
from shared.workflows.intake.in_hand import InHand
from tests.world.auditor import audit
from tests.world.host import LEASE, MAX_DEQUEUE_COUNT, Host
from tests.world.world import DEVICE, GROUP, World

if TYPE_CHECKING:
    from shared.services import Services

DEVICES = (DEVICE, "lathe")
ORDER = {"orderId": "o", "enrollmentGroup": GROUP, "devices": [{"registrationId": each} for each in DEVICES]}
TOLD = ("OrderAccepted", *("CertificateIssued", "DeviceRegistered") * 2, "OrderCompleted")
DEATHS = 6


@dataclass
class Mortal(World):
    """A world whose workers write down what they have in hand.

    Attributes:
        killed: names of the workers that are dead: nothing of these goes on.
    """

    without_steps: ClassVar[frozenset[str]] = frozenset({"audit", "inhand"})
    killed: set[str] = field(default_factory=set)

    def _build(self) -> Services:
        made = super()._build()

        async def pause(_seconds: float) -> None:
            await asyncio.sleep(0)
            if in_hand.worker in self.killed:
                await asyncio.get_running_loop().create_future()

        in_hand = InHand(rows=made.in_hand.rows, queues=self.queues, clock=self.clock, pause=pause)
        return replace(made, in_hand=in_hand)

    async def die(self, queue: str, *, after: int) -> int:
        """Have a new worker take the message of a queue and die after some steps; give how often it was delivered."""
        self.hosts[0] = Host(self._build, self.queues, self.conductor)
        [message] = self.queues.queues[queue]
        self.now = max(self.now, message.visible)
        taken, actor = self.queues.lease(queue, message, lease=LEASE), f"worker {len(self.killed)}"
        self.conductor.start(actor, self.hosts[0].deliver(queue, taken))
        assert await self.conductor.advance(actor, after) == after
        self.killed.add(self.hosts[0].services.in_hand.worker)
        assert await self.conductor.stands(actor)
        await self.conductor.kill(actor)
        self.hosts[0] = Host(self._build, self.queues, self.conductor)
        self.now += ALIVE_FOR + timedelta(seconds=30)
        return taken.taken

    async def faults(self) -> list[str]:
        """Give what is wrong when nothing is on its way any more."""
        await self.drain()
        found = [*await audit(self), *(repr(bug) for bug in self.bugs), *self.poison()]
        told = {each["id"]: each["type"].removeprefix("DeviceProvisioning.") for each in self.events()}
        if sorted(told.values()) != sorted(TOLD):
            found.append(f"told were {sorted(told.values())}")
        return [*found, *(f"set aside: {each.body!r}" for each in self.rejections())]


async def begun(queue: Queue) -> Mortal:
    """Give a world in which an order of two devices lies in a queue."""
    world = Mortal()
    await world.prepare()
    world.ask("order", Queue.DEVICE_ORDERS, ORDER)
    if queue is Queue.DEVICE_REGISTRATIONS:
        await world.deliver("order")
    return world


@pytest.mark.parametrize(
    ("queue", "after"),
    [
        *((Queue.DEVICE_REGISTRATIONS, after) for after in (1, 4, 9)),
        *((Queue.DEVICE_ORDERS, after) for after in (1, 4)),
    ],
)
async def test_a_host_that_dies_six_times_makes_no_poison_of_what_never_failed(queue: Queue, after: int) -> None:
    """A message that is delivered more than five times would be poison. So what a dead worker had is put back anew."""
    world, most = await begun(queue), 0
    for _ in range(DEATHS):
        most = max(most, await world.die(queue, after=after))
        await world.hosts[1].tick("in_hand_sweep")
    assert len(world.killed) == DEATHS > MAX_DEQUEUE_COUNT > most
    assert await world.faults() == []


async def test_a_message_that_kills_its_host_each_time_is_set_aside_at_last() -> None:
    """It would kill the host for ever: copies are counted, and so are the deliveries of the last one."""
    queue, deaths = Queue.DEVICE_REGISTRATIONS, 0
    world = await begun(queue)
    while world.queues.queues[queue] and deaths < 20:
        [message] = world.queues.queues[queue]
        if message.taken == MAX_DEQUEUE_COUNT:
            break
        await world.die(queue, after=4)
        await world.hosts[1].tick("in_hand_sweep")
        deaths += 1
    assert deaths > DEATHS
    await world.drain()
    assert len(world.rejections()) == 1
