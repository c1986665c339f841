"""Opens what holds an owner's key: PKCS#12 (RFC 7292), and keys in PEM, encrypted or not.

A key is derived from the password in as many rounds as the file says, and cryptography keeps the interpreter lock
meanwhile. Rounds that stand in the open are counted here before they are computed. Those inside of what is encrypted
can't be seen, so a stranger's file is opened in a process of its own (:mod:`shared.pki.apart`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key, pkcs12

from shared.pki import der, names
from shared.pki.certificates import UNREADABLE
from shared.pki.pfx_contents import contents_of
from shared.pki.readable import load_certificate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

ROUNDS_LIMIT = 1_000_000
"""Rounds of key derivation that are computed for one file: from a quarter of a second (PBKDF2 with SHA-256) on. OpenSSL
writes 2,048 for each of key, certificates and MAC, keytool 10,000, others up to 600,000 for a key."""

_KEYS_LIMIT = 16
_INTEGER, _OCTET_STRING = 0x02, 0x04


def _identifier(dotted: str) -> bytes:
    return re.escape(der.content(der.object_identifier(dotted)))


# By the content of their identifiers: BER has several ways to write tag and length.
_DERIVATIONS = re.compile(
    _identifier("1.2.840.113549.1.5.12")  # PBKDF2 (RFC 8018 A.2)
    + b"|" + _identifier("1.2.840.113549.1.5") + rb"[\x01\x03\x04\x06\x0a\x0b]"  # PBES1, which cipher (RFC 8018 A.3)
    + b"|" + _identifier("1.2.840.113549.1.12.1") + rb"[\x01-\x06]"  # PKCS#12's own (RFC 7292 C)
)  # fmt: skip
_SCRYPT = re.compile(_identifier("1.3.6.1.4.1.11591.4.11"))
_PLAIN_KEY_BAG, _SHROUDED_KEY_BAG = (der.object_identifier(f"1.2.840.113549.1.12.10.1.{number}") for number in (1, 2))
_KEY_BAGS = re.compile(re.escape(_PLAIN_KEY_BAG) + b"|" + re.escape(_SHROUDED_KEY_BAG))  # RFC 7292 section 4.2


class CanNotOpen(ValueError):
    """A file is not opened; the message says why."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was in a file.

    Attributes:
        keys: private ones, of any kind.
        certificates: may not be decoded yet.
    """

    keys: tuple[object, ...]
    certificates: tuple[x509.Certificate, ...] = ()


def open_pfx(pfx: bytes, password: bytes | None) -> Opened:
    """Open PKCS#12, in DER or BER.

    Raises:
        CanNotOpen: it asks for too much work, or it can't be opened.
    """
    try:
        content = der.from_ber(pfx)
        _check_rounds(_derivation_rounds(content) + _mac_rounds(content))
        try:
            return _opened(content, password)
        except UNREADABLE:
            return _opened_by_parts(content, password)
    except CanNotOpen:
        raise
    except (*UNREADABLE, IndexError):
        raise CanNotOpen("it can't be opened: the password is wrong, or it is not PKCS#12") from None


def _opened(pfx: bytes, password: bytes | None) -> Opened:
    opened = pkcs12.load_pkcs12(pfx, password)
    found = [opened.cert, *opened.additional_certs]
    # load_pkcs12 gives one of several keys, and does not say which.
    keys = _keys_in_the_open(pfx, password) if len(_key_bags(pfx)) > 1 else [opened.key]
    return Opened(
        tuple(each for each in keys if each is not None), tuple(each.certificate for each in found if each is not None)
    )


def _opened_by_parts(pfx: bytes, password: bytes | None) -> Opened:
    """Open what has certificates that cryptography does not read."""
    found = contents_of(pfx, password)
    keys = (load_der_private_key(each, None) for each in found.keys[:_KEYS_LIMIT])
    return Opened(tuple(keys), tuple(map(load_certificate, found.certificates)))


def _keys_in_the_open(pfx: bytes, password: bytes | None) -> Sequence[object]:
    return [
        load_der_private_key(next(der.parts(der.from_ber(pfx[at:]))), None if kind == _PLAIN_KEY_BAG else password)
        for kind, at in _key_bags(pfx)[:_KEYS_LIMIT]
    ]


def _key_bags(pfx: bytes) -> Sequence[tuple[bytes, int]]:
    """Find bags of keys that are not inside of what is encrypted: each one's kind, and where its value begins."""
    return [(found[0], found.end()) for found in _KEY_BAGS.finditer(pfx)]


def open_key(block: bytes, content: bytes, password: bytes | None) -> Opened:
    """Open a private key.

    Args:
        block: in PEM: PKCS#8 (RFC 5958), or OpenSSL's older form, which has one round of MD5.
        content: what the block's base64 holds.
        password: of the key.

    Raises:
        CanNotOpen: it asks for too much work, or it can't be opened.
    """
    try:
        if b"ENCRYPTED PRIVATE KEY" in block:
            _check_rounds(_derivation_rounds(content))
        return Opened((load_pem_private_key(block, password),))
    except CanNotOpen:
        raise
    except UNREADABLE:
        raise CanNotOpen(
            "its private key can't be opened: the password is wrong, or the key is damaged"
            if password
            else "its private key can't be opened: it needs a password, or the key is damaged"
        ) from None


def _check_rounds(rounds: int) -> None:
    if rounds > ROUNDS_LIMIT:
        raise CanNotOpen(
            f"it asks for {names.number(rounds)} rounds of key derivation; at most {ROUNDS_LIMIT} are computed: write "
            "it anew with fewer"
        )


def _derivation_rounds(encrypted: bytes) -> int:
    """Add up the rounds of all derivations that are in the open; what is inside of what is encrypted is not.

    Raises:
        ValueError: one names its rounds where they are not found.
        CanNotOpen: one asks for memory as well.
    """
    if _SCRYPT.search(encrypted):
        raise CanNotOpen("its key derivation is scrypt; write it anew with PBKDF2")
    return sum(_rounds(encrypted[match.end() :]) for match in _DERIVATIONS.finditer(encrypted))


def _rounds(parameters: bytes) -> int:
    """Read the second field of a derivation's parameters: a salt comes first (RFC 8018 A.2, A.3, RFC 7292 C)."""
    salt, rounds = islice(der.parts(der.from_ber(parameters)), 2)
    if salt[0] != _OCTET_STRING:
        raise ValueError("the salt is missing")
    return _number(rounds)


def _mac_rounds(pfx: bytes) -> int:
    """Read the rounds of a PFX's MAC: the third field of its third part, 1 if left out (RFC 7292 section 4)."""
    mac = next(islice(der.parts(pfx), 2, None), None)
    rounds = next(islice(der.parts(mac), 2, None), None) if mac else None
    return _number(rounds) if rounds else 1


def _number(encoded: bytes) -> int:
    if encoded[0] != _INTEGER:
        raise ValueError("the number is missing")
    return int.from_bytes(der.content(encoded), "big")
