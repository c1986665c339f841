"""Public keys that others made: weak ones are refused by name, and each key has one fingerprint."""

from __future__ import annotations

import hashlib
import secrets
from math import gcd, isqrt, prod
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from shared.errors import Rejected
from shared.pki import der
from shared.pki.authority_files import authority_from_pem
from shared.pki.certificates import UNREADABLE
from shared.pki.chains import path_findings
from shared.pki.issuers import IssuerError
from shared.pki.public_keys import (
    WeakKey,
    check_public_key,
    fingerprint,
    key_of,
    why_unreadable,
)
from shared.pki.requests import requested_key
from shared.pki.signing_keys import KeyAlgorithm, UnsupportedKey, generate_key
from tests.pki.foreign import authority, issuer, name_of
from tests.pki.hierarchy import NOW, hierarchy, spare_key

SUPPORTED = "supported are EC-P256, EC-P384, RSA-2048, RSA-3072, RSA-4096"
CLOSE = (
    "the RSA key can be factored: its two primes are too close to each other (Fermat's method finds them); make a new "
    "key with another library or random source"
)
ROCA = (
    "the RSA key was made by a chip whose keys can be factored (ROCA, CVE-2017-15361); make it with updated firmware, "
    "outside of the chip, or on an elliptic curve"
)
INFINEON = b"""-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEAkTKtIR/MDftNrkgyashkwifks5Swm9HEkw4ZcCijyQdpTStInk9p
dUrq4zjG6tk5xX9AaYXLu47fmiBVzClGvAXTZbpn6JbG1IERUs+i0pBRT5CzUu7v
J/63L72NzVvJFaT0SUE5zByhCjJE+pflMnX1e1UptOdnN5AHeY4RKkugVse3XO2x
Ms3yH3vTyZdtnaOIFRU0d6E7PrsgRtEAqFHcAGmPUw0ZOW8A++8sS/FlnrxMf9lV
a1/8k/A8otPfrNIipfAoq0MKJ+oxE2wML1DDxIGTGmNaN3gPANJyeuca7ptA+NGq
5oU1x3pWMXgSvrVSXUooNk8xIkrKxSz3LQIDAQAB
-----END RSA PUBLIC KEY-----
"""
"""A key of an Infineon chip, from the test data of badkeys (github.com/badkeys/badkeys, tests/data/rsa-roca.key)."""


def key_info(algorithm: bytes, content: bytes) -> bytes:
    return der.sequence(algorithm, der.bit_string(content))


RSA = der.sequence(der.object_identifier("1.2.840.113549.1.1.1"), der.NULL)
EC = der.object_identifier("1.2.840.10045.2.1")
P256 = der.object_identifier("1.2.840.10045.3.1.7")


def rsa_info(modulus: int, exponent: int) -> bytes:
    return key_info(RSA, der.sequence(der.integer(modulus), der.integer(exponent)))


def rsa_key(modulus: int, exponent: int = 65_537) -> Any:
    return load_der_public_key(rsa_info(modulus, exponent))


SMALL_PRIMES = prod(each for each in range(2, 16_384) if all(each % below for below in range(2, isqrt(each) + 1)))


def next_rough(number: int) -> int:
    """Give the next number without factors below 16,384; the checks can't tell it from a prime, which takes longer."""
    return next(each for each in range(number | 1, number + 100_000, 2) if gcd(each, SMALL_PRIMES) == 1)


P = next_rough((3 << 1022) + secrets.randbits(1000))
"""Of 1024 bits; its square has 2048."""


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_usual_keys_are_taken(algorithm: KeyAlgorithm) -> None:
    """A key of each algorithm passes, as it is."""
    key = spare_key(algorithm).public_key()
    assert check_public_key(key) is key


@pytest.mark.parametrize("exponent", [65_537, 65_539, 2**64 + 13, 2**256 - 1])
def test_exponents_from_65537_to_2_to_256_are_taken(exponent: int) -> None:
    """The range of the Baseline Requirements (6.1.6) is taken whole, for 2048 bits."""
    check_public_key(rsa_key(spare_rsa_modulus(), exponent))


def spare_rsa_modulus() -> int:
    key = spare_key(KeyAlgorithm.RSA_2048)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.public_key().public_numbers().n


