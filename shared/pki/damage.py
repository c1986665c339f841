"""Why a certificate can't be read, in words: what cryptography says about it names its own types.

It is asked about what :func:`shared.pki.readable.load_certificate` has refused. Such a certificate is refused wherever
it comes in, for the same reason.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from shared.pki import der, names
from shared.pki.certificates import UNREADABLE
from shared.pki.readable import ECDSA, ONE_OCTET, load_certificate, readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_BIT_STRING, _SEQUENCE, _SET = 0x03, 0x30, 0x31
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_TIMES = {0x17: re.compile(rb"[0-9]{12}Z"), 0x18: re.compile(rb"[0-9]{14}Z")}
_STRINGS: Mapping[int, tuple[str, str]] = {
    0x0C: ("UTF8String", "utf-8"), 0x1C: ("UniversalString", "utf-32-be"), 0x1E: ("BMPString", "utf-16-be"),
}  # fmt: skip
"""String types by tag, each with how its octets are read; those of one octet a character are always read."""

_OTHER_TYPES = frozenset({*ONE_OCTET, _BIT_STRING})  # a unique identifier of X.500
_EXTENSION_NAMES = {
    oid.dotted_string: name
    for oid, name in (
        (ExtensionOID.BASIC_CONSTRAINTS, "basicConstraints"),
        (ExtensionOID.KEY_USAGE, "keyUsage"),
        (ExtensionOID.EXTENDED_KEY_USAGE, "extendedKeyUsage"),
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, "subjectAltName"),
        (ExtensionOID.ISSUER_ALTERNATIVE_NAME, "issuerAltName"),
        (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, "authorityKeyIdentifier"),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, "subjectKeyIdentifier"),
        (ExtensionOID.NAME_CONSTRAINTS, "nameConstraints"),
        (ExtensionOID.CERTIFICATE_POLICIES, "certificatePolicies"),
        (ExtensionOID.POLICY_CONSTRAINTS, "policyConstraints"),
        (ExtensionOID.INHIBIT_ANY_POLICY, "inhibitAnyPolicy"),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, "cRLDistributionPoints"),
        (ExtensionOID.AUTHORITY_INFORMATION_ACCESS, "authorityInfoAccess"),
    )
}


class UnreadableCertificate(ValueError):
    """A certificate can't be read; the message says why and begins with "it" or "its"."""


def read_certificate(encoded: bytes) -> x509.Certificate:
    """Load a certificate and decode all of it, as cryptography otherwise does when a part is asked for.

    Args:
        encoded: in DER.

    Raises:
        UnreadableCertificate: with the reason.
    """
    try:
        certificate = load_certificate(encoded)
        decode(certificate)
    except UNREADABLE:
        raise UnreadableCertificate(why_unreadable(encoded)) from None
    return certificate


def decode(certificate: x509.Certificate) -> None:
    """Decode everything; raises one of :data:`UNREADABLE`. The key is another matter: a leaf's may be of any kind."""
    _ = certificate.subject, certificate.issuer, certificate.extensions, certificate.version
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc


def why_unreadable(encoded: bytes) -> str:
    """Say why a certificate, in DER, can't be read."""
    with suppress(ValueError, IndexError):
        encoded = readable(encoded)  # what has such a twin is at fault for something else
    try:
        return next(_faults(encoded), "it is not X.509 in DER (RFC 5280 section 4.1)")
    except (ValueError, IndexError):
        return "it is not X.509 in DER: it is cut off, damaged, or of indefinite length (BER)"


def _faults(encoded: bytes) -> Iterator[str]:
    behind = len(encoded) - der.length(encoded)
    parts = [*der.parts(encoded)]
    if [part[0] for part in parts] != [_SEQUENCE, _SEQUENCE, _BIT_STRING]:
        yield "it is not X.509 in DER: a certificate is a sequence of what is signed, an algorithm and a signature"
        return
    if behind:
        yield f"{behind} octets follow it; send it without them"
    fields = [*der.parts(parts[0])]
    if fields[0][0] == _VERSION:
        number = int.from_bytes(der.content(fields.pop(0), 0), "big", signed=True)
        if number not in {0, 2}:
            yield f"its version is {names.number(number + 1)}; 3 is right, and 1 for an old root"
    yield from _field_faults(fields)
    for algorithm in (fields[1], parts[1]):
        kind, *parameters = der.parts(algorithm)
        if kind in ECDSA and parameters:
            yield "its signature's algorithm, ECDSA, has parameters, which RFC 5758 section 3.2 forbids"


