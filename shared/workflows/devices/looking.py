"""Looks at everything that concerns a device: the ledger, DPS, its hub, its requests, and what was refused.

It reads only. A service that does not answer leaves its part unseen, and is not an error.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared.contracts.messages import Queue
from shared.domain.attestations import attests_by_certificates
from shared.domain.devices import OPEN_STATES
from shared.domain.dps_decisions import Knowledge, decide
from shared.domain.explanations.parts import Blind, Seen, Unseen
from shared.domain.held_certificates import Purpose
from shared.domain.requests import ENDED, RequestState
from shared.errors import Deferred, DeviceFactoryError, Misconfigured, ServiceFailed
from shared.ledger.rejections import Filters
from shared.pki.chains import LENGTH_LIMIT
from shared.pki.readable import load_certificates
from shared.workflows.authorities.records import certificates_of
from shared.workflows.devices.changes import device_of
from shared.workflows.devices.hub_doors import own_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from cryptography import x509

    from shared.domain.attestations import Entry
    from shared.domain.authorities import AuthorityRecord
    from shared.domain.devices import DeviceRecord
    from shared.domain.dps_decisions import Decision
    from shared.domain.groups import GroupRecord
    from shared.domain.held_certificates import CertificateSummary
    from shared.domain.rejections import RejectionRecord
    from shared.domain.requests import RequestRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.ledger.rejections import Rejections
    from shared.ledger.requests import Requests
    from shared.ledger.table import Versioned
    from shared.ports.hubs import HubIdentity
    from shared.ports.provisioning import ProvisioningService
    from shared.settings import Settings
    from shared.workflows.devices.hub_doors import HubDoors, Place
    from shared.workflows.groups.previews import Previews
    from shared.workflows.intake.outbox import Clock

_PATIENCE = 10.0
"""Seconds that a service has to answer, its client's repetitions included."""

_ROUNDS = 3
"""So often a device is looked at that others change meanwhile; then it is told as it was seen."""

_WAITING = 100
"""Requests that wait, the latest, among which those of the device are looked for."""

_REFUSED, _PAGES, _REFUSED_SINCE = 100, 5, timedelta(days=30)
"""So many rejections of a page, pages and days are looked through for those that name the device."""

