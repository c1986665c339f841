"""What is asked of certificates that others may have made: an extension, and who signed them."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PSS, PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.pki import der, names

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
    return names.same_name(certificate.issuer, certificate.subject)


def subject_in_der(certificate: x509.Certificate) -> bytes:
    """Give the subject as it stands in a certificate, octet by octet."""
    return _field(certificate, 4)


def issuer_in_der(certificate: x509.Certificate) -> bytes:
    """Give the issuer as it stands in a certificate, octet by octet."""
    return _field(certificate, 2)


def key_info_of(certificate: x509.Certificate) -> bytes:
    """Give the SubjectPublicKeyInfo as it stands in a certificate."""
    return _field(certificate, 5)


def _field(certificate: x509.Certificate, number: int) -> bytes:
    """Give a field of TBSCertificate (RFC 5280 section 4.1), counted from the serial number as 0."""
    explicit_version = certificate.version is not x509.Version.v1
    return next(islice(der.parts(certificate.tbs_certificate_bytes), number + explicit_version, None))


def issued_by(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Tell whether one certificate is signed by another, by name, octet by octet, and by signature."""
    # The names say no at once, and a signature takes as long to verify as a certificate to make.
    return lower.issuer == upper.subject and _is_issued_by(lower, upper)


@lru_cache(maxsize=1024)
def _is_issued_by(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Verify a link; those between CAs are the same for all their devices, so they are remembered."""
    return issuer_in_der(lower) == subject_in_der(upper) and _is_signed_by(lower, upper)


def _is_signed_by(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    try:
        _verify(lower, upper)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def issued_under_other_encoding(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Tell whether only the encoding of a name is between two certificates: string type, case or spaces.

    RFC 5280 section 7.1 takes the names as one, and so do OpenSSL, GnuTLS and Java; Go and Windows compare octets.
    """
    return (
        issuer_in_der(lower) != subject_in_der(upper)
        and names.same_name(lower.issuer, upper.subject)
        and _is_signed_by(lower, upper)
    )


def _verify(lower: x509.Certificate, upper: x509.Certificate) -> None:
    """Verify a signature over the octets that were signed, which those of a readable twin are not.

    ``verify_directly_issued_by`` does the same, compares names besides, and takes cryptography's own objects only.
    """
    key, digest, parameters = upper.public_key(), lower.signature_hash_algorithm, lower.signature_algorithm_parameters
    inner, whole, content = _field(lower, 1), lower.public_bytes(Encoding.DER), lower.tbs_certificate_bytes
    outer_at = whole.index(content) + len(content)
    if not whole.startswith(inner, outer_at) or (digest is not None and digest.name in BROKEN_HASHES):
        raise InvalidSignature
    signature = lower.signature
    if isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, PKCS1v15 | PSS) and digest is not None:
        key.verify(signature, content, parameters, digest)
    elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.ECDSA):
        key.verify(signature, content, parameters)
    # A chain with a key of a kind that is refused is whole all the same, and gets that reason alone.
    elif isinstance(key, dsa.DSAPublicKey) and parameters is None and digest is not None:
        key.verify(signature, content, digest)
    elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) and parameters is None and digest is None:
        key.verify(signature, content)
    else:
        raise InvalidSignature
