"""Looks at individual enrollments of devices that the ledger does not know.

Whoever may write to the DPS can let a device in by one, with any certificate, and no group lists its registration. If a
CA of ours has signed that certificate, and the ledger does not have it, the CA's key has signed elsewhere.

Nobody else is between the reads: the app enters a device, or who has a device id, before it writes an entry, and
releases that after it has deleted the entry. So an entry that is there, and was not asked for before nor after it was
read, is not the app's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.domain.attestations import AttestationKind, HeldCertificate, attestation_of
from shared.domain.findings import FindingState
from shared.domain.groups import STATUS, having
from shared.domain.unknown_devices import is_due, is_told, unknown_enrollment
from shared.pki import names
from shared.pki.certificates import issued_by
from shared.pki.readable import load_certificates
from shared.workflows.authorities.records import all_certificates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cryptography import x509

    from shared.domain.attestations import Entry
    from shared.domain.certificates import CertificateRecord
    from shared.domain.findings import Difference
    from shared.domain.groups import GroupRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.findings import Findings
    from shared.ledger.groups import Groups
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.budget import Budget


@dataclass(slots=True, kw_only=True)
class OurAuthorities:
    """The CAs of the ledger, and the groups that have them: read once for a step of a pass, however much it looks at.

    A CA that is made meanwhile is looked for by the next step: until then who has its certificate is a stranger.
    """

    records: Authorities
    groups: Groups
    _certificates: Sequence[tuple[str, x509.Certificate]] | None = None
    _groups: Sequence[GroupRecord] | None = None
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def forget(self) -> None:
        """Have them read anew when they are asked for next."""
        self._certificates = self._groups = None

    async def signer_of(self, held: HeldCertificate) -> str | None:
        """Name the CA of ours that has signed a certificate; where DPS does not show it, its issuer's name says so."""
        async with self._reading:
            if self._certificates is None:
                listed = [record async for record in self.records.list()]
                self._certificates = [(each.name, one) for each in listed for one in all_certificates(each)]
            known = self._certificates
        return next((name for name, certificate in known if _has_signed(certificate, held)), None)

    async def group_of(self, authority: str) -> str | None:
        """Name the enrollment group that lets devices in by a CA."""
        async with self._reading:
            if self._groups is None:
                self._groups = [each async for each in self.groups.list()]
            known = self._groups
        return next((each.enrollment_group for each in having(known, {authority})), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentLook:
    """Looks at them, one by one."""

    devices: Devices
    certificates: Certificates
    ours: OurAuthorities
    findings: Findings
    provisioning: ProvisioningService
    clock: Clock

    async def told(self, difference: Difference) -> Difference | None:
        """Give what was found before of an entry that is as it was; ``None`` if it is to be looked at alone.

        DPS lets a pass ask about a hundred devices a minute: those of others may be thousands, and stay for years.
        """
        if is_due(difference.subject, self.clock()):
            return None
        known = await self.findings.get(difference.finding_id)
        if known is None or known.record.state not in {FindingState.OPEN, FindingState.CLOSED}:
            return None
        return known.record.difference if is_told(difference, known.record.difference) else None

    async def differences(self, registration_id: str, budget: Budget) -> Sequence[Difference]:
        """Give what is wrong with the individual enrollment of a device, if the ledger does not know the device."""
        budget.dps(2)
        entry = await self.provisioning.get_enrollment(registration_id)
        found = await self.judged(entry, await self.provisioning.get_registration(registration_id)) if entry else None
        if found is None or await self.devices.get(registration_id) is not None:
            return ()  # it is gone, or was ordered meanwhile
        return (found,)

    async def judged(self, entry: Entry, registration: Mapping[str, Any] | None = None) -> Difference | None:
        """Judge an individual enrollment that the ledger knows no device for; one that is disabled lets nobody in."""
        if entry.get(STATUS) == "disabled":
            return None
        present = attestation_of(entry)
        rogue = await self.rogue(present.held)
        asked_for = rogue is None and await self._was_asked_for(entry)
        if asked_for and present.kind is AttestationKind.CLIENT_CERTIFICATES:
            return None  # the app writes no other kind
        group = await self.ours.group_of(rogue[1]) if rogue is not None else None
        return unknown_enrollment(entry, registration, present, asked_for=asked_for, rogue=rogue, group=group)

    async def _was_asked_for(self, entry: Entry) -> bool:
        """Tell whether the app has made it, for a device that is known to others alone."""
        registration_id = str(entry["registrationId"]).lower()
        return await self.devices.owner_of(str(entry.get("deviceId") or registration_id)) == registration_id

    async def rogue(self, held: Iterable[HeldCertificate]) -> tuple[HeldCertificate, str] | None:
        """Give the first certificate that a CA of ours has signed and the ledger does not have, and name that CA."""
        for each in held:
            if (authority := await self.ours.signer_of(each)) is None:
                continue
            known = await self.certificates.get(each.serial_number)
            if known is None or not _is_same(known.record, each):
                return each, authority
        return None


def _has_signed(certificate: x509.Certificate, held: HeldCertificate) -> bool:
    if held.certificate is not None:
        return issued_by(held.certificate, certificate)
    return names.common_name(certificate.subject) == held.issuer


def _is_same(record: CertificateRecord, held: HeldCertificate) -> bool:
    """Tell whether the ledger means the same certificate by a serial number."""
    if record.pem is None:
        return True
    return names.sha256_thumbprint(load_certificates(record.pem.encode())[0]) == held.thumbprint
