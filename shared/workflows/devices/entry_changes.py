"""Brings a device's individual enrollment to what an operator wants of it, as the device's record says.

Anybody can start it, at any time and any number of times: the operator's call, the next one, or a timer.

The entry is read before the record is, and is written under the ETag that the operator's act has seen. So who is late
opens nothing that somebody else has shut since. An entry that does not exist has no ETag: so after one was made the
record is replaced as it was read, and if it has changed meanwhile, the entry is taken back unless it is wanted still.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.attestations import attestation_of
from shared.domain.entries import own_settings, settings_apart
from shared.domain.entry_changes import changed_entry, followed, withdrawn
from shared.domain.groups import STATUS
from shared.errors import Conflict, Deferred, PreconditionFailed, Rejected
from shared.ledger.table import Stale
from shared.workflows.devices.changes import device_of
from shared.workflows.entry_certificates import serial_numbers_of
from shared.workflows.groups.entries import RETRY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from shared.domain.attestations import Entry
    from shared.domain.devices import DeviceRecord
    from shared.domain.entry_wishes import EntryChange
    from shared.ledger.devices import DeviceIdClaim, Devices
    from shared.ledger.table import Versioned
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.devices.entry_keys import EntryKeys


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What has become of a change.

    Attributes:
        device: as it is now.
        entry: as DPS has it now; ``None`` if it does not.
        by: the change that DPS has now; ``None`` if there was none to be brought about.
        refusal: why it was withdrawn instead.
    """

    device: Versioned[DeviceRecord]
    entry: Entry | None
    by: str | None = None
    refusal: Rejected | Deferred | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryChanges:
    """Has DPS follow changes of individual enrollments."""

    devices: Devices
    provisioning: ProvisioningService
    keys: EntryKeys

    async def bring_about(self, registration_id: str) -> Outcome:
        """Have DPS follow the change that a device's record wants, if it wants one, or withdraw it.

        Raises:
            Stale: somebody else was here in between: it is to be looked at anew.
            Deferred: DPS is throttling; the change stays.
        """
        entry = await self.provisioning.get_enrollment(registration_id)
        known = await device_of(self.devices, registration_id)  # after its entry was looked at
        record, change = known.record, known.record.entry_change
        if change is None or record.shut_out:
            return Outcome(device=known, entry=entry)
        wanted = changed_entry(record, change, entry)
        if _differs(entry, change) and not _is_so(entry, wanted):
            return await self._withdraw(known, change, entry, busy(registration_id))
        freed = await self._freed(known, change)
        try:
            await self.keys.hold(registration_id, change)
            written = await self._write(registration_id, change, entry, wanted)
        except Rejected as refusal:
            return await self._withdraw(known, change, entry, refusal)
        if freed is not None:
            await self.give_back(freed)
        try:
            await self.keys.confirm(registration_id, change)
            device = await self.devices.replace(known, followed(record, _made(wanted, written)))
        except Stale:
            if entry is None and written is not None:
                await self._take_back(registration_id, change, written)
            raise
        return Outcome(device=device, entry=written, by=change.by)

    async def _withdraw(
        self, known: Versioned[DeviceRecord], change: EntryChange, entry: Entry | None, refusal: Rejected | Deferred
    ) -> Outcome:
        _log.warning("a change of %s is withdrawn: %s", named(known.record.registration_id), refusal)
        try:
            device = await self.devices.replace(known, withdrawn(known.record, change.by))
        except Stale:
            device = await device_of(self.devices, known.record.registration_id)
            present = device.record.entry_change
            if present is not None and present.by == change.by:
                raise
        return Outcome(device=device, entry=entry, refusal=refusal)

    async def _write(
        self, registration_id: str, change: EntryChange, entry: Entry | None, wanted: Entry | None
    ) -> Entry | None:
        """Write what is not so yet.

        Raises:
            Stale: the entry is another one by now.
            Rejected: DPS refuses it.
        """
        if wanted == entry or _differs(entry, change):
            return entry
        try:
            if wanted is not None:
                return await self.provisioning.put_enrollment(wanted, etag=change.etag)
            if entry is not None:
                await self.provisioning.delete_enrollment(registration_id, etag=entry["etag"])
        except PreconditionFailed as changed:
            raise Stale(registration_id) from changed
        except Conflict as made:
            if change.etag is None:
                raise Stale(registration_id) from made
            raise
        return None

    async def _take_back(self, registration_id: str, change: EntryChange, written: Entry) -> None:
        """Delete an entry that was made too late: what wanted it was brought about, or dropped, by somebody else."""
        record = (await device_of(self.devices, registration_id)).record
        present = record.entry_change
        is_wanted = record.own_entry if present is None else present.by == change.by or present.etag == written["etag"]
        if not is_wanted:
            with suppress(PreconditionFailed):  # whoever has written it since has seen it
                await self.provisioning.delete_enrollment(registration_id, etag=written["etag"])

    async def _freed(self, known: Versioned[DeviceRecord], change: EntryChange) -> Versioned[DeviceIdClaim] | None:
        """Find the claim of the device id that is free when a change has come about.

        It was made before the change: whoever wants the id anew sees that brought about first, and claims it then.

        Raises:
            Stale: the record has changed since it was read, so the claim may be a later one.
        """
        registration_id = known.record.registration_id
        claim = await self.claimed(registration_id, change.freed)
        if claim is not None and (await device_of(self.devices, registration_id)).etag != known.etag:
            raise Stale(registration_id)
        return claim

    async def claimed(self, registration_id: str, device_id: str | None) -> Versioned[DeviceIdClaim] | None:
        """Find the claim of the device id that an entry is to have no more. It is read before the entry is written.

        So what is claimed by whoever sees the entry without it is not freed.

        Returns:
            ``None`` if it is not to be freed: it is another device's, or the registration id.
        """
        if device_id is None or device_id.lower() == registration_id.lower():
            return None
        return await self.devices.claim_of(device_id, registration_id)

    async def give_back(self, claim: Versioned[DeviceIdClaim]) -> None:
        """Free a device id, unless something of the device names it, or it was claimed once more."""
        if claim.record.device_id not in await self._device_ids(claim.record.registration_id):
            await self.devices.give_back_device_id(claim)

    async def _device_ids(self, registration_id: str) -> set[str]:
        """Give the device ids, in lower case, that a device has, or is to have, and under which a hub may know it."""
        entry = await self.provisioning.get_enrollment(registration_id) or {}
        registration = await self.provisioning.get_registration(registration_id) or {}
        known = await self.devices.get(registration_id)
        found = {registration.get("deviceId"), (entry.get("deviceId") or registration_id) if entry else None}
        if known is not None:
            wanted = known.record.entry_change
            found |= {registration_id, known.record.device_id, wanted.device_id if wanted else None}
            found |= {(known.record.entry_settings or {}).get("deviceId")}
        return {str(each).lower() for each in found if each}


