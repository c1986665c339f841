"""Looks at every identity of every linked hub: a hub lets in who has one, whatever DPS has of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.certificates import CertificateState
from shared.domain.restoration import CAUSE, kept_out, placed, taken_over
from shared.domain.words import RevocationReason
from shared.pki import names
from shared.workflows.devices.changes import change
from shared.workflows.many import AT_ONCE, gathered, pages
from shared.workflows.reconciliation.taking_in import FoundCertificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from cryptography import x509

    from shared.domain.certificates import CertificateRecord
    from shared.domain.devices import DeviceRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ports.hubs import HubIdentity, IotHubRegistries
    from shared.workflows.devices.linked_hubs import LinkedHubs
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.taking_in import TakingIn

type _Place = tuple[str, str]
"""A hub, in lower case, and a device id there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubIdentities:
    """Names those of nobody, and takes in those whose certificate somebody has given."""

    devices: Devices
    certificates: Certificates
    hubs: IotHubRegistries
    linked: LinkedHubs
    taking_in: TakingIn
    clock: Clock
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def take_over(self, brought: Sequence[x509.Certificate]) -> AsyncIterator[str]:
        """Look at all of them, when the devices are known that DPS knows; give what became of those that it does not.

        Args:
            brought: certificates that may be a device's.
        """
        known, hubs = dict[_Place, str](), set(await self.linked.names())
        async for records in pages(partial(self.devices.page, enrollment_group=None)):
            for each in records:
                if each.assigned_hub and each.device_id:
                    hubs.add(each.assigned_hub.lower())
                    if each.device_id != each.registration_id:
                        known[each.assigned_hub.lower(), each.device_id] = each.registration_id
        given = {thumb: each for each in brought for thumb in _thumbprints(each)}
        for hub in sorted(hubs):
            async for identities in pages(partial(self.hubs.page, hub)):
                for line in await gathered(partial(self._one, hub, known, given), identities, self._gate):
                    if line is not None:
                        yield line

    async def _one(
        self, hub: str, others: Mapping[_Place, str], given: Mapping[str, x509.Certificate], identity: HubIdentity
    ) -> str | None:
        registration_id = others.get((hub, identity.device_id), identity.device_id.lower())
        known = await self.devices.get(registration_id)
        if known is not None and _is_in(known.record, hub, identity):
            return None
        if known is not None and known.record.assigned_hub is None and _may_be_of(known.record, identity):
            act = partial(placed, place=(hub, identity.device_id), at=self.clock())
            await change(self.devices, registration_id, act, at=self.clock())
            return f"{registration_id}: it is in {hub}, which has its identity; DPS does not have its registration"
        certificate = next((given[each] for each in sorted(identity.thumbprints) if each in given), None)
        if certificate is not None and (line := await self._by_certificate(hub, identity, certificate)) is not None:
            return line
        return _unknown(hub, identity, known.record if known is not None else None)

    async def _by_certificate(self, hub: str, identity: HubIdentity, certificate: x509.Certificate) -> str | None:
        """Take a device over by the certificate that its hub lets in; ``None`` if it is not ours, or is known."""
        registration_id = names.common_name(certificate.subject).lower()
        if not registration_id or self.taking_in.issuer_of(certificate) is None:
            return None
        if await self.devices.get(registration_id) is not None:
            return None
        place = hub, identity.device_id
        listed = await self.certificates.get(names.serial_text(certificate.serial_number))
        if listed is not None and listed.record.state is CertificateState.REVOKED and not listed.record.subject:
            return await self._revoked(registration_id, place, identity, listed.record)
        found = FoundCertificate(certificate=certificate, where="a file", cause=CAUSE)
        return await self.taking_in.enter(registration_id, found, place=place)

    async def _revoked(
        self, registration_id: str, place: _Place, identity: HubIdentity, listed: CertificateRecord
    ) -> str:
        """Take a device over whose certificate an earlier run has seen on a list alone: so its doors are shut."""
        group = await self.taking_in.group_of(listed.issuer)
        record = taken_over(
            registration_id, group=group, place=place, thumbprints=identity.thumbprints, at=self.clock()
        )
        reason, at = listed.revocation_reason or RevocationReason.UNSPECIFIED, listed.revoked_at or self.clock()
        await self.devices.insert(record)
        await change(self.devices, registration_id, partial(kept_out, reason=reason, at=at), at=self.clock())
        return f"{registration_id}: taken over from {place[0]}, revoked ({reason}, {at:%Y-%m-%d %H:%M} UTC)"


def _thumbprints(certificate: x509.Certificate) -> tuple[str, str]:
    """Give both that a hub may have, SHA-256 and SHA-1."""
    return names.sha256_thumbprint(certificate), names.thumbprint(certificate)


def _is_in(record: DeviceRecord, hub: str, identity: HubIdentity) -> bool:
    return (record.assigned_hub or "").lower() == hub and record.device_id == identity.device_id


def _may_be_of(record: DeviceRecord, identity: HubIdentity) -> bool:
    """Tell whether an identity is a device's: it has its certificate, or nobody knows that."""
    sha1 = {record.certificate.thumbprint} if record.certificate is not None else set[str]()
    return record.unseen or bool(identity.thumbprints & {*record.sha256_thumbprints, *sha1})


def _unknown(hub: str, identity: HubIdentity, record: DeviceRecord | None) -> str:
    shown = ", ".join(sorted(identity.thumbprints))
    has = f"with the certificate of thumbprint {shown}" if shown else "without a certificate of its own"
    status = "enabled" if identity.enabled else "disabled"
    where = "DPS has nothing of it" if record is None else f"the device is in {record.assigned_hub or 'no hub'}"
    return (
        f"not known: whose identity {identity.device_id!r} in {hub} is. It is {status}, {has}, and {where}. If it is "
        "yours, put its certificate into the folder, and run adopt again with --accept. Otherwise disable it in the hub"
    )
