"""A device that is shut out is shut out of every hub that is linked to the DPS, and each is told as closed after that."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.domain.audit import Observed, faults
from shared.domain.revocation_plans import DPS_CALLS, HUB_CALLS, OTHER_HUB_CALLS, plan_for
from shared.errors import Deferred
from tests.pki.hierarchy import NOW
from tests.unit.devices import COMPROMISE, HOLD, DeviceScene, registered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.domain.devices import DeviceRecord
    from shared.ports.hubs import HubIdentity
    from shared.workflows.devices.hub_doors import HubDoors

OWN, OTHER = "hub-1", "hub-2"


async def two_hubs(*, copied: str | None = "press") -> DeviceScene:
    """Give the device ``press`` in its hub, whose identity somebody has copied to another hub."""
    scene = await registered()
    scene.linked = (OWN, OTHER)
    if copied:
        scene.hubs.enter(OTHER, copied, *scene.hubs.identities[OWN, "press"].thumbprints)
    return scene


def let_in(scene: DeviceScene) -> set[tuple[str, str]]:
    return {place for place, each in scene.hubs.identities.items() if each.enabled}


def hubs_closed(record: DeviceRecord) -> dict[str, str]:
    return {each.where: f"{each.since:%H:%M}" for each in record.closed if each.door == "hub"}


def counting(scene: DeviceScene) -> Counter[str]:
    """Count the calls of DPS and of each hub from now on."""
    calls = Counter[str]()

    @asynccontextmanager
    async def counted(_label: str, service: str = "") -> AsyncIterator[None]:
        calls[service] += 1
        yield

    scene.provisioning.conductor.step = scene.hubs.conductor.step = counted  # type: ignore[method-assign,assignment]
    return calls


async def test_a_revoked_certificate_gets_into_no_hub_that_has_the_device() -> None:
    scene = await two_hubs()
    await scene.revoke(COMPROMISE)
    assert let_in(scene) == set()
    assert scene.hubs.identities[OTHER, "press"].reason == "certificate revoked: keyCompromise"
    assert hubs_closed(await scene.record()) == {OWN: f"{NOW:%H:%M}", OTHER: f"{NOW:%H:%M}"}


async def test_another_hub_that_others_have_opened_is_closed_since_it_was_shut_again() -> None:
    scene = await two_hubs()
    await scene.revoke(COMPROMISE)
    began, scene.now = f"{NOW:%H:%M}", scene.now + timedelta(hours=1)
    scene.hubs.enter(OTHER, "press", "AB" * 32)
    await scene.revoke(COMPROMISE, request_id="again")
    assert hubs_closed(await scene.record()) == {OWN: began, OTHER: f"{scene.now:%H:%M}"}
    assert let_in(scene) == set()


async def test_an_identity_of_another_device_is_no_door_that_others_have_opened() -> None:
    """DPS has the device under the id of another one, which is in the other hub by right."""
    scene = await two_hubs(copied=None)
    await scene.order("other", "drill")
    scene.hubs.enter(OTHER, "drill", "AA")
    known = await scene.known()
    await scene.devices.replace(known, known.record.changed(device_id="drill"))
    scene.provisioning.registrations["press"]["deviceId"] = "drill"
    await scene.revoke(COMPROMISE)
    began, scene.now = hubs_closed(await scene.record()), scene.now + timedelta(hours=1)
    await scene.revoke(COMPROMISE, request_id="again")
    record = await scene.record()
    assert hubs_closed(record) == began
    assert not any("let it in again" in (each.note or "") for each in record.history)


async def test_a_hub_that_hangs_does_not_keep_the_other_doors_open_that_others_have_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked whether its own door was opened, which is only told, before any door is shut."""
    scene = await two_hubs()
    await scene.revoke(COMPROMISE)
    scene.hubs.enter(OWN, "press", "AB" * 32)
    monkeypatch.setattr("shared.workflows.devices.reopened.PATIENCE", 0.01)
    get, never = scene.hubs.get, asyncio.Event()

    async def hanging(hub: str, device_id: str) -> HubIdentity | None:
        if hub == OTHER and (OWN, "press") in let_in(scene):
            await never.wait()
        return await get(hub, device_id)

    monkeypatch.setattr(scene.hubs, "get", hanging)
    await asyncio.wait_for(scene.revoke(COMPROMISE, request_id="again"), 5)
    assert let_in(scene) == set()


