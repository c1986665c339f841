"""What is in the certificates of each profile, written out once more: the profiles' own words prove nothing."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from shared.errors import Rejected
from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import issue, prepare
from shared.pki.issuers import Issuer
from shared.pki.profiles import (
    Profile,
    device_profile,
    issuing_profile,
    ocsp_responder_profile,
    root_profile,
    verification_profile,
)
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.pki.subjects import Subject
from tests.pki.hierarchy import NOW, certificate_authority, hierarchy, spare_key

KEY = spare_key(KeyAlgorithm.EC_P256)
CRL, CA, OCSP = "http://a.example/x.crl", "http://b.example/x.cer", "http://c.example/x"
URLS = DistributionPoints(crl_url=CRL, ca_issuers_url=CA, ocsp_url=OCSP)
IDENTIFIER = b"chosen by another's rule"
FLAGS = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
type Written = tuple[x509.ExtensionType, bool]
"""An extension, and whether it is critical."""


def usage(*flags: str) -> Written:
    return x509.KeyUsage(**{flag: flag in flags for flag in FLAGS}), True


def constraints(*, ca: bool, path_length: int | None = None) -> Written:
    return x509.BasicConstraints(ca=ca, path_length=path_length), True


def purposes(*oids: x509.ObjectIdentifier) -> Written:
    return x509.ExtendedKeyUsage(oids), False


def foreign_root(*, begins: datetime = NOW - timedelta(days=9), ends: datetime = NOW + timedelta(days=4000)) -> Issuer:
    """Make a root whose key identifier is not a hash of its key, as RFC 5280 section 4.2.1.2 allows."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bought")])
    certificate = (
        x509.CertificateBuilder(name, name, KEY.public_key(), 1, begins, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage("key_cert_sign", "crl_sign")[0], critical=True)
        .add_extension(x509.SubjectKeyIdentifier(IDENTIFIER), critical=False)
        .sign(KEY, hashes.SHA256())
    )
    return Issuer(certificate, KEY, (certificate,))


def certified(
    profile: Profile, issuer: Issuer | None, *, now: datetime = NOW, urls: DistributionPoints = URLS
) -> x509.Certificate:
    prepared = prepare(
        profile,
        subject=Subject("press-001"),
        public_key=KEY.public_key(),
        issuer=issuer,
        signing_key=None if issuer else KEY,
        serial_number=7,
        now=now,
        urls=urls,
    )
    return issue(prepared, issuer)


# RFC 5280 section 4.2.1.4: anyPolicy.
POLICIES: Written = (
    x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), None)]),
    False,
)
# Section 4.2.1.1: octet by octet what the issuer's certificate says of itself.
ISSUERS_KEY: Written = (x509.AuthorityKeyIdentifier(IDENTIFIER, None, None), False)
LISTS: Written = (
    x509.CRLDistributionPoints([x509.DistributionPoint([x509.UniformResourceIdentifier(CRL)], None, None, None)]),
    False,
)
ANSWERS = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(OCSP))
ISSUERS = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(CA))
ACCESS: Written = (x509.AuthorityInformationAccess([ANSWERS, ISSUERS]), False)
CLIENT, RESPONDER = purposes(ExtendedKeyUsageOID.CLIENT_AUTH), purposes(ExtendedKeyUsageOID.OCSP_SIGNING)
SIGNS_CERTIFICATES, SIGNS = usage("key_cert_sign", "crl_sign"), usage("digital_signature")
LEAF = constraints(ca=False)
KEY_BITS = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
OWN_KEY: Written = (
    x509.SubjectKeyIdentifier(hashlib.sha1(KEY_BITS, usedforsecurity=False).digest()),  # section 4.2.1.2, method 1
    False,
)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        pytest.param(root_profile(), (constraints(ca=True, path_length=3), SIGNS_CERTIFICATES), id="root"),
        pytest.param(
            issuing_profile(),
            (constraints(ca=True, path_length=0), SIGNS_CERTIFICATES, CLIENT, POLICIES, ISSUERS_KEY, LISTS, ACCESS),
            id="issuing",
        ),
        pytest.param(
            issuing_profile(path_length=2),
            (constraints(ca=True, path_length=2), SIGNS_CERTIFICATES, CLIENT, POLICIES, ISSUERS_KEY, LISTS, ACCESS),
            id="CA above issuing CAs",
        ),
        pytest.param(
            device_profile(), (LEAF, SIGNS, CLIENT, POLICIES, ISSUERS_KEY, LISTS, ACCESS), id="device"
        ),
        pytest.param(verification_profile(), (LEAF, SIGNS, ISSUERS_KEY), id="verification"),
        pytest.param(
            ocsp_responder_profile(), (LEAF, SIGNS, RESPONDER, (x509.OCSPNoCheck(), False), ISSUERS_KEY), id="OCSP"
        ),
    ],
)  # fmt: skip
def test_a_certificate_has_these_extensions_and_no_other(profile: Profile, expected: tuple[Written, ...]) -> None:
    """Each extension with its content and whether it is critical, in their order; its own key's identifier is last."""
    certificate = certified(profile, None if profile == root_profile() else foreign_root())
    written = [(extension.value, extension.critical) for extension in certificate.extensions]
    assert written == [*expected, OWN_KEY]


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        (DistributionPoints(), []),
        (DistributionPoints(crl_url=CRL), [LISTS[0]]),
        (DistributionPoints(ocsp_url=OCSP), [x509.AuthorityInformationAccess([ANSWERS])]),
        (DistributionPoints(ca_issuers_url=CA), [x509.AuthorityInformationAccess([ISSUERS])]),
    ],
)  # fmt: skip
def test_a_url_that_is_not_given_is_not_named(urls: DistributionPoints, expected: list[x509.ExtensionType]) -> None:
    """Each URL stands in its own place, and the extension is left out without one."""
    certificate = certified(device_profile(), foreign_root(), urls=urls)
    kinds = (x509.CRLDistributionPoints, x509.AuthorityInformationAccess)
    assert [each.value for each in certificate.extensions if isinstance(each.value, kinds)] == expected


