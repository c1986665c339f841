"""A device that a group which others can sign for has registered gets its place back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.authorities import AuthorityState, WantedAuthority
from shared.domain.groups import CaReferences, GroupRecord, GroupState
from shared.ledger.authorities import Authorities
from shared.workflows.devices.takeovers import Takeovers
from tests.pki.hierarchy import NOW, hierarchy
from tests.records import authority_record
from tests.unit.devices import HUB, ISSUER, DeviceScene, registered
from tests.unit.fakes import FakeTable

if TYPE_CHECKING:
    from shared.ports.hubs import HubIdentity

REFERS = {"ca_references": CaReferences(primary="others")}


async def scene_with(group: dict[str, Any], registrations: list[str]) -> tuple[DeviceScene, Takeovers]:
    """A registered device of the group ``line``, and another group that has these registrations at DPS."""
    scene = await registered()
    await scene.groups.insert(
        GroupRecord(enrollment_group="foreign", state=GroupState.ENABLED, updated_at=NOW, last_request="r", **group)
    )
    issuers = Authorities(FakeTable())
    for name, wanted in ((ISSUER, WantedAuthority()), ("brought-along", None)):
        await issuers.try_insert(authority_record(name, NOW, state=AuthorityState.REQUESTED, wanted=wanted))

    async def page(group_id: str, *, size: int, continuation: str | None) -> tuple[list[dict[str, Any]], str | None]:
        assert size == 100
        at = int(continuation or 0)
        found = [{"registrationId": each, "assignedHub": HUB, "deviceId": each} for each in registrations[at : at + 1]]
        more = str(at + 1) if at + 1 < len(registrations) else None
        return (found, more) if group_id == "foreign" else ([], None)

    scene.provisioning.page_of_registrations = page  # type: ignore[method-assign]
    hubs: Any = scene.hubs
    return scene, Takeovers(
        devices=scene.devices,
        groups=scene.groups,
        authorities=issuers,
        provisioning=scene.provisioning,
        hubs=hubs,
        converger=scene.converger,
        clock=scene.clock,
    )


@pytest.mark.parametrize("group", [{"issuer": "", **REFERS}, {"issuer": "brought-along"}])
async def test_a_device_that_a_foreign_group_has_registered_is_given_back(group: dict[str, Any]) -> None:
    """DPS takes its own certificate alone from then on, and the identity that others got is gone."""
    scene, takeovers = await scene_with(group, ["nobody", "press"])
    assert await takeovers.sweep() == 1
    assert await scene.admitted() == [1]
    assert (HUB, "press") not in scene.hubs.identities
    assert scene.provisioning.registrations.get("press") is None
    assert not scene.provisioning.admits("press", hierarchy().device("press"))
    record = await scene.record()
    assert record.settled
    assert record.history[-1].note == (
        "registered by the enrollment group foreign, which is not its own: it has to register again"
    )


async def test_a_group_that_nobody_else_signs_for_is_not_looked_at() -> None:
    """A CA that was made here signs for this app alone; and a device may register with its own group."""
    scene, takeovers = await scene_with({"issuer": ISSUER}, ["press"])
    assert await takeovers.sweep() == 0
    assert (HUB, "press") in scene.hubs.identities


async def test_a_device_that_is_shut_out_stays_so() -> None:
    """Its enrollment refuses it already, and is not changed."""
    scene, takeovers = await scene_with({"issuer": "", **REFERS}, ["press"])
    await scene.delete()
    assert await takeovers.sweep() == 0
    assert scene.provisioning.enrollments["press"]["provisioningStatus"] == "disabled"


async def test_a_device_that_is_ordered_into_that_group_meanwhile_is_its_own() -> None:
    """What was read of it before tells nothing any more."""
    scene, takeovers = await scene_with({"issuer": "", **REFERS}, ["press"])
    look = scene.hubs.get

    async def get(hub: str, device_id: str) -> HubIdentity | None:
        scene.hubs.get = look  # type: ignore[method-assign]
        known = await scene.devices.get("press")
        assert known is not None
        await scene.devices.replace(known, known.record.changed(enrollment_group="foreign"))
        return await look(hub, device_id)

    scene.hubs.get = get  # type: ignore[method-assign]
    assert await takeovers.sweep() == 0
    assert not (await scene.record()).own_entry
    assert (HUB, "press") in scene.hubs.identities
    assert "press" in scene.provisioning.registrations
