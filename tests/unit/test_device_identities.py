"""Identities: found in the hub where DPS has the device now, and shut out together where a group is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.domain.devices import DeviceRecord
from shared.domain.upkeep import to_be_followed
from shared.domain.words import DeviceState
from shared.errors import Conflict, Deferred, NotFound, UnderWay
from shared.workflows.devices.changes import change
from tests.unit.devices import COMPROMISE, HOLD, HUB, DeviceScene, registered, renewing

if TYPE_CHECKING:
    from shared.ports.hubs import HubIdentity


async def device(state: DeviceState = DeviceState.REGISTERED, hub: str | None = HUB) -> DeviceScene:
    """Give a scene with a device that has no certificate of the app's."""
    scene = DeviceScene()
    await scene.devices.insert(
        DeviceRecord(
            registration_id="press",
            state=state,
            order_id="o",
            updated_at=scene.now,
            assigned_hub=hub,
            device_id="press" if hub else None,
        )
    )
    return scene


def assign(scene: DeviceScene, hub: str) -> None:
    """Have DPS put the device into a hub."""
    scene.provisioning.registrations["press"] = {"status": "assigned", "assignedHub": hub, "deviceId": "press"}
    scene.hubs.identities.clear()
    scene.hubs.enter(hub, "press", "AB")


@pytest.mark.parametrize("before", [HUB, None])
async def test_a_device_is_found_where_dps_has_it_now(before: str | None) -> None:
    """Moved, or registered without anybody noticing yet: the ledger gets the hub, and the history says so."""
    scene = await device(hub=before)
    assign(scene, "hub-2")
    assert (await scene.identities.describe("press")).assigned_hub == "hub-2"
    record = await scene.record()
    assert (record.assigned_hub, record.device_id) == ("hub-2", "press")
    assert record.history[-1].note == f"DPS has it in hub-2 now, not in {before or 'no hub'}"
    assert record.state is DeviceState.REGISTERED


async def test_a_hub_of_the_same_name_in_other_letters_is_the_same_hub() -> None:
    """Host names are compared without case, and nothing is written."""
    scene = await device()
    assign(scene, HUB)
    scene.provisioning.registrations["press"]["assignedHub"] = "HUB-1"
    await scene.identities.describe("press")
    assert (await scene.record()).history == ()


async def test_what_is_not_there_is_said() -> None:
    """No such device, a device in no hub, and a hub without the identity are told apart."""
    with pytest.raises(NotFound, match="the device 'press' does not exist"):
        await DeviceScene().identities.describe("press")
    with pytest.raises(NotFound, match="'press' has not registered with DPS, so no hub has an identity for it"):
        await (await device(hub=None)).identities.describe("press")
    with pytest.raises(NotFound, match="hub-1 has no identity 'press'; the device gets one when it registers again"):
        await (await device()).identities.switch("press", enabled=False, reason="r")


@pytest.mark.parametrize("state", [DeviceState.REVOKED, DeviceState.DELETED])
async def test_who_is_revoked_is_not_let_in(state: DeviceState) -> None:
    """Its identity can be disabled, and neither enabled nor deleted."""
    scene = await device(state)
    assign(scene, HUB)
    with pytest.raises(Conflict, match=f"'press' is {state}, so its identity stays disabled"):
        await scene.identities.switch("press", enabled=True, reason="r")
    if state is DeviceState.REVOKED:
        assert (await scene.identities.switch("press", enabled=False, reason="r")).status == "disabled"
    with pytest.raises(Conflict, match=f"'press' is {state}, and its disabled identity keeps it out of hub-1"):
        await scene.identities.delete("press")


async def test_an_identity_is_switched_off_and_on() -> None:
    """With the reason that was given; on again also where somebody else has switched it off."""
    scene = await registered()
    off = await scene.identities.switch("press", enabled=False, reason="in repair")
    assert (off.status, off.status_reason, scene.identity()) == ("disabled", "in repair", False)
    on = await scene.identities.switch("press", enabled=True, reason="repaired")
    assert (on.status, on.status_reason, scene.identity()) == ("enabled", "repaired", True)
    await scene.hubs.shut_out(HUB, "press", reason="by hand")
    await scene.identities.switch("press", enabled=True, reason="again")
    assert scene.identity() is True


async def test_what_an_operator_has_switched_off_stays_off() -> None:
    """Through a renewal, a hold and its end, and a new order after the certificate has ended."""
    scene = await registered(validity_days=1)
    await scene.identities.switch("press", enabled=False, reason="in repair")
    await scene.renewing()
    await scene.revoke(HOLD)
    await scene.reinstate()
    assert scene.identity() is False
    assert scene.hubs.identities[HUB, "press"].reason == "in repair"
    scene.now += timedelta(days=3)
    for _ in range(2):
        await scene.sweep.run()
    assert await scene.state() is DeviceState.EXPIRED
    await scene.order("again")
    assert await scene.state() is DeviceState.REGISTERED
    assert scene.identity() is False


async def test_what_others_have_switched_off_stays_off_through_a_renewal() -> None:
    """Nobody here has asked for it to be opened."""
    scene = await registered()
    await scene.hubs.shut_out(HUB, "press", reason="by hand")
    await scene.renewing()
    assert scene.identity() is False


