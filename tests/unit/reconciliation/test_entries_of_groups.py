"""An individual enrollment that the app makes for a device of a group lets it in as its group would, and follows that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.messages import Queue
from shared.domain.entries import own_settings
from shared.domain.treatments import FindingKind, Policy
from shared.errors import Rejected
from tests.world.auditor import audit
from tests.world.drift import (
    ask,
    change_entry,
    disabled_by_hand,
    enabled_by_hand,
    entry,
    fleet_of,
    let_another_in,
    of_entry,
    pin_and_forget,
    put,
    revoke_former,
)
from tests.world.services import HUB
from tests.world.world import DEVICE, GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from tests.world.drift import Fleet

    type Made = Callable[[Fleet], Coroutine[Any, Any, object]]

SETTINGS: dict[str, Any] = {
    "allocationPolicy": "custom",
    "customAllocation": {"webhookUrl": "https://allot.example.com/api", "apiVersion": "2021-10-01"},
    "iotHubs": [HUB],
    "initialTwin": {"tags": {"plant": "Bremen"}, "properties": {"desired": {"interval": 30}}},
    "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": False},
    "iotEdge": True,
}
AS_DPS_HAS_THEM = {
    "allocationPolicy": "custom",
    "customAllocationDefinition": {"webhookUrl": "https://allot.example.com/api", "apiVersion": "2021-10-01"},
    "iotHubs": [HUB],
    "initialTwin": {"tags": {"plant": "Bremen"}, "properties": {"desired": {"interval": 30}}},
    "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": False},
    "capabilities": {"iotEdge": True},
}
OTHERS = {**AS_DPS_HAS_THEM, "iotHubs": ["hub-2"], "initialTwin": {"tags": {"plant": "Kiel"}}}


async def have(fleet: Fleet, request_id: str = "g-have", **settings: Any) -> None:
    """Have the group get settings, as ``PUT /api/enrollment-groups/{id}`` does."""
    body = {"requestId": request_id, "enrollmentGroup": GROUP, "action": "update", **settings}
    fleet.world.ask(request_id, Queue.ENROLLMENT_GROUP_REQUESTS, body)
    await fleet.world.done()


async def change_group(fleet: Fleet) -> None:
    """Have the group get another hub, and another twin."""
    await have(
        fleet, "g-change", iotHubs=["hub-2"], initialTwin={"tags": {"plant": "Kiel"}, "properties": {"desired": {}}}
    )


async def faults(fleet: Fleet) -> list[str]:
    """Give what the auditor finds about individual enrollments."""
    return [each for each in await audit(fleet.world) if "individual enrollment" in each]


async def fleet_with_settings(**policies: Policy) -> Fleet:
    fleet = await fleet_of(**policies)
    await have(fleet, **SETTINGS)
    return fleet


async def mend_a_foreign_entry(fleet: Fleet) -> None:
    await let_another_in(fleet)
    change_entry(fleet, iotHubs=["hub-9"])
    await fleet.look()


async def reinstate_with_an_entry(fleet: Fleet) -> None:
    """Its entry was disabled for the hold, and is to let it in alone: its former certificate is revoked."""
    await revoke_former(fleet)
    await ask(fleet, "hold")
    await ask(fleet, "reinstate")


async def hold_with_a_bare_entry(fleet: Fleet) -> None:
    """DPS took no settings when the device was shut out; so they are given when it is let in again."""
    await revoke_former(fleet)
    await ask(fleet, "hold")
    bare = {name: value for name, value in entry(fleet).items() if name not in AS_DPS_HAS_THEM}
    fleet.world.provisioning.enrollments[DEVICE] = bare
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    await fleet.world.devices.replace(known, known.record.changed(entry_follows=None))
    await ask(fleet, "reinstate")


async def enable_a_bare_entry(fleet: Fleet) -> None:
    """It was disabled by an earlier version of the app, without settings."""
    await disabled_by_hand(fleet)
    bare = {name: value for name, value in entry(fleet).items() if name not in AS_DPS_HAS_THEM}
    fleet.world.provisioning.enrollments[DEVICE] = bare
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    await fleet.world.devices.replace(known, known.record.changed(entry_follows=None))
    await put(fleet, provisioningStatus="enabled")


async def forgotten(fleet: Fleet) -> None:
    """The entry is gone from DPS, and the finding ``enrollmentMissing`` is mended."""
    await pin_and_forget(fleet)
    await fleet.look()


MADE: Mapping[str, tuple[Made, dict[str, Policy]]] = {
    "an earlier certificate is revoked": (revoke_former, {}),
    "a foreign entry is mended": (mend_a_foreign_entry, {"enrollmentForeign": Policy.MEND}),
    "a missing entry is mended": (forgotten, {"enrollmentMissing": Policy.MEND}),
    "it is reinstated": (reinstate_with_an_entry, {}),
    "it is reinstated, and its entry is bare": (hold_with_a_bare_entry, {}),
    "an operator disables and enables it": (enabled_by_hand, {}),
    "an operator enables a bare entry": (enable_a_bare_entry, {}),
    "an operator asks for no setting": (put, {}),
}


@pytest.mark.parametrize("made", MADE)
async def test_an_entry_that_is_made_for_a_device_of_a_group_has_what_the_group_has(made: str) -> None:
    """DPS finds it before the group, and would place the device anywhere else."""
    act, policies = MADE[made]
    fleet = await fleet_with_settings(**policies)
    await act(fleet)
    assert own_settings(entry(fleet)) == AS_DPS_HAS_THEM
    assert entry(fleet)["provisioningStatus"] == "enabled"
    assert await fleet.look() == []
    assert await faults(fleet) == []


@pytest.mark.parametrize("made", MADE)
async def test_an_entry_follows_its_group_within_a_pass(made: str) -> None:
    """Nobody else has changed it, so that is not a finding."""
    act, policies = MADE[made]
    fleet = await fleet_with_settings(**policies)
    await act(fleet)
    told = len(fleet.told("DriftFound"))
    await change_group(fleet)
    assert await fleet.look() == []
    assert len(fleet.told("DriftFound")) == told
    assert own_settings(entry(fleet)) | {"initialTwin": OTHERS["initialTwin"]} == OTHERS
    assert entry(fleet)["initialTwin"]["tags"] == {"plant": "Kiel"}
    assert await faults(fleet) == []


async def test_an_entry_follows_its_group_in_a_pass_over_the_device_alone() -> None:
    fleet = await fleet_with_settings()
    await revoke_former(fleet)
    await change_group(fleet)
    begun = await fleet.reconciler.begin(registration_id=DEVICE)
    for _ in range(3):
        fleet.world.now = fleet.world.now.replace(microsecond=0)
        await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now.replace(year=2030))
    assert entry(fleet)["iotHubs"] == ["hub-2"]
    assert await fleet.open() == []


async def test_bringing_an_entry_along_opens_nothing_that_somebody_has_shut() -> None:
    """Not the entry, and not the identity."""
    fleet = await fleet_with_settings()
    await revoke_former(fleet)
    held = fleet.world.hubs.identities[HUB, DEVICE]
    fleet.world.hubs.enter(HUB, DEVICE, *held.thumbprints, enabled=False, reason="maintenance")
    change_entry(fleet, provisioningStatus="disabled")
    await change_group(fleet)
    await fleet.look()
    assert (entry(fleet)["iotHubs"], entry(fleet)["provisioningStatus"]) == (["hub-2"], "disabled")
    assert not fleet.world.hubs.identities[HUB, DEVICE].enabled


async def test_what_an_operator_has_set_for_a_device_does_not_follow_its_group() -> None:
    """The rest is what the group had then."""
    fleet = await fleet_with_settings()
    await revoke_former(fleet)
    await put(fleet, initialTwin={"tags": {"line": "7"}})
    expected = {**AS_DPS_HAS_THEM, "initialTwin": {"tags": {"line": "7"}, "properties": {"desired": {"interval": 30}}}}
    assert own_settings(entry(fleet)) == expected
    await change_group(fleet)
    assert await fleet.look() == []
    assert own_settings(entry(fleet)) == expected


async def test_a_device_id_of_its_own_leaves_the_rest_to_the_group() -> None:
    """A group has none, so that does not take the entry over."""
    fleet = await fleet_with_settings()
    await put(fleet, deviceId="press-one")
    assert own_settings(entry(fleet)) == {**AS_DPS_HAS_THEM, "deviceId": "press-one"}
    await change_group(fleet)
    assert await fleet.look() == []
    assert of_entry(fleet, "iotHubs", "deviceId") == {"iotHubs": ["hub-2"], "deviceId": "press-one"}


async def test_what_others_change_in_an_entry_that_follows_its_group_is_a_finding() -> None:
    fleet = await fleet_with_settings(enrollmentSettings=Policy.MEND)
    await revoke_former(fleet)
    change_entry(fleet, iotHubs=["hub-9"])
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.ENROLLMENT_SETTINGS)).ledger == f"iotHubs is {HUB}"
    assert own_settings(entry(fleet)) == AS_DPS_HAS_THEM


async def test_the_tags_of_the_device_itself_are_in_its_twin_as_well() -> None:
    """The group's twin has those of the group, and the device's own come on top."""
    fleet = await fleet_with_settings()
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    await fleet.world.devices.replace(known, known.record.changed(tags={"plant": "Kiel", "rack": {"slot": 3}}))
    await revoke_former(fleet)
    assert entry(fleet)["initialTwin"] == {
        "tags": {"plant": "Kiel", "rack": {"slot": 3}},
        "properties": {"desired": {"interval": 30}},
    }
    assert await fleet.look() == []


async def test_a_certificate_is_kept_out_though_dps_does_not_take_the_settings_of_the_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hub of the group is not linked any more. When it is, the entry is brought along."""
    fleet = await fleet_with_settings()
    dps, taken = fleet.world.provisioning, fleet.world.provisioning.put_enrollment

    async def refusing(enrollment: dict[str, Any], *, etag: str | None = None) -> dict[str, Any]:
        if enrollment.get("iotHubs"):
            raise Rejected.because("hub-1 is not linked")
        return await taken(enrollment, etag=etag)

    monkeypatch.setattr(dps, "put_enrollment", refusing)
    monkeypatch.setattr(fleet.world, "_behind", list)  # each pass would try again, and there is no rest
    former = await revoke_former(fleet)
    assert not dps.admits(DEVICE, former)
    assert "iotHubs" not in entry(fleet)
    monkeypatch.setattr(dps, "put_enrollment", taken)
    assert await fleet.look() == []
    assert own_settings(entry(fleet)) == AS_DPS_HAS_THEM
