"""What an individual enrollment has beside its certificates is compared with what was asked for, and with nothing else."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.attestations import leaf_attestation
from shared.domain.entries import own_settings
from shared.domain.findings import FindingState
from shared.domain.treatments import FindingKind, Policy
from shared.errors import Conflict, Deferred, Overtaken, PreconditionFailed, Rejected
from shared.pki import names
from tests.world import acts
from tests.world.drift import (
    HOUR,
    ask,
    change_entry,
    change_policy,
    delete_entry,
    disabled_by_hand,
    enable_entry,
    enabled_by_hand,
    entry,
    fleet_of,
    newest,
    of_entry,
    pin_and_change,
    pin_and_forget,
    put,
)
from tests.world.services import HUB, with_info
from tests.world.world import DEVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from shared.domain.devices import DeviceRecord
    from tests.world.drift import Fleet

    type Made = Callable[[Fleet], Coroutine[Any, Any, None]]

TWIN = {"tags": {"plant": "Bremen"}, "properties": {"desired": {"interval": 30}}}
EVERYTHING: dict[str, Any] = {
    "allocationPolicy": "static",
    "iotHubs": [HUB],
    "initialTwin": TWIN,
    "reprovisionPolicy": {"updateHubAssignment": False},
    "iotEdge": True,
    "deviceId": "press-one",
}
AS_DPS_HAS_IT = {
    "allocationPolicy": "static",
    "iotHubs": [HUB],
    "initialTwin": TWIN,
    "reprovisionPolicy": {"updateHubAssignment": False, "migrateDeviceData": True},
    "capabilities": {"iotEdge": True},
    "deviceId": "press-one",
}


async def deleted_by_hand(fleet: Fleet) -> None:
    await put(fleet, **EVERYTHING)
    await fleet.world.services.individual_enrollments.delete(DEVICE)
    await ask(fleet, "hold")


async def held_and_reinstated(fleet: Fleet) -> None:
    await put(fleet, **EVERYTHING)
    await ask(fleet, "hold", "reinstate")


async def renewed(fleet: Fleet) -> None:
    await put(fleet, **EVERYTHING)
    fleet.world.ask("renew", *acts.MESSAGES["renew"])
    await fleet.world.done()


async def put_twice(fleet: Fleet) -> None:
    await put(fleet, **EVERYTHING)
    await put(fleet, allocationPolicy="hashed", iotEdge=False)


async def revoked(fleet: Fleet) -> None:
    await put(fleet, **EVERYTHING)
    await ask(fleet, "revoke")


PATHS: list[Made] = [
    put,
    partial(put, **EVERYTHING),
    put_twice,
    disabled_by_hand,
    enabled_by_hand,
    deleted_by_hand,
    held_and_reinstated,
    renewed,
    revoked,
    pin_and_change,
]
"""Each way in which the app makes an individual enrollment, or changes it; the last one changes nothing."""


@pytest.mark.parametrize("shows", ["as it was written", "with what DPS fills in"])
@pytest.mark.parametrize("path", PATHS)
async def test_what_the_app_has_written_differs_in_nothing(path: Made, shows: str) -> None:
    """Of settings that were not asked for DPS shows some, and it does not show a twin in which nothing is."""
    fleet = await fleet_of()
    await path(fleet)
    if shows == "with what DPS fills in":
        filled: dict[str, Any] = {
            "capabilities": {"iotEdge": False},
            "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True},
            "allocationPolicy": "hashed",
            "iotHubs": [],
            "initialTwin": None,
        }
        present = {name: value for name, value in entry(fleet).items() if value is not None}
        change_entry(fleet, **{**filled, **present})
    assert await fleet.look() == []
    assert not fleet.told("DriftFound")


async def test_the_order_of_hubs_and_their_case_do_not_differ() -> None:
    fleet = await fleet_of()
    await put(fleet, allocationPolicy="hashed", iotHubs=["hub-1", "hub-2"])
    change_entry(fleet, iotHubs=["Hub-2", "hub-1"])
    assert await fleet.look() == []


async def test_an_entry_of_before_the_order_is_taken_as_it_is_and_changes_of_it_are_found() -> None:
    """What it has was not asked for in the device's time: so the first pass notes it, without a call more."""
    fleet = await fleet_of()
    await put(fleet, **EVERYTHING)
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    await fleet.world.devices.replace(known, known.record.changed(entry_settings=None))
    assert await fleet.look() == []
    record = fleet.world.record()
    assert record is not None
    assert record.entry_settings == AS_DPS_HAS_IT
    change_entry(fleet, capabilities={"iotEdge": False})
    assert [each.kind for each in await fleet.look()] == [FindingKind.ENROLLMENT_SETTINGS]


