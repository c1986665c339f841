"""PKCS#12 by hand (RFC 7292), so that files can be damaged within and still have a MAC that fits."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC

from shared.pki import der

if TYPE_CHECKING:
    from collections.abc import Sequence

PASSWORD = "sesame"
_SALT = b"saltsalt"
_DATA = der.object_identifier("1.2.840.113549.1.7.1")
_ENCRYPTED_DATA = der.object_identifier("1.2.840.113549.1.7.6")
_KEY_BAG = der.object_identifier("1.2.840.113549.1.12.10.1.1")
_SHROUDED_KEY_BAG = der.object_identifier("1.2.840.113549.1.12.10.1.2")
_CERTIFICATE_BAG = der.object_identifier("1.2.840.113549.1.12.10.1.3")
_X509 = der.object_identifier("1.2.840.113549.1.9.22.1")
_SHA256 = der.sequence(der.object_identifier("2.16.840.1.101.3.4.2.1"), der.NULL)
_HMAC_SHA256 = der.sequence(der.object_identifier("1.2.840.113549.2.9"), der.NULL)
_PBES2 = der.object_identifier("1.2.840.113549.1.5.13")
_PBKDF2 = der.object_identifier("1.2.840.113549.1.5.12")
_AES256_CBC = der.object_identifier("2.16.840.1.101.3.4.1.42")
_BLOCK = 16
_HASH_BLOCK = 64  # of SHA-256


def shrouded(pkcs8: bytes, *, rounds: int = 1, claimed: int | None = None) -> bytes:
    """Encrypt a key: EncryptedPrivateKeyInfo under AES-256-CBC and PBKDF2 (RFC 8018), or claim other rounds than made."""
    algorithm, encrypted = _encrypted(pkcs8, rounds, claimed or rounds)
    return der.sequence(algorithm, der.octet_string(encrypted))


def _encrypted(content: bytes, rounds: int, claimed: int) -> tuple[bytes, bytes]:
    key = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), _SALT, rounds, 32)
    missing = _BLOCK - len(content) % _BLOCK
    encryptor = Cipher(AES256(key), CBC(bytes(_BLOCK))).encryptor()
    encrypted = encryptor.update(content + bytes([missing]) * missing) + encryptor.finalize()
    derivation = der.sequence(_PBKDF2, der.sequence(der.octet_string(_SALT), der.integer(claimed), _HMAC_SHA256))
    cipher = der.sequence(_AES256_CBC, der.octet_string(bytes(_BLOCK)))
    return der.sequence(_PBES2, der.sequence(derivation, cipher)), encrypted


def encrypted_safe_of(key: bytes) -> bytes:
    """Put an encrypted key into an AuthenticatedSafe that is encrypted as a whole (RFC 7292 section 4.1)."""
    bags = der.sequence(der.sequence(_SHROUDED_KEY_BAG, der.explicit(0, key)))
    algorithm, encrypted = _encrypted(bags, 1, 1)
    content = der.sequence(_DATA, algorithm, der.tagged(0x80, encrypted))
    return der.sequence(der.sequence(_ENCRYPTED_DATA, der.explicit(0, der.sequence(der.integer(0), content))))


def safe_of(key: bytes, certificates: Sequence[bytes], *, encrypted: bool) -> bytes:
    """Put a key, PKCS#8 or encrypted, and certificates into an AuthenticatedSafe."""
    bags = [der.sequence(_SHROUDED_KEY_BAG if encrypted else _KEY_BAG, der.explicit(0, key))]
    for certificate in certificates:
        bag = der.sequence(_X509, der.explicit(0, der.octet_string(certificate)))
        bags.append(der.sequence(_CERTIFICATE_BAG, der.explicit(0, bag)))
    return der.sequence(_data(der.sequence(*bags)))


def pfx_of(safe: bytes) -> bytes:
    """Close a safe, whatever is in it, with a MAC that fits."""
    digest = hmac.digest(_mac_key(), safe, "sha256")
    mac = der.sequence(der.sequence(_SHA256, der.octet_string(digest)), der.octet_string(_SALT), der.integer(2))
    return der.sequence(der.integer(3), _data(safe), mac)


def _data(content: bytes) -> bytes:
    return der.sequence(_DATA, der.explicit(0, der.octet_string(content)))


def _mac_key() -> bytes:
    """Derive it in two rounds, since one would be left out (RFC 7292 appendix B.2); one block is enough for the key."""
    password = f"{PASSWORD}\0".encode("utf-16-be")
    first = hashlib.sha256(b"\3" * _HASH_BLOCK + _filled(_SALT) + _filled(password)).digest()
    return hashlib.sha256(first).digest()


def _filled(text: bytes) -> bytes:
    """Repeat text to whole blocks."""
    size = -(-len(text) // _HASH_BLOCK) * _HASH_BLOCK
    return (text * size)[:size]
