"""Certificate revocation lists (RFC 5280 section 5).

Entries are encoded once each, 40 to 60 bytes of DER; a list joins them and signs once. So a list takes time and memory
in proportion to its entries, where adding them to a builder one by one takes time with their square.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding

from shared.pki import names
from shared.pki.issuance import IssuerError
from shared.pki.signing_keys import PARAMETERS, SignatureAlgorithm, algorithm_of, digest_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from shared.pki.issuance import Issuer

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

_INTEGER, _BIT_STRING, _OCTET_STRING, _ENUMERATED, _SEQUENCE = 0x02, 0x03, 0x04, 0x0A, 0x30
_UTC_TIME, _GENERALIZED_TIME, _EXPLICIT_0 = 0x17, 0x18, 0xA0
_VERSION_2 = bytes.fromhex("020101")
_CRL_REASON = bytes.fromhex("0603551d15")  # 2.5.29.21
_EXTENSION_IDS = {x509.AuthorityKeyIdentifier: bytes.fromhex("0603551d23"), x509.CRLNumber: bytes.fromhex("0603551d14")}
_ALGORITHM_IDENTIFIERS = {
    # RFC 5758 section 3.2 and RFC 4055 section 5: ECDSA has no parameters, RSA has NULL.
    SignatureAlgorithm.ES256: bytes.fromhex("300a06082a8648ce3d040302"),
    SignatureAlgorithm.ES384: bytes.fromhex("300a06082a8648ce3d040303"),
    SignatureAlgorithm.RS256: bytes.fromhex("300d06092a864886f70d01010b0500"),
    SignatureAlgorithm.RS384: bytes.fromhex("300d06092a864886f70d01010c0500"),
}
_LAST_UTC_TIME_YEAR = 2049  # RFC 5280 section 5.1.2.4
_MOST_OCTETS = 20  # of a serial number and of a CRL number: RFC 5280 sections 4.1.2.2 and 5.2.3


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
        if not 0 < self.serial_number < 1 << (8 * _MOST_OCTETS - 1):
            raise RevocationError(
                f"serial number {self.serial_number} is not positive, or has more than {_MOST_OCTETS} octets "
                "(RFC 5280 section 4.1.2.2)"
            )
        if self.reason not in REASON_CODES:
            raise RevocationError(f"{self.reason!r} is no revocation reason; there are {', '.join(REASON_CODES)}")
        _check_aware(self.revoked_at)


def encode_entry(revoked: RevokedCertificate) -> bytes:
    """Encode one entry as DER."""
    content = _integer(revoked.serial_number) + _time(revoked.revoked_at)
    code = REASON_CODES[revoked.reason]
    if code:
        reason = _tagged(_SEQUENCE, _CRL_REASON, _tagged(_OCTET_STRING, _tagged(_ENUMERATED, bytes([code]))))
        content += _tagged(_SEQUENCE, reason)
    return _tagged(_SEQUENCE, content)


def build_crl(
    entries: Iterable[bytes], *, issuer: Issuer, crl_number: int, now: datetime, next_update: datetime
) -> bytes:
    """Build and sign a list.

    With a key in a vault this waits for the network: call it in a thread.

    Args:
        entries: from :func:`encode_entry`.
        issuer: whose certificates they are.
        crl_number: grows with every list of this issuer (RFC 5280 section 5.2.3).
        now: thisUpdate.
        next_update: when the next list will be there at the latest.

    Returns:
        The list in DER.

    Raises:
        IssuerError: the issuer's key usage forbids signing CRLs.
        RevocationError: the number or the times are not as RFC 5280 wants them.
    """
    _check_list(issuer, crl_number, now, next_update)
    algorithm = _ALGORITHM_IDENTIFIERS[PARAMETERS[algorithm_of(issuer.signing_key.public_key())].signature]
    listed = b"".join(entries)
    to_be_signed = _tagged(
        _SEQUENCE,
        _VERSION_2,
        algorithm,
        issuer.certificate.subject.public_bytes(),
        _time(now),
        _time(next_update),
        # An empty list of entries is left out (RFC 5280 section 5.1.2.6).
        *((_header(_SEQUENCE, len(listed)), listed) if listed else ()),
        _tagged(_EXPLICIT_0, _extensions(issuer, crl_number)),
    )
    del listed  # a million entries are 53 MB
    return _tagged(_SEQUENCE, to_be_signed, algorithm, _tagged(_BIT_STRING, b"\0", _signature(issuer, to_be_signed)))


def _check_list(issuer: Issuer, number: int, now: datetime, next_update: datetime) -> None:
    usage = issuer.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    if not usage.crl_sign:
        name = names.common_name(issuer.certificate.subject)
        raise IssuerError(f"the key usage of {name!r} forbids signing CRLs (cRLSign)")
    if not 0 <= number < 1 << (8 * _MOST_OCTETS - 1):
        raise RevocationError(f"CRL number {number} is negative, or has more than {_MOST_OCTETS} octets")
    _check_aware(now)
    _check_aware(next_update)
    if next_update <= now:
        raise RevocationError(f"nextUpdate, {next_update.isoformat()}, is not after thisUpdate, {now.isoformat()}")


def _check_aware(at: datetime) -> None:
    if at.tzinfo is None:
        raise RevocationError(f"{at.isoformat()} has no time zone")


def _extensions(issuer: Issuer, number: int) -> bytes:
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    values = (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), x509.CRLNumber(number))
    encoded = (
        _tagged(_SEQUENCE, _EXTENSION_IDS[type(value)], _tagged(_OCTET_STRING, value.public_bytes()))
        for value in values
    )
    return _tagged(_SEQUENCE, *encoded)


def _signature(issuer: Issuer, content: bytes) -> bytes:
    key = issuer.signing_key
    digest = digest_for(key.public_key())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(content, ec.ECDSA(digest))
    return key.sign(content, padding.PKCS1v15(), digest)


# --- DER (X.690) -----------------------------------------------------------------------------------------------------


def _header(tag: int, length: int) -> bytes:
    """Encode tag and length (section 8.1)."""
    if length < 128:  # noqa: PLR2004 - the short form ends here
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def _tagged(tag: int, *content: bytes) -> bytes:
    """Encode a value of several parts, with one copy of them."""
    return b"".join((_header(tag, sum(map(len, content))), *content))


def _integer(value: int) -> bytes:
    # One octet more when the top bit is set: DER integers are signed.
    return _tagged(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _time(at: datetime) -> bytes:
    utc = at.astimezone(UTC)
    if utc.year <= _LAST_UTC_TIME_YEAR:
        return _tagged(_UTC_TIME, utc.strftime("%y%m%d%H%M%SZ").encode())
    return _tagged(_GENERALIZED_TIME, utc.strftime("%Y%m%d%H%M%SZ").encode())
