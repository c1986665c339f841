"""PKCS#10 certificate signing requests (RFC 2986): the key of a device that made its own.

Firmware writes requests of all sorts, and only the key is taken from them. So what does no harm is read as OpenSSL
reads it, though cryptography does not: no attributes, another version, NULL parameters with ECDSA, Latin-1 in a name.
"""

from __future__ import annotations

import base64
import binascii
from codecs import BOM_UTF8
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PSS, PKCS1v15
from cryptography.x509.oid import NameOID

from shared.errors import Rejected
from shared.pki import der, names
from shared.pki.certificates import BROKEN_HASHES, UNREADABLE
from shared.pki.damage import extension_fault
from shared.pki.public_keys import check_public_key, why_unreadable
from shared.pki.signing_keys import UnsupportedKey
from shared.reading import pem as pem_text
from shared.rules.registration_ids import same_registration_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.pki.signing_keys import PublicKey

SIZE_LIMIT = 16_384
"""Bytes: an RSA-4096 request has about 1,700."""

_LEAST_RSA_BITS = 2048
_EXTENSION_REQUESTS = frozenset(
    map(der.object_identifier, ("1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"))  # RFC 2985, and Microsoft's
)
_OWNERS = frozenset(
    each.dotted_string
    for each in (
        NameOID.COUNTRY_NAME,
        NameOID.STATE_OR_PROVINCE_NAME,
        NameOID.LOCALITY_NAME,
        NameOID.ORGANIZATION_NAME,
        NameOID.ORGANIZATIONAL_UNIT_NAME,
    )
)
"""What a subject says of a device's owner."""

_ECDSA = frozenset(map(der.object_identifier, (f"1.2.840.10045.4.3.{number}" for number in (1, 2, 3, 4))))
_COMMON_NAME = NameOID.COMMON_NAME.dotted_string
_ARMOUR = b"-----BEGIN "
_LABELS = frozenset({"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"})
_INTEGER, _BIT_STRING, _SEQUENCE, _SET, _ATTRIBUTES, _EXPLICIT_VERSION = 0x02, 0x03, 0x30, 0x31, 0xA0, 0xA0
_BEGIN = "'-----BEGIN CERTIFICATE REQUEST-----'"


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """What a request says, its signature verified.

    Attributes:
        public_key: possession of whose private half is proved.
        subject: its attributes in their order, each with its identifier and value.
        extensions: those that it asks for.
    """

    public_key: PublicKey
    subject: tuple[tuple[str, str], ...]
    extensions: x509.Extensions


def requested_key(request: str | bytes, *, registration_id: str, field: str = "csr") -> PublicKey:
    """Check a signing request, and take its key: subject and extensions come from the profile and the order.

    Args and errors are those of :func:`parse_signing_request`.
    """
    return parse_signing_request(request, registration_id=registration_id, field=field).public_key


def parse_signing_request(request: str | bytes, *, registration_id: str, field: str = "csr") -> SigningRequest:
    """Read a signing request, and check that a device of this id may have a certificate for it.

    Usages that it asks for beyond the profile's are not granted and do no harm; a CA's are refused. So is every name
    that is not the device's, in the subject and in the alternative names. Country, state, locality, organization and
    unit are left out without a word: they say whose a device is and not which, and tools such as ``openssl req`` write
    them by default, often where the device's maker can't change it.

    Args:
        request: PEM, DER, or DER in base64 without armour.
        registration_id: of the device, in canonical form; the CN must be the same, in upper or lower case.
        field: path of the request, for messages.

    Raises:
        Rejected: it can't be parsed, its signature is wrong or weak (so possession of the key is not proved), its key
            is weak or of an unknown kind, it names another device, or asks for what a device does not get.
    """
    encoded = request.encode(errors="replace") if isinstance(request, str) else request
    if len(encoded) > SIZE_LIMIT:
        raise Rejected.because(f"the CSR has {len(encoded)} bytes; at most {SIZE_LIMIT} are read", field=field)
    if b"PRIVATE KEY-----" in encoded:
        raise Rejected.because("a private key comes with the CSR; it must stay in the device", field=field)
    try:
        read = _read(_octets(encoded, field))
    except _Refused as refusal:
        raise Rejected.because(str(refusal), field=field) from None
    except ValueError:
        raise Rejected.because(str(_not_pkcs10("it is damaged")), field=field) from None
    _check_subject(read.subject, registration_id, field)
    _check_extensions(read.extensions, registration_id, field)
    return read


class _Refused(ValueError):
    """A request is not taken; the message says why."""


