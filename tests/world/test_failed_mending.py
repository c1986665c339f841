"""A call to mend or to adopt fails for its caller: the audit log says whether it took effect, when a pass has looked.

Each call has an entry that is written ahead of the deed, as :func:`triggers.auditing.carried_out` does.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.acting import acting
from shared.domain.audit_entries import AuditedAct, AuditedCall, AuditOutcome, with_act
from shared.domain.audit_entries import SubjectKind as AuditedKind
from shared.domain.finding_calls import ADOPTED
from shared.domain.findings import FindingState
from shared.domain.treatments import TREATMENTS, FindingKind, Policy
from shared.errors import Conflict
from shared.ledger.audit_log import AuditFilters
from shared.workflows.intake.audit import Act
from tests.world.acts import MESSAGES
from tests.world.conductor import Go
from tests.world.drift import (
    CAN_BE_MENDED,
    Fleet,
    change_policy,
    delete_entry,
    delete_group,
    delete_identity,
    disable_at_hub,
    disable_group,
    enable_at_hub,
    fleet_in,
    fleet_of,
    leave_behind,
    move,
    pin_and_change,
)
from tests.world.test_failed_calls import ADA, FAILED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.domain.findings import FindingRecord
    from tests.world.drift import Plant


async def change_settings(fleet: Fleet) -> None:
    await pin_and_change(fleet, allocationPolicy="static", iotHubs=["hub-9"])


TRIED: list[tuple[Policy, FindingKind, tuple[str, ...], Plant]] = [
    *(
        (Policy.MEND, kind, requests, plant)
        for kind, requests, plant in CAN_BE_MENDED
        if kind is not FindingKind.AUTHORITY_UNVERIFIED  # its proof has a world of its own
    ),
    (Policy.ADOPT, FindingKind.IDENTITY_DISABLED, (), disable_at_hub),
    (Policy.ADOPT, FindingKind.HUB_CHANGED, (), leave_behind),
    (Policy.ADOPT, FindingKind.HUB_CHANGED, (), move),
    (Policy.ADOPT, FindingKind.ENROLLMENT_SETTINGS, (), change_settings),
    (Policy.ADOPT, FindingKind.GROUP_STATUS, (), disable_group),
    (Policy.ADOPT, FindingKind.GROUP_SETTINGS, (), change_policy),
    (Policy.ADOPT, FindingKind.GROUP_MISSING, (), delete_group),
]


async def planted(plant: Plant, *requests: str) -> tuple[Fleet, FindingRecord]:
    fleet = await fleet_of(*requests)
    await plant(fleet)
    [finding] = await fleet.look()
    return fleet, finding


def twin_of(fleet: Fleet) -> Fleet:
    """Give a fleet of its own, in the same state."""
    return fleet_in(fleet.world.copy(), fleet.keys, dataclasses.replace(fleet.places))


async def called(fleet: Fleet, finding: FindingRecord, policy: Policy) -> None:
    """Have Ada call, as the app's route does."""
    act = Act(action=policy.value, kind=AuditedKind.FINDING, subject=finding.finding_id)
    with acting(ADA, "ticket 4711"):
        async with fleet.world.services.audit.carried_out(act):
            await fleet.reconciler.act(finding.finding_id, policy)


async def outcomes(fleet: Fleet, policy: Policy) -> Sequence[str]:
    """Give what came of the calls, the latest first; who made them, and what she said to them, stays."""
    found, _ = await fleet.world.services.audit.log.page(AuditFilters(action=policy.value), size=100, continuation=None)
    assert all((each.actor, each.comment) == (ADA, "ticket 4711") for each in found)
    return [each.outcome for each in found]


async def kept(fleet: Fleet, finding: FindingRecord) -> FindingRecord:
    return await fleet.reconciler.describe_finding(finding.finding_id)


def test_everything_that_can_be_mended_or_adopted_is_tried() -> None:
    mended = {kind for policy, kind, *_ in TRIED if policy is Policy.MEND} | {FindingKind.AUTHORITY_UNVERIFIED}
    always = {kind for kind, each in TREATMENTS.items() if each.always_mended}
    assert mended | always == {kind for kind, each in TREATMENTS.items() if each.mending is not None}
    adopted = {kind for policy, kind, *_ in TRIED if policy is Policy.ADOPT}
    assert adopted == {kind for kind, each in TREATMENTS.items() if each.adopting is not None} == set(ADOPTED)


