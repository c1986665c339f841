"""Devices of this app that somebody else has registered.

A group that refers to CA certificates, or whose CA its owner brought along, takes certificates that others can sign,
and with them any registration id. DPS then moves that device's record into the group, and gives the hub's identity the
other thumbprint. Nothing at DPS prevents it but an individual enrollment, which is matched before any group.

So a device that was taken over gets one, with its own certificates alone, and the identity that others got is removed:
the device registers again with its own certificate.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.domain.entries import place_of
from shared.domain.groups import GroupState
from shared.domain.upkeep import pinned
from shared.errors import PreconditionFailed
from shared.workflows.devices.changes import change
from shared.workflows.many import pages

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.domain.groups import GroupRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.intake.outbox import Clock

_log = logging.getLogger(__name__)
_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeovers:
    """Finds devices that a foreign group has registered, and gives them back."""

    devices: Devices
    groups: Groups
    authorities: Authorities
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    converger: DeviceConverger
    clock: Clock

    async def sweep(self) -> int:
        """Look at the registrations of each group that others can sign for.

        Returns:
            How many devices were given back.
        """
        given_back = 0
        for group in [each async for each in self.groups.list()]:
            if group.state is not GroupState.DELETED and await self._signed_elsewhere(group):
                given_back += await self._look_at(group.enrollment_group)
        return given_back

    async def _signed_elsewhere(self, group: GroupRecord) -> bool:
        if group.ca_references is not None:
            return True
        known = await self.authorities.get(group.issuer)
        return known is not None and known.record.wanted is None

    async def _look_at(self, group_id: str) -> int:
        given_back = 0
        async for page in pages(partial(self.provisioning.page_of_registrations, group_id), size=_PAGE):
            for registration in page:
                given_back += await self._check(group_id, registration)
        return given_back

    async def _check(self, group_id: str, registration: dict[str, Any]) -> bool:
        known = await self.devices.get(str(registration["registrationId"]).lower())
        if known is None or not _taken_over(known.record, group_id):
            return False
        device, place = known.record, place_of(registration)
        seen = await self.hubs.get(*place) if place is not None else None
        present = await self.provisioning.get_registration(device.registration_id) or {}
        if place_of(present) != place or str(present.get("enrollmentGroupId") or group_id).lower() != group_id.lower():
            return False  # it has registered since; whoever that was is looked at by the next sweep
        _log.critical(
            "%r was registered by the enrollment group %r, which is not its own", device.registration_id, group_id
        )

        def pin(record: DeviceRecord) -> DeviceRecord:
            return pinned(record, group=group_id, at=self.clock()) if _taken_over(record, group_id) else record

        entered = (await change(self.devices, device.registration_id, pin, at=self.clock())).record
        if not _taken_over(entered, group_id):
            return False  # it was shut out meanwhile, or ordered into that group
        # From now on DPS takes its own certificates alone.
        await self.converger.converge(device.registration_id, entered=entered)
        try:
            await self.provisioning.delete_registration(device.registration_id, etag=present.get("etag"))
        except PreconditionFailed:
            return True  # by now the device has registered itself
        if place is not None and seen is not None:
            await self.hubs.delete_unchanged(place[0], seen)
        return True


def _taken_over(device: DeviceRecord, group_id: str) -> bool:
    """Tell whether a device is another group's. One that was issued for no group registers with whichever takes it."""
    own = device.enrollment_group
    return own is not None and own != group_id and bool(device.in_use) and not device.shut_out
