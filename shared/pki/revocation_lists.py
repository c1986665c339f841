"""Certificate revocation lists (RFC 5280 section 5).

Entries are encoded once each, 40 to 60 bytes of DER; a list joins them and signs once. So a list takes time and memory
in proportion to its entries, where adding them to a builder one by one takes time with their square.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding

from shared.pki import names
from shared.pki.issuance import IssuerError
from shared.pki.signing_keys import algorithm_of, digest_for, generate_key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from shared.pki.issuance import Issuer
    from shared.pki.signing_keys import KeyAlgorithm, PrivateKey

_REASON_CODES = {
    "unspecified": 0,
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "certificateHold": 6,
    "privilegeWithdrawn": 9,
}
_SEQUENCE, _INTEGER, _BIT_STRING, _OCTET_STRING, _ENUMERATED = 0x30, 0x02, 0x03, 0x04, 0x0A
_UTC_TIME, _GENERALIZED_TIME, _EXPLICIT_0 = 0x17, 0x18, 0xA0
_CRL_REASON_OID = bytes.fromhex("0603551d15")  # 2.5.29.21
_LAST_UTC_TIME_YEAR = 2049  # RFC 5280 section 5.1.2.4


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """One entry.

    Attributes:
        reason: name of RFC 5280 section 5.3.1; ``unspecified`` is left out of the entry, as the RFC asks.
    """

    serial_number: int
    revoked_at: datetime
    reason: str = "unspecified"


def encode_entry(revoked: RevokedCertificate) -> bytes:
    """Encode one entry as DER."""
    content = _integer(revoked.serial_number) + _time(revoked.revoked_at)
    code = _REASON_CODES[revoked.reason]
    if code:
        reason = _tagged(_SEQUENCE, _CRL_REASON_OID + _tagged(_OCTET_STRING, _tagged(_ENUMERATED, bytes([code]))))
        content += _tagged(_SEQUENCE, reason)
    return _tagged(_SEQUENCE, content)


def build_crl(
    entries: Iterable[bytes], *, issuer: Issuer, crl_number: int, now: datetime, next_update: datetime
) -> bytes:
    """Build and sign a list.

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
    """
    usage = issuer.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    if not usage.crl_sign:
        name = names.common_name(issuer.certificate.subject)
        raise IssuerError(f"the key usage of {name!r} forbids signing CRLs (cRLSign)")
    # The builder makes everything but the entries; they are put in between, and the whole is signed.
    head, algorithm, tail = _frame(issuer, crl_number, now, next_update)
    joined = b"".join(entries)
    listed = _tagged(_SEQUENCE, joined) if joined else b""
    to_be_signed = _tagged(_SEQUENCE, head + listed + tail)
    signature = _signature(issuer, to_be_signed)
    return _tagged(_SEQUENCE, to_be_signed + algorithm + _tagged(_BIT_STRING, b"\0" + signature))


def _frame(issuer: Issuer, number: int, now: datetime, next_update: datetime) -> tuple[bytes, bytes, bytes]:
    """Give what stands before the entries, the signature algorithm, and what stands after the entries."""
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    public_key = issuer.signing_key.public_key()
    empty = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(_frame_key(algorithm_of(public_key)), digest_for(public_key))
    )
    body = _content(empty.tbs_certlist_bytes)
    parts = _split(body)
    # The extensions come last; all the rest stands before the entries (RFC 5280 section 5.1).
    before, after = parts[:-1], parts[-1]
    if after[0] != _EXPLICIT_0:
        raise IssuerError("the frame of the CRL is not as expected")
    return b"".join(before), before[1], after


@lru_cache(maxsize=8)
def _frame_key(algorithm: KeyAlgorithm) -> PrivateKey:
    """Give a key of the issuer's kind to sign the frame with, so that the issuer's own signs once per list."""
    return generate_key(algorithm)


def _signature(issuer: Issuer, content: bytes) -> bytes:
    key = issuer.signing_key
    digest = digest_for(key.public_key())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(content, ec.ECDSA(digest))
    return key.sign(content, padding.PKCS1v15(), digest)


def _tagged(tag: int, content: bytes) -> bytes:
    """Encode one DER value (X.690 section 8.1)."""
    length = len(content)
    if length < 128:  # noqa: PLR2004 - the short form ends here
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _integer(value: int) -> bytes:
    # One octet more when the top bit is set: DER integers are signed.
    return _tagged(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _time(at: datetime) -> bytes:
    if at.year <= _LAST_UTC_TIME_YEAR:
        return _tagged(_UTC_TIME, at.strftime("%y%m%d%H%M%SZ").encode())
    return _tagged(_GENERALIZED_TIME, at.strftime("%Y%m%d%H%M%SZ").encode())


def _header(encoded: bytes, start: int) -> tuple[int, int]:
    """Give where a value's content begins and ends."""
    first = encoded[start + 1]
    if first < 128:  # noqa: PLR2004 - the short form ends here
        return start + 2, start + 2 + first
    octets = first & 0x7F
    length = int.from_bytes(encoded[start + 2 : start + 2 + octets], "big")
    return start + 2 + octets, start + 2 + octets + length


def _content(encoded: bytes) -> bytes:
    begin, end = _header(encoded, 0)
    return encoded[begin:end]


def _split(content: bytes) -> list[bytes]:
    """Cut a sequence's content into its values."""
    values, position = [], 0
    while position < len(content):
        _, end = _header(content, position)
        values.append(content[position:end])
        position = end
    return values
