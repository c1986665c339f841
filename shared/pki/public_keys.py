"""Public keys that others made: which of them are taken, and the name that each is known by.

What is asked of an RSA key is what CA/Browser Forum Baseline Requirements 6.1.1.3, 6.1.5 and 6.1.6 ask: a size of
:class:`KeyAlgorithm`, an odd exponent from 2^16 + 1 to 2^256 - 1 (65,537 is the usual one; 3 is refused), no small
factors, no two primes so close that Fermat's method finds them, and not the traces of Infineon's library (ROCA). Not
checked: Debian's weak keys of 2008 (CVE-2008-0166), whose list Debian does not distribute any more, and whether the
modulus is a prime or a cube, which takes longer to find out than to sign a hundred certificates.

An EC key is on a curve of :class:`KeyAlgorithm`, and its point is on that curve and not the point at infinity (the
public key validation of NIST SP 800-56A section 5.6.2.3.3; both curves have cofactor 1): no other point can be loaded.
"""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from math import gcd, isqrt, prod
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.pki import der
from shared.pki.certificates import UNREADABLE, key_info_of
from shared.pki.signing_keys import EXPONENTS, KeyAlgorithm, UnsupportedKey, WrongExponent, algorithm_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.pki.signing_keys import PublicKey

FERMAT_ROUNDS = 100
"""Baseline Requirements 6.1.1.3 (5) c."""

SMALLEST_FACTOR = 16_384
"""Of an RSA modulus; the Baseline Requirements ask for 752 (6.1.6). The check takes 70 microseconds for 2048 bits."""


class WeakKey(UnsupportedKey):
    """The key is of a kind that is taken, and its private half can be found out; the message says how."""


def fingerprint(public_key: PublicKey) -> str:
    """Name a key, whatever certificate or request holds it.

    Returns:
        The SHA-256 of its SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7): 64 lower-case hexadecimal digits. A
        point that is written in compressed form has the same one as in the uncompressed form.
    """
    return hashlib.sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def check_public_key(public_key: object) -> PublicKey:
    """Check a key that somebody else made. For RSA this takes from 0.2 ms (2048 bits) to 0.4 ms (4096).

    Args:
        public_key: of any kind.

    Returns:
        The key, which is now known to be one of ours.

    Raises:
        UnsupportedKey: its algorithm or size is not one of :class:`KeyAlgorithm`, or its exponent is out of range.
        WeakKey: its private half can be found out.
    """
    algorithm_of(public_key)
    if isinstance(public_key, rsa.RSAPublicKey):
        weakness = _weakness(public_key.public_numbers().n)
        if weakness:
            raise WeakKey(weakness)
    return public_key  # type: ignore[return-value]  # algorithm_of takes these two kinds only


def key_of(holder: x509.Certificate | x509.CertificateSigningRequest) -> PublicKey:
    """Take the key out of a certificate or a signing request, checked.

    Raises:
        UnsupportedKey: it can't be read, or as :func:`check_public_key`.
    """
    try:
        key = holder.public_key()
    except UNREADABLE:
        raise UnsupportedKey(why_unreadable(_key_info(holder))) from None
    return check_public_key(key)


