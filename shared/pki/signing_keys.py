"""Keys: made here, or far away in a vault and usable here all the same."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

if TYPE_CHECKING:
    from collections.abc import Buffer, Callable, Mapping

type PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
type PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
type SignDigest = Callable[[str, bytes], bytes]
"""Signs a digest far away: (JWA algorithm, digest) -> signature, for EC keys as r || s (RFC 7518 section 3.4)."""


class KeyAlgorithm(StrEnum):
    """Algorithms that DPS and IoT Hub take."""

    EC_P256 = "EC-P256"
    EC_P384 = "EC-P384"
    RSA_2048 = "RSA-2048"
    RSA_3072 = "RSA-3072"
    RSA_4096 = "RSA-4096"


@dataclass(frozen=True, slots=True)
class KeyParameters:
    """What an algorithm stands for. A new algorithm is one more entry in :data:`PARAMETERS`.

    Attributes:
        curve: of an EC key.
        bits: of an RSA key's modulus.
        digest: the hash that certificates signed with such a key use (NIST SP 800-57 part 1, table 2).
        jwa: name of its signatures in a vault (RFC 7518 section 3.1).
    """

    digest: hashes.SHA256 | hashes.SHA384
    jwa: str
    curve: ec.EllipticCurve | None = None
    bits: int | None = None


PARAMETERS: Mapping[KeyAlgorithm, KeyParameters] = {
    KeyAlgorithm.EC_P256: KeyParameters(hashes.SHA256(), "ES256", curve=ec.SECP256R1()),
    KeyAlgorithm.EC_P384: KeyParameters(hashes.SHA384(), "ES384", curve=ec.SECP384R1()),
    KeyAlgorithm.RSA_2048: KeyParameters(hashes.SHA256(), "RS256", bits=2048),
    KeyAlgorithm.RSA_3072: KeyParameters(hashes.SHA256(), "RS256", bits=3072),
    KeyAlgorithm.RSA_4096: KeyParameters(hashes.SHA384(), "RS384", bits=4096),
}

_PUBLIC_EXPONENT = 65537


class UnsupportedKey(ValueError):
    """The key's algorithm or size is none of :class:`KeyAlgorithm`; the message names both."""


def generate_key(algorithm: KeyAlgorithm) -> PrivateKey:
    """Make a key.

    RSA takes from 35 ms (2048 bits) to 350 ms (4096) and releases the interpreter lock: call it in a thread. EC takes
    microseconds.
    """
    parameters = PARAMETERS[algorithm]
    if parameters.curve is not None:
        return ec.generate_private_key(parameters.curve)
    return rsa.generate_private_key(_PUBLIC_EXPONENT, parameters.bits or 0)


def algorithm_of(public_key: object) -> KeyAlgorithm:
    """Tell a key's algorithm.

    Raises:
        UnsupportedKey: it is none of ours.
    """
    for algorithm, parameters in PARAMETERS.items():
        if isinstance(public_key, ec.EllipticCurvePublicKey) and parameters.curve is not None:
            if public_key.curve.name == parameters.curve.name:
                return algorithm
        elif isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size == parameters.bits:
            return algorithm
    raise UnsupportedKey(f"the key is {describe(public_key)}; supported are {', '.join(KeyAlgorithm)}")


def describe(public_key: object) -> str:
    """Name a key's kind and size, for messages."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return f"EC {public_key.curve.name}"
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"RSA with {public_key.key_size} bits"
    return type(public_key).__name__.lstrip("_").removesuffix("PublicKey")


def digest_for(public_key: PublicKey) -> hashes.SHA256 | hashes.SHA384:
    """Give the hash that signatures of a key use."""
    return PARAMETERS[algorithm_of(public_key)].digest


def remote_key(public_key: object, sign_digest: SignDigest) -> PrivateKey:
    """Give a key that is somewhere else the form in which cryptography's builders sign with it.

    Args:
        public_key: its public half.
        sign_digest: does the signing; called with the digest only, in the thread that signs.

    Raises:
        UnsupportedKey: the key is none of :class:`KeyAlgorithm`.
    """
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        key: PrivateKey = RemoteEllipticCurveKey(public_key, sign_digest)
    elif isinstance(public_key, rsa.RSAPublicKey):
        key = RemoteRsaKey(public_key, sign_digest)
    else:
        raise UnsupportedKey(f"a vault's key is EC or RSA, not {describe(public_key)}")
    algorithm_of(public_key)
    return key


def _digest(algorithm: hashes.HashAlgorithm, content: bytes) -> bytes:
    context = hashes.Hash(algorithm)
    context.update(content)
    return context.finalize()


_NOT_HERE = "the private key is in the vault and does not leave it"


class _InVault:
    """What the keys of a vault have in common: they do not leave it, and a copy is the same key."""

    def private_numbers(self) -> NoReturn:
        """Refuse: the key does not leave the vault."""
        raise NotImplementedError(_NOT_HERE)

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> NoReturn:  # noqa: A002
        """Refuse: the key does not leave the vault."""
        raise NotImplementedError(_NOT_HERE)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class RemoteEllipticCurveKey(_InVault, ec.EllipticCurvePrivateKey):
    """An EC key in a vault."""

    def __init__(self, public_key: ec.EllipticCurvePublicKey, sign_digest: SignDigest) -> None:
        self._public_key = public_key
        self._sign_digest = sign_digest

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Sign: the digest travels, and the answer, r || s, becomes DER (RFC 3279 section 2.2.3)."""
        chosen = signature_algorithm.algorithm
        if isinstance(chosen, utils.Prehashed):
            raise TypeError("give the content, not its digest")
        answer = self._sign_digest(PARAMETERS[algorithm_of(self._public_key)].jwa, _digest(chosen, bytes(data)))
        half = (self._public_key.key_size + 7) // 8
        if len(answer) != 2 * half:
            raise ValueError(f"the vault gave a signature of {len(answer)} bytes instead of {2 * half}")
        return utils.encode_dss_signature(int.from_bytes(answer[:half], "big"), int.from_bytes(answer[half:], "big"))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Give the public half."""
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        """Its curve."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """Its size in bits."""
        return self._public_key.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Refuse: a CA key signs."""
        raise NotImplementedError(_NOT_HERE)


class RemoteRsaKey(_InVault, rsa.RSAPrivateKey):
    """An RSA key in a vault. Signs with PKCS #1 v1.5, the padding of certificates."""

    def __init__(self, public_key: rsa.RSAPublicKey, sign_digest: SignDigest) -> None:
        self._public_key = public_key
        self._sign_digest = sign_digest

    def sign(self, data: Buffer, padding: Any, algorithm: Any) -> bytes:
        """Sign: only the digest travels."""
        if not isinstance(padding, _PKCS1v15) or isinstance(algorithm, utils.Prehashed):
            raise TypeError("a vault's RSA key signs content with PKCS #1 v1.5 here")
        return self._sign_digest(f"RS{algorithm.digest_size * 8}", _digest(algorithm, bytes(data)))

    def public_key(self) -> rsa.RSAPublicKey:
        """Give the public half."""
        return self._public_key

    @property
    def key_size(self) -> int:
        """Its size in bits."""
        return self._public_key.key_size

    def decrypt(self, ciphertext: bytes, padding: Any) -> NoReturn:
        """Refuse: a CA key signs."""
        raise NotImplementedError(_NOT_HERE)


_PKCS1v15 = padding.PKCS1v15
