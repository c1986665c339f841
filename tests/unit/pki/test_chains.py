"""The pre-flight check gives a reason in words for each cause behind 401002."""

from __future__ import annotations

import warnings
from datetime import timedelta
from functools import partial
from itertools import permutations
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store
from hypothesis import given, settings

from shared.pki.chains import check_chain
from shared.pki.names import common_name
from shared.pki.profiles import issuing_profile, root_profile
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from tests.pki.hierarchy import NOW, Hierarchy, certificate_authority, hierarchy
from tests.unit.pki.picks import overwritten, picked

DEEP_ROOT = certificate_authority("deep", None, KeyAlgorithm.EC_P256, root_profile(), now=NOW - timedelta(days=1))
FACTORY = certificate_authority("factory", DEEP_ROOT, KeyAlgorithm.EC_P256, issuing_profile(path_length=1))
LINE = certificate_authority("line", FACTORY, KeyAlgorithm.EC_P256, issuing_profile())
DEEP = Hierarchy(DEEP_ROOT, LINE)
OTHER = hierarchy(KeyAlgorithm.EC_P384)


def codes(chain: list[x509.Certificate], **changes: object) -> list[str]:
    known = {
        "registration_id": "press-001",
        "group_certificates": [LINE.certificate],
        "verified_authorities": [DEEP_ROOT.certificate],
        "now": NOW + timedelta(days=1),
    }
    return [finding.code for finding in check_chain(chain, **{**known, **changes})]  # type: ignore[arg-type]


LEAF = DEEP.device("press-001")
SWAPPED = [LEAF, FACTORY.certificate, LINE.certificate]
GOOD = [LEAF, LINE.certificate, FACTORY.certificate]


def test_a_good_chain_has_no_finding() -> None:
    """A whole chain under a verified root is accepted, with or without the root in it."""
    assert codes(GOOD) == []
    assert codes([*GOOD, DEEP_ROOT.certificate]) == []


@pytest.mark.parametrize(
    ("chain", "changes", "expected"),
    [
        ([], {}, ["empty"]),
        (GOOD, {"registration_id": "press-002"}, ["common-name"]),
        ([LEAF], {}, ["no-verified-ca"]),
        ([LEAF, LINE.certificate], {}, ["no-verified-ca"]),
        (SWAPPED, {}, ["misordered", "broken-link", "path-length", "no-verified-ca"]),
        ([LEAF, FACTORY.certificate], {}, ["broken-link", "wrong-group"]),
        (GOOD, {"verified_authorities": []}, ["no-verified-ca"]),
        ([*GOOD, DEEP_ROOT.certificate], {"verified_authorities": []}, ["not-verified"]),
        (GOOD, {"group_certificates": [OTHER.issuing.certificate]}, ["wrong-group"]),
        (GOOD, {"now": NOW + timedelta(days=400)}, ["expired"]),
        (GOOD, {"now": NOW - timedelta(days=400)}, ["not-yet-valid"] * 4),
        ([LINE.certificate, FACTORY.certificate], {}, ["common-name", "leaf-is-ca", "key-usage", "wrong-group"]),
    ],
)  # fmt: skip
def test_each_fault_has_its_code(
    chain: list[x509.Certificate], changes: dict[str, object], expected: list[str]
) -> None:
    """Every fault of a chain is found, and named."""
    assert codes(chain, **changes) == expected


def test_the_words_say_what_would_be_right() -> None:
    """A message names the certificates concerned and the way out."""
    found = check_chain(
        [LEAF, LINE.certificate],
        registration_id="press-001",
        group_certificates=[LINE.certificate],
        verified_authorities=[DEEP_ROOT.certificate],
        now=NOW + timedelta(days=1),
    )
    expected = (
        "the chain ends at 'line', whose issuer is 'CN=factory,O=Example,C=US': send every intermediate up to a CA that "
        "is verified in this DPS by proof of possession, or verify that CA"
    )
    assert [finding.message for finding in found] == [expected]


def test_a_device_directly_below_a_verified_ca_needs_no_intermediate() -> None:
    """A bare leaf is enough where its own issuer is verified, and is the group's."""
    assert codes([LEAF], verified_authorities=[LINE.certificate]) == []