async def test_a_hub_that_has_no_identity_is_a_door_that_is_closed() -> None:
    scene = await two_hubs(copied=None)
    await scene.revoke(COMPROMISE)
    assert set(hubs_closed(await scene.record())) == {OWN, OTHER}
    shown = await scene.directory.describe("press")
    assert [each.where for each in shown.closed_doors if each.door == "hub"] == [OWN, OTHER]


async def test_a_hub_that_does_not_answer_holds_up_no_other_door_and_is_shut_when_it_does() -> None:
    """Until then the device is not told as shut out."""
    scene = await two_hubs()
    asked = list[str]()
    answer = scene.hubs._answer  # noqa: SLF001 - sees who is asked

    def noted(hub: str) -> None:
        asked.append(hub)
        answer(hub)

    scene.hubs.down, scene.hubs._answer = {OTHER}, noted  # type: ignore[method-assign]  # noqa: SLF001
    with pytest.raises(ConnectionError, match="hub-2 is down"):
        await scene.revoke(COMPROMISE)
    assert asked.count(OTHER) == 1, "one that hangs takes its time only once"
    assert let_in(scene) == {(OTHER, "press")}
    assert (scene.entry(), await scene.listed()) == ("disabled", await scene.serials())
    assert (await scene.record()).closed == ()
    assert "DeviceRevoked" not in scene.events()
    scene.hubs.down, scene.now = set(), scene.now + timedelta(minutes=2)
    assert await scene.converger.sweep(older_than=timedelta(minutes=1)) == 1
    assert let_in(scene) == set()
    assert set(hubs_closed(await scene.record())) == {OWN, OTHER}
    assert "DeviceRevoked" in scene.events()


@pytest.mark.parametrize("down", ["dps", "hub", "blobs"])
async def test_other_hubs_are_shut_although_another_door_does_not_answer(down: str) -> None:
    scene = await two_hubs()
    if down == "blobs":

        async def fails(name: str) -> None:
            raise ServiceRequestError(f"the list of {name} can't be published")

        scene.lists.publish = fails  # type: ignore[method-assign]
    else:
        scene.provisioning.down, scene.hubs.down = down == "dps", {OWN} if down == "hub" else set()
    with pytest.raises((ServiceRequestError, ConnectionError)):
        await scene.revoke(COMPROMISE)
    assert (OTHER, "press") not in let_in(scene)


async def test_a_hub_that_is_gone_holds_nothing_up_when_it_is_not_linked_any_more() -> None:
    """After a failure the links are asked for within a minute, and not after an hour; by one of many that wait."""
    scene = await two_hubs(copied=None)
    scene.hubs.down = {OTHER}
    with pytest.raises(ConnectionError):
        await scene.revoke(COMPROMISE)
    resource: Any = scene.converger.hub_doors.linked.resource
    resource.linked, calls = (OWN,), counting(scene)
    for _ in range(3):
        with pytest.raises(ExceptionGroup):
            await scene.converger.sweep(older_than=timedelta())
    assert calls["arm"] == 0
    scene.now += timedelta(minutes=1)
    assert await scene.converger.sweep(older_than=timedelta()) == 1
    assert calls["arm"] == 1
    assert set(hubs_closed(await scene.record())) == {OWN}


async def test_hubs_that_were_linked_are_asked_while_azure_resource_manager_is_down() -> None:
    """It says which hubs are linked, and is not to hold up who is shut out; only who never knew them waits."""
    scene = await two_hubs()
    assert await scene.services.linked_hubs.names() == {OWN, OTHER}
    scene.hubs.conductor.down = scene.provisioning.conductor.down = {"arm"}
    scene.now += timedelta(hours=2)
    asked, resource = list[str](), scene.services.linked_hubs.resource
    step = scene.provisioning.conductor.step

    def noted(label: str, service: str = "") -> Any:
        asked.extend([label] if service == "arm" else [])
        return step(label, service)

    resource.conductor.step = noted  # type: ignore[union-attr]
    assert await asyncio.gather(*(scene.services.linked_hubs.names() for _ in range(3))) == [{OWN, OTHER}] * 3
    assert asked == ["arm.linked_hubs"], "one asks, and nobody waits for a minute after that"
    await scene.revoke(COMPROMISE)
    assert asked == ["arm.linked_hubs"]
    assert let_in(scene) == set()
    assert set(hubs_closed(await scene.record())) == {OWN, OTHER}
    scene.linked = (OTHER, OWN)  # another worker, which has not asked so far
    with pytest.raises(ServiceRequestError, match="arm can't be reached"):
        await scene.delete()
    assert let_in(scene) == set()


