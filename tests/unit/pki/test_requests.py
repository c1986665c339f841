"""Signing requests: only the key is taken, and everything else that is asked for is refused by name."""

from __future__ import annotations

import base64
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Rejected
from shared.pki import der
from shared.pki.requests import parse_signing_request, requested_key
from tests.unit.pki import handmade
from tests.unit.pki.picks import overwritten, picked

SUPPORTED = "supported are EC-P256, EC-P384, RSA-2048, RSA-3072, RSA-4096"
KEY = ec.generate_private_key(ec.SECP256R1())


def request(*names: str, extension: x509.ExtensionType | None = None, key: object = KEY) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM).decode()  # type: ignore[arg-type]


def wrongly_signed() -> str:
    der = bytearray(x509.load_pem_x509_csr(request("press-001").encode()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()


NOT_PKCS10 = "the CSR is not PKCS#10 in DER (RFC 2986)"
BEGIN = "'-----BEGIN CERTIFICATE REQUEST-----'"
PRIVATE_KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n"
SHA1_REQUEST = """-----BEGIN CERTIFICATE REQUEST-----
MIHNMHYCAQAwFDESMBAGA1UEAwwJcHJlc3MtMDAxMFkwEwYHKoZIzj0CAQYIKoZI
zj0DAQcDQgAEfqXR36e5AKlFq0TtZMElMhqLXX1GDY49syMDf5fCDJChnjCfMu/E
Q3hMSEFFjOuRnnFfq3fvUeYnN6+yh2f+eKAAMAkGByqGSM49BAEDSAAwRQIgJRRU
Sel4A+e5UJejUOlpLJvfK+TIXLeGYKoY+/x7rzgCIQDW/PaBtI3qWONRaSeWh968
UIv5S/G8M7KUiJleC0kVng==
-----END CERTIFICATE REQUEST-----
"""
FLAGS = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
SIGNS_CERTIFICATES, SIGNS_LISTS, SIGNS_AND_ENCIPHERS = (
    x509.KeyUsage(**{flag: flag in flags for flag in FLAGS})
    for flags in (("key_cert_sign",), ("crl_sign",), ("digital_signature", "key_encipherment"))
)


def test_the_key_of_a_good_request_is_taken() -> None:
    """A request whose CN is the registration id, in whatever case, gives its key."""
    assert requested_key(request("Press-001"), registration_id="press-001") == KEY.public_key()


def test_a_request_is_read_in_every_usual_form() -> None:
    """PEM as text or bytes, DER, and DER in base64 with line ends are the same request."""
    pem = request("press-001")
    parsed = x509.load_pem_x509_csr(pem.encode())
    der = parsed.public_bytes(Encoding.DER)
    forms = (
        *(pem, pem.encode(), f"\ufeff\r\n{pem}", pem.replace("\n", "\\n"), pem.replace("\n", " ")),
        *(der, base64.encodebytes(der).decode(), "\ufeff" + base64.b64encode(der).decode()),
        *(pem.replace("BEGIN ", "BEGIN NEW ").replace("END ", "END NEW "), f"Certificate Request:\n    Data:\n{pem}"),
        "".join(f"    {line}\n" for line in pem.splitlines()),
    )
    for form in forms:
        assert parse_signing_request(form, registration_id="press-001").public_key == KEY.public_key()


@pytest.mark.parametrize(
    "extension",
    [
        x509.BasicConstraints(ca=False, path_length=None),
        x509.SubjectAlternativeName([x509.DNSName("Press-001")]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
        SIGNS_AND_ENCIPHERS,
    ],
    ids=["no CA", "own name", "purposes", "usages"],
)
def test_what_does_no_harm_is_no_reason_to_refuse(extension: x509.ExtensionType) -> None:
    """A request that says it is not a CA, repeats its own name or asks for other usages is taken; the profile decides."""
    pem = request("press-001", extension=extension)
    assert requested_key(pem, registration_id="press-001") == KEY.public_key()


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (request("other"), "the CSR's CN is 'other', and the registration id is 'press-001'; they must be the same"),
        (request(), "the CSR has 0 CNs; it must have one, the registration id 'press-001'"),
        (request("press-001", "x"), "the CSR has 2 CNs; it must have one, the registration id 'press-001'"),
        (
            request("press-001", extension=x509.BasicConstraints(ca=True, path_length=None)),
            "the CSR asks for a CA certificate (CA:TRUE); a device is not a CA",
        ),
        (
            request("press-001", extension=x509.SubjectAlternativeName([x509.DNSName("bank.example")])),
            "the CSR asks for other names ('bank.example'); a device gets its registration id only",
        ),
        (
            request("press-001", extension=SIGNS_CERTIFICATES),
            "the CSR asks for the key usage of a CA; a device gets digitalSignature",
        ),
        (
            request("press-001", extension=SIGNS_LISTS),
            "the CSR asks for the key usage of a CA; a device gets digitalSignature",
        ),
        (
            request("press-001", key=rsa.generate_private_key(65537, 1024)),  # noqa: S505 - weak on purpose
            "the CSR's RSA key has 1024 bits; at least 2048 are needed",
        ),
        (
            request("press-001", key=ed25519.Ed25519PrivateKey.generate()),
            f"the CSR's key can't be used: the key is Ed25519; {SUPPORTED}",
        ),
        (
            request("press-001", key=ec.generate_private_key(ec.SECP521R1())),
            f"the CSR's key can't be used: the key is EC secp521r1; {SUPPORTED}",
        ),
        (
            request("press-001", key=rsa.generate_private_key(3, 2048)),
            "the CSR's key can't be used: the RSA key has the public exponent 3; an odd one from 65537 to 2^256 - 1 is "
            "needed",
        ),
        (
            request("press-\u212a"),
            "the CSR's CN is 'press-\u212a', and the registration id is 'press-001'; they must be the same",
        ),
        (SHA1_REQUEST, "the CSR is signed with SHA1; use SHA-256 or SHA-384"),
        (
            "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----",
            f"{NOT_PKCS10}: it is cut off, damaged, or of indefinite length (BER)",
        ),
        (request("press-001") * 2, f"there are 2 PEM blocks; one whole CSR, which begins with {BEGIN}, is right"),
        (request("press-001") + PRIVATE_KEY, "a private key comes with the CSR; it must stay in the device"),
        (wrongly_signed(), "the CSR's signature is wrong, so it does not prove possession of its key"),
        (
            "no request",
            f"the CSR is not PEM (which begins with {BEGIN}), and not DER or base64 either: it has characters or a length "
            "that base64 has not",
        ),
        ("x" * 20_000, "the CSR has 20000 bytes; at most 16384 are read"),
    ],
)
def test_a_request_that_asks_for_too_much_is_refused_by_name(pem: str, message: str) -> None:
    """Each fault of a request has its own message, with field, value and rule."""
    with pytest.raises(Rejected) as caught:
        requested_key(pem, registration_id="press-001", field="devices[3].csr")
    assert str(caught.value) == f"devices[3].csr: {message}"


def asking(*attributes: bytes, subject: x509.Name | None = None) -> bytes:
    """Sign a request with these attributes as they are."""
    name = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "press-001")])
    key_info = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    info = der.sequence(der.integer(0), name.public_bytes(), key_info, der.tagged(0xA0, *attributes))
    algorithm = der.sequence(der.object_identifier("1.2.840.10045.4.3.2"))
    return der.sequence(info, algorithm, der.bit_string(KEY.sign(info, ec.ECDSA(hashes.SHA256()))))


