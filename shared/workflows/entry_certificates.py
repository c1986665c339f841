"""Certificates of an individual enrollment: as a request names them, and as DPS holds them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.domain.attestations import AttestationKind, attestation_of
from shared.errors import Rejected
from shared.pki.damage import UnreadableCertificate, read_certificate
from shared.pki.public_keys import fingerprint, key_of
from shared.pki.signing_keys import UnsupportedKey
from shared.reading.pem import certificates

if TYPE_CHECKING:
    from cryptography import x509

    from shared.contracts.groups import IndividualEnrollmentDefinition
    from shared.domain.attestations import Entry
    from shared.domain.entry_wishes import EntryChange


def leaves_of(definition: IndividualEnrollmentDefinition) -> dict[str, x509.Certificate]:
    """Read the certificates that are named, by their fields; errors are those of :func:`leaf_of`."""
    given = {"certificate": definition.certificate, "secondaryCertificate": definition.secondary_certificate}
    return {field: leaf_of(pem, field) for field, pem in given.items() if pem is not None}


def leaf_of(pem: str, field: str) -> x509.Certificate:
    """Read a device's certificate.

    Raises:
        Rejected: it is something else, or can't be read.
    """
    found = certificates(pem, field=field, wanted="certificate of the device in PEM")
    if len(found) != 1:
        raise Rejected.because(f"holds {len(found)} certificates; give the device's own alone", field=field)
    try:
        leaf = read_certificate(found[0])
        key_of(leaf)
    except (UnreadableCertificate, UnsupportedKey) as error:
        raise Rejected.because(f"the certificate can't be used: {error}", field=field) from None
    return leaf


def held_by(entry: Entry) -> dict[str, Any]:
    """Give the certificates of an entry by their places; none if it has none yet, or attests otherwise."""
    if attestation_of(entry).kind is not AttestationKind.CLIENT_CERTIFICATES:
        return {}
    return entry["attestation"]["x509"]["clientCertificates"] or {}


def serial_numbers_of(entry: Entry) -> list[str]:
    """Give the serial numbers of an entry's certificates, as far as DPS gives them."""
    return [each.serial_number for each in attestation_of(entry).clients.values() if int(each.serial_number, 16)]


def keys_of(change: EntryChange | None) -> list[str]:
    """Give the fingerprints of the keys of the certificates that a change puts into an entry.

    Those that others have put there stay as DPS gives them, and may be none that can be read: no key of theirs is asked
    for here.
    """
    if change is None or change.attestation is None:
        return []
    found = list[str]()
    for each in held_by({"attestation": change.attestation}).values():
        with suppress(Rejected):
            found.append(fingerprint(key_of(leaf_of((each or {}).get("certificate") or "", "certificate"))))
    return found