@pytest.mark.parametrize(("policy", "kind", "requests", "plant"), TRIED)
async def test_a_call_that_breaks_off_anywhere_is_done_in_the_log_if_and_only_if_it_took_effect(
    policy: Policy, kind: FindingKind, requests: tuple[str, ...], plant: Plant
) -> None:
    """Killed before a step, or with the answer to it lost; what was left is carried on, and the next pass looks."""
    scene, finding = await planted(plant, *requests)
    assert finding.kind is kind
    carried_on = set[bool]()

    def begun() -> Fleet:
        fleet = twin_of(scene)
        fleet.world.conductor.start("a", called(fleet, finding, policy))
        return fleet

    for step in range(1, await begun().world.conductor.advance("a")):
        fleet, lost = begun(), step % 2 == 1
        conductor = fleet.world.conductor
        await conductor.advance("a", step)
        if lost:
            await conductor.advance("a", 1, go=Go.LOSE_ANSWER)
            await conductor.advance("a")
        await conductor.kill("a")
        [first] = await outcomes(fleet, policy)
        await fleet.world.drain()
        await fleet.look()
        [last] = await outcomes(fleet, policy)
        after = await kept(fleet, finding)
        is_so = after.state is not FindingState.OPEN
        where = f"{'the answer is lost of' if lost else 'killed before'} step {step + 1}: {conductor.steps['a']}"
        assert (last == AuditOutcome.DONE) is is_so, where
        if is_so:
            assert (after.state == TO[policy], after.audited) == (True, ()), where
        carried_on.add(first in FAILED and is_so)
    assert carried_on == {False, True}


TO = {Policy.MEND: FindingState.MENDED, Policy.ADOPT: FindingState.ADOPTED}


async def fails(fleet: Fleet, finding: FindingRecord, policy: Policy, service: str) -> None:
    """Have Ada call while a service can't be reached."""
    fleet.world.conductor.down.add(service)
    with pytest.raises(ServiceRequestError):
        await called(fleet, finding, policy)
    fleet.world.conductor.down.clear()


@pytest.mark.parametrize("plant", [enable_at_hub, delete_entry])
async def test_a_door_that_a_call_could_not_shut_is_shut_by_the_next_pass_and_each_call_is_done(plant: Plant) -> None:
    """Nothing of the calls took effect, nor did the pass that has found it get further."""
    fleet = await fleet_of("revoke")
    await plant(fleet)
    able = fleet.reconciler
    fleet.reconciler = dataclasses.replace(able, mending=Refusing(able.mending))  # type: ignore[arg-type]
    [finding] = await fleet.look()
    assert finding.kind is FindingKind.DOOR_OPEN
    fleet.reconciler = dataclasses.replace(able, mending=Down(able.mending))  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(ServiceRequestError):
            await called(fleet, finding, Policy.MEND)
        fleet.world.now += timedelta(seconds=5)
    assert await outcomes(fleet, Policy.MEND) == [AuditOutcome.FAILED] * 2
    fleet.reconciler = able
    assert await fleet.look() == []
    assert await outcomes(fleet, Policy.MEND) == [AuditOutcome.DONE] * 2
    assert (await kept(fleet, finding)).state is FindingState.MENDED


async def test_a_finding_stays_while_the_hub_does_not_follow_and_its_call_is_done_when_the_sweep_has_seen_to_it() -> (
    None
):
    """The call entered what it wants into the device's record, and the hub could not be reached."""
    fleet, finding = await planted(disable_at_hub)
    fleet.world.conductor.start("a", called(fleet, finding, Policy.MEND))
    while not fleet.world.unsettled:
        assert await fleet.world.conductor.advance("a", 1) == 1
    fleet.world.conductor.down.add("hub")
    await fleet.world.conductor.advance("a")
    await fleet.reconciler.gone(finding.finding_id)
    assert (await kept(fleet, finding)).state is FindingState.OPEN
    assert await outcomes(fleet, Policy.MEND) == [AuditOutcome.FAILED]
    fleet.world.conductor.down.clear()
    fleet.world.now += timedelta(minutes=2)
    await fleet.world.hosts[1].tick("convergence_sweep")
    assert await fleet.look() == []
    assert await outcomes(fleet, Policy.MEND) == [AuditOutcome.DONE]
    assert [each["kind"] for each in fleet.told("DriftMended")] == ["identityDisabled"]


async def revoke(fleet: Fleet) -> None:
    fleet.world.ask("revoke", *MESSAGES["revoke"])
    await fleet.world.done()


async def enable_there(fleet: Fleet) -> None:
    """Its identity is enabled at the hub, by whoever has disabled it there."""
    await enable_at_hub(fleet)


