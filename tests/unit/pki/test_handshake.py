"""Device certificates in real TLS handshakes, checked strictly."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import pytest
import trustme

from shared.pki import names
from shared.pki.bundles import pack
from shared.pki.profiles import issuing_profile, root_profile
from shared.pki.signing_keys import KeyAlgorithm
from tests.pki.hierarchy import Hierarchy, certificate_authority, spare_key

if TYPE_CHECKING:
    from pathlib import Path

SERVER = trustme.CA()


@cache
def world(algorithm: KeyAlgorithm) -> Hierarchy:
    """Make CAs that are valid now: a handshake has no other clock."""
    now = datetime.now(UTC)
    root = certificate_authority("root", None, algorithm, root_profile(), now=now - timedelta(hours=1))
    issuing = certificate_authority("issuing", root, algorithm, issuing_profile(), now=now - timedelta(minutes=30))
    return Hierarchy(root, issuing)


def server(version: ssl.TLSVersion, root_pem: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=root_pem)
    SERVER.issue_cert("localhost").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    context.minimum_version = context.maximum_version = version
    return context


def shake_hands(client: ssl.SSLContext, serving: ssl.SSLContext) -> ssl.SSLObject:
    """Let both sides talk through memory until the server knows its client."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    far = serving.wrap_bio(to_server, to_client, server_side=True)
    near = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(10):
        done = 0
        for side in (near, far):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
        if done == 2:
            return far
    raise AssertionError("the handshake does not end")


def client(folder: Path, made: Hierarchy, algorithm: KeyAlgorithm, *, whole: bool = True) -> ssl.SSLContext:
    key = spare_key(algorithm)
    certificate = made.device(key=key, now=datetime.now(UTC))
    chain = made.issuing.sent_chain if whole else ()
    packed = pack(certificate=certificate, chain=chain, friendly_name="press-001", key=key, password="sesame")
    (folder / "device.pem").write_bytes(packed.pem)
    context = ssl.create_default_context()
    SERVER.configure_trust(context)
    context.load_cert_chain(folder / "device.pem", password="sesame")
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.RSA_2048])
def test_a_strict_server_lets_a_device_in(version: ssl.TLSVersion, algorithm: KeyAlgorithm, tmp_path: Path) -> None:
    """With its bundle alone a device passes TLS 1.2 and 1.3 under strict checks against the root."""
    made = world(algorithm)
    far = shake_hands(client(tmp_path, made, algorithm), server(version, names.pem(made.root.certificate)))
    peer = far.getpeercert()
    assert peer is not None
    assert peer["subject"] == ((("commonName", "press-001"),),)
    assert far.version() == version.name.replace("_", ".")


def test_a_device_without_its_intermediate_is_refused(tmp_path: Path) -> None:
    """The same server refuses a bare leaf: the bundle's chain is what lets a device in."""
    made = world(KeyAlgorithm.EC_P256)
    bare = client(tmp_path, made, KeyAlgorithm.EC_P256, whole=False)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
        shake_hands(bare, server(ssl.TLSVersion.TLSv1_2, names.pem(made.root.certificate)))


def test_a_device_below_another_root_is_refused(tmp_path: Path) -> None:
    """The same server refuses a device of a hierarchy that it does not know."""
    made = world(KeyAlgorithm.EC_P384)
    stranger = client(tmp_path, made, KeyAlgorithm.EC_P256)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(stranger, server(ssl.TLSVersion.TLSv1_2, names.pem(world(KeyAlgorithm.EC_P256).root.certificate)))
