"""How an entry of DPS attests a device (DPS: ``attestation``): by certificates of CAs, by their names, or by its own.

Bodies are the service's own JSON (api-version 2021-10-01). Whoever may write to the DPS may put any attestation into an
entry, also one of a later version. :func:`attestation_of` reads each of them and raises for none, and everything here
that reads an entry goes through it.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from shared.pki import names
from shared.pki.certificates import UNREADABLE
from shared.pki.readable import load_certificate, load_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        thumbprint: SHA-256, upper-case hexadecimal; empty if it can't be read.
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
    def of(cls, held: Any) -> HeldCertificate:
        """Read what DPS gives: ``info`` (``X509CertificateInfo`` of the service API), ``certificate``, or both."""
        info, certificate = _part(held, "info"), certificate_of(_mapping(held).get("certificate"))
        thumbprint = str(info.get("sha256Thumbprint") or "").upper()
        if not thumbprint and certificate is not None:
            thumbprint = names.sha256_thumbprint(certificate)
        subject, issuer = (str(info.get(name) or "") for name in ("subjectName", "issuerName"))
        serial_number = str(info.get("serialNumber") or "").lower()
        if certificate is not None:
            serial_number = names.serial_text(certificate.serial_number)
            issuer = issuer or certificate.issuer.rfc4514_string()
        return cls(thumbprint, certificate, _common_name(subject), _common_name(issuer), serial_number.zfill(40))

    @property
    def shown(self) -> str:
        """Its thumbprint, or what can be said without one."""
        return self.thumbprint or "a certificate that can't be read"


def _common_name(name: str) -> str:
    """Give the CN of a name as DPS writes it; or else all of it."""
    found = _CN.search(name)
    return found[1].strip() if found else name


class AttestationKind(StrEnum):
    """What an entry looks at (``AttestationMechanism`` and ``X509Attestation`` of azure-iot-deviceprovisioning)."""

    CLIENT_CERTIFICATES = "clientCertificates"
    SIGNING_CERTIFICATES = "signingCertificates"
    CA_REFERENCES = "caReferences"
    SYMMETRIC_KEY = "symmetricKey"
    TPM = "tpm"
    NONE = "none"
    OTHER = "other"


_BY_CERTIFICATES = {
    each.value: each
    for each in (
        AttestationKind.CLIENT_CERTIFICATES,
        AttestationKind.SIGNING_CERTIFICATES,
        AttestationKind.CA_REFERENCES,
    )
}
_ALONE = {each.value: each for each in (AttestationKind.SYMMETRIC_KEY, AttestationKind.TPM, AttestationKind.NONE)}
_PLACES = ("primary", "secondary")


@dataclass(frozen=True, slots=True)
class Attestation:
    """What an entry accepts.

    Attributes:
        kind: what it looks at; ``OTHER`` for what this version does not know, and for more than one thing at once.
        signing: the certificates of CAs that it holds, by their place, the primary first. Of ``OTHER``, here and in
            the next two, what can be found in it.
        clients: the certificates of the device that it holds, likewise.
        references: the names of CA certificates that it has, likewise.
        named: what stands in it, for messages.
    """

    kind: AttestationKind
    signing: Mapping[str, HeldCertificate] = field(default_factory=dict)
    clients: Mapping[str, HeldCertificate] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    named: str = ""

    @property
    def held(self) -> tuple[HeldCertificate, ...]:
        """The certificates that it holds."""
        return (*self.signing.values(), *self.clients.values())

    @property
    def by_certificates(self) -> bool:
        """Whether it looks at a device's certificates, as far as that is known."""
        return self.kind in _BY_CERTIFICATES.values() or bool(self.held or self.references)

    @property
    def words(self) -> str:
        """What it accepts, in words."""
        shown = ", ".join(each.shown for each in self.held)
        by_name = ", ".join(map(repr, self.references.values()))
        return {
            AttestationKind.CLIENT_CERTIFICATES: f"the certificate {shown}" if shown else "no certificate",
            AttestationKind.SIGNING_CERTIFICATES: f"every certificate of the CA {shown or 'none'}",
            AttestationKind.CA_REFERENCES: f"every certificate of the CA that DPS has as {by_name or 'none'}",
            AttestationKind.SYMMETRIC_KEY: "a symmetric key",
            AttestationKind.TPM: "a TPM",
            AttestationKind.NONE: "the attestation 'none'",
            AttestationKind.OTHER: f"an attestation that this app does not know: {self.named!r}",
        }[self.kind]


