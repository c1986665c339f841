"""A certificate that stands for one that nobody has, in an entry of DPS that is to let nothing in."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from datetime import datetime

_LATE = timedelta(minutes=10)  # for clocks that are behind
_LASTS = timedelta(days=3650)


def stand_in(registration_id: str, now: datetime) -> x509.Certificate:
    """Make a self-signed certificate whose key is thrown away, so that nobody can ever present it.

    An individual enrollment is looked at before any group, and takes a certificate that signs itself (Microsoft:
    "X.509 certificate attestation", sections "DPS order of operations with certificates" and "Leaf certificate").
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, registration_id)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LATE)
        .not_valid_after(now + _LASTS)
        .sign(key, hashes.SHA256())
    )
