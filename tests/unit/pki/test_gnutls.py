"""GnuTLS, the other TLS library of devices, verifies the chains of every profile and algorithm at its high profile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import pytest

from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import issue, new_serial_number, prepare
from shared.pki.profiles import Profile, device_profile, issuing_profile, root_profile, verification_profile
from shared.pki.signing_keys import KeyAlgorithm
from shared.pki.subjects import Subject
from tests.pki.hierarchy import certificate_authority, spare_key
from tests.unit.pki import gnutls

if TYPE_CHECKING:
    from cryptography import x509

    from shared.pki.issuers import Issuer

pytestmark = pytest.mark.skipif(gnutls.library() is None, reason="there is no GnuTLS: on Debian install libgnutls30")

CLIENT, SERVER = "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1"


@cache
def authorities(algorithm: KeyAlgorithm) -> tuple[Issuer, Issuer]:
    """Make a CA below a CA below a root, valid now: GnuTLS has no other clock."""
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


PROFILES = {
    algorithm: gnutls.Profile.MEDIUM if algorithm is KeyAlgorithm.RSA_2048 else gnutls.Profile.HIGH
    for algorithm in KeyAlgorithm
}
"""GnuTLS's high profile wants 128 bits of security, and RSA-2048 has 112 (NIST SP 800-57): it passes medium at best."""

TRUSTED = (True, "The certificate is trusted.")


def verdict(
    chain: list[x509.Certificate], profile: gnutls.Profile = gnutls.Profile.HIGH, purpose: str = ""
) -> tuple[bool, str]:
    """Verify a chain, leaf first, against its last certificate."""
    return gnutls.verdict(chain, root=chain[-1], profile=profile, purpose=purpose)


@pytest.mark.long
@pytest.mark.parametrize("algorithm", KeyAlgorithm)
@pytest.mark.parametrize("profile", [device_profile(), verification_profile()], ids=lambda profile: profile.kind.value)
def test_every_chain_is_verified(profile: Profile, algorithm: KeyAlgorithm) -> None:
    """A leaf of each profile, with CA and device keys of each algorithm, is trusted up to the root."""
    _, line = authorities(algorithm)
    chain = [leaf(profile, line, algorithm), *line.chain]
    assert verdict(chain, PROFILES[algorithm]) == TRUSTED


def test_rsa_2048_does_not_reach_the_high_profile() -> None:
    """An owner whose devices verify with GnuTLS's high profile needs RSA-3072 or EC: 2048 bits are too few for it."""
    _, line = authorities(KeyAlgorithm.RSA_2048)
    trusted, said = verdict([leaf(device_profile(), line, KeyAlgorithm.RSA_2048), *line.chain])
    assert not trusted
    assert said.endswith("The certificate chain uses insecure algorithm.")


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_a_device_may_be_a_tls_client(algorithm: KeyAlgorithm) -> None:
    """The same leaf is trusted when GnuTLS is asked for a TLS client's purpose."""
    _, line = authorities(algorithm)
    chain = [leaf(device_profile(), line, algorithm), *line.chain]
    assert verdict(chain, PROFILES[algorithm], CLIENT) == TRUSTED


def test_a_chain_that_lacks_a_ca_is_not_verified() -> None:
    """What GnuTLS says here is worth something: without an intermediate it refuses."""
    _, line = authorities(KeyAlgorithm.EC_P256)
    device = leaf(device_profile(), line, KeyAlgorithm.EC_P256)
    trusted, said = verdict([device, line.certificate, line.chain[-1]])
    assert not trusted
    assert said.startswith("The certificate is NOT trusted.")


def test_a_server_purpose_is_refused() -> None:
    """A device certificate is not a server's: asked for that purpose, GnuTLS refuses it."""
    _, line = authorities(KeyAlgorithm.EC_P256)
    chain = [leaf(device_profile(), line, KeyAlgorithm.EC_P256), *line.chain]
    trusted, said = verdict(chain, purpose=SERVER)
    assert not trusted
    assert "purpose" in said


def test_a_broken_signature_is_found() -> None:
    """A CA of the right name with another key does not pass."""
    factory, line = authorities(KeyAlgorithm.EC_P256)
    other = certificate_authority("line", factory, KeyAlgorithm.EC_P256, issuing_profile(), now=datetime.now(UTC))
    device = leaf(device_profile(), line, KeyAlgorithm.EC_P256)
    trusted, said = verdict([device, other.certificate, *factory.chain])
    assert not trusted
    assert said.startswith("The certificate is NOT trusted.")
