"""The algorithms of keys: one entry each, and nothing else names one. What DPS and IoT Hub take is here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec


class SignatureAlgorithm(StrEnum):
    """Names of signatures in a vault (JWA, RFC 7518 section 3.1)."""

    ES256 = "ES256"
    ES384 = "ES384"
    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"


@dataclass(frozen=True, slots=True)
class KeyParameters:
    """What an algorithm stands for.

    Attributes:
        digest: the hash that certificates signed with such a key use (NIST SP 800-57 part 1, table 2).
        signature: name of such signatures in a vault.
        signature_identifier: of such signatures in certificates, an AlgorithmIdentifier in DER: ECDSA has no
            parameters, RSA has NULL (RFC 5758 section 3.2, RFC 4055 section 5).
        curve: of an EC key.
        curve_name: of an EC key's curve in a vault (RFC 7518 section 6.2.1.1).
        bits: of an RSA key's modulus.
    """

    digest: hashes.SHA256 | hashes.SHA384
    signature: SignatureAlgorithm
    signature_identifier: bytes
    curve: ec.EllipticCurve | None = None
    curve_name: str | None = None
    bits: int | None = None


_SHA256, _SHA384 = hashes.SHA256(), hashes.SHA384()
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
_RSA_SHA384 = bytes.fromhex("300d06092a864886f70d01010c0500")
_ES256, _ES384 = SignatureAlgorithm.ES256, SignatureAlgorithm.ES384
_RS256, _RS384 = SignatureAlgorithm.RS256, SignatureAlgorithm.RS384


class KeyAlgorithm(StrEnum):
    """Algorithms that DPS and IoT Hub take, each with its :class:`KeyParameters`."""

    parameters: KeyParameters

    def __new__(cls, name: str, *parameters: KeyParameters) -> Self:
        """Make an entry: its name, and what it stands for. To look one up, the name is enough."""
        member = str.__new__(cls, name)
        member._value_ = name
        (member.parameters,) = parameters
        return member

    EC_P256 = "EC-P256", KeyParameters(_SHA256, _ES256, _ECDSA_SHA256, curve=ec.SECP256R1(), curve_name="P-256")
    EC_P384 = "EC-P384", KeyParameters(_SHA384, _ES384, _ECDSA_SHA384, curve=ec.SECP384R1(), curve_name="P-384")
    RSA_2048 = "RSA-2048", KeyParameters(_SHA256, _RS256, _RSA_SHA256, bits=2048)
    RSA_3072 = "RSA-3072", KeyParameters(_SHA256, _RS256, _RSA_SHA256, bits=3072)
    RSA_4096 = "RSA-4096", KeyParameters(_SHA384, _RS384, _RSA_SHA384, bits=4096)


DEFAULT = KeyAlgorithm.EC_P256
"""Of whatever names none: small, quick, and taken by every service."""
