"""GnuTLS, the other TLS library of devices, verifies the chains of every profile and algorithm at its high profile."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import pytest

from shared.pki import names
from shared.pki.issuance import DistributionPoints, Subject, issue, new_serial_number, prepare
from shared.pki.profiles import Profile, device_profile, issuing_profile, root_profile, verification_profile
from shared.pki.signing_keys import KeyAlgorithm
from tests.unit.pki.hierarchy import certificate_authority, spare_key

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

    from shared.pki.issuance import Issuer

pytestmark = pytest.mark.skipif(
    shutil.which("certtool") is None, reason="GnuTLS's certtool is missing: on Debian install gnutls-bin"
)


@cache
def authorities(algorithm: KeyAlgorithm) -> tuple[Issuer, Issuer]:
    """Make a CA below a CA below a root, valid now: certtool has no other clock."""
    began = datetime.now(UTC) - timedelta(hours=1)
    root = certificate_authority("root", None, algorithm, root_profile(), now=began)
    factory = certificate_authority("factory", root, algorithm, issuing_profile(path_length=1), now=began)
    return factory, certificate_authority("line", factory, algorithm, issuing_profile(), now=began)


def leaf(profile: Profile, issuer: Issuer, key_algorithm: KeyAlgorithm) -> x509.Certificate:
    prepared = prepare(
        profile,
        subject=Subject("press-001"),
        public_key=spare_key(key_algorithm).public_key(),
        issuer=issuer,
        serial_number=new_serial_number(),
        now=datetime.now(UTC),
        urls=DistributionPoints("http://pki.example.com/line.crl", "http://pki.example.com/line.cer"),
    )
    return issue(prepared, issuer)


LEVELS = {algorithm: "medium" if algorithm is KeyAlgorithm.RSA_2048 else "high" for algorithm in KeyAlgorithm}
"""GnuTLS's high profile wants 128 bits of security, and RSA-2048 has 112 (NIST SP 800-57): it passes medium at best."""


def verdict(folder: Path, chain: list[x509.Certificate], *more: str, level: str = "high") -> tuple[int, str]:
    """Verify a chain, leaf first, against its last certificate; gives exit code and the closing line."""
    (folder / "chain.pem").write_text("".join(map(names.pem, chain)))
    (folder / "root.pem").write_text(names.pem(chain[-1]))
    arguments = ["--verify", f"--verify-profile={level}", "--load-ca-certificate=root.pem", "--infile=chain.pem", *more]
    done = subprocess.run(["certtool", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip().splitlines()[-1]


VERIFIED = "Chain verification output: Verified. The certificate is trusted."


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
@pytest.mark.parametrize("profile", [device_profile(), verification_profile()], ids=lambda profile: profile.kind.value)
def test_every_chain_is_verified(profile: Profile, algorithm: KeyAlgorithm, tmp_path: Path) -> None:
    """A leaf of each profile, with CA and device keys of each algorithm, is trusted up to the root."""
    _, line = authorities(algorithm)
    chain = [leaf(profile, line, algorithm), *line.chain]
    assert verdict(tmp_path, chain, level=LEVELS[algorithm]) == (0, VERIFIED)


def test_rsa_2048_does_not_reach_the_high_profile(tmp_path: Path) -> None:
    """An owner whose devices verify with GnuTLS's high profile needs RSA-3072 or EC: 2048 bits are too few for it."""
    _, line = authorities(KeyAlgorithm.RSA_2048)
    code, said = verdict(tmp_path, [leaf(device_profile(), line, KeyAlgorithm.RSA_2048), *line.chain])
    assert code == 1
    assert said.endswith("The certificate chain uses insecure algorithm.")


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_a_device_may_be_a_tls_client(algorithm: KeyAlgorithm, tmp_path: Path) -> None:
    """The same leaf is trusted when GnuTLS is asked for a TLS client's purpose."""
    _, line = authorities(algorithm)
    chain = [leaf(device_profile(), line, algorithm), *line.chain]
    assert verdict(tmp_path, chain, "--verify-purpose=1.3.6.1.5.5.7.3.2", level=LEVELS[algorithm]) == (0, VERIFIED)


def test_a_chain_that_lacks_a_ca_is_not_verified(tmp_path: Path) -> None:
    """What GnuTLS says here is worth something: without an intermediate it refuses."""
    _, line = authorities(KeyAlgorithm.EC_P256)
    device = leaf(device_profile(), line, KeyAlgorithm.EC_P256)
    code, said = verdict(tmp_path, [device, line.certificate, line.chain[-1]])
    assert code == 1
    assert said.startswith("Chain verification output: Not verified.")


def test_a_server_purpose_is_refused(tmp_path: Path) -> None:
    """A device certificate is no server's: asked for that purpose, GnuTLS refuses it."""
    _, line = authorities(KeyAlgorithm.EC_P256)
    chain = [leaf(device_profile(), line, KeyAlgorithm.EC_P256), *line.chain]
    code, said = verdict(tmp_path, chain, "--verify-purpose=1.3.6.1.5.5.7.3.1")
    assert code == 1
    assert "purpose" in said


def test_a_broken_signature_is_found(tmp_path: Path) -> None:
    """A CA of the right name with another key does not pass."""
    factory, line = authorities(KeyAlgorithm.EC_P256)
    other = certificate_authority("line", factory, KeyAlgorithm.EC_P256, issuing_profile(), now=datetime.now(UTC))
    device = leaf(device_profile(), line, KeyAlgorithm.EC_P256)
    code, said = verdict(tmp_path, [device, other.certificate, *factory.chain])
    assert code == 1
    assert said.startswith("Chain verification output: Not verified.")
