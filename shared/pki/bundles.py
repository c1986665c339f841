"""Bundles: a certificate with its chain and, if the service made it, its key, as PEM and as PKCS#12."""

from __future__ import annotations

import re
import secrets
from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from shared.pki import names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.pki.signing_keys import PrivateKey

PASSWORD_BYTES = 20
"""160 random bits. Two rounds of hashing more or less do not matter against that, so PKCS12_ROUNDS can be low."""

PKCS12_ROUNDS = 2048
"""Rounds of PBKDF2 for the bags. OpenSSL leaves the MAC at 2,048 whatever is asked for, so more rounds here would slow
each bundle down (600,000 take 0.15 s) and protect nothing: the strength is the password's."""

SIZE_LIMIT = 65_536
"""Bytes of a PEM bundle that are read: sixteen certificates of RSA-4096 CAs have 40,000."""

_CERTIFICATES = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEYS = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


class BundleError(ValueError):
    """What is to be packed does not belong together, or what is to be opened is no bundle; the message says why."""


def new_password(random: Callable[[int], str] = secrets.token_urlsafe) -> str:
    """Draw a password: 160 random bits, printable, safe in a URL and on a command line.

    Args:
        random: gives URL-safe text from that many random bytes.
    """
    return random(PASSWORD_BYTES)


def pem_bundle(
    *,
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    key: PrivateKey | None,
    password: str | None,
) -> bytes:
    """Write a bundle as PEM: the leaf, the CAs above it in their order, then the key as encrypted PKCS#8.

    Args:
        certificate: the leaf.
        chain: from its issuer up to the root's child: DPS wants every intermediate and has the root itself.
        key: ``None`` when the device has it.
        password: encrypts the key (PBES2 with AES-256, RFC 8018).

    Raises:
        BundleError: the parts do not belong together, the root is among them, or a key has no password.
    """
    _check_parts(certificate, chain, key)
    content = b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *chain))
    if key is None:
        return content
    encryption = BestAvailableEncryption(_secret(password))
    return content + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def pfx_bundle(
    *,
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    key: PrivateKey,
    password: str,
    friendly_name: str,
) -> bytes:
    """Write a bundle as PKCS#12 (RFC 7292): AES-256-CBC under PBKDF2-HMAC-SHA256, SHA-256 for the MAC.

    Windows opens this form from Windows 10 1709 and Server 2019 on, Java from 8u301 on.

    Args:
        certificate: the leaf.
        chain: as for :func:`pem_bundle`.
        key: the leaf's.
        password: protects key and certificates.
        friendly_name: what keystores show; Java takes it as the alias.

    Raises:
        BundleError: the parts do not belong together, the root is among them, or the password is empty.
    """
    _check_parts(certificate, chain, key)
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(PKCS12_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(_secret(password))
    )
    return pkcs12.serialize_key_and_certificates(friendly_name.encode(), key, certificate, list(chain), encryption)


def open_pem_bundle(
    pem: bytes, password: str | None
) -> tuple[PrivateKey | None, x509.Certificate, tuple[x509.Certificate, ...]]:
    """Open what :func:`pem_bundle` wrote.

    Args:
        pem: leaf first, then its chain; the key anywhere.
        password: not needed where there is no key, or an unencrypted one.

    Returns:
        The key, ``None`` if there is none; the leaf; its chain.

    Raises:
        BundleError: it is too large, there is no certificate, the password is wrong, or the parts do not belong
            together.
    """
    if len(pem) > SIZE_LIMIT:
        raise BundleError(f"the bundle has {len(pem)} bytes; at most {SIZE_LIMIT} are read")
    try:
        certificates = [x509.load_pem_x509_certificate(block) for block in _CERTIFICATES.findall(pem)]
        for certificate in certificates:
            _ = certificate.subject, certificate.public_key()  # decoded when asked for: damage shows here
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise BundleError(f"a certificate of the bundle can't be read: {error}") from None
    if not certificates:
        raise BundleError("there is no certificate in the bundle; it begins with '-----BEGIN CERTIFICATE-----'")
    key = _opened_key(pem, password)
    _check_key(certificates[0], key)
    return key, certificates[0], tuple(certificates[1:])


def _opened_key(pem: bytes, password: str | None) -> PrivateKey | None:
    blocks = list(_KEYS.finditer(pem))
    if not blocks:
        return None
    if len(blocks) > 1:
        raise BundleError(f"there are {len(blocks)} private keys in the bundle; one belongs there")
    block = blocks[0][0]
    encrypted = b"ENCRYPTED" in block
    secret = _secret(password) if encrypted else None
    try:
        key = load_pem_private_key(block, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        reason = "the password is wrong, or the key is damaged" if encrypted else "it is damaged, or of an unknown kind"
        raise BundleError(f"the private key of the bundle can't be opened: {reason}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise BundleError("the private key of the bundle is neither EC nor RSA")
    return key


def _secret(password: str | None) -> bytes:
    if not password:
        raise BundleError("a key is written and read under a password only")
    return password.encode()


def _check_parts(certificate: x509.Certificate, chain: Sequence[x509.Certificate], key: PrivateKey | None) -> None:
    """Check by name, in a few microseconds; signatures are the business of the pre-flight check (chains)."""
    _check_key(certificate, key)
    for lower, upper in pairwise((certificate, *chain)):
        if lower.issuer != upper.subject:
            first, second = names.common_name(lower.subject), names.common_name(upper.subject)
            raise BundleError(f"{first!r} is followed by {second!r}, which is not its issuer")
    if chain and chain[-1].issuer == chain[-1].subject:
        raise BundleError(
            f"the root {names.common_name(chain[-1].subject)!r} does not belong in a bundle: whoever verifies has it"
        )


def _check_key(certificate: x509.Certificate, key: PrivateKey | None) -> None:
    if key is not None and key.public_key() != certificate.public_key():
        raise BundleError(f"the key is not that of {names.common_name(certificate.subject)!r}")