@pytest.mark.parametrize(
    ("plant", "policy", "meanwhile", "outcome"),
    [
        (disable_at_hub, Policy.MEND, revoke, AuditOutcome.FAILED),
        (disable_at_hub, Policy.ADOPT, revoke, AuditOutcome.FAILED),
        (disable_at_hub, Policy.MEND, enable_there, AuditOutcome.DONE),
        (disable_at_hub, Policy.ADOPT, enable_there, AuditOutcome.FAILED),
        (delete_identity, Policy.MEND, revoke, AuditOutcome.FAILED),
    ],
)
async def test_what_became_of_a_difference_otherwise_was_not_done_by_the_call_that_failed(
    plant: Plant, policy: Policy, meanwhile: Any, outcome: AuditOutcome
) -> None:
    """Nothing of the call took effect. What it wanted is so, or something else was asked for."""
    fleet, finding = await planted(plant)
    keeps = fleet.reconciler
    fleet.reconciler = dataclasses.replace(keeps, mending=Down(keeps.mending))  # type: ignore[arg-type]
    with pytest.raises(ServiceRequestError):
        await called(fleet, finding, policy)
    fleet.reconciler = keeps
    await meanwhile(fleet)
    assert await fleet.look() == []
    assert await outcomes(fleet, policy) == [outcome]
    ended = await kept(fleet, finding)
    assert (ended.state, ended.audited) == (TO[policy] if outcome == "done" else FindingState.GONE, ())


async def test_of_two_calls_that_failed_the_one_is_done_whose_wish_has_come_true() -> None:
    """Between them the device was renewed: the first one wanted an identity with the former certificate."""
    fleet, finding = await planted(disable_at_hub)
    able = fleet.reconciler
    fleet.reconciler = dataclasses.replace(able, mending=Down(able.mending))  # type: ignore[arg-type]
    for meanwhile in (renew, enable_there):
        with pytest.raises(ServiceRequestError):
            await called(fleet, finding, Policy.MEND)
        fleet.world.now += timedelta(seconds=5)
        await meanwhile(fleet)
    fleet.reconciler = able
    assert await fleet.look() == []
    assert await outcomes(fleet, Policy.MEND) == [AuditOutcome.DONE, AuditOutcome.FAILED]


async def renew(fleet: Fleet) -> None:
    fleet.world.ask("renew", *MESSAGES["renew"])
    await fleet.world.done()


class Down:
    """Mends nothing, since a service is down."""

    def __init__(self, mending: Any) -> None:
        self.devices, self.groups, self.records = mending.devices, mending.groups, mending.records

    async def carry_out(self, _finding: FindingRecord, _policy: Policy) -> None:
        raise ServiceRequestError("hub can't be reached")


async def test_what_was_adopted_or_closed_after_a_call_to_mend_it_failed_was_not_mended() -> None:
    fleet, finding = await planted(disable_at_hub)
    await fails(fleet, finding, Policy.MEND, "hub")
    other = twin_of(fleet)
    await called(fleet, finding, Policy.ADOPT)
    assert (await outcomes(fleet, Policy.MEND), await outcomes(fleet, Policy.ADOPT)) == (["failed"], ["done"])
    await other.reconciler.close(finding.finding_id, "maintenance")
    await enable_at_hub(other)
    assert await other.look() == []
    assert ((await kept(other, finding)).state, await outcomes(other, Policy.MEND)) == (FindingState.GONE, ["failed"])


async def test_a_call_that_was_refused_stays_so_though_another_one_mends_the_finding() -> None:
    fleet, finding = await planted(disable_at_hub)
    able = fleet.reconciler
    fleet.reconciler = dataclasses.replace(able, mending=Refusing(able.mending))  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        await called(fleet, finding, Policy.MEND)
    fleet.reconciler = able
    fleet.world.now += timedelta(seconds=5)
    await called(fleet, finding, Policy.MEND)
    assert await outcomes(fleet, Policy.MEND) == [AuditOutcome.DONE, AuditOutcome.REFUSED]


class Refusing(Down):
    """Refuses."""

    async def carry_out(self, _finding: FindingRecord, _policy: Policy) -> None:
        raise Conflict.because("the CA is revoked")


async def test_a_finding_has_room_for_the_last_hundred_calls_that_failed() -> None:
    """Somebody may call again and again while a service is down."""
    fleet, finding = await planted(disable_at_hub)
    await fails(fleet, finding, Policy.MEND, "hub")
    [call] = (await kept(fleet, finding)).audited
    calls: tuple[AuditedCall, ...] = ()
    for number in range(120):
        calls = with_act(calls, call.changed(entry=AuditedAct(entry_id=f"{number:032x}", at=fleet.world.now)))
    assert [int(each.entry.entry_id, 16) for each in calls] == list(range(20, 120))
    column = finding.changed(audited=calls).columns()["audited"]
    assert len(column) < 32_000, "characters that a column holds (Azure Tables: 64 KiB)"
