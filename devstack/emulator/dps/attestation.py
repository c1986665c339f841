"""Whether DPS lets a device in: a pure decision over the chain it sent and what the service knows.

Order and rules: Microsoft, "X.509 certificate attestation" (chain, verified CA, CN = registration id) and "How to
disenroll or revoke a device" (individual enrollment first, then the group of the lowest CA, the first found decides).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from devstack.emulator.dps import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

_MAX_PATH = 8


@dataclass(frozen=True, slots=True)
class KnownAuthority:
    """A CA certificate of the service whose key's possession was proved."""

    name: str
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the service decides by.

    Attributes:
        enrollment: the individual enrollment of the registration id, if there is one.
        groups: all enrollment groups.
        verified: the verified CA certificates.
    """

    enrollment: Mapping[str, Any] | None
    groups: Sequence[Mapping[str, Any]]
    verified: Sequence[KnownAuthority]


@dataclass(frozen=True, slots=True)
class Match:
    """The entry that lets the device in.

    Attributes:
        entry: the individual enrollment or enrollment group.
        group_id: ``None`` for an individual enrollment.
    """

    entry: Mapping[str, Any]
    group_id: str | None


def decide(chain: Sequence[x509.Certificate], registration_id: str, known: Knowledge, now: datetime) -> Match:
    """Find the entry that decides about a device.

    Args:
        chain: as the device sent it, leaf first; TLS has proved possession of the leaf's key.
        registration_id: what it registers as.
        known: what the service knows.
        now: the present time, UTC.

    Raises:
        ProvisioningError: the device is not let in.
    """
    if not chain:
        raise errors.unauthorized(errors.INVALID_CERTIFICATE, hint="the device sent no certificate")
    _check_leaf(chain[0], registration_id, now)
    if known.enrollment is not None:
        return _individual(chain[0], known.enrollment)
    path = _path(chain, [authority.certificate for authority in known.verified], now)
    return _group(path, known)


def _check_leaf(leaf: x509.Certificate, registration_id: str, now: datetime) -> None:
    names = [str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1 or names[0].lower() != registration_id.lower():
        raise errors.unauthorized(
            errors.INVALID_CERTIFICATE, hint=f"the leaf's CN is {names}, the registration id {registration_id!r}"
        )
    _check_life(leaf, now)


def _check_life(certificate: x509.Certificate, now: datetime) -> None:
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise errors.unauthorized(
            errors.INVALID_CERTIFICATE, hint=f"{certificate.subject.rfc4514_string()} is expired or not yet valid"
        )


def _individual(leaf: x509.Certificate, enrollment: Mapping[str, Any]) -> Match:
    if enrollment.get("provisioningStatus") == "disabled":
        raise errors.unauthorized(errors.DISABLED, hint="the individual enrollment is disabled")
    accepted = enrollment["attestation"]["x509"].get("clientCertificates") or {}
    if sha256_thumbprint(leaf) not in thumbprints(accepted):
        raise errors.unauthorized(errors.INVALID_CERTIFICATE, hint="the individual enrollment has another certificate")
    return Match(enrollment, None)


def _path(
    chain: Sequence[x509.Certificate], verified: Sequence[x509.Certificate], now: datetime
) -> list[x509.Certificate]:
    """Climb from the leaf to a verified CA, over certificates that the device sent."""
    path = [chain[0]]
    while len(path) <= _MAX_PATH:
        current = path[-1]
        if len(path) > 1:
            _check_authority(current, len(path) - 2, now)
            if current in verified:
                return path
        upper = next((each for each in (*verified, *chain[1:]) if each not in path and _signed(current, each)), None)
        if upper is None:
            break
        path.append(upper)
    missing = path[-1].issuer.rfc4514_string()
    raise errors.unauthorized(errors.CA_NOT_FOUND, hint=f"no verified CA is reached; {missing} is missing")


def _check_authority(certificate: x509.Certificate, below: int, now: datetime) -> None:
    _check_life(certificate, now)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
    too_long = constraints.path_length is not None and below > constraints.path_length
    if not constraints.ca or too_long:
        raise errors.unauthorized(
            errors.INVALID_CERTIFICATE, hint=f"{certificate.subject.rfc4514_string()} may not sign here"
        )


def _group(path: Sequence[x509.Certificate], known: Knowledge) -> Match:
    by_name = {authority.name: authority.certificate for authority in known.verified}
    for authority in path[1:]:
        thumbprint = sha256_thumbprint(authority)
        for group in known.groups:
            if thumbprint not in _signers(group, by_name):
                continue
            if group.get("provisioningStatus") == "disabled":
                raise errors.unauthorized(errors.DISABLED, hint=f"group {group['enrollmentGroupId']} is disabled")
            return Match(group, group["enrollmentGroupId"])
    raise errors.unauthorized(errors.NO_MATCH, hint="no enrollment group has a certificate of this chain")


def _signers(group: Mapping[str, Any], authorities: Mapping[str, x509.Certificate]) -> set[str]:
    attestation = group["attestation"]["x509"]
    references = (attestation.get("caReferences") or {}).values()
    named = {sha256_thumbprint(authorities[name]) for name in references if name in authorities}
    return named | thumbprints(attestation.get("signingCertificates") or {})


def thumbprints(certificates: Mapping[str, Any]) -> set[str]:
    """Give the SHA-256 thumbprints of a primary and a secondary certificate."""
    return {each["info"]["sha256Thumbprint"] for each in certificates.values() if each}


def sha256_thumbprint(certificate: x509.Certificate) -> str:
    """Give the thumbprint as the service writes it: upper-case hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex().upper()


def sha1_thumbprint(certificate: x509.Certificate) -> str:
    """Give the thumbprint that IoT Hub knows a device by."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - the service's own name for it


def _signed(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def read_certificates(text: str) -> list[x509.Certificate]:
    """Read certificates as clients send them: PEM, base64 of PEM, or base64 of DER.

    Raises:
        ValueError: it is none of these.
    """
    if "-----BEGIN" in text:
        return x509.load_pem_x509_certificates(text.encode())
    try:
        decoded = base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        raise ValueError("it is neither PEM nor base64") from None
    if decoded.startswith(b"-----BEGIN"):
        return x509.load_pem_x509_certificates(decoded)
    return [x509.load_der_x509_certificate(decoded)]


def certificate_info(certificate: x509.Certificate) -> dict[str, Any]:
    """Describe a certificate as the service does (``X509CertificateInfo``)."""
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


def first_of(certificates: Iterable[x509.Certificate]) -> x509.Certificate:
    """Give the first certificate of a text that may hold several."""
    return next(iter(certificates))
