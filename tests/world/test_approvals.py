"""A group's deletion that needs a second person: whatever breaks off and whoever decides at once, it is done as decided."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.acting import acting
from shared.contracts.messages import Queue
from shared.domain.approvals import ApprovalAct, ApprovalRecord, ApprovalState
from shared.domain.callers import Actor, CallerKind
from shared.domain.groups import GroupState
from shared.domain.requests import RequestState
from tests.world.groups_acts import MESSAGES
from tests.world.groups_prover import GroupProof
from tests.world.groups_world import GroupWorld
from tests.world.world import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from shared.services import Services

DELETION = "delete the group"
GROUPS = Queue.ENROLLMENT_GROUP_REQUESTS
BOB, CAROL = (Actor(kind=CallerKind.USER, id=name) for name in ("bob", "carol"))
_DONE, _REJECTED = RequestState.DONE, RequestState.REJECTED


class ApprovedWorld(GroupWorld):
    """A world in which the deletion of a group needs a second person."""

    def _build(self) -> Services:
        built = super()._build()
        deeds = dataclasses.replace(built.approvals.deeds, wanted={ApprovalAct.DELETE_GROUP: 0})
        approvals = dataclasses.replace(built.approvals, deeds=deeds)
        built.requests.gate = approvals
        return dataclasses.replace(built, approvals=approvals)

    def approvals(self, partition: str | None = None) -> list[ApprovalRecord]:
        """Give the rows of approvals, or those of a partition: ``log`` is their list."""
        rows = self.storage.table("approvals").rows.items()
        return [row.read(ApprovalRecord) for (at, _), row in rows if (at == "log") is (partition == "log")]


def _decides(by: Actor, *, refuse: bool = False) -> Callable[[ApprovedWorld], Coroutine[None, None, None]]:
    async def decide(world: ApprovedWorld) -> None:
        approvals = world.hosts[1].services.approvals
        with acting(by, "on the phone"):
            for known in world.approvals():
                await (approvals.refuse if refuse else approvals.approve)(known.approval_id)

    return decide


async def _expire(world: ApprovedWorld) -> None:
    world.now += timedelta(hours=73)
    await world.hosts[1].services.approvals.sweep()


CALLS: Mapping[str, Callable[[ApprovedWorld], Coroutine[None, None, None]]] = {
    "approve": _decides(BOB),
    "approve, too": _decides(CAROL),
    "refuse": _decides(CAROL, refuse=True),
    "expire": _expire,
}


class ApprovalProof(GroupProof):
    """What was tried in such worlds."""

    of = "of approvals: "
    traced = False  # those who decide share a worker, and what it remembers

    def _call(self, world: Any, name: str) -> Coroutine[None, None, None] | None:
        return CALLS[name](world) if name in CALLS else None

    async def _found(self, world: Any) -> list[str]:
        found = [repr(bug) for bug in world.bugs]
        with world.conductor.at_once():
            await world.services.approvals.sweep()
            known = await world.services.requests.find(GROUPS, MESSAGES[DELETION]["requestId"])
        rows = world.approvals()
        if len(rows) != 1:
            return [*found, f"there are {len(rows)} approvals"]
        [approval], state, group = rows, known.record.state, world.group()
        is_done, lies = group.state is GroupState.DELETED, bool(world.lying(world.asked[DELETION]))
        expected = {
            ApprovalState.OPEN: (RequestState.AWAITING_APPROVAL, False, True),
            ApprovalState.APPROVED: (_DONE, True, False),
            ApprovalState.REFUSED: (_REJECTED, False, False),
            ApprovalState.EXPIRED: (_REJECTED, False, False),
        }[approval.state]
        if (state, is_done, lies) != expected:
            found.append(f"it is {approval.state}; the request is {state}, done: {is_done}, in its queue: {lies}")
        if world.approvals("log") != [approval]:
            found.append(f"the list says {world.approvals('log')} of {approval}")
        told = [each["id"] for each in world.events() if each["type"].endswith(".ApprovalWanted")]
        if len(set(told)) != 1:
            found.append(f"told were {told}")
        ended = {
            (each["id"], each["data"]["state"]) for each in world.events() if each["type"].endswith(".ApprovalEnded")
        }
        if [state for _, state in ended] != ([] if approval.state is ApprovalState.OPEN else [approval.state]):
            found.append(f"it is {approval.state}, and told was that it ended as {ended}")
        kinds = {each["type"].rpartition(".")[2] for each in world.events() if each["correlationid"] == "gx"}
        ends = {"EnrollmentGroupChanged", "RequestRejected"} & kinds
        wanted = {_DONE: {"EnrollmentGroupChanged"}, _REJECTED: {"RequestRejected"}}.get(state, set())
        if ends != wanted:
            found.append(f"the request is {state}, and {ends} was told")
        return found


async def enabled() -> ApprovedWorld:
    """The group is there, and nobody has asked for its deletion."""
    world = ApprovedWorld()
    world.ask("create", GROUPS, {**MESSAGES["create"], "requestId": "before"})
    await world.drain()
    world.asked.clear()
    return world


async def awaiting() -> ApprovedWorld:
    """Its deletion waits for a second person."""
    world = await enabled()
    world.ask(DELETION, GROUPS, MESSAGES[DELETION])
    await world.drain()
    assert [each.state for each in world.approvals()] == ["open"]
    return world


async def approved() -> ApprovedWorld:
    """Somebody has approved it, and its message has not come since."""
    world = await awaiting()
    with world.conductor.at_once():
        await CALLS["approve"](world)
    return world


async def refused() -> ApprovedWorld:
    """Somebody has refused it, and its message has not come since."""
    world = await awaiting()
    with world.conductor.at_once():
        await CALLS["refuse"](world)
    return world


@pytest.mark.parametrize(
    ("scene", "act"),
    [
        (enabled, DELETION),
        (awaiting, DELETION),
        (awaiting, "approve"),
        (awaiting, "refuse"),
        (awaiting, "expire"),
        (approved, DELETION),
        (refused, DELETION),
    ],
)
def test_an_approval_that_breaks_off_at_any_step_loses_nothing(
    scene: Callable[[], Awaitable[ApprovedWorld]], act: str
) -> None:
    """The first look, a later one, each decision, and the deed: killed at each step, and with each answer lost."""

    async def prove() -> list[str]:
        proof = ApprovalProof()
        await proof.break_off(await scene(), act)
        assert proof.runs > 5
        return proof.faults

    assert run(prove()) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("approve", "refuse"),
        ("refuse", "approve"),
        ("approve", "approve, too"),
        ("approve", "expire"),
        ("expire", "approve"),
        (DELETION, "approve"),
        (DELETION, "refuse"),
        (DELETION, "expire"),
        ("approve", DELETION),
        (DELETION, DELETION),
    ],
)
def test_who_decides_at_once_decides_one_way(first: str, second: str) -> None:
    """One pauses before each of its steps while the other one runs to its end."""

    async def prove() -> list[str]:
        proof = ApprovalProof()
        await proof.interleave(await awaiting(), first, second)
        assert proof.runs > 3
        return proof.faults

    assert run(prove()) == []


def test_a_second_delivery_that_looked_before_the_approval_spoils_nothing() -> None:
    """It enters that it waits when the other one is being carried out already."""

    async def prove() -> list[str]:
        proof = ApprovalProof()
        for order in ("ab", "ba"):
            await proof.change_between(await awaiting(), DELETION, "approve", order=order)
        return proof.faults

    assert run(prove()) == []


def test_what_was_approved_is_checked_anew_when_it_is_carried_out() -> None:
    """The group was deleted meanwhile in another way: the request says so, and nothing is done."""

    async def done() -> list[str]:
        world = await approved()
        with world.conductor.at_once():
            group = world.group()
            assert group is not None
            known = await world.groups.get(group.enrollment_group)
            assert known is not None
            await world.groups.replace(known, group.changed(state=GroupState.DELETED, generation=group.generation + 1))
        await world.drain()
        return [str(reason["message"]) for each in world.rejections() for reason in each.reasons]

    assert run(done()) == ["the enrollment group 'line' does not exist"]
