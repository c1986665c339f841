"""The emulator's own TLS: a local certificate authority and one server certificate, kept on disk.

All keys are RSA, as those of DPS and IoT Hub are (Microsoft, "TLS support in IoT Hub"): there are devices that have no
other cipher suites. This serves the endpoints only: devices' certificates come from the app under test.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from emulator.platform.store import PRIVATE, PRIVATE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CA_FILE = "ca.pem"
RENEW_BEFORE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the local TLS.

    Attributes:
        ca_file: what clients trust.
        certificate_file: the server's certificate.
        key_file: its private key.
    """

    ca_file: Path
    certificate_file: Path
    key_file: Path


def ensure_tls(directory: Path, names: Sequence[str]) -> TlsFiles:
    """Make what is missing: the CA on the first call, a server certificate when the kept one lacks a name or ends soon.

    Args:
        directory: where the files are kept; made if absent.
        names: DNS names and IP addresses that the server answers to.
    """
    directory.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    files, key_file = (
        TlsFiles(directory / CA_FILE, directory / "server.pem", directory / "server.key"),
        directory / "ca.key",
    )
    ca = None if _is_kept(files.ca_file, key_file) else _new_ca(files.ca_file, key_file)
    if not _serves(files, names):
        ca = ca or trustme.CA.from_pem(files.ca_file.read_bytes(), key_file.read_bytes())
        leaf = ca.issue_cert(*names, key_type=trustme.KeyType.RSA)
        _write(files.key_file, leaf.private_key_pem.bytes())
        _write(files.certificate_file, b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return files


def _is_kept(certificate_file: Path, key_file: Path) -> bool:
    return certificate_file.exists() and key_file.exists() and _is_rsa(certificate_file)


def _new_ca(certificate_file: Path, key_file: Path) -> trustme.CA:
    ca = trustme.CA(organization_name="Azure IoT emulator", key_type=trustme.KeyType.RSA)
    _write(key_file, ca.private_key_pem.bytes())
    _write(certificate_file, ca.cert_pem.bytes())
    return ca


def _is_rsa(certificate_file: Path) -> bool:
    """Tell whether a CA is of this kind: that of an earlier version was not."""
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    return isinstance(certificate.public_key(), rsa.RSAPublicKey)


def _serves(files: TlsFiles, names: Sequence[str]) -> bool:
    """Whether the kept certificate fits names, time, its own key and the CA: a crash may leave two halves."""
    if not (files.certificate_file.exists() and files.key_file.exists()):
        return False
    certificate = x509.load_pem_x509_certificate(files.certificate_file.read_bytes())
    # Made here: looking for its primes again would take as long as making it did.
    key = serialization.load_pem_private_key(files.key_file.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    served = {str(name.value) for name in alternatives}
    return (
        served >= {str(_address_or_name(name)) for name in names}
        and certificate.not_valid_after_utc - RENEW_BEFORE > datetime.now(UTC)
        and certificate.public_key() == key.public_key()
        and certificate.issuer == x509.load_pem_x509_certificate(files.ca_file.read_bytes()).subject
        and isinstance(key, rsa.RSAPrivateKey)
    )


def _address_or_name(name: str) -> object:
    try:
        return ip_address(name)
    except ValueError:
        return name


def _write(path: Path, content: bytes) -> None:
    """Write as a whole or not at all, readable by the owner alone."""
    unfinished = path.with_suffix(path.suffix + ".new")
    unfinished.touch(PRIVATE)
    unfinished.write_bytes(content)
    unfinished.replace(path)
