"""What can't be read is refused in words that are true, and in the same ones wherever it comes in."""

from __future__ import annotations

from base64 import encodebytes

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.errors import Rejected
from shared.pki import der
from shared.pki.authority_files import authority_from_pem
from shared.pki.chains import check_chain
from shared.pki.damage import UnreadableCertificate, read_certificate, why_unreadable
from shared.pki.issuers import Issuer, IssuerError
from tests.pki.hierarchy import NOW
from tests.unit.pki.handmade import (
    BMP,
    CA_EXTENSIONS,
    CN,
    ECDSA,
    ECDSA_WITH_NULL,
    TELETEX,
    UTF8,
    O,
    certificate,
    name,
    plain,
)

KEY = ec.generate_private_key(ec.SECP256R1())
GOOD = certificate(plain("top"), KEY)
LATIN = "Müller GmbH".encode("latin-1")
ANEW = "have it issued anew with UTF8String"
CASES = {
    "Latin-1 in a UTF8String": (
        certificate(name((O, UTF8, LATIN), (CN, UTF8, b"top")), KEY),
        f"its issuer's O is a UTF8String and not written as one; it looks like Latin-1 ('Müller GmbH'): {ANEW}",
    ),
    "half a character in a BMPString": (
        certificate(name((CN, BMP, b"\0a\0")), KEY),
        f"its issuer's CN is a BMPString and not written as one: {ANEW}",
    ),
    "another string type": (
        certificate(name((CN, 0x19, b"top")), KEY),
        "its issuer's CN is of the string type 25, which names do not have; UTF8String is right",
    ),
    "other parameters with ECDSA than NULL": (
        certificate(plain("top"), KEY, algorithm=der.sequence(next(der.parts(ECDSA)), der.octet_string(b""))),
        "its signature's algorithm, ECDSA, has parameters, which RFC 5758 section 3.2 forbids",
    ),
    "no time, and NULL parameters and Latin-1 besides": (
        certificate(
            name((O, TELETEX, LATIN)), KEY, algorithm=ECDSA_WITH_NULL, life=der.sequence(der.TRUE, der.time(NOW))
        ),
        "its notBefore is not a time in UTC to the second (RFC 5280 section 4.1.2.5)",
    ),
    "serial number with leading zeros": (
        certificate(plain("top"), KEY, serial=b"\0\0\x11"),
        "its serial number is not in DER: it is empty, or begins with needless octets",
    ),
    "no serial number": (
        certificate(plain("top"), KEY, serial=b""),
        "its serial number is not in DER: it is empty, or begins with needless octets",
    ),
    "version": (certificate(plain("top"), KEY, version=4), "its version is 5; 3 is right, and 1 for an old root"),
    "time": (
        certificate(plain("top"), KEY, life=der.sequence(der.tagged(0x17, b"261301000000Z"), der.time(NOW))),
        "its notBefore is not a time in UTC to the second (RFC 5280 section 4.1.2.5)",
    ),
    "time with an offset": (
        certificate(plain("top"), KEY, life=der.sequence(der.time(NOW), der.tagged(0x17, b"270101000000+0100"))),
        "its notAfter is not a time in UTC to the second (RFC 5280 section 4.1.2.5)",
    ),
    "extension twice": (
        certificate(plain("top"), KEY, extensions=(*CA_EXTENSIONS, CA_EXTENSIONS[0])),
        "its extension basicConstraints (2.5.29.19) is there twice",
    ),
    "damaged extension": (
        certificate(plain("top"), KEY, extensions=(der.extension("2.5.29.19", b"\x30"), CA_EXTENSIONS[1])),
        "its extension basicConstraints (2.5.29.19) is damaged, or of a form that is not supported",
    ),
    "octets behind it": (GOOD + b"\0\0\0", "3 octets follow it; send it without them"),
    "cut off": (GOOD[:-1], "it is not X.509 in DER: it is cut off, damaged, or of indefinite length (BER)"),
    "something else": (
        der.sequence(der.integer(0)),
        "it is not X.509 in DER: a certificate is a sequence of what is signed, an algorithm and a signature",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_with_a_certificate_is_said(case: str) -> None:
    """Each fault has its own words, and none is those of a library."""
    encoded, message = CASES[case]
    with pytest.raises(UnreadableCertificate) as caught:
        read_certificate(encoded)
    assert str(caught.value) == message


def test_a_good_certificate_is_read() -> None:
    """It is the one that was given."""
    assert read_certificate(GOOD).public_bytes(Encoding.DER) == GOOD


@pytest.mark.parametrize("case", CASES)
def test_import_check_and_issuance_say_the_same(case: str) -> None:
    """The reason does not depend on where a certificate comes in."""
    encoded, message = CASES[case]
    key = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    armoured = b"-----BEGIN CERTIFICATE-----\n" + encodebytes(encoded) + b"-----END CERTIFICATE-----\n"
    with pytest.raises(Rejected) as imported:
        authority_from_pem(key + armoured, None, now=NOW)
    assert str(imported.value) == f"pem: certificate 1 can't be read: {message}"
    try:
        loaded = x509.load_der_x509_certificate(encoded)
    except (ValueError, x509.InvalidVersion):
        return  # a chain of loaded certificates can't hold it
    found = check_chain([loaded], registration_id="top", group_certificates=[], verified_authorities=[], now=NOW)
    assert [each.message for each in found] == [f"certificate 1 of the chain can't be read: {message}"[:1000]]
    with pytest.raises(IssuerError) as made:
        Issuer(loaded, KEY, (loaded,))
    assert str(made.value) == f"certificate 1 of the CA's chain can't be read: {message}"


def test_any_octets_get_a_reason() -> None:
    """Every way to cut a certificate off, and every octet changed, has a reason, and raises nothing else."""
    for at in range(len(GOOD)):
        for damaged in (GOOD[:at], GOOD[:at] + bytes([GOOD[at] ^ 0xFF]) + GOOD[at + 1 :]):
            assert why_unreadable(damaged)
