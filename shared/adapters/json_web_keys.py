"""Keys as a vault has them, JSON Web Keys (RFC 7517), and as cryptography has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azure.keyvault.keys import JsonWebKey
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.rules.key_algorithms import KeyAlgorithm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.keyvault.keys import KeyVaultKey

    from shared.ports.vault import PrivateKey, PublicKey


def _curves() -> Iterator[tuple[ec.EllipticCurve, str]]:
    for each in KeyAlgorithm:
        if each.parameters.curve is not None and each.parameters.curve_name is not None:
            yield each.parameters.curve, each.parameters.curve_name


def algorithm_of(key: KeyVaultKey) -> str:
    """Name a key's algorithm as ours are named; by what the vault says of it where it is not one of ours."""
    jwk: Any = key.key
    if jwk.crv is None:
        return f"RSA-{8 * len(jwk.n)}"
    return next((each for each in KeyAlgorithm if each.parameters.curve_name == jwk.crv), f"EC {jwk.crv}")


def public_key_of(key: KeyVaultKey) -> PublicKey:
    """Read the public half out of a JSON Web Key (RFC 7518 section 6)."""
    jwk: Any = key.key
    if jwk.crv is not None:
        curve = next(curve for curve, name in _curves() if name == jwk.crv)
        return ec.EllipticCurvePublicNumbers(
            int.from_bytes(jwk.x, "big"), int.from_bytes(jwk.y, "big"), curve
        ).public_key()
    return rsa.RSAPublicNumbers(int.from_bytes(jwk.e, "big"), int.from_bytes(jwk.n, "big")).public_key()


def json_web_key(key: PrivateKey) -> JsonWebKey:
    """Give a key as a JSON Web Key that signs (RFC 7518 section 6)."""
    operations = ["sign", "verify"]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size, numbers = (key.key_size + 7) // 8, key.private_numbers()
        curve = next(name for known, name in _curves() if known.name == key.curve.name)
        point = numbers.public_numbers
        x, y, d = (number.to_bytes(size, "big") for number in (point.x, point.y, numbers.private_value))
        return JsonWebKey(kty="EC", crv=curve, key_ops=operations, x=x, y=y, d=d)
    secret = key.private_numbers()
    parts = {
        "n": secret.public_numbers.n, "e": secret.public_numbers.e, "d": secret.d, "p": secret.p, "q": secret.q,
        "dp": secret.dmp1, "dq": secret.dmq1, "qi": secret.iqmp,
    }  # fmt: skip
    octets = {name: number.to_bytes((number.bit_length() + 7) // 8, "big") for name, number in parts.items()}
    return JsonWebKey(kty="RSA", key_ops=operations, **octets)
