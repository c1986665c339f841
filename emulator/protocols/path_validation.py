"""Certification paths: from a device's certificate, over what the device sent, up to a CA that a service trusts.

What a certificate must be is RFC 5280 section 6, with the algorithms and purposes of a TLS client. What a client may
send is RFC 8446 section 4.4.2: the leaf first, then the others in any order, and strangers among them. DPS names the
elements of a chain that it has built ("Signing certificate info did not match chain elements"), and Microsoft's SDK for
.NET has sent it intermediates in disorder (dotnet/corefx#35640).

Where no public account says what the services do, the stricter is taken: what passes here passes there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from emulator.protocols import odd_certificates
from emulator.protocols.name_constraints import first_forbidden

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    type Path = tuple[x509.Certificate, ...]
    """Leaf first, each one followed by its issuer."""

SENT_LIMIT = 16
"""Certificates that are read of what a device sends."""

_CURVES = ("secp256r1", "secp384r1")
"""What Windows takes in TLS by default (Microsoft: "TLS elliptic curves in Windows 10 version 1607 and later")."""

_RSA_BITS = (2048, 3072, 4096)
_RSA_EXPONENT = 65537  # at least (NIST SP 800-56B section 6.2)
_BROKEN_HASHES = ("md5", "sha1")
_CLIENT_PURPOSES = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


class ChainRefused(ValueError):
    """A certificate, or the chain above it, is not a proof; the text names the certificate and the cause."""


class NoTrustedAuthority(ChainRefused):
    """The chain ends below any CA that is trusted."""


def common_names(certificate: x509.Certificate) -> list[str]:
    """Give every CN of the subject."""
    return [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def is_signed(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Tell whether one certificate was signed by another's key and names it as its issuer."""
    if odd_certificates.is_odd(lower) or odd_certificates.is_odd(upper):
        return odd_certificates.is_signed(lower, upper)
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def check_leaf(leaf: x509.Certificate, name: str, now: datetime) -> None:
    """See that a device's own certificate carries its name, in either case of letters, and is good for TLS now.

    Raises:
        ChainRefused: it is not.
    """
    if not _is_readable(leaf):
        raise ChainRefused("the leaf is damaged")
    found = common_names(leaf)
    if len(found) != 1 or not _same_name(found[0], name):
        raise ChainRefused(f"the leaf's CN is {found}, the device {name!r}")
    check_life(leaf, now)
    _check_content(leaf)
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise ChainRefused("the leaf's key usage lacks digitalSignature")


def _same_name(first: str, second: str) -> bool:
    """Without case, where letters have one: those of ASCII."""
    return first == second or (first.isascii() and first.lower() == second.lower())


def check_life(certificate: x509.Certificate, now: datetime) -> None:
    """See that a certificate is valid now; the second of its end counts (RFC 5280 section 4.1.2.5).

    Raises:
        ChainRefused: it is not.
    """
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now.replace(microsecond=0) <= end:
        raise ChainRefused(
            f"{certificate.subject.rfc4514_string()} is valid from {start:%Y-%m-%dT%H:%M:%SZ} to "
            f"{end:%Y-%m-%dT%H:%M:%SZ}, not now"
        )


def climb(chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], now: datetime) -> list[Path]:
    """Climb from a leaf, over certificates that its holder sent, to trusted CAs.

    Args:
        chain: as the device sent it, leaf first, the rest in any order.
        trusted: CA certificates whose key's possession was proved to the service; they need not be sent.
        now: the present time, UTC.

    Returns:
        Every valid path, each up to the highest trusted CA on it.

    Raises:
        ChainRefused: a CA on the way is expired or may not sign here.
        NoTrustedAuthority: no trusted CA is reached.
    """
    if len(chain) > SENT_LIMIT:
        raise ChainRefused(f"the device sent {len(chain)} certificates; {SENT_LIMIT} are read")
    known = [each for each in dict.fromkeys((*trusted, *chain[1:])) if _is_readable(each)]
    found: dict[Path, None] = {}
    refusals: list[ChainRefused] = []
    paths = list(_whole_paths((chain[0],), known))
    for path in paths:
        length, refusal = _sound_length(path, now)
        heights = [height for height, each in enumerate(path, start=1) if each in trusted]
        reached = [height for height in heights if height <= length]
        if reached:
            found[path[: reached[-1]]] = None
        elif heights and refusal:
            refusals.append(refusal)
    if not found:
        raise refusals[0] if refusals else _open(max(paths, key=len))
    return list(found)


def _open(path: Path) -> NoTrustedAuthority:
    missing = path[-1].issuer.rfc4514_string()
    return NoTrustedAuthority(f"no verified CA is reached; {missing} is missing")


