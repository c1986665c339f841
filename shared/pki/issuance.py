"""Issuance in two steps: what was not checked can't be signed.

:func:`prepare` validates a request against its profile and issuer and gives a :class:`Prepared`; :func:`issue` redeems
that, once, with the issuer it was prepared for, and checks what came out.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from shared.errors import Rejected
from shared.pki import names
from shared.pki.profiles import Kind, Profile, ProfileError
from shared.pki.signing_keys import UnsupportedKey, algorithm_of, digest_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.pki.signing_keys import PrivateKey, PublicKey

BACKDATING = timedelta(minutes=10)
"""notBefore lies this far back, for devices whose clock is late."""

LEAST_SHARE = 0.9
"""Of the wanted life, so much must be left in the issuer: else it is refused rather than silently shortened."""

_COMMON_NAME_LIMIT = 64  # RFC 5280 appendix A.1: ub-common-name
_SERIAL_BITS = 158


class IssuerError(ValueError):
    """A CA can't sign: its key, its usage or its chain is wrong; the message says which."""


class AlreadyRedeemed(RuntimeError):
    """A prepared certificate was signed before, or is to be signed by another CA than it was prepared for."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject name: C, O and CN, in this order."""

    common_name: str
    organization: str | None = None
    country: str | None = None

    def to_name(self) -> x509.Name:
        """Give the name as it goes into a certificate."""
        parts = (
            (NameOID.COUNTRY_NAME, self.country),
            (NameOID.ORGANIZATION_NAME, self.organization),
            (NameOID.COMMON_NAME, self.common_name),
        )
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value is not None])


@dataclass(frozen=True, slots=True)
class DistributionPoints:
    """Where relying parties find what they need about an issuer, over plain HTTP (RFC 5280 section 8)."""

    crl_url: str | None = None
    ca_issuers_url: str | None = None


@dataclass(frozen=True, eq=False)
class Issuer:
    """A CA that can sign.

    Attributes:
        chain: its own certificate first, up to and including the root.

    Raises:
        IssuerError: its key does not match its certificate, its certificate may not sign, or its chain has a gap.
    """

    certificate: x509.Certificate
    signing_key: PrivateKey
    chain: tuple[x509.Certificate, ...]

    def __post_init__(self) -> None:
        name = names.common_name(self.certificate.subject)
        if self.signing_key.public_key() != self.certificate.public_key():
            raise IssuerError(f"the key of CA {name!r} does not match its certificate")
        if not _extension(self.certificate, x509.BasicConstraints, IssuerError).ca:
            raise IssuerError(f"the certificate of {name!r} is no CA certificate")
        if not _extension(self.certificate, x509.KeyUsage, IssuerError).key_cert_sign:
            raise IssuerError(f"the key usage of {name!r} forbids signing certificates (keyCertSign)")
        if not self.chain or self.chain[0] != self.certificate:
            raise IssuerError(f"the chain of {name!r} must begin with its own certificate")
        for lower, upper in zip(self.chain, (*self.chain[1:], self.chain[-1]), strict=True):
            try:
                lower.verify_directly_issued_by(upper)
            except (ValueError, TypeError, InvalidSignature):
                raise IssuerError(
                    f"the chain of {name!r} has a gap: {names.common_name(lower.subject)!r} is not signed by "
                    f"{names.common_name(upper.subject)!r}"
                ) from None

    @property
    def path_length(self) -> int | None:
        """How many CAs may stand below it; ``None`` for any number."""
        return _extension(self.certificate, x509.BasicConstraints, IssuerError).path_length


@dataclass(slots=True)
class Prepared:
    """A certificate that was checked and is not signed yet."""

    _builder: x509.CertificateBuilder
    _issuer: Issuer | None
    _signing_key: PrivateKey
    _public_key: PublicKey
    _redeemed: bool = field(default=False)

    def redeem(self, issuer: Issuer | None) -> x509.Certificate:
        """Sign; see :func:`issue`."""
        if self._redeemed:
            raise AlreadyRedeemed("this certificate was signed before; prepare another one")
        if issuer is not self._issuer:
            raise AlreadyRedeemed("this certificate was prepared for another CA")
        self._redeemed = True
        certificate = self._builder.sign(self._signing_key, digest_for(self._signing_key.public_key()))
        _check(certificate, issuer, self._public_key)
        return certificate


def new_serial_number(random_bits: Callable[[int], int] = secrets.randbits) -> int:
    """Draw a serial number: 158 random bits below a fixed one, so always 20 octets and positive (RFC 5280 4.1.2.2).

    Args:
        random_bits: gives a random number of that many bits.
    """
    return 1 << _SERIAL_BITS | random_bits(_SERIAL_BITS)


