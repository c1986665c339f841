"""Compares the doors of devices with a ledger that was put back.

What is shut stays shut: why, nobody can tell. What the ledger has shut is shut again, though others have opened it
since: who knows that it is to be open says so. Devices of a page are looked at some at a time, each by itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.certificates import CertificateState
from shared.domain.groups import STATUS
from shared.domain.reconciliation import DPS, needs_entry
from shared.domain.restoration import keeps_out, kept_out, knows_disabled, shut_again
from shared.domain.upkeep import switched
from shared.domain.words import RevocationReason
from shared.workflows.devices.changes import change, unsettled
from shared.workflows.entry_certificates import serial_numbers_of
from shared.workflows.many import AT_ONCE, pages
from shared.workflows.reconciliation.said_first import Due, due_of, said_first

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping

    from shared.domain.attestations import Entry
    from shared.domain.devices import DeviceRecord
    from shared.ledger.devices import Devices
    from shared.pki.list_checks import ListedCertificate
    from shared.ports.hubs import HubIdentity, IotHubRegistries
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
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def compare(self, listed: Mapping[str, ListedCertificate]) -> AsyncIterator[str]:
        """Keep out what DPS, a hub or the ledger keeps out; say whom. What is entered is still to be brought about.

        Args:
            listed: what the lists say, by serial number.
        """
        disabled = set[str]()
        async for entries in pages(self.provisioning.page_of_enrollments):
            shut = [each for each in entries if each.get(STATUS) == "disabled"]
            disabled |= {str(each["registrationId"]).lower() for each in shut}
            async for line in said_first(partial(self._kept_out, listed), shut, self._gate):
                yield line
        async for line in self._of_ledger(disabled):
            yield line

    async def _of_ledger(self, disabled: Collection[str]) -> AsyncIterator[str]:
        """Look at the doors of the ledger's devices.

        Args:
            disabled: devices whose individual enrollment is disabled.
        """
        async for records in pages(partial(self.devices.page, enrollment_group=None)):
            for each in records:
                if not each.settled:  # its note may have been gone when the copy came to the notes
                    await self.devices.enter_unsettled(unsettled(each, self.clock()))
            for hub in sorted({each.assigned_hub for each in records if each.assigned_hub}):
                here = {each.device_id: each for each in records if each.assigned_hub == hub and each.device_id}
                found = await self.hubs.find(hub, list(here))
                async for line in said_first(partial(self._at_hub, hub, here), found.items(), self._gate):
                    yield line
            async for line in said_first(partial(self._at_dps, disabled), records, self._gate):
                yield line

    async def _kept_out(self, listed: Mapping[str, ListedCertificate], entry: Entry) -> Due | None:
        registration_id = str(entry["registrationId"]).lower()
        if not self.is_lost:
            return await self._disable(registration_id, DPS, entry)
        told = [listed[each] for each in serial_numbers_of(entry) if each in listed]
        return await self._keep_out(registration_id, told[0] if told else None)

    async def _at_hub(
        self, hub: str, records: Mapping[str, DeviceRecord], found: tuple[str, HubIdentity]
    ) -> Due | None:
        record, identity = records[found[0]], found[1]
        if not identity.enabled:
            return await self._disable(record.registration_id, hub)
        if record.settled and (record.shut_out or record.disabled):
            return await self._shut_again(record.registration_id, hub)
        return None

    async def _at_dps(self, disabled: Collection[str], record: DeviceRecord) -> Due | None:
        is_open = await self._is_open_at_dps(record, disabled)
        return await self._shut_again(record.registration_id, DPS) if is_open else None

    async def _is_open_at_dps(self, record: DeviceRecord, disabled: Collection[str]) -> bool:
        """Tell whether DPS lets in what the ledger keeps out; what is under way is brought about anyway.

        Args:
            record: of the device.
            disabled: devices whose individual enrollment is disabled.
        """
        now = self.clock()
        if not record.settled or record.registration_id in disabled:
            return False
        if not (needs_entry(record, now) and keeps_out(record, now)):
            return False
        if record.shut_out or record.entry_disabled:
            return True
        entry = await self.provisioning.get_enrollment(record.registration_id)
        held = [record.find(each) for each in serial_numbers_of(entry)] if entry is not None else []
        return entry is None or any(each is not None and each.state is CertificateState.REVOKED for each in held)

    async def _keep_out(self, registration_id: str, listed: ListedCertificate | None) -> Due | None:
        """Keep a device out whose entry is disabled, by every door: the ledger alone will know that it was.

        Args:
            registration_id: of the device.
            listed: what a list says of a certificate of its entry; ``None`` if none has it.
        """
        reason = RevocationReason(listed.reason) if listed else RevocationReason.CERTIFICATE_HOLD
        said = (
            f"revoked again ({reason}, {listed.revoked_at:%Y-%m-%d %H:%M} UTC)"
            if listed is not None
            else f"it is on hold, since it is disabled in {DPS}; not known: whether it was revoked. "
            "Reinstate it, or revoke it"
        )
        act = partial(kept_out, reason=reason, at=listed.revoked_at if listed else self.clock())
        return await self._due(registration_id, act, lambda _: said)

    async def _shut_again(self, registration_id: str, where: str) -> Due | None:
        """Have what the ledger keeps out shut out again, unless that is under way."""

        def said(record: DeviceRecord) -> str:
            if record.on_hold:
                what = (
                    "it is on hold in the ledger, and is shut out again; reinstate it if its hold was undone meanwhile"
                )
            elif record.shut_out:
                what = f"it is {record.state} in the ledger, and is shut out again"
            elif record.disabled:
                what = "it is disabled in the ledger, and is shut out again; enable it if that was done meanwhile"
            else:
                what = "the ledger keeps it out there, or one of its certificates, and it is shut out again"
            return f"{where} lets it in; {what}"

        return await self._due(registration_id, partial(shut_again, where=where, at=self.clock()), said)

    async def _disable(self, registration_id: str, where: str, entry: Entry | None = None) -> Due | None:
        """Enter that a device is kept out: by its individual enrollment or, without one, by its hub."""

        def disabled(record: DeviceRecord) -> DeviceRecord:
            if record.shut_out or (entry is not None and knows_disabled(record, entry)):
                return record
            # An operator who lets it in again has seen its entry: the next ledger that is put back knows of that.
            known = record if entry is None else record.changed(entry_disabled=True)
            return known if record.disabled else switched(known, enabled=False, reason=_WHY, at=self.clock())

        also = ", and its individual enrollment" if entry is not None else ""
        said = f"it is disabled in {where}, and no list names it: it is kept out; enable it{also}, or revoke it"
        return await self._due(registration_id, disabled, lambda _: said)

    async def _due(
        self,
        registration_id: str,
        act: Callable[[DeviceRecord], DeviceRecord],
        said: Callable[[DeviceRecord], str],
    ) -> Due | None:
        """Give what is to be entered; ``None`` if that is there, or the ledger does not know the device."""
        known = await self.devices.get(registration_id)
        if known is None:
            return None
        wanted = act(known.record)
        enter = partial(self._enter, registration_id, act)
        return due_of(known.record, wanted, line=f"{registration_id}: {said(wanted)}", enter=enter)

    async def _enter(self, registration_id: str, act: Callable[[DeviceRecord], DeviceRecord]) -> None:
        await change(self.devices, registration_id, act, at=self.clock())
