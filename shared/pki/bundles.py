"""Bundles: a certificate with its chain and, if the service made it, its key, as PEM and as PKCS#12."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    pkcs12,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509

    from shared.pki.signing_keys import PrivateKey

PASSWORD_BYTES = 20
"""160 random bits. Two rounds of hashing more or less do not matter against that, so PKCS12_ROUNDS can be low."""

PKCS12_ROUNDS = 2048
"""Rounds of PBKDF2 for the bags. OpenSSL leaves the MAC at 2,048 whatever is asked for, so more rounds here would slow
each bundle down (600,000 take 0.15 s) and protect nothing: the strength is the password's."""


def new_password(random: Callable[[int], str] = secrets.token_urlsafe) -> str:
    """Draw a password: 160 random bits, printable, safe in a URL and on a command line."""
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
    """
    content = b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *chain))
    if key is None:
        return content
    if not password:
        raise ValueError("a key is written under a password only")
    return content + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))


def pfx_bundle(
    *,
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    key: PrivateKey,
    password: str,
    friendly_name: str,
) -> bytes:
    """Write a bundle as PKCS#12 (RFC 7292): AES-256-CBC under PBKDF2-HMAC-SHA256, SHA-256 for the MAC."""
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(PKCS12_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password.encode())
    )
    return pkcs12.serialize_key_and_certificates(friendly_name.encode(), key, certificate, list(chain), encryption)
