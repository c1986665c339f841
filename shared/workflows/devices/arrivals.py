"""Devices that have come with the certificate that they were renewed with: their renewal is done.

The message of the renewal looks for that. So does each pass of reconciliation: the message may be gone, when a ledger
that waits was put back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.contracts.messages import Queue
from shared.domain import issuance
from shared.domain.requests import part_key
from shared.workflows.devices.assignments import registered
from shared.workflows.devices.changes import change
from shared.workflows.devices.own_certificates import own_certificates

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.ports.registrar import Assignment
    from shared.workflows.devices.bundles import Bundles
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.left_requests import LeftRequests
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Completes renewals."""

    devices: Devices
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    bundles: Bundles
    expiry: ExpiryIndex
    converger: DeviceConverger
    left: LeftRequests
    clock: Clock

    async def follow(self, device: DeviceRecord) -> DeviceRecord:
        """Complete the renewal of a device if it has come with what that has brought; give the device as it is then.

        The request is done then as well, whether its message comes again or not.

        Raises:
            Overtaken: somebody else has completed it, or renewed the device again.
        """
        renewal = issuance.renewal_of(device)
        if renewal is None:
            return device
        own = await own_certificates(self.devices, device)
        found = await registered(self.provisioning, self.hubs, device, own.waiting)
        if found is None:
            return device
        after = await self.enter(device, renewal, found)
        await self.left.end_of(part_key(Queue.RENEWAL_REQUESTS, renewal))
        return after

    async def enter(self, device: DeviceRecord, renewal: str, assignment: Assignment) -> DeviceRecord:
        """Enter that a device uses the certificate that a renewal has brought; give it as it is then.

        Raises:
            Overtaken: as with :meth:`follow`.
        """
        renewed = partial(
            issuance.renewed,
            request_id=renewal,
            hub=assignment.assigned_hub,
            device_id=assignment.device_id,
            at=self.clock(),
        )
        entered = await change(self.devices, device.registration_id, renewed, at=self.clock())
        known = await self.converger.converge(device.registration_id, entered=entered.record)
        if device.next_certificate is not None:  # the converger does so if its predecessor was in force
            serial_number = device.next_certificate.serial_number
            await self.expiry.leave_missed(device.enrollment_group or "", device.registration_id, serial_number)
        if not device.own_key and device.bundle:
            await self.bundles.delete_key(device.bundle)  # the device uses it, so it has it
        return known.record


def may_have_come(device: DeviceRecord, thumbprints: frozenset[str]) -> bool:
    """Tell by its record alone whether a device's hub lets it in with the certificate that it is renewed with."""
    following = device.next_certificate
    if following is None or issuance.renewal_of(device) is None:
        return False
    return not thumbprints.isdisjoint({following.thumbprint, *device.sha256_thumbprints[-1:]})
