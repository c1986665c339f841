"""Keys: made here, or far away in a vault and usable here all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding, PKCS1v15

from shared.pki import names
from shared.rules.key_algorithms import KeyAlgorithm, KeyParameters, SignatureAlgorithm

if TYPE_CHECKING:
    from collections.abc import Buffer, Callable

__all__ = [
    "EXPONENTS",
    "KeyAlgorithm",
    "KeyParameters",
    "PrivateKey",
    "PublicKey",
    "RemoteEllipticCurveKey",
    "RemoteRsaKey",
    "SignDigest",
    "SignatureAlgorithm",
    "UnsupportedKey",
    "WrongExponent",
    "WrongSignature",
    "algorithm_of",
    "describe",
    "generate_key",
    "parameters_of",
    "remote_key",
    "sign",
]

type PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
type PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
type SignDigest = Callable[[SignatureAlgorithm, bytes], bytes]
"""Signs a digest far away; an EC key answers with r || s (RFC 7518 section 3.4)."""


_PUBLIC_EXPONENT = 65537

EXPONENTS = range(2**16 + 1, 2**256, 2)
"""Public exponents of RSA keys that are taken (CA/Browser Forum Baseline Requirements 6.1.6, NIST FIPS 186-5 A.1.1)."""


class UnsupportedKey(ValueError):
    """The key's algorithm or size is not one of :class:`KeyAlgorithm`; the message names both."""


class WrongExponent(UnsupportedKey):
    """An RSA key's public exponent is not one of :data:`EXPONENTS`."""

    def __init__(self, exponent: int) -> None:
        super().__init__(
            f"the RSA key has the public exponent {names.number(exponent)}; an odd one from 65537 to 2^256 - 1 is "
            "needed"
        )


class WrongSignature(RuntimeError):
    """What a vault gave is not a signature of the digest by the key that was meant. Nothing may be made of it."""


def generate_key(algorithm: KeyAlgorithm) -> PrivateKey:
    """Make a key.

    RSA takes from 35 ms (2048 bits) to 350 ms (4096) and releases the interpreter lock: call it in a thread. EC takes
    microseconds.
    """
    parameters = algorithm.parameters
    if parameters.curve is not None:
        return ec.generate_private_key(parameters.curve)
    return rsa.generate_private_key(_PUBLIC_EXPONENT, parameters.bits or 0)


def algorithm_of(public_key: object) -> KeyAlgorithm:
    """Tell a key's algorithm.

    Raises:
        UnsupportedKey: it is not one of ours.
    """
    for algorithm in KeyAlgorithm:
        parameters = algorithm.parameters
        if isinstance(public_key, ec.EllipticCurvePublicKey) and parameters.curve is not None:
            if public_key.curve.name == parameters.curve.name:
                return algorithm
        elif isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size == parameters.bits:
            _check_exponent(public_key)
            return algorithm
    raise _unsupported(public_key)


def _unsupported(public_key: object) -> UnsupportedKey:
    return UnsupportedKey(f"the key is {describe(public_key)}; supported are {', '.join(KeyAlgorithm)}")


def _check_exponent(public_key: rsa.RSAPublicKey) -> None:
    exponent = public_key.public_numbers().e
    if exponent not in EXPONENTS:
        raise WrongExponent(exponent)


