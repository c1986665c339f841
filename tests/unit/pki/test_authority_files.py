"""Files that owners bring: what opens them, what they may cost, and which of several certificates counts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import warnings
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.errors import Rejected
from shared.pki import der
from shared.pki.authority_files import answered_authority, authority_from_pem, authority_from_pfx, signing_request
from shared.pki.profiles import issuing_profile
from shared.pki.signing_keys import KeyAlgorithm
from shared.pki.subjects import Subject
from tests.pki.foreign import KEY, authority, name_of
from tests.pki.hierarchy import NOW, spare_key
from tests.unit.pki import handmade, pfx_files
from tests.unit.pki.pfx_files import PASSWORD, safe_of, shrouded

ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
ROOT = authority("top", key=ROOT_KEY, signed_by=ROOT_KEY)
PLAIN = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def pem(*certificates: x509.Certificate, key: bytes = PLAIN) -> bytes:
    return key + b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def below(name: str | x509.Name = "line", **more: Any) -> x509.Certificate:
    return authority(name, parent=ROOT, signed_by=ROOT_KEY, **more)


# --- what opens -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.RSA_2048])
@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
def test_an_encrypted_key_opens_in_either_form(algorithm: KeyAlgorithm, form: PrivateFormat) -> None:
    """A key with OpenSSL's older headers (Proc-Type, DEK-Info) opens with its password, as PKCS#8 does."""
    key = spare_key(algorithm)
    root = authority("top", key=key, signed_by=key)
    encrypted = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"sesame"))
    for content in (pem(root, key=encrypted), pem(root, key=encrypted).replace(b"\n", b"\r\n")):
        assert authority_from_pem(content, "sesame", now=NOW).certificate == root
    with pytest.raises(Rejected, match="the password is wrong, or the key is damaged"):
        authority_from_pem(pem(root, key=encrypted), "guess", now=NOW)


def safe_with(*keys: bytes, certificates: list[x509.Certificate]) -> bytes:
    """Put keys, in their order, and certificates into a PFX, each key in a part of its own as keytool does."""
    parts = [next(der.parts(safe_of(shrouded(key), [], encrypted=True))) for key in keys]
    encoded = [each.public_bytes(Encoding.DER) for each in certificates]
    bags = [next(der.parts(safe_of(shrouded(keys[0]), encoded, encrypted=True)))]
    return pfx_files.pfx_of(der.sequence(*(parts[1:] if len(keys) > 1 else []), *bags))


def pkcs8(key: Any) -> bytes:
    content: bytes = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return content


def test_of_several_keys_the_one_of_a_ca_counts() -> None:
    """A keystore with a server's key beside the CA's is that CA, in whatever order; with two CAs it is refused."""
    server = ec.generate_private_key(ec.SECP256R1())
    own = x509.CertificateBuilder(
        ROOT.subject, name_of("server"), server.public_key(), 7, NOW, NOW + timedelta(days=9)
    ).sign(ROOT_KEY, hashes.SHA256())
    for keys in ((KEY, server), (server, KEY)):
        pfx = safe_with(*map(pkcs8, keys), certificates=[own, below(), ROOT])
        assert authority_from_pfx(pfx, PASSWORD, now=NOW).name == "line"
    two = safe_with(pkcs8(KEY), pkcs8(ROOT_KEY), certificates=[below(), ROOT])
    with pytest.raises(Rejected) as caught:
        authority_from_pfx(two, PASSWORD, now=NOW)
    assert str(caught.value) == (
        "pfx: there are 2 private keys, and 2 of them are those of CAs; give one CA with its key and its chain"
    )