def _octets(encoded: bytes, field: str) -> bytes:
    if _ARMOUR in encoded:
        return _out_of_pem(encoded, field)
    if encoded[:1] == b"\x30":  # base64 of one begins with M
        return encoded
    try:
        return base64.b64decode(b"".join(encoded.removeprefix(BOM_UTF8).split()), validate=True)
    except binascii.Error:
        raise _Refused(
            f"the CSR is not PEM (which begins with {_BEGIN}), and not DER or base64 either: it has characters or a "
            "length that base64 has not"
        ) from None


def _out_of_pem(encoded: bytes, field: str) -> bytes:
    found = pem_text.without_parameters(pem_text.blocks(encoded.decode(errors="replace"), field=field))
    if len(found) != 1:
        raise _Refused(f"there are {len(found)} PEM blocks; one whole CSR, which begins with {_BEGIN}, is right")
    if found[0].label not in _LABELS:
        raise _Refused(f"the PEM is {found[0].label} and not a CSR, which begins with {_BEGIN}")
    return found[0].content


def _not_pkcs10(what: str) -> _Refused:
    return _Refused(f"the CSR is not PKCS#10 in DER (RFC 2986): {what}")


def _read(encoded: bytes) -> SigningRequest:
    """Read a request in DER, and verify its signature."""
    info, algorithm, signature = _outer_parts(encoded)
    version, subject, key_info, *attributes = _inner_parts(info)
    if version[0] != _INTEGER:
        raise _not_pkcs10("its first part is not a version")
    asking = _extension_request(attributes)
    twin = _twin(key_info, asking, algorithm, signature)
    key = _key(twin, key_info)
    _verify(twin, key, info)
    return SigningRequest(key, tuple(_attributes(subject)), _extensions(twin, asking))


def _outer_parts(encoded: bytes) -> Sequence[bytes]:
    try:
        parts = [*der.parts(encoded)]
        behind = len(encoded) - der.length(encoded)
    except (ValueError, IndexError):
        raise _not_pkcs10("it is cut off, damaged, or of indefinite length (BER)") from None
    if behind:
        raise _not_pkcs10(f"{behind} octets follow it; send it without them")
    if encoded[0] != _SEQUENCE or [part[0] for part in parts] != [_SEQUENCE, _SEQUENCE, _BIT_STRING]:
        raise _not_pkcs10("it is not a sequence of what is asked for, an algorithm and a signature")
    if der.content(parts[2])[:1] != b"\0":
        raise _not_pkcs10("its signature is not of whole octets (the bit string has unused bits)")
    return parts


def _inner_parts(info: bytes) -> Sequence[bytes]:
    try:
        parts = [*der.parts(info)]
    except ValueError:
        raise _not_pkcs10("what it asks for is damaged") from None
    if parts and parts[0][0] == _EXPLICIT_VERSION:
        raise _not_pkcs10("it is a certificate; give the request that it was issued for")
    if [part[0] for part in parts[1:3]] != [_SEQUENCE, _SEQUENCE] or any(part[0] != _ATTRIBUTES for part in parts[3:]):
        raise _not_pkcs10("it is not a version, a subject, a public key and attributes")
    return parts


def _extension_request(attributes: Sequence[bytes]) -> bytes:
    """Give the attribute that asks for extensions, if there is one; all others do no harm, whatever they are."""
    try:
        each = [part for whole in attributes for part in der.parts(whole)]
        asking = [part for part in each if next(der.parts(part), b"") in _EXTENSION_REQUESTS]
        wishes = [[*der.parts(value)] for part in asking for value in islice(der.parts(part), 1, None)]
    except ValueError:
        raise _not_pkcs10("its attributes are damaged") from None
    if len(asking) > 1:
        raise _Refused(
            f"the CSR has {len(asking)} attributes that ask for extensions; it may have one (RFC 2985 section 5.4.2)"
        )
    return asking[0] if any(wishes) else b""


def _twin(key_info: bytes, asking: bytes, algorithm: bytes, signature: bytes) -> x509.CertificateSigningRequest:
    """Write what matters as cryptography reads it; the signature is verified over what was sent."""
    kind = next(der.parts(algorithm), b"")
    if kind in _ECDSA:
        algorithm = der.sequence(kind)  # without the NULL that Java wrote before 16 (RFC 5758 section 3.2)
    info = der.sequence(der.integer(0), der.sequence(), key_info, der.tagged(_ATTRIBUTES, asking))
    try:
        return x509.load_der_x509_csr(der.sequence(info, algorithm, signature))
    except UNREADABLE:
        raise _not_pkcs10("its public key, its algorithm or the extensions that it asks for are damaged") from None


