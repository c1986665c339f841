"""Bundles: a certificate with its chain and, if the service made it, its key, as PEM and as PKCS#12."""

from __future__ import annotations

import secrets
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PrivateFormat,
    pkcs12,
)

from shared.pki import der, names
from shared.pki.certificates import is_self_issued, subject_in_der
from shared.pki.pfx_contents import with_certificates
from shared.pki.readable import as_read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509

    from shared.pki.signing_keys import PrivateKey

PASSWORD_BYTES = 20
"""160 random bits. Two rounds of hashing more or less do not matter against that, so PKCS12_ROUNDS can be low."""

PKCS12_ROUNDS = 2048
"""Rounds of PBKDF2 for the bags. OpenSSL leaves the MAC at 2,048 whatever is asked for, so more rounds here would slow
each bundle down (600,000 take 0.15 s) and protect nothing: the strength is the password's."""


class BundleError(ValueError):
    """What is to be packed does not belong together; the message says why."""


def new_password(random: Callable[[int], str] = secrets.token_urlsafe) -> str:
    """Draw a password: 160 random bits, printable, safe in a URL and on a command line.

    Args:
        random: gives URL-safe text from that many random bytes.
    """
    return random(PASSWORD_BYTES)


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle in both forms.

    Attributes:
        pem: the leaf, the CAs above it in their order, then the key, if there is one, as encrypted PKCS#8 (RFC 5958).
        pfx: the same as PKCS#12 (RFC 7292); ``None`` without a key.
    """

    pem: bytes
    pfx: bytes | None


def pack(
    *,
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    friendly_name: str,
    key: PrivateKey | None = None,
    password: str | None = None,
) -> Packed:
    """Write a bundle. The key is encrypted once for both forms: AES-256-CBC under PBKDF2-HMAC-SHA256.

    Windows opens this form of PFX from Windows 10 1709 and Server 2019 on, Java from 8u301 on.

    Args:
        certificate: the leaf.
        chain: from its issuer up to the root's child: DPS wants every intermediate and has the root itself.
        friendly_name: what keystores show; Java takes it as the alias.
        key: the leaf's; ``None`` when the device has it.
        password: protects key and certificates.

    Raises:
        BundleError: the parts do not belong together, the root is among them, or a key has no password.
    """
    encoded = certificate.public_bytes(Encoding.DER)
    _check_key(certificate, key)
    # By name only, which takes a microsecond; signatures are the business of the pre-flight check (chains).
    if chain and der.content(encoded, *_ISSUER) != _name_in_der(chain[0]):
        raise _not_its_issuer(certificate, chain[0])
    if not friendly_name.isprintable():
        raise BundleError(f"the friendly name {friendly_name!r} has characters that can't be printed")
    pem = _pem_block("CERTIFICATE", encoded) + _chain_pem(tuple(chain))
    if key is None:
        return Packed(pem, None)
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(PKCS12_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(_secret(password))
    )
    read, *above = map(as_read, (certificate, *chain))
    pfx = pkcs12.serialize_key_and_certificates(friendly_name.encode(), key, read, above, encryption)
    originals = {
        twin.public_bytes(Encoding.DER): each.public_bytes(Encoding.DER)
        for twin, each in zip((read, *above), (certificate, *chain), strict=True)
        if twin is not each
    }
    if originals:
        pfx = with_certificates(pfx, _secret(password), originals)
    return Packed(pem + _pem_block("ENCRYPTED PRIVATE KEY", _shrouded_key(pfx)), pfx)


_SHROUDED_KEY_BAG = der.object_identifier("1.2.840.113549.1.12.10.1.2")


def _shrouded_key(pfx: bytes) -> bytes:
    """Take the key out of a PFX as it is encrypted there: its bag holds PKCS#8 (RFC 7292 section 4.2.2).

    To encrypt it anew for the PEM would take a third as long as the whole PFX. The bag stands last and in the open, so
    its identifier is found as it is written.
    """
    return der.content(pfx[pfx.rindex(_SHROUDED_KEY_BAG) + len(_SHROUDED_KEY_BAG) :])


def _pem_block(label: str, content: bytes) -> bytes:
    text = b64encode(content).decode("ascii")
    lines = (text[at : at + 64] for at in range(0, len(text), 64))  # RFC 7468 section 2
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----\n")).encode("ascii")


def _secret(password: str | None) -> bytes:
    if not password:
        raise BundleError("a key is written under a password only")
    if not password.isprintable():
        raise BundleError("the password has characters that can't be printed; keystores differ in how they read those")
    return password.encode()


_ISSUER = 0, 3
"""Where a certificate of version 3, as all leaves here are, names its issuer (RFC 5280 section 4.1)."""


@lru_cache(maxsize=256)
def _name_in_der(authority: x509.Certificate) -> bytes:
    return der.content(subject_in_der(authority))


@lru_cache(maxsize=256)
def _chain_pem(chain: tuple[x509.Certificate, ...]) -> bytes:
    """Check and write a chain: it is the same in each bundle of an issuing CA.

    Raises:
        BundleError: it has a gap by name, or ends with a root.
    """
    for lower, upper in pairwise(chain):
        if not names.same_name(lower.issuer, upper.subject):
            raise _not_its_issuer(lower, upper)
    if chain and is_self_issued(chain[-1]):
        raise BundleError(
            f"the root {names.quoted(chain[-1].subject)} does not belong in a bundle: the verifier has it"
        )
    return b"".join(each.public_bytes(Encoding.PEM) for each in chain)


def _not_its_issuer(lower: x509.Certificate, upper: x509.Certificate) -> BundleError:
    first, second = names.quoted(lower.subject), names.quoted(upper.subject)
    return BundleError(f"{first} is followed by {second}, which is not its issuer")


def _check_key(certificate: x509.Certificate, key: PrivateKey | None) -> None:
    if key is not None and key.public_key() != certificate.public_key():
        raise BundleError(f"the key is not that of {names.quoted(certificate.subject)}")