@pytest.mark.parametrize(
    ("exponent", "shown"), [(3, "3"), (17, "17"), (65_535, "65535"), (2**256 + 1, "one of 257 bits")]
)
def test_other_exponents_are_refused(exponent: int, shown: str) -> None:
    """A small exponent and one that makes each verification slow are refused with the range."""
    with pytest.raises(UnsupportedKey) as caught:
        check_public_key(rsa_key(spare_rsa_modulus(), exponent))
    assert str(caught.value) == (
        f"the RSA key has the public exponent {shown}; an odd one from 65537 to 2^256 - 1 is needed"
    )


@pytest.mark.parametrize("apart", [0, 2, 2**512, 2**515])
def test_close_primes_are_refused(apart: int) -> None:
    """One prime twice, neighbours, and primes with the same upper half are found within 100 rounds of Fermat."""
    other = P if not apart else next_rough(P + apart)
    with pytest.raises(WeakKey) as caught:
        check_public_key(rsa_key(P * other))
    assert str(caught.value) == CLOSE


@pytest.mark.parametrize(("away", "found"), [(0, True), (99, True), (100, False)])
def test_a_hundred_rounds_of_fermat_are_made(away: int, *, found: bool) -> None:
    """Two factors whose mean is 99 above the square root are found, and those of 100 above are not looked for."""
    assert ("close to each other" in judgement(away)) is found


def judgement(away: int) -> str:
    """Judge a modulus without small factors whose factors' mean is so far above its square root, rounded up."""
    for root in range(P, P + 40_000):
        mean = root + away
        half = isqrt(mean * mean - root * root) + 1
        said = refusal(rsa_key(mean * mean - half * half))
        if "divisible" not in said:
            return said
    raise AssertionError("each has small factors")


def refusal(key: Any) -> str:
    try:
        check_public_key(key)
    except WeakKey as weak:
        return str(weak)
    return ""


def test_small_factors_are_refused() -> None:
    """A modulus with a factor below 16,384 is refused with the factor, whatever its size."""
    for factor in (2, 3, 751, 16_381):
        modulus = factor * next_rough((1 << 2047) // factor + secrets.randbits(1000) * 2)
        assert modulus.bit_length() == 2048
        with pytest.raises(WeakKey) as caught:
            check_public_key(rsa_key(modulus))
        assert str(caught.value) == f"the RSA key can be factored: its modulus is divisible by {factor}; make a new key"


def test_a_key_of_an_infineon_chip_is_refused() -> None:
    """The form that ROCA betrays is recognised."""
    with pytest.raises(WeakKey) as caught:
        check_public_key(load_pem_public_key(INFINEON))
    assert str(caught.value) == ROCA


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (ed25519.Ed25519PrivateKey.generate(), f"the key is Ed25519; {SUPPORTED}"),
        (ec.generate_private_key(ec.SECP256K1()), f"the key is EC secp256k1; {SUPPORTED}"),
        (ec.generate_private_key(ec.SECP521R1()), f"the key is EC secp521r1; {SUPPORTED}"),
    ],
)
def test_keys_of_other_kinds_are_refused(key: Any, message: str) -> None:
    """Kinds and curves that devices can't have are refused by name."""
    with pytest.raises(UnsupportedKey) as caught:
        check_public_key(key.public_key())
    assert str(caught.value) == message