async def test_a_device_is_shut_out_where_dps_has_placed_it_last_under_the_id_it_has_there() -> None:
    """Its entry had another device id for a while; the ledger has not seen that."""
    scene = await two_hubs(copied=None)
    scene.hubs.enter(OTHER, "zz-17", *scene.hubs.identities[OWN, "press"].thumbprints)
    scene.provisioning.registrations["press"] = {
        "registrationId": "press",
        "status": "assigned",
        "assignedHub": OTHER,
        "deviceId": "zz-17",
    }
    await scene.revoke(COMPROMISE)
    assert let_in(scene) == set()
    record = await scene.record()
    assert (record.assigned_hub, record.device_id, set(hubs_closed(record))) == (OTHER, "zz-17", {OWN, OTHER})


async def test_a_registration_that_is_not_assigned_any_more_tells_a_place_all_the_same() -> None:
    """Whatever else DPS says of it."""
    scene = await two_hubs(copied=None)
    scene.hubs.enter("hub-9", "zz-17", "AA")
    scene.provisioning.registrations["press"] |= {
        "status": "disabled",
        "assignedHub": "hub-9",
        "deviceId": "zz-17",
    }
    await scene.revoke(COMPROMISE)
    assert let_in(scene) == set()
    assert set(hubs_closed(await scene.record())) == {OWN, OTHER, "hub-9"}


async def test_a_device_that_is_in_no_hub_is_looked_for_in_each() -> None:
    """It may have registered before anybody has told the ledger."""
    scene = await two_hubs(copied=None)
    known = await scene.known()
    await scene.devices.replace(known, known.record.changed(assigned_hub=None, device_id=None))
    del scene.provisioning.registrations["press"]
    await scene.revoke(COMPROMISE)
    assert let_in(scene) == set()
    assert set(hubs_closed(await scene.record())) == {OWN, OTHER}


async def test_an_identity_that_is_another_devices_is_left() -> None:
    """DPS says that the device is there under the id of another one: in the other hubs that id is not its own."""
    scene = await two_hubs(copied=None)
    await scene.order("other", "drill")
    scene.hubs.enter(OTHER, "drill", "AA")
    known = await scene.known()
    await scene.devices.replace(known, known.record.changed(device_id="drill"))
    scene.provisioning.registrations["press"]["deviceId"] = "drill"
    await scene.revoke(COMPROMISE)
    assert (OTHER, "drill") in let_in(scene)
    assert (OWN, "press") not in let_in(scene), "the id that DPS would give it is its own"


async def test_a_deleted_device_is_gone_from_every_hub() -> None:
    scene = await two_hubs()
    await scene.delete()
    assert scene.hubs.identities == {}
    assert set(hubs_closed(await scene.record())) == {OWN, OTHER}


async def test_a_deletion_that_is_late_deletes_nothing_of_a_device_that_was_ordered_anew() -> None:
    """What it shuts is opened again; what is deleted would be gone."""
    scene = await two_hubs()
    await scene.delete()
    late = await scene.record()
    scene.registrar.hub = OTHER
    await scene.order("again")
    assert (await scene.record()).assigned_hub == OTHER
    await scene.converger.hub_doors.shut_others(late, "deleted", delete=True)
    assert (OTHER, "press") in scene.hubs.identities


async def test_a_reinstatement_opens_the_devices_own_hub_alone() -> None:
    """Nobody knows of what was found elsewhere whether it was ever to let the device in."""
    scene = await two_hubs()
    await scene.revoke(HOLD)
    await scene.reinstate()
    assert let_in(scene) == {(OWN, "press")}
    assert (OTHER, "press") in scene.hubs.identities
    assert (await scene.record()).closed == ()


