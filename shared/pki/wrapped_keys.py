"""A CA key that lies in the ledger, encrypted under a key of the vault (envelope encryption).

A fresh 256-bit key encrypts the CA key with AES-256-GCM, and the vault wraps that key. The name of the CA and the id of
the vault's key are authenticated with it, so that a wrapped key can't be put in another's place.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.pki.signing_keys import PrivateKey

_NONCE_BYTES = 12  # NIST SP 800-38D section 8.2; random, and each key encrypts once


class WrappedKeyError(RuntimeError):
    """A wrapped key does not open: it was changed, or is another CA's."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """An encrypted CA key.

    Attributes:
        wrapping_key: id of the version of the vault's key.
        wrapped: the encryption key, as the vault wrapped it (RSA-OAEP-256).
        nonce: 12 octets.
        ciphertext: the CA key in PKCS#8, with the authentication tag.
    """

    wrapping_key: str
    wrapped: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)

    def to_text(self) -> str:
        """Give the wrapped key as text for the ledger."""
        parts = (self.wrapped, self.nonce, self.ciphertext)
        return json.dumps([self.wrapping_key, *(b64encode(part).decode("ascii") for part in parts)])

    @classmethod
    def from_text(cls, text: str) -> WrappedKey:
        """Read what :meth:`to_text` gave."""
        wrapping_key, *parts = json.loads(text)
        return cls(wrapping_key, *map(b64decode, parts))


def wrap_key(key: PrivateKey, *, name: str, wrapping_key: str, wrap: Callable[[bytes], bytes]) -> WrappedKey:
    """Encrypt a CA key.

    Args:
        key: of the CA.
        name: of the CA.
        wrapping_key: id of the vault's key.
        wrap: has the vault wrap an encryption key.
    """
    content = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    encryption_key = AESGCM.generate_key(256)
    nonce = os.urandom(_NONCE_BYTES)
    ciphertext = AESGCM(encryption_key).encrypt(nonce, content, _bound_to(name, wrapping_key))
    return WrappedKey(wrapping_key, wrap(encryption_key), nonce, ciphertext)


def unwrap_key(wrapped: WrappedKey, *, name: str, unwrap: Callable[[bytes], bytes]) -> PrivateKey:
    """Decrypt a CA key.

    Args:
        wrapped: what :func:`wrap_key` gave.
        name: of the CA.
        unwrap: has the vault unwrap the encryption key.

    Raises:
        WrappedKeyError: it was changed, or belongs to another CA.
    """
    try:
        content = AESGCM(unwrap(wrapped.wrapped)).decrypt(
            wrapped.nonce, wrapped.ciphertext, _bound_to(name, wrapped.wrapping_key)
        )
    except InvalidTag:
        raise WrappedKeyError(f"the wrapped key of {name!r} was changed, or is another CA's") from None
    key = load_der_private_key(content, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise WrappedKeyError(f"the wrapped key of {name!r} is not the key of a CA")
    return key


def _bound_to(name: str, wrapping_key: str) -> bytes:
    return json.dumps([name, wrapping_key]).encode()