POINT = spare_key(KeyAlgorithm.EC_P256).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
ON_P256 = der.sequence(EC, P256)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (key_info(ON_P256, POINT[:-1] + bytes([POINT[-1] ^ 1])), "the EC key is not a point on its curve"),
        (key_info(ON_P256, b"\0"), "the EC key is the point at infinity, which is not a key"),
        (
            key_info(ON_P256, POINT[:-1]),
            "the EC key has 64 octets; 65 that begin with 04 are right (SEC 1 section 2.3.3)",
        ),
        (
            key_info(der.sequence(EC, der.sequence(der.integer(1))), POINT),
            "the EC key spells out the parameters of its curve; the name of P-256 or P-384 is right (RFC 5480)",
        ),
        (
            key_info(der.sequence(EC, der.NULL), POINT),
            "the EC key does not say on which curve it is; the name of P-256 or P-384 is right (RFC 5480)",
        ),
        (
            key_info(der.sequence(EC), POINT),
            "the EC key does not say on which curve it is; the name of P-256 or P-384 is right (RFC 5480)",
        ),
        (
            key_info(der.sequence(EC, der.object_identifier("1.2.3.4")), POINT),
            f"the EC key is on the curve 1.2.3.4; {SUPPORTED}",
        ),
        (
            rsa_info(3 << 2046 | 1, 1),
            "the RSA key has the public exponent 1; an odd one from 65537 to 2^256 - 1 is needed",
        ),
        (
            rsa_info(3 << 2046 | 1, 65_536),
            "the RSA key has the public exponent 65536; an odd one from 65537 to 2^256 - 1 is needed",
        ),
        (rsa_info(0, 65_537), "the RSA key's modulus is not positive"),
        (key_info(RSA, b"\x05\0"), "the public key is not a SubjectPublicKeyInfo in DER"),
        (key_info(der.sequence(der.object_identifier("1.2.840.10040.4.1")), b"x"),
         f"the key is of another kind (1.2.840.10040.4.1); {SUPPORTED}"),
        (b"\x30\x03\x02", "the public key is not a SubjectPublicKeyInfo in DER"),
    ],
    ids=[
        "not on the curve",
        "point at infinity",
        "short point",
        "parameters spelled out",
        "NULL for the curve",
        "no curve",
        "unknown curve",
        "exponent 1",
        "even exponent",
        "modulus 0",
        "RSA key without its sequence",
        "DSA",
        "cut off",
    ],
)  # fmt: skip
def test_what_is_not_a_key_is_refused_in_words(info: bytes, message: str) -> None:
    """What cryptography does not load is explained by what it holds, and not by the library's text."""
    with pytest.raises(UNREADABLE):
        load_der_public_key(info)
    assert why_unreadable(info) == message


def test_a_certificate_whose_key_is_not_on_its_curve_is_refused_in_words() -> None:
    """The key of a certificate and of a signing request is found and judged alike."""
    key = generate_key(KeyAlgorithm.EC_P256)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    assert key_of(x509.load_der_x509_csr(request)) == key.public_key()
    damaged = x509.load_der_x509_csr(request.replace(point, b"\4" + bytes(64)))
    with pytest.raises(UnsupportedKey, match=r"^the EC key is not a point on its curve$"):
        key_of(damaged)


def close_key() -> rsa.RSAPrivateKey:
    """Give a key of 2048 bits whose primes are the first two above 3 * 2^1022."""
    p, q = (3 << 1022) + 1037, (3 << 1022) + 1697
    d = pow(65_537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65_537, p * q)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q), public).private_key()


def test_a_weak_key_is_refused_wherever_it_comes_in() -> None:
    """In a device's CSR, with an imported CA, above one, for a certificate to be issued; DPS does not look."""
    key = close_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(name_of("press-001"))
    request = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    with pytest.raises(Rejected) as of_device:
        requested_key(request, registration_id="press-001")
    assert str(of_device.value) == f"csr: the CSR's key can't be used: {CLOSE}"
    root = authority("top", key=key, signed_by=key)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + root.public_bytes(Encoding.PEM)
    with pytest.raises(Rejected) as of_authority:
        authority_from_pem(pem, None, now=NOW)
    assert str(of_authority.value) == f"pem: {CLOSE}"
    below = authority("line", parent=root, signed_by=key)
    with pytest.raises(IssuerError) as of_chain:
        issuer(below, root)
    assert str(of_chain.value) == f"the key of 'top' can't be used: {CLOSE}"
    assert [each.code for each in path_findings([below, root], NOW)] == ["weak-key"]
    with pytest.raises(Rejected) as of_issuance:
        hierarchy().device(key=key)
    assert str(of_issuance.value) == f"csr: {CLOSE}"


def test_a_fingerprint_is_that_of_the_key_and_not_of_its_form() -> None:
    """It is the SHA-256 of the SubjectPublicKeyInfo, and a compressed point has the same."""
    key = spare_key(KeyAlgorithm.EC_P256).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert fingerprint(key) == hashlib.sha256(info).hexdigest()
    compressed = key_info(ON_P256, key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint))
    read = load_der_public_key(compressed)
    assert isinstance(read, ec.EllipticCurvePublicKey)
    assert fingerprint(read) == fingerprint(key)
    assert fingerprint(key) != fingerprint(spare_key(KeyAlgorithm.RSA_2048).public_key())
