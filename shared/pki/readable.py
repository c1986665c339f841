"""Loads certificates that others made, also those that OpenSSL and Java read and cryptography does not.

There are CAs in use, and devices' certificates, that RFC 5280 would have otherwise:

- strings of a name that hold what their type does not: Latin-1 in a TeletexString or IA5String (OpenSSL before 1.1, old
  Windows CAs), ``_``, ``@`` or ``*`` in a PrintableString;
- NULL as the parameters of an ECDSA signature's algorithm (Java before 16), against RFC 5758 section 3.2.

Such a certificate gets a *readable twin*, in which those strings are UTF8Strings and the parameters are gone. It says
what the names, the extensions and the key are. What counts octets has the original: thumbprints, what is signed, names
in DER, and whatever is stored, sent or handed out. A certificate that cryptography reads has no twin.
"""

from __future__ import annotations

import re
from base64 import b64decode
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from shared.pki import der
from shared.pki.certificates import UNREADABLE
from shared.reading.pem import Block

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRINTABLE_STRING, _UTF8_STRING, _OCTET_STRING = 0x13, 0x0C, 0x04
ONE_OCTET = frozenset({0x12, _PRINTABLE_STRING, 0x14, 0x16, 0x1A})  # Numeric, Printable, Teletex, IA5, Visible
_PRINTABLE = re.compile(rb"[A-Za-z0-9 '()+,\-./:=?]*")
_CONSTRUCTED, _VERSION, _EXTENSIONS = 0x20, 0xA0, 0xA3
_DEPTH = 12  # a name in a CRL distribution point has its strings at 9
ECDSA = frozenset(map(der.object_identifier, (f"1.2.840.10045.4.3.{number}" for number in (1, 2, 3, 4))))
_WITH_NAMES = frozenset(
    der.object_identifier(each.dotted_string)
    for each in (
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    )
)
"""Extensions that hold names of the form of subject and issuer (directoryName)."""

_SAID_BY_TWIN = frozenset({
    "subject", "issuer", "extensions", "version", "serial_number", "not_valid_before_utc", "not_valid_after_utc",
    "public_key", "signature", "signature_hash_algorithm", "signature_algorithm_parameters",
})  # fmt: skip
_KEPT = 256
"""Certificates; one that is read takes some ten kilobytes."""

_PEM_BLOCK = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END (?:X509 )?CERTIFICATE-----")


class TwinnedCertificate:
    """Does as :class:`x509.Certificate` does, for what this app asks of one.

    It has no ``verify_directly_issued_by``: :func:`shared.pki.certificates.issued_by` takes both kinds.
    """

    __slots__ = ("_encoded", "tbs_certificate_bytes", "twin")

    def __init__(self, encoded: bytes, twin: x509.Certificate) -> None:
        self._encoded = encoded
        self.twin = twin
        self.tbs_certificate_bytes = next(der.parts(encoded))

    def __getattr__(self, name: str) -> Any:
        if name not in _SAID_BY_TWIN:
            raise AttributeError(name)
        return getattr(self.twin, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TwinnedCertificate) and self._encoded == other._encoded

    def __hash__(self) -> int:
        return hash(self._encoded)

    def __repr__(self) -> str:
        return f"<TwinnedCertificate(twin={self.twin!r})>"

    def fingerprint(self, algorithm: hashes.HashAlgorithm) -> bytes:
        """Give the hash of the certificate as it was issued."""
        context = hashes.Hash(algorithm)
        context.update(self._encoded)
        return context.finalize()

    def public_bytes(self, encoding: Encoding) -> bytes:
        """Give the certificate as it was issued, in DER or PEM."""
        return self._encoded if encoding is Encoding.DER else Block("CERTIFICATE", self._encoded).pem


@lru_cache(_KEPT)
def load_certificate(encoded: bytes) -> x509.Certificate:
    """Load a certificate; its names can be read then, its extensions, times and key may be damaged.

    Those of the last few are kept as they were read: each act reads those of its CAs, and those of its device again.

    Args:
        encoded: in DER.

    Returns:
        cryptography's own, or a :class:`TwinnedCertificate`, which does as that does.

    Raises:
        ValueError: as :func:`x509.load_der_x509_certificate`, or another one of :data:`UNREADABLE`.
    """
    try:
        certificate = x509.load_der_x509_certificate(encoded)
        _decode(certificate)
    except UNREADABLE:
        twin = _twin(encoded)
        if twin is None:
            return x509.load_der_x509_certificate(encoded)
        return cast("x509.Certificate", TwinnedCertificate(encoded, twin))
    return certificate


