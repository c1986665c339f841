"""Bundles open where devices open them, and only with their password."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from shared.pki.bundles import new_password, pem_bundle, pfx_bundle
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from tests.unit.pki.hierarchy import hierarchy

if TYPE_CHECKING:
    from pathlib import Path

KEY = generate_key(KeyAlgorithm.EC_P256)
LEAF = hierarchy().device(key=KEY)
CHAIN = hierarchy().issuing.chain[:-1]


def test_a_pem_bundle_is_leaf_chain_and_encrypted_key() -> None:
    """The PEM bundle has the leaf first, then its CAs up to the root's child, then the key under the password."""
    pem = pem_bundle(certificate=LEAF, chain=CHAIN, key=KEY, password="open sesame")
    assert x509.load_pem_x509_certificates(pem) == [LEAF, *CHAIN]
    key_part = pem[pem.index(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") :]
    key = load_pem_private_key(key_part, b"open sesame")
    assert key.public_key() == KEY.public_key()
    with pytest.raises(ValueError, match="Incorrect password"):
        load_pem_private_key(key_part, b"wrong")


def test_a_bundle_for_a_device_with_its_own_key_has_none() -> None:
    """Without a key the bundle is certificates only."""
    assert b"PRIVATE" not in pem_bundle(certificate=LEAF, chain=CHAIN, key=None, password=None)


def test_a_key_is_never_written_without_a_password() -> None:
    """A key with an empty password is refused."""
    with pytest.raises(ValueError, match="a key is written under a password only"):
        pem_bundle(certificate=LEAF, chain=CHAIN, key=KEY, password="")


def test_a_pfx_opens_in_openssl_with_modern_algorithms(tmp_path: Path) -> None:
    """OpenSSL opens the PFX, and it is AES-256 under PBKDF2-HMAC-SHA256 throughout."""
    password = new_password()
    pfx = pfx_bundle(certificate=LEAF, chain=CHAIN, key=KEY, password=password, friendly_name="press-001")
    (tmp_path / "device.pfx").write_bytes(pfx)
    done = subprocess.run(
        ["openssl", "pkcs12", "-in", "device.pfx", "-info", "-noout", "-passin", f"pass:{password}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "MAC: sha256, Iteration 2048" in done.stderr
    assert "PKCS7 Encrypted data: PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256" in done.stderr
    opened = pkcs12.load_pkcs12(pfx, password.encode())
    assert opened.cert is not None
    assert opened.cert.certificate == LEAF
    assert opened.cert.friendly_name == b"press-001"
    assert [each.certificate for each in opened.additional_certs] == list(CHAIN)


def test_passwords_are_long_random_and_safe_to_type() -> None:
    """A password has 160 bits in URL-safe characters, and no two are the same."""
    passwords = {new_password() for _ in range(100)}
    assert len(passwords) == 100
    assert all(len(password) == 27 and password.isascii() and password.isprintable() for password in passwords)
