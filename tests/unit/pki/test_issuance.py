"""Profiles and issuance: rules with their exact messages, and what linters and OpenSSL say of the result."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.errors import Rejected
from shared.pki import names
from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import AlreadyRedeemed, issue, new_serial_number, prepare
from shared.pki.issuers import Issuer, IssuerError
from shared.pki.profiles import (
    Kind,
    Profile,
    ProfileError,
    device_profile,
    issuing_profile,
    root_profile,
)
from shared.pki.signing_keys import KeyAlgorithm, WrongSignature, generate_key, remote_key
from shared.pki.subjects import Subject
from tests.pki.hierarchy import NOW, URLS, certificate_authority, hierarchy, vault_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared.pki.issuance import Prepared
    from shared.pki.signing_keys import PrivateKey, PublicKey

CHEAP = (KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.RSA_2048)
OWN_KEY = generate_key(KeyAlgorithm.EC_P256)


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


def prepared_root(
    public_key: PublicKey, signing_key: PrivateKey | None, *, issuer: Issuer | None = None, **changes: Any
) -> Prepared:
    known = {
        "subject": Subject("root", "Example", "US"),
        "serial_number": new_serial_number(),
        "now": NOW,
        "urls": DistributionPoints(),
    }
    profile = changes.pop("profile", root_profile())
    return prepare(profile, public_key=public_key, signing_key=signing_key, issuer=issuer, **{**known, **changes})


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
    now = NOW + timedelta(days=1)  # an hour and more after the issuer began: nothing is cut off
    certificate = hierarchy().device("press-001", now=now)
    extensions = certificate.extensions
    assert certificate.subject.rfc4514_string() == "CN=press-001"
    assert certificate.issuer == issuing.certificate.subject
    assert certificate.not_valid_before_utc == now - timedelta(minutes=10)
    assert certificate.not_valid_after_utc == now + timedelta(days=365) - timedelta(seconds=1)
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
        serial = new_serial_number(random_bits=lambda _, random=random: random)  # type: ignore[misc]
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
        ("a\u202eb", r"the CN 'a\u202eb' has characters that can't be printed"),
        ("\ud800", r"the CN '\ud800' has characters that can't be printed"),
        ("Press-001", "the CN 'Press-001' must be the registration id in lower case, 'press-001'"),
        (
            "*.example",
            "registrationId: '*.example' contains '*'; a registration id has letters, digits and - . _ : only",
        ),
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
    with pytest.raises(IssuerError, match="'line-1-ca1' is not signed by 'dpsCa', which follows it"):
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


def test_one_of_many_threads_signs() -> None:
    """A prepared certificate that many threads redeem at once is signed by one of them."""
    issuer, prepared = hierarchy().issuing, prepared_device()

    def redeem(_: int) -> bool:
        try:
            issue(prepared, issuer)
        except AlreadyRedeemed:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(redeem, range(32))) == 1


def test_a_vault_that_signs_with_another_key_makes_no_certificate() -> None:
    """A signature that does not fit the CA's key stops the issuance."""
    key, other = generate_key(KeyAlgorithm.EC_P256), generate_key(KeyAlgorithm.EC_P256)
    wrong = remote_key(key.public_key(), vault_of(other))
    prepared = prepared_root(key.public_key(), wrong)
    with pytest.raises(WrongSignature, match="the signature that the vault gave does not fit the key that was meant"):
        issue(prepared, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signing_key": None}, "a root has no issuer: it is signed by its own key"),
        ({"issuer": hierarchy().root}, "a root has no issuer: it is signed by its own key"),
        (
            {"signing_key": generate_key(KeyAlgorithm.EC_P256)},
            "a root's signing key must be the private half of the key it certifies",
        ),
        ({"profile": device_profile()}, "only a root signs itself; everything else is signed by an issuer's key"),
        (
            {"profile": device_profile(), "issuer": hierarchy().issuing},
            "only a root signs itself; everything else is signed by an issuer's key",
        ),
        (
            {"serial_number": 0},
            "serial number 0 is not positive, or has more than 20 octets (RFC 5280 section 4.1.2.2)",
        ),
        (
            {"serial_number": 1 << 159},
            f"serial number {1 << 159} is not positive, or has more than 20 octets (RFC 5280 section 4.1.2.2)",
        ),
    ],
)
def test_what_the_callers_got_wrong_is_found_before_signing(changes: dict[str, Any], message: str) -> None:
    """A wrong combination of profile, issuer, key and serial number can't be prepared."""
    given = {"signing_key": OWN_KEY, "issuer": None, "subject": Subject("press-001"), **changes}
    with pytest.raises(ProfileError) as caught:
        prepared_root(OWN_KEY.public_key(), **given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Subject("a", country="usa"), "the country 'usa' must be two capital letters (ISO 3166-1)"),
        (lambda: Subject("a", organization=""), "the organization '' must have 1 to 64 characters that can be printed"),
        (
            lambda: DistributionPoints("ldap://x"),
            "'ldap://x' is not a valid URL for a certificate; give one in ASCII that begins with http://",
        ),
        (
            lambda: DistributionPoints(None, "http://b\u00e4r"),
            "'http://b\u00e4r' is not a valid URL for a certificate; give one in ASCII that begins with http://",
        ),
    ],
)
def test_wrong_settings_are_refused_when_they_are_read(make: Callable[[], object], message: str) -> None:
    """Names and URLs that no certificate can hold are refused before any request comes."""
    with pytest.raises(ProfileError) as caught:
        make()
    assert str(caught.value) == message


