"""Compares the doors of devices with a ledger that was put back. What is shut stays shut: why, nobody can tell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.groups import STATUS
from shared.domain.reconciliation import DPS
from shared.domain.restoration import kept_out, knows_disabled
from shared.domain.upkeep import switched
from shared.domain.words import RevocationReason
from shared.workflows.devices.changes import change, unsettled
from shared.workflows.devices.entry_certificates import serial_numbers_of
from shared.workflows.many import pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from shared.domain.attestations import Entry
    from shared.domain.devices import DeviceRecord
    from shared.ledger.devices import Devices
    from shared.pki.list_checks import ListedCertificate
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.intake.outbox import Clock

_WHY = "found disabled when the ledger was put back"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredDoors:
    """The doors of all devices, at DPS and at the hubs.

    Attributes:
        is_lost: whether the ledger was lost. Then it alone will know that a device was revoked.
    """

    devices: Devices
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    is_lost: bool
    clock: Clock

    async def keep_out(self, listed: Mapping[str, ListedCertificate]) -> AsyncIterator[str]:
        """Keep out what DPS or a hub keeps out and the ledger does not know of; say whom.

        Args:
            listed: what the lists say, by serial number.
        """
        async for entries in pages(self.provisioning.page_of_enrollments):
            for entry in entries:
                if entry.get(STATUS) != "disabled":
                    continue
                registration_id = str(entry["registrationId"]).lower()
                if self.is_lost:
                    told = [listed[each] for each in serial_numbers_of(entry) if each in listed]
                    lines = self._keep_out(registration_id, told[0] if told else None)
                else:
                    lines = self._disable(registration_id, DPS, entry)
                async for line in lines:
                    yield line
        async for records in pages(partial(self.devices.page, enrollment_group=None)):
            for each in records:
                if not each.settled:  # its note may have been gone when the copy came to the notes
                    await self.devices.enter_unsettled(unsettled(each, self.clock()))
            async for line in self._disabled_in_hubs(records):
                yield line

    async def _disabled_in_hubs(self, records: Sequence[DeviceRecord]) -> AsyncIterator[str]:
        for hub in sorted({each.assigned_hub for each in records if each.assigned_hub}):
            here = {each.device_id: each.registration_id for each in records if each.assigned_hub == hub}
            found = await self.hubs.find(hub, [each for each in here if each])
            for device_id, identity in found.items():
                if not identity.enabled:
                    async for line in self._disable(here[device_id], hub):
                        yield line

    async def _keep_out(self, registration_id: str, listed: ListedCertificate | None) -> AsyncIterator[str]:
        """Keep a device out whose entry is disabled, by every door: the ledger alone will know that it was.

        Args:
            registration_id: of the device.
            listed: what a list says of a certificate of its entry; ``None`` if none has it.
        """
        reason = RevocationReason(listed.reason) if listed else RevocationReason.CERTIFICATE_HOLD
        before = await self.devices.get(registration_id)
        if before is None:
            return
        act = partial(kept_out, reason=reason, at=listed.revoked_at if listed else self.clock())
        after = await change(self.devices, registration_id, act, at=self.clock())
        if after.record.generation == before.record.generation:
            return
        if listed is not None:
            yield f"{registration_id}: revoked again ({reason}, {listed.revoked_at:%Y-%m-%d %H:%M} UTC)"
        else:
            yield (
                f"{registration_id}: it is disabled in {DPS}, and whether it was revoked can't be known: it is on "
                "hold; reinstate it, or revoke it"
            )

    async def _disable(self, registration_id: str, where: str, entry: Entry | None = None) -> AsyncIterator[str]:
        """Enter that a device is kept out: by its individual enrollment or, without one, by its hub."""

        def disabled(record: DeviceRecord) -> DeviceRecord:
            if record.shut_out or (entry is not None and knows_disabled(record, entry)):
                return record
            # An operator who lets it in again has seen its entry: the next ledger that is put back knows of that.
            known = record if entry is None else record.changed(entry_disabled=True)
            return known if record.disabled else switched(known, enabled=False, reason=_WHY, at=self.clock())

        before = await self.devices.get(registration_id)
        if before is None:
            return
        after = await change(self.devices, registration_id, disabled, at=self.clock())
        if after.record.generation != before.record.generation:
            also = ", and its individual enrollment" if entry is not None else ""
            yield (
                f"{registration_id}: it is disabled in {where}, and no list names it: it is kept out; enable it{also}, "
                "or revoke it"
            )
