"""Where DPS has a device, by its registration record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.domain.upkeep import moved
from shared.errors import Deferred
from shared.workflows.devices.changes import change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.domain.devices import DeviceRecord
    from shared.ledger.devices import Devices
    from shared.ledger.table import Versioned
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.intake.outbox import Clock

_ASSIGNING = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Enters where DPS has devices."""

    devices: Devices
    provisioning: ProvisioningService
    clock: Clock

    async def follow(self, known: Versioned[DeviceRecord]) -> Versioned[DeviceRecord]:
        """See where DPS has a device now, and enter it if that is another hub than the ledger has.

        Raises:
            Deferred: DPS is assigning a hub to it at this moment.
        """
        return await self.enter(known, await self.registration(known.record))

    async def registration(self, record: DeviceRecord) -> Mapping[str, Any] | None:
        """Read a device's registration record; ``None`` without one."""
        return await self.provisioning.get_registration(record.registration_id)

    async def enter(
        self, known: Versioned[DeviceRecord], registration: Mapping[str, Any] | None
    ) -> Versioned[DeviceRecord]:
        """Enter what a registration record says; errors are those of :meth:`follow`."""
        if registration is None:
            return known
        if known.record.shut_out:
            check_assigned(known.record, registration)
        if registration.get("status") != "assigned":
            return known
        hub, device_id, at = str(registration["assignedHub"]), str(registration["deviceId"]), self.clock()
        if moved(known.record, hub=hub, device_id=device_id, at=at) is known.record:
            return known
        return await change(
            self.devices,
            known.record.registration_id,
            lambda record: moved(record, hub=hub, device_id=device_id, at=at),
            at=at,
        )


def check_assigned(record: DeviceRecord, registration: Mapping[str, Any]) -> None:
    """See that DPS has done with a device: what it has decided before, it may still write to a hub.

    Raises:
        Deferred: it is assigning a hub to it at this moment.
    """
    if registration.get("status") == "assigning":
        raise Deferred(f"DPS is assigning a hub to {record.registration_id!r} at this moment", retry_after=_ASSIGNING)
