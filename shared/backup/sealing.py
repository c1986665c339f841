"""Seals lines of text into a file that shows any change, loss or exchange of a part of it, and reads them again.

A file is a header (what its key is found with) and frames. A frame holds whole lines, compressed, under AES-256-GCM.
Its nonce is its number and whether it is the last, as in STREAM (Hoang, Reyhanitabar, Rogaway, Vizár, "Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015), and the header is bound to each. Each file has a
key of its own.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

MAGIC = b"device-identity-factory backup 1\n"
LEAST_PASSPHRASE = 16
"""Characters of a passphrase; scrypt makes each guess dear, and not impossible."""

_KEY, _SALT, _FRAME = 32, 16, 1 << 20
_N, _R, _P = 1 << 17, 8, 1  # 128 MiB and about half a second (RFC 7914 section 2)
_LONGEST, _LONGEST_HEADER = 1 << 26, 1 << 12
_DIGEST = "sha256"
_FOUND_WITH = {"scrypt": {"kdf", "salt"}, "rsa-oaep-256": {"kdf", "wrapped"}}
"""What is in a header, by how its key is found."""

_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


class ArchiveError(ValueError):
    """An archive can't be read, or is not what was written; the message says how."""


class Lock(Protocol):
    """What seals archives."""

    def new_key(self) -> tuple[bytes, Mapping[str, Any]]:
        """Give a new key, and what it is found with again."""
        ...


class Opener(Protocol):
    """What opens archives."""

    def key(self, header: Mapping[str, str]) -> bytes:
        """Give the key of an archive.

        Raises:
            ArchiveError: it was sealed in another way, or for another key.
        """
        ...


@lru_cache(4)
def _derived(text: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=_KEY, n=_N, r=_R, p=_P).derive(text.encode())


@dataclass(frozen=True, slots=True)
class Passphrase:
    """A passphrase, as the lock and as what opens it."""

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse one that can be guessed."""
        if len(self.text) < LEAST_PASSPHRASE:
            raise ArchiveError(
                f"the passphrase has {len(self.text)} characters; it must have at least {LEAST_PASSPHRASE}"
            )

    def new_key(self) -> tuple[bytes, Mapping[str, Any]]:
        """Derive a key with a new salt."""
        salt = os.urandom(_SALT)
        return _derived(self.text, salt), {"kdf": "scrypt", "salt": b64encode(salt).decode()}

    def key(self, header: Mapping[str, str]) -> bytes:
        """Derive the key of an archive; errors are those of :class:`Opener`."""
        if header["kdf"] != "scrypt":
            raise ArchiveError("the archive was sealed for a recipient's key: give --private-key")
        try:
            salt = b64decode(header["salt"], validate=True)
        except ValueError:
            raise ArchiveError("the header of the archive is damaged or cut off") from None
        return _derived(self.text, salt)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody's public key: who makes archives need not be able to read them."""

    public_key: rsa.RSAPublicKey

    @classmethod
    def read(cls, pem: bytes) -> Recipient:
        """Read a public key in PEM.

        Raises:
            ArchiveError: it is not an RSA key of at least 3072 bits.
        """
        try:
            key = load_pem_public_key(pem)
        except ValueError:
            raise ArchiveError("the recipient's file is not a public key in PEM") from None
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 3072:  # noqa: PLR2004 - about AES-128
            raise ArchiveError("the recipient's key must be an RSA key of at least 3072 bits")
        return cls(key)

    def new_key(self) -> tuple[bytes, Mapping[str, Any]]:
        """Draw a key, and wrap it (RSA-OAEP-256)."""
        key = AESGCM.generate_key(256)
        return key, {"kdf": "rsa-oaep-256", "wrapped": b64encode(self.public_key.encrypt(key, _OAEP)).decode()}


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """The private half of a recipient's key."""

    private_key: rsa.RSAPrivateKey = field(repr=False)

    @classmethod
    def read(cls, pem: bytes, password: bytes | None) -> RecipientKey:
        """Read a private key in PEM.

        Raises:
            ArchiveError: it is not an RSA key, or its password is missing or wrong.
        """
        try:
            key = load_pem_private_key(pem, password)
        except (ValueError, TypeError):
            raise ArchiveError("the private key can't be read: it is not PEM, or its password is not right") from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ArchiveError("the private key is not an RSA key")
        return cls(key)

    def key(self, header: Mapping[str, str]) -> bytes:
        """Unwrap the key of an archive; errors are those of :class:`Opener`."""
        if header["kdf"] != "rsa-oaep-256":
            raise ArchiveError("the archive was sealed with a passphrase: give --passphrase-file")
        try:
            return self.private_key.decrypt(b64decode(header["wrapped"], validate=True), _OAEP)
        except ValueError:
            unless = "" if _DIGEST in header else ", or its header is damaged"
            raise ArchiveError(f"the archive was sealed for another recipient's key{unless}") from None


