"""Whatever is asked for, delivered, broken, and whenever: once everything works and all queues are drained, all is well.

Hypothesis makes the sequences, the same on every machine; ``PROVE=1`` (``make prove``) makes more and longer ones.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from shared.contracts.messages import Queue
from shared.errors import Deferred, Rejected
from tests.world.acts import CALLS
from tests.world.auditor import audit
from tests.world.conductor import Go
from tests.world.host import LEASE, QUEUES, TIMERS
from tests.world.prover import RUNS
from tests.world.world import DEVICE, GROUP, World, csr_of

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.world.storage import Queued

DEEPER = os.environ.get("PROVE") == "1"
EXAMPLES, STEPS = (1500, 60) if DEEPER else (60, 30)
SERVICES = ("tables", "blobs", "queues", "vault", "dps", "hub")
TIMES = tuple(timedelta(**each) for each in ({"seconds": 30}, {"minutes": 11}, {"days": 1}, {"days": 340}))
_FEW = 3
"""Deliveries of a message that may be lost to kills and outages: the host sets it aside after five."""

numbers = st.integers(0, 1000)


class Everything(RuleBasedStateMachine):
    """One device, whatever happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.world = self.run(World().prepare())
        self.count = 0
        self.acts: list[str] = []

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.rest()
        finally:
            self.runner.close()
            RUNS["any sequence"] += 1

    # --- what is asked for ---

    def ask(self, kind: str, queue: Queue, **body: Any) -> None:
        self.count += 1
        name = f"{kind} {self.count}"
        key = "orderId" if kind == "order" else "requestId"
        self.world.ask(name, queue, {key: f"{kind}-{self.count}", **body})

    @rule(own_key=st.booleans(), by_device=st.booleans())
    def order(self, own_key: bool, by_device: bool) -> None:  # noqa: FBT001 - drawn by name
        device = {"registrationId": DEVICE}
        if own_key:
            device["csr"] = csr_of(f"order-{self.count}")
        self.ask(
            "order",
            Queue.DEVICE_ORDERS,
            enrollmentGroup=GROUP,
            devices=[device],
            registerBy="device" if by_device else "service",
        )

    @rule(action=st.sampled_from(["cancel", "close", "retry"]), issued=st.sampled_from(["keep", "revoke"]))
    def act_on_the_order(self, action: str, issued: str) -> None:
        orders = [each.body["orderId"] for each in self.world.asked.values() if "devices" in each.body]
        if orders:
            further = {"issued": issued} if action == "cancel" else {}
            self.ask(action, Queue.DEVICE_ORDERS, orderId=orders[-1], action=action, **further)

    @rule(own_key=st.booleans())
    def renew(self, own_key: bool) -> None:  # noqa: FBT001 - drawn by name
        request = {"csr": csr_of(f"renewal-{self.count}")} if own_key else {}
        self.ask("renewal", Queue.RENEWAL_REQUESTS, registrationId=DEVICE, **request)

    @rule(reason=st.sampled_from(["certificateHold", "certificateHold", "keyCompromise", "privilegeWithdrawn"]))
    def revoke(self, reason: str) -> None:
        self.ask("revocation", Queue.REVOCATION_REQUESTS, registrationId=DEVICE, reason=reason)

    @rule(action=st.sampled_from(["reinstate", "reinstate", "delete"]))
    def act(self, action: str) -> None:
        self.ask(action, Queue.REVOCATION_REQUESTS, registrationId=DEVICE, action=action)

    @precondition(lambda self: self.world.former() is not None)
    @rule(reason=st.sampled_from(["certificateHold", "superseded"]))
    def revoke_a_former(self, reason: str) -> None:
        self.ask("former", Queue.REVOCATION_REQUESTS, serialNumber=self.world.former(), reason=reason)

    @rule(name=st.sampled_from(sorted(CALLS.keys() - {"expire"})))
    def call(self, name: str) -> None:
        """Somebody waits for the answer, whatever it is."""

        async def waited_for() -> None:
            with suppress(Rejected, Deferred, ConnectionError, ExceptionGroup):
                await CALLS[name](self.world)

        if not self.world.conductor.down:
            self.run(waited_for())

    # --- what the hosts do ---

    def visible(self, number: int, *, patient: bool = False) -> tuple[str, Queued] | None:
        """Take one of the visible messages."""
        lying = self.world.queues.queues
        found = [
            (queue, each)
            for queue in QUEUES
            for each in lying.get(queue, ())
            if each.visible <= self.world.now and (each.taken < _FEW or not patient)
        ]
        if not found:
            return None
        queue, message = found[number % len(found)]
        return queue, self.world.queues.lease(queue, message, lease=LEASE)

    @rule(number=numbers, host=st.integers(0, 1))
    def deliver(self, number: int, host: int) -> None:
        taken = self.visible(number, patient="queues" in self.world.conductor.down)
        if taken is not None:
            self.run(self.world.hosts[host].deliver(*taken))

    @rule(number=numbers, seed=numbers)
    def deliver_twice(self, number: int, seed: int) -> None:
        taken = self.visible(number, patient=True)
        if taken is not None:
            self.run(self._at_once([taken, taken], Random(seed)))  # noqa: S311 - the same each time

    @rule(first=numbers, second=numbers, seed=numbers)
    def deliver_two(self, first: int, second: int, seed: int) -> None:
        taken = [self.visible(first, patient=True), self.visible(second, patient=True)]
        self.run(self._at_once([each for each in taken if each is not None], Random(seed)))  # noqa: S311 - likewise

    async def _at_once(self, taken: list[tuple[str, Queued]], random: Random) -> None:
        """Let two hosts take their steps in any order; now and then one is killed, or an answer is lost."""
        conductor = self.world.conductor
        actors = [f"{index} of {len(self.acts)}" for index in range(len(taken))]
        self.acts.append("at once")
        for index, actor in enumerate(actors):
            conductor.start(actor, self.world.hosts[index].deliver(*taken[index]))
        while actors:
            actor, chance = random.choice(actors), random.random()
            if chance < 0.01:
                await conductor.kill(actor)
                actors.remove(actor)
                continue
            go = Go.LOSE_ANSWER if chance > 0.99 else Go.ON
            if not await conductor.advance(actor, 1, go=go):
                actors.remove(actor)

    @rule(number=numbers, after=st.integers(0, 40), kill=st.booleans())
    def break_off(self, number: int, after: int, kill: bool) -> None:  # noqa: FBT001 - drawn by name
        """A worker is killed before one of its steps, or does not get the answer to it."""
        taken = self.visible(number, patient=True)
        if taken is None:
            return
        self.acts.append("broken off")
        actor = f"broken off {len(self.acts)}"

        async def run() -> None:
            conductor = self.world.conductor
            conductor.start(actor, self.world.hosts[0].deliver(*taken))
            await conductor.advance(actor, after)
            if kill:
                await conductor.kill(actor)
                return
            await conductor.advance(actor, 1, go=Go.LOSE_ANSWER)
            await conductor.advance(actor)

        self.run(run())

    @rule(timer=st.sampled_from(TIMERS))
    def tick(self, timer: str) -> None:
        self.run(self.world.hosts[0].tick(timer))

    @rule(service=st.sampled_from(SERVICES))
    def outage(self, service: str) -> None:
        """A service that works is down from now on; one that is down works again."""
        self.world.conductor.down ^= {service}

    @rule(time=st.sampled_from(TIMES))
    def wait(self, time: timedelta) -> None:
        self.world.now += time

    # --- what holds ---

    @rule()
    def rest(self) -> None:
        """Everything works, and all queues are drained."""
        self.world.conductor.down.clear()
        self.run(self.world.drain())
        assert self.run(audit(self.world)) == []
        assert self.world.bugs == []


def test_after_any_sequence_all_is_well_at_rest() -> None:
    """Requests, deliveries, second deliveries, kills, lost answers, outages, boots, timers, replays, and time."""
    run_state_machine_as_test(Everything, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
