"""What a certificate authority is to be, and how its record describes what it has become: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509

from shared.contracts.events_certificates import CertificateIssued
from shared.domain.authorities import AuthorityRecord, AuthorityState, WantedAuthority
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.words import CertificateKind, KeyCustody
from shared.errors import Conflict, Rejected
from shared.ledger.table import TEXT_LIMIT
from shared.pki import names
from shared.pki.certificates import issued_by
from shared.pki.identities import authority_identity
from shared.pki.profiles import issuing_profile, root_profile
from shared.pki.readable import load_certificates
from shared.pki.subjects import Subject
from shared.rules.key_algorithms import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from shared.ledger.authorities import Authorities
    from shared.pki.issuers import Issuer
    from shared.pki.profiles import Profile
    from shared.settings import Settings

_PROBLEM_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityDefinition:
    """What a CA is to be.

    Attributes:
        name: its CN, and the name of its vault key.
        kind: root or intermediate.
        parent: name of the CA that signs it; ``None`` for a root.
        enrollment_group: the group it is made for, if for one.
        custody: where its key is.
        externally_signed: whether a CA signs it that is not ours.
        root_thumbprint: SHA-256 of the root that its chain must end at then; ``None`` for any.
    """

    name: str
    kind: CertificateKind
    parent: str | None = None
    key_algorithm: str = DEFAULT
    validity: timedelta | None = None
    path_length: int | None = None
    enrollment_group: str | None = None
    custody: KeyCustody = KeyCustody.VAULT
    externally_signed: bool = False
    root_thumbprint: str | None = None

    @classmethod
    def of(cls, record: AuthorityRecord) -> AuthorityDefinition:
        """Give what the record of a CA that is not made yet says is wanted."""
        wanted = record.wanted or WantedAuthority()
        return cls(
            name=record.name,
            kind=record.kind,
            parent=record.parent,
            key_algorithm=record.key_algorithm,
            validity=wanted.validity,
            path_length=wanted.path_length,
            enrollment_group=record.enrollment_group,
            custody=record.custody,
            externally_signed=wanted.externally_signed,
            root_thumbprint=wanted.root_thumbprint,
        )

    @property
    def fingerprint(self) -> str:
        """Equal for equal definitions."""
        parts = (self.kind, self.parent, self.key_algorithm, self.validity, self.path_length, self.enrollment_group)
        pinned = (self.root_thumbprint,) if self.root_thumbprint else ()
        return "|".join(map(str, (*parts, self.custody, self.externally_signed, *pinned)))

    def record(self, *, cause: str, at: datetime) -> AuthorityRecord:
        """Give the record of a CA that is asked for."""
        return AuthorityRecord(
            name=self.name,
            kind=self.kind,
            state=AuthorityState.REQUESTED,
            key_algorithm=self.key_algorithm,
            fingerprint=self.fingerprint,
            cause=cause,
            requested_at=at,
            wanted=WantedAuthority(
                validity=self.validity,
                path_length=self.path_length,
                externally_signed=self.externally_signed,
                root_thumbprint=self.root_thumbprint,
            ),
            custody=self.custody,
            parent=self.parent,
            enrollment_group=self.enrollment_group,
        )

    def profile(self) -> Profile:
        """Give the profile of the CA's certificate."""
        ordered = {"path_length": self.path_length, "validity": self.validity}
        chosen: dict[str, Any] = {field: value for field, value in ordered.items() if value is not None}
        return root_profile(**chosen) if self.kind is CertificateKind.ROOT else issuing_profile(**chosen)


def signed(certificate: x509.Certificate) -> dict[str, object]:
    """Describe a CA that has its certificate, as its record does."""
    return {
        "state": AuthorityState.SIGNED,
        "identity": authority_identity(certificate.subject, certificate.public_key()),  # type: ignore[arg-type]
        "serial_number": names.serial_text(certificate.serial_number),
        "thumbprint": names.thumbprint(certificate),
        "certificate": names.pem(certificate),
        "path_length": path_length(certificate),
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
    }


def installed(issuer: Issuer, above: Sequence[x509.Certificate], field: str) -> dict[str, object]:
    """Describe a CA that comes from elsewhere; ``above`` it are those that are not ours.

    Raises:
        Rejected: its chain is longer than a record holds.
    """
    described = signed(issuer.certificate)
    if above:
        described["certificates_above"] = "".join(map(names.pem, above))
        described["external_issuer"] = issuer_of(issuer.certificate)
    check_length(described, field)
    return described


