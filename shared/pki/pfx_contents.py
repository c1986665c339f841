"""What is in PKCS#12 (RFC 7292), octet by octet: for certificates that cryptography does not read.

cryptography opens and writes PKCS#12 with certificates of its own only. Where one of them has a readable twin
(:mod:`shared.pki.readable`), a file is opened here, or written with the twins and then given the originals.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7

from shared.pki import der
from shared.pki.rc2 import decrypt_rc2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_oid = der.object_identifier
_KEY_BAG, _SHROUDED_KEY_BAG, _CERTIFICATE_BAG = (_oid(f"1.2.840.113549.1.12.10.1.{arc}") for arc in (1, 2, 3))
_X509 = _oid("1.2.840.113549.1.9.22.1")
_DATA, _ENCRYPTED_DATA = _oid("1.2.840.113549.1.7.1"), _oid("1.2.840.113549.1.7.6")
_PBES2, _PBKDF2 = _oid("1.2.840.113549.1.5.13"), _oid("1.2.840.113549.1.5.12")
_AES = {_oid(f"2.16.840.1.101.3.4.1.{arc}"): octets for arc, octets in ((2, 16), (22, 24), (42, 32))}
_TRIPLE_DES = _oid("1.2.840.113549.3.7")
_HMAC_SHA1 = _oid("1.2.840.113549.2.7")
_HMACS: Mapping[bytes, hashes.HashAlgorithm] = {
    _oid(f"1.2.840.113549.2.{arc}"): kind
    for arc, kind in ((7, hashes.SHA1()), (9, hashes.SHA256()), (10, hashes.SHA384()), (11, hashes.SHA512()))  # noqa: S303
}
_DIGESTS: Mapping[bytes, str] = {
    _oid("1.3.14.3.2.26"): "sha1",
    **{_oid(f"2.16.840.1.101.3.4.2.{arc}"): kind for arc, kind in ((1, "sha256"), (2, "sha384"), (3, "sha512"))},
}
_PBE_TRIPLE_DES, _PBE_RC2_128, _PBE_RC2_40 = (_oid(f"1.2.840.113549.1.12.1.{arc}") for arc in (3, 5, 6))
_PBE_OCTETS = {_PBE_TRIPLE_DES: 24, _PBE_RC2_128: 16, _PBE_RC2_40: 5}
_VECTOR_OCTETS = 8
_FOR_KEY, _FOR_VECTOR, _FOR_MAC = 1, 2, 3  # RFC 7292 appendix B.3
_INTEGER, _IMPLICIT_0 = 0x02, 0x80


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a file, in DER, in its order: private keys as PKCS#8 (RFC 5958) that is not encrypted."""

    keys: tuple[bytes, ...] = field(repr=False)
    certificates: tuple[bytes, ...]


def contents_of(pfx: bytes, password: bytes | None) -> Contents:
    """Give what is in a file, once its MAC is verified.

    Args:
        pfx: in DER as :func:`shared.pki.der.from_ber` gives it; rounds of key derivation were looked at.
        password: in UTF-8.

    Raises:
        ValueError: the password is wrong; or the file is damaged, has no MAC, or is encrypted otherwise than OpenSSL,
            Java and Windows do.
        IndexError: it is damaged.
    """
    content, mac = _content_and_mac(pfx)
    spelled = (each for each in _spellings(password) if hmac.compare_digest(mac.of(content, each), mac.digest))
    text = next(spelled, None)
    if text is None:
        raise ValueError("the MAC is not the password's")
    opened = (_opened(info, password or b"", text) for info in der.parts(der.from_ber(content)))
    bags = [bag for part in opened if part for bag in der.parts(der.from_ber(part))]
    keys = (_key_in(bag, password or b"", text) for bag in bags)
    return Contents(tuple(filter(None, keys)), tuple(filter(None, map(_certificate_in, bags))))


def with_certificates(pfx: bytes, password: bytes, originals: Mapping[bytes, bytes]) -> bytes:
    """Put other certificates into a file that cryptography has written, under the same password.

    Args:
        pfx: in DER, its certificates encrypted by PBES2 with AES.
        password: in UTF-8.
        originals: by what is to be replaced, both in DER.
    """
    content, mac = _content_and_mac(pfx)
    changed = der.sequence(*(_changed(info, password, originals) for info in der.parts(content)))
    version, _, macs = der.parts(pfx)
    info, *others = der.parts(macs)
    kind, _ = der.parts(info)
    renewed = der.octet_string(mac.of(changed, *_spellings(password)))
    content_info = der.sequence(_DATA, der.explicit(0, der.octet_string(changed)))
    return der.sequence(version, content_info, der.sequence(der.sequence(kind, renewed), *others))


