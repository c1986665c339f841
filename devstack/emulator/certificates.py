"""What the services do with certificates: read them, name them by thumbprint, and climb a chain to a CA they trust."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_MAX_PATH = 8
_MAX_WRAPPINGS = 3


class ChainRefused(ValueError):
    """A certificate, or the chain above it, is no proof; the text names the certificate and the cause."""


class NoTrustedAuthority(ChainRefused):
    """The chain ends below any CA that is trusted."""


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
        ValueError: it is none of these.
    """
    content = text.encode()
    for _ in range(_MAX_WRAPPINGS):
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificate(content)
        try:
            content = base64.b64decode(b"".join(content.split()), validate=True)
        except binascii.Error:
            break
    if content == text.encode():
        raise ValueError("it is neither PEM nor base64")
    return x509.load_der_x509_certificate(content)


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


def common_names(certificate: x509.Certificate) -> list[str]:
    """Give every CN of the subject."""
    return [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def check_leaf(leaf: x509.Certificate, name: str, now: datetime) -> None:
    """See that a device's own certificate carries its name, in either case of letters, and is valid now.

    Raises:
        ChainRefused: it is not.
    """
    found = common_names(leaf)
    if [each.lower() for each in found] != [name.lower()]:
        raise ChainRefused(f"the leaf's CN is {found}, the device {name!r}")
    check_life(leaf, now)


def check_life(certificate: x509.Certificate, now: datetime) -> None:
    """See that a certificate is valid now.

    Raises:
        ChainRefused: it is not.
    """
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now <= end:
        raise ChainRefused(
            f"{certificate.subject.rfc4514_string()} is valid from {_utc(start)} to {_utc(end)}, not now"
        )


def climb(
    chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], now: datetime
) -> list[x509.Certificate]:
    """Climb from a leaf, over certificates that its holder sent, to a trusted CA.

    Args:
        chain: as the device sent it, leaf first, the rest in any order.
        trusted: CA certificates whose key's possession was proved to the service.
        now: the present time, UTC.

    Returns:
        The path, leaf first, trusted CA last.

    Raises:
        ChainRefused: a CA on the way is expired or may not sign here.
        NoTrustedAuthority: no trusted CA is reached.
    """
    path = [chain[0]]
    while len(path) <= _MAX_PATH:
        current = path[-1]
        if len(path) > 1:
            _check_authority(current, len(path) - 2, now)
            if current in trusted:
                return path
        upper = next((each for each in (*trusted, *chain[1:]) if each not in path and is_signed(current, each)), None)
        if upper is None:
            break
        path.append(upper)
    missing = path[-1].issuer.rfc4514_string()
    raise NoTrustedAuthority(f"no verified CA is reached; {missing} is missing")


def _check_authority(certificate: x509.Certificate, below: int, now: datetime) -> None:
    check_life(certificate, now)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
    too_long = constraints.path_length is not None and below > constraints.path_length
    if not constraints.ca or too_long:
        raise ChainRefused(f"{certificate.subject.rfc4514_string()} may not sign here")


def is_signed(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Tell whether one certificate was signed by another's key and names it as its issuer."""
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