def check_length(described: Mapping[str, object], field: str) -> None:
    """See that certificates fit the columns of a row.

    Raises:
        Rejected: one does not.
    """
    longest = max(len(str(value)) for value in described.values())
    if longest > TEXT_LIMIT:
        raise Rejected.because(
            f"its certificate, or the chain above it, has {longest} characters as PEM; at most {TEXT_LIMIT} are kept",
            field=field,
        )


def issuer_of(certificate: x509.Certificate) -> str:
    """Name whoever signed a certificate, by its CN if it has one."""
    return names.common_name(certificate.issuer) or certificate.issuer.rfc4514_string()


def path_length(certificate: x509.Certificate) -> int | None:
    """Give how many CAs may stand below one; ``None`` for any number."""
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def certificates_of(pem: str | None) -> tuple[x509.Certificate, ...]:
    """Read certificates of a record."""
    return load_certificates(pem.encode()) if pem else ()


def all_certificates(record: AuthorityRecord) -> Iterator[x509.Certificate]:
    """Give a CA's own certificate, and those that it has besides."""
    yield from certificates_of(record.certificate)
    yield from certificates_of(record.further_certificates)


def counts(record: AuthorityRecord, serial_number: str) -> bool:
    """Tell whether a CA has the certificate of a serial number."""
    return any(names.serial_text(each.serial_number) == serial_number for each in all_certificates(record))


def identity_of(record: AuthorityRecord) -> str | None:
    """Give what makes a CA the same; ``None`` before it has a key."""
    own = certificates_of(record.certificate)
    return authority_identity(own[0].subject, own[0].public_key()) if own else record.identity  # type: ignore[arg-type]


def book_entry(record: AuthorityRecord, certificate: x509.Certificate, signed_by: str) -> CertificateRecord:
    """Give the ledger's record of a certificate of a CA."""
    return CertificateRecord(
        serial_number=names.serial_text(certificate.serial_number),
        kind=record.kind,
        state=CertificateState.ACTIVE,
        subject=record.name,
        issuer=signed_by,
        cause=record.cause,
        recorded_at=record.requested_at,
        enrollment_group=record.enrollment_group,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        thumbprint=names.thumbprint(certificate),
        pem=names.pem(certificate),
    )


def issued_event(record: AuthorityRecord, certificate: x509.Certificate, signed_by: str) -> CertificateIssued:
    """Give what is told of a certificate of a CA."""
    return CertificateIssued(
        kind=record.kind,
        name=record.name,
        issuer=signed_by,
        serial_number=names.serial_text(certificate.serial_number),
        thumbprint=names.thumbprint(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        enrollment_group=record.enrollment_group,
    )


def check_custody(record: AuthorityRecord, wanted: KeyCustody | None) -> None:
    """See that a request asks for the custody that a CA's key has, if it names one.

    Raises:
        Conflict: it asks for another one.
    """
    if wanted is not None and wanted is not record.custody:
        raise Conflict.because(
            f"{record.name!r} is here with its key in custody '{record.custody}', which does not change; leave custody "
            "out, or roll its group with another custody",
            field="custody",
        )


def problem_of(rejection: Rejected) -> str:
    """Give what a CA's record says of what is in its way."""
    return str(rejection)[:_PROBLEM_LIMIT]


def default_custody(settings: Settings, kind: CertificateKind, path_length: int | None) -> KeyCustody:
    """Give where a CA's key is to be when its request says nothing: the deployment says it for issuing CAs."""
    issuing = kind is CertificateKind.INTERMEDIATE and path_length == 0
    return KeyCustody(settings.issuing_custody) if issuing else KeyCustody.VAULT


def subject_of(settings: Settings, name: str) -> Subject:
    """Give the subject of a CA that is made here."""
    return Subject(common_name=name, organization=settings.subject_organization, country=settings.subject_country)


async def signer_of(chain: Sequence[x509.Certificate], records: Authorities) -> str | None:
    """Find the CA of ours that signed the first certificate of a chain, by the second one, if there is one."""
    if len(chain) == 1:
        return None
    signers = [record.name async for record in records.list() if chain[1] in all_certificates(record)]
    return signers[0] if signers else None


async def signers_of(record: AuthorityRecord, records: Authorities) -> list[tuple[x509.Certificate, str | None]]:
    """Give each certificate of a CA, with the name of the CA of ours that signed it; ``None`` for another's."""
    known = [each async for each in records.list() if each.certificate]
    return [
        (
            certificate,
            next(
                (each.name for each in known if any(issued_by(certificate, it) for it in all_certificates(each))), None
            ),
        )
        for certificate in all_certificates(record)
    ]
