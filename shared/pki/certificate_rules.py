"""What a certificate must be by itself to stand in a chain that DPS accepts (RFC 5280 section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from shared.pki import names
from shared.pki.certificates import (
    BROKEN_HASHES,
    CLIENT_PURPOSES,
    SERIAL_LIMIT,
    UNREADABLE,
    find_extension,
    is_self_issued,
    issued_by,
)
from shared.pki.damage import decode, why_unreadable
from shared.pki.findings import Finding
from shared.pki.policies import MAPPINGS
from shared.pki.public_keys import WeakKey, key_of
from shared.pki.signing_keys import UnsupportedKey
from shared.rules.registration_ids import same_registration_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime


def unreadable_findings(certificates: Sequence[x509.Certificate], place: str) -> Iterator[Finding]:
    """Find which certificates can't be decoded; ``place`` says where they stand."""
    for position, certificate in enumerate(certificates, start=1):
        damage = _damage(certificate)
        if damage:
            yield Finding("unreadable", f"certificate {position} of {place} can't be read: {damage[:300]}")


def readable(certificates: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Leave out certificates that can't be decoded."""
    return tuple(certificate for certificate in certificates if not _damage(certificate))


def _damage(certificate: x509.Certificate) -> str:
    """Decode everything once: cryptography does so when it is asked, and others may have made these."""
    try:
        decode(certificate)
    except UNREADABLE:
        return why_unreadable(certificate.public_bytes(Encoding.DER))
    return ""


def leaf_findings(leaf: x509.Certificate, registration_id: str) -> Iterator[Finding]:
    """Find what is wrong with a device's own certificate as such: its name, its kind, its purposes."""
    name = names.quoted(leaf.subject)
    if not same_registration_id(names.common_name(leaf.subject), registration_id):
        yield Finding(
            "common-name",
            f"the leaf's CN is {name} and the registration id {registration_id!r}; they must be the same",
        )
    constraints = find_extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        yield Finding("leaf-is-ca", f"the first certificate, {name}, is a CA; the device's own comes first")
    elif issued_by(leaf, leaf):
        yield Finding(
            "self-signed-leaf", f"{name} is signed by itself; a group's device has a certificate of the group's CA"
        )
    usage = find_extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        yield Finding("key-usage", "the leaf's key usage lacks digitalSignature, which a TLS client needs")
    purposes = find_extension(leaf, x509.ExtendedKeyUsage)
    if purposes is not None and not CLIENT_PURPOSES & {*purposes}:
        yield Finding("extended-key-usage", "the leaf's extended key usage lacks clientAuth")


def life_findings(chain: Iterable[x509.Certificate], now: datetime) -> Iterator[Finding]:
    """Find which certificates of a chain are not valid at a time, UTC."""
    second = now.replace(microsecond=0)  # notAfter is inclusive (RFC 5280 section 4.1.2.5): its whole second counts
    for certificate in chain:
        name = names.quoted(certificate.subject)
        if second < certificate.not_valid_before_utc:
            yield Finding(
                "not-yet-valid", f"{name} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            )
        if second > certificate.not_valid_after_utc:
            yield Finding("expired", f"{name} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")


def content_findings(chain: Iterable[x509.Certificate]) -> Iterator[Finding]:
    """Find which certificates have a key, serial number, signature or extension that others refuse."""
    for certificate in chain:
        name = names.quoted(certificate.subject)
        try:
            key_of(certificate)
        except UnsupportedKey as error:
            code = "weak-key" if isinstance(error, WeakKey) else "key-algorithm"
            yield Finding(code, f"the key of {name} can't be used: {error}")
        if not 0 < certificate.serial_number < SERIAL_LIMIT:
            number = certificate.serial_number
            yield Finding(
                "serial-number",
                f"the serial number of {name} is {names.number(number)}; it must be positive and have at "
                "most 20 octets",
            )
        digest = digest_name(certificate)
        # A root is trusted for itself and not for its signature.
        if digest in BROKEN_HASHES and not is_self_issued(certificate):
            yield Finding("weak-signature", f"{name} is signed with {digest.upper()}; SHA-256 or SHA-384 is needed")
        for extension in certificate.extensions:
            # RFC 5280 section 4.2: what is critical and not understood is refused.
            if (
                extension.critical
                and isinstance(extension.value, x509.UnrecognizedExtension)
                and extension.oid != MAPPINGS
            ):
                oid = extension.oid.dotted_string
                yield Finding("critical-extension", f"{name} has the critical extension {oid}, which is not known")


def digest_name(certificate: x509.Certificate) -> str:
    """Name the hash of its signature; empty if it has none or an unknown one."""
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return ""
    return digest.name if digest else ""
