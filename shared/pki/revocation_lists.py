"""Certificate revocation lists (RFC 5280 section 5).

Entries are encoded once each, 40 to 60 bytes of DER; a list joins them and signs once. So a list takes time and memory
in proportion to its entries, where adding them to a builder one by one takes time with their square.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509

from shared.pki import der, names
from shared.pki.certificates import SERIAL_LIMIT
from shared.pki.issuer_limits import BACKDATING
from shared.pki.issuers import IssuerError
from shared.pki.signing_keys import sign

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.pki.issuers import Issuer

REASON_CODES: Mapping[str, int] = {
    "unspecified": 0,
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "certificateHold": 6,
    "privilegeWithdrawn": 9,
}
"""RFC 5280 section 5.3.1, without removeFromCRL (for delta CRLs) and aACompromise (for attribute certificates)."""

_CRL_REASON = "2.5.29.21"
_FIRST_TIME = datetime(1950, 1, 1, tzinfo=UTC)  # of UTCTime; GeneralizedTime is for 2050 and later
_VERSION_2 = der.integer(1)
_HEADER = 2  # octets of tag and length: an entry has at most 60, and its serial number, which comes first, 20


class RevocationError(ValueError):
    """An entry or a list contradicts RFC 5280; the message says how."""


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """One entry.

    Attributes:
        revoked_at: with its time zone; written in UTC, to the second.
        reason: a name of :data:`REASON_CODES`; ``unspecified`` is left out of the entry, as the RFC asks.

    Raises:
        RevocationError: the serial number, time or reason can't stand in a CRL.
    """

    serial_number: int
    revoked_at: datetime
    reason: str = "unspecified"

    def __post_init__(self) -> None:
        if not 0 < self.serial_number < SERIAL_LIMIT:
            raise RevocationError(
                f"serial number {names.number(self.serial_number)} is not positive, or has more than 20 octets "
                "(RFC 5280 section 4.1.2.2)"
            )
        if self.reason not in REASON_CODES:
            raise RevocationError(
                f"{self.reason!r} is not a revocation reason; the reasons are {', '.join(REASON_CODES)}"
            )
        _check_aware(self.revoked_at)
        if self.revoked_at < _FIRST_TIME:
            raise RevocationError(f"{self.revoked_at.isoformat()} can't be written in a CRL; its times begin with 1950")


def encode_entry(revoked: RevokedCertificate) -> bytes:
    """Encode one entry as DER."""
    content = der.integer(revoked.serial_number) + der.time(revoked.revoked_at)
    code = REASON_CODES[revoked.reason]
    if code:
        content += der.sequence(der.extension(_CRL_REASON, der.enumerated(code)))
    return der.sequence(content)


def changed_entries(entries: bytes, *, removed: Iterable[int], added: Iterable[RevokedCertificate]) -> bytes:
    """Change joined entries without decoding them: some leave, others come or are replaced. One pass, whatever changes.

    Args:
        entries: from :func:`encode_entry`, joined.
        removed: serial numbers of those that leave; ones that are not there do no harm.
        added: those that come; one that is there already is replaced.
    """
    arriving = {revoked.serial_number: encode_entry(revoked) for revoked in added}
    leaving = {der.integer(serial_number) for serial_number in (*removed, *arriving)}
    kept, begin, at = [], 0, 0
    while at < len(entries):
        serial = at + _HEADER
        after = serial + entries[serial - 1]
        if entries[serial : serial + _HEADER + entries[serial + 1]] in leaving:
            kept.append(entries[begin:at])
            begin = after
        at = after
    return b"".join((*kept, entries[begin:], *arriving.values()))


def build_crl(
    entries: Iterable[bytes], *, issuer: Issuer, crl_number: int, now: datetime, next_update: datetime
) -> bytes:
    """Build and sign a list.

    With a key in a vault this waits for the network: call it in a thread.

    Args:
        entries: from :func:`encode_entry`.
        issuer: whose certificates they are.
        crl_number: grows with every list of this issuer (RFC 5280 section 5.2.3).
        now: the present time, UTC. thisUpdate lies :data:`BACKDATING` before it, for relying parties whose clock is
            late, but not before the issuer's own certificate is valid.
        next_update: when the next list will be there at the latest.

    Returns:
        The list in DER.

    Raises:
        IssuerError: the issuer's key usage forbids signing CRLs.
        RevocationError: the number or the times are not as RFC 5280 wants them.
    """
    _check_list(issuer, crl_number, now, next_update)
    algorithm = issuer.key_parameters.signature_identifier
    listed = b"".join(entries)
    to_be_signed = der.sequence(
        _VERSION_2,
        algorithm,
        issuer.name_in_der,
        der.time(max(now - BACKDATING, min(now, issuer.certificate.not_valid_before_utc))),
        der.time(next_update),
        # An empty list of entries is left out (RFC 5280 section 5.1.2.6).
        *((der.sequence_header(len(listed)), listed) if listed else ()),
        der.explicit(0, _extensions(issuer, crl_number)),
    )
    del listed  # a million entries are 53 MB
    signature = sign(issuer.signing_key, to_be_signed, issuer.key_parameters.digest)
    return der.sequence(to_be_signed, algorithm, der.bit_string(signature))


def _check_list(issuer: Issuer, number: int, now: datetime, next_update: datetime) -> None:
    if not issuer.may_sign_crls:
        raise IssuerError(f"the key usage of {issuer.quoted_name} forbids signing CRLs (cRLSign)")
    # As long as a serial number may be (RFC 5280 section 5.2.3).
    if not 0 <= number < SERIAL_LIMIT:
        raise RevocationError(f"CRL number {names.number(number)} is negative, or has more than 20 octets")
    _check_aware(now)
    _check_aware(next_update)
    if next_update <= now:
        raise RevocationError(
            f"nextUpdate, {next_update.isoformat()}, is not after the present time, {now.isoformat()}"
        )


def _check_aware(at: datetime) -> None:
    if at.tzinfo is None:
        raise RevocationError(f"{at.isoformat()} has no time zone")


def _extensions(issuer: Issuer, number: int) -> bytes:
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    values = (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), x509.CRLNumber(number))
    return der.sequence(*(der.extension(value.oid.dotted_string, value.public_bytes()) for value in values))
