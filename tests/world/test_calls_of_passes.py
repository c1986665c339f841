"""What a pass has a device follow counts in its share of the quotas: no call to DPS or a hub is left out."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.words import DeviceState
from tests.world import acts
from tests.world.drift import Fleet, fleet_of, revoke_former
from tests.world.services import HUB
from tests.world.world import DEVICE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

HOUR = timedelta(hours=1)


async def looked_at(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Have a pass look at the device; give what it has counted, and what DPS and hubs were asked."""
    asked, step = Counter[str](), fleet.world.conductor.step

    @asynccontextmanager
    async def counting(label: str, service: str = "", *more: Any, **named: Any) -> AsyncIterator[None]:
        asked[service] += 1
        async with step(label, service, *more, **named):
            yield

    monkeypatch.setattr(fleet.world.conductor, "step", counting)
    fleet.world.now += HOUR
    begun = await fleet.reconciler.begin(registration_id=DEVICE)
    await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + HOUR)
    done = await fleet.reconciler.describe(begun.reconciliation_id)
    return {"dps": done.calls["dps"], "hub": done.calls[f"reads {HUB}"]}, {each: asked[each] for each in ("dps", "hub")}


@pytest.mark.parametrize("by_its_own_entry", [False, True])
async def test_to_enter_that_a_device_has_come_with_its_next_certificate(
    monkeypatch: pytest.MonkeyPatch, *, by_its_own_entry: bool
) -> None:
    fleet = await fleet_of()
    if by_its_own_entry:
        await revoke_former(fleet)
    fleet.world.ask("renew again", *acts.MESSAGES["renew again"])
    await fleet.world.deliver("renew again")
    await fleet.world.boot()
    counted, asked = await looked_at(fleet, monkeypatch)
    record = fleet.world.record()
    assert record is not None
    assert record.state is DeviceState.REGISTERED
    assert counted["dps"] in {asked["dps"], asked["dps"] + 1}, "an entry is not always written"
    assert counted["hub"] == asked["hub"]


async def test_to_have_an_entry_follow_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device has it since a former certificate was revoked. No other was since, so its hub is not asked anew."""
    fleet = await fleet_of()
    await revoke_former(fleet)
    await acts.ALL_CALLS[acts.CHANGE_GROUP](fleet.world)
    counted, asked = await looked_at(fleet, monkeypatch)
    assert fleet.world.provisioning.enrollments[DEVICE]["allocationPolicy"] == "geoLatency"
    assert counted == asked