async def changed_by_hand(fleet: Fleet) -> None:
    await put(fleet, **{**EVERYTHING, "iotHubs": ["hub-2"]}, provisioningStatus="disabled")


async def only_deleted_by_hand(fleet: Fleet) -> None:
    await fleet.world.services.individual_enrollments.delete(DEVICE)


@pytest.mark.long
@pytest.mark.parametrize("before", [put, disabled_by_hand])
@pytest.mark.parametrize("act", [changed_by_hand, disabled_by_hand, enabled_by_hand, only_deleted_by_hand])
async def test_what_is_being_written_differs_in_nothing(before: Made, act: Made) -> None:
    """A pass looks before each step of the call in turn: what is asked for is entered, and DPS does not have it yet."""
    for step in range(60):
        fleet = await fleet_of()
        await before(fleet)
        fleet.world.conductor.start("act", act(fleet))
        taken = await fleet.world.conductor.advance("act", step)
        begun = await fleet.reconciler.begin()
        # A share of a hub's queries is two in a minute: its identities and its devices use them.
        await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + timedelta(minutes=3))
        assert (await fleet.reconciler.describe(begun.reconciliation_id)).ended_at is not None
        assert fleet.told("DriftFound") == [], f"at step {step}"
        await fleet.world.conductor.advance("act")
        if taken < step:
            return
    raise AssertionError("it has more steps than were tried")


@pytest.mark.parametrize("act", [put, disabled_by_hand])
async def test_what_is_changed_when_it_is_written_is_found_in_the_same_minute(act: Made) -> None:
    fleet = await fleet_of()
    await act(fleet)
    change_entry(fleet, iotHubs=["hub-9"])
    begun = await fleet.reconciler.begin()
    await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + timedelta(minutes=1))
    assert [each.kind for each in await fleet.open()] == [FindingKind.ENROLLMENT_SETTINGS]


@pytest.mark.parametrize("after", [timedelta(minutes=9), timedelta(minutes=11)])
async def test_of_a_call_whose_worker_was_killed_dps_is_asked_to_follow_when_it_has_ended_for_sure(
    after: timedelta,
) -> None:
    """It was entered and not written. A caller gets an answer within four minutes, and the host ends the call after ten."""
    fleet = await fleet_of()
    await put(fleet)
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    killed = {"entry_settings": {"iotHubs": ["hub-2"]}, "entry_asked_at": fleet.world.now + HOUR - after}
    await fleet.world.devices.replace(known, known.record.changed(**killed))
    found = [FindingKind.ENROLLMENT_SETTINGS] if after > timedelta(minutes=10) else []
    assert [each.kind for each in await fleet.look()] == found


@pytest.mark.parametrize("plant", [enable_entry, delete_entry])
async def test_a_door_of_a_revoked_device_is_looked_at_whatever_is_being_written(plant: Made) -> None:
    fleet = await fleet_of()
    await put(fleet)
    await ask(fleet, "revoke")
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    await fleet.world.devices.replace(known, known.record.changed(entry_asked_at=fleet.world.now + HOUR))
    await plant(fleet)
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.DOOR_OPEN)).state is FindingState.MENDED


# --- what others change ---


async def test_both_sides_are_told_and_what_may_be_secret_is_not() -> None:
    """The words of a twin and the URL of a webhook are the owner's: it is told that they differ."""
    fleet = await fleet_of()
    await put(fleet, **EVERYTHING)
    change_entry(
        fleet,
        allocationPolicy="custom",
        customAllocationDefinition={"webhookUrl": "https://f.example/api/x?code=secret", "apiVersion": "2021-10-01"},
        iotHubs=["hub-3", "hub-2"],
        initialTwin={"tags": {"plant": "hunter2"}, "properties": {"desired": {"interval": 30}}},
        reprovisionPolicy={"updateHubAssignment": True, "migrateDeviceData": True},
        capabilities={"iotEdge": False},
        deviceId="another",
    )
    [found] = await fleet.look()
    assert (found.kind, found.subject, found.where) == (FindingKind.ENROLLMENT_SETTINGS, DEVICE, "DPS")
    assert found.ledger == (
        "allocationPolicy is static, customAllocationDefinition is as it was last asked for, iotHubs is hub-1, "
        "initialTwin.tags is as it was last asked for, reprovisionPolicy.updateHubAssignment is false, "
        "capabilities.iotEdge is true, deviceId is press-one"
    )
    assert found.service == (
        "allocationPolicy is custom, customAllocationDefinition is otherwise, iotHubs is hub-2, hub-3, "
        "initialTwin.tags is otherwise, reprovisionPolicy.updateHubAssignment is true, "
        "capabilities.iotEdge is false, deviceId is another"
    )


