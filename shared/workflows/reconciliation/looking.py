"""Looks at one device at every service, so that a difference that is told is one.

A page of a service, and a page of the ledger, are read at different times, and what looks different may only be on its
way. So each device that looks different is looked at alone: its record, then the services, then its record again. If
that has changed meanwhile, nothing is said of it; the next pass looks anew.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.domain.attestations import attestation_of
from shared.domain.devices import IN_ITS_HUB
from shared.domain.entries import own_settings, place_of
from shared.domain.given_settings import UNKNOWN, given_device_id, outdated
from shared.domain.own_certificates import Own, unseen_of
from shared.domain.reconciliation import Seen, Unread, device_differences
from shared.domain.treatments import FindingKind
from shared.domain.unknown_devices import rogue_enrollment
from shared.domain.upkeep import settings_noted
from shared.errors import Overtaken
from shared.ledger.table import Stale
from shared.ports.hubs import HubIdentity
from shared.workflows.devices.arrivals import may_have_come
from shared.workflows.devices.own_certificates import own_certificates
from shared.workflows.reconciliation.budget import ARRIVAL, ARRIVAL_READS, FOLLOWING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.domain.devices import DeviceRecord
    from shared.domain.findings import Difference
    from shared.domain.given_settings import Given
    from shared.ledger.devices import Devices
    from shared.ledger.table import Versioned
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.devices.arrivals import Arrivals
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.linked_hubs import LinkedHubs
    from shared.workflows.devices.own_entries import OwnEntries
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.budget import Budget
    from shared.workflows.reconciliation.enrollments import EnrollmentLook


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLook:
    """Looks at devices, one by one."""

    devices: Devices
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    linked: LinkedHubs
    enrollments: EnrollmentLook
    converger: DeviceConverger
    own_entries: OwnEntries
    arrivals: Arrivals
    clock: Clock

    async def differences(self, registration_id: str, budget: Budget) -> list[Difference]:
        """Give what differs about a device; nothing of one that is not known, or changes at this moment.

        Its own entry in DPS is brought along if its group has other settings by now: nobody else has changed that. One
        that has registered under the id that an operator has given it meanwhile is entered so, and one that has come
        with its next certificate.
        """
        known = await self.devices.get(registration_id)
        if known is None or not known.record.settled:
            return []
        given = await self.given(known.record)
        if outdated(known.record, given, self.clock()):
            budget.dps(FOLLOWING)
            if known.record.assigned_hub and known.record.device_id:
                budget.reads(known.record.assigned_hub)
            given = await self.converger.bring_along(registration_id)
            if (known := await self.devices.get(registration_id)) is None:
                return []
        seen = await self._see(known.record, budget)
        if _registered_as_given(known.record, seen.registration, given):
            budget.dps(1)
            await self.converger.follow(known)
            return []
        if isinstance(seen.identity, HubIdentity) and may_have_come(known.record, seen.identity.thumbprints):
            budget.dps(ARRIVAL)
            budget.reads(known.record.assigned_hub or "", ARRIVAL_READS)
            try:
                arrived = await self.arrivals.follow(known.record)
            except Overtaken:  # by the renewal's own message, or by what was asked for meanwhile
                return []
            if arrived is not known.record:
                return await self.differences(registration_id, budget)
        return await self._compared(known, seen, given)

    async def _compared(self, known: Versioned[DeviceRecord], seen: Seen, given: Given) -> list[Difference]:
        own = await own_certificates(self.devices, known.record, given)
        found = list(device_differences(known.record, seen, own, self.clock()))
        if not found:
            return []
        found = [await self._rogue(each, seen) for each in found] if not known.record.unseen else found
        again = await self.devices.get(known.record.registration_id)
        return found if again is not None and again.record.stamp == known.record.stamp else []

    async def _rogue(self, difference: Difference, seen: Seen) -> Difference:
        """Give what is worse about a foreign certificate that an entry accepts: that a CA of ours has signed it."""
        entry = seen.entry
        if difference.kind is not FindingKind.ENROLLMENT_FOREIGN or not isinstance(entry, dict):
            return difference
        rogue = await self.enrollments.rogue(attestation_of(entry).held)
        return difference if rogue is None else rogue_enrollment(difference, *rogue)

    async def note_settings(self, known: Versioned[DeviceRecord], entry: Mapping[str, Any]) -> None:
        """Note what the individual enrollment of a device has, where that is not known: so it is to stay.

        It was made before the device was ordered, or the device was taken over from the services. Whoever asks for
        something else writes the record before the entry, so what was read of the entry before the record holds.
        """
        if known.record.entry_settings is None and known.record.settled:
            with suppress(Stale):
                await self.devices.replace(known, settings_noted(known.record, own_settings(dict(entry))))

    async def suspect(self, record: DeviceRecord, seen: Seen) -> str | None:
        """Give a device's id if it looks different, or if its own entry has other settings than its group has now."""
        given = await self.given(record) if isinstance(seen.entry, dict) else UNKNOWN
        now = self.clock()
        behind = record.settled and outdated(record, given, now)
        if isinstance(seen.identity, HubIdentity) and may_have_come(record, seen.identity.thumbprints):
            return record.registration_id
        return record.registration_id if behind or _looks_different(record, seen, given, now) else None

    async def given(self, record: DeviceRecord) -> Given:
        """Give what a device's own entry in DPS is to have."""
        return await self.own_entries.given(record)

    async def identity(self, hub: str, device_id: str, budget: Budget) -> HubIdentity | None:
        """Read an identity."""
        budget.reads(hub)
        return await self.hubs.get(hub, device_id)

    async def _see(self, record: DeviceRecord, budget: Budget) -> Seen:
        budget.dps(2)
        entry = await self.provisioning.get_enrollment(record.registration_id)
        registration = await self.provisioning.get_registration(record.registration_id)
        if not record.device_id:
            return Seen(entry=entry, registration=registration)
        if not record.assigned_hub:
            return Seen(entry=entry, registration=registration, elsewhere=await self._elsewhere(record, None, budget))
        return Seen(
            entry=entry,
            registration=registration,
            identity=await self.identity(record.assigned_hub, record.device_id, budget),
            elsewhere=await self._elsewhere(record, registration, budget),
        )

    async def _elsewhere(
        self, record: DeviceRecord, registration: Mapping[str, Any] | None, budget: Budget
    ) -> dict[str, HubIdentity]:
        """Read the identities that a device that is shut out may have at other hubs."""
        if not (record.shut_out or record.disabled):
            return {}
        assigned = str((registration or {}).get("assignedHub") or "")
        others = {*await self.linked.names(), assigned.lower()} - {(record.assigned_hub or "").lower(), ""}
        found = {hub: await self.identity(hub, record.device_id or "", budget) for hub in sorted(others)}
        return {hub: identity for hub, identity in found.items() if identity is not None}


