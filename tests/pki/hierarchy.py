"""A small PKI for tests: root, issuing CA, devices; its CA keys sign as a vault's do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import issue, new_serial_number, prepare
from shared.pki.issuers import Issuer
from shared.pki.profiles import Profile, device_profile, issuing_profile, root_profile
from shared.pki.signing_keys import KeyAlgorithm, generate_key, remote_key
from shared.pki.subjects import Subject

if TYPE_CHECKING:
    from cryptography import x509

    from shared.pki.signing_keys import PrivateKey, SignDigest

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
URLS = DistributionPoints(
    crl_url="http://pki.example.com/api/crl/line-1.crl",
    ca_issuers_url="http://pki.example.com/api/ca/line-1.cer",
    ocsp_url="http://pki.example.com/api/ocsp/line-1",
)
"""All three, as production writes them."""
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384()}


def vault_of(key: PrivateKey) -> SignDigest:
    """Sign digests as a vault does: EC answers are r || s."""

    def sign(algorithm: str, digest: bytes) -> bytes:
        prehashed = utils.Prehashed(_HASHES[algorithm[2:]])
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(digest, padding.PKCS1v15(), prehashed)
        r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(prehashed, deterministic_signing=True)))
        half = (key.key_size + 7) // 8
        return r.to_bytes(half, "big") + s.to_bytes(half, "big")

    return sign


@dataclass(frozen=True)
class Hierarchy:
    root: Issuer
    issuing: Issuer

    def device(
        self,
        name: str = "press-001",
        *,
        now: datetime = NOW,
        profile: Profile | None = None,
        key: PrivateKey | None = None,
    ) -> x509.Certificate:
        key = key or generate_key(KeyAlgorithm.EC_P256)
        prepared = prepare(
            profile or device_profile(),
            subject=Subject(name),
            public_key=key.public_key(),
            issuer=self.issuing,
            serial_number=new_serial_number(),
            now=now,
            urls=URLS,
        )
        return issue(prepared, self.issuing)


def certificate_authority(
    name: str, parent: Issuer | None, algorithm: KeyAlgorithm, profile: Profile, *, now: datetime = NOW
) -> Issuer:
    """Make a CA whose key signs far away."""
    key = generate_key(algorithm)
    return signing_with(remote_key(key.public_key(), vault_of(key)), name, parent, profile, now=now)


def signing_with(
    key: PrivateKey,
    name: str,
    parent: Issuer | None,
    profile: Profile,
    *,
    now: datetime,
    urls: DistributionPoints = URLS,
) -> Issuer:
    """Make a CA that signs with a key."""
    prepared = prepare(
        profile,
        subject=Subject(name, "Example", "US"),
        public_key=key.public_key(),
        issuer=parent,
        signing_key=None if parent else key,
        serial_number=new_serial_number(),
        now=now,
        urls=urls,
    )
    certificate = issue(prepared, parent)
    return Issuer(certificate, key, (certificate, *(parent.chain if parent else ())))


def hierarchy(algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256) -> Hierarchy:
    """Make a root and an issuing CA, once for all tests."""
    return _made(algorithm)


@cache
def spare_key(algorithm: KeyAlgorithm) -> PrivateKey:
    """Make a device's key once for all tests: RSA keys take their time."""
    return generate_key(algorithm)


@cache
def _made(algorithm: KeyAlgorithm) -> Hierarchy:
    root = certificate_authority("dpsCa", None, algorithm, root_profile(), now=NOW - timedelta(days=1))
    return Hierarchy(root, certificate_authority("line-1-ca1", root, algorithm, issuing_profile()))
