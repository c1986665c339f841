"""Pkilint has no finding from NOTICE up in any certificate: each profile, below CAs of each algorithm."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from shared.pki.issuance import issue, new_serial_number, prepare
from shared.pki.issuers import Issuer
from shared.pki.profiles import (
    Profile,
    device_profile,
    issuing_profile,
    ocsp_responder_profile,
    root_profile,
    verification_profile,
)
from shared.pki.signing_keys import KeyAlgorithm
from shared.pki.subjects import Subject
from tests.pki.hierarchy import NOW, URLS, hierarchy, spare_key
from tests.unit.pki.linting import findings_of_certificate, findings_of_pair

if TYPE_CHECKING:
    from shared.pki.signing_keys import PrivateKey


def certified(profile: Profile, name: str, key: PrivateKey, issuer: Issuer | None) -> x509.Certificate:
    prepared = prepare(
        profile,
        subject=Subject(name, "Example", "US") if profile.is_ca else Subject(name),
        public_key=key.public_key(),
        issuer=issuer,
        signing_key=None if issuer else key,
        serial_number=new_serial_number(),
        now=NOW,
        urls=URLS,
    )
    return issue(prepared, issuer)


@cache
def authority(algorithm: KeyAlgorithm) -> Issuer:
    """Make a root with a key of this algorithm."""
    key = spare_key(algorithm)
    certificate = certified(root_profile(), "root", key, None)
    return Issuer(certificate, key, (certificate,))


@cache
def issuing_authority(algorithm: KeyAlgorithm) -> Issuer:
    """Make an issuing CA with a key of this algorithm."""
    root, key = hierarchy().root, spare_key(algorithm)
    certificate = certified(issuing_profile(), "line-1", key, root)
    return Issuer(certificate, key, (certificate, *root.chain))


PROFILES = {
    "issuing": (issuing_profile(), "line-2"),
    "device": (device_profile(), "press-001"),
    "verification": (verification_profile(), "0123456789ABCDEF"),
    "OCSP responder": (ocsp_responder_profile(), "OCSP line-1"),
}


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_no_linter_finds_anything_in_a_root(algorithm: KeyAlgorithm) -> None:
    """A root of any algorithm passes by itself."""
    assert findings_of_certificate(authority(algorithm).certificate) == []


@pytest.mark.parametrize("own", KeyAlgorithm)
@pytest.mark.parametrize("above", KeyAlgorithm)
@pytest.mark.parametrize("kind", PROFILES)
def test_no_linter_finds_anything_below_a_ca(kind: str, above: KeyAlgorithm, own: KeyAlgorithm) -> None:
    """Whatever its key and its CA's, a certificate of each profile passes by itself and beside its issuer's."""
    profile, name = PROFILES[kind]
    issuer = authority(above) if profile.is_ca else issuing_authority(above)
    certificate = certified(profile, name, spare_key(own), issuer)
    assert findings_of_certificate(certificate) == []
    assert findings_of_pair(issuer.certificate, certificate) == []


def test_the_linted_certificates_name_every_url_that_production_writes() -> None:
    """What passes above is not a certificate with less in it than those that devices get."""
    assert None not in (URLS.crl_url, URLS.ca_issuers_url, URLS.ocsp_url)
    issuer = issuing_authority(KeyAlgorithm.EC_P256)
    for certificate in (
        issuer.certificate,
        certified(device_profile(), "press-001", spare_key(KeyAlgorithm.EC_P256), issuer),
    ):
        extensions = certificate.extensions
        assert extensions.get_extension_for_class(x509.CRLDistributionPoints)
        assert len(extensions.get_extension_for_class(x509.AuthorityInformationAccess).value) == 2


def test_the_linter_sees_what_is_wrong() -> None:
    """A certificate with an empty extended key usage, as the trap in the field has it, does not pass the linter."""
    key = spare_key(KeyAlgorithm.EC_P256)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wrong")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    wrong = builder.add_extension(x509.ExtendedKeyUsage([]), critical=False).sign(key, hashes.SHA256())
    assert any(finding.startswith("itu.invalid_asn1_syntax") for finding in findings_of_certificate(wrong))