class Sealer:
    """Writes lines into a file."""

    def __init__(self, file: BinaryIO, lock: Lock) -> None:
        key, found_with = lock.new_key()
        self._cipher, self._file = AESGCM(key), file
        self._header = _header(found_with)
        self._lines, self._size, self._number = list[bytes](), 0, 0
        file.write(MAGIC + struct.pack(">I", len(self._header)) + self._header)

    def write(self, line: bytes) -> None:
        """Write a line, without its end."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _FRAME:
            self._frame(is_last=False)

    def close(self) -> None:
        """Write what is left, and that it was the last."""
        self._frame(is_last=True)

    def _frame(self, *, is_last: bool) -> None:
        content = zlib.compress(b"\n".join(self._lines))
        sealed = self._cipher.encrypt(_nonce(self._number, is_last=is_last), content, self._header)
        self._file.write(struct.pack(">I", len(sealed)) + sealed)
        self._lines, self._size, self._number = [], 0, self._number + 1


def opened(file: BinaryIO, opener: Opener) -> Iterator[bytes]:
    """Give the lines of a file, each when its frame was verified.

    Raises:
        ArchiveError: it is not an archive; the key is another one; or it was changed, or cut off.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise ArchiveError("the file is not a backup of this app, or its beginning is damaged")
    header, found = _read_header(file)
    cipher, number, frame = AESGCM(opener.key(found)), 0, _part(file)
    while frame is not None:
        following = _part(file)
        try:
            content = cipher.decrypt(_nonce(number, is_last=following is None), frame, header)
        except InvalidTag:
            raise ArchiveError(
                f"part {number} of the archive can't be opened: the key or passphrase is another one, or the archive "
                "was changed or cut off"
            ) from None
        if content := zlib.decompress(content):
            yield from content.split(b"\n")
        number, frame = number + 1, following


def _header(found_with: Mapping[str, Any]) -> bytes:
    """Write a header. The key protects it, and is found with it; so a digest tells first whether it is damaged."""
    digest = sha256(json.dumps(found_with, sort_keys=True).encode()).hexdigest()
    return json.dumps({**found_with, _DIGEST: digest}, sort_keys=True).encode()


def _read_header(file: BinaryIO) -> tuple[bytes, Mapping[str, str]]:
    """Read a header, and nothing into one that is damaged. Those of former archives have no digest.

    Raises:
        ArchiveError: it is damaged.
    """
    try:
        header = _part(file, longest=_LONGEST_HEADER) or b""
        found = json.loads(header)
        found_with = {name: str(value) for name, value in dict(found).items() if name != _DIGEST}
        written = _header(found_with) if _DIGEST in found else json.dumps(found_with, sort_keys=True).encode()
        is_whole = header == written and found_with.keys() == _FOUND_WITH[found_with["kdf"]]
    except (ValueError, LookupError, TypeError):
        is_whole = False
    if not is_whole:
        raise ArchiveError("the header of the archive is damaged or cut off")
    return header, found


def _part(file: BinaryIO, *, longest: int = _LONGEST) -> bytes | None:
    head = file.read(4)
    if not head:
        return None
    length = struct.unpack(">I", head)[0] if len(head) == 4 else longest + 1  # noqa: PLR2004 - octets of a length
    content = file.read(length) if length <= longest else b""
    if len(content) != length:
        raise ArchiveError("the archive was cut off, or is damaged")
    return content


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11) + bytes([is_last])
