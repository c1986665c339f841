"""Peers: others that make device certificates, as far as they are on the machine; none is installed for this."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from benchmarks.engine_world import NAME, URLS
from benchmarks.measuring import timed
from shared.pki import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.engine_world import World
    from benchmarks.measuring import Work

_GO_SOURCE = Path(__file__).parent / "peers" / "leaf.go"
_CFSSL_CONFIG = {
    "signing": {
        "default": {
            "usages": ["digital signature", "client auth"],
            "expiry": "8760h",
            "ca_constraint": {"is_ca": False},
            "crl_url": URLS.crl_url,
            "issuer_urls": [URLS.ca_issuers_url],
        }
    }
}
_OPENSSL_EXTENSIONS = f"""basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
certificatePolicies = 2.5.29.32.0
crlDistributionPoints = URI:{URLS.crl_url}
authorityInfoAccess = caIssuers;URI:{URLS.ca_issuers_url}
"""
_OPENSSL_COMMANDS = (
    f"req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout device.key -out device.csr -subj /CN={NAME}",
    "x509 -req -in device.csr -CA ca.pem -CAkey ca-key.pem -days 365 -sha256 -extfile extensions.cnf -out device.pem",
    "pkcs12 -export -inkey device.key -in device.pem -certfile ca.pem -passout pass:sesame -name press -out device.pfx",
)


@dataclass(frozen=True, slots=True)
class Peer:
    """Something that makes device certificates.

    Attributes:
        name: for the table.
        work: makes one, with a fresh P-256 key.
        times: how often in a round.
    """

    name: str
    work: Work
    times: int


def write_authority(world: World, folder: Path) -> None:
    """Write the issuing CA for programs: ca.pem, ca-key.pem (PKCS#8), and the options of each."""
    key = world.issuing.signing_key
    (folder / "ca.pem").write_text(names.pem(world.issuing.certificate))
    (folder / "ca-key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "extensions.cnf").write_text(_OPENSSL_EXTENSIONS)
    (folder / "cfssl.json").write_text(json.dumps(_CFSSL_CONFIG))


# --- in this process -------------------------------------------------------------------------------------------------


def plain_builder(world: World) -> x509.Certificate:
    """Make a key and a certificate of the same content with cryptography alone, as its documentation shows."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = world.issuing.certificate
    usage = x509.KeyUsage(*(position == 0 for position in range(9)))
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), None)]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(world.issuing.signing_key.public_key()), False),
        (_crl_points(), False),
        (_authority_access(), False),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(world.now - timedelta(minutes=10))
        .not_valid_after(world.now + timedelta(days=365))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(world.issuing.signing_key, hashes.SHA256())


def _crl_points() -> x509.CRLDistributionPoints:
    where = x509.UniformResourceIdentifier(URLS.crl_url or "")
    return x509.CRLDistributionPoints([x509.DistributionPoint([where], None, None, None)])


def _authority_access() -> x509.AuthorityInformationAccess:
    where = x509.UniformResourceIdentifier(URLS.ca_issuers_url or "")
    return x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)])


# --- programs --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def leaf_peers(world: World, folder: Path, *, quick: bool) -> Iterator[tuple[list[Peer], list[str]]]:
    """Start the peers that are there; gives them, and a line for each that is not."""
    trusted = trustme.CA()
    peers = [
        Peer("plain cryptography builder", timed(lambda: plain_builder(world)), 300),
        Peer("trustme", timed(lambda: trusted.issue_cert(NAME)), 100),
    ]
    missing = []
    with contextlib.ExitStack() as running:
        for program, start, times in (("go", _go, 2000), ("cfssl", _cfssl, 100)):
            if quick:
                missing.append(f"{program}: left out of the quick run")
            elif shutil.which(program) is None:
                missing.append(f"{program}: not on this machine")
            else:
                peers.append(Peer(start.__name__.strip("_"), running.enter_context(start(folder)), times))
        yield peers, missing


@contextlib.contextmanager
def _go(folder: Path) -> Iterator[Work]:
    """Go's crypto/x509, in a process of its own that is started once."""
    binary = folder / "leaf"
    subprocess.run(["go", "build", "-o", binary, _GO_SOURCE], check=True, cwd=folder)  # noqa: S603, S607 - our source
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([binary], cwd=folder, text=True, **pipes) as process:  # type: ignore[call-overload]  # noqa: S603

        def work(times: int) -> float:
            print(times, file=process.stdin, flush=True)
            return float(process.stdout.readline())

        yield work
        process.stdin.close()


@contextlib.contextmanager
def _cfssl(folder: Path) -> Iterator[Work]:
    """The server of cfssl, asked for key and certificate over one kept connection."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["-ca=ca.pem", "-ca-key=ca-key.pem", "-config=cfssl.json", "-address=127.0.0.1", f"-port={port}"]
    asked = {"CN": NAME, "hosts": [NAME], "key": {"algo": "ecdsa", "size": 256}, "names": []}
    body = json.dumps({"request": asked})
    with subprocess.Popen(  # noqa: S603 - our arguments
        ["cfssl", "serve", *options],  # noqa: S607 - found on the path before
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        connection = _connected(port, process)

        def once() -> None:
            connection.request("POST", "/api/v1/cfssl/newcert", body, {"Content-Type": "application/json"})
            answer = json.load(connection.getresponse())
            if not answer["success"]:
                raise RuntimeError(f"cfssl refuses: {answer['errors']}")

        yield timed(once)
        connection.close()
        process.terminate()


def _connected(port: int, process: subprocess.Popen[bytes]) -> http.client.HTTPConnection:
    """Connect as soon as the server listens, and fail when it ends instead."""
    while process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        with contextlib.suppress(ConnectionRefusedError):
            connection.connect()
            return connection
    raise RuntimeError(f"cfssl serve ended with {process.returncode}")


def openssl_bundle(folder: Path) -> None:
    """Do with the command line what a device takes: key and CSR, certificate, PFX; three processes.

    The version on the machine may be another than the one in cryptography.
    """
    for command in _OPENSSL_COMMANDS:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)  # noqa: S603, S607
