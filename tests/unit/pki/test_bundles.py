"""Bundles open where devices open them, and only with their password."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)

from shared.pki.bundles import BundleError, new_password, pack
from shared.pki.profiles import issuing_profile
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from tests.pki.hierarchy import Hierarchy, certificate_authority, hierarchy, spare_key

if TYPE_CHECKING:
    from pathlib import Path

    from shared.pki.signing_keys import PrivateKey

KEY = generate_key(KeyAlgorithm.EC_P256)
LEAF = hierarchy().device(key=KEY)
CHAIN = hierarchy().issuing.sent_chain


def test_a_pem_bundle_is_leaf_chain_and_encrypted_key() -> None:
    """The PEM bundle has the leaf first, then its CAs up to the root's child, then the key under the password."""
    pem = pack(certificate=LEAF, chain=CHAIN, friendly_name="press-001", key=KEY, password="open sesame").pem
    assert x509.load_pem_x509_certificates(pem) == [LEAF, *CHAIN]
    key_part = pem[pem.index(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") :]
    key = load_pem_private_key(key_part, b"open sesame")
    assert key.public_key() == KEY.public_key()
    with pytest.raises(TypeError, match="Password was not given"):
        load_pem_private_key(key_part, None)
    # One time in 256 the padding fits by chance, and what is decrypted is not a key.
    with pytest.raises(ValueError, match=r"Incorrect password|Could not deserialize key data"):
        load_pem_private_key(key_part, b"wrong")


def test_a_longer_chain_goes_up_from_the_leaf_in_both_forms() -> None:
    """Each certificate of a bundle is followed by its issuer's, up to the root's child: that is what devices send."""
    factory = certificate_authority("factory", hierarchy().root, KeyAlgorithm.EC_P256, issuing_profile(path_length=2))
    plant = certificate_authority("plant", factory, KeyAlgorithm.EC_P256, issuing_profile(path_length=1))
    line = certificate_authority("line", plant, KeyAlgorithm.EC_P256, issuing_profile())
    leaf = Hierarchy(hierarchy().root, line).device(key=KEY)
    packed = pack(certificate=leaf, chain=line.chain[:-1], friendly_name="press-001", key=KEY, password="sesame")
    expected = [leaf, line.certificate, plant.certificate, factory.certificate]
    assert x509.load_pem_x509_certificates(packed.pem) == expected
    opened = pkcs12.load_pkcs12(packed.pfx or b"", b"sesame")
    assert [each.certificate for each in (opened.cert, *opened.additional_certs) if each] == expected


def test_a_bundle_for_a_device_with_its_own_key_has_none() -> None:
    """Without a key the bundle is certificates only."""
    packed = pack(certificate=LEAF, chain=CHAIN, friendly_name="press-001")
    assert b"PRIVATE" not in packed.pem
    assert packed.pfx is None


def test_a_key_is_never_written_without_a_password() -> None:
    """A key with an empty password is refused."""
    with pytest.raises(ValueError, match="a key is written under a password only"):
        pack(certificate=LEAF, chain=CHAIN, friendly_name="press-001", key=KEY, password="")


def test_a_pfx_opens_in_openssl_with_modern_algorithms(tmp_path: Path) -> None:
    """OpenSSL opens the PFX, and it is AES-256 under PBKDF2-HMAC-SHA256 throughout."""
    password = new_password()
    pfx = pack(certificate=LEAF, chain=CHAIN, friendly_name="press-001", key=KEY, password=password).pfx
    assert pfx is not None
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


@pytest.mark.long
@pytest.mark.skipif(shutil.which("keytool") is None, reason="Java's keytool is not installed")
def test_a_pfx_opens_in_java(tmp_path: Path) -> None:
    """Java's keytool finds the key under the friendly name, with its whole chain."""
    pfx = pack(certificate=LEAF, chain=CHAIN, friendly_name="press-001", key=KEY, password="open-sesame").pfx
    assert pfx is not None
    (tmp_path / "device.pfx").write_bytes(pfx)
    done = subprocess.run(
        ["keytool", "-list", "-v", "-keystore", "device.pfx", "-storetype", "PKCS12", "-storepass", "open-sesame"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Alias name: press-001" in done.stdout, done.stdout + done.stderr
    assert "Entry type: PrivateKeyEntry" in done.stdout
    assert f"Certificate chain length: {1 + len(CHAIN)}" in done.stdout


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_openssl_opens_the_key_of_the_pem(tmp_path: Path, algorithm: KeyAlgorithm) -> None:
    """The key that was taken out of the PFX is PKCS#8 under the same password and PBES2, for every algorithm."""
    key = spare_key(algorithm)
    packed = pack(
        certificate=hierarchy().device(key=key), chain=CHAIN, friendly_name="press-001", key=key, password="open-sesame"
    )
    (tmp_path / "device.pem").write_bytes(packed.pem)
    done = subprocess.run(
        ["openssl", "pkey", "-in", "device.pem", "-passin", "pass:open-sesame", "-pubout"],
        cwd=tmp_path, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


OTHER_KEY = generate_key(KeyAlgorithm.EC_P256)
ROOT = hierarchy().root.certificate


@pytest.mark.parametrize(
    ("chain", "key", "message"),
    [
        (CHAIN, OTHER_KEY, "the key is not that of 'press-001'"),
        ([ROOT], KEY, "'press-001' is followed by 'dpsCa', which is not its issuer"),
        ([*CHAIN, ROOT], KEY, "the root 'dpsCa' does not belong in a bundle: the verifier has it"),
    ],
)
def test_what_does_not_belong_together_is_not_packed(
    chain: list[x509.Certificate], key: PrivateKey, message: str
) -> None:
    """A wrong key, a chain with a gap or a root is refused."""
    with pytest.raises(BundleError) as caught:
        pack(certificate=LEAF, chain=chain, friendly_name="press-001", key=key, password="open sesame")
    assert str(caught.value) == message
