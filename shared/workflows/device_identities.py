"""Device identities in the hubs, each in the hub that the device is assigned to now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.contracts import DeviceState
from shared.errors import Conflict, Deferred, NotFound, Rejected
from shared.ledger.devices import HistoryEntry
from shared.workflows.dps_entries import RETRY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.adapters.dps_service import ProvisioningService
    from shared.adapters.iot_hub import HubIdentity, IotHubRegistries
    from shared.ledger.devices import DeviceRecord, Devices
    from shared.ledger.table import Versioned
    from shared.workflows.events import Clock

_SHUT_OUT = frozenset({DeviceState.REVOKED, DeviceState.DELETED})


@dataclass(frozen=True, slots=True)
class DeviceIdentities:
    """Looks at identities and switches them, and follows devices that DPS has moved."""

    devices: Devices
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    clock: Clock

    async def follow(self, known: Versioned[DeviceRecord]) -> Versioned[DeviceRecord]:
        """See where DPS has a device now, and enter it if that is another hub than the ledger has.

        Raises:
            Deferred: somebody else is changing the device.
        """
        device = known.record
        registration = await self.provisioning.get_registration(device.registration_id)
        if registration is None or registration.get("status") != "assigned":
            return known
        hub, device_id = str(registration["assignedHub"]), str(registration["deviceId"])
        if hub.lower() == (device.assigned_hub or "").lower() and device_id == device.device_id:
            return known
        before = device.assigned_hub or "no hub"
        entry = HistoryEntry(at=self.clock(), state=device.state, note=f"DPS has it in {hub} now, not in {before}")
        moved = device.changed(assigned_hub=hub, device_id=device_id, history=(*device.history, entry))
        replaced = await self.devices.replace(known, moved)
        if replaced is None:
            raise Deferred(f"{device.registration_id!r} is being changed by someone else", retry_after=RETRY)
        return replaced

    async def describe(self, registration_id: str) -> dict[str, Any]:
        """Show a device's identity, as its hub has it.

        Raises:
            NotFound: there is no such device, or its hub has no identity for it.
        """
        device, hub, device_id = await self._located(registration_id)
        return _described(device, await self.hubs.get(hub, device_id))

    async def switch(self, registration_id: str, *, enabled: bool, reason: str) -> dict[str, Any]:
        """Let a device in at its hub, or keep it out there and end its connection.

        Args:
            registration_id: the device.
            enabled: whether it is let in.
            reason: kept with the identity, at most 128 characters.

        Returns:
            The identity, as its hub has it now.

        Raises:
            NotFound: there is no such device, or its hub has no identity for it.
            Conflict: it is revoked or deleted, and is to be let in.
        """
        device, hub, device_id = await self._located(registration_id)
        if enabled and device.state in _SHUT_OUT:
            raise Conflict.because(
                f"{registration_id!r} is {device.state}, so its identity stays disabled; a hold is undone by "
                "reinstating the device",
                field="registrationId",
            )
        return _described(device, await self.hubs.set_enabled(hub, device_id, enabled=enabled, reason=reason))

    async def delete(self, registration_id: str) -> None:
        """Delete a device's identity, if there is one; registering again makes a new one.

        Raises:
            NotFound: there is no such device, or it is in no hub.
        """
        _, hub, device_id = await self._located(registration_id)
        await self.hubs.delete(hub, device_id)

    async def disable_many(self, devices: Iterable[DeviceRecord], *, reason: str) -> None:
        """Keep many devices out at their hubs, with a few calls, as far as that goes.

        Each one is looked at by itself afterwards; so what the hubs throttle or refuse here is left to that.
        """
        by_hub: dict[str, list[str]] = {}
        for device in devices:
            if device.assigned_hub and device.device_id:
                by_hub.setdefault(device.assigned_hub, []).append(device.device_id)
        for hub, ids in by_hub.items():
            try:
                await self.hubs.disable_many(hub, ids, reason=reason)
            except (Deferred, Rejected):
                continue

    async def _located(self, registration_id: str) -> tuple[DeviceRecord, str, str]:
        known = await self.devices.get(registration_id)
        if known is None:
            raise NotFound.because(f"there is no device {registration_id!r}", field="registrationId")
        device = (await self.follow(known)).record
        if device.assigned_hub is None or device.device_id is None:
            raise NotFound.because(
                f"{registration_id!r} has not registered with DPS, so no hub has an identity for it",
                field="registrationId",
            )
        return device, device.assigned_hub, device.device_id


def _described(device: DeviceRecord, identity: HubIdentity | None) -> dict[str, Any]:
    if identity is None:
        raise NotFound.because(
            f"{device.assigned_hub} has no identity {device.device_id!r}; the device gets one when it registers again",
            field="registrationId",
        )
    return {
        "registrationId": device.registration_id,
        "deviceId": identity.device_id,
        "assignedHub": device.assigned_hub,
        "status": "enabled" if identity.enabled else "disabled",
        "statusReason": identity.reason,
        "connectionState": "connected" if identity.connected else "disconnected",
        "thumbprint": identity.thumbprint or None,
    }