POOL = [LINE.certificate, FACTORY.certificate, DEEP_ROOT.certificate, OTHER.issuing.certificate]
CHAINS = [[LEAF, *others] for size in range(4) for others in permutations(POOL, size)]
VERIFIER = (
    PolicyBuilder()
    .store(Store([DEEP_ROOT.certificate]))
    .time(NOW + timedelta(days=1))
    .extension_policies(
        ca_policy=ExtensionPolicy.webpki_defaults_ca(),
        ee_policy=ExtensionPolicy.permit_all(),  # a device has no SAN
    )
    .build_client_verifier()
)


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "-".join(common_name(each.subject) for each in chain))
def test_no_chain_passes_that_another_verifier_refuses(chain: list[x509.Certificate]) -> None:
    """Of all selections and orders of CAs, those pass that are whole and in order, and all of them verify elsewhere."""
    whole = [LEAF, LINE.certificate, FACTORY.certificate]
    assert (codes(chain) == []) == (chain in (whole, [*whole, DEEP_ROOT.certificate]))
    if not codes(chain):
        assert VERIFIER.verify(LEAF, chain[1:]).chain == [*whole, DEEP_ROOT.certificate]


KEY = generate_key(KeyAlgorithm.EC_P256)
ANY_LIFE = (NOW - timedelta(days=1), NOW + timedelta(days=365))


def foreign(
    name: str,
    issuer: str,
    *extensions: tuple[x509.ExtensionType, bool],
    key: Any = KEY,
    signed_by: Any = KEY,
) -> x509.Certificate:
    """Make a certificate that this project would not."""
    subject, above = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer))
    builder = x509.CertificateBuilder(above, subject, key.public_key(), 1, *ANY_LIFE)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signed_by, None if isinstance(signed_by, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def zero_serial_number(certificate: x509.Certificate) -> x509.Certificate:
    """Put 0 for the 1 that foreign certificates have as serial number."""
    der = certificate.public_bytes(Encoding.DER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x509.load_der_x509_certificate(der.replace(b"\2\1\1", b"\2\1\0", 1))


CA = (x509.BasicConstraints(ca=True, path_length=None), True)
SERVER_ONLY = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
LEAF_USAGE = (x509.KeyUsage(*(flag == 0 for flag in range(9))), True)
UNKNOWN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)
OTHER_IDENTIFIER = (
    x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(x509.SubjectKeyIdentifier(b"0")),
    False,
)
IDENTIFIER = (x509.SubjectKeyIdentifier(b"1"), False)
TOP = foreign("top", "top", CA, IDENTIFIER)
SUB = foreign("sub", "top", (x509.BasicConstraints(ca=True, path_length=0), True))
PATH_TOO_LONG = "path-length: 'sub' allows 0 CAs below it, and 1 are there"
ED25519 = ed25519.Ed25519PrivateKey.generate()
SUPPORTED = "supported are EC-P256, EC-P384, RSA-2048, RSA-3072, RSA-4096"


@pytest.mark.filterwarnings("ignore:Parsed a serial number", "ignore:Attribute's length")
@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([foreign("press-001", "top"), TOP], []),
        (
            [zero_serial_number(foreign("press-001", "top")), TOP],
            [
                "serial-number: the serial number of 'press-001' is 0; it must be positive and have at most 20 octets",
                "other-key: 'press-001' is not signed by 'top', which follows it: that is a CA of the right name, with "
                "another key",
            ],
        ),
        (
            [foreign("press-001", "top", SERVER_ONLY), TOP],
            ["extended-key-usage: the leaf's extended key usage lacks clientAuth"],
        ),
        (
            [foreign("press-001", "top", LEAF_USAGE), TOP],
            [],
        ),
        (
            [foreign("press-001", "top", UNKNOWN), TOP],
            ["critical-extension: 'press-001' has the critical extension 1.2.3.4, which is not known"],
        ),
        (
            [foreign("press-001", "top", OTHER_IDENTIFIER), TOP],
            [
                "authority-key-identifier: 'press-001' names another key or certificate as its issuer's than that of "
                "'top': the CA was renewed since"
            ],
        ),
        (
            [foreign("press-001", "top", key=ED25519), TOP],
            [f"key-algorithm: the key of 'press-001' can't be used: the key is Ed25519; {SUPPORTED}"],
        ),
        (
            [foreign("press-001", "top", signed_by=generate_key(KeyAlgorithm.EC_P256)), TOP],
            [
                "other-key: 'press-001' is not signed by 'top', which follows it: that is a CA of the right name, with "
                "another key"
            ],
        ),
        (
            [foreign("press-001", "top"), TOP, TOP],
            [],
        ),
        (
            [foreign("press-001", "sub"), foreign("sub", "top"), TOP],
            ["not-a-ca: 'sub' stands above another certificate and has no CA rights (basicConstraints)"],
        ),
        (
            [foreign("press-001", "sub"), foreign("sub", "top", CA, LEAF_USAGE), TOP],
            ["key-usage: the key usage of 'sub' forbids signing certificates (keyCertSign)"],
        ),
        (
            [foreign("press-001", "sub"), foreign("sub", "top", CA, SERVER_ONLY), TOP],
            ["extended-key-usage: the extended key usage of 'sub' lacks clientAuth"],
        ),
        (
            [foreign("press-001", "press-001")],
            [
                "self-signed-leaf: 'press-001' is signed by itself; a group's device has a certificate of the group's CA",
                "not-verified: the root 'press-001' is not verified in this DPS: upload it and prove possession of its "
                "key",
                "wrong-group: the enrollment group's signing certificate is 'top', and the chain's CAs are none: the group "
                "holds another CA certificate, perhaps another one of the same name",
            ],
        ),
        (
            [foreign("press-001", "sub"), SUB, SUB, TOP],
            ["duplicate: 'sub' is there twice; send it once", PATH_TOO_LONG],
        ),
        ([TOP] * 17, ["too-long: there are 17 certificates; at most 16 make a chain"]),
    ],
)
def test_what_other_cas_make_is_judged_with_the_reason(chain: list[x509.Certificate], expected: list[str]) -> None:
    """Certificates that this project never makes, and owners bring along, are judged in words."""
    found = check_chain(
        chain,
        registration_id="press-001",
        group_certificates=[TOP],
        verified_authorities=[TOP],
        now=NOW,
    )
    assert [f"{finding.code}: {finding.message}" for finding in found] == expected


