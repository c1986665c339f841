"""What the prover passes over: it ends as what is run, and what could end otherwise is not passed over."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.messages import Queue
from tests.world import groups_acts
from tests.world.acts import SCENES, held, registered
from tests.world.authority_acts import SCENES as AUTHORITY_SCENES
from tests.world.authority_prover import AuthorityProof
from tests.world.conductor import Conductor
from tests.world.groups_prover import GroupProof
from tests.world.prover import PASSED_OVER, RUNS, Conducted, Proof, Prover, same_pauses
from tests.world.storage import Queues
from tests.world.trace import Stretch, Trace, Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.world.authority_world import AuthorityWorld
    from tests.world.storage import Queued
    from tests.world.world import World

PAIRS = (
    ("ordered", "order", "order again"),
    ("registered", "renew", "revoke"),
    ("registered", "hold", "boot"),
    ("registered", "disable", "renew"),
    ("renewing", "renew again", "boot"),
    ("renewing", "delete", "expire"),
    ("held", "reinstate", "delete"),
    ("refused", "replay", "hold"),
)

PAIRS_IN_TURN = PAIRS[:-1] if os.environ.get("PROVE") == "1" else [("registered", "hold", "boot")]
"""Without the last pair: a hold of a device that does not exist takes no step."""


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        ({"read": {("rows", "a")}}, {"read": {("rows", "a")}}, False),
        ({"changed": {("rows", "a")}}, {"read": {("rows", "a")}}, True),
        ({"changed": {("rows", "a")}}, {"changed": {("rows", "a")}}, True),
        ({"changed": {("rows", "a")}}, {"changed": {("rows", "b")}}, False),
        ({"changed": {("rows", "a", 1)}}, {"read": {("rows", "a")}}, True),
        ({"changed": {("rows",)}}, {"read": {("rows", "a", 1)}}, True),
        ({"changed": {("rows", "a")}}, {"read": {("blobs", "a")}}, False),
        ({"changed": {()}}, {"read": {("rows", "a")}}, True),
        ({"changed": {()}}, {}, False),
    ],
)
def test_two_stretches_meet_where_one_changes_what_the_other_is_at(one: Any, other: Any, *, meets: bool) -> None:
    first, second = Stretch(**one), Stretch(**other)
    assert first.meets(second) is meets
    assert second.meets(first) is meets


async def test_what_is_read_and_changed_in_a_step_is_noted() -> None:
    """Also by what an actor does at the same time, and what was there before nobody's steps is nobody's."""
    conductor, seen = Conductor(), list[Any]()
    shelf: Watched[int] = Watched(conductor.trace, "shelf")
    shelf["before"] = 1

    async def act() -> None:
        async with conductor.step("look"):
            seen.append(shelf.get("x"))
        async with conductor.step("put"):
            shelf["x"] = 1
        async with conductor.step("find"):
            seen.append(list(shelf))
        async with conductor.step("take"):
            shelf.pop("y", None)
            shelf.pop("x")

    conductor.start("a", act())
    assert await conductor.advance("a") == 4
    first, *steps = conductor.trace.stretches["a"]
    assert first == Stretch()
    assert [(each.read, each.changed) for each in steps] == [
        ({("shelf", "x")}, set()),
        (set(), {("shelf", "x")}),
        ({("shelf",)}, set()),
        ({("shelf", "y")}, {("shelf", "x")}),
    ]
    assert [conductor.trace.idle("a", step) for step in (1, 2, 3, 4)] == [True, False, True, False]


def test_steps_are_apart_up_to_the_first_that_meets_anything() -> None:
    trace = Trace()
    trace.stretches["b"] = [
        Stretch(changed={("rows", "begun")}),
        Stretch(read={("rows", 3)}),
        Stretch(changed={("x",)}),
    ]
    trace.stretches["a"] = [Stretch(), *(Stretch(changed={("rows", number)}) for number in (1, 2, 3, 4))]
    assert [trace.apart("a", "b", after=step) for step in range(5)] == [2, 1, 0, 1, 0]
    assert trace.apart("a", "nobody", after=0) == 4


@pytest.mark.parametrize(
    ("queue", "others", "apart"),
    [
        (Queue.PROVISIONING_EVENTS, Queue.PROVISIONING_EVENTS, True),
        (Queue.PROVISIONING_EVENTS, Queue.DEVICE_ORDERS, True),
        (Queue.RENEWAL_REQUESTS, Queue.DEVICE_ORDERS, False),
    ],
)
async def test_which_event_came_first_is_all_the_same(queue: Queue, others: Queue, *, apart: bool) -> None:
    """Which message did is not: workers take them by their numbers. Whoever looks through a queue sees both."""
    conductor = Conductor()
    queues = Queues(conductor)

    async def look() -> None:
        async with conductor.step("look"):
            queues.lying(queue)

    conductor.start("a", queues.send(queue, "one"))
    conductor.start("b", queues.send(others, "another"))
    conductor.start("looking", look())
    for actor in ("a", "b", "looking"):
        await conductor.advance(actor)
    assert conductor.trace.apart("a", "b", after=0) == apart
    assert conductor.trace.apart("a", "looking", after=0) == 0


async def test_taking_a_message_meets_who_is_at_that_one_alone() -> None:
    conductor = Conductor()
    queues = Queues(conductor)
    first, second = (queues.put(Queue.DEVICE_ORDERS, text) for text in ("one", "another"))
    receipts = set[str]()

    async def take(message: Queued) -> None:
        async with conductor.step("take"):
            receipts.add(queues.lease(Queue.DEVICE_ORDERS, message, lease=timedelta(minutes=1)).receipt)

    conductor.start("a", take(first))
    await conductor.advance("a")
    conductor.start("b", take(second))
    conductor.start("c", take(queues.lying(Queue.DEVICE_ORDERS)[0]))
    for actor in "bc":
        await conductor.advance(actor)
    assert conductor.trace.apart("a", "b", after=0) == 1
    assert conductor.trace.apart("a", "c", after=0) == 0
    assert len(receipts) == 3


async def passed_over[W: Conducted](
    proof: Prover[W], before: W, acts: tuple[str, str], end: Callable[[W], tuple[str, ...]]
) -> int:
    """Run each pause of the first act, and count those that end as another one, which stands for them."""
    left, count, expected = 0, 0, tuple[str, ...]()
    for step in range(await proof.length(before, acts[0]) + 1):
        world = before.copy()
        await proof._run(world, "", acts, (("a", step), ("b", None), ("a", None)))  # noqa: SLF001 - one run
        if left:
            assert end(world) == expected, f"after {step} steps"
            left, count = left - 1, count + 1
        else:
            expected, left = end(world), world.conductor.trace.apart("a", "b", after=step)
    return count


@pytest.mark.parametrize(("scene", "first", "second"), PAIRS)
async def test_what_is_passed_over_ends_as_what_is_run(scene: str, first: str, second: str) -> None:
    """Each pause of each act is run, and its end held against that of the pause that stands for it."""
    assert await passed_over(Proof(), await SCENES[scene](), (first, second), ended_with_outcomes) > 0


@pytest.mark.parametrize(("scene", "first", "second"), PAIRS_IN_TURN)
async def test_what_is_passed_over_of_two_pauses_ends_as_what_is_run(scene: str, first: str, second: str) -> None:
    """Each pause of both acts is run, and its end held against that of the pauses that stand for it."""
    before, proof = await SCENES[scene](), Proof()
    most = await proof.length(before, first), await proof.length(before, second)
    stands_for, ends = dict[tuple[int, int], tuple[int, int]](), dict[tuple[int, int], tuple[str, ...]]()
    for step, other in itertools.product(range(1, most[0] + 1), range(1, most[1] + 1)):
        world = before.copy()
        plan = (("a", step), ("b", other), ("a", None), ("b", None))
        await proof._run(world, "", (first, second), plan)  # noqa: SLF001 - one run
        end = ended_with_outcomes(world)
        if (step, other) in stands_for:
            assert end == ends[stands_for[step, other]], f"after {step} and {other} steps"
            continue
        ends[step, other] = end
        for same in same_pauses(world.conductor.trace, step, other, most=most):
            stands_for.setdefault(same, (step, other))
    assert len(stands_for) > len(ends) / 2


@pytest.mark.parametrize(
    ("scene", "first", "second"),
    [
        ("rooted", "create", "create otherwise"),
        ("acting", "renew the CA", "revoke the CA"),
        ("acting", "revoke the root", "create wrapped"),
        ("grouped", "create the group", "create for a group"),
        ("listing", "publish all", "revoke another"),
        ("awaiting", "install", "install another"),
    ],
)
async def test_what_is_passed_over_of_cas_ends_as_what_is_run(scene: str, first: str, second: str) -> None:
    def end(world: AuthorityWorld) -> tuple[str, ...]:
        return ended_of_authorities(world), *map(_plain, outcomes(world))

    assert await passed_over(AuthorityProof(), await AUTHORITY_SCENES[scene](), (first, second), end) > 0


@pytest.mark.parametrize(
    ("kind", "scene", "act"),
    [
        (Proof, SCENES["ordered"], "order"),
        (Proof, SCENES["renewing"], "renew again"),
        (Proof, SCENES["held"], "reinstate"),
        (Proof, SCENES["registered"], "delete"),
        (GroupProof, groups_acts.enabled, "roll"),
        (GroupProof, groups_acts.with_device, "delete the group"),
        (AuthorityProof, AUTHORITY_SCENES["acting"], "renew the root"),
    ],
)
async def test_a_killed_worker_leaves_what_the_others_are_given(kind: Any, scene: Any, act: str) -> None:
    """So what is left by one that is killed anywhere is seen at one that goes on."""
    before, proof = await scene(), kind()
    describe = ended_of_authorities if kind is AuthorityProof else ended
    going = before.copy()
    proof.begin(going, "a", act)
    step = 0
    while await going.conductor.stands("a"):
        killed = before.copy()
        proof.begin(killed, "a", act)
        await killed.conductor.advance("a", step)
        await killed.conductor.kill("a")
        assert describe(proof._killed(going)) == describe(killed), f"before step {step + 1}"  # noqa: SLF001
        step += await going.conductor.advance("a", 1)
    assert step > 0


async def test_where_the_order_matters_nothing_is_passed_over() -> None:
    """A reinstatement that was begun after a revocation, and one that was begun before it, end differently."""
    before, ends = await held(), set[str]()
    for pause in (0, None):
        world = before.copy()
        await Proof()._run(world, "", ("reinstate", "revoke"), (("a", pause), ("b", None), ("a", None)))  # noqa: SLF001
        ends.add(ended(world))
        assert world.conductor.trace.apart("a", "b", after=0) < len(world.conductor.steps["a"])
    assert len(ends) == 2


@pytest.mark.parametrize("act", ["renew", "revoke", "hold", "delete", "disable"])
async def test_a_step_that_changed_nothing_leaves_what_was_there_before_it(act: str) -> None:
    """So it is the same whether its worker is killed before it or after it."""
    world, idle = (await registered()).copy(), 0
    Proof().begin(world, "a", act)
    await world.conductor.advance("a", 0)
    before = ended(world)
    while await world.conductor.advance("a", 1):
        if world.conductor.trace.idle("a", len(world.conductor.steps["a"])):
            assert ended(world) == before, world.conductor.steps["a"]
            idle += 1
        before = ended(world)
    assert 0 < idle < len(world.conductor.steps["a"])


async def test_a_lost_answer_is_never_passed_over() -> None:
    """Also where it was a read's: whoever asked goes on otherwise."""
    before, told, passed_over = await registered(), RUNS.copy(), PASSED_OVER.copy()
    steps = await Proof().length(before, "revoke")
    await Proof().break_off(before, "revoke")
    assert RUNS["answers lost"] - told["answers lost"] == steps
    kills, passed_over_kills = RUNS["broken off"] - told["broken off"], (PASSED_OVER - passed_over)["broken off"]
    assert kills + passed_over_kills == steps
    assert min(kills, passed_over_kills) > 0