def attribute(oid: str, *values: bytes) -> bytes:
    return der.sequence(der.object_identifier(oid), der.tagged(0x31, *values))


STANDARD, MICROSOFT = "1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"
NO_CA = der.sequence(der.extension("2.5.29.19", der.sequence(), critical=True))
A_CA = der.sequence(der.extension("2.5.29.19", der.sequence(der.TRUE), critical=True))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (attribute(STANDARD, A_CA), "the CSR has 2 attributes that ask for extensions; it may have one"),
        (attribute(MICROSOFT, A_CA), "the CSR has 2 attributes that ask for extensions; it may have one"),
        (attribute("1.2.3.4", NO_CA, NO_CA), None),
    ],
)
def test_extensions_are_asked_for_once(second: bytes, message: str | None) -> None:
    """What is asked for in a second attribute would be seen by nobody here; others do no harm."""
    request = asking(attribute(STANDARD, NO_CA), second)
    if message is None:
        assert requested_key(request, registration_id="press-001") == KEY.public_key()
        return
    with pytest.raises(Rejected) as caught:
        requested_key(request, registration_id="press-001")
    assert str(caught.value) == f"csr: {message} (RFC 2985 section 5.4.2)"


def test_microsofts_attribute_is_read_like_the_standard_one() -> None:
    """CA:TRUE is refused in either."""
    with pytest.raises(Rejected, match="the CSR asks for a CA certificate"):
        requested_key(asking(attribute(MICROSOFT, A_CA)), registration_id="press-001")


