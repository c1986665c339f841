"""Takes devices over that DPS and the hubs have, and the ledger does not."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.domain.attestations import attestation_of
from shared.domain.entries import own_settings, place_of
from shared.domain.groups import STATUS, GroupState, having
from shared.domain.restoration import CAUSE, taken_over, with_own_entry
from shared.ledger.table import Stale
from shared.pki import names
from shared.workflows.devices.changes import change
from shared.workflows.many import AT_ONCE, gathered, pages
from shared.workflows.reconciliation.taking_in import FoundCertificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from cryptography import x509

    from shared.domain.attestations import HeldCertificate
    from shared.domain.groups import GroupRecord
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.ports.hubs import HubIdentity, IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.hub_identities import HubIdentities
    from shared.workflows.reconciliation.taking_in import TakingIn


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDevices:
    """Takes devices over from the services, each as far as they know it.

    An individual enrollment may have a device's certificate. For all others its hub says which thumbprint it lets in:
    then the device is known, and can be shut out and renewed, and its certificate is not known.
    """

    devices: Devices
    groups: Groups
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    identities: HubIdentities
    taking_in: TakingIn
    clock: Clock
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def take_over(self, brought: Sequence[x509.Certificate]) -> AsyncIterator[str]:
        """Take them over; those that are known are left. Give what became of each, and what can't be known of it.

        Args:
            brought: certificates that may be a device's.
        """
        async for line in self._told(self._of_file, _once(brought)):
            yield line
        async for line in self._told(self._of_entry, pages(self.provisioning.page_of_enrollments)):
            yield line
        for group in [each async for each in self.groups.list() if each.state is not GroupState.DELETED]:
            listed = partial(self.provisioning.page_of_registrations, group.enrollment_group)
            async for registrations in pages(listed):
                for line in await self._registered(group.enrollment_group, registrations):
                    yield line
        by_entry = partial(self._by_entry, [each async for each in self.groups.list()])
        async for line in self._told(by_entry, pages(self.provisioning.page_of_enrollments)):
            yield line
        async for line in self.identities.take_over(brought):
            yield line

    async def _told[T](
        self, call: Callable[[T], Awaitable[str | None]], listed: AsyncIterator[Sequence[T]]
    ) -> AsyncIterator[str]:
        async for page in listed:
            for line in await gathered(call, page, self._gate):
                if line is not None:
                    yield line

    async def _of_file(self, certificate: x509.Certificate) -> str | None:
        """Take a device over by a certificate that its hub lets in."""
        registration_id = names.common_name(certificate.subject).lower()
        if not registration_id or self.taking_in.issuer_of(certificate) is None:
            return None
        if await self.devices.get(registration_id) is not None:
            return None
        place = place_of(await self.provisioning.get_registration(registration_id) or {})
        identity = await self.hubs.get(*place) if place else None
        if identity is None or names.sha256_thumbprint(certificate) not in identity.thumbprints:
            return None
        return await self.taking_in.enter(
            registration_id, FoundCertificate(certificate=certificate, where="a file", cause=CAUSE)
        )

    # --- individual enrollments ---

    async def _of_entry(self, entry: dict[str, Any]) -> str | None:
        """Take a device over by the certificates of its entry, if they are ours."""
        registration_id = str(entry["registrationId"]).lower()
        if await self.devices.get(registration_id) is not None:
            return None
        shown = [each.certificate for each in _held(entry) if each.certificate is not None]
        ours = [each for each in shown if self.taking_in.issuer_of(each) is not None]
        if not ours:
            return None
        place = place_of(await self.provisioning.get_registration(registration_id) or {})
        identity = await self.hubs.get(*place) if place else None
        let_in = identity.thumbprints if identity else frozenset()
        used = next((each for each in ours if names.sha256_thumbprint(each) in let_in), ours[0])
        return await self.taking_in.enter(
            registration_id, FoundCertificate(certificate=used, where="its individual enrollment", cause=CAUSE)
        )

    async def _by_entry(self, groups: Sequence[GroupRecord], entry: dict[str, Any]) -> str | None:
        """Take a device over by what its entry, its registration and its hub say of its certificate.

        One that is known is to have its entry: that may keep out a certificate which its group would let in. A disabled
        one is taken over whoever has signed for it: the ledger is what will keep it out. Such an entry is also that of
        a device that was shut out without its certificate, which has one that nobody has.

        Args:
            groups: of the ledger, by id.
            entry: as DPS has it.
        """
        registration_id = str(entry["registrationId"]).lower()
        disabled, signing = entry.get(STATUS) == "disabled", self._authorities(entry)
        has_entry = partial(with_own_entry, settings=own_settings(entry))
        if await self.devices.get(registration_id) is not None:
            if signing and not disabled:
                await change(self.devices, registration_id, has_entry, at=self.clock())
            return None
        place = place_of(await self.provisioning.get_registration(registration_id) or {})
        identity = await self.hubs.get(*place) if place else None
        present = attestation_of(entry)
        admitted = frozenset(each.thumbprint for each in present.held) if present.by_certificates else None
        thumbprints = identity.thumbprints if identity else frozenset[str]()
        if signing or not thumbprints:  # a hub may show another hash of the same certificate
            thumbprints |= admitted or frozenset()
        shown = ", ".join(sorted(thumbprints)) or "unknown"
        where = f"in {place[0]}" if place else "in no hub"
        if admitted is None or not (disabled or signing):
            accepts = "a certificate that no CA of the ledger has signed" if admitted else present.words
            return (
                f"not known: whose device {registration_id!r} is. Its individual enrollment in DPS is "
                f"{'disabled' if disabled else 'enabled'}, and accepts {accepts}; it is {where}, with thumbprint "
                f"{shown}. If nobody needs it, delete its enrollment in DPS, and its identity"
            )
        group = next((each.enrollment_group for each in having(groups, signing, deleted=True)), None)
        record = taken_over(registration_id, group=group, place=place, thumbprints=thumbprints, at=self.clock())
        try:
            await self.devices.insert(record if disabled else has_entry(record))
        except Stale:
            return f"{registration_id}: was taken over meanwhile"
        unknown = "its certificate" if group else "its group, and its certificate"
        return (
            f"{registration_id}: taken over from its individual enrollment, which is "
            f"{'disabled' if disabled else 'enabled'}, {where}; not known: {unknown}, of thumbprint {shown}"
        )

    def _authorities(self, entry: dict[str, Any]) -> list[str]:
        """Name the CAs of the ledger that have signed certificates of an entry, as far as DPS tells."""
        ours = {names.common_name(each.certificate.subject): name for name, each in self.taking_in.issuers.items()}
        held = _held(entry)
        signed = [self.taking_in.issuer_of(each.certificate) for each in held if each.certificate is not None]
        told = [ours.get(each.issuer) for each in held if each.certificate is None]
        return [each for each in (*signed, *told) if each is not None]

    # --- registrations ---

    async def _registered(self, group: str, registrations: Sequence[dict[str, Any]]) -> list[str]:
        """Take over what a group has registered: of each hub one query says what it lets in."""
        known = await gathered(self._is_known, registrations, self._gate)
        unknown = [each for each, is_known in zip(registrations, known, strict=True) if not is_known]
        by_hub: defaultdict[str, list[str]] = defaultdict(list)
        for place in filter(None, map(place_of, unknown)):
            by_hub[place[0]].append(place[1])
        found = {
            (hub, name): each for hub, ids in by_hub.items() for name, each in (await self.hubs.find(hub, ids)).items()
        }
        return await gathered(partial(self._take_over, group, found), unknown, self._gate)

    async def _is_known(self, registration: Mapping[str, Any]) -> bool:
        return await self.devices.get(str(registration["registrationId"]).lower()) is not None

    async def _take_over(
        self, group: str, found: Mapping[tuple[str, str], HubIdentity], registration: Mapping[str, Any]
    ) -> str:
        registration_id = str(registration["registrationId"]).lower()
        place = place_of(registration)
        if place is None:
            status = registration.get("status")
            return f"not known: device {registration_id!r} of {group!r}, which DPS has assigned to no hub ({status})"
        identity = found.get(place)
        thumbprints = identity.thumbprints if identity else frozenset[str]()
        record = taken_over(registration_id, group=group, place=place, thumbprints=thumbprints, at=self.clock())
        try:
            await self.devices.insert(record)
        except Stale:
            return f"{registration_id}: was taken over meanwhile"
        shown = ", ".join(sorted(thumbprints)) or "unknown: the hub has no identity for it"
        return (
            f"{registration_id}: taken over from {group!r} and {place[0]}; not known: its certificate, of thumbprint "
            f"{shown}"
        )


async def _once[T](items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    yield items


def _held(entry: dict[str, Any]) -> list[HeldCertificate]:
    """Give the certificates of an individual enrollment, as far as DPS shows them."""
    return list(attestation_of(entry).held)
