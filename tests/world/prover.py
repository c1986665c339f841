"""Runs acts in every order of their steps, and breaks them at every step; then an auditor looks.

Of orders that can't end otherwise one is run: two steps that meet at no place have the same effect in either order, and
a worker that is killed after a step that changed nothing leaves what it would have left before that step (partial order
reduction: Godefroid, Partial-Order Methods for the Verification of Concurrent Systems, LNCS 1032). What was passed over
is counted; ``WHOLE=1`` runs it as well.
"""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from shared.errors import Deferred, Rejected
from tests.world.acts import ALL_CALLS, message
from tests.world.auditor import audit
from tests.world.conductor import Go, RestlessError
from tests.world.memory import again, leave

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping
    from datetime import datetime
    from random import Random

    from shared.contracts.messages import Queue
    from tests.world.conductor import Conductor
    from tests.world.trace import Trace
    from tests.world.world import World

GONE = timedelta(minutes=15)
"""When this has gone by, others take a worker that is not heard of for dead."""

_EXPECTED = (Deferred, Rejected, ConnectionError, ExceptionGroup)

RUNS: Counter[str] = Counter()
"""What was tried in this session, by its kind; the end of the session tells it."""

PASSED_OVER: Counter[str] = Counter()
"""What was not, since something that was tried ends the same; likewise."""

_WHOLE = os.environ.get("WHOLE") == "1"


class Conducted(Protocol):
    """A world whose actors are conducted."""

    conductor: Conductor
    now: datetime
    killed_late: bool
    """Whether a worker was killed that others were ahead of."""

    def copy(self) -> Self: ...

    async def drain(self) -> None: ...