_MISSING = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class DpsView:
    """What DPS knows that concerns a device; each part may be unseen."""

    entry: Entry | Unseen | None
    groups: Sequence[Entry] | Unseen
    verified: Mapping[str, x509.Certificate] | Unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """Reads what there is about a device.

    Attributes:
        authorities: their records; no key is opened.
        previews: knows the DPS, and what it decides by.
    """

    devices: Devices
    certificates: Certificates
    groups: Groups
    authorities: Authorities
    requests: Requests
    rejections: Rejections
    hub_doors: HubDoors
    provisioning: ProvisioningService
    previews: Previews
    settings: Settings
    clock: Clock

    async def at(self, registration_id: str) -> Seen:
        """Look at a device.

        What was decided while the services were looked at would be compared with what was before: so the records are
        read once more at the end, and everything again if one has changed.

        Raises:
            NotFound: the ledger does not have it.
        """
        for _ in range(_ROUNDS):
            device = await device_of(self.devices, registration_id)
            group = await self._group_of(device.record)
            seen = await self._at(device.record, group.record if group else None)
            after = await device_of(self.devices, registration_id)
            if (after.etag, await self._group_of(after.record)) == (device.etag, group):
                break
        return seen

    async def _group_of(self, device: DeviceRecord) -> Versioned[GroupRecord] | None:
        return await self.groups.get(device.enrollment_group) if device.enrollment_group else None

    async def _at(self, device: DeviceRecord, group: GroupRecord | None) -> Seen:
        registration_id = device.registration_id
        certificates = await self._certificates(device)
        used = [each for each in (device.certificate, device.next_certificate) if each is not None]
        above = [await self._authorities_above(each) for each in used]
        chains = [
            _chain(leaf, authorities)
            for each, authorities in zip(used, above, strict=True)
            if authorities and (leaf := certificates.get(each.serial_number))
        ]
        view, (hub, registration, identity, elsewhere), requests, rejections = await asyncio.gather(
            self.dps(registration_id, chains[0] if chains else ()),
            self._place(device),
            self._requests(device),
            self._rejections(registration_id),
        )
        return Seen(
            now=self.clock(),
            device=device,
            certificates=certificates,
            chain=chains[0] if chains else (),
            authorities=tuple(above[0]) if above else (),
            group=group,
            group_entry=_group_of(view, device.enrollment_group),
            entry=view.entry,
            decisions=self._decisions(view, chains, registration_id),
            registration=registration,
            hub=hub,
            identity=identity,
            elsewhere=elsewhere,
            requests=requests,
            rejections=rejections,
            warning=timedelta(days=max(self.settings.device_warnings)),
        )

    # --- certificates ---

    async def _certificates(self, device: DeviceRecord) -> dict[str, x509.Certificate]:
        numbers = [each.serial_number for each in device.held if each.issued]
        # Those that have expired leave the record's list, and may be in use all the same.
        rows = await asyncio.gather(*map(self.certificates.get, dict.fromkeys((*numbers, *device.in_use))))
        return {
            row.record.serial_number: load_certificates(row.record.pem.encode())[0]
            for row in rows
            if row is not None and row.record.pem
        }

    async def _authorities_above(self, summary: CertificateSummary) -> list[AuthorityRecord]:
        """Give the CAs above a certificate, the lowest first; none if the ledger does not have all of them."""
        found: list[AuthorityRecord] = []
        name = summary.issuer or None
        while name is not None and len(found) < LENGTH_LIMIT:
            known = await self.authorities.get(name)
            if known is None or known.record.certificate is None:
                return []
            found.append(known.record)
            name = known.record.parent
        return found

    # --- DPS ---

    async def dps(self, registration_id: str, chain: Sequence[x509.Certificate]) -> DpsView:
        """Look at what DPS decides about a device by."""
        provisioning = self.provisioning
        entry, groups, verified = await asyncio.gather(
            seen_or_not(lambda: provisioning.get_enrollment(registration_id)),
            seen_or_not(self.previews.groups),
            seen_or_not(lambda: self.previews.verified(chain)),
        )
        return DpsView(entry=entry, groups=groups, verified=verified)

    def decide(self, view: DpsView, chain: Sequence[x509.Certificate], registration_id: str) -> Decision | Unseen:
        """Decide about a chain as DPS does."""
        if isinstance(view.entry, Unseen):
            return view.entry
        if isinstance(view.groups, Unseen):
            return view.groups
        if isinstance(view.verified, Unseen):
            return view.verified
        groups = [*filter(attests_by_certificates, view.groups)]
        return decide(chain, registration_id, Knowledge(view.entry, groups, view.verified, self.clock()))

    def _decisions(
        self, view: DpsView, chains: Sequence[Sequence[x509.Certificate]], registration_id: str
    ) -> tuple[Decision, ...] | Unseen:
        made = list[Any]()
        for chain in chains:
            decision = self.decide(view, chain, registration_id)
            if isinstance(decision, Unseen):
                return decision
            made.append(decision)
        return tuple(made)

    # --- its place ---

    async def _place(
        self, device: DeviceRecord
    ) -> tuple[
        str | None, Entry | Unseen | None, HubIdentity | Unseen | None, Mapping[Place, HubIdentity | Unseen | None]
    ]:
        """Look where DPS has the device, or else where the ledger has it, and at its identity there.

        One that is shut out is looked for in every linked hub as well.
        """
        provisioning = self.provisioning
        registration = await seen_or_not(lambda: provisioning.get_registration(device.registration_id))
        hub, device_id = device.assigned_hub, device.device_id
        if registration and not isinstance(registration, Unseen) and registration.get("status") == "assigned":
            hub, device_id = str(registration["assignedHub"]), str(registration["deviceId"])
        elsewhere = await self._elsewhere(device, (hub or "", device_id or "")) if device.shut_out else {}
        if hub is None or device_id is None:
            return None, registration, None, elsewhere
        return hub, registration, await seen_or_not(lambda: self.hub_doors.identity(hub, device_id)), elsewhere

    async def _elsewhere(self, device: DeviceRecord, seen: Place) -> Mapping[Place, HubIdentity | Unseen | None]:
        """Look for identities of a device beside the one that was seen."""
        ledger = [each for each in [own_place(device)] if each is not None]
        places = await seen_or_not(lambda: self.hub_doors.others(device))
        if isinstance(places, Unseen):
            return {("the linked hubs", device.registration_id): places}
        wanted = sorted({*places, *((hub.lower(), each) for hub, each in ledger)} - {(seen[0].lower(), seen[1])})
        found = await asyncio.gather(*(seen_or_not(partial(self.hub_doors.identity, *each)) for each in wanted))
        return dict(zip(wanted, found, strict=True))

    # --- what was asked for ---

    async def _requests(self, device: DeviceRecord) -> tuple[RequestRecord, ...]:
        path = f"/api/devices/{device.registration_id}"
        listed, _ = await self.requests.page(
            state=RequestState.WAITING, kind=None, since=None, size=_WAITING, continuation=None
        )
        wanted = {(each.kind, each.request_id) for each in listed if each.about == path}
        if device.renewal:
            wanted.add((Queue.RENEWAL_REQUESTS.value, device.renewal))
        if device.state in OPEN_STATES:
            kind = Queue.DEVICE_ORDERS if device.purpose is Purpose.ORDER else Queue.CERTIFICATE_REQUESTS
            wanted.add((kind.value, device.order_id))
        found = await asyncio.gather(*(self.requests.find(kind, identifier) for kind, identifier in sorted(wanted)))
        return tuple(each.record for each in found if each is not None and each.record.state not in ENDED)

    async def _rejections(self, registration_id: str) -> tuple[RejectionRecord, ...]:
        """Find what nobody has dealt with and names the device, among the rejections of the last days."""
        filters = Filters(since=self.clock() - _REFUSED_SINCE)
        found, continuation = list[Any](), None
        for _ in range(_PAGES):
            page, continuation = await self.rejections.page(filters, size=_REFUSED, continuation=continuation)
            found += [each for each in page if _names(each.body, registration_id)]
            if continuation is None:
                break
        return tuple(found)


