"""PKCS#10 certificate signing requests (RFC 2986): the key of a device that made its own."""

from __future__ import annotations

import base64
import binascii
from itertools import islice
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from shared.errors import Rejected
from shared.pki import der, names
from shared.pki.certificates import BROKEN_HASHES, UNREADABLE
from shared.pki.signing_keys import UnsupportedKey, algorithm_of
from shared.registration_ids import same_registration_id

if TYPE_CHECKING:
    from shared.pki.signing_keys import PublicKey

SIZE_LIMIT = 16_384
"""Bytes: an RSA-4096 request has about 1,700."""

_LEAST_RSA_BITS = 2048
_EXTENSION_REQUESTS = frozenset(
    map(der.object_identifier, ("1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"))  # RFC 2985, and Microsoft's
)
_OWNERS = frozenset(
    {
        NameOID.COUNTRY_NAME,
        NameOID.STATE_OR_PROVINCE_NAME,
        NameOID.LOCALITY_NAME,
        NameOID.ORGANIZATION_NAME,
        NameOID.ORGANIZATIONAL_UNIT_NAME,
    }
)
"""What a subject says of a device's owner."""

_ARMOUR = b"-----BEGIN "
_SEQUENCE = b"\x30"
"""First octet of a request in DER. Base64 of one begins with M."""


def requested_key(request: str | bytes, *, registration_id: str, field: str = "csr") -> PublicKey:
    """Check a signing request, and take its key: subject and extensions come from the profile and the order.

    Args and errors are those of :func:`parse_signing_request`.
    """
    return _public_key(parse_signing_request(request, registration_id=registration_id, field=field))


def parse_signing_request(
    request: str | bytes, *, registration_id: str, field: str = "csr"
) -> x509.CertificateSigningRequest:
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
        raise Rejected.because("there is a private key beside the CSR; it must stay in the device", field=field)
    try:
        parsed = _loaded(encoded)
        # cryptography decodes these when they are asked for, so that damage shows here.
        public_key, extensions, digest = parsed.public_key(), parsed.extensions, parsed.signature_hash_algorithm
        signed = parsed.is_signature_valid
        subject, asked = [*parsed.subject], _extension_requests(parsed)
    except UNREADABLE as error:
        raise Rejected.because(_unreadable(encoded, error), field=field) from None
    if digest is not None and digest.name in BROKEN_HASHES:
        raise Rejected.because(f"the CSR is signed with {digest.name.upper()}; use SHA-256 or SHA-384", field=field)
    if not signed:
        raise Rejected.because("the CSR's signature is wrong, so it does not prove possession of its key", field=field)
    if asked > 1:
        raise Rejected.because(
            f"the CSR has {asked} attributes that ask for extensions; it may have one (RFC 2985 section 5.4.2)",
            field=field,
        )
    _check_subject(subject, registration_id, field)
    _check_extensions(extensions, registration_id, field)
    _check_key(public_key, field)
    return parsed


def _loaded(encoded: bytes) -> x509.CertificateSigningRequest:
    if _ARMOUR in encoded:
        if encoded.count(_ARMOUR) > 1:
            raise ValueError(f"{encoded.count(_ARMOUR)} PEM blocks are there instead of one")
        return x509.load_pem_x509_csr(encoded)
    if encoded[:1] == _SEQUENCE:
        return x509.load_der_x509_csr(encoded)
    try:
        der = base64.b64decode(b"".join(encoded.split()), validate=True)
    except binascii.Error:
        raise ValueError("it has characters or a length that base64 has not") from None
    return x509.load_der_x509_csr(der)


def _unreadable(encoded: bytes, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    begin = "'-----BEGIN CERTIFICATE REQUEST-----'"
    if _ARMOUR in encoded:
        return f"the CSR can't be read as PKCS#10 in PEM: {reason}; it begins with {begin}"
    return f"the CSR is no PEM (which begins with {begin}), and can't be read as DER or base64 either: {reason}"


def _extension_requests(request: x509.CertificateSigningRequest) -> int:
    """Count the attributes that ask for extensions: cryptography reads the first, whoever signs might read another."""
    attributes = next(islice(der.parts(request.tbs_certrequest_bytes), 3, None), None)
    kinds = [next(der.parts(each), b"") for each in der.parts(attributes)] if attributes else []
    return sum(kind in _EXTENSION_REQUESTS for kind in kinds)


def _check_subject(subject: list[x509.NameAttribute[str | bytes]], registration_id: str, field: str) -> None:
    found = [str(each.value) for each in subject if each.oid == NameOID.COMMON_NAME]
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
            f"{each.rfc4514_attribute_name}={names.shown(str(each.value))}"
            for each in subject
            if each.oid not in _OWNERS and not same_registration_id(str(each.value), registration_id)
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
            raise Rejected.because("the CSR asks for a CA certificate (CA:TRUE); a device is none", field=field)
        if isinstance(value, x509.SubjectAlternativeName):
            _refuse_others([repr(name.value) for name in value if not _names_device(name, registration_id)], field)
        if isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign):
            raise Rejected.because(
                "the CSR asks for the key usage of a CA; a device gets digitalSignature", field=field
            )


def _names_device(name: x509.GeneralName, registration_id: str) -> bool:
    return isinstance(name.value, str) and same_registration_id(name.value, registration_id)


def _check_key(public_key: object, field: str) -> None:
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size < _LEAST_RSA_BITS:
        raise Rejected.because(
            f"the CSR's RSA key has {public_key.key_size} bits; at least {_LEAST_RSA_BITS} are needed", field=field
        )
    try:
        algorithm_of(public_key)
    except UnsupportedKey as error:
        raise Rejected.because(f"the CSR's key can't be used: {error}", field=field) from None


def _public_key(request: x509.CertificateSigningRequest) -> PublicKey:
    return request.public_key()  # type: ignore[return-value]  # only these two kinds pass _check_key
