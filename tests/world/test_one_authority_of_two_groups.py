"""Two groups are to have one CA at once: whoever is refused leaves nothing of it in DPS."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.messages import Queue
from shared.domain.audit import group_faults
from shared.domain.groups import GroupRecord, GroupState
from tests.world.groups_acts import MESSAGES, message
from tests.world.groups_auditor import messages_at_rest
from tests.world.groups_prover import GroupProof
from tests.world.groups_world import GroupWorld, thumbprint
from tests.world.world import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEEPER = os.environ.get("PROVE") == "1"
_ALL = 1000
"""More steps than any act has."""

SPARE, OTHER = "spare", "other"
ROLL, CREATE, ANOTHER = "roll to the CA", "create with the CA", "create another group with the CA"
_BODIES: Mapping[str, dict[str, Any]] = {
    ROLL: {**MESSAGES["roll"], "issuer": SPARE},
    CREATE: {**MESSAGES["create"], "issuer": SPARE},
    ANOTHER: {"requestId": "go", "enrollmentGroup": OTHER, "action": "create", "issuer": SPARE},
}


class TwoGroups(GroupWorld):
    """A CA that is there, and two groups that may get it."""

    def both(self) -> Iterator[GroupRecord]:
        """Give the groups as the ledger has them."""
        rows = self.storage.table("groups").rows
        return (rows["group", each].read(GroupRecord) for each in (GROUP, OTHER) if ("group", each) in rows)

    @property
    def unsettled(self) -> bool:
        return super().unsettled or any(not each.settled for each in self.both())


class Proof(GroupProof):
    """What was tried with two groups.

    Attributes:
        refused: in how many runs the first of two acts was refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    async def entered_between(self, scene: TwoGroups, act: str, other: str, third: str | None) -> None:
        """Have an act that is judged already entered at each step of another one, and then a third one carried out.

        The first one goes on to its end. ``PROVE=1`` also has a roll killed before each of its further steps. A group
        that is refused keeps the entry of a worker that was killed: it is a finding, as decision 0008 says.
        """
        judged = await self._judged(scene, other)
        for step in range(await self.length(scene, act) + 1):
            further = 0 if DEEPER and act == ROLL else _ALL
            while True:
                world = self._copied(scene)
                what = f"{other} and {third} after {step} steps of {act}, which then takes at most {further} more"
                for actor, name in {"b": other, "a": act}.items():
                    self.begin(world, actor, name)
                    await world.conductor.advance(actor, {"b": judged, "a": step}[actor])
                await world.conductor.advance("b", 1)
                if third is not None:
                    self.begin(world, "c", third)
                    await world.conductor.advance("c")
                is_over = await world.conductor.advance("a", further) < further
                await self._close(world if is_over else self._killed(world), "broken off", what)
                if is_over:
                    self.refused += world.rejected(world.asked[act])
                    break
                further += 1

    async def _judged(self, scene: TwoGroups, act: str) -> int:
        """Give how many steps a request takes before it enters what it wants of a group that is new."""
        world = self._copied(scene)
        self.begin(world, "a", act)
        await world.conductor.advance("a")
        self._left(world)
        return world.conductor.steps["a"].index("groups.insert")

    def _message(self, world: GroupWorld, name: str) -> tuple[Queue, Mapping[str, Any]] | None:
        return (Queue.ENROLLMENT_GROUP_REQUESTS, _BODIES[name]) if name in _BODIES else message(world, name)

    async def _found(self, world: GroupWorld) -> list[str]:
        assert isinstance(world, TwoGroups)
        found = [repr(bug) for bug in world.bugs] + [*messages_at_rest(world)]
        known = {each.enrollment_group: each for each in world.both()}
        thumbprints = {name: thumbprint(name) for name in world.authorities.made}
        for group, record in known.items():
            found += group_faults(record, world.provisioning.groups.get(group), thumbprints)
        found += [f"DPS has {group!r}, and the ledger does not" for group in world.provisioning.groups.keys() - known]
        there = [each for each in known.values() if each.state is not GroupState.DELETED]
        if len([each for each in there if SPARE in each.authorities]) > 1:
            found.append("both have the CA")
        return found


async def with_the_ca(*, enabled: bool) -> TwoGroups:
    world = TwoGroups()
    world.authorities.made.add(SPARE)
    if enabled:
        queue, body = message(world, "create") or pytest.fail("there is none")
        world.ask("create", queue, {**body, "requestId": "before"})
        await world.done()
    return world


@pytest.mark.parametrize(("act", "enabled"), [(ROLL, True), (CREATE, False)])
async def test_two_groups_that_are_to_have_a_ca_at_once_do_not_both_get_it(act: str, *, enabled: bool) -> None:
    """Either pauses before each of its steps while the other one runs to its end, and both pause in turn."""
    proof, world = Proof(), await with_the_ca(enabled=enabled)
    await proof.interleave(world, act, ANOTHER)
    await proof.interleave(world, ANOTHER, act)
    await proof.interleave_twice(world, act, ANOTHER)
    proof.check()


@pytest.mark.parametrize(
    ("act", "enabled", "third"),
    [
        (CREATE, False, None),
        (ROLL, True, "disable the group"),
        (ROLL, True, "update"),
        (ROLL, True, "delete the group"),
    ],
)
async def test_who_is_refused_a_ca_when_dps_has_followed_leaves_nothing_of_it_there(
    act: str, *, enabled: bool, third: str | None
) -> None:
    """The other group was seen to be the only one before; a third request is faster, so that all is judged anew."""
    proof, world = Proof(), await with_the_ca(enabled=enabled)
    await proof.entered_between(world, act, ANOTHER, third)
    proof.check()
    assert proof.refused
