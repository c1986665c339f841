"""Real keys, CAs and files to be damaged, octet by octet the same in every run and on every machine.

Keys come from their labels, and ECDSA signatures from what they sign (RFC 6979).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.pki.authority_files import signing_request
from shared.pki.issuance import issue, prepare
from shared.pki.issuers import Issuer
from shared.pki.profiles import device_profile, issuing_profile, root_profile
from shared.pki.signing_keys import KeyAlgorithm, parameters_of, remote_key
from shared.pki.subjects import Subject
from tests.pki.hierarchy import NOW, URLS, vault_of

if TYPE_CHECKING:
    from shared.pki.profiles import Profile
    from shared.pki.signing_keys import PrivateKey

NAME = "press-001"
ALGORITHMS = (KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.RSA_2048)
_CURVES = {KeyAlgorithm.EC_P256: ec.SECP256R1(), KeyAlgorithm.EC_P384: ec.SECP384R1()}


# --- keys ------------------------------------------------------------------------------------------------------------


@cache
def fixed_key(algorithm: KeyAlgorithm, label: str = "") -> PrivateKey:
    """Give a key that anybody can compute; of RSA there is one, whatever the label."""
    curve = _CURVES.get(algorithm)
    return _on_curve(curve, label) if curve else _rsa_key()


def _on_curve(curve: ec.EllipticCurve, label: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(_number(f"key {label}", 27), curve)  # 27 octets are less than any order here


def _number(label: str, octets: int) -> int:
    return int.from_bytes(hashlib.shake_256(label.encode()).digest(octets), "big")


def _rsa_key() -> rsa.RSAPrivateKey:
    """Make one of 2048 bits of two primes; so far behind their numbers they were found."""
    exponent, top = 65537, 3 << 1022
    p, q = (_number("first prime", 128) | top) + 324, (_number("second prime", 128) | top) + 459
    d = pow(exponent, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(exponent, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q), public)
    return numbers.private_key()


@cache
def refused_keys() -> tuple[ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, ...]:
    """Give keys that sign well and that DPS does not take."""
    others = (_on_curve(curve, "") for curve in (ec.SECP224R1(), ec.SECP521R1(), ec.SECP256K1()))
    return *others, ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))


def pkcs8(key: PrivateKey) -> bytes:
    """Write a key (RFC 5958)."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


# --- CAs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authority:
    """A CA: as the engine has it, its key far away, and the key itself, to sign what it never would."""

    issuer: Issuer
    key: PrivateKey

    @property
    def certificate(self) -> x509.Certificate:
        return self.issuer.certificate


def authority(name: str, parent: Authority | None, algorithm: KeyAlgorithm, profile: Profile) -> Authority:
    """Make a CA; its parent's life began a day before."""
    key = fixed_key(algorithm, name)
    far = remote_key(key.public_key(), vault_of(key))
    above = parent.issuer if parent else None
    prepared = prepare(
        profile,
        subject=Subject(name, "Example", "US"),
        public_key=key.public_key(),
        issuer=above,
        signing_key=None if above else far,
        serial_number=1 << 158 | _number(name, 19),
        now=NOW if above else NOW - timedelta(days=1),
        urls=URLS,
    )
    certificate = issue(prepared, above)
    return Authority(Issuer(certificate, far, (certificate, *(above.chain if above else ()))), key)


@dataclass(frozen=True)
class World:
    """Root -> factory -> line -> devices."""

    root: Authority
    factory: Authority
    line: Authority

    def device(self, algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256) -> x509.Certificate:
        prepared = prepare(
            device_profile(),
            subject=Subject(NAME),
            public_key=fixed_key(algorithm).public_key(),
            issuer=self.line.issuer,
            serial_number=1 << 158,
            now=NOW,
            urls=URLS,
        )
        return issue(prepared, self.line.issuer)


@cache
def world(algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256) -> World:
    """Make the CAs; the line's key is of this algorithm."""
    root = authority("deep", None, KeyAlgorithm.EC_P256, root_profile())
    factory = authority("factory", root, KeyAlgorithm.EC_P256, issuing_profile(path_length=1))
    return World(root, factory, authority("line", factory, algorithm, issuing_profile()))


@cache
def owned() -> Authority:
    """Make an owner's CA directly below the root."""
    return authority("owned", world().root, KeyAlgorithm.EC_P256, issuing_profile())


@cache
def owned_request() -> x509.CertificateSigningRequest:
    """Ask for the owner's CA."""
    return signing_request(issuing_profile(), Subject("owned", "Example", "US"), owned().key)


# --- files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seed:
    """What a certificate or a request says, and the key that signs it anew when it was changed.

    Attributes:
        der: the whole file.
        content: the part that is signed.
    """

    der: bytes
    content: bytes
    key: PrivateKey


def of_certificate(certificate: x509.Certificate, key: PrivateKey) -> Seed:
    return Seed(certificate.public_bytes(Encoding.DER), certificate.tbs_certificate_bytes, key)


@cache
def chain() -> tuple[Seed, ...]:
    """Give the device's chain, leaf first, each with its issuer's key."""
    made = world()
    return (
        of_certificate(made.device(), made.line.key),
        of_certificate(made.line.certificate, made.factory.key),
        of_certificate(made.factory.certificate, made.root.key),
        of_certificate(made.root.certificate, made.root.key),
    )


@cache
def owned_chain() -> tuple[Seed, Seed]:
    """Give the owner's CA and its root, each with its issuer's key."""
    root = world().root
    return of_certificate(owned().certificate, root.key), of_certificate(root.certificate, root.key)


@cache
def requests() -> tuple[Seed, ...]:
    """Give a device's requests, of several algorithms."""
    return tuple(map(_request, ALGORITHMS))


def _request(algorithm: KeyAlgorithm) -> Seed:
    key = fixed_key(algorithm)
    builder = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.KeyUsage(*(flag == 0 for flag in range(9))), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    made = builder.sign(
        key, parameters_of(key).digest, ecdsa_deterministic=isinstance(key, ec.EllipticCurvePrivateKey) or None
    )
    return Seed(made.public_bytes(Encoding.DER), made.tbs_certrequest_bytes, key)


@cache
def ocsp_request() -> bytes:
    """Give a question about a device of the line."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(world().device(), world().line.certificate, hashes.SHA256())
    return builder.add_extension(x509.OCSPNonce(b"0123456789abcdef"), critical=False).build().public_bytes(Encoding.DER)


@cache
def donors() -> tuple[bytes, ...]:
    """Give files whose parts are put into others."""
    leaves = (world(algorithm).device(algorithm).public_bytes(Encoding.DER) for algorithm in ALGORITHMS)
    return tuple(dict.fromkeys((*leaves, *(seed.der for seed in (*chain(), *owned_chain(), *requests())))))