async def test_both_sides_of_a_group_are_told_likewise() -> None:
    fleet = await fleet_of()
    await change_policy(fleet)
    [found] = await fleet.look()
    assert found.ledger == "allocationPolicy is hashed, iotHubs is not set"
    assert found.service == "allocationPolicy is static, iotHubs is hub-9"


async def test_mended_the_entry_has_what_was_asked_for_and_lets_in_whom_it_let_in() -> None:
    fleet = await fleet_of(enrollmentSettings=Policy.MEND)
    await put(fleet, **EVERYTHING)
    await ask(fleet, "hold")
    before = entry(fleet)
    change_entry(
        fleet, initialTwin={"tags": {}}, iotHubs=["hub-9"], deviceId="another", capabilities={"iotEdge": False}
    )
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.ENROLLMENT_SETTINGS)).state is FindingState.MENDED
    assert of_entry(fleet, *AS_DPS_HAS_IT) == AS_DPS_HAS_IT
    assert of_entry(fleet, "attestation", "provisioningStatus") == {
        "attestation": before["attestation"],
        "provisioningStatus": "disabled",
    }


async def test_adopted_the_entry_stays_and_the_ledger_says_what_it_has() -> None:
    fleet = await fleet_of(enrollmentSettings=Policy.ADOPT)
    await put(fleet, **EVERYTHING)
    change_entry(fleet, iotHubs=["hub-9"])
    assert await fleet.look() == []
    record = fleet.world.record()
    assert record is not None
    assert record.entry_settings == {**AS_DPS_HAS_IT, "iotHubs": ["hub-9"]}
    assert entry(fleet)["iotHubs"] == ["hub-9"]


async def test_an_entry_that_is_made_again_gets_its_settings_back() -> None:
    """Somebody has deleted it: with what DPS takes for them by itself, the device would come elsewhere."""
    fleet = await fleet_of(enrollmentMissing=Policy.MEND)
    await put(fleet, **EVERYTHING)
    del fleet.world.provisioning.enrollments[DEVICE]
    assert await fleet.look() == []
    assert of_entry(fleet, *AS_DPS_HAS_IT) == AS_DPS_HAS_IT


async def test_an_entry_that_shuts_a_device_out_is_made_again_with_its_settings() -> None:
    """So that it has them when the hold is undone."""
    fleet = await fleet_of()
    await put(fleet, **EVERYTHING)
    await ask(fleet, "hold")
    del fleet.world.provisioning.enrollments[DEVICE]
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.DOOR_OPEN)).state is FindingState.MENDED
    assert of_entry(fleet, *AS_DPS_HAS_IT) == AS_DPS_HAS_IT
    await ask(fleet, "reinstate")
    assert entry(fleet)["provisioningStatus"] == "enabled"
    assert await fleet.look() == []


async def test_what_a_stranger_has_put_into_an_entry_is_not_taken_over_with_it() -> None:
    """Pinned, it has the device's own certificates, and the stranger's hub shows as what differs."""
    fleet = await fleet_of(enrollmentForeign=Policy.MEND, enrollmentSettings=Policy.MEND)
    await put(fleet)
    own = await newest(fleet)
    theirs = {"clientCertificates": {"primary": {"certificate": "", "info": {"sha256Thumbprint": "AB" * 32}}}}
    change_entry(fleet, attestation={"type": "x509", "x509": theirs}, iotHubs=["hub-9"], allocationPolicy="static")
    await fleet.look()
    assert await fleet.look() == []
    assert of_entry(fleet, "iotHubs", "allocationPolicy") == {"iotHubs": None, "allocationPolicy": "hashed"}
    assert fleet.world.provisioning.admits(DEVICE, own)


async def test_what_a_stranger_has_put_in_is_not_taken_over_though_nothing_was_known_of_the_entry() -> None:
    """The device was taken over from the services, and another group has registered it since."""
    fleet = await fleet_of()
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    await fleet.world.devices.replace(known, known.record.changed(entry_settings=None))
    await pin_and_change(fleet, iotHubs=["hub-9"])
    assert [each.kind for each in await fleet.look()] == [FindingKind.ENROLLMENT_SETTINGS]


