"""How an entry of DPS attests a device (DPS: ``attestation``): by certificates of CAs, by their names, or by its own.

Bodies are the service's own JSON (api-version 2021-10-01).
"""

from __future__ import annotations

import re
from base64 import b64decode
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.pki import names
from shared.pki.certificates import UNREADABLE
from shared.pki.readable import load_certificate, load_certificates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography import x509

_CN = re.compile(r"(?:^|,)\s*CN=([^,]+)", re.IGNORECASE)

type Entry = dict[str, Any]
"""An enrollment group or an individual enrollment, in the service's own JSON."""


def x509_attestation(primary: x509.Certificate, secondary: x509.Certificate | None = None) -> dict[str, Any]:
    """Give the attestation of a group whose devices are signed by these issuing CAs (DPS: ``signingCertificates``)."""
    certificates: Sequence[tuple[str, x509.Certificate | None]] = (("primary", primary), ("secondary", secondary))
    return {
        "type": "x509",
        "x509": {
            "signingCertificates": {
                name: {"certificate": names.pem(certificate)}
                for name, certificate in certificates
                if certificate is not None
            }
        },
    }


def reference_attestation(primary: str, secondary: str | None = None) -> dict[str, Any]:
    """Give the attestation of a group by names of CA certificates that are verified in the DPS (``caReferences``)."""
    referred = {"primary": primary, **({"secondary": secondary} if secondary else {})}
    return {"type": "x509", "x509": {"caReferences": referred}}


def leaf_attestation(primary: str, secondary: str | None = None) -> dict[str, Any]:
    """Give the attestation of one device by its own certificates in PEM (DPS: ``clientCertificates``)."""
    certificates = {"primary": primary, **({"secondary": secondary} if secondary else {})}
    return {
        "type": "x509",
        "x509": {"clientCertificates": {place: {"certificate": pem} for place, pem in certificates.items()}},
    }


def individual_enrollment(
    registration_id: str,
    present: Mapping[str, Any] | None,
    status: str,
    *certificates: x509.Certificate,
    settings: Mapping[str, Any] | None = None,
) -> Entry:
    """Give the individual enrollment of a device with these leaf certificates.

    The rest is as it is at present. A new one gets ``settings``, as the ledger has them.
    """
    new = {"registrationId": registration_id, "deviceId": registration_id, **(settings or {})}
    return {
        **(present or new),
        "attestation": leaf_attestation(*map(names.pem, certificates)),
        "provisioningStatus": status,
    }


# --- which certificates an entry accepts ---


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """A certificate of an entry: DPS may show it, or say of it no more than ``info``.

    Attributes:
        thumbprint: SHA-256, upper-case hexadecimal.
        certificate: as DPS gives it; ``None`` where it does not.
        name: its CN, or else its subject, as DPS gives it.
        issuer: the CN of its issuer, likewise.
        serial_number: 40 hexadecimal digits; noughts if DPS does not give it.
    """

    thumbprint: str
    certificate: x509.Certificate | None
    name: str
    issuer: str = ""
    serial_number: str = "0" * 40

    @classmethod
    def of(cls, held: Entry) -> HeldCertificate:
        """Read what DPS gives: ``info`` (``X509CertificateInfo`` of the service API), ``certificate``, or both."""
        info, certificate = held.get("info") or {}, certificate_of(held.get("certificate"))
        thumbprint = str(info.get("sha256Thumbprint") or "").upper()
        if not thumbprint and certificate is not None:
            thumbprint = names.sha256_thumbprint(certificate)
        subject, issuer = (str(info.get(name) or "") for name in ("subjectName", "issuerName"))
        serial_number = str(info.get("serialNumber") or "").lower()
        if certificate is not None:
            serial_number = names.serial_text(certificate.serial_number)
            issuer = issuer or certificate.issuer.rfc4514_string()
        return cls(thumbprint, certificate, _common_name(subject), _common_name(issuer), serial_number.zfill(40))


def _common_name(name: str) -> str:
    """Give the CN of a name as DPS writes it; or else all of it."""
    found = _CN.search(name)
    return found[1].strip() if found else name


def held_certificates(entry: Entry) -> dict[str, HeldCertificate]:
    """Give the certificates that an entry holds, by the SHA-256 thumbprint."""
    x509_part = entry["attestation"]["x509"]
    held = {**(x509_part.get("signingCertificates") or {}), **(x509_part.get("clientCertificates") or {})}
    found = [HeldCertificate.of(each) for each in held.values() if each]
    return {each.thumbprint: each for each in found}


def admits_only(entry: Mapping[str, Any], certificates: Sequence[x509.Certificate]) -> bool:
    """Tell whether an individual enrollment accepts these leaf certificates and no other."""
    held = (entry["attestation"].get("x509") or {}).get("clientCertificates") or {}
    accepted = {HeldCertificate.of(each).thumbprint for each in held.values() if each}
    return accepted == {names.sha256_thumbprint(each) for each in certificates}


def certificate_of(text: str | bytes | None) -> x509.Certificate | None:
    """Read a certificate as DPS gives it: PEM, or DER, or either in base64; ``None`` if it is not one of these."""
    raw = text.encode() if isinstance(text, str) else text or b""
    with suppress(*UNREADABLE):
        if b"-----BEGIN" not in raw and not raw.startswith(b"\x30"):
            raw = b64decode(raw, validate=True)
        return load_certificates(raw)[0] if b"-----BEGIN" in raw else load_certificate(raw)
    return None


def references(entry: Entry) -> dict[str, str]:
    """Give the names of the CA certificates by which a group attests; none if it holds the certificates itself."""
    held = entry["attestation"]["x509"].get("caReferences") or {}
    return {place: name for place, name in held.items() if name}


def signers(entry: Entry) -> tuple[str | None, str | None]:
    """Give the SHA-256 thumbprints of a group's primary and secondary signing certificates."""
    certificates = entry["attestation"]["x509"].get("signingCertificates") or {}
    primary, secondary = (
        HeldCertificate.of(held).thumbprint if (held := certificates.get(place)) else None
        for place in ("primary", "secondary")
    )
    return primary, secondary


def same_attestation(present: Entry, wanted: Entry) -> bool:
    """Tell whether an entry as DPS gives it accepts what a new body asks for."""
    certificates = wanted["attestation"]["x509"].get("signingCertificates") or {}
    thumbprints = [
        names.sha256_thumbprint(load_certificates(held["certificate"].encode())[0]) for held in certificates.values()
    ]
    return references(present) == references(wanted) and [each for each in signers(present) if each] == thumbprints


def attests_by_certificates(entry: Entry) -> bool:
    """Tell whether an entry looks at a device's certificates; others ask for a symmetric key, or a TPM."""
    return bool(entry["attestation"].get("x509"))
