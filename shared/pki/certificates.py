"""What is asked of certificates that others may have made: an extension, and who signed them."""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidSignature,
    InternalError,  # of an EC key in a PFX whose public half is the point at infinity
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises over damaged certificates, requests and keys; of some parts when they are asked for."""

SERIAL_LIMIT = 1 << 159
"""Serial numbers are below: 20 octets, of which the top bit is the sign (RFC 5280 section 4.1.2.2)."""

BROKEN_HASHES = frozenset({"md5", "sha1"})
"""Names of hashes that prove nothing (NIST SP 800-131A section 9)."""

CLIENT_PURPOSES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
"""Extended key usages of which a TLS client needs one (RFC 5280 section 4.2.1.12)."""


def find_extension[E: x509.ExtensionType](certificate: x509.Certificate, kind: type[E]) -> E | None:
    """Give a certificate's extension of a kind, ``None`` if it has none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Tell whether issuer and subject are one: a root, or a CA's own new key, which counts in no path length."""
    return certificate.issuer == certificate.subject


def issued_by(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Tell whether one certificate is signed by another, by name and by signature."""
    # The names say no at once, and a signature takes as long to verify as a certificate to make.
    return lower.issuer == upper.subject and _is_signed_by(lower, upper)


@lru_cache(maxsize=1024)
def _is_signed_by(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Verify a signature; the links between CAs are the same for all their devices, so they are remembered."""
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