def test_a_life_beyond_the_year_9999_is_refused() -> None:
    """A certificate can't name a later year, for a root and below."""
    with pytest.raises(Rejected) as caught:
        prepared_root(OWN_KEY.public_key(), OWN_KEY, profile=root_profile(validity=timedelta(days=3_000_000)))
    assert str(caught.value) == (
        "validityDays: a life of 3000000 days ends after the year 9999, the last that a certificate can name "
        "(RFC 5280 section 4.1.2.5)"
    )


def test_a_ca_does_not_sign_before_it_is_valid() -> None:
    """An issuer that is not valid yet is refused with the time from which it is."""
    later = certificate_authority(
        "later", None, KeyAlgorithm.EC_P256, root_profile(path_length=0), now=NOW + timedelta(days=2)
    )
    with pytest.raises(Rejected) as caught:
        prepared_device(issuer=later)
    assert str(caught.value) == "'later' can't sign before 2026-03-03 11:50 UTC, when it becomes valid"


def test_an_expired_ca_does_not_sign() -> None:
    """An issuer whose life is over leaves no days."""
    early = certificate_authority(
        "early", None, KeyAlgorithm.EC_P256, root_profile(validity=timedelta(days=1)), now=NOW - timedelta(days=9)
    )
    with pytest.raises(Rejected) as caught:
        prepared_device(issuer=early)
    assert str(caught.value) == (
        "validityDays: 'early' ends on 2026-02-21, which leaves 0 of the 365 days wanted; roll the issuing CA, or ask for "
        "fewer days"
    )


def test_a_deeper_hierarchy_can_be_expressed() -> None:
    """Root, factory, line and device with path lengths 3, 2 and 0, as other tools lay them out."""
    root = hierarchy().root
    factory = certificate_authority("factory", root, KeyAlgorithm.EC_P256, issuing_profile(path_length=2))
    line = certificate_authority("line", factory, KeyAlgorithm.EC_P256, issuing_profile())
    assert [issuer.path_length for issuer in (root, factory, line)] == [3, 2, 0]
    assert issue(prepared_device(issuer=line), line).issuer == line.certificate.subject


FLAGS = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
MORE_FLAGS = ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
SIGNS = x509.KeyUsage(**{flag: flag == "key_cert_sign" for flag in (*FLAGS, *MORE_FLAGS)})
SIGNS_NOTHING = x509.KeyUsage(**{flag: flag == "digital_signature" for flag in (*FLAGS, *MORE_FLAGS)})