def describe(public_key: object) -> str:
    """Name a key's kind and size, for messages."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return f"EC {public_key.curve.name}"
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"RSA with {public_key.key_size} bits"
    return type(public_key).__name__.lstrip("_").removesuffix("PublicKey")


def parameters_of(key: PrivateKey | PublicKey) -> KeyParameters:
    """Give what a key's algorithm stands for.

    Raises:
        UnsupportedKey: it is not one of ours.
    """
    if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        key = key.public_key()
    return algorithm_of(key).parameters


def sign(key: PrivateKey, content: bytes, digest: hashes.SHA256 | hashes.SHA384) -> bytes:
    """Sign what a certificate or a revocation list says.

    With a key in a vault this waits for the network: call it in a thread.

    Args:
        key: of the CA.
        content: to be signed.
        digest: the hash that belongs to the key, by its :func:`parameters_of`.
    """
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(content, ec.ECDSA(digest))
    return key.sign(content, PKCS1v15(), digest)


def remote_key(public_key: object, sign_digest: SignDigest) -> PrivateKey:
    """Give a key that is somewhere else the form in which cryptography's builders sign with it.

    Args:
        public_key: its public half.
        sign_digest: does the signing; called with the digest only, in the thread that signs.

    Raises:
        UnsupportedKey: the key is not one of :class:`KeyAlgorithm`.
    """
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return RemoteEllipticCurveKey(public_key, sign_digest)
    if isinstance(public_key, rsa.RSAPublicKey):
        return RemoteRsaKey(public_key, sign_digest)
    raise _unsupported(public_key)


def _digest(algorithm: hashes.HashAlgorithm, content: Buffer) -> bytes:
    context = hashes.Hash(algorithm)
    context.update(memoryview(content))
    return context.finalize()


_NOT_HERE = "the private key is in the vault and does not leave it"
_WRONG_KEY = "the signature that the vault gave does not fit the key that was meant"


class RemoteEllipticCurveKey(ec.EllipticCurvePrivateKey):
    """An EC key in a vault."""

    def __init__(self, public_key: ec.EllipticCurvePublicKey, sign_digest: SignDigest) -> None:
        self._public_key = public_key
        self._parameters = algorithm_of(public_key).parameters
        self._sign_digest = sign_digest

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Sign: the digest travels, and the answer, r || s, becomes DER (RFC 3279 section 2.2.3).

        Raises:
            WrongSignature: what came back is not a signature of this key.
        """
        chosen = signature_algorithm.algorithm
        # A vault ties one hash to each curve (RFC 7518 section 3.4).
        if isinstance(chosen, utils.Prehashed) or chosen.name != self._parameters.digest.name:
            raise TypeError(f"a vault's {self.curve.name} key signs content with {self._parameters.digest.name} only")
        digest = _digest(chosen, data)
        answer = self._sign_digest(self._parameters.signature, digest)
        half = (self.key_size + 7) // 8
        if len(answer) != 2 * half:
            raise WrongSignature(f"the vault gave a signature of {len(answer)} bytes instead of {2 * half}")
        r, s = int.from_bytes(answer[:half], "big"), int.from_bytes(answer[half:], "big")
        signature = utils.encode_dss_signature(r, s)
        try:
            self._public_key.verify(signature, digest, ec.ECDSA(utils.Prehashed(chosen)))
        except InvalidSignature:
            raise WrongSignature(_WRONG_KEY) from None
        return signature

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


class RemoteRsaKey(rsa.RSAPrivateKey):
    """An RSA key in a vault. Signs with PKCS #1 v1.5, the padding of certificates."""

    def __init__(self, public_key: rsa.RSAPublicKey, sign_digest: SignDigest) -> None:
        algorithm_of(public_key)
        self._public_key = public_key
        self._sign_digest = sign_digest

    def sign(
        self,
        data: Buffer,
        padding: AsymmetricPadding,
        algorithm: utils.Prehashed | hashes.HashAlgorithm | utils.NoDigestInfo,
    ) -> bytes:
        """Sign: only the digest travels.

        Raises:
            WrongSignature: what came back is not a signature of this key.
        """
        if not isinstance(padding, PKCS1v15) or not isinstance(algorithm, hashes.HashAlgorithm):
            raise TypeError("a vault's RSA key signs content with PKCS #1 v1.5 here")
        digest = _digest(algorithm, data)
        signature = self._sign_digest(SignatureAlgorithm(f"RS{algorithm.digest_size * 8}"), digest)
        try:
            self._public_key.verify(signature, digest, padding, utils.Prehashed(algorithm))
        except InvalidSignature:
            raise WrongSignature(_WRONG_KEY) from None
        return signature

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
