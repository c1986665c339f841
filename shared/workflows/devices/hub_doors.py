"""The doors to a device that are hubs: its own, and each other hub that is linked to the DPS.

A hub lets in whatever identity it has. DPS may have had the device in another hub before, and somebody may have copied
its identity there. So a device that is shut out is looked for in every linked hub, by each id that is its own.

Its own hub is shut at once and without a condition. The others are asked when DPS keeps the device out and is not
assigning a hub to it any more: an identity that is made after that is not made by DPS. What is found is shut whatever
it looks like, for the same reason as everywhere: who was about to let the device in has an outdated ETag then. A
deletion deletes it. A reinstatement opens the device's own hub alone: what was found elsewhere stays shut, since nobody
knows of it what the ledger knows of the device's own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.doors import ClosedDoor, Door
from shared.errors import Overtaken
from shared.ledger.table import Stale
from shared.workflows.many import gathered

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.ledger.devices import Devices
    from shared.ports.hubs import HubIdentity, IotHubRegistries
    from shared.workflows.devices.linked_hubs import LinkedHubs
    from shared.workflows.intake.outbox import Clock

_AT_ONCE = 8
"""Hubs that are asked at once for one device; each hub has threads of its own, so one that hangs holds up no other."""

type Place = tuple[str, str]
"""A hub, and a device id there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDoors:
    """Keeps devices out of hubs, and sees that they are out."""

    hubs: IotHubRegistries
    devices: Devices
    linked: LinkedHubs
    clock: Clock

    async def identity(self, hub: str, device_id: str) -> HubIdentity | None:
        """Give an identity as a hub has it now, ``None`` if it has none."""
        return await self.hubs.get(hub, device_id)

    async def shut(self, record: DeviceRecord, reason: str) -> None:
        """Have a device's own hub keep it out, whatever others write."""
        if (place := own_place(record)) is not None:
            await self.hubs.shut_out(*place, reason=reason)

    async def remove(self, record: DeviceRecord) -> None:
        """Delete the identity in a deleted device's own hub, as it was before the record is looked at again.

        Raises:
            Stale: the record has changed, as that of a device that is ordered anew has, or the identity has.
        """
        place = own_place(record)
        seen = await self.hubs.get(*place) if place is not None else None
        if not await self._still_wanted(record):
            raise Stale(record.registration_id)
        if place is not None and seen is not None and not await self.hubs.delete_unchanged(place[0], seen):
            raise Stale(record.registration_id)

    async def check_shut(self, record: DeviceRecord) -> list[ClosedDoor]:
        """Read back that a device's own hub keeps it out: acknowledged is not done.

        Raises:
            Overtaken: it does not.
        """
        if (place := own_place(record)) is None:
            return []
        await self._check_out(place)
        return [self._closed(place[0])]

    async def shut_others(
        self, record: DeviceRecord, reason: str, *known: Place, delete: bool = False
    ) -> list[ClosedDoor]:
        """Shut a device out of every other hub, each whatever the others answer, and see that it is out.

        Args:
            record: of the device; the identity that it names is left to :meth:`shut` and :meth:`remove`.
            reason: kept with the identities that are found.
            known: other places that it is known to have been in.
            delete: whether what is found is to be gone as well, if the record has not changed meanwhile.

        Returns:
            The other hubs: linked ones and those of ``known``, in the order of their names.

        Raises:
            Overtaken: a hub lets it in although it was shut out.
        """
        places = await self.others(record, *known)

        async def shut_at(hub: str) -> ClosedDoor | Exception:
            try:
                for _, device_id in sorted(each for each in places if each[0] == hub):
                    await self._shut_one(record, (hub, device_id), reason, delete=delete)
            except Exception as error:  # noqa: BLE001 - the other hubs are shut whatever this one answers
                return error
            return self._closed(hub)

        outcomes = await gathered(shut_at, sorted({hub for hub, _ in places}), asyncio.Semaphore(_AT_ONCE))
        for each in outcomes:
            if isinstance(each, Exception):
                self.linked.ask_again()
                raise each
        own = (record.assigned_hub or "").lower()
        return [each for each in outcomes if isinstance(each, ClosedDoor) and each.where != own]

    async def others(self, record: DeviceRecord, *known: Place) -> set[Place]:
        """Give where a device may have an identity beside the one that the ledger names; hubs in lower case.

        Args:
            record: of the device.
            known: places that it is known to have been in.
        """
        own, ids = own_place(record), await self._ids(record)
        places = {(hub, device_id) for hub in await self.linked.names() for device_id in ids}
        places |= {(hub.lower(), device_id) for hub, device_id in known}
        return places - ({(own[0].lower(), own[1])} if own else set())

    async def ids_at(self, hub: str, record: DeviceRecord) -> set[str]:
        """Give the ids under which a device may have identities in a hub."""
        is_own = hub.lower() == (record.assigned_hub or "").lower()
        return await self._ids(record) | ({record.device_id} if is_own and record.device_id else set())

    async def _ids(self, record: DeviceRecord) -> set[str]:
        ids = {record.registration_id}
        # An entry may have named the device id of another device: that one's identities are its own.
        if record.device_id not in {None, record.registration_id}:
            owner = await self.devices.owner_of(record.device_id or "")
            ids |= {record.device_id or ""} if owner in {None, record.registration_id} else set()
        return ids

    async def _shut_one(self, record: DeviceRecord, place: Place, reason: str, *, delete: bool) -> None:
        if await self.hubs.get(*place) is None:
            return
        shut = await self.hubs.shut_out(*place, reason=reason)
        if delete and shut is not None and await self._still_wanted(record):
            await self.hubs.delete_unchanged(place[0], shut)  # if it has changed, it is looked at below
        await self._check_out(place)

    async def _still_wanted(self, record: DeviceRecord) -> bool:
        """Tell whether a record is as it was: a deleted device that was ordered anew may be in any hub."""
        known = await self.devices.get(record.registration_id)
        return known is not None and known.record.generation == record.generation

    async def _check_out(self, place: Place) -> None:
        identity = await self.hubs.get(*place)
        if identity is not None and identity.enabled:
            raise Overtaken(f"{place[0]} does not shut out {place[1]!r}: it is still enabled")

    def _closed(self, hub: str) -> ClosedDoor:
        now = self.clock()
        return ClosedDoor(door=Door.HUB, where=hub, since=now, checked_at=now)


def own_place(record: DeviceRecord) -> Place | None:
    """Give where the ledger has a device; ``None`` if it is in no hub."""
    return (record.assigned_hub, record.device_id) if record.assigned_hub and record.device_id else None
