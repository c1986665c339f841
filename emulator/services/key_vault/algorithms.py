"""The arithmetic of the vault's keys: making, reading and writing JSON Web Keys, signing, wrapping.

Algorithm names are those of RFC 7518; what is signed is a digest, and an EC signature is r || s (RFC 7518 section 3.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from emulator.services.key_vault import errors

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
CURVES: Mapping[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "P-256K": ec.SECP256K1(),
}
JWK_NAMES: Mapping[str, str] = {"P-256K": "secp256k1"}  # the vault has its own name for RFC 8812's curve
RSA_SIZES = (2048, 3072, 4096)
RSA_EXPONENT = 65537
KEY_TYPES = ("EC", "EC-HSM", "RSA", "RSA-HSM")
EC_OPERATIONS = ("sign", "verify")
RSA_OPERATIONS = ("encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey")


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """Digest, and the curve for ECDSA or the padding for RSA."""

    digest: hashes.HashAlgorithm
    curve: str | None = None
    rsa_padding: Literal["PKCS1v15", "PSS"] | None = None


SIGNATURES: Mapping[str, SignatureAlgorithm] = {
    "ES256": SignatureAlgorithm(hashes.SHA256(), curve="P-256"),
    "ES384": SignatureAlgorithm(hashes.SHA384(), curve="P-384"),
    "ES512": SignatureAlgorithm(hashes.SHA512(), curve="P-521"),
    "ES256K": SignatureAlgorithm(hashes.SHA256(), curve="P-256K"),
    "RS256": SignatureAlgorithm(hashes.SHA256(), rsa_padding="PKCS1v15"),
    "RS384": SignatureAlgorithm(hashes.SHA384(), rsa_padding="PKCS1v15"),
    "RS512": SignatureAlgorithm(hashes.SHA512(), rsa_padding="PKCS1v15"),
    "PS256": SignatureAlgorithm(hashes.SHA256(), rsa_padding="PSS"),
    "PS384": SignatureAlgorithm(hashes.SHA384(), rsa_padding="PSS"),
    "PS512": SignatureAlgorithm(hashes.SHA512(), rsa_padding="PSS"),
}
ENCRYPTIONS: Mapping[str, padding.AsymmetricPadding] = {
    "RSA-OAEP": padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),  # noqa: S303  RFC 7518 section 4.3
    "RSA-OAEP-256": padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
    "RSA1_5": padding.PKCS1v15(),
}


def generate(kty: str, *, curve: Any, size: Any) -> PrivateKey:
    """Make a key; an RSA key takes from 35 ms to seconds.

    Raises:
        WireError: type, curve or size is not one of the vault's (400).
    """
    if kty not in KEY_TYPES:
        raise errors.bad_parameter(f"kty is {kty!r}; it must be one of {', '.join(KEY_TYPES)}.")
    if kty.startswith("EC"):
        name = "P-256" if curve is None else str(curve)
        if name not in CURVES:
            raise errors.bad_parameter(f"crv is {name!r}; it must be one of {', '.join(CURVES)}.")
        return ec.generate_private_key(CURVES[name])
    bits = 2048 if size is None else size
    if bits not in RSA_SIZES:
        raise errors.bad_parameter(f"key_size is {bits!r}; it must be one of {', '.join(map(str, RSA_SIZES))}.")
    return rsa.generate_private_key(public_exponent=RSA_EXPONENT, key_size=bits)


def from_jwk(jwk: Any) -> PrivateKey:
    """Read the private key out of a JSON Web Key that is being imported.

    Raises:
        WireError: it is not valid, or of a type, curve or size that the vault does not take (400).
    """
    if not isinstance(jwk, Mapping) or jwk.get("kty") not in KEY_TYPES:
        raise errors.bad_parameter(f"key is not a JSON Web Key with a kty out of {', '.join(KEY_TYPES)}.")
    if "d" not in jwk:
        raise errors.bad_parameter("key has no private part 'd'; only whole keys can be imported.")
    family = jwk["kty"].removesuffix("-HSM")
    plain = {name: value for name, value in jwk.items() if value is not None} | {"kty": family}
    try:
        if family == "EC":
            plain["crv"] = JWK_NAMES.get(str(jwk.get("crv")), jwk.get("crv"))
            key: Any = ECAlgorithm.from_jwk(plain)
        else:
            key = RSAAlgorithm.from_jwk(plain)
    except (jwt.InvalidKeyError, ValueError, TypeError, KeyError):
        raise errors.bad_parameter("key is not a valid JSON Web Key: a member is missing, or they don't fit.") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size not in RSA_SIZES:
        sizes = ", ".join(map(str, RSA_SIZES))
        raise errors.bad_parameter(f"The imported RSA key has {key.key_size} bits; it must have one of {sizes}.")
    if not isinstance(key, PrivateKey):
        raise errors.bad_parameter("key is not a private EC or RSA key.")
    return key


def public_jwk(key: PrivateKey) -> dict[str, Any]:
    """The public half as members of a JSON Web Key, without kty: crv, x, y or n, e."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        members = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        return {"crv": curve_name(key), "x": members["x"], "y": members["y"]}
    members = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {"n": members["n"], "e": members["e"]}