def test_who_owns_a_device_is_no_name_of_it() -> None:
    """What ``openssl req`` writes by default is left out; whatever else names the device is refused, by name."""
    owners = (
        ("2.5.4.6", "AU"),
        ("2.5.4.8", "Some-State"),
        ("2.5.4.7", "X"),
        ("2.5.4.10", "Widgits"),
        ("2.5.4.11", "Y"),
    )
    own = (("2.5.4.3", "Press-001"), ("2.5.4.5", "press-001"))
    others = (("1.2.840.113549.1.9.1", "root@example.com"), ("0.9.2342.19200300.100.1.1", "root"))

    def named(parts: tuple[tuple[str, str], ...]) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in parts])

    assert requested_key(asking(subject=named(owners + own)), registration_id="press-001") == KEY.public_key()
    with pytest.raises(Rejected) as caught:
        requested_key(asking(subject=named(own + others)), registration_id="press-001")
    assert str(caught.value) == (
        "csr: the CSR asks for other names (1.2.840.113549.1.9.1='root@example.com', UID='root'); a device gets its "
        "registration id only"
    )


@pytest.mark.filterwarnings("ignore:Attribute's length")
@pytest.mark.parametrize(
    ("oid", "length", "times"),
    [(NameOID.COMMON_NAME, 11_800, 1), (NameOID.EMAIL_ADDRESS, 11_800, 1), (NameOID.USER_ID, 20, 300)],
)
def test_no_message_is_as_long_as_the_names_it_is_about(oid: x509.ObjectIdentifier, length: int, times: int) -> None:
    """Thousands of characters, each of which is written as four, in one name or many, fit every queue and table."""
    long = [x509.NameAttribute(oid, "\1" * length, _validate=False)] * times
    own = [] if oid == NameOID.COMMON_NAME else [x509.NameAttribute(NameOID.COMMON_NAME, "press-001")]
    with pytest.raises(Rejected) as caught:
        requested_key(asking(subject=x509.Name([*own, *long])), registration_id="press-001")
    assert len(str(caught.value)) < 1000


GOOD = request("press-001").encode()


@settings(max_examples=3000, deadline=None)
@given(picked(partial(overwritten, GOOD, 4)))
def test_no_damaged_request_raises_anything_but_a_rejection(damaged: bytes) -> None:
    """Whatever is done to a request's bytes, it is taken or rejected, and nothing else happens."""
    try:
        requested_key(damaged.decode("latin-1"), registration_id="press-001")
    except Rejected as rejection:
        assert rejection.reasons  # noqa: PT017 - either outcome is right


@settings(max_examples=3000, deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(base64.b64encode) | st.binary().map(b"\x30".__add__))
def test_no_bytes_raise_anything_but_a_rejection(content: bytes) -> None:
    """Bytes that are not request are rejected, as DER and in base64."""
    with pytest.raises(Rejected):
        requested_key(content, registration_id="press-001")


@settings(max_examples=3000, deadline=None)
@given(st.text(max_size=300))
def test_no_text_raises_anything_but_a_rejection(text: str) -> None:
    """Text that is not a request is rejected."""
    with pytest.raises(Rejected):
        requested_key(text, registration_id="press-001")


LATIN = "Müller GmbH".encode("latin-1")
WISH = der.object_identifier(STANDARD)
OF_FIRMWARE = {
    "no attributes": handmade.request(handmade.plain("press-001"), KEY, attributes=b""),
    "version 2": handmade.request(handmade.plain("press-001"), KEY, version=b"\1"),
    "NULL parameters": handmade.request(handmade.plain("press-001"), KEY, algorithm=handmade.ECDSA_WITH_NULL),
    "CN as BMPString": handmade.request(
        handmade.name((handmade.CN, handmade.BMP, "press-001".encode("utf-16-be"))), KEY
    ),
    "CN as UniversalString": handmade.request(
        handmade.name((handmade.CN, handmade.UNIVERSAL, "press-001".encode("utf-32-be"))), KEY
    ),
    "Latin-1 in O": handmade.request(
        handmade.name((handmade.O, handmade.TELETEX, LATIN), (handmade.CN, handmade.TELETEX, b"press-001")), KEY
    ),
    "underscore in O as PrintableString": handmade.request(
        handmade.name((handmade.O, handmade.PRINTABLE, b"R_D@x"), (handmade.CN, handmade.PRINTABLE, b"press-001")), KEY
    ),
    "no extensions in the wish": asking(der.sequence(WISH, der.tagged(0x31, der.sequence()))),
    "a wish without content": asking(der.sequence(WISH, der.tagged(0x31))),
    "an attribute without values": asking(attribute("1.2.3.4")),
}