async def test_an_entry_that_is_made_after_one_was_deleted_has_nothing_of_it() -> None:
    """It has what the group has."""
    fleet = await fleet_of()
    await deleted_by_hand(fleet)
    assert own_settings(entry(fleet)) == {
        "allocationPolicy": "hashed",
        "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True},
    }
    assert entry(fleet)["deviceId"] == DEVICE


@pytest.mark.long
async def test_a_mend_meets_a_revocation_at_every_step_and_the_entry_stays_disabled() -> None:
    """While the settings are written anew, the device is revoked, before each step in turn."""
    for step in range(60):
        fleet = await fleet_of()
        await pin_and_change(fleet, iotHubs=["hub-9"], allocationPolicy="static")
        [found] = await fleet.look()
        fleet.world.ask("revoke", *acts.MESSAGES["revoke"])
        fleet.world.conductor.start("mend", fleet.reconciler.act(found.finding_id, Policy.MEND))
        taken = await fleet.world.conductor.advance("mend", step)
        await fleet.world.deliver("revoke")
        with suppress(Overtaken):
            await fleet.world.conductor.advance("mend")
        await fleet.world.drain()
        assert entry(fleet)["provisioningStatus"] == "disabled", f"at step {step}"
        if taken < step:
            break
    else:
        raise AssertionError("it has more steps than were tried")
    assert step > 4


# --- an entry that an operator has disabled ---


@pytest.mark.parametrize("is_there", [True, False])
async def test_an_entry_that_an_operator_has_disabled_is_disabled_again_at_once(*, is_there: bool) -> None:
    """Whatever the policy says: DPS would let the device in, by the entry, or by its group without one."""
    fleet = await fleet_of()
    await disabled_by_hand(fleet)
    if is_there:
        change_entry(fleet, provisioningStatus="enabled")
    else:
        del fleet.world.provisioning.enrollments[DEVICE]
    assert await fleet.look() == []
    found = await fleet.finding(FindingKind.DOOR_OPEN)
    assert found.state is FindingState.MENDED
    assert found.ledger == "the device is registered, and its individual enrollment is disabled"
    held = "its individual enrollment is enabled" if is_there else "it does not have an individual enrollment"
    assert found.service == held
    assert entry(fleet)["provisioningStatus"] == "disabled"
    assert await fleet.look() == []


# --- what was asked for ---


@contextmanager
def refusing(fleet: Fleet, error: Rejected) -> Iterator[None]:
    """Have DPS refuse to write an individual enrollment."""

    async def put_enrollment(*_args: object, **_named: object) -> dict[str, Any]:
        raise error

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fleet.world.provisioning, "put_enrollment", put_enrollment)
        yield


async def test_what_dps_refuses_is_not_wanted() -> None:
    """DPS has the entry of before, and so has the ledger; a new one that is refused is not missed."""
    for before in ({}, EVERYTHING):
        fleet = await fleet_of()
        if before:
            await put(fleet, **before)
        known = fleet.world.record()
        refused = refusing(fleet, Rejected.because("iotHubs: one hub is needed for 'static'"))
        with refused, pytest.raises(Rejected, match="one hub is needed"):
            await put(fleet, allocationPolicy="static", iotHubs=["hub-9"], provisioningStatus="disabled")
        now = fleet.world.record()
        assert known is not None
        assert now == as_before(known, now)
        assert await fleet.look() == []
        assert not fleet.told("DriftFound")


async def test_what_somebody_else_is_changing_is_not_wanted() -> None:
    """The caller is told to try again, and DPS and the ledger have what was there before."""
    fleet = await fleet_of()
    await put(fleet, **EVERYTHING)
    known = fleet.world.record()
    for act in (partial(put, iotEdge=False), disabled_by_hand):
        changed_meanwhile = refusing(fleet, PreconditionFailed.because("it has another ETag"))
        with changed_meanwhile, pytest.raises(Deferred, match="is being changed by someone else"):
            await act(fleet)
    now = fleet.world.record()
    assert known is not None
    assert now == as_before(known, now)


def as_before(known: DeviceRecord, now: DeviceRecord | None) -> DeviceRecord:
    """Give a record as it was, but for what counts that something was asked for, which the services follow."""
    assert now is not None
    assert now.converged == now.generation > known.generation
    return known.changed(
        stamp=now.stamp,
        notes=now.notes,
        generation=now.generation,
        converged=now.generation,
        followed_state=now.followed_state,
    )