@dataclass
class Prover[W: Conducted](ABC):
    """What was tried in worlds of a kind, and what was found."""

    runs: int = 0
    faults: list[str] = field(default_factory=list)
    of: ClassVar[str] = ""
    """What is put before the kinds of its runs when they are told."""

    traced: ClassVar[bool] = False
    """Whether its worlds note all that is read and changed in them: then what ends the same is passed over."""

    def check(self) -> None:
        """See that something was tried, and that nothing was found."""
        assert self.runs
        assert self.faults == [], "\n".join(self.faults)

    @abstractmethod
    def begin(self, world: W, actor: str, name: str, *, host: int = 0) -> None:
        """Have an actor stand before the first step of an act."""

    @abstractmethod
    def _begin_again(self, world: W, name: str) -> bool:
        """Have "b" stand before the first step of an act's second delivery; ``False`` if it comes by no queue."""

    @abstractmethod
    async def _found(self, world: W) -> list[str]:
        """Give what is wrong in a world at rest."""

    async def _ready(self, world: W) -> None:  # noqa: B027 - not every kind of world has something to look at
        """Have the workers know what they look at once, where several acts are carried out by the same one."""

    def _copied(self, scene: W) -> W:
        """Give a world in the same state as another one."""
        return scene.copy()

    def _killed(self, world: W) -> W:
        """Give what is left of a world whose workers are killed as they stand: it has workers that know nothing yet."""
        return self._copied(world)

    def _left(self, world: W) -> None:  # noqa: B027 - not every kind of world can be used again
        """Take note that nobody needs a world any more."""

    async def _close(self, world: W, kind: str, what: str) -> None:
        try:
            await world.drain()
        except RestlessError as unrest:
            self.faults.append(f"{what}: {unrest}")
        self.runs += 1
        RUNS[f"{self.of}{kind}"] += 1
        self.faults += [f"{what}: {fault}" for fault in await self._found(world)]
        self._left(world)

    def _check_outcome(self, world: W, actor: str, what: str) -> None:
        ended_by = world.conductor.outcome(actor)
        if ended_by is not None and not isinstance(ended_by, _EXPECTED):
            self.faults.append(f"{what}: {actor} ended by {ended_by!r}")

    def _pass_over(self, kind: str, count: int) -> int:
        """Note that so many runs need no running; give how many of them are not run."""
        passed_over = 0 if _WHOLE or not self.traced else count
        PASSED_OVER[f"{self.of}{kind}"] += passed_over
        return passed_over

    async def length(self, scene: W, name: str) -> int:
        """Give how many steps an act takes by itself."""
        world = self._copied(scene)
        self.begin(world, "a", name)
        steps = await world.conductor.advance("a")
        self._check_outcome(world, "a", name)
        self._left(world)
        return steps

    async def alone(self, scene: W, name: str) -> None:
        """Run an act by itself."""
        world = self._copied(scene)
        self.begin(world, "a", name)
        await world.conductor.advance("a")
        self._check_outcome(world, "a", name)
        await self._close(world, "alone", name)

    async def break_off(self, scene: W, name: str) -> None:
        """Stop an act before each step, and after each with its answer lost; then deliver it again.

        One that has nothing to do, and so no step, is run once.
        """
        steps = await self._kill(scene, name)
        if not steps:
            await self.alone(scene, name)
        for step in range(steps):
            world, what = self._copied(scene), f"{name} without the answer to step {step + 1}"
            self.begin(world, "a", name)
            await world.conductor.advance("a", step)
            await world.conductor.advance("a", 1, go=Go.LOSE_ANSWER)
            await world.conductor.advance("a")
            self._check_outcome(world, "a", what)
            await self._close(world, "answers lost", what)

    async def _kill(self, scene: W, name: str) -> int:
        """Have its worker killed before each step: what is left is what all share, as it is then.

        Returns:
            How many steps it has.
        """
        world, step = self._copied(scene), 0
        self.begin(world, "a", name)
        while await world.conductor.stands("a"):
            if not (step and world.conductor.trace.idle("a", step) and self._pass_over("broken off", 1)):
                await self._close(self._killed(world), "broken off", f"{name} killed before step {step + 1}")
            step += await world.conductor.advance("a", 1)
        self._check_outcome(world, "a", name)
        self._left(world)
        return step

    async def interleave(self, scene: W, first: str, second: str) -> None:
        """Pause one act before each of its steps while the other runs to its end.

        If the step that follows meets nothing of what the other did, then a pause behind it ends as this one.
        """
        step, steps = 0, await self.length(scene, first)
        while step <= steps:
            world, what = self._copied(scene), f"{first} paused after {step} steps for {second}"
            await self._run(world, what, (first, second), (("a", step), ("b", None), ("a", None)))
            apart = min(world.conductor.trace.apart("a", "b", after=step), steps - step)
            await self._close(world, "interleaved", what)
            step += 1 + self._pass_over("interleaved", apart)

    async def interleave_and_kill(self, scene: W, first: str, second: str) -> None:
        """As :meth:`interleave`, and the worker of the first one is killed after its next step."""
        for step in range(await self.length(scene, first)):
            world, what = (
                self._copied(scene),
                f"{first} killed after {step + 1} steps, {second} before the last of them",
            )
            self.begin(world, "a", first)
            await world.conductor.advance("a", step)
            self.begin(world, "b", second)
            await world.conductor.advance("b")
            await world.conductor.advance("a", 1)
            self._check_outcome(world, "b", what)
            left = self._killed(world)
            left.killed_late = True
            left.now += GONE
            await world.conductor.kill("a")
            self._left(world)
            await self._close(left, "killed after another", what)

    async def interleave_twice(self, scene: W, first: str, second: str) -> None:
        """Pause the one before each of its steps, and the other before each of its own.

        A pause of the one ends as the pause before, if the step between them meets nothing of what the other does
        before its own pause; a pause of the other, if the step meets nothing of what the one does after its pause.
        """
        known = set[tuple[int, int]]()
        most = max(1, await self.length(scene, first)), max(1, await self.length(scene, second))  # one run in any case
        for step, other in itertools.product(range(1, most[0] + 1), range(1, most[1] + 1)):
            if (step, other) in known and self._pass_over("interleaved twice", 1):
                continue
            world, what = self._copied(scene), f"{first} paused after {step} steps for {other} of {second}"
            plan = (("a", step), ("b", other), ("a", None), ("b", None))
            await self._run(world, what, (first, second), plan)
            known.update(same_pauses(world.conductor.trace, step, other, most=most))
            await self._close(world, "interleaved twice", what)

    async def change_between(self, scene: W, name: str, other: str, *, order: str) -> None:
        """Pause an act before each step, and its second delivery as well; another act runs to its end; then they end.

        Args:
            scene: the world that they begin in.
            name: the act that comes twice, by "a" and "b".
            other: the one between.
            order: who ends first.
        """
        steps = range(await self.length(scene, name) + 1)
        for step, second in itertools.product(steps, steps):
            world, what = self._copied(scene), f"{other} after {step} and {second} steps of {name}, and then {order}"
            self.begin(world, "a", name)
            await world.conductor.advance("a", step)
            if self._begin_again(world, name):
                await world.conductor.advance("b", second)
            self.begin(world, "c", other)
            await world.conductor.advance("c")
            for actor in order:
                await world.conductor.advance(actor)
            for actor in "abc":
                self._check_outcome(world, actor, what)
            await self._close(world, "changed in between", what)

    async def at_random(self, scene: W, acts: tuple[str, ...], random: Random) -> None:
        """Let acts take their steps in any order, each by one of two workers."""
        world = self._copied(scene)
        await self._ready(world)
        # The same act may come twice: each is an actor of its own.
        actors = [f"{index + 1}, {name} by {index % 2 + 1}" for index, name in enumerate(acts)]
        for index, (actor, name) in enumerate(zip(actors, acts, strict=True)):
            self.begin(world, actor, name, host=index % 2)
        moving, order = list(actors), list[str]()
        while moving:
            actor = random.choice(moving)
            order.append(actor)
            if not await world.conductor.advance(actor, 1):
                moving.remove(actor)
        what = f"{' with '.join(acts)} in the order {order}"
        for actor in actors:
            self._check_outcome(world, actor, what)
        await self._close(world, "at random", what)

    async def _run(self, world: W, what: str, acts: tuple[str, str], plan: tuple[tuple[str, int | None], ...]) -> None:
        first, second = acts
        self.begin(world, "a", first)
        if first != second or not self._begin_again(world, first):
            self.begin(world, "b", second, host=1)
        for actor, count in plan:
            await world.conductor.advance(actor, count)
        for actor in ("a", "b"):
            self._check_outcome(world, actor, what)


