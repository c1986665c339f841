"""Lets devices in at their hubs, and nobody else as one of them.

A hub lets in whoever has a certificate of its identity's thumbprints; it reads no list and asks no DPS. While an
identity was shut, or since, others may have given it keys, or a certificate of theirs. And a device may register with a
certificate at the moment in which that is revoked, while it goes on with another one: then its hub has a thumbprint of
the revoked one, and DPS does not correct that. So once DPS refuses that certificate, its hub is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.devices import IN_ITS_HUB, Doors
from shared.domain.entries import place_of
from shared.domain.hub_authentication import SELF_SIGNED, nobodys, takes_only
from shared.domain.unknown_identities import is_home
from shared.ledger.table import Stale
from shared.workflows.devices.hub_doors import own_place
from shared.workflows.devices.own_certificates import own_certificates
from shared.workflows.devices.whereabouts import check_assigned

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.domain.own_certificates import Own
    from shared.ledger.devices import Devices
    from shared.ports.hubs import HubIdentity, IotHubRegistries
    from shared.workflows.devices.whereabouts import Whereabouts

_HUB_WAS_SHUT = frozenset({Doors.SHUT, Doors.HUB_SHUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOpenings:
    """Has hubs take devices' own certificates."""

    devices: Devices
    hubs: IotHubRegistries
    whereabouts: Whereabouts

    async def open(self, record: DeviceRecord, seen: HubIdentity, reason: str) -> None:
        """Let a device in by its own certificates alone, if its identity was shut, or lets in who has something else.

        An identity that would let in whoever has a key, and of whose certificates nothing is known, is not enabled.

        Args:
            record: of the device.
            seen: its identity, as it was read before the record was.
            reason: kept with the identity.

        Raises:
            Stale: the identity has changed since it was seen.
        """
        enable = not seen.enabled and record.doors in _HUB_WAS_SHUT
        if not enable and seen.authentication == SELF_SIGNED:
            return
        present = await self._have_take(record, seen, await own_certificates(self.devices, record), reason)
        if enable and present.authentication == SELF_SIGNED:
            _as_seen(await self.hubs.let_in(record.assigned_hub or "", present, reason=reason), record)

    async def take_no_revoked(self, record: DeviceRecord, reason: str) -> None:
        """See that the hub of a device takes no certificate of it that is revoked, after DPS refuses it.

        Raises:
            Deferred: DPS is assigning a hub to the device at this moment; it may have let it in before that.
            Stale: DPS has moved it meanwhile, or the identity has changed since it was looked at.
        """
        registration = await self.whereabouts.registration(record) or {}
        check_assigned(record, registration)
        there, own = place_of(registration), own_place(record)
        if registration.get("status") == "assigned" and there is not None and not is_home(record, *there):
            raise Stale(record.registration_id)
        seen = await self.hubs.get(*own) if own is not None else None
        if seen is None or not seen.thumbprints:
            return
        certificates = await own_certificates(self.devices, record)
        if seen.thumbprints & certificates.revoked:
            await self._have_take(record, seen, certificates, reason)

    async def _have_take(self, record: DeviceRecord, seen: HubIdentity, own: Own, reason: str) -> HubIdentity:
        """Have an identity take a device's own certificates, if it takes anything else; give it as it is then.

        A device that has not registered with its first certificate yet keeps the thumbprints of before: when they
        change, that tells that it has. If anybody else could come with them, its identity lets nobody in until then.
        """
        taken, written = own.taken_by(seen), own.written_to(seen)
        if record.state not in IN_ITS_HUB:
            taken, written = (own.all or own.in_use) - own.revoked, [nobodys(record.registration_id)]
        if not written or takes_only(seen, taken):
            return seen
        hub = record.assigned_hub or ""
        return _as_seen(await self.hubs.set_thumbprints(hub, seen, written, reason=reason), record)


def _as_seen(written: HubIdentity | None, record: DeviceRecord) -> HubIdentity:
    if written is None:
        raise Stale(record.registration_id)
    return written