async def test_a_refused_wish_does_not_undo_what_somebody_else_wants_meanwhile() -> None:
    fleet = await fleet_of()
    await put(fleet)

    async def refuse(*_args: object, **_named: object) -> dict[str, Any]:
        dps.put_enrollment = taken  # type: ignore[method-assign]
        await disabled_by_hand(fleet)
        raise Conflict.because("refused")

    dps, taken = fleet.world.provisioning, fleet.world.provisioning.put_enrollment
    dps.put_enrollment = refuse  # type: ignore[method-assign]
    with pytest.raises(Rejected):
        await put(fleet, iotEdge=True)
    record = fleet.world.record()
    assert record is not None
    assert (record.own_entry, record.entry_disabled) == (True, True)
    assert await fleet.look() == []


async def test_what_dps_makes_of_the_settings_is_what_they_are_to_be() -> None:
    """A DPS may write a device id, or a part of a twin, otherwise than it was asked."""
    fleet = await fleet_of()

    async def shaped(enrollment: dict[str, Any], *, etag: str | None = None) -> dict[str, Any]:
        return await taken({**enrollment, "deviceId": enrollment["deviceId"].upper()}, etag=etag)

    dps, taken = fleet.world.provisioning, fleet.world.provisioning.put_enrollment
    dps.put_enrollment = shaped  # type: ignore[method-assign, assignment]
    await put(fleet, deviceId="press-one")
    record = fleet.world.record()
    assert record is not None
    assert record.entry_settings is not None
    assert record.entry_settings["deviceId"] == "PRESS-ONE"
    assert await fleet.look() == []


@pytest.mark.parametrize(
    "act", [disabled_by_hand, partial(put, provisioningStatus="enabled"), partial(put, iotEdge=False)]
)
async def test_an_act_that_does_not_name_a_setting_does_not_take_over_what_a_stranger_has_put_there(act: Made) -> None:
    """Else whoever disables such an entry would have the finding go away, and the hub of a stranger be asked for."""
    fleet = await fleet_of()
    await put(fleet, **EVERYTHING)
    change_entry(fleet, iotHubs=["hub-9"])
    [found] = await fleet.look()
    await act(fleet)
    [still] = await fleet.look()
    assert (still.finding_id, still.ledger, still.service) == (found.finding_id, "iotHubs is hub-1", "iotHubs is hub-9")


async def test_an_act_that_names_a_setting_asks_for_it() -> None:
    fleet = await fleet_of()
    await put(fleet, **EVERYTHING)
    change_entry(fleet, iotHubs=["hub-9"], deviceId="another")
    assert len(await fleet.look()) == 1
    await put(fleet, iotHubs=["hub-9"], deviceId="another")
    assert await fleet.look() == []


async def test_an_entry_that_is_made_to_disable_it_has_the_settings_that_were_asked_for() -> None:
    """Somebody has deleted it. When it is enabled again, the device comes to where it belongs."""
    fleet = await fleet_of()
    await put(fleet, **EVERYTHING)
    del fleet.world.provisioning.enrollments[DEVICE]
    await disabled_by_hand(fleet)
    assert of_entry(fleet, *AS_DPS_HAS_IT) == AS_DPS_HAS_IT
    assert entry(fleet)["provisioningStatus"] == "disabled"
    assert await fleet.look() == []


# --- what it costs ---


@pytest.mark.parametrize("made", [pin_and_change, partial(put, **EVERYTHING)])
async def test_settings_are_compared_without_a_call_more(made: Made) -> None:
    """The groups, a group, a page of entries, a page of registrations, and the entry that must be there: as without."""
    fleet = await fleet_of()
    await made(fleet)
    await fleet.look()
    [done] = await fleet.reconciler.passes.all()
    assert done.calls["dps"] == 5


async def test_an_entry_that_nobody_has_asked_for_is_no_finding_unless_it_has_settings() -> None:
    """Somebody gives the device an entry with its own certificate, as it may be; then one that sends it elsewhere."""
    fleet = await fleet_of()
    await pin_and_forget(fleet)
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    await fleet.world.devices.replace(known, known.record.changed(own_entry=False))
    assert await fleet.look() == []
    fleet.world.provisioning.enrollments[DEVICE] = {
        "registrationId": DEVICE,
        "etag": '"1"',
        "provisioningStatus": "enabled",
        "iotHubs": ["hub-9"],
        "attestation": await own_attestation(fleet),
    }
    assert [each.kind for each in await fleet.look()] == [FindingKind.ENROLLMENT_SETTINGS]


async def own_attestation(fleet: Fleet) -> dict[str, Any]:
    """Give the attestation by the device's own certificate, as DPS shows it."""
    attestation: dict[str, Any] = with_info({"attestation": leaf_attestation(names.pem(await newest(fleet)))}, None)[
        "attestation"
    ]
    return attestation