def test_a_ca_whose_urls_change_writes_the_new_ones() -> None:
    """What a CA keeps of the extensions that it wrote is for these URLs and this profile."""
    issuer = foreign_root()
    for urls in (URLS, DistributionPoints(crl_url=OCSP), URLS):
        for profile in (device_profile(), issuing_profile(), device_profile()):
            alone = certified(profile, foreign_root(), urls=urls)
            assert [*certified(profile, issuer, urls=urls).extensions] == [*alone.extensions]


def test_a_certificate_begins_no_earlier_than_its_issuer() -> None:
    """NotBefore lies ten minutes back, but not before the CA's own."""
    issuer = foreign_root(begins=NOW)
    begins = [
        certified(device_profile(), issuer, now=NOW + timedelta(minutes=minutes)).not_valid_before_utc - NOW
        for minutes in (0, 3, 10, 11)
    ]
    assert begins == [timedelta(minutes=minutes) for minutes in (0, 0, 0, 1)]


@pytest.mark.parametrize(
    ("profile", "days"),
    [
        (root_profile(), 3652),
        (issuing_profile(), 1826),
        (device_profile(), 365),
        (verification_profile(), 1),
        (ocsp_responder_profile(), 14),
    ],
    ids=["root", "issuing", "device", "verification", "OCSP"],
)
def test_a_certificate_lives_as_long_as_its_profile_says(profile: Profile, days: int) -> None:
    """NotAfter is the last second of the life, since it is inclusive (RFC 5280 section 4.1.2.5)."""
    certificate = certified(profile, None if profile == root_profile() else foreign_root())
    assert certificate.not_valid_after_utc == NOW + timedelta(days=days, seconds=-1)


def test_nine_tenths_of_a_life_are_enough() -> None:
    """A CA with just so much left signs, to its own last second; with a second less it refuses."""
    wanted = device_profile(validity=timedelta(days=100))
    enough = foreign_root(ends=NOW + timedelta(days=90))
    assert certified(wanted, enough).not_valid_after_utc == NOW + timedelta(days=90)
    with pytest.raises(Rejected, match="which leaves 89 of the 100 days wanted"):
        certified(wanted, foreign_root(ends=NOW + timedelta(days=90, seconds=-1)))


@pytest.mark.parametrize("path_length", [0, 1, 2, 3])
def test_a_ca_fits_below_one_of_greater_path_length_only(path_length: int) -> None:
    """Below a CA that allows two further ones, a CA allows one or none."""
    above = certificate_authority("above", None, KeyAlgorithm.EC_P256, root_profile(path_length=2))
    profile = issuing_profile(path_length=path_length)
    if path_length < 2:
        assert certified(profile, above).extensions.get_extension_for_class(x509.BasicConstraints).value == (
            x509.BasicConstraints(ca=True, path_length=path_length)
        )
        return
    with pytest.raises(Rejected, match=f"a CA of path length {path_length} does not fit below 'above'"):
        certified(profile, above)


def test_names_number_and_key_are_those_that_were_given() -> None:
    """Subject, issuer, serial number, key and version of a device's certificate."""
    issuer, key = hierarchy().issuing, generate_key(KeyAlgorithm.EC_P256).public_key()
    prepared = prepare(
        device_profile(), subject=Subject("press-001", "Example", "DE"), public_key=key, issuer=issuer,
        serial_number=(1 << 159) - 1, now=NOW, urls=URLS,
    )  # fmt: skip
    certificate = issue(prepared, issuer)
    assert certificate.subject.rfc4514_string() == "CN=press-001,O=Example,C=DE"
    assert certificate.issuer.public_bytes() == issuer.certificate.subject.public_bytes()
    assert (certificate.serial_number, certificate.version) == ((1 << 159) - 1, x509.Version.v3)
    assert certificate.public_key() == key
    certificate.verify_directly_issued_by(issuer.certificate)
