"""Profiles and issuance: rules with their exact messages, and what linters and OpenSSL say of the result."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.errors import Rejected
from shared.pki import names
from shared.pki.issuance import (
    AlreadyRedeemed,
    Issuer,
    IssuerError,
    Subject,
    issue,
    new_serial_number,
    prepare,
)
from shared.pki.profiles import Kind, Profile, ProfileError, device_profile, issuing_profile, verification_profile
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from tests.unit.pki.hierarchy import NOW, URLS, certificate_authority, hierarchy
from tests.unit.pki.linting import findings_of_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from shared.pki.issuance import Prepared

CHEAP = (KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.RSA_2048)


def prepared_device(*, name: str = "press-001", days: int = 365, issuer: Issuer | None = None) -> Prepared:
    return prepare(
        device_profile(validity=timedelta(days=days)),
        subject=Subject(name),
        public_key=generate_key(KeyAlgorithm.EC_P256).public_key(),
        issuer=issuer or hierarchy().issuing,
        serial_number=new_serial_number(),
        now=NOW,
        urls=URLS,
    )


def proof(algorithm: KeyAlgorithm) -> x509.Certificate:
    root = hierarchy(algorithm).root
    return issue(
        prepare(
            verification_profile(),
            subject=Subject("0123456789ABCDEF"),
            public_key=generate_key(KeyAlgorithm.EC_P256).public_key(),
            issuer=root,
            serial_number=new_serial_number(),
            now=NOW,
            urls=URLS,
        ),
        root,
    )


@pytest.mark.parametrize("algorithm", CHEAP)
def test_no_linter_finds_anything(algorithm: KeyAlgorithm) -> None:
    """Pkilint has no finding from NOTICE up for any profile, whatever the CA's algorithm."""
    made = hierarchy(algorithm)
    device = made.device(key=generate_key(algorithm))
    for certificate in (made.root.certificate, made.issuing.certificate, device, proof(algorithm)):
        assert findings_of_certificate(certificate) == []


@pytest.mark.parametrize("algorithm", CHEAP)
def test_openssl_accepts_the_chain_strictly(algorithm: KeyAlgorithm, tmp_path: Path) -> None:
    """``openssl verify -x509_strict -purpose sslclient`` accepts a device under root and issuing CA."""
    made = hierarchy(algorithm)
    files = {"root": made.root.certificate, "issuing": made.issuing.certificate, "device": made.device()}
    for name, certificate in files.items():
        (tmp_path / name).write_bytes(certificate.public_bytes(Encoding.PEM))
    at = str(int((NOW + timedelta(days=1)).timestamp()))
    done = subprocess.run(
        [*("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-attime", at, "-CAfile", "root"),
         *("-untrusted", "issuing", "device")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "device: OK\n", done.stderr


def test_a_device_certificate_has_what_its_profile_says() -> None:
    """CN only, one year, not a CA, digitalSignature, clientAuth, its issuer's identifier and URLs; nothing else."""
    issuing = hierarchy().issuing
    certificate = hierarchy().device("press-001")
    extensions = certificate.extensions
    assert certificate.subject.rfc4514_string() == "CN=press-001"
    assert certificate.issuer == issuing.certificate.subject
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=10) or (
        certificate.not_valid_before_utc == issuing.certificate.not_valid_before_utc
    )
    assert certificate.not_valid_after_utc == NOW + timedelta(days=365) - timedelta(seconds=1)
    assert len({extension.oid for extension in extensions}) == len(extensions) == 8
    assert extensions.get_extension_for_class(x509.BasicConstraints) == x509.Extension(
        x509.BasicConstraints.oid, critical=True, value=x509.BasicConstraints(ca=False, path_length=None)
    )
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value == device_profile().key_usage()
    assert usage.value.digital_signature
    assert not usage.value.key_encipherment
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    identifier = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    upper = issuing.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert identifier == upper.digest


def test_serial_numbers_are_20_octets_positive_and_all_random() -> None:
    """A serial number has 20 octets and a clear top bit, for the least and the greatest random number."""
    for random in (0, 2**158 - 1):
        serial = new_serial_number(lambda _, random=random: random)  # type: ignore[misc]
        assert len(serial.to_bytes(20, "big").lstrip(b"\0")) == 20
        assert serial.bit_length() <= 159
        assert len(names.serial_text(serial)) == 40
    assert new_serial_number() != new_serial_number()


def test_a_prepared_certificate_is_signed_once() -> None:
    """Redeeming a prepared certificate a second time is refused."""
    issuer = hierarchy().issuing
    prepared = prepared_device()
    issue(prepared, issuer)
    with pytest.raises(AlreadyRedeemed, match="was signed before; prepare another one"):
        issue(prepared, issuer)


def test_a_prepared_certificate_is_signed_by_its_own_issuer_only() -> None:
    """A certificate prepared for one CA is not signed by another."""
    with pytest.raises(AlreadyRedeemed, match="was prepared for another CA"):
        issue(prepared_device(), hierarchy(KeyAlgorithm.EC_P384).issuing)


def test_too_little_life_left_in_the_issuer_is_refused_and_not_shortened() -> None:
    """Less than nine tenths of the wanted life left in the issuer is a rejection that says what is left."""
    issuing_profile(validity=timedelta(days=300))
    short = certificate_authority(
        "short", hierarchy().root, KeyAlgorithm.EC_P256, issuing_profile(validity=timedelta(days=300))
    )
    with pytest.raises(Rejected) as caught:
        prepared_device(issuer=short)
    assert str(caught.value) == (
        "validityDays: 'short' ends on 2026-12-26, which leaves 299 of the 365 days wanted; roll the issuing CA, or "
        "ask for fewer days"
    )
    certificate = issue(prepared_device(days=320, issuer=short), short)
    assert certificate.not_valid_after_utc == short.certificate.not_valid_after_utc


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "the CN '' has 0 characters; 1 to 64 are allowed (RFC 5280 ub-common-name)"),
        ("x" * 65, f"the CN {'x' * 65!r} has 65 characters; 1 to 64 are allowed (RFC 5280 ub-common-name)"),
        ("a\nb", r"the CN 'a\nb' has characters that can't be printed"),
    ],
)
def test_a_name_that_no_cn_can_hold_is_refused(name: str, message: str) -> None:
    """An empty, overlong or unprintable CN is rejected with its rule."""
    with pytest.raises(Rejected) as caught:
        prepared_device(name=name)
    assert str(caught.value) == message