def named(registration_id: str) -> str:
    """Name an entry, for messages."""
    return f"the individual enrollment {registration_id!r}"


def busy(registration_id: str) -> Deferred:
    """Say that somebody else is changing an entry."""
    return Deferred(f"{named(registration_id)} is being changed by someone else", retry_after=RETRY)


def _differs(entry: Entry | None, change: EntryChange) -> bool:
    """Tell whether an entry is another one than the one that was looked at."""
    return (entry["etag"] if entry is not None else None) != change.etag


def _is_so(entry: Entry | None, wanted: Entry | None) -> bool:
    """Tell whether an entry is as it is wanted: it was written, and the answer got lost."""
    if entry is None or wanted is None:
        return entry is wanted
    return (
        wanted[STATUS] == entry.get(STATUS)
        and settings_apart(own_settings(wanted), own_settings(entry)) is None
        and attestation_of(wanted).kind is attestation_of(entry).kind
        and serial_numbers_of(wanted) == serial_numbers_of(entry)
    )


def _made(wanted: Entry | None, written: Entry | None) -> Mapping[str, Any] | None:
    """Give what DPS has made of the settings, if that is something else than it was asked for."""
    if wanted is None or written is None or settings_apart(own_settings(wanted), own_settings(written)) is None:
        return None
    return own_settings(written)