def test_the_life_and_path_length_of_a_root_that_is_not_sent_count_too() -> None:
    """The verified CA above the chain is checked although the device leaves it out."""
    short = foreign("top", "top", (x509.BasicConstraints(ca=True, path_length=0), True))
    chain = [foreign("press-001", "sub"), foreign("sub", "top", CA)]
    found = check_chain(
        chain,
        registration_id="press-001",
        group_certificates=[short],
        verified_authorities=[short],
        now=NOW + timedelta(days=400),
    )
    assert [finding.message for finding in found if "'top'" in finding.message] == [
        "'top' expired on 2027-03-01 12:00 UTC",
        "'top' allows 0 CAs below it, and 1 are there",
    ]


def renewed(name: str, *extensions: tuple[x509.ExtensionType, bool], until: timedelta) -> x509.Certificate:
    """Make a root of the common key that ends at another time."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, KEY.public_key(), 2, NOW - timedelta(days=9), NOW + until)
    for extension, critical in (CA, *extensions):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(KEY, hashes.SHA256())


@pytest.mark.parametrize("order", [1, -1])
def test_one_of_several_verified_cas_of_a_name_is_enough(order: int) -> None:
    """An expired root of the same name and key beside the valid one does no harm, whichever DPS lists first."""
    roots = [renewed("top", until=timedelta(days=-1)), renewed("top", until=timedelta(days=9))][::order]
    chain = [foreign("press-001", "sub"), foreign("sub", "top", CA)]
    assert codes(chain, now=NOW, group_certificates=chain[1:], verified_authorities=roots) == []
    expired = [root for root in roots if root.not_valid_after_utc < NOW]
    assert codes(chain, now=NOW, group_certificates=chain[1:], verified_authorities=expired) == ["expired"]


def named(authority: x509.Certificate, serial_number: int) -> tuple[x509.ExtensionType, bool]:
    """Name the issuer's certificate by its issuer and number."""
    return x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(authority.issuer)], serial_number), False


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (named(TOP, 1), []),
        (named(TOP, 7), ["authority-key-identifier"]),
        (named(foreign("sub", "other"), 1), ["authority-key-identifier"]),
        (OTHER_IDENTIFIER, ["authority-key-identifier"]),
    ],
)
def test_an_issuer_that_is_named_otherwise_is_found_though_it_is_not_sent(
    identifier: tuple[x509.ExtensionType, bool], expected: list[str]
) -> None:
    """The authority key identifier counts in both its forms, towards a verified CA that the device leaves out too."""
    chain = [foreign("press-001", "sub"), foreign("sub", "top", CA, identifier)]
    for sent in (chain, [*chain, TOP]):
        assert codes(sent, now=NOW, group_certificates=[TOP], verified_authorities=[TOP]) == expected


DER = LEAF.public_bytes(Encoding.DER)


@pytest.mark.filterwarnings("ignore:Parsed a serial number", "ignore:Attribute's length")
@settings(max_examples=2000, deadline=None)
@given(picked(partial(overwritten, DER, 3)))
def test_no_damaged_certificate_raises_anything(damaged: bytes) -> None:
    """Whatever certificate can be loaded at all is judged, and passes only if nothing signed is damaged."""
    try:
        leaf = x509.load_der_x509_certificate(damaged)
    except (ValueError, x509.InvalidVersion):
        return
    if codes([leaf, LINE.certificate, FACTORY.certificate]) == []:
        assert leaf.tbs_certificate_bytes == LEAF.tbs_certificate_bytes