def outcomes(world: World | AuthorityWorld) -> tuple[str, ...]:
    """Give what the two acts were ended by, if anything."""
    return tuple(repr(world.conductor.outcome(actor)) for actor in "ab")


def ended_with_outcomes(world: World) -> tuple[str, ...]:
    return ended(world), *outcomes(world)


def ended(world: World) -> str:
    """Describe all that there is, but for numbers that are drawn, and for how versions are called."""
    tables = {name: [dict(row.values) for row in table.rows.values()] for name, table in world.storage.tables.items()}
    whole = (
        {name: sorted(map(_plain, rows)) for name, rows in tables.items()},
        sorted(_plain((key, blob.content)) for key, blob in world.blobs.blobs.items()),
        {name: sorted(_plain(each.text) for each in lying) for name, lying in sorted(world.queues.queues.items())},
        [sorted(_plain(each) for each in entries.items()) for entries in _entries(world)],
        sorted(_plain(asdict(each)) for each in world.hubs.identities.values()),
        sorted(map(_plain, world.secrets.secrets)),
        (len(world.lists.listed), len(world.log.entries), sorted(world.authorities.signed.values())),
        (world.now, len(world.bugs), world.reopened),
    )
    return repr(whole)


def ended_of_authorities(world: AuthorityWorld) -> str:
    """Describe all that there is in a world of CAs, likewise."""
    rows = {name: [_plain_row(row.values) for row in table.rows.values()] for name, table in world.tables.items()}
    whole = (
        {name: sorted(described) for name, described in rows.items()},
        [sorted(map(_plain_name, service.places)) for service in world.services],
        [sorted((place.verified, bool(place.code)) for place in service.places.values()) for service in world.services],
        (sorted(world.vault.keys), sorted(map(_plain, world.vault.tagged.items()))),
        sorted(world.blobs.blobs),
        [name for name, _ in world.blobs.lists],
        [_plain(each) for each in world.queues.sent],
        (len(world.log.entries), sorted(world.signed.values()), world.now, world.taken_up),
        sorted(_plain(each) for each in world.provisioning.groups.items()),
        {each.name: (each.done, each.rejected, each.deferred) for each in world.messages.values()},
    )
    return repr(whole)


def _entries(world: World) -> tuple[dict[str, Any], ...]:
    dps = world.provisioning
    return dps.groups, dps.enrollments, dps.registrations, world.registrar.begun


def _plain_name(name: str) -> str:
    return re.sub(r"-[0-9a-f]{8}$", "-#", name)


def _plain_row(values: Mapping[str, Any]) -> str:
    """Leave out partitions that are made of drawn numbers, and when within a day something was to be."""
    plain = {name: "moment" if isinstance(value, datetime) else value for name, value in values.items()}
    return re.sub(r": '[0-9a-f]{4}'", ": '#'", _plain(plain))


def _plain(thing: Any) -> str:
    text = re.sub(r"'etag': '[^']*'", "", str(thing))
    text = re.sub(r"-----BEGIN.*?-----END [A-Z ]+-----", "PEM", text, flags=re.DOTALL)
    return re.sub(r"[A-Za-z0-9+/_=-]{12,}|\b[0-9a-f]{8}\b|\b[0-9a-f]{2}\b|v\d+\b", "#", text)