def same_pauses(trace: Trace, step: int, other: int, *, most: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Give how else "a" and "b" may pause in turn, and end as they did with so many steps each.

    Whoever has no step left that could be met is done: then any later pause is the same.

    Args:
        trace: of "a" that paused, "b" that paused, and both to their ends.
        step: how many "a" had taken.
        other: how many "b" had taken.
        most: how many of each are of interest.
    """
    longer = trace.apart("a", "b", after=step, of=slice(1, other + 1))
    later = trace.apart("b", "a", after=other, of=slice(step + 1, None))
    last_step = most[0] if longer == trace.steps_after("a", step) else min(most[0], step + longer)
    last_other = most[1] if later == trace.steps_after("b", other) else min(most[1], other + later)
    yield from ((each, other) for each in range(step + 1, last_step + 1))
    yield from ((step, each) for each in range(other + 1, last_other + 1))


class Proof[W: World = World](Prover[W]):
    """What was tried in worlds of devices."""

    traced: ClassVar[bool] = True

    def _copied(self, scene: W) -> W:
        return again(scene)

    def _left(self, world: W) -> None:
        leave(world)

    async def _found(self, world: W) -> list[str]:
        return [*await audit(world), *(repr(bug) for bug in world.bugs)]

    async def _ready(self, world: W) -> None:
        for host in world.hosts:  # who looks at the ledger's epochs first is waited for, which is not a step
            await host.services.epochs.check()

    def begin(self, world: W, actor: str, name: str, *, host: int = 0) -> None:
        """Have an actor stand before the first step of an act."""
        call = self._call(world, name)
        if call is not None:
            world.conductor.start(actor, call, worker=host)
            return
        asked = self._message(world, name)
        if asked is None:
            return
        if name not in world.asked:
            self._ask(world, name, *asked)
        taken = world.take(name)
        if taken is not None:
            world.conductor.start(actor, world.hosts[host].deliver(*taken))

    def _begin_again(self, world: W, name: str) -> bool:
        if name not in world.asked:
            return False
        for lying in world.lying(world.asked[name]):
            world.conductor.start("b", world.hosts[1].deliver(world.asked[name].queue, lying))
        return True

    def _call(self, world: W, name: str) -> Coroutine[None, None, None] | None:
        """Give an act that comes by no queue."""
        return ALL_CALLS[name](world) if name in ALL_CALLS else None

    def _message(self, world: W, name: str) -> tuple[Queue, Mapping[str, Any]] | None:
        return message(world, name)

    def _ask(self, world: W, name: str, queue: Queue, body: Mapping[str, Any]) -> None:
        world.ask(name, queue, body)
