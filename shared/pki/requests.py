"""PKCS#10 certificate signing requests (RFC 2986): the key of a device that made its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from shared.errors import Rejected
from shared.pki.signing_keys import UnsupportedKey, algorithm_of

if TYPE_CHECKING:
    from shared.pki.signing_keys import PublicKey

SIZE_LIMIT = 16_384
"""Bytes: an RSA-4096 request has about 1,700."""

_LEAST_RSA_BITS = 2048


def requested_key(request: str, *, registration_id: str, field: str = "csr") -> PublicKey:
    """Check a signing request, and take its key.

    Nothing else is taken from it: subject and extensions come from the profile and the order.

    Args:
        request: in PEM.
        registration_id: of the device, in canonical form; the CN must be the same, in upper or lower case.
        field: path of the request, for messages.

    Raises:
        Rejected: it can't be parsed, its signature is wrong (so possession of the key is not proved), its key is weak
            or of an unknown kind, it names another device, or asks for what a device does not get.
    """
    if len(request) > SIZE_LIMIT:
        raise Rejected.because(f"the CSR has {len(request)} characters; at most {SIZE_LIMIT} are read", field=field)
    try:
        parsed = x509.load_pem_x509_csr(request.encode())
        public_key = parsed.public_key()
        signed = parsed.is_signature_valid
        names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        extensions = parsed.extensions
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.DuplicateExtension) as error:
        raise Rejected.because(
            f"the CSR can't be read as PKCS#10 in PEM: {_first_line(error)}; it begins with "
            "'-----BEGIN CERTIFICATE REQUEST-----'",
            field=field,
        ) from None
    if not signed:
        raise Rejected.because("the CSR's signature is wrong, so it does not prove possession of its key", field=field)
    _check_names([str(name.value) for name in names], registration_id, field)
    _check_extensions(extensions, registration_id, field)
    return _checked_key(public_key, field)


def _check_names(found: list[str], registration_id: str, field: str) -> None:
    if len(found) != 1:
        raise Rejected.because(
            f"the CSR has {len(found)} CNs; it must have one, the registration id {registration_id!r}", field=field
        )
    if found[0].lower() != registration_id:
        raise Rejected.because(
            f"the CSR's CN is {found[0]!r}, and the registration id is {registration_id!r}; they must be the same",
            field=field,
        )


def _check_extensions(extensions: x509.Extensions, registration_id: str, field: str) -> None:
    """Refuse what asks for more than a device gets, rather than leave it out without a word."""
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            raise Rejected.because("the CSR asks for a CA certificate (CA:TRUE); a device is none", field=field)
        if isinstance(value, x509.SubjectAlternativeName):
            others = [str(name.value) for name in value if str(name.value).lower() != registration_id]
            if others:
                raise Rejected.because(
                    f"the CSR asks for other names ({', '.join(others)[:200]}); a device gets its registration id only",
                    field=field,
                )
        if isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign):
            raise Rejected.because(
                "the CSR asks for the key usage of a CA; a device gets digitalSignature", field=field
            )


def _checked_key(public_key: object, field: str) -> PublicKey:
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size < _LEAST_RSA_BITS:
        raise Rejected.because(
            f"the CSR's RSA key has {public_key.key_size} bits; at least {_LEAST_RSA_BITS} are needed", field=field
        )
    try:
        algorithm_of(public_key)
    except UnsupportedKey as error:
        raise Rejected.because(f"the CSR's key can't be used: {error}", field=field) from None
    return public_key  # type: ignore[return-value]  # algorithm_of knows these two kinds only


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