def _field_faults(fields: Sequence[bytes]) -> Iterator[str]:
    number = der.content(fields[0])
    if not number or (len(number) > 1 and number[0] in {0, 0xFF} and (number[0] ^ number[1]) < 0x80):  # noqa: PLR2004 - the sign
        yield "its serial number is not in DER: it is empty, or begins with needless octets"
    for whose, name in (("issuer", fields[2]), ("subject", fields[4])):
        yield from (f"its {whose}'s {fault}" for fault in _name_faults(name))
    for which, at in zip(("notBefore", "notAfter"), der.parts(fields[3]), strict=False):
        if not _is_time(at):
            yield f"its {which} is not a time in UTC to the second (RFC 5280 section 4.1.2.5)"
    for listed in (part for field in fields[6:] if field[0] == _EXTENSIONS for part in der.parts(field)):
        fault = extension_fault(listed)
        if fault:
            yield f"its extension {fault}"


def _name_faults(name: bytes) -> Iterator[str]:
    for rdn in der.parts(name):
        for attribute in der.parts(rdn):
            kind, value = der.parts(attribute)
            fault = _string_fault(value)
            if fault:
                yield f"{names.short_kind(der.dotted(kind))} {fault}"


def _string_fault(value: bytes) -> str:
    if value[0] in _OTHER_TYPES:
        return ""
    if value[0] not in _STRINGS:
        return f"is of the string type {value[0]}, which names do not have; UTF8String is right"
    name, encoding = _STRINGS[value[0]]
    try:
        der.content(value).decode(encoding)
    except UnicodeDecodeError:
        latin = der.content(value).decode("latin-1")
        looks = f"; it looks like Latin-1 ({names.shown(latin)})" if name == "UTF8String" else ""
        return f"is a {name} and not written as one{looks}: have it issued anew with UTF8String"
    return ""


def _is_time(value: bytes) -> bool:
    form = _TIMES.get(value[0])
    text = der.content(value)
    if form is None or not form.fullmatch(text):
        return False
    digits = text[:-1].decode()
    try:
        datetime.strptime(digits if len(digits) > 12 else f"20{digits}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)  # noqa: PLR2004
    except ValueError:
        return False
    return True


def extension_name(kind: bytes) -> str:
    """Name a kind of extension, given as an OBJECT IDENTIFIER in DER.

    Raises:
        ValueError: it is not valid.
    """
    dotted = der.dotted(kind)
    return f"{_EXTENSION_NAMES[dotted]} ({dotted})" if dotted in _EXTENSION_NAMES else dotted


def is_readable_extension(extension: bytes) -> bool:
    """Tell whether cryptography reads an extension, in DER, in a certificate that holds nothing else."""
    try:
        _ = [*x509.load_der_x509_certificate(holding(extension)).extensions]
    except UNREADABLE:
        return False
    return True


def holding(*extensions: bytes) -> bytes:
    """Write a certificate of nobody, for nothing, without a signature, that has these extensions."""
    nobody, ever = der.sequence(), der.sequence(*[der.time(datetime(2000, 1, 1, tzinfo=UTC))] * 2)
    algorithm = der.sequence(der.object_identifier("1.2.3"))
    key = der.sequence(algorithm, der.bit_string(b""))
    listed = der.explicit(3, der.sequence(*extensions))
    version = der.explicit(0, der.integer(2))
    content = der.sequence(version, der.integer(1), algorithm, nobody, ever, nobody, key, listed)
    return der.sequence(content, algorithm, der.bit_string(b""))


def extension_fault(listed: bytes) -> str:
    """Name the first of a SEQUENCE of extensions that is damaged, or there twice; empty if all are whole.

    Raises:
        ValueError: it is not such a sequence.
    """
    seen = set[bytes]()
    for extension in der.parts(listed):
        kind = next(der.parts(extension), b"")
        if kind in seen:
            return f"{extension_name(kind)} is there twice"
        if not is_readable_extension(extension):
            return f"{extension_name(kind)} is damaged, or of a form that is not supported"
        seen.add(kind)
    return ""