def attestation_of(entry: Mapping[str, Any]) -> Attestation:
    """Read what an entry accepts, whatever stands in it."""
    body = _part(entry, "attestation")
    named = str(body.get("type") or next((each for each in ("x509", *_ALONE) if body.get(each)), "none"))
    if named in _ALONE:
        return Attestation(_ALONE[named])
    present = {str(name): part for name, part in _part(body, "x509").items() if part is not None}
    parts = {name: part for name, part in present.items() if part} or present
    further = {place for part in parts.values() for place, each in _mapping(part).items() if each} - {*_PLACES}
    kind = AttestationKind.OTHER
    if named == "x509" and len(parts) == 1 and not further:
        kind = _BY_CERTIFICATES.get(next(iter(parts)), kind)
    return Attestation(
        kind,
        signing={place: HeldCertificate.of(each) for place, each in _placed(parts, "signingCertificates")},
        clients={place: HeldCertificate.of(each) for place, each in _placed(parts, "clientCertificates")},
        references={place: str(name) for place, name in _placed(parts, "caReferences")},
        named=f"{named}: {', '.join(sorted({*parts, *further})) or 'nothing'}",
    )


def _placed(parts: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Give what a part has, by its place, the primary first."""
    part = _part(parts, name)
    for place in sorted(part, key=lambda each: (each not in _PLACES, each)):
        if part[place]:
            yield place, part[place]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _part(body: Any, name: str) -> Mapping[str, Any]:
    return _mapping(_mapping(body).get(name))


def held_certificates(entry: Mapping[str, Any]) -> dict[str, HeldCertificate]:
    """Give the certificates that an entry holds, by the SHA-256 thumbprint: an empty one if it can't be read."""
    return {each.thumbprint: each for each in attestation_of(entry).held}


def admits_only(entry: Mapping[str, Any], certificates: Sequence[x509.Certificate]) -> bool:
    """Tell whether an individual enrollment accepts these leaf certificates and nothing else."""
    present = attestation_of(entry)
    accepted = {each.thumbprint for each in present.clients.values()}
    is_own = present.kind is AttestationKind.CLIENT_CERTIFICATES
    return is_own and accepted == {names.sha256_thumbprint(each) for each in certificates}


def certificate_of(text: object) -> x509.Certificate | None:
    """Read a certificate as DPS gives it: PEM, or DER, or either in base64; ``None`` if it is not one of these."""
    raw = text.encode() if isinstance(text, str) else text if isinstance(text, bytes) else b""
    with suppress(*UNREADABLE):
        if b"-----BEGIN" not in raw and not raw.startswith(b"\x30"):
            raw = b64decode(raw, validate=True)
        return load_certificates(raw)[0] if b"-----BEGIN" in raw else load_certificate(raw)
    return None


def references(entry: Mapping[str, Any]) -> dict[str, str]:
    """Give the names of the CA certificates by which an entry attests; none if it does not attest by names."""
    return dict(attestation_of(entry).references)


def signers(entry: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Give the SHA-256 thumbprints of an entry's primary and secondary signing certificates.

    Returns:
        ``None`` for a place where none is; an empty one for a certificate that can't be read.
    """
    held = attestation_of(entry).signing
    primary, secondary = (held[place].thumbprint if place in held else None for place in _PLACES)
    return primary, secondary


def same_attestation(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Tell whether an entry as DPS gives it accepts what a new body asks for, and nothing else."""
    there, asked = attestation_of(present), attestation_of(wanted)
    is_same = (there.kind, there.references) == (asked.kind, asked.references)
    return is_same and [each.thumbprint for each in there.held] == [each.thumbprint for each in asked.held]


def attests_by_certificates(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry looks at a device's certificates; others ask for a symmetric key, or a TPM."""
    return attestation_of(entry).by_certificates