@pytest.mark.parametrize("form", OF_FIRMWARE)
def test_what_firmware_writes_and_openssl_reads_is_taken(form: str) -> None:
    """What no rule of a name, key or right is against does no harm, however it is written."""
    assert requested_key(OF_FIRMWARE[form], registration_id="press-001") == KEY.public_key()


def test_leniency_grants_nothing() -> None:
    """A request that only OpenSSL reads is judged by the same rules: CA rights and other names are refused."""
    wish = der.tagged(0xA0, attribute(STANDARD, A_CA))
    a_ca = handmade.request(
        handmade.plain("press-001"), KEY, attributes=wish, version=b"\1", algorithm=handmade.ECDSA_WITH_NULL
    )
    with pytest.raises(Rejected, match="the CSR asks for a CA certificate"):
        requested_key(a_ca, registration_id="press-001")
    other = handmade.request(handmade.name((handmade.CN, handmade.TELETEX, LATIN)), KEY)
    with pytest.raises(Rejected, match="the CSR's CN is 'Müller GmbH', and the registration id is 'press-001'"):
        requested_key(other, registration_id="press-001")


def with_negative_number() -> bytes:
    """Write a signature as firmware does that leaves out the zero before a number whose top bit is set."""
    info = der.sequence(der.integer(0), handmade.plain("press-001"), handmade.key_info(KEY), b"\xa0\0")
    signature = der.sequence(der.tagged(0x02, b"\x80" + bytes(31)), der.tagged(0x02, b"\x01" + bytes(31)))
    return der.sequence(info, handmade.ECDSA, der.bit_string(signature))


GOOD_DER = handmade.request(handmade.plain("press-001"), KEY)
DAMAGED = f"{NOT_PKCS10}: it is cut off, damaged, or of indefinite length (BER)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD_DER + b"\0\0", f"{NOT_PKCS10}: 2 octets follow it; send it without them"),
        (GOOD_DER[:-1], DAMAGED),
        (b"\x30\x80" + GOOD_DER[4:] + b"\0\0", DAMAGED),
        (
            handmade.certificate(handmade.plain("press-001"), KEY),
            f"{NOT_PKCS10}: it is a certificate; give the request that it was issued for",
        ),
        (
            GOOD_DER.replace(der.bit_string(b"")[:1] + bytes([GOOD_DER[-70]]), b"", 0)[:-1] + b"\xff",
            "the CSR's signature is wrong, so it does not prove possession of its key",
        ),
        (
            with_negative_number(),
            "the CSR's signature is wrong: a number in it is negative, which misses its leading zero octet, so it does "
            "not prove possession of its key",
        ),
        (
            asking(attribute(STANDARD, der.sequence(der.extension("2.5.29.17", b"\x30")))),
            "the CSR asks for extensions that can't be read: subjectAltName (2.5.29.17) is damaged, or of a form that is "
            "not supported",
        ),
        (
            handmade.request(handmade.plain("press-001"), KEY, attributes=b"\x31\0"),
            f"{NOT_PKCS10}: it is not a version, a subject, a public key and attributes",
        ),
        (der.sequence(der.integer(0)), f"{NOT_PKCS10}: it is not a sequence of what is asked for, an algorithm and a signature"),
        (
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
            f"the PEM is CERTIFICATE and not a CSR, which begins with {BEGIN}",
        ),
    ],
)  # fmt: skip
def test_what_is_not_a_request_is_refused_in_words(content: bytes | str, message: str) -> None:
    """The words are about what was sent, and never those of a library."""
    with pytest.raises(Rejected) as caught:
        requested_key(content, registration_id="press-001")
    assert str(caught.value) == f"csr: {message}"


def test_parameters_of_a_curve_in_front_are_left_out() -> None:
    """``openssl ecparam -genkey`` writes them before the key, and they come along."""
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert requested_key(parameters + request("press-001"), registration_id="press-001") == KEY.public_key()
