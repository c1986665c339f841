"""CAs that come from elsewhere: an owner's root or issuing CA as PFX or PEM, and the answer to a signing request."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from shared.errors import Rejected
from shared.pki import der, names
from shared.pki.certificates import issued_by
from shared.pki.issuance import Issuer, IssuerError
from shared.pki.signing_keys import UnsupportedKey, algorithm_of, parameters_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.pki.issuance import Subject
    from shared.pki.profiles import Profile
    from shared.pki.signing_keys import PrivateKey

SIZE_LIMIT = 65_536
"""Bytes that are read: a PFX of RSA-4096 with a chain of ten has 20,000."""

ROUNDS_LIMIT = 1_000_000
"""Rounds of key derivation that are computed: a tenth of a second. OpenSSL writes 2,048, others up to 600,000."""

_CERTIFICATES = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
_KEYS = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----(?:[^-]|-(?!----))*-----END \1-----")
_DERIVATIONS = re.compile(
    re.escape(der.object_identifier("1.2.840.113549.1.5.12"))  # PBKDF2
    + b"|"
    + re.escape(der.object_identifier("1.2.840.113549.1.12.1.3")[:-1])  # PKCS#12, and which cipher
    + b".",
    re.DOTALL,
)
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InternalError,  # of an EC key in a PFX whose public half is the point at infinity
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def authority_from_pfx(pfx: bytes, password: str | None) -> Issuer:
    """Read a CA with its key and its chain up to the root out of PKCS#12 (RFC 7292).

    Raises:
        Rejected: it can't be opened, lacks the key or a part of the chain, or what it holds can't be a CA here.
    """
    _check_size(pfx, "pfx")
    secret = _secret(password)
    _check_rounds(pfx, "pfx")
    try:
        opened = pkcs12.load_pkcs12(pfx, secret)
    except _UNREADABLE:
        raise Rejected.because("it can't be opened: the password is wrong, or it is no PKCS#12", field="pfx") from None
    found = [opened.cert, *opened.additional_certs]
    return _authority(opened.key, [each.certificate for each in found if each is not None], "pfx")


def authority_from_pem(pem: bytes, password: str | None) -> Issuer:
    """Read a CA with its key and its chain up to the root out of PEM: certificates and one key, in any order.

    Raises:
        Rejected: as :func:`authority_from_pfx`.
    """
    _check_size(pem, "pem")
    keys = list(_KEYS.finditer(pem))
    if len(keys) != 1:
        raise Rejected.because(f"there are {len(keys)} private keys; the CA's own belongs there", field="pem")
    block = keys[0][0]
    secret = _secret(password) if b"ENCRYPTED" in block else None
    try:
        _check_rounds(b64decode(b"".join(block.splitlines()[1:-1])), "pem")
        key = load_pem_private_key(block, secret)
    except _UNREADABLE:
        raise Rejected.because(
            "its private key can't be opened: the password is wrong, or the key is damaged", field="pem"
        ) from None
    return _authority(key, _certificates(pem, "pem"), "pem")


def answered_authority(pem: bytes, key: PrivateKey) -> Issuer:
    """Read the answer to a signing request: the CA's certificate and the chain above it up to the root, as PEM.

    Args:
        pem: in any order.
        key: the key that the request was made with; in a vault, or here.

    Raises:
        Rejected: no certificate has this key, the chain has a gap, or the certificate can't be a CA's here.
    """
    _check_size(pem, "certificate")
    return _with_key(key, _certificates(pem, "certificate"), "certificate")


def signing_request(profile: Profile, subject: Subject, key: PrivateKey) -> x509.CertificateSigningRequest:
    """Make a CA's request for a certificate that another CA signs (RFC 2986); signing proves possession of the key.

    With a key in a vault this waits for the network: call it in a thread.
    """
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject.to_name())
        .add_extension(profile.basic_constraints(), critical=True)
        .add_extension(profile.key_usage(), critical=True)
    )
    return builder.sign(key, parameters_of(key).digest)


def _check_size(content: bytes, field: str) -> None:
    if len(content) > SIZE_LIMIT:
        raise Rejected.because(f"it has {len(content)} bytes; at most {SIZE_LIMIT} are read", field=field)


def _secret(password: str | None) -> bytes | None:
    if not password:
        return None
    # cryptography ends in a panic at a NUL, which no handler of exceptions catches.
    if not password.isprintable():
        raise Rejected.because("it has characters that can't be typed", field="password")
    return password.encode()


def _check_rounds(encrypted: bytes, field: str) -> None:
    """Refuse what would take minutes to derive a key for, and what names its rounds where they are not found."""
    found = [_rounds(encrypted[match.end() :]) for match in _DERIVATIONS.finditer(encrypted)]
    found += [_mac_rounds(encrypted)] if field == "pfx" else []
    most = max(found, default=0)
    if most > ROUNDS_LIMIT:
        raise Rejected.because(
            f"it asks for {most} rounds of key derivation; at most {ROUNDS_LIMIT} are computed: write it anew with "
            "fewer",
            field=field,
        )


def _rounds(parameters: bytes) -> int:
    """Read the second field of a derivation's parameters: a salt comes first (RFC 8018 A.2, RFC 7292 C)."""
    return _number(parameters, 1)


def _mac_rounds(pfx: bytes) -> int:
    """Read the rounds of a PFX's MAC: the third field of its third part (RFC 7292 section 4)."""
    return _number(pfx, 2, 2)


def _number(encoded: bytes, *path: int) -> int:
    """Read a number, as 2^32 when it has more octets; 0 where there is none, which whoever opens the file will find."""
    try:
        octets = der.content(encoded, *path)
    except IndexError:
        return 0
    return int.from_bytes(octets, "big") if len(octets) <= 4 else 1 << 32  # noqa: PLR2004


def _certificates(pem: bytes, field: str) -> list[x509.Certificate]:
    try:
        return [x509.load_pem_x509_certificate(block) for block in _CERTIFICATES.findall(pem)]
    except _UNREADABLE as error:
        raise Rejected.because(f"a certificate can't be read: {str(error)[:200]}", field=field) from None


def _authority(key: object, certificates: Sequence[x509.Certificate], field: str) -> Issuer:
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise Rejected.because("there is no EC or RSA key of a CA in it", field=field)
    return _with_key(key, certificates, field)


def _with_key(key: PrivateKey, certificates: Sequence[x509.Certificate], field: str) -> Issuer:
    try:
        algorithm_of(key.public_key())
        own = [each for each in certificates if each.public_key() == key.public_key()]
        if not own:
            raise Rejected.because("none of its certificates belongs to the CA's key", field=field)
        return Issuer(own[0], key, _ordered(own[0], certificates, field))
    except (IssuerError, UnsupportedKey, *_UNREADABLE) as error:
        raise Rejected.because(str(error)[:300], field=field) from None


def _ordered(
    lowest: x509.Certificate, certificates: Sequence[x509.Certificate], field: str
) -> tuple[x509.Certificate, ...]:
    """Put the chain in order, from a CA up to its root; what does not belong to it is left out."""
    chain = [lowest]
    while not issued_by(chain[-1], chain[-1]):
        above = next((each for each in certificates if each not in chain and issued_by(chain[-1], each)), None)
        if above is None:
            raise Rejected.because(
                f"the issuer of {names.quoted(chain[-1].subject)}, "
                f"{chain[-1].issuer.rfc4514_string()[:200]!r}, is "
                "not among its certificates; give the whole chain up to and including the root",
                field=field,
            )
        chain.append(above)
    return tuple(chain)