async def test_what_others_have_switched_off_is_opened_after_a_worker_came_late() -> None:
    """It may be what that worker has shut: no service says who shut a door. What is disabled here stays so."""
    scene = await registered()
    await scene.hubs.shut_out(HUB, "press", reason="by hand")
    await change(scene.devices, "press", to_be_followed, at=scene.now)
    await scene.converger.converge("press")
    assert scene.identity() is True
    await scene.identities.switch("press", enabled=False, reason="in repair")
    await change(scene.devices, "press", to_be_followed, at=scene.now)
    await scene.converger.converge("press")
    assert scene.identity() is False


async def test_a_deleted_identity_is_made_anew_by_the_next_registration() -> None:
    """A device that is in service may be taken out of its hub."""
    scene = await registered()
    await scene.identities.delete("press")
    assert scene.identity() is None
    scene.boot(await scene.certificate(1))
    assert scene.identity() is True


async def test_the_longer_thumbprint_is_not_shown_for_the_shorter() -> None:
    """A hub may have both; SHA-1 is what DPS and the ledger show."""
    scene = await device()
    assign(scene, HUB)
    scene.hubs.enter(HUB, "press", "A" * 64, "B" * 40)
    assert (await scene.identities.describe("press")).thumbprint == "B" * 40


async def test_many_are_shut_out_hub_by_hub() -> None:
    """Each hub is asked once; one that does not answer keeps none of the others, and who is in no hub is left out."""
    scene = await device()
    record = await scene.record()
    devices = [record.changed(assigned_hub=hub, device_id=f"{hub}-{index}") for index in range(2) for hub in "xyz"]
    scene.hubs.down = {"y"}
    await scene.identities.disable_many([*devices, record.changed(assigned_hub=None)], reason="r")
    assert scene.hubs.bulk == [("x", ["x-0", "x-1"]), ("z", ["z-0", "z-1"])]


async def test_a_group_s_revocation_shuts_the_hubs_first_and_together() -> None:
    """The devices are out at once; who has no certificate, or is out already, is not concerned."""
    scene = await renewing()
    await scene.order("other", "lathe")
    await scene.revoke(COMPROMISE, registration_id="lathe")
    scene.hubs.bulk.clear()
    with pytest.raises(UnderWay, match="1 of 1 device is under way"):
        await scene.revoke(COMPROMISE, request_id="all", enrollment_group="line")
    assert scene.hubs.bulk == [(HUB, ["press"])]
    assert scene.identity() is False


async def test_a_revocation_waits_until_dps_has_assigned_a_hub() -> None:
    """The device may be on its way into another hub, whose door is shut when it is known."""
    scene = await registered()
    scene.provisioning.registrations["press"]["status"] = "assigning"
    request = scene.revocation(reason=COMPROMISE)
    with pytest.raises(Deferred, match="DPS is assigning a hub to 'press' at this moment"):
        await scene.revocations.carry_out(request)
    assert "DeviceRevoked" not in scene.events()
    assign(scene, "hub-2")
    await scene.revocations.carry_out(request)
    assert scene.hubs.identities["hub-2", "press"].enabled is False
    assert "DeviceRevoked" in scene.events()


@pytest.mark.parametrize("act", ["disable", "hold"])
async def test_a_device_that_is_kept_out_is_kept_out_of_the_hub_that_it_is_found_in(act: str) -> None:
    """DPS has put it into another hub since, as somebody has asked it to: whoever sees that shuts the hub."""
    scene = await registered()
    if act == "disable":
        await scene.identities.switch("press", enabled=False, reason="lost")
    else:
        await scene.revoke(HOLD)
    scene.hubs.enter("hub-2", "press", "AA")
    scene.provisioning.registrations["press"] |= {"assignedHub": "hub-2"}
    seen = await scene.identities.describe("press")
    assert (seen.assigned_hub, seen.status) == ("hub-2", "disabled")
    assert (await scene.record()).settled


@pytest.mark.parametrize(
    ("is_gone", "answers", "error", "raised"),
    [
        (True, True, OSError("connection reset"), None),
        (False, True, OSError("connection reset"), OSError),
        (True, False, OSError("connection reset"), OSError),
        (True, True, Deferred("throttled", retry_after=timedelta(seconds=1)), Deferred),
    ],
)
async def test_a_deletion_whose_answer_is_lost_is_looked_up(
    monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception] | None, *, is_gone: bool, answers: bool
) -> None:
    """Gone is gone. What is there yet, or can't be looked up, is told as it failed; and so is what the hub has said."""
    scene = await device()
    assign(scene, HUB)
    delete, get = scene.hubs.delete_unchanged, scene.hubs.get

    async def without_answer(hub: str, seen: HubIdentity) -> bool:
        if is_gone:
            await delete(hub, seen)
        if not answers:
            monkeypatch.setattr(scene.hubs, "get", unreachable)
        raise error

    async def unreachable(hub: str, device_id: str) -> None:
        raise OSError(f"{hub} can't be reached for {device_id}")

    monkeypatch.setattr(scene.hubs, "delete_unchanged", without_answer)
    if raised is None:
        await scene.identities.delete("press")
    else:
        with pytest.raises(raised, match=str(error)):
            await scene.identities.delete("press")
    assert (await get(HUB, "press") is None) is is_gone