def foreign_issuer(
    *extensions: x509.ExtensionType, name: str = "bought", parent: Issuer | None = None, days: int = 4000
) -> Issuer:
    """Make a CA that this project would not, as an owner may bring one along."""
    key = generate_key(KeyAlgorithm.EC_P256)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    above = parent.certificate.subject if parent else subject
    builder = x509.CertificateBuilder(above, subject, key.public_key(), 1, NOW, NOW + timedelta(days=days))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(parent.signing_key if parent else key, hashes.SHA256())
    return Issuer(certificate, key, (certificate, *(parent.chain if parent else ())))


IDENTIFIER = x509.SubjectKeyIdentifier(b"1")
ANY_DEPTH, LAST = x509.BasicConstraints(ca=True, path_length=None), x509.BasicConstraints(ca=True, path_length=0)


@pytest.mark.parametrize(
    ("extensions", "message"),
    [
        ((SIGNS, IDENTIFIER), "'bought' stands above another certificate and has no CA rights (basicConstraints)"),
        (
            (x509.BasicConstraints(ca=False, path_length=None), SIGNS, IDENTIFIER),
            "'bought' stands above another certificate and has no CA rights (basicConstraints)",
        ),
        (
            (ANY_DEPTH, SIGNS_NOTHING, IDENTIFIER),
            "the key usage of 'bought' forbids signing certificates (keyCertSign)",
        ),
        ((ANY_DEPTH, SIGNS), "the certificate of 'bought' has no SubjectKeyIdentifier extension"),
    ],
)
def test_a_ca_that_can_not_sign_is_refused_at_the_start(
    extensions: tuple[x509.ExtensionType, ...], message: str
) -> None:
    """An issuer whose certificate forbids signing, or leaves open whether it may, can't be made."""
    with pytest.raises(IssuerError) as caught:
        foreign_issuer(*extensions)
    assert str(caught.value) == message


def test_a_chain_that_is_longer_than_its_root_allows_is_refused_at_the_start() -> None:
    """Path lengths are checked over the whole chain, and the least of them counts for what is below."""
    root = foreign_issuer(LAST, SIGNS, IDENTIFIER, name="top")
    with pytest.raises(IssuerError) as caught:
        foreign_issuer(ANY_DEPTH, SIGNS, IDENTIFIER, parent=root)
    assert str(caught.value) == "'top' allows 0 CAs below it, and 1 are there"
    wider = foreign_issuer(x509.BasicConstraints(ca=True, path_length=2), SIGNS, IDENTIFIER, name="top")
    assert foreign_issuer(ANY_DEPTH, SIGNS, IDENTIFIER, parent=wider).path_length == 1
    assert foreign_issuer(ANY_DEPTH, SIGNS, IDENTIFIER).path_length is None


def test_a_chain_without_its_root_is_refused_at_the_start() -> None:
    """An issuer's chain goes up to and includes the root."""
    issuing = hierarchy().issuing
    with pytest.raises(IssuerError) as caught:
        Issuer(issuing.certificate, issuing.signing_key, (issuing.certificate,))
    assert str(caught.value) == (
        "the chain of 'line-1-ca1' ends at 'line-1-ca1', which is not a root; it must go up to and include the root"
    )
    with pytest.raises(IssuerError) as caught:
        Issuer(issuing.certificate, issuing.signing_key, hierarchy().root.chain)
    assert str(caught.value) == "the chain of 'line-1-ca1' must begin with its own certificate"


def test_nothing_outlives_any_ca_above_it() -> None:
    """A root that ends before the CA below it limits what that CA signs."""
    root = foreign_issuer(ANY_DEPTH, SIGNS, IDENTIFIER, name="top", days=360)
    issuer = foreign_issuer(ANY_DEPTH, SIGNS, IDENTIFIER, parent=root)
    certificate = issue(prepared_device(issuer=issuer), issuer)
    assert certificate.not_valid_after_utc == root.certificate.not_valid_after_utc
    with pytest.raises(Rejected, match="'top' ends on 2027-02-24, which leaves 360 of the 500 days wanted"):
        prepared_device(issuer=issuer, days=500)


def test_the_key_of_a_ca_is_in_no_text() -> None:
    """What is printed of an issuer does not hold its key."""
    assert "key" not in repr(hierarchy().issuing).lower()
