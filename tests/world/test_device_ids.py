"""Where DPS has registered a device is its hub and its device id: an identity under another id lets it in as well."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.groups import IndividualEnrollmentDefinition
from shared.contracts.parsing import parse
from shared.domain.findings import FindingState
from shared.domain.treatments import FindingKind, Policy
from shared.errors import Conflict, Deferred
from shared.pki import names
from tests.pki.hierarchy import hierarchy
from tests.world import acts
from tests.world.drift import another_device, change_entry, fleet_of, newest, put
from tests.world.services import HUB
from tests.world.world import DEVICE, World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.world.drift import Fleet

OTHER = "press-2"
"""Another device of ours."""


async def register(fleet: Fleet) -> None:
    """Have the device register by its entry as it is now."""
    assert await fleet.world.registrar.boot(DEVICE, await newest(fleet)) is not None


async def registered_as(device_id: str, **policies: Policy) -> Fleet:
    """Make a fleet in which others had DPS register a device under another device id."""
    fleet = await fleet_of(**policies)
    await put(fleet, allocationPolicy="static", iotHubs=[HUB])
    change_entry(fleet, deviceId=device_id)
    await register(fleet)
    return fleet


def place(fleet: Fleet) -> tuple[str | None, str | None]:
    record = fleet.world.record()
    assert record is not None
    return record.assigned_hub, record.device_id


async def kinds(fleet: Fleet) -> set[FindingKind]:
    return {each.kind for each in await fleet.look() if each.subject == DEVICE}


async def test_a_device_that_is_registered_under_another_id_in_the_same_hub_is_found() -> None:
    """Its former identity is still there, so nothing else looks different when the entry is right again."""
    fleet = await registered_as("another")
    change_entry(fleet, deviceId=DEVICE)
    assert FindingKind.HUB_CHANGED in await kinds(fleet)
    found = await fleet.finding(FindingKind.HUB_CHANGED)
    assert (found.subject, found.where, found.ledger) == (DEVICE, "DPS", f"the device is in {HUB} as {DEVICE!r}")
    assert found.service == f"it is registered as 'another' in {HUB}, and has to register again"


async def test_mended_the_entry_is_right_and_the_device_is_followed_until_it_has_registered_again() -> None:
    fleet = await registered_as("another", enrollmentSettings=Policy.MEND)
    assert await kinds(fleet) >= {FindingKind.HUB_CHANGED}
    mended = await fleet.finding(FindingKind.ENROLLMENT_SETTINGS)
    assert (mended.state, mended.comment) == (
        FindingState.MENDED,
        f"{DEVICE}: it is registered as 'another' in {HUB}, and has to register again: it is to be {DEVICE!r}",
    )
    assert FindingKind.HUB_CHANGED in await kinds(fleet)
    await register(fleet)
    assert FindingKind.HUB_CHANGED not in await kinds(fleet)
    assert (await fleet.finding(FindingKind.HUB_CHANGED)).state is FindingState.GONE
    assert place(fleet) == (HUB, DEVICE)


async def test_settings_that_are_mended_in_time_leave_nothing_to_do() -> None:
    fleet = await fleet_of(enrollmentSettings=Policy.MEND)
    await put(fleet, allocationPolicy="static", iotHubs=[HUB])
    change_entry(fleet, deviceId="another")
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.ENROLLMENT_SETTINGS)).comment is None


async def test_the_ledger_does_not_take_over_an_id_that_may_be_that_of_another_device() -> None:
    """The app would then write the certificates of this device into the identity of that one."""
    fleet = await registered_as(OTHER, hubChanged=Policy.ADOPT)
    await another_device(fleet)
    await fleet.look()
    found = await fleet.finding(FindingKind.HUB_CHANGED)
    said = f"{DEVICE}: it is registered as {OTHER!r} in {HUB}, and has to register again: it is to be {DEVICE!r}"
    assert (found.state, found.problem) == (FindingState.OPEN, f"id: {said}")
    with pytest.raises(Conflict, match="has to register again"):
        await fleet.reconciler.act(found.finding_id, Policy.ADOPT)
    assert place(fleet) == (HUB, DEVICE)


async def test_an_id_that_an_operator_has_given_is_entered_and_is_no_finding() -> None:
    fleet = await fleet_of()
    await put(fleet, deviceId="press-one")
    await register(fleet)
    assert FindingKind.HUB_CHANGED not in await kinds(fleet)
    assert place(fleet) == (HUB, "press-one")


async def test_a_device_that_has_not_registered_since_an_operator_gave_it_an_id_is_no_finding() -> None:
    fleet = await fleet_of()
    await put(fleet, deviceId="press-one")
    assert await fleet.look() == []


def wants(world: World, device_id: str, certificate: str | None = None) -> Coroutine[Any, Any, object]:
    """Have an operator want a device id of the entry."""
    given = {"certificate": certificate} if certificate is not None else {}
    definition = parse(IndividualEnrollmentDefinition, {"deviceId": device_id, **given})
    return world.services.individual_enrollments.put(DEVICE, definition)


async def ours() -> World:
    """A device of ours, whose entry has a device id of its own."""
    world = await acts.registered()
    await wants(world, "press-one")
    return world


async def theirs() -> World:
    """A device that the ledger does not know, likewise."""
    world = await World().prepare()
    await wants(world, "press-one", names.pem(hierarchy().device(DEVICE)))
    return world


@pytest.mark.parametrize("scene", [ours, theirs])
async def test_the_id_that_an_entry_has_in_the_end_is_its_own_whoever_has_freed_it_meanwhile(
    scene: Callable[[], Coroutine[Any, Any, World]],
) -> None:
    """One operator changes it, and another one changes it back: each pauses."""
    before, runs = await scene(), 0
    for first, second in product(range(1, 60), range(1, 60)):
        world = before.copy()
        world.conductor.start("a", wants(world, "press-two"))
        if await world.conductor.advance("a", first) < first:
            break
        world.conductor.start("b", wants(world, "press-one"))
        if await world.conductor.advance("b", second) < second:
            continue
        await world.conductor.advance("a")
        await world.conductor.advance("b")
        outcomes = {world.conductor.outcome(each) for each in ("a", "b")}
        assert {type(each) for each in outcomes} <= {type(None), Deferred}
        await world.drain()
        runs += 1
        device_id = world.provisioning.enrollments[DEVICE]["deviceId"]
        owner = await world.services.individual_enrollments.devices.owner_of(device_id)
        assert owner == DEVICE, f"{device_id!r}, at steps {first} and {second}"
    assert runs > 20


async def test_the_timer_that_finds_a_change_brought_about_does_not_free_an_id_that_is_wanted_again() -> None:
    """It has read entry and record while the change was under way, and goes on when the next one has claimed the id."""
    before, runs = await ours(), 0
    for first, second in product(range(1, 12), range(1, 30)):
        world = before.copy()
        world.conductor.start("a", wants(world, "press-two"))
        while world.provisioning.enrollments[DEVICE]["deviceId"] != "press-two":
            assert await world.conductor.advance("a", 1)
        world.conductor.start("s", acts.CALLS["sweep"](world))
        await world.conductor.advance("s", first)
        await world.conductor.advance("a")
        world.conductor.start("b", wants(world, "press-one"))
        if await world.conductor.advance("b", second) < second:
            continue
        await world.conductor.advance("s")
        await world.conductor.advance("b")
        assert [world.conductor.outcome(each) for each in ("a", "s", "b")] == [None, None, None]
        await world.drain()
        runs += 1
        owner = await world.services.individual_enrollments.devices.owner_of("press-one")
        assert (owner, world.provisioning.enrollments[DEVICE]["deviceId"]) == (DEVICE, "press-one"), (first, second)
    assert runs > 20
