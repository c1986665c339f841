"""What is asked of certificates that others may have made: an extension, and who signed them."""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm


def find_extension[E: x509.ExtensionType](certificate: x509.Certificate, kind: type[E]) -> E | None:
    """Give a certificate's extension of a kind, ``None`` if it has none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


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