def load_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Load all certificates of a PEM text that was checked or written here, at least one, in their order.

    Raises:
        ValueError: there is none, or as :func:`load_certificate`.
    """
    found = tuple(load_certificate(b64decode(b"".join(each.split()))) for each in _PEM_BLOCK.findall(pem))
    if not found:
        raise ValueError("the PEM has no certificate")
    return found


def as_read(certificate: x509.Certificate) -> x509.Certificate:
    """Give cryptography's own object, for its functions that take no other; never for what is signed or given out."""
    return certificate.twin if isinstance(certificate, TwinnedCertificate) else certificate


def readable(encoded: bytes) -> bytes:
    """Write a certificate's readable twin, in DER; the certificate itself if it needs none.

    Raises:
        ValueError, IndexError: it is not a certificate in DER as far as this is looked at.
    """
    behind = encoded[der.length(encoded) :]
    content, algorithm, signature = _parts(encoded)
    fields = _parts(content)
    first = 1 if fields[0][0] == _VERSION else 0  # the serial number (RFC 5280 section 4.1)
    for at, change in ((1, _without_null), (2, readable_name), (4, readable_name)):
        fields[first + at] = change(fields[first + at])
    for at in range(first + 6, len(fields)):
        if fields[at][0] == _EXTENSIONS:
            (listed,) = _parts(fields[at])
            fields[at] = der.tagged(_EXTENSIONS, der.tagged(listed[0], *map(_readable_extension, _parts(listed))))
    # Whatever else is wrong stays so: a SET in place of a SEQUENCE, too.
    return der.tagged(encoded[0], der.tagged(content[0], *fields), _without_null(algorithm), signature) + behind


def readable_name(value: bytes, depth: int = _DEPTH) -> bytes:
    """Write a name, or what holds names, with UTF8Strings instead of the strings that hold what they can't hold.

    Raises:
        ValueError: it is not DER.
    """
    if value[0] in ONE_OCTET:
        return _readable_string(value)
    if not value[0] & _CONSTRUCTED or not depth:
        return value
    return der.tagged(value[0], *(readable_name(each, depth - 1) for each in _parts(value)))


def _twin(encoded: bytes) -> x509.Certificate | None:
    """Give the readable twin; ``None`` if it does not exist, since something else is wrong."""
    try:
        written = readable(encoded)
        if written == encoded:
            return None
        twin = x509.load_der_x509_certificate(written)
        _ = twin.subject, twin.issuer
    except (*UNREADABLE, IndexError):
        return None
    return twin


def _decode(certificate: x509.Certificate) -> None:
    """Read what may hold names; cryptography keeps it."""
    _ = certificate.subject, certificate.issuer, certificate.extensions


def _readable_string(value: bytes) -> bytes:
    """Rewrite a string of octets, which are UTF-8 or else Latin-1, unless cryptography reads it as it is."""
    octets = der.content(value)
    if der.tagged(value[0], octets) != value:
        raise ValueError("a length is not written in DER")
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        text = octets.decode("latin-1")
    else:
        if value[0] != _PRINTABLE_STRING or _PRINTABLE.fullmatch(octets):
            return value
    return der.tagged(_UTF8_STRING, text.encode())


def _readable_extension(extension: bytes) -> bytes:
    kind, *critical, value = _parts(extension)
    if kind not in _WITH_NAMES or value[0] != _OCTET_STRING:
        return extension
    names = readable_name(der.content(value))
    return der.tagged(extension[0], kind, *critical, der.octet_string(names))


def _without_null(algorithm: bytes) -> bytes:
    kind, *parameters = _parts(algorithm)
    return der.tagged(algorithm[0], kind) if kind in ECDSA and parameters == [der.NULL] else algorithm


def _parts(value: bytes) -> list[bytes]:
    """Give the parts of a value that is written in DER: what is made of them anew differs by what was changed only."""
    parts: Sequence[bytes] = [*der.parts(value)]
    if der.tagged(value[0], *parts) != value[: der.length(value)]:
        raise ValueError("a length is not written in DER")
    return [*parts]
