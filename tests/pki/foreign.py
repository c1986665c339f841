"""CAs as other tools make them: each extension only if it is given, no key usage unless asked for."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from shared.pki.issuance import new_serial_number
from shared.pki.issuers import Issuer
from shared.pki.signing_keys import KeyAlgorithm
from tests.pki.hierarchy import NOW, spare_key

KEY = spare_key(KeyAlgorithm.EC_P256)
_CRITICAL = (x509.BasicConstraints, x509.PolicyConstraints, x509.InhibitAnyPolicy)
_USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
           "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip


def key_usage(*usages: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in usages for usage in _USAGES})


def name_of(common_name: str, organization: str | None = None) -> x509.Name:
    parts = ((NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, common_name))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value is not None])


def authority(
    name: str | x509.Name,
    *extensions: x509.ExtensionType,
    parent: x509.Certificate | None = None,
    key: Any = KEY,
    signed_by: Any = KEY,
    length: int | None = None,
    days: tuple[int, int] = (-1, 4000),
) -> x509.Certificate:
    """Make a CA's certificate; days are counted from NOW."""
    named = name if isinstance(name, x509.Name) else name_of(name)
    begins, ends = (NOW + timedelta(days=day) for day in days)
    above = parent.subject if parent else named
    builder = x509.CertificateBuilder(above, named, key.public_key(), new_serial_number(), begins, ends)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    for extension in (x509.BasicConstraints(ca=True, path_length=length), identifier, *extensions):
        builder = builder.add_extension(extension, critical=isinstance(extension, _CRITICAL))
    return builder.sign(signed_by, hashes.SHA256())


def issuer(*chain: x509.Certificate) -> Issuer:
    """Give the CA of a chain whose lowest certificate is for the common key."""
    return Issuer(chain[0], KEY, chain)


def of_version_5(certificate: x509.Certificate) -> str:
    """Give a certificate, as PEM, with a version that there is not."""
    content = certificate.public_bytes(Encoding.DER).replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1\4", 1)
    return f"-----BEGIN CERTIFICATE-----\n{b64encode(content).decode()}\n-----END CERTIFICATE-----\n"