def _key_info(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    if isinstance(holder, x509.CertificateSigningRequest):
        return [*der.parts(holder.tbs_certrequest_bytes)][2]
    return key_info_of(holder)


# --- what can't be loaded ---

_RSA = der.object_identifier("1.2.840.113549.1.1.1")
_EC = der.object_identifier("1.2.840.10045.2.1")
_SEQUENCE, _OBJECT_IDENTIFIER = 0x30, 0x06
_UNCOMPRESSED, _COMPRESSED, _INFINITY = b"\x04", (b"\x02", b"\x03"), b"\0"


def why_unreadable(key_info: bytes) -> str:
    """Say why a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) can't be loaded, or is not a key of ours."""
    try:
        algorithm, bits = der.parts(key_info)
        kind, *parameters = der.parts(algorithm)
        content = der.content(bits)[1:]  # without the count of unused bits
        if kind == _EC:
            return _why_not_ec(parameters, content)
        if kind == _RSA:
            return _why_not_rsa(content)
        dotted = der.dotted(kind)
    except ValueError:
        return "the public key is not a SubjectPublicKeyInfo in DER"
    return f"the key is of another kind ({dotted}); supported are {', '.join(KeyAlgorithm)}"


def _why_not_ec(parameters: Sequence[bytes], point: bytes) -> str:
    named = parameters[0] if parameters else b"\0"
    if named[0] == _SEQUENCE:
        return "the EC key spells out the parameters of its curve; the name of P-256 or P-384 is right (RFC 5480)"
    if named[0] != _OBJECT_IDENTIFIER:
        return "the EC key does not say on which curve it is; the name of P-256 or P-384 is right (RFC 5480)"
    if der.dotted(named) not in _CURVES:
        return f"the EC key is on the curve {der.dotted(named)}; supported are {', '.join(KeyAlgorithm)}"
    if point == _INFINITY:
        return "the EC key is the point at infinity, which is not a key"
    octets = _CURVES[der.dotted(named)]
    if (point[:1] == _UNCOMPRESSED and len(point) == 2 * octets + 1) or (
        point[:1] in _COMPRESSED and len(point) == octets + 1
    ):
        return "the EC key is not a point on its curve"
    return f"the EC key has {len(point)} octets; {2 * octets + 1} that begin with 04 are right (SEC 1 section 2.3.3)"


_CURVES: Mapping[str, int] = {"1.2.840.10045.3.1.7": 32, "1.3.132.0.34": 48}
"""P-256 and P-384 (RFC 5480 section 2.1.1.1), each with the octets of a coordinate."""


def _why_not_rsa(content: bytes) -> str:
    """Judge an RSAPublicKey (RFC 8017 appendix A.1.1)."""
    modulus, exponent = (int.from_bytes(der.content(each), "big", signed=True) for each in der.parts(content))
    if modulus <= 0:
        return "the RSA key's modulus is not positive"
    return str(WrongExponent(exponent)) if exponent not in EXPONENTS or not exponent % 2 else _OUT_OF_RANGE


_OUT_OF_RANGE = "the RSA key's exponent and modulus do not belong together, or are not written in DER"


# --- RSA ---


@lru_cache(maxsize=1024)
def _weakness(modulus: int) -> str:
    """Say how a modulus can be factored, if it can; the CAs' own are asked about with each device."""
    if gcd(modulus, _small_primes_product()) != 1:
        factor = next(prime for prime in _primes(SMALLEST_FACTOR) if not modulus % prime)
        return f"the RSA key can be factored: its modulus is divisible by {factor}; make a new key"
    if _has_close_primes(modulus):
        return (
            "the RSA key can be factored: its two primes are too close to each other (Fermat's method finds them); "
            "make a new key with another library or random source"
        )
    if _is_of_infineon(modulus):
        return (
            "the RSA key was made by a chip whose keys can be factored (ROCA, CVE-2017-15361); make it with updated "
            "firmware, outside of the chip, or on an elliptic curve"
        )
    return ""


def _has_close_primes(modulus: int) -> bool:
    """Look for two primes near the square root (Fermat); a square is the case that they are the same."""
    middle = isqrt(modulus - 1) + 1  # rounded up
    rest = middle * middle - modulus
    for _ in range(FERMAT_ROUNDS):
        # A square ends in few of the 256 octets: most rounds need no root.
        if rest & 0xFF in _SQUARE_ENDS and isqrt(rest) ** 2 == rest:
            return True
        rest += 2 * middle + 1
        middle += 1
    return False


_SQUARE_ENDS = frozenset(each * each & 0xFF for each in range(256))


def _is_of_infineon(modulus: int) -> bool:
    """Look for the form of all keys that Infineon's library made (Nemec et al., "The Return of Coppersmith's Attack").

    Such a modulus is a power of 65,537 modulo each of these primes; another one is by chance, once in 2^27 or more.
    """
    return all(modulus % prime in residues for prime, residues in _roca_residues())


@cache
def _roca_residues() -> Sequence[tuple[int, frozenset[int]]]:
    """Give the primes up to 167 (those of the shortest keys are among those of all) with the powers of 65,537."""
    powers = [(prime, frozenset(pow(65_537, exponent, prime) for exponent in range(prime))) for prime in _primes(168)]
    return [(prime, residues) for prime, residues in powers if len(residues) < prime - 1]


@cache
def _small_primes_product() -> int:
    return prod(_primes(SMALLEST_FACTOR))


@cache
def _primes(limit: int) -> Sequence[int]:
    found = list[int]()
    for number in range(2, limit):
        if all(number % prime for prime in found[: isqrt(number)]):
            found.append(number)
    return found