def _registered_as_given(record: DeviceRecord, registration: Mapping[str, Any] | Unread | None, given: Given) -> bool:
    """Tell whether DPS has registered a device in its hub under another id than before, which it is to have."""
    if registration is None or isinstance(registration, Unread) or registration.get("status") != "assigned":
        return False
    hub, device_id = place_of(registration) or (None, None)
    is_new = hub is not None and device_id != record.device_id and record.state in IN_ITS_HUB
    there = is_new and (hub or "").lower() == (record.assigned_hub or "").lower()
    return there and device_id == given_device_id(record.registration_id, given)


def _looks_different(record: DeviceRecord, seen: Seen, given: Given, now: datetime) -> bool:
    """Tell whether a device looks different, by the thumbprints that its record has."""
    held = {each.thumbprint for each in (record.certificate, record.next_certificate) if each is not None}
    # After a renewal that was repeated, one that is in use may not be among the last; then it is looked at alone.
    # Of one that was taken over from the services they are all that is known of it.
    count = len(record.sha256_thumbprints if record.unseen else record.in_use)
    latest = record.sha256_thumbprints[-count:] if count else ()
    own = Own(in_use=frozenset({*held, *latest}), unseen=frozenset(unseen_of(record)), given=given)
    return next(device_differences(record, seen, own, now), None) is not None
