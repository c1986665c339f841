"""Certificates for the emulator's tests, made without the app's engine, so that no mistake cancels itself out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Party:
    """A certificate with its key and everything above it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def files(self, folder: Path, *, chain: tuple[x509.Certificate, ...] | None = None) -> tuple[str, str]:
        """Write the chain, without the root unless told otherwise, and the key; give both paths."""
        sent = (self.certificate, *(self.above[:-1] if chain is None else chain))
        name = f"{self.certificate.serial_number:x}"
        (folder / f"{name}.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in sent))
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.key").write_bytes(key)
        return str(folder / f"{name}.pem"), str(folder / f"{name}.key")


def make(
    name: str | x509.Name, signer: Party | None = None, *, ca: bool = False, days: int = 30, start: int = -1
) -> Party:
    """Make a certificate, signed by another party or by itself; it begins ``start`` days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) if isinstance(name, str) else name
    begin = datetime.now(UTC) + timedelta(days=start)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(signer.key if signer else key, hashes.SHA256())
    )
    return Party(certificate, key, (signer.certificate, *signer.above) if signer else ())