def prepare(
    profile: Profile,
    *,
    subject: Subject,
    public_key: PublicKey,
    issuer: Issuer | None,
    serial_number: int,
    now: datetime,
    urls: DistributionPoints,
    signing_key: PrivateKey | None = None,
) -> Prepared:
    """Check everything about a certificate, short of signing it.

    Args:
        profile: what it contains.
        subject: whom it names.
        public_key: the key it certifies.
        issuer: the CA that will sign it; ``None`` for a root, which then needs ``signing_key``.
        serial_number: recorded before this is signed.
        now: the present time, UTC.
        urls: of the issuer; left out where the profile has none.
        signing_key: of a root.

    Raises:
        Rejected: the request can't be met: name, key, or too little life left in the issuer.
        ProfileError: the profile contradicts its issuer.
    """
    _check_name(subject)
    _check_key(public_key)
    key = issuer.signing_key if issuer else signing_key
    if key is None or (issuer is None) != (profile.kind is Kind.ROOT):
        raise ProfileError("a root signs itself with its own key, and everything else needs an issuer")
    if issuer is not None:
        _check_path_length(profile, issuer)
    not_before, not_after = _life(profile, issuer, now)
    base = _partial(profile, issuer, urls) if issuer else _root_partial(profile, subject)
    builder = (
        base.subject_name(subject.to_name())
        .public_key(public_key)
        .serial_number(serial_number)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    return Prepared(builder, issuer, key, public_key)


def issue(prepared: Prepared, issuer: Issuer | None) -> x509.Certificate:
    """Sign what was prepared, once, with the issuer it was prepared for.

    With a key in a vault this waits for the network: call it in a thread.

    Raises:
        AlreadyRedeemed: it was signed before, or was prepared for another CA.
        IssuerError: what came out is not what was prepared; it must not be used.
    """
    return prepared.redeem(issuer)


def _check_name(subject: Subject) -> None:
    name = subject.common_name
    if not name or len(name) > _COMMON_NAME_LIMIT:
        raise Rejected.because(
            f"the CN {name[:140]!r} has {len(name)} characters; 1 to {_COMMON_NAME_LIMIT} are allowed (RFC 5280 "
            "ub-common-name)"
        )
    if not name.isprintable():
        raise Rejected.because(f"the CN {name!r} has characters that can't be printed")


def _check_key(public_key: PublicKey) -> None:
    try:
        algorithm_of(public_key)
    except UnsupportedKey as error:
        raise Rejected.because(str(error), field="csr") from None


def _check_path_length(profile: Profile, issuer: Issuer) -> None:
    allowed = issuer.path_length
    if not profile.is_ca or allowed is None:
        return
    if profile.path_length is None or profile.path_length >= allowed:
        raise Rejected.because(
            f"a CA of path length {profile.path_length} does not fit below "
            f"{names.common_name(issuer.certificate.subject)!r}, whose path length is {allowed}: it must be smaller "
            "(RFC 5280 section 4.2.1.9)",
            field="pathLength",
        )


def _life(profile: Profile, issuer: Issuer | None, now: datetime) -> tuple[datetime, datetime]:
    """Choose notBefore and notAfter, both inclusive (RFC 5280 section 4.1.2.5), to the second."""
    start = now.replace(microsecond=0)
    not_before, not_after = start - BACKDATING, start + profile.validity - timedelta(seconds=1)
    if issuer is None:
        return not_before, not_after
    certificate = issuer.certificate
    left = certificate.not_valid_after_utc - start
    if left < profile.validity * LEAST_SHARE:
        raise Rejected.because(
            f"{names.common_name(certificate.subject)!r} ends on {certificate.not_valid_after_utc:%Y-%m-%d}, which "
            f"leaves {max(left.days, 0)} of the {profile.validity.days} days wanted; roll the issuing CA, or ask for "
            "fewer days",
            field="validityDays",
        )
    return max(not_before, certificate.not_valid_before_utc), min(not_after, certificate.not_valid_after_utc)


@lru_cache(maxsize=512)
def _partial(profile: Profile, issuer: Issuer, urls: DistributionPoints) -> x509.CertificateBuilder:
    """Give a builder with all that is the same in each certificate of a profile and issuer: it is immutable."""
    builder = _with_profile(profile, x509.CertificateBuilder().issuer_name(issuer.certificate.subject))
    identifier = _extension(issuer.certificate, x509.SubjectKeyIdentifier, IssuerError)
    builder = builder.add_extension(
        # Copied, not computed: another CA may have made the issuer's identifier by another rule.
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
        critical=False,
    )
    if not profile.distribution_points:
        return builder
    if urls.crl_url:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(urls.crl_url)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    if urls.ca_issuers_url:
        where = x509.UniformResourceIdentifier(urls.ca_issuers_url)
        access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    return builder


def _root_partial(profile: Profile, subject: Subject) -> x509.CertificateBuilder:
    return _with_profile(profile, x509.CertificateBuilder().issuer_name(subject.to_name()))


_ANY_POLICY = x509.CertificatePolicies(
    [x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), None)]  # anyPolicy, RFC 5280 section 4.2.1.4
)


def _with_profile(profile: Profile, builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    builder = builder.add_extension(profile.basic_constraints(), critical=True)
    builder = builder.add_extension(profile.key_usage(), critical=True)
    usage = profile.extended_key_usage()
    if usage is not None:
        builder = builder.add_extension(usage, critical=False)
    if profile.kind in {Kind.INTERMEDIATE, Kind.DEVICE}:
        builder = builder.add_extension(_ANY_POLICY, critical=False)
    return builder


def _check(certificate: x509.Certificate, issuer: Issuer | None, public_key: PublicKey) -> None:
    """Check what came back from the signing key, before anybody uses it."""
    try:
        certificate.verify_directly_issued_by(issuer.certificate if issuer else certificate)
    except (ValueError, TypeError, InvalidSignature):
        raise IssuerError("the signature that came back does not fit the certificate") from None
    if certificate.public_key() != public_key:
        raise IssuerError("the certificate that was signed has another key than was asked for")


def _extension[E: x509.ExtensionType](certificate: x509.Certificate, kind: type[E], error: type[ValueError]) -> E:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        name = names.common_name(certificate.subject)
        raise error(f"the certificate of {name!r} has no {kind.__name__} extension") from None