async def test_a_device_is_not_shut_out_as_long_as_dps_is_assigning_a_hub_to_it() -> None:
    """Any hub may get its identity. What is known is shut meanwhile."""
    scene = await two_hubs()
    scene.provisioning.registrations["press"]["status"] = "assigning"
    with pytest.raises(Deferred, match="DPS is assigning a hub to 'press' at this moment"):
        await scene.revoke(COMPROMISE)
    assert let_in(scene) == set()
    assert (await scene.record()).closed == ()
    scene.hubs.enter(OTHER, "press", "AA")  # DPS does so at last
    scene.provisioning.registrations["press"] |= {"status": "assigned", "assignedHub": OTHER}
    await scene.converger.converge("press")
    assert let_in(scene) == set()


# --- what it takes ---


@pytest.mark.parametrize("linked", [(), (OWN,)])
async def test_with_one_hub_nothing_costs_more(linked: tuple[str, ...]) -> None:
    """Four calls of DPS, and three of the hub: its identity is read and written, and read back."""
    scene = await registered()
    scene.linked = linked
    calls = counting(scene)
    await scene.revoke(COMPROMISE)
    del calls["arm"]
    assert calls == {"dps": 4, "hub": 3}
    assert (DPS_CALLS, HUB_CALLS) == (4, 3)


async def test_each_further_hub_is_asked_once_and_not_for_a_device_in_service() -> None:
    scene = await two_hubs(copied=None)
    calls = counting(scene)
    await scene.identities.switch("press", enabled=False, reason="")
    await scene.identities.switch("press", enabled=True, reason="")
    assert calls[OTHER] == 0
    calls.clear()
    await scene.revoke(COMPROMISE)
    assert (calls["dps"], calls["hub"], calls[OTHER], calls["arm"]) == (4, 3, 1, 1)
    assert OTHER_HUB_CALLS == 1


def test_a_plan_counts_the_hubs_that_are_asked_in_vain() -> None:
    """Each linked hub is asked for each device that is in another one, or in none."""
    by_hub = {"Hub-1": 300, "hub-2": 600, "": 100}
    plan = plan_for(by_hub, together=True, hub_units=1, linked=["hub-1", "hub-2", "hub-3"])
    assert dict(plan.hubs) == {"Hub-1": 300, "hub-2": 600, "hub-3": 0}
    assert plan.hub_calls == 2718 + 700 + 400 + 1000
    assert (plan.hubs_shut, plan.done) == (0.12, 22.12)


async def test_what_a_revocation_takes_counts_every_linked_hub() -> None:
    scene = await two_hubs(copied=None)
    foreseen = await scene.revocations.foresee(scene.revocation(reason=COMPROMISE))
    assert (foreseen.hubs, foreseen.hub_calls) == ({OWN: 1, OTHER: 0}, 4)


async def test_hubs_are_asked_some_at_once() -> None:
    """One after the other would take long with fifty, and all at once would be many threads for one device."""
    scene = await registered()
    scene.linked = tuple(f"hub-{number}" for number in range(1, 21))
    doors, asked, busy, most = scene.converger.hub_doors, Counter[str](), 0, 0

    class Slow:
        async def get(self, hub: str, _device_id: str) -> HubIdentity | None:
            nonlocal busy, most
            busy, asked[hub] = busy + 1, asked[hub] + 1
            most = max(most, busy)
            await asyncio.sleep(0)
            busy -= 1
            return None

    slow: Any = Slow()
    patient: HubDoors = replace(doors, hubs=slow)
    closed = await patient.shut_others(await scene.record(), "revoked")
    assert most == 8
    assert asked == {f"hub-{number}": 1 for number in range(2, 21)}
    assert {each.where for each in closed} == set(asked)


# --- the auditor ---


@pytest.mark.parametrize(
    ("act", "status", "fault"),
    [
        ("revoke", "enabled", "'press' in hub-2 lets in a device that is revoked"),
        ("delete", "disabled", "the device is deleted, and its identity is there: 'press' in hub-2"),
        ("revoke", "disabled", None),
    ],
)
async def test_the_auditor_sees_an_identity_in_another_hub(act: str, status: str, fault: str | None) -> None:
    scene = await registered()
    await (scene.revoke(COMPROMISE) if act == "revoke" else scene.delete())
    there = {"'press' in hub-2": status == "enabled"}
    seen = Observed(certificates={}, thumbprints={}, entry=None, identity=None, elsewhere=there)
    found = [each for each in faults(await scene.record(), seen, scene.now) if OTHER in each]
    assert found == ([fault] if fault else [])