def _key(twin: x509.CertificateSigningRequest, key_info: bytes) -> PublicKey:
    try:
        key = twin.public_key()
    except UNREADABLE:
        raise _Refused(f"the CSR's key can't be used: {why_unreadable(key_info)}") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        raise _Refused(f"the CSR's RSA key has {key.key_size} bits; at least {_LEAST_RSA_BITS} are needed")
    try:
        return check_public_key(key)
    except UnsupportedKey as error:
        raise _Refused(f"the CSR's key can't be used: {error}") from None


def _verify(twin: x509.CertificateSigningRequest, key: PublicKey, info: bytes) -> None:
    try:
        digest, parameters = twin.signature_hash_algorithm, twin.signature_algorithm_parameters
    except UNREADABLE:
        raise _Refused("the CSR is signed with an algorithm that is not known; use SHA-256 or SHA-384") from None
    if digest is not None and digest.name in BROKEN_HASHES:
        raise _Refused(f"the CSR is signed with {digest.name.upper()}; use SHA-256 or SHA-384")
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.ECDSA):
            key.verify(twin.signature, info, parameters)
        elif isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, PKCS1v15 | PSS) and digest is not None:
            key.verify(twin.signature, info, parameters, digest)
        else:
            raise InvalidSignature
    except UNREADABLE:
        negative = isinstance(key, ec.EllipticCurvePublicKey) and _has_negative_numbers(twin.signature)
        why = ": a number in it is negative, which misses its leading zero octet" if negative else ""
        raise _Refused(f"the CSR's signature is wrong{why}, so it does not prove possession of its key") from None


def _has_negative_numbers(signature: bytes) -> bool:
    """Tell whether r or s was written without the zero octet that makes a number with the top bit set positive."""
    try:
        return any(part[0] == _INTEGER and der.content(part)[:1] >= b"\x80" for part in der.parts(signature))
    except (ValueError, IndexError):
        return False


def _attributes(subject: bytes) -> Iterator[tuple[str, str]]:
    try:
        for rdn in der.parts(subject):
            for attribute in der.parts(rdn):
                kind, value = der.parts(attribute)
                yield der.dotted(kind), names.text_of(value)
    except ValueError:
        raise _not_pkcs10("its subject is damaged") from None


def _extensions(twin: x509.CertificateSigningRequest, asking: bytes) -> x509.Extensions:
    try:
        return twin.extensions
    except UNREADABLE:
        fault = extension_fault(_wishes(asking))
        raise _Refused(f"the CSR asks for extensions that can't be read: {fault or 'they are damaged'}") from None


def _wishes(asking: bytes) -> bytes:
    _, values, *_ = der.parts(asking)
    (listed,) = der.parts(values)
    return listed


def _check_subject(subject: Sequence[tuple[str, str]], registration_id: str, field: str) -> None:
    found = [value for kind, value in subject if kind == _COMMON_NAME]
    if len(found) != 1:
        raise Rejected.because(
            f"the CSR has {len(found)} CNs; it must have one, the registration id {registration_id!r}", field=field
        )
    if not same_registration_id(found[0], registration_id):
        raise Rejected.because(
            f"the CSR's CN is {names.shown(found[0])}, and the registration id is {registration_id!r}; they must be "
            "the same",
            field=field,
        )
    _refuse_others(
        [
            f"{names.short_kind(kind)}={names.shown(value)}"
            for kind, value in subject
            if kind not in _OWNERS and not same_registration_id(value, registration_id)
        ],
        field,
    )


def _refuse_others(others: list[str], field: str) -> None:
    if others:
        raise Rejected.because(
            f"the CSR asks for other names ({', '.join(others)[:200]}); a device gets its registration id only",
            field=field,
        )


def _check_extensions(extensions: x509.Extensions, registration_id: str, field: str) -> None:
    """Refuse what asks for more than a device gets, rather than leave it out without a word."""
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            raise Rejected.because("the CSR asks for a CA certificate (CA:TRUE); a device is not a CA", field=field)
        if isinstance(value, x509.SubjectAlternativeName):
            _refuse_others([repr(name.value) for name in value if not _names_device(name, registration_id)], field)
        if isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign):
            raise Rejected.because(
                "the CSR asks for the key usage of a CA; a device gets digitalSignature", field=field
            )


def _names_device(name: x509.GeneralName, registration_id: str) -> bool:
    return isinstance(name.value, str) and same_registration_id(name.value, registration_id)