def _whole_paths(path: Path, known: Sequence[x509.Certificate]) -> Iterator[Path]:
    """Give every path up to where it ends; no name and key come twice on one (RFC 4158 section 5.2)."""
    uppers = [each for each in known if _is_issuer(path, each)]
    if not uppers:
        yield path
    for upper in uppers:
        yield from _whole_paths((*path, upper), known)


def _is_issuer(path: Path, upper: x509.Certificate) -> bool:
    lower = path[-1]
    if upper in path or lower.issuer != upper.subject or not _identifiers_match(lower, upper):
        return False
    return is_signed(lower, upper) and _identity(upper) not in map(_identity, path)


def _identity(certificate: x509.Certificate) -> tuple[x509.Name, bytes]:
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.subject, key


def _identifiers_match(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Compare what a certificate says of its issuer's key and certificate (RFC 5280 section 4.2.1.1)."""
    wanted, present = _extension(lower, x509.AuthorityKeyIdentifier), _extension(upper, x509.SubjectKeyIdentifier)
    if wanted is None:
        return True
    if wanted.key_identifier is not None and present is not None and wanted.key_identifier != present.digest:
        return False
    makers = [each.value for each in wanted.authority_cert_issuer or () if isinstance(each, x509.DirectoryName)]
    return wanted.authority_cert_serial_number in {None, upper.serial_number} and (not makers or upper.issuer in makers)


def _sound_length(path: Path, now: datetime) -> tuple[int, ChainRefused | None]:
    """Count how many certificates of a path, from the leaf, are what they must be, and say why no more are."""
    for height in range(1, len(path)):
        try:
            _check_authority(path[height], path[:height], now)
        except ChainRefused as refusal:
            return height, refusal
    return len(path), None


def _check_authority(authority: x509.Certificate, below: Path, now: datetime) -> None:
    check_life(authority, now)
    _check_content(authority)
    constraints, usage = _extension(authority, x509.BasicConstraints), _extension(authority, x509.KeyUsage)
    # A CA that signed its own new key does not count (RFC 5280 section 4.2.1.9).
    authorities = sum(not _is_self_issued(each) for each in below[1:])
    longest = constraints.path_length if constraints is not None else None
    if (
        constraints is None
        or not constraints.ca
        or (longest is not None and authorities > longest)
        or (usage is not None and not usage.key_cert_sign)
    ):
        raise ChainRefused(f"{authority.subject.rfc4514_string()} may not sign here")
    _check_names(authority, below)


def _check_names(authority: x509.Certificate, below: Path) -> None:
    constraints = _extension(authority, x509.NameConstraints)
    if constraints is None:
        return
    # A CA that signed its own new key is exempt, a leaf is not (RFC 5280 section 6.1.3 b).
    for each in (below[0], *(each for each in below[1:] if not _is_self_issued(each))):
        forbidden = first_forbidden(constraints, each)
        if forbidden is not None:
            raise ChainRefused(f"{authority.subject.rfc4514_string()} forbids the name {forbidden} below it")


def _check_content(certificate: x509.Certificate) -> None:
    """See that a certificate has what the services take: key, signature, purposes, and no wish that they don't know."""
    name = certificate.subject.rfc4514_string()
    if not _has_known_key(certificate):
        raise ChainRefused(f"the key of {name} is not of a kind that is taken")
    digest = _digest_name(certificate)
    if digest in _BROKEN_HASHES and not _is_self_issued(certificate):
        raise ChainRefused(f"{name} is signed with {digest}")
    unknown = [each for each in certificate.extensions if isinstance(each.value, x509.UnrecognizedExtension)]
    if any(each.critical for each in unknown):  # RFC 5280 section 4.2
        raise ChainRefused(f"{name} has a critical extension that is not known")
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if purposes is not None and not _CLIENT_PURPOSES & {*purposes}:
        raise ChainRefused(f"the extended key usage of {name} lacks clientAuth")


def _has_known_key(certificate: x509.Certificate) -> bool:
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return False
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name in _CURVES
    return isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS and key.public_numbers().e >= _RSA_EXPONENT


def _digest_name(certificate: x509.Certificate) -> str:
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return ""
    return digest.name if digest else ""


def _is_self_issued(certificate: x509.Certificate) -> bool:
    return certificate.issuer == certificate.subject


def _is_readable(certificate: x509.Certificate) -> bool:
    """Decode everything once: cryptography does so when it is asked."""
    try:
        _ = certificate.subject, certificate.issuer, certificate.extensions, certificate.version
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except odd_certificates.DAMAGES:
        return False
    return True


def _extension[E: x509.ExtensionType](certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
