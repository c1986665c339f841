"""What must be true of a certificate authority at rest, whatever was asked for and whatever broke.

Pure, as :mod:`shared.domain.audit` is for devices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.domain.authorities import OPENED, OVER, AuthorityState, ProofOfPossession
from shared.domain.certificates import CertificateState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.domain.authorities import AuthorityRecord
    from shared.domain.certificates import CertificateRecord

_COUNTS = frozenset({CertificateState.ACTIVE, CertificateState.REVOKED, CertificateState.EXPIRED})


@dataclass(frozen=True, slots=True)
class UploadedCertificate:
    """A CA's certificate as a DPS or a hub holds it.

    Attributes:
        thumbprint: SHA-1, upper-case hexadecimal; empty if the service does not tell.
        verified: whether possession of its key was proved.
    """

    thumbprint: str
    verified: bool


@dataclass(frozen=True, slots=True)
class PublishedNumber:
    """A CA's list as it is published.

    Attributes:
        number: of the list (RFC 5280 section 5.2.3).
        listed: serial numbers that are on it.
        revoked: serial numbers that the ledger has as revoked, of certificates that have not expired.
    """

    number: int
    listed: frozenset[str]
    revoked: frozenset[str]


@dataclass(frozen=True, slots=True)
class ObservedAuthority:
    """What was read of one CA.

    Attributes:
        certificate: the ledger's row of its certificate.
        uploads: what each service holds under its name; ``None`` for a service that holds nothing.
        has_key: whether its key is in its place.
        key_fits: whether that key is the one of its certificate.
        published: its list; ``None`` if it does not have one.
        signs_lists: whether its certificate allows it to sign one.
        groups: enrollment groups by which DPS lets devices in, and that have it.
    """

    certificate: CertificateRecord | None
    uploads: Mapping[str, UploadedCertificate | None] = field(default_factory=dict)
    has_key: bool = True
    key_fits: bool = True
    published: PublishedNumber | None = None
    signs_lists: bool = True
    groups: tuple[str, ...] = ()


def authority_faults(record: AuthorityRecord, observed: ObservedAuthority) -> Iterator[str]:
    """Give everything that is wrong; nothing if all is well."""
    if record.problem is None and (record.missing is not None or record.state is AuthorityState.REQUESTED):
        yield f"it is {record.state}, lacks {record.missing or 'its key'}, and nothing says why"
    if record.state is AuthorityState.REQUESTED:
        return
    if not observed.has_key and record.state is not AuthorityState.DELETED:
        yield "its key is not in its place"
    if record.state in OVER:
        yield from (
            f"it is {record.state}, and the enrollment group {each!r} lets in by it" for each in observed.groups
        )
    if record.certificate is None:
        return
    if observed.has_key and not observed.key_fits:
        yield "its key is not the one of its certificate"
    yield from _books(record, observed.certificate)
    yield from _services(record, observed.uploads)
    yield from _list(record, observed)


def _books(record: AuthorityRecord, row: CertificateRecord | None) -> Iterator[str]:
    if record.state not in OPENED | OVER:
        return
    if row is None:
        yield f"its certificate {record.serial_number} is not recorded"
    elif row.subject == record.name and (row.pem != record.certificate or row.state not in _COUNTS):
        yield f"its certificate {record.serial_number} is recorded as another one, which is {row.state}"
    elif row.subject == record.name and record.state in OVER and row.state is CertificateState.ACTIVE:
        yield f"it is {record.state}, and its certificate {record.serial_number} is {row.state}"


def _services(record: AuthorityRecord, uploads: Mapping[str, UploadedCertificate | None]) -> Iterator[str]:
    for service, held in uploads.items():
        if record.state in OVER and held is not None and held.thumbprint == record.thumbprint:
            yield f"it is {record.state}, and {service} lets in by it"
        if record.state in OVER:
            continue
        if held is not None and held.thumbprint not in {"", record.thumbprint}:
            yield f"{service} holds another certificate, of thumbprint {held.thumbprint}"
        proved = record.proof_of_possession is ProofOfPossession.VERIFIED
        if proved and (held is None or not held.verified):
            yield f"{service} does not know of its proof of possession"


def _list(record: AuthorityRecord, observed: ObservedAuthority) -> Iterator[str]:
    if record.state not in OPENED or not observed.signs_lists:
        return
    if observed.published is None:
        yield "it has no list"
        return
    if observed.published.number > record.crl_number:
        yield f"its list has number {observed.published.number}, and the newest that was begun {record.crl_number}"
    if missing := observed.published.revoked - observed.published.listed:
        yield f"revoked and not on its list: {sorted(missing)}"
    if beyond := observed.published.listed - observed.published.revoked:
        yield f"on its list and not revoked: {sorted(beyond)}"