def test_a_ca_below_one_that_allows_none_is_refused() -> None:
    """Path lengths must fall from CA to CA."""
    with pytest.raises(Rejected) as caught:
        certificate_authority("below", hierarchy().issuing, KeyAlgorithm.EC_P256, issuing_profile())
    assert str(caught.value) == (
        "pathLength: a CA of path length 0 does not fit below 'line-1-ca1', whose path length is 0: it must be smaller "
        "(RFC 5280 section 4.2.1.9)"
    )


def test_a_ca_whose_key_is_not_its_own_is_refused_at_the_start() -> None:
    """An issuer with another key than its certificate's can't be made."""
    issuing = hierarchy().issuing
    with pytest.raises(IssuerError, match="the key of CA 'line-1-ca1' does not match its certificate"):
        Issuer(issuing.certificate, generate_key(KeyAlgorithm.EC_P256), issuing.chain)


def test_a_ca_with_a_gap_in_its_chain_is_refused_at_the_start() -> None:
    """An issuer whose chain does not link can't be made."""
    issuing, other = hierarchy().issuing, hierarchy(KeyAlgorithm.EC_P384).root
    with pytest.raises(IssuerError, match="the chain of 'line-1-ca1' has a gap: 'line-1-ca1' is not signed by 'dpsCa'"):
        Issuer(issuing.certificate, issuing.signing_key, (issuing.certificate, other.certificate))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": Kind.DEVICE, "path_length": 0}, "only a CA has a path length"),
        ({"kind": Kind.INTERMEDIATE}, "a CA needs a path length of 0 or more, not None"),
        ({"kind": Kind.ROOT, "path_length": 1, "client_authentication": True}, "a root is trusted as it is"),
        ({"kind": Kind.DEVICE, "validity": timedelta(minutes=5)}, "a life of 0:05:00 is too short"),
    ],
)
def test_a_profile_that_contradicts_itself_can_not_be_made(fields: dict[str, object], message: str) -> None:
    """A profile is checked when it is made, not when it is used."""
    with pytest.raises(ProfileError, match=message):
        Profile(**{"validity": timedelta(days=1), **fields})  # type: ignore[arg-type]
