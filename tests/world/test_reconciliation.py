"""What others come in between with, step by step: a pass, a mend and an adoption meet them at every one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.messages import Queue
from shared.domain.findings import FindingState
from shared.domain.treatments import FindingKind, Policy
from shared.domain.words import DeviceState
from shared.errors import Conflict, Deferred
from shared.pki import names
from tests.world import acts, groups_acts
from tests.world.drift import (
    CA,
    SECOND,
    STRANGER,
    AsRecorded,
    asked,
    asked_for,
    delete_identity,
    disable_at_hub,
    fleet_of,
    one_pass,
    told_of_identities,
    two_hubs,
)
from tests.world.groups_world import authority
from tests.world.services import HUB
from tests.world.world import DEVICE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.world.drift import Fleet


@pytest.mark.parametrize("stopped", ["request", "pass"])
async def test_a_group_that_the_app_is_making_is_none_that_nobody_has_asked_for(stopped: str) -> None:
    """A pass looks before each step of the request in turn, and the request comes before each step of a pass."""
    for step in range(90):
        fleet, made = await fleet_of(), authority("line-2-ca1").certificate
        known = await AsRecorded(fleet.world).get(CA)
        own = {"name": "line-2-ca1", "certificate": names.pem(made), "thumbprint": names.thumbprint(made)}
        await AsRecorded(fleet.world).rows.try_insert(known.model_copy(update=own))
        wanted = {**groups_acts.MESSAGES["create"], "enrollmentGroup": "line-2", "requestId": "second"}
        fleet.world.ask("second", Queue.ENROLLMENT_GROUP_REQUESTS, wanted)
        begun = await fleet.reconciler.begin()
        until = fleet.world.now + timedelta(minutes=1)
        work = {
            "request": fleet.world.deliver("second"),
            "pass": fleet.reconciler.carry_on(begun.reconciliation_id, until=until),
        }
        fleet.world.conductor.start(stopped, work.pop(stopped))
        taken = await fleet.world.conductor.advance(stopped, step)
        await work.popitem()[1]
        await fleet.world.conductor.advance(stopped)
        assert [each for each in fleet.told("DriftFound") if each["subjectKind"] == "group"] == [], f"at step {step}"
        if taken < step:
            assert "line-2" in fleet.world.provisioning.groups
            return
    raise AssertionError("it has more steps than were tried")


async def test_a_finding_is_mended_or_adopted_and_never_both_whoever_comes_in_between() -> None:
    """One call begins at each step of the other: what was done is what its state says, and the later one is told so."""
    for first, second in ((Policy.MEND, Policy.ADOPT), (Policy.ADOPT, Policy.MEND)):
        for step in range(60):
            fleet = await fleet_of()
            await disable_at_hub(fleet)
            [found] = await fleet.look()
            await fleet.reconciler.check_ledger()  # what was seen of it holds for seconds, and is not a step of theirs
            conductor = fleet.world.conductor
            conductor.start("first", fleet.reconciler.act(found.finding_id, first))
            taken = await conductor.advance("first", step)
            conductor.start("second", fleet.reconciler.act(found.finding_id, second))
            await conductor.advance("second")
            await conductor.advance("first")
            outcomes = [conductor.outcome(each) for each in ("first", "second")]
            assert len([each for each in outcomes if each is None]) == 1, f"at step {step}: {outcomes}"
            assert isinstance(next(filter(None, outcomes)), (Deferred, Conflict))
            done, record = await fleet.finding(FindingKind.IDENTITY_DISABLED), fleet.world.record()
            assert record is not None
            is_mended = done.state is FindingState.MENDED
            assert (is_mended, record.disabled) in {(True, False), (False, True)}
            assert fleet.world.hubs.identities[HUB, DEVICE].enabled == is_mended, f"at step {step}"
            assert done.claim is None
            if taken < step:
                break
        else:
            raise AssertionError("it has more steps than were tried")


async def test_a_mend_meets_a_revocation_at_every_step_and_the_door_stays_shut() -> None:
    """The identity was deleted by somebody; while it is made again, the device is revoked, before each step in turn."""
    for step in range(40):
        fleet = await fleet_of()
        await delete_identity(fleet)
        [found] = await fleet.look()
        fleet.world.ask("revoke", *acts.MESSAGES["revoke"])
        await fleet.reconciler.check_ledger()  # what was seen of it holds for seconds, and is not a step of theirs
        fleet.world.conductor.start("mend", fleet.reconciler.act(found.finding_id, Policy.MEND))
        taken = await fleet.world.conductor.advance("mend", step)
        await fleet.world.deliver("revoke")
        await fleet.world.conductor.advance("mend")
        await fleet.world.drain()
        record = fleet.world.record()
        assert record is not None
        assert record.state is DeviceState.REVOKED
        assert not any(each.enabled for each in fleet.world.hubs.identities.values()), f"at step {step}"
        if taken < step:
            break
    else:
        raise AssertionError("it has more steps than were tried")
    assert step > 8


async def made(fleet: Fleet) -> Callable[[], Awaitable[None]]:
    """An operator asks the app for an entry of a device that the ledger does not know."""
    return lambda: asked_for(fleet, deviceId="another")


async def deleted(fleet: Fleet) -> Callable[[], Awaitable[None]]:
    await asked_for(fleet, deviceId="another")
    return lambda: fleet.world.services.individual_enrollments.delete(STRANGER)


async def ordered(fleet: Fleet) -> Callable[[], Awaitable[None]]:
    """The device is revoked, so that the app makes an entry for it."""
    fleet.world.ask("revoke", *acts.MESSAGES["revoke"])
    return lambda: fleet.world.deliver("revoke")


@pytest.mark.parametrize("begun", [made, deleted, ordered])
async def test_an_entry_that_the_app_makes_or_deletes_is_never_taken_for_a_strangers(
    begun: Callable[[Fleet], Awaitable[Callable[[], Awaitable[None]]]],
) -> None:
    """A pass looks before each step of the act in turn, and another time a pass is begun, and the act comes in between."""
    for step in range(60):
        fleet = await fleet_of()
        act: Any = await begun(fleet)
        conductor = fleet.world.conductor
        conductor.start("act", act())
        taken = await conductor.advance("act", step)
        await one_pass(fleet)
        assert fleet.told("DriftFound") == [], f"at step {step}"
        await conductor.advance("act")
        if taken < step:
            break
    else:
        raise AssertionError("it has more steps than were tried")
    for step in range(60):
        fleet = await fleet_of()
        act = await begun(fleet)
        conductor = fleet.world.conductor
        conductor.start("pass", one_pass(fleet))
        taken = await conductor.advance("pass", step)
        await act()
        await conductor.advance("pass")
        assert fleet.told("DriftFound") == [], f"before step {step} of the pass"
        if taken < step:
            return
    raise AssertionError("it has more steps than were tried")


# --- a healthy fleet ---


async def moved_by_dps(fleet: Fleet) -> None:
    """DPS gives the device another hub, and takes its identity out of the one before; then the ledger follows."""
    world = fleet.world
    registrations, before = world.provisioning.registrations, world.hubs.identities[HUB, DEVICE]

    def registered(**changes: str) -> None:
        registrations[DEVICE] = {**registrations[DEVICE], **changes, "lastUpdatedDateTimeUtc": world.now.isoformat()}

    async with world.conductor.step("dps.assigning", "dps"):
        registered(status="assigning")
    async with world.conductor.step("dps.makes", "dps"):
        world.hubs.enter(SECOND, DEVICE, *before.thumbprints)
    async with world.conductor.step("dps.assigned", "dps"):
        registered(status="assigned", assignedHub=SECOND)
    async with world.conductor.step("dps.removes", "dps"):
        del world.hubs.identities[HUB, DEVICE]
    known = await world.devices.get(DEVICE)
    assert known is not None
    await world.services.reconciler.walk.look.converger.follow(known)


async def moved(fleet: Fleet) -> Callable[[], Awaitable[None]]:
    return lambda: moved_by_dps(fleet)


async def ordered_again(fleet: Fleet) -> Callable[[], Awaitable[None]]:
    await asked(fleet, "delete")
    fleet.world.ask("order again", *acts.MESSAGES["order again"])

    async def act() -> None:
        await fleet.world.deliver("order again", host=1)
        await fleet.world.boot()
        await fleet.world.drain()

    return act


@pytest.mark.parametrize("begun", [moved, ordered_again])
async def test_an_identity_that_dps_makes_or_removes_is_never_taken_for_one_that_was_left(
    begun: Callable[[Fleet], Awaitable[Callable[[], Awaitable[None]]]],
) -> None:
    """A pass looks before each step of the act in turn, and another time a pass is begun, and the act comes in between."""
    for step in range(120):
        fleet = await two_hubs()
        act: Any = await begun(fleet)
        await fleet.reconciler.check_ledger()  # what was seen of it holds for seconds, and is not a step of theirs
        conductor = fleet.world.conductor
        conductor.start("act", act(), worker=1)  # one worker would wait for its own look at the ledger's epochs
        taken = await conductor.advance("act", step)
        await one_pass(fleet)
        await conductor.advance("act")
        assert told_of_identities(fleet) == [], f"at step {step}"
        if taken < step:
            break
    else:
        raise AssertionError("it has more steps than were tried")
    for step in range(120):
        fleet = await two_hubs()
        act = await begun(fleet)
        await fleet.reconciler.check_ledger()
        conductor = fleet.world.conductor
        conductor.start("pass", one_pass(fleet))
        taken = await conductor.advance("pass", step)
        conductor.start("act", act(), worker=1)
        await conductor.advance("act")
        await conductor.advance("pass")
        assert told_of_identities(fleet) == [], f"before step {step} of the pass"
        if taken < step:
            return
    raise AssertionError("it has more steps than were tried")