# --- parts ---


@dataclass(frozen=True, slots=True)
class _Derivation:
    """How octets are derived from a password (RFC 7292 appendix B.2)."""

    hash_name: str
    salt: bytes
    rounds: int

    def octets(self, text: bytes, purpose: int, length: int) -> bytes:
        """Derive octets; the text is the password as :func:`_spellings` writes it."""
        hashed = getattr(hashlib, self.hash_name)
        block = hashed().block_size
        blocks = [each for part in (self.salt, text) for each in _blocks(part, block)]
        derived = b""
        while len(derived) < length:
            digest = bytes((purpose,)) * block + b"".join(blocks)
            for _ in range(self.rounds):
                digest = hashed(digest).digest()
            derived += digest
            more = int.from_bytes(_blocks(digest, block)[0], "big") + 1
            numbers = [(int.from_bytes(each, "big") + more) % (1 << 8 * block) for each in blocks]
            blocks = [each.to_bytes(block, "big") for each in numbers]
        return derived[:length]


def _blocks(content: bytes, octets: int) -> list[bytes]:
    """Repeat a content until it fills whole blocks; none if it is empty."""
    number = -(-len(content) // octets)
    repeated = content * octets
    return [repeated[at : at + octets] for at in range(0, number * octets, octets)]


def _spellings(password: bytes | None) -> list[bytes]:
    """Write a password in UTF-16 with a NUL (appendix B.1); none at all is written in either of two ways."""
    text = (password or b"").decode()
    return [f"{text}\0".encode("utf-16-be"), *([] if text else [b""])]


@dataclass(frozen=True, slots=True)
class _Mac:
    """What a file is authenticated by (appendix A)."""

    derivation: _Derivation
    digest: bytes

    def of(self, content: bytes, text: bytes) -> bytes:
        """Compute it for a content."""
        key = self.derivation.octets(text, _FOR_MAC, len(self.digest))
        return hmac.digest(key, content, self.derivation.hash_name)


def _content_and_mac(pfx: bytes) -> tuple[bytes, _Mac]:
    _, info, macs = der.parts(pfx)
    digest_info, salt, *rounds = der.parts(macs)
    algorithm, digest = der.parts(digest_info)
    hash_name = _DIGESTS.get(next(der.parts(algorithm), b""))
    if hash_name is None:
        raise ValueError("the MAC is of an unknown kind")
    count = _number(rounds[0]) if rounds else 1
    return der.content(info, 1, 0), _Mac(_Derivation(hash_name, der.content(salt), count), der.content(digest))


def _opened(info: bytes, password: bytes, text: bytes) -> bytes:
    """Decrypt a part of a file; empty if it is not encrypted for a password."""
    kind, body = der.parts(info)
    if kind == _DATA:
        return der.content(body, 0)
    if kind != _ENCRYPTED_DATA:
        return b""
    _, algorithm, *ciphertext = _encrypted(body)
    return _decrypted(algorithm, b"".join(map(_octets, ciphertext)), password, text)


def _encrypted(body: bytes) -> Sequence[bytes]:
    """Give kind, algorithm and ciphertext of EncryptedData (RFC 5652 section 8)."""
    (data,) = der.parts(body)
    _, encrypted = der.parts(data)
    return [*der.parts(encrypted)]


def _octets(value: bytes) -> bytes:
    """Give the octets of ``[0] IMPLICIT OCTET STRING``, in one piece or several (BER)."""
    return der.content(value) if value[0] == _IMPLICIT_0 else b"".join(map(der.content, der.parts(value)))


def _certificate_in(bag: bytes) -> bytes:
    """Give the certificate of a SafeBag in DER; empty if something else is in it."""
    kind, body, *_ = der.parts(bag)
    if kind != _CERTIFICATE_BAG or der.content(body, 0, 0) != der.content(_X509):
        return b""
    return der.content(body, 0, 1, 0)


def _key_in(bag: bytes, password: bytes, text: bytes) -> bytes:
    """Give the key of a SafeBag; empty if something else is in it."""
    kind, body, *_ = der.parts(bag)
    if kind == _KEY_BAG:
        return next(der.parts(body), b"")
    if kind != _SHROUDED_KEY_BAG:
        return b""
    (encrypted,) = der.parts(body)
    algorithm, ciphertext = der.parts(encrypted)
    return _decrypted(algorithm, der.content(ciphertext), password, text)


def _changed(info: bytes, password: bytes, originals: Mapping[bytes, bytes]) -> bytes:
    kind, body = der.parts(info)
    if kind != _ENCRYPTED_DATA:
        return info
    what, algorithm, ciphertext = _encrypted(body)
    (_, parameters), (version, _) = der.parts(algorithm), der.parts(next(der.parts(body)))
    scheme = _pbes2(parameters, password)
    bags = der.sequence(*(_with_original(bag, originals) for bag in der.parts(scheme.decrypted(_octets(ciphertext)))))
    written = der.sequence(what, algorithm, der.tagged(_IMPLICIT_0, scheme.encrypted(bags)))
    return der.sequence(kind, der.explicit(0, der.sequence(version, written)))


def _with_original(bag: bytes, originals: Mapping[bytes, bytes]) -> bytes:
    original = originals.get(_certificate_in(bag))
    if original is None:
        return bag
    kind, _, *attributes = der.parts(bag)
    value = der.sequence(_X509, der.explicit(0, der.octet_string(original)))
    return der.sequence(kind, der.explicit(0, value), *attributes)


# --- encryption ---


def _decrypted(algorithm: bytes, ciphertext: bytes, password: bytes, text: bytes) -> bytes:
    kind, parameters = der.parts(algorithm)
    if kind == _PBES2:
        return _pbes2(parameters, password).decrypted(ciphertext)
    if kind not in _PBE_OCTETS:
        raise ValueError("the encryption is of an unknown kind")
    salt, rounds = der.parts(parameters)
    derivation = _Derivation("sha1", der.content(salt), _number(rounds))
    key = derivation.octets(text, _FOR_KEY, _PBE_OCTETS[kind])
    vector = derivation.octets(text, _FOR_VECTOR, _VECTOR_OCTETS)
    if kind == _PBE_TRIPLE_DES:
        return _Scheme(TripleDES(key), CBC(vector)).decrypted(ciphertext)
    unpadder = PKCS7(8 * _VECTOR_OCTETS).unpadder()
    return unpadder.update(decrypt_rc2(ciphertext, key, vector)) + unpadder.finalize()


@dataclass(frozen=True, slots=True)
class _Scheme:
    algorithm: AES | TripleDES
    mode: CBC

    def decrypted(self, ciphertext: bytes) -> bytes:
        """Decrypt, and take the padding off."""
        decryptor, unpadder = Cipher(self.algorithm, self.mode).decryptor(), PKCS7(self.algorithm.block_size).unpadder()
        return unpadder.update(decryptor.update(ciphertext) + decryptor.finalize()) + unpadder.finalize()

    def encrypted(self, content: bytes) -> bytes:
        """Pad, and encrypt."""
        encryptor, padder = Cipher(self.algorithm, self.mode).encryptor(), PKCS7(self.algorithm.block_size).padder()
        return encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()


def _pbes2(parameters: bytes, password: bytes) -> _Scheme:
    """Derive by PBKDF2 (RFC 8018 section 6.2)."""
    derivation, scheme = der.parts(parameters)
    kind, of_derivation = der.parts(derivation)
    cipher, vector = der.parts(scheme)
    salt, rounds, *rest = der.parts(of_derivation)
    functions = [next(der.parts(each), b"") for each in rest if each[0] != _INTEGER]
    function = _HMACS.get(functions[0] if functions else _HMAC_SHA1)  # RFC 8018 A.2
    if kind != _PBKDF2 or function is None or (cipher not in _AES and cipher != _TRIPLE_DES):
        raise ValueError("the encryption is of an unknown kind")
    key = PBKDF2HMAC(function, _AES.get(cipher, 24), der.content(salt), _number(rounds)).derive(password)
    return _Scheme(AES(key) if cipher in _AES else TripleDES(key), CBC(der.content(vector)))


def _number(encoded: bytes) -> int:
    if encoded[0] != _INTEGER:
        raise ValueError("the number is missing")
    return int.from_bytes(der.content(encoded), "big")
