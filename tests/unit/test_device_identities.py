"""Identities: found in the hub where DPS has the device now, and shut out together where a group is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from shared.adapters.iot_hub import HubIdentity
from shared.contracts import DeviceState
from shared.errors import Conflict, Deferred, NotFound
from shared.ledger.devices import DeviceRecord, Devices
from shared.workflows.device_identities import DeviceIdentities
from tests.unit.fakes import FakeProvisioning, FakeTable
from tests.unit.pki.hierarchy import NOW


@dataclass
class FakeHubs:
    """Remembers what it was asked; ``throttled`` names hubs that take no bulk change."""

    identities: set[tuple[str, str]] = field(default_factory=set)
    bulk: list[tuple[str, list[str]]] = field(default_factory=list)
    throttled: str = ""

    def _identity(self, hub: str, device_id: str, *, enabled: bool = True) -> HubIdentity | None:
        if (hub, device_id) not in self.identities:
            return None
        return HubIdentity(device_id=device_id, enabled=enabled, thumbprint="AB", connected=False)

    async def get(self, hub: str, device_id: str) -> HubIdentity | None:
        return self._identity(hub, device_id)

    async def set_enabled(self, hub: str, device_id: str, *, enabled: bool, reason: str) -> HubIdentity | None:
        del reason
        return self._identity(hub, device_id, enabled=enabled)

    async def delete(self, hub: str, device_id: str) -> None:
        self.identities.discard((hub, device_id))

    async def disable_many(self, hub: str, device_ids: list[str], *, reason: str) -> int:
        del reason
        if hub == self.throttled:
            raise Deferred("busy", retry_after=NOW - NOW)
        self.bulk.append((hub, device_ids))
        return len(device_ids)


@dataclass
class Scene:
    hubs: FakeHubs = field(default_factory=FakeHubs)
    provisioning: FakeProvisioning = field(default_factory=FakeProvisioning)
    devices: Devices = field(default_factory=lambda: Devices(FakeTable()))

    @property
    def subject(self) -> DeviceIdentities:
        hubs: Any = self.hubs
        provisioning: Any = self.provisioning
        return DeviceIdentities(self.devices, provisioning, hubs, lambda: NOW)

    async def device(self, state: DeviceState = DeviceState.REGISTERED, hub: str | None = "hub-1") -> Scene:
        await self.devices.insert(
            DeviceRecord(
                registration_id="a",
                state=state,
                order_id="o",
                updated_at=NOW,
                assigned_hub=hub,
                device_id="a" if hub else None,
            )
        )
        return self

    def assigned(self, hub: str) -> None:
        self.provisioning.registrations["a"] = {"status": "assigned", "assignedHub": hub, "deviceId": "a"}
        self.hubs.identities = {(hub, "a")}


@pytest.mark.parametrize("before", ["hub-1", None])
async def test_a_device_is_found_where_dps_has_it_now(before: str | None) -> None:
    """Moved, or registered without anybody noticing yet: the ledger gets the hub, and the history says so."""
    scene = await Scene().device(hub=before)
    scene.assigned("hub-2")
    assert (await scene.subject.describe("a"))["assignedHub"] == "hub-2"
    known = await scene.devices.get("a")
    assert known is not None
    assert (known.record.assigned_hub, known.record.device_id) == ("hub-2", "a")
    assert known.record.history[-1].note == f"DPS has it in hub-2 now, not in {before or 'no hub'}"
    assert known.record.state is DeviceState.REGISTERED


async def test_a_hub_of_the_same_name_in_other_letters_is_the_same_hub() -> None:
    """Host names are compared without case, and nothing is written."""
    scene = await Scene().device()
    scene.assigned("hub-1")
    scene.provisioning.registrations["a"]["assignedHub"] = "HUB-1"
    await scene.subject.describe("a")
    known = await scene.devices.get("a")
    assert known is not None
    assert known.record.history == ()


async def test_what_is_not_there_is_said() -> None:
    """No such device, a device in no hub, and a hub without the identity are told apart."""
    with pytest.raises(NotFound, match="there is no device 'a'"):
        await Scene().subject.describe("a")
    with pytest.raises(NotFound, match="'a' has not registered with DPS, so no hub has an identity for it"):
        await (await Scene().device(hub=None)).subject.describe("a")
    with pytest.raises(NotFound, match="hub-1 has no identity 'a'; the device gets one when it registers again"):
        await (await Scene().device()).subject.switch("a", enabled=False, reason="r")


@pytest.mark.parametrize("state", [DeviceState.REVOKED, DeviceState.DELETED])
async def test_who_is_revoked_is_not_let_in(state: DeviceState) -> None:
    """Its identity can be disabled, and not enabled."""
    scene = await Scene().device(state)
    scene.assigned("hub-1")
    with pytest.raises(Conflict, match=f"'a' is {state}, so its identity stays disabled"):
        await scene.subject.switch("a", enabled=True, reason="r")
    assert (await scene.subject.switch("a", enabled=False, reason="r"))["status"] == "disabled"


async def test_many_are_shut_out_hub_by_hub() -> None:
    """Each hub is asked once; one that throttles does not keep the others, and who is in no hub is left out."""
    scene = await Scene().device()
    record = (await scene.subject.devices.get("a")).record  # type: ignore[union-attr]
    devices = [record.changed(assigned_hub=hub, device_id=f"{hub}-{index}") for index in range(2) for hub in "xyz"]
    scene.hubs.throttled = "y"
    await scene.subject.disable_many([*devices, record.changed(assigned_hub=None)], reason="r")
    assert scene.hubs.bulk == [("x", ["x-0", "x-1"]), ("z", ["z-0", "z-1"])]
