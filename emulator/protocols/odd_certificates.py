"""Certificates that OpenSSL reads and the library ``cryptography`` does not.

Three forms: Latin-1 in a string of one octet a character (TeletexString above all), characters such as ``_`` and ``@``
in a PrintableString, and NULL as the parameters of an ECDSA signature. That the real services take them is assumed.

What is read comes from a copy in which these three are put right; thumbprints, and what is given out, from the octets
that were sent. Whether one is signed by another is OpenSSL's to say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto

if TYPE_CHECKING:
    from collections.abc import Iterator

DAMAGES = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises over a damaged certificate; over some parts when they are asked for."""

_PRINTABLE_STRING = 0x13
_STRINGS = frozenset({0x12, _PRINTABLE_STRING, 0x14, 0x16, 0x1A})  # Numeric, Printable, Teletex, IA5, Visible
_PRINTABLE = re.compile(rb"[A-Za-z0-9 '()+,\-./:=?]*")
_ECDSA_WITH_NULL = re.compile(rb"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03[\x01-\x04]\x05\x00")  # RFC 5758 section 3.2
_SEQUENCE, _OCTET_STRING, _UTF8_STRING, _CONSTRUCTED = 0x30, 0x04, 0x0C, 0x20
_DEPTH = 16
_PARTIAL_CHAIN, _NO_CHECK_TIME = 0x80000, 0x200000  # X509_V_FLAG_*: any CA is trusted as it is, and at any time


class OddCertificate:
    """What the services ask of a certificate: all that ``x509.Certificate`` has, but whose octets are counted."""

    def __init__(self, encoded: bytes, copy: x509.Certificate) -> None:
        self._encoded = encoded
        self._copy = copy

    def __getattr__(self, name: str) -> Any:
        if name in {"tbs_certificate_bytes", "verify_directly_issued_by"}:
            raise AttributeError(name)  # the copy's are others
        return getattr(self._copy, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OddCertificate) and self._encoded == other._encoded

    def __hash__(self) -> int:
        return hash(self._encoded)

    def fingerprint(self, algorithm: hashes.HashAlgorithm) -> bytes:
        """Give the hash of what was sent."""
        digest = hashes.Hash(algorithm)
        digest.update(self._encoded)
        return digest.finalize()

    def public_bytes(self, encoding: Encoding) -> bytes:
        """Give what was sent."""
        kind = crypto.FILETYPE_PEM if encoding is Encoding.PEM else crypto.FILETYPE_ASN1
        return crypto.dump_certificate(kind, crypto.load_certificate(crypto.FILETYPE_ASN1, self._encoded))


def load(encoded: bytes) -> x509.Certificate:
    """Load a certificate in DER; an odd one behaves as others do.

    Raises:
        ValueError: it is not valid.
    """
    try:
        certificate = x509.load_der_x509_certificate(encoded)
        _ = certificate.subject, certificate.issuer, certificate.extensions
    except DAMAGES:
        copy = _put_right(encoded)
        return (
            cast("x509.Certificate", OddCertificate(encoded, copy)) if copy else x509.load_der_x509_certificate(encoded)
        )
    return certificate


def is_odd(certificate: object) -> bool:
    """Tell whether it is one that cryptography does not read."""
    return isinstance(certificate, OddCertificate)


def is_signed(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Tell whether one was signed by another that it names octet by octet, where either is odd."""
    below, above = (each.public_bytes(Encoding.DER) for each in (lower, upper))
    if _name(below, _ISSUER) != _name(above, _SUBJECT):
        return False
    store = crypto.X509Store()
    store.set_flags(_PARTIAL_CHAIN | _NO_CHECK_TIME)
    try:
        store.add_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, above))
        crypto.X509StoreContext(store, crypto.load_certificate(crypto.FILETYPE_ASN1, below)).verify_certificate()
    except (crypto.Error, crypto.X509StoreContextError):
        return False
    return True


def _put_right(encoded: bytes) -> x509.Certificate | None:
    """Load a copy in which the three forms are put right; ``None`` if something else is wrong."""
    try:
        copy = x509.load_der_x509_certificate(_rewritten(encoded, _DEPTH))
        _ = copy.subject, copy.issuer
    except (*DAMAGES, IndexError):
        return None
    return copy


def _rewritten(value: bytes, depth: int) -> bytes:
    """Write a value of DER anew, with all that is in it."""
    tag, content = value[0], _content(value)
    if _written(tag, content) != value:
        raise ValueError("a length is not written in DER")
    if tag in _STRINGS:
        return _string(tag, content)
    if tag == _SEQUENCE and _ECDSA_WITH_NULL.fullmatch(content):
        return _written(tag, content[:-2])
    in_extension = tag == _OCTET_STRING and content[:1] == bytes((_SEQUENCE,))
    if depth and (tag & _CONSTRUCTED or in_extension):
        return _written(tag, b"".join(_rewritten(each, depth - 1) for each in _values(content)))
    return value


def _string(tag: int, content: bytes) -> bytes:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    else:
        if tag != _PRINTABLE_STRING or _PRINTABLE.fullmatch(content):
            return _written(tag, content)
    return _written(_UTF8_STRING, text.encode())


_ISSUER, _SUBJECT = 3, 5


def _name(encoded: bytes, place: int) -> bytes:
    """Give a name of a certificate of version 3 in DER (RFC 5280 section 4.1)."""
    signed = next(_values(_content(encoded)))
    return [*_values(_content(signed))][place]


def _values(content: bytes) -> Iterator[bytes]:
    """Take values apart that stand one behind the other."""
    while content:
        end = _begin(content) + _length(content)
        if end > len(content):
            raise ValueError("a value is cut off")
        yield content[:end]
        content = content[end:]


def _content(value: bytes) -> bytes:
    return value[_begin(value) : _begin(value) + _length(value)]


def _begin(value: bytes) -> int:
    return 2 + (value[1] & 0x7F if value[1] & 0x80 else 0)


def _length(value: bytes) -> int:
    return int.from_bytes(value[2 : _begin(value)], "big") if value[1] & 0x80 else value[1]


def _written(tag: int, content: bytes) -> bytes:
    length = len(content)
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, length) if length < 0x80 else (tag, 0x80 | len(octets), *octets)) + content  # noqa: PLR2004
