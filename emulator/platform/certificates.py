"""How the services read certificates, name and describe them."""

from __future__ import annotations

import base64
import binascii
import re
from ssl import PEM_cert_to_DER_cert
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes

from emulator.protocols import odd_certificates

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

_MAX_WRAPPINGS = 3
_BLOCK = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def sha256_thumbprint(certificate: x509.Certificate) -> str:
    """Give the thumbprint as the services write it: upper-case hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex().upper()


def sha1_thumbprint(certificate: x509.Certificate) -> str:
    """Give the thumbprint that IoT Hub knows a device by."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - the service's own name for it


def read_certificate(text: str) -> x509.Certificate:
    """Read the first certificate of what clients send: PEM, or DER or PEM in base64, once or more often.

    Twice it is in what the ``az iot dps certificate create`` of azure-cli uploads: the text of the file's base64 is
    bytes to the management SDK, which writes bytes as base64.

    Raises:
        ValueError: it is not one of these.
    """
    content = text.encode()
    for _ in range(_MAX_WRAPPINGS):
        if b"-----BEGIN" in content:
            return odd_certificates.load(PEM_cert_to_DER_cert(_first_block(content)))
        try:
            content = base64.b64decode(b"".join(content.split()), validate=True)
        except binascii.Error:
            break
    if content == text.encode():
        raise ValueError("it is neither PEM nor base64")
    return odd_certificates.load(content)


def _first_block(content: bytes) -> str:
    found = _BLOCK.search(content.decode("latin-1"))
    if found is None:
        raise ValueError("it has no certificate in PEM")
    return found[0]


def certificate_info(certificate: x509.Certificate) -> dict[str, Any]:
    """Describe a certificate as DPS does (``X509CertificateInfo``)."""
    return {
        "subjectName": certificate.subject.rfc4514_string(),
        "sha1Thumbprint": sha1_thumbprint(certificate),
        "sha256Thumbprint": sha256_thumbprint(certificate),
        "issuerName": certificate.issuer.rfc4514_string(),
        "notBeforeUtc": _utc(certificate.not_valid_before_utc),
        "notAfterUtc": _utc(certificate.not_valid_after_utc),
        "serialNumber": f"{certificate.serial_number:X}",
        "version": certificate.version.value + 1,
    }


def _utc(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
