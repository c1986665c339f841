"""Tells which doors of a device that was shut out are open again, before they are shut anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.domain.doors import Door

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.domain.doors import ClosedDoor
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.devices.hub_doors import HubDoors

PATIENCE = 5.0
"""Seconds for which a service may let the doors wait that are to be shut: what it would say is only told."""


async def reopened(record: DeviceRecord, provisioning: ProvisioningService, doors: HubDoors) -> tuple[ClosedDoor, ...]:
    """Give the doors that a record has as closed, and that let the device in; a service that fails says nothing."""

    async def look(door: ClosedDoor) -> bool:
        if door.door is Door.DPS:
            entry = await provisioning.get_enrollment(record.registration_id)
            return entry is None or entry.get("provisioningStatus") != "disabled"
        ids = await doors.ids_at(door.where, record)
        found = [await doors.identity(door.where, device_id) for device_id in sorted(ids)]
        return any(identity is not None and identity.enabled for identity in found)

    async def is_open(door: ClosedDoor) -> bool:
        async with asyncio.timeout(PATIENCE):
            return await look(door)

    closed = [each for each in record.closed if each.door in {Door.DPS, Door.HUB}]
    outcomes = await asyncio.gather(*map(is_open, closed), return_exceptions=True)
    return tuple(door for door, outcome in zip(closed, outcomes, strict=True) if outcome is True)
