"""What the engine's benchmarks issue from, and the works that are measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

from shared.pki.bundles import PKCS12_ROUNDS, Packed, new_password, pack
from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import issue, new_serial_number, prepare
from shared.pki.profiles import device_profile, issuing_profile, root_profile
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.pki.subjects import Subject
from tests.pki.hierarchy import signing_with

if TYPE_CHECKING:
    from cryptography import x509

    from shared.pki.issuers import Issuer
    from shared.pki.signing_keys import PrivateKey

NAME = "press-000001"
URLS = DistributionPoints("http://pki.example.com/line-1.crl", "http://pki.example.com/line-1.cer")
_PROFILE = device_profile()


def issuing_ca(name: str, root: Issuer, now: datetime, key: PrivateKey) -> Issuer:
    """Make an issuing CA of an hour ago."""
    return signing_with(key, name, root, issuing_profile(), now=now - timedelta(hours=1), urls=URLS)


@dataclass(frozen=True)
class World:
    """A root, an issuing CA below it, and one device, all P-256.

    Attributes:
        root: signs CAs.
        issuing: signs devices, with a key in memory.
        key: of the device.
        certificate: of the device.
        now: the time of all that is issued.
    """

    root: Issuer
    issuing: Issuer
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    now: datetime

    @classmethod
    def made(cls) -> Self:
        """Make it."""
        now = datetime.now(UTC)
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        root = signing_with(keys[0], "root", None, root_profile(), now=now - timedelta(days=1), urls=URLS)
        issuing = issuing_ca("line-1", root, now, keys[1])
        return cls(root, issuing, keys[2], _issued(keys[2], issuing, now), now)

    def floor(self) -> None:
        """Do what no certificate can be made without: a key, and one signature over as many bytes."""
        ec.generate_private_key(ec.SECP256R1())
        self.key.sign(self.certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))

    def leaf(self) -> x509.Certificate:
        """Make a device's key and certificate."""
        return _issued(generate_key(KeyAlgorithm.EC_P256), self.issuing, self.now)

    def bundle(self) -> Packed:
        """Make all that a device gets: key, certificate, PEM and PFX, under a fresh password."""
        key, chain = generate_key(KeyAlgorithm.EC_P256), self.issuing.sent_chain
        certificate = _issued(key, self.issuing, self.now)
        return pack(certificate=certificate, chain=chain, friendly_name=NAME, key=key, password=new_password())

    def pfx_alone(self, key: PrivateKey | None = None, certificate: x509.Certificate | None = None) -> bytes:
        """Call cryptography for a PFX of the same content and rounds, and nothing else, by default of one device."""
        encryption = (
            PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(PKCS12_ROUNDS)
            .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
            .hmac_hash(hashes.SHA256())
            .build(b"a password of twenty-seven octets")
        )
        chain = list(self.issuing.sent_chain)
        return pkcs12.serialize_key_and_certificates(
            NAME.encode(), key or self.key, certificate or self.certificate, chain, encryption
        )

    def fresh_pfx_alone(self, times: int) -> float:
        """Time that call for keys that were never used, as a bundle's are: a second use of a key is quicker."""
        keys = [generate_key(KeyAlgorithm.EC_P256) for _ in range(times)]
        devices = [(key, _issued(key, self.issuing, self.now)) for key in keys]
        began = time.perf_counter()
        for key, certificate in devices:
            self.pfx_alone(key, certificate)
        return (time.perf_counter() - began) / times

    def issue_from(self, issuer: Issuer) -> x509.Certificate:
        """Make a certificate for a key that is there, from any CA."""
        return _issued(self.key, issuer, self.now)


def _issued(key: PrivateKey, issuer: Issuer, now: datetime) -> x509.Certificate:
    prepared = prepare(
        _PROFILE,
        subject=Subject(NAME),
        public_key=key.public_key(),
        issuer=issuer,
        serial_number=new_serial_number(),
        now=now,
        urls=URLS,
    )
    return issue(prepared, issuer)