def curve_name(key: ec.EllipticCurvePrivateKey) -> str:
    """The vault's name of a key's curve."""
    return next(name for name, curve in CURVES.items() if curve.name == key.curve.name)


def to_pem(key: PrivateKey) -> str:
    """For the store; this never travels."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def from_pem(pem: str) -> PrivateKey:
    """Out of the store. It was judged when it was made or imported: to look for its primes again takes long."""
    key = serialization.load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, PrivateKey):
        raise TypeError("the store holds a vault key that is neither EC nor RSA")
    return key


def sign(key: PrivateKey, algorithm: str, digest: bytes) -> bytes:
    """Sign a digest.

    Raises:
        WireError: algorithm unknown or not for this key, or digest of the wrong length (400).
    """
    wanted = _fitting(key, algorithm, digest)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(wanted.digest))))
        octets = (key.key_size + 7) // 8
        return r.to_bytes(octets) + s.to_bytes(octets)
    return key.sign(digest, _signature_padding(wanted), utils.Prehashed(wanted.digest))


def verify(key: PrivateKey, algorithm: str, digest: bytes, signature: bytes) -> bool:
    """Whether a signature over a digest is this key's.

    Raises:
        WireError: algorithm unknown or not for this key, or digest of the wrong length (400).
    """
    wanted = _fitting(key, algorithm, digest)
    try:
        if isinstance(key, ec.EllipticCurvePrivateKey):
            octets = (key.key_size + 7) // 8
            if len(signature) != 2 * octets:
                return False
            r, s = int.from_bytes(signature[:octets]), int.from_bytes(signature[octets:])
            encoded = utils.encode_dss_signature(r, s)
            key.public_key().verify(encoded, digest, ec.ECDSA(utils.Prehashed(wanted.digest)))
        else:
            key.public_key().verify(signature, digest, _signature_padding(wanted), utils.Prehashed(wanted.digest))
    except InvalidSignature:
        return False
    return True


def encrypt(key: PrivateKey, algorithm: str, plaintext: bytes) -> bytes:
    """Encrypt, or wrap a key, with the public half.

    Raises:
        WireError: algorithm unknown or not for this key, or too much text for it (400).
    """
    rsa_key = _rsa(key, algorithm)
    try:
        return rsa_key.public_key().encrypt(plaintext, ENCRYPTIONS[algorithm])
    except ValueError:
        raise errors.bad_parameter(
            f"value has {len(plaintext)} bytes, too many for {algorithm} with a key of {rsa_key.key_size} bits."
        ) from None


def decrypt(key: PrivateKey, algorithm: str, ciphertext: bytes) -> bytes:
    """Decrypt, or unwrap a key.

    Raises:
        WireError: algorithm unknown or not for this key, or not encrypted by it (400).
    """
    rsa_key = _rsa(key, algorithm)
    try:
        return rsa_key.decrypt(ciphertext, ENCRYPTIONS[algorithm])
    except ValueError:
        raise errors.bad_parameter(f"value could not be decrypted with this key and {algorithm}.") from None


def _fitting(key: PrivateKey, algorithm: str, digest: bytes) -> SignatureAlgorithm:
    wanted = SIGNATURES.get(algorithm)
    if wanted is None:
        raise errors.bad_parameter(f"alg is {algorithm!r}; it must be one of {', '.join(SIGNATURES)}.")
    have = f"EC on {curve_name(key)}" if isinstance(key, ec.EllipticCurvePrivateKey) else "RSA"
    need = f"EC on {wanted.curve}" if wanted.curve else "RSA"
    if have != need:
        raise errors.bad_parameter(
            f"Key and signing algorithm are incompatible. The key is of type {have}, and algorithm {algorithm!r} "
            f"can only be used with a key of type {need}."
        )
    if len(digest) != wanted.digest.digest_size:
        raise errors.bad_parameter(
            f"value has {len(digest)} bytes; {algorithm} signs a digest of {wanted.digest.digest_size} bytes."
        )
    return wanted


def _signature_padding(wanted: SignatureAlgorithm) -> padding.AsymmetricPadding:
    if wanted.rsa_padding == "PSS":  # salt as long as the digest, RFC 7518 section 3.5
        return padding.PSS(padding.MGF1(wanted.digest), wanted.digest.digest_size)
    return padding.PKCS1v15()


def _rsa(key: PrivateKey, algorithm: str) -> rsa.RSAPrivateKey:
    if algorithm not in ENCRYPTIONS:
        raise errors.bad_parameter(f"alg is {algorithm!r}; it must be one of {', '.join(ENCRYPTIONS)}.")
    if not isinstance(key, rsa.RSAPrivateKey):
        raise errors.bad_parameter(f"The key is an EC key; {algorithm} needs a key of type RSA or RSA-HSM.")
    return key
