"""Prepare, reserve, log, sign, record: how every certificate is issued that is not a device's.

A device's is issued the same way, in the transactions of its device: :mod:`shared.workflows.devices.issuing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from shared.domain.certificates import CertificateRecord, CertificateState
from shared.errors import Overtaken
from shared.pki import names
from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import issue, new_serial_number, prepare
from shared.workflows.authorities.keys import told
from shared.workflows.evidence.entries import entry_of_certificate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.domain.certificates import InternalKind
    from shared.domain.words import CertificateKind
    from shared.ledger.certificates import Certificates
    from shared.ledger.table import Versioned
    from shared.pki.issuers import Issuer
    from shared.pki.profiles import Profile
    from shared.pki.signing_keys import PrivateKey, PublicKey
    from shared.pki.subjects import Subject
    from shared.ports.evidence import EvidenceLog
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.intake.outbox import Clock

    type Claim = Callable[[str], Awaitable[None]]

_NOWHERE = DistributionPoints()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """What signs a certificate.

    Attributes:
        name: of the CA, as it is called here.
        issuer: the CA; ``None`` for a root's own certificate.
        own_key: of a root, for its own certificate.
        urls: of the CA, for what it signs.
    """

    name: str
    issuer: Issuer | None
    own_key: PrivateKey | None = None
    urls: DistributionPoints = _NOWHERE

    @property
    def key(self) -> PrivateKey:
        """What signs."""
        key = self.issuer.signing_key if self.issuer else self.own_key
        if key is None:
            raise RuntimeError(f"nothing was given that signs for {self.name!r}")
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A certificate that is wanted.

    Attributes:
        kind: of the certificate, for the ledger.
        profile: what it contains.
        subject: whom it names.
        public_key: the key it certifies.
        cause: id of the request.
        serial_number: if it was reserved elsewhere; else one is drawn.
        enrollment_group: of the CA that it is for.
    """

    kind: CertificateKind | InternalKind
    profile: Profile
    subject: Subject
    public_key: PublicKey
    cause: str
    serial_number: int | None = None
    enrollment_group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """Issues certificates of CAs, of their responders, and those that prove possession."""

    certificates: Certificates
    keys: AuthorityKeys
    clock: Clock
    log: EvidenceLog

    async def sign(
        self, wanted: Wanted, signer: Signer, *, claim: Claim | None = None
    ) -> tuple[Versioned[CertificateRecord], x509.Certificate]:
        """Prepare a certificate, record its serial number, log what is to be signed, and sign it.

        Args:
            wanted: the certificate.
            signer: what signs it.
            claim: enters the serial number, once it is recorded, where whoever comes next finds it.

        Returns:
            The row of the serial number, and the certificate, which is not recorded yet.

        Raises:
            Rejected: the certificate can't be had from that CA; nothing was recorded.
            Overtaken: the claim was others'; nothing was signed.
        """
        serial = wanted.serial_number or new_serial_number()
        prepared = prepare(
            wanted.profile,
            subject=wanted.subject,
            public_key=wanted.public_key,
            issuer=signer.issuer,
            signing_key=signer.own_key,
            serial_number=serial,
            now=self.clock(),
            urls=signer.urls,
        )
        row = await self.certificates.reserve(
            CertificateRecord(
                serial_number=names.serial_text(serial),
                kind=wanted.kind,
                state=CertificateState.RESERVED,
                subject=wanted.subject.common_name,
                issuer=signer.name,
                cause=wanted.cause,
                recorded_at=self.clock(),
                enrollment_group=wanted.enrollment_group,
            )
        )
        if claim is not None:
            try:
                await claim(row.record.serial_number)
            except Overtaken:
                await self.abandon(row.record.serial_number)
                raise
        await self.log.append(entry_of_certificate(row.record, prepared, self.clock()))
        return row, await told(signer.name, self.keys.signing(signer.key, issue, prepared, signer.issuer))

    async def issue(self, wanted: Wanted, signer: Signer) -> x509.Certificate:
        """Sign a certificate and record it.

        Raises:
            Rejected: the certificate can't be had from that CA.
            RuntimeError: somebody else has changed its row.
        """
        row, certificate = await self.sign(wanted, signer)
        entry = made(row.record, certificate)
        if await self.certificates.try_replace(row, entry) is None:
            present = await self.certificates.get(entry.serial_number)
            if present is None or present.record != entry:  # else it was the answer that was lost
                raise RuntimeError(f"the row of serial number {entry.serial_number} was changed by others")
        return certificate

    async def issue_claimed(self, wanted: Wanted, signer: Signer, claim: Claim) -> x509.Certificate:
        """Sign a certificate and record it, unless whoever found its claim has given it up meanwhile.

        Raises:
            Rejected: the certificate can't be had from that CA.
            Overtaken: others were faster; what was signed does not count.
        """
        row, certificate = await self.sign(wanted, signer, claim=claim)
        entry = made(row.record, certificate)
        if await self.certificates.try_replace(row, entry) is None and await self.counting(entry.serial_number) is None:
            raise Overtaken(f"serial number {entry.serial_number} was given up by others")
        return certificate

    async def counting(self, serial_number: str) -> x509.Certificate | None:
        """Give a certificate that was recorded; ``None`` if it was not, and from now on it can't be any more.

        A certificate that was signed and not recorded may exist, and no one has it. It is not signed once more: of a
        CA's certificates no two have the same serial number (RFC 5280 section 4.1.2.2).
        """
        await self.abandon(serial_number)
        known = await self.certificates.get(serial_number)
        pem = known.record.pem if known is not None else None
        return x509.load_pem_x509_certificate(pem.encode()) if pem is not None else None

    async def abandon(self, serial_number: str) -> None:
        """Enter that whatever was signed with a serial number does not count."""
        known = await self.certificates.get(serial_number)
        if known is not None and known.record.state is CertificateState.RESERVED:
            # A row that has changed was abandoned by another worker: nothing else is done to it.
            _ = await self.certificates.try_replace(known, known.record.changed(state=CertificateState.ABANDONED))


def made(reserved: CertificateRecord, certificate: x509.Certificate) -> CertificateRecord:
    """Give the record of a certificate that was signed with a serial number that was reserved."""
    return reserved.changed(
        state=CertificateState.ACTIVE,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        thumbprint=names.thumbprint(certificate),
        pem=names.pem(certificate),
    )
