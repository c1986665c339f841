"""Names in several encodings: one name by RFC 5280, and several for Windows and Go."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.errors import Rejected
from shared.pki import names
from shared.pki.authority_files import authority_from_pem
from shared.pki.identities import authority_identity
from shared.pki.path_rules import link_findings
from tests.pki.hierarchy import NOW
from tests.unit.pki import handmade
from tests.unit.pki.handmade import BMP, CN, PRINTABLE, TELETEX, UNIVERSAL, UTF8, name, plain

ROOT_KEY, KEY = (ec.derive_private_key(number, ec.SECP256R1()) for number in (1001, 1002))
OTHER_ENCODING = (
    "'Line' is signed by 'Root One', and writes its issuer's name in another encoding (string type, case or spaces) than "
    "that certificate. RFC 5280 takes both as one name (section 7.1), Windows and Go compare octets: have 'Line' issued "
    "anew with the issuer's name as it stands there"
)


def subject_of(encoded: bytes) -> x509.Name:
    return x509.load_der_x509_certificate(handmade.certificate(encoded, KEY)).subject


SAME = {
    "UTF8String": plain("Root One"),
    "PrintableString": plain("Root One", PRINTABLE),
    "TeletexString": plain("Root One", TELETEX),
    "BMPString": name((CN, BMP, "Root One".encode("utf-16-be"))),
    "UniversalString": name((CN, UNIVERSAL, "Root One".encode("utf-32-be"))),
    "case": plain("ROOT one"),
    "spaces": plain("  Root   One "),
    "another kind of space": plain("Root\u00a0One"),
    "full width": plain("\uff32oot One"),
}


@pytest.mark.parametrize("written", SAME)
def test_one_name_in_several_encodings_is_one_name(written: str) -> None:
    """String type, case and spaces make no other name, nor another CA (RFC 5280 section 7.1)."""
    one, other = subject_of(SAME["UTF8String"]), subject_of(SAME[written])
    assert names.same_name(one, other)
    assert authority_identity(one, KEY.public_key()) == authority_identity(other, KEY.public_key())


@pytest.mark.parametrize("other", [plain("Root Two"), plain("RootOne"), name(), name((handmade.O, UTF8, b"Root One"))])
def test_another_name_is_another_name(other: bytes) -> None:
    """Another text, no space where there is one, no name, or another kind of attribute."""
    assert not names.same_name(subject_of(plain("Root One")), subject_of(other))
    identities = [authority_identity(subject_of(each), KEY.public_key()) for each in (plain("Root One"), other)]
    assert identities[0] != identities[1]


def line(issuer: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(handmade.certificate(plain("Line"), KEY, issuer=issuer, issuer_key=ROOT_KEY))


ROOT = x509.load_der_x509_certificate(handmade.certificate(plain("Root One"), ROOT_KEY))


@pytest.mark.parametrize("written", [each for each in SAME if each != "UTF8String"])
def test_an_issuer_in_another_encoding_is_said_to_be_that(written: str) -> None:
    """Check and import give the true reason, and not that an intermediate or the root is missing."""
    chain = [line(SAME[written]), ROOT]
    assert [(each.code, each.message) for each in link_findings(chain)] == [("issuer-encoding", OTHER_ENCODING)]
    key = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(Rejected) as caught:
        authority_from_pem(key + b"".join(each.public_bytes(Encoding.PEM) for each in chain), None, now=NOW)
    assert str(caught.value) == f"pem: {OTHER_ENCODING}"


def test_an_issuer_in_another_encoding_and_with_another_key_is_another_ca() -> None:
    """The reason is the key then."""
    stranger = x509.load_der_x509_certificate(handmade.certificate(plain("root one"), KEY))
    assert [each.code for each in link_findings([line(plain("Root One")), stranger])] == ["other-key"]
