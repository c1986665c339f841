"""Whose CAs may sign here: what the pre-flight check would refuse of every device is refused at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.errors import Rejected
from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import new_serial_number, prepare
from shared.pki.issuer_limits import check_for_devices
from shared.pki.issuers import IssuerError
from shared.pki.profiles import device_profile, issuing_profile
from shared.pki.subjects import Subject
from tests.pki.foreign import KEY, authority, issuer, key_usage
from tests.pki.hierarchy import NOW

if TYPE_CHECKING:
    from shared.pki.issuers import Issuer
    from shared.pki.profiles import Profile

SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
STRANGE_KEY = ec.generate_private_key(ec.SECP521R1())
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
# An alternative name of the kind x400Address, which cryptography can't read.
X400 = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), bytes.fromhex("3002a300"))
ROOT = authority("top")
OTHER = x509.AuthorityKeyIdentifier(b"0", None, None)


def permitting(organization: str) -> x509.NameConstraints:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])
    return x509.NameConstraints([x509.DirectoryName(name)], None)


def below_strange_key() -> tuple[x509.Certificate, ...]:
    middle = authority("middle", parent=ROOT, key=STRANGE_KEY)
    return authority("low", parent=middle, signed_by=STRANGE_KEY), middle, ROOT


def below_servers() -> tuple[x509.Certificate, ...]:
    middle = authority("middle", SERVERS, parent=ROOT)
    return authority("low", parent=middle), middle, ROOT


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (
            below_strange_key(),
            "the key of 'middle' can't be used: the key is EC secp521r1; supported are EC-P256, EC-P384, RSA-2048, "
            "RSA-3072, RSA-4096",
        ),
        (below_servers(), "the extended key usage of 'middle' lacks clientAuth"),
        ((authority("top", SERVERS),), "the extended key usage of 'top' lacks clientAuth"),
        (
            (authority("low", OTHER, parent=ROOT), ROOT),
            "'low' names another key or certificate as its issuer's than that of 'top': the CA was renewed since",
        ),
        (
            (authority("low", parent=ROOT), authority("top", permitting("Corp"))),  # of the same name and key
            "'top' constrains the names below it, and 'low' has the name 'CN=low', which is not permitted there",
        ),
        (
            (authority("x", X400),),
            "certificate 1 of the CA's chain can't be read: its extension subjectAltName (2.5.29.17) is damaged, or of a "
            "form that is not supported",
        ),
        ((ROOT,) * 17, "there are 17 certificates; at most 16 make a chain"),
    ],
)
def test_a_ca_whose_devices_would_all_be_refused_is_refused_at_the_start(
    chain: tuple[x509.Certificate, ...], message: str
) -> None:
    """Keys, purposes, identifiers, names and length are checked along the whole chain, and the reason is given."""
    with pytest.raises(IssuerError) as caught:
        issuer(*chain)
    assert str(caught.value) == message


def test_a_root_without_key_usage_signs_certificates_and_lists() -> None:
    """What ``openssl req -x509`` makes has none; its absence forbids nothing (RFC 5280 sections 6.1.4 n, 6.3.3 f)."""
    assert issuer(ROOT).may_sign_crls
    assert issuer(authority("top", key_usage("key_cert_sign", "crl_sign"))).may_sign_crls
    assert not issuer(authority("top", key_usage("key_cert_sign"))).may_sign_crls


def test_a_ca_that_signs_its_own_new_key_counts_in_no_path_length() -> None:
    """A chain through a self-issued CA is as long as one without it (RFC 5280 section 4.2.1.9)."""
    old_key = ec.generate_private_key(ec.SECP256R1())
    old = authority("top", length=1, key=old_key, signed_by=old_key)
    new = authority("top", parent=old, signed_by=old_key)
    low = authority("low", parent=new)
    assert issuer(new, old).path_length == 1
    assert issuer(low, new, old).path_length == 0


def test_a_ca_that_signs_its_own_new_key_keeps_its_name() -> None:
    """Constraints do not apply to a self-issued CA (RFC 5280 section 6.1.3 b): it has the name of the one above it."""
    old_key = ec.generate_private_key(ec.SECP256R1())
    old = authority("top", permitting("Corp"), key=old_key, signed_by=old_key)
    assert issuer(authority("top", parent=old, signed_by=old_key), old).chain[1:] == (old,)


def prepared(profile: Profile, name: str, above: Issuer) -> None:
    prepare(
        profile,
        subject=Subject(name, "Corp" if profile.is_ca else None),
        public_key=KEY.public_key(),
        issuer=above,
        serial_number=new_serial_number(),
        now=NOW,
        urls=DistributionPoints(),
    )


def test_a_name_that_the_chain_does_not_permit_is_refused_before_signing() -> None:
    """Constraints of any CA of the chain are applied to the subject: here an organization's CAs may be named, no device."""
    root = authority("top", permitting("Corp"))
    with pytest.raises(Rejected) as caught:
        prepared(device_profile(), "press-001", issuer(root))
    reason = "whose chain constrains names: it has the name {}, which is not permitted there"
    assert str(caught.value) == (
        "issuer: 'press-001' can't have a certificate of 'top', " + reason.format("'CN=press-001'")
    )
    prepared(issuing_profile(), "line", issuer(root))
    with pytest.raises(Rejected) as caught:
        check_for_devices(issuer(root), NOW, field="pem")
    assert str(caught.value) == "pem: 'device-1' can't have a certificate of 'top', " + reason.format("'CN=device-1'")


@pytest.mark.parametrize(
    ("days", "message"),
    [
        ((-9, -1), "'top' expired on 2026-02-28 12:00 UTC"),
        ((30, 400), "'top' is valid from 2026-03-31 12:00 UTC"),
    ],
)
def test_a_ca_from_elsewhere_is_valid_now(days: tuple[int, int], message: str) -> None:
    """One that has expired, or that is not valid yet, can't be put to use."""
    with pytest.raises(Rejected) as caught:
        check_for_devices(issuer(authority("top", days=days)), NOW, field="pfx")
    assert str(caught.value) == f"pfx: {message}"
    check_for_devices(issuer(ROOT), NOW, field="pfx")