async def seen_or_not[T](ask: Callable[[], Awaitable[T]]) -> T | Unseen:
    """Ask a service, and say why it did not answer if it did not."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await ask()
    except Exception as error:  # noqa: BLE001 - whatever fails, the rest of the explanation is worth more
        return _unseen(error)


def _unseen(error: Exception) -> Unseen:
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case Misconfigured():  # this trust zone does not reach it
            because, why = Blind.NOT_ASKED, str(error)
        case Deferred():
            because, why = Blind.THROTTLED, f"it is throttling ({error})"
        case DeviceFactoryError() | ServiceFailed():
            because, why = Blind.UNAVAILABLE, str(error)
        case TimeoutError():
            because, why = Blind.UNAVAILABLE, f"it did not answer within {_PATIENCE:.0f} seconds"
        case _ if status in _MISSING:
            because, why = Blind.ROLE_MISSING, f"it answers {int(status)}: the app's identity has no role there"
        case _:
            because, why = Blind.UNAVAILABLE, f"it does not answer ({status or type(error).__name__})"
    return Unseen(because, why)


def _chain(leaf: x509.Certificate, authorities: Sequence[AuthorityRecord]) -> tuple[x509.Certificate, ...]:
    """Give the chain of a certificate as its bundle has it."""
    chain = [leaf]
    for each in authorities:
        chain += certificates_of(each.certificate)[:1]
        chain += certificates_of(each.certificates_above)
    return tuple(chain)


def _group_of(view: DpsView, group_id: str | None) -> Entry | Unseen | None:
    if isinstance(view.groups, Unseen):
        return view.groups
    return next((each for each in view.groups if str(each["enrollmentGroupId"]).lower() == group_id), None)


def _names(body: bytes, registration_id: str) -> bool:
    return f'"{registration_id}"'.encode() in body.lower()
