"""Device identities in the hubs, each in the hub that the device is assigned to now."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import acting
from shared.contracts.answers_devices import Identity
from shared.domain import upkeep
from shared.errors import Conflict, DeviceFactoryError, NotFound, Overtaken
from shared.workflows.devices.changes import change, device_of
from shared.workflows.devices.hub_doors import own_place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.domain.devices import DeviceRecord
    from shared.ledger.devices import Devices
    from shared.ports.hubs import HubIdentity, IotHubRegistries
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.intake.outbox import Clock

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceIdentities:
    """Looks at identities and switches them."""

    devices: Devices
    hubs: IotHubRegistries
    converger: DeviceConverger
    clock: Clock

    async def describe(self, registration_id: str) -> Identity:
        """Show a device's identity, as its hub has it.

        Raises:
            NotFound: the device does not exist, or its hub has no identity for it.
        """
        device, hub, device_id = await self._located(registration_id)
        return _described(device, hub, await self.hubs.get(hub, device_id))

    async def switch(self, registration_id: str, *, enabled: bool, reason: str) -> Identity:
        """Let a device in at its hub, or keep it out there and end its connection.

        Args:
            registration_id: the device.
            enabled: whether it is let in.
            reason: kept with the identity, at most 128 characters.

        Returns:
            The identity, as its hub has it now.

        Raises:
            NotFound: the device does not exist, or its hub has no identity for it.
            Conflict: it is revoked or deleted, and is to be let in.
            LedgerBehind: it is to be let in, and the ledger is an older one.
        """
        if enabled:
            await self.converger.check_ledger()
        await self.describe(registration_id)

        def switched(record: DeviceRecord) -> DeviceRecord:
            after = upkeep.switched(record, enabled=enabled, reason=reason, at=self.clock())
            return upkeep.audited(after, acting.audited(), enabled=enabled)

        entered = await change(self.devices, registration_id, switched, at=self.clock())
        await self.converger.converge(registration_id, entered=entered.record)
        return await self.describe(registration_id)

    async def delete(self, registration_id: str) -> None:
        """Delete a device's identity, if there is one; registering again makes a new one.

        Nobody carries it on: the device may have another identity by then. So if the hub did not say what became of it,
        that is looked up. It is read before the record, and deleted as it was read: who shuts the device out, or orders
        it anew, writes it after the record.

        Raises:
            NotFound: the device does not exist, or it is in no hub.
            Conflict: the identity keeps a device out that is revoked.
            Overtaken: somebody else has changed the device or its identity meanwhile.
        """
        before, hub, device_id = await self._located(registration_id)
        seen = await self.hubs.get(hub, device_id)
        device = (await device_of(self.devices, registration_id)).record
        if device.shut_out:
            raise Conflict.because(
                f"{registration_id!r} is {device.state}, and its disabled identity keeps it out of {hub}; delete the "
                "device to have it removed",
                field="registrationId",
            )
        if (device.generation, own_place(device)) != (before.generation, own_place(before)):
            raise _changed(hub, device_id)
        if seen is None:
            return
        try:
            is_gone = await self.hubs.delete_unchanged(hub, seen)
        except DeviceFactoryError:
            raise  # the hub has said so
        except Exception:
            if not await self._is_gone(hub, device_id):
                raise
        else:
            if not is_gone:
                raise _changed(hub, device_id)

    async def _is_gone(self, hub: str, device_id: str) -> bool:
        """Tell whether a hub has no identity; not if it can't be reached."""
        try:
            return await self.hubs.get(hub, device_id) is None
        except Exception as error:  # noqa: BLE001 - what came before says why
            _log.warning("%s does not say whether it has %r: %s", hub, device_id, error)
            return False

    async def disable_many(self, devices: Iterable[DeviceRecord], *, reason: str) -> None:
        """Keep many devices out at their hubs, with a few calls, as far as that goes.

        Each one is looked at by itself afterwards; so what the hubs throttle, refuse or fail at here is left to that.
        """
        by_hub: dict[str, list[str]] = {}
        for device in devices:
            if device.assigned_hub and device.device_id:
                by_hub.setdefault(device.assigned_hub, []).append(device.device_id)
        for hub, ids in by_hub.items():
            try:
                await self.hubs.disable_many(hub, ids, reason=reason)
            except Exception as error:  # noqa: BLE001 - each device is shut out by itself afterwards
                _log.warning("%s did not shut out %d devices at once: %s", hub, len(ids), error)

    async def _located(self, registration_id: str) -> tuple[DeviceRecord, str, str]:
        known = await device_of(self.devices, registration_id)
        device = (await self.converger.follow(known)).record
        if device.assigned_hub is None or device.device_id is None:
            raise NotFound.because(
                f"{registration_id!r} has not registered with DPS, so no hub has an identity for it",
                field="registrationId",
            )
        return device, device.assigned_hub, device.device_id


def _changed(hub: str, device_id: str) -> Overtaken:
    return Overtaken(f"the identity {device_id!r} in {hub} is being changed by others")


def _described(device: DeviceRecord, hub: str, identity: HubIdentity | None) -> Identity:
    if identity is None:
        raise NotFound.because(
            f"{hub} has no identity {device.device_id!r}; the device gets one when it registers again",
            field="registrationId",
        )
    return Identity(
        registration_id=device.registration_id,
        device_id=identity.device_id,
        assigned_hub=hub,
        status="enabled" if identity.enabled else "disabled",
        status_reason=identity.reason,
        connection_state="connected" if identity.connected else "disconnected",
        authentication=identity.authentication,
        thumbprint=min(identity.thumbprints, key=len, default=None),
    )