def test_a_ca_with_an_unusual_serial_number_is_taken() -> None:
    """Zero, negative and longer than 20 octets: DPS takes such a CA, and so does the import (RFC 5280 4.1.2.2)."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for serial in (b"\0", b"\xee\x2b", b"\x11" * 21, b"\x11" * 100):
        encoded = handmade.certificate(handmade.plain("top"), key, serial=serial)
        armoured = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(encoded) + b"-----END CERTIFICATE-----\n"
        with warnings.catch_warnings(action="ignore"):  # cryptography announces that it will refuse some of them
            assert authority_from_pem(pem_key + armoured, None, now=NOW).name == "top"


# --- what it may cost -------------------------------------------------------------------------------------------------

SALT = der.octet_string(b"saltsalt")
MANY = 3_000_000
PBES2, PBKDF2, SCRYPT = "1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12", "1.3.6.1.4.1.11591.4.11"
AES = der.sequence(der.object_identifier("2.16.840.1.101.3.4.1.42"), der.octet_string(bytes(16)))
TOO_MANY = "pem: it asks for 3000000 rounds of key derivation; at most 1000000 are computed: write it anew with fewer"
NOT_OPENED = "pem: its private key can't be opened: the password is wrong, or the key is damaged"


def encrypted_key(scheme: bytes) -> bytes:
    text = base64.encodebytes(der.sequence(scheme, der.octet_string(bytes(160)))).decode()
    return f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{text}-----END ENCRYPTED PRIVATE KEY-----\n".encode()


def pbes2(derivation: bytes, *parameters: bytes) -> bytes:
    derived = der.sequence(derivation, der.sequence(*parameters))
    return der.sequence(der.object_identifier(PBES2), der.sequence(derived, AES))


def in_long_form(identifier: str) -> bytes:
    """Write an identifier as BER may, and DER may not: its length in two octets."""
    content = der.content(der.object_identifier(identifier))
    return b"\x06\x81" + bytes([len(content)]) + content


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (pbes2(der.object_identifier(PBKDF2), SALT, der.integer(MANY)), TOO_MANY),
        (pbes2(in_long_form(PBKDF2), SALT, der.integer(MANY)), TOO_MANY),
        (
            der.sequence(der.object_identifier("1.2.840.113549.1.5.3"), der.sequence(SALT, der.integer(MANY))),
            TOO_MANY,
        ),
        (
            pbes2(der.object_identifier(PBKDF2), SALT, der.integer(1 << 20_000)),
            TOO_MANY.replace("3000000", "one of 20001 bits"),
        ),
        (pbes2(der.object_identifier(PBKDF2), AES, der.integer(MANY)), NOT_OPENED),
        (pbes2(der.object_identifier(PBKDF2), SALT, der.octet_string(b"\x7f" * 4)), NOT_OPENED),
        (pbes2(der.object_identifier(PBKDF2), b"\x04\x80\0\0", der.integer(MANY)), NOT_OPENED),
        (
            pbes2(der.object_identifier(SCRYPT), SALT, der.integer(1 << 20), der.integer(8), der.integer(1)),
            "pem: its key derivation is scrypt; write it anew with PBKDF2",
        ),
    ],
)
def test_no_key_is_derived_at_any_cost(scheme: bytes, message: str) -> None:
    """Rounds are read wherever a scheme has them, and what hides them, or asks for memory too, is not opened."""
    with pytest.raises(Rejected) as caught:
        authority_from_pem(pem(ROOT, key=encrypted_key(scheme)), "sesame", now=NOW)
    assert str(caught.value) == message


def parts_of_pfx(rounds: int) -> tuple[list[bytes], list[bytes]]:
    """Write a PFX, and give its encrypted certificates and the rest of its contents."""
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(rounds)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(b"sesame")
    )
    pfx = pkcs12.serialize_key_and_certificates(None, KEY, authority("own"), None, encryption)
    contents = [*der.parts(der.content(pfx, 1, 1, 0))]
    encrypted = [each for each in contents if der.object_identifier("1.2.840.113549.1.7.6") in each[:20]]
    return encrypted, [each for each in contents if each not in encrypted]


def pfx_of(contents: list[bytes]) -> bytes:
    safe = der.sequence(*contents)
    digest = hmac.new(b"any key", safe, hashlib.sha256).digest()
    sha256 = der.sequence(der.object_identifier("2.16.840.1.101.3.4.2.1"), der.NULL)
    mac = der.sequence(der.sequence(sha256, der.octet_string(digest)), SALT, der.integer(2048))
    held = der.sequence(der.object_identifier("1.2.840.113549.1.7.1"), der.explicit(0, der.octet_string(safe)))
    return der.sequence(der.integer(3), held, mac)


def test_the_rounds_of_all_parts_are_added_up() -> None:
    """A PFX of many parts, each of which alone would do, is refused before one round is computed."""
    encrypted, others = parts_of_pfx(100_000)
    with pytest.raises(Rejected) as caught:
        authority_from_pfx(pfx_of([*encrypted * 30, *others]), "sesame", now=NOW)
    assert str(caught.value) == (
        "pfx: it asks for 3102048 rounds of key derivation; at most 1000000 are computed: write it anew with fewer"
    )


# --- which certificate counts -----------------------------------------------------------------------------------------

OLD = authority("top", key=ROOT_KEY, signed_by=ROOT_KEY, days=(-100, -1))
COMING = authority("top", key=ROOT_KEY, signed_by=ROOT_KEY, days=(9, 9000))
OWN, OLD_OWN = below(), below(days=(-100, -1))


@pytest.mark.parametrize("order", [*permutations((OLD, ROOT, OWN, OLD_OWN, COMING))])
def test_what_is_valid_counts_in_whatever_order(order: tuple[x509.Certificate, ...]) -> None:
    """Expired and future certificates of the same names and keys beside the valid ones do no harm."""
    assert authority_from_pem(pem(*order), None, now=NOW).chain == (OWN, ROOT)


def test_a_way_that_ends_nowhere_is_left() -> None:
    """A CA that is cross-signed by one whose issuer is not there is followed the other way."""
    lost = authority("top", parent=authority("elsewhere"), key=ROOT_KEY)
    assert authority_from_pem(pem(OWN, lost, ROOT), None, now=NOW).chain == (OWN, ROOT)
    with pytest.raises(Rejected) as caught:
        authority_from_pem(pem(OWN, lost), None, now=NOW)
    assert str(caught.value) == (
        "pem: the issuer of 'top', 'CN=elsewhere', is not among its certificates; give the whole chain up to and including "
        "the root"
    )


def test_only_expired_certificates_are_refused_with_their_end() -> None:
    """Where no valid chain is there, the one that is there is refused for what it lacks."""
    with pytest.raises(Rejected) as caught:
        authority_from_pem(pem(OLD_OWN, ROOT), None, now=NOW)
    assert str(caught.value) == "pem: 'line' expired on 2026-02-28 12:00 UTC"


# --- the answer to a request ------------------------------------------------------------------------------------------

REQUEST = signing_request(issuing_profile(), Subject("line", "Ex"), KEY)
SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
RIGHT = name_of("line", "Ex")


def test_the_answer_to_a_request_is_what_was_asked_for() -> None:
    """The same subject and path length, and a certificate that can sign for devices now."""
    answer = below(RIGHT, length=0)
    assert answered_authority(pem(answer, ROOT, key=b""), REQUEST, KEY, now=NOW).certificate == answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            below(name_of("line", "Somebody Else"), length=0),
            "the certificate's subject is 'CN=line,O=Somebody Else'; it must be 'CN=line,O=Ex', as the signing request "
            "says",
        ),
        (
            below(RIGHT),
            "the certificate's path length is unlimited; it must be 0, as the signing request says",
        ),
        (
            below(RIGHT, length=2),
            "the certificate's path length is 2; it must be 0, as the signing request says",
        ),
        (
            authority(RIGHT, SERVERS, parent=ROOT, signed_by=ROOT_KEY, length=0),
            "the extended key usage of 'line' lacks clientAuth",
        ),
        (
            below(RIGHT, length=0, days=(30, 400)),
            "'line' is valid from 2026-03-31 12:00 UTC",
        ),
    ],
)
def test_another_answer_is_refused_with_the_difference(answer: x509.Certificate, message: str) -> None:
    """Another name, depth, purpose or time than was asked for is not installed."""
    with pytest.raises(Rejected) as caught:
        answered_authority(pem(answer, ROOT, key=b""), REQUEST, KEY, now=NOW)
    assert str(caught.value) == f"certificate: {message}"


# --- what is no CA's file ---------------------------------------------------------------------------------------------

_OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
OTHERS = _OTHER_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
ED25519 = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("content", "password", "message"),
    [
        (pem(ROOT, key=b""), None, "pem: there are 0 private keys; give the CA's own and no other"),
        (pem(ROOT, key=PLAIN + OTHERS), None, "pem: there are 2 private keys; give the CA's own and no other"),
        (b" " * 65_537, None, "pem: it has 65537 bytes; at most 65536 are read"),
        (pem(ROOT, key=OTHERS), None, "pem: none of its certificates belongs to the CA's key"),
        (pem(ROOT, key=ED25519), None, "pem: it does not contain an EC or RSA key of a CA"),
        (
            pem(
                ROOT,
                key=KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")),
            ),
            "ses\0ame",
            "password: it has characters that can't be typed",
        ),
    ],
)
def test_what_is_not_the_file_of_one_ca_is_told(content: bytes, password: str | None, message: str) -> None:
    """A file without its key, with another's, or of a kind that nothing here signs with."""
    with pytest.raises(Rejected) as refused:
        authority_from_pem(content, password, now=NOW)
    assert str(refused.value) == message
