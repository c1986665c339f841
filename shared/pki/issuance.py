"""Issuance in two steps: what was not checked can't be signed.

:func:`prepare` validates a request against its profile and issuer and gives a :class:`Prepared`; :func:`issue` redeems
that, once, with the issuer it was prepared for. Extensions are read back when they are encoded, which is once for all
certificates of an issuer and a profile, and each certificate as a whole when it is signed. A signature is verified
where it comes from afar, in the remote key itself; one made here is not, since verifying takes longer than signing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from shared.errors import Reason, Rejected
from shared.pki import der, names
from shared.pki.certificates import SERIAL_LIMIT, UNREADABLE, find_extension, is_self_issued, issued_by, subject_in_der
from shared.pki.chains import authority_findings, life_findings, unreadable_findings
from shared.pki.damage import extension_fault, holding
from shared.pki.name_constraints import forbidden_names, names_of
from shared.pki.profiles import Kind, Profile, ProfileError
from shared.pki.public_keys import check_public_key
from shared.pki.readable import load_certificate
from shared.pki.signing_keys import UnsupportedKey, parameters_of, sign
from shared.rules.registration_ids import canonical_registration_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shared.pki.signing_keys import KeyParameters, PrivateKey, PublicKey

BACKDATING = timedelta(minutes=10)
"""notBefore lies this far back, for devices whose clock is late."""

_NAME_LIMIT = 64  # RFC 5280 appendix A.1: ub-common-name, ub-organization-name
_SERIAL_BITS = 158
_BEGINNING_BITS = 16
_DRAWN_BITS = 144
_REASONS_SHOWN = 5
_VERSION_3 = der.explicit(0, der.integer(2))
_COUNTRY_NAME, _ORGANIZATION_NAME, _COMMON_NAME = (
    oid.dotted_string for oid in (NameOID.COUNTRY_NAME, NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
)
_COUNTRY = re.compile(r"[A-Z]{2}")
_URL = re.compile(r"https?://[!-~]+")


class IssuerError(ValueError):
    """A CA can't sign: its key, its usage or its chain is wrong; the message says which."""


class AlreadyRedeemed(RuntimeError):
    """A prepared certificate was signed before, or is to be signed by another CA than it was prepared for."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject name: C, O and CN, in this order.

    Attributes:
        common_name: of whoever asks; its rules are checked by :func:`prepare`.
        organization: from the settings, like the country, two letters (ISO 3166-1).

    Raises:
        ProfileError: organization or country can't stand in a certificate.
    """

    common_name: str
    organization: str | None = None
    country: str | None = None

    def __post_init__(self) -> None:
        if self.organization is not None and not (
            0 < len(self.organization) <= _NAME_LIMIT and self.organization.isprintable()
        ):
            raise ProfileError(
                f"the organization {self.organization!r} must have 1 to {_NAME_LIMIT} characters that can be printed"
            )
        if self.country is not None and not _COUNTRY.fullmatch(self.country):
            raise ProfileError(f"the country {self.country!r} must be two capital letters (ISO 3166-1)")

    def to_der(self) -> bytes:
        """Encode the name as it goes into a certificate; what :meth:`to_name` would give, in a fifth of the time."""
        country = der.attribute(_COUNTRY_NAME, self.country, printable=True) if self.country is not None else b""
        organization = der.attribute(_ORGANIZATION_NAME, self.organization) if self.organization is not None else b""
        return der.sequence(country, organization, der.attribute(_COMMON_NAME, self.common_name))

    def to_name(self) -> x509.Name:
        """Give the name in cryptography's form."""
        parts = (
            (NameOID.COUNTRY_NAME, self.country),
            (NameOID.ORGANIZATION_NAME, self.organization),
            (NameOID.COMMON_NAME, self.common_name),
        )
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value is not None])


@dataclass(frozen=True, slots=True)
class DistributionPoints:
    """Where relying parties find what they need about an issuer (RFC 5280 section 8: over plain HTTP).

    Raises:
        ProfileError: one is not a URL.
    """

    crl_url: str | None = None
    ca_issuers_url: str | None = None
    ocsp_url: str | None = None

    def __post_init__(self) -> None:
        for url in (self.crl_url, self.ca_issuers_url, self.ocsp_url):
            if url is not None and not _URL.fullmatch(url):
                raise ProfileError(
                    f"{url!r} is not a valid URL for a certificate; give one in ASCII that begins with http://"
                )


@dataclass(frozen=True, eq=False)
class Issuer:
    """A CA that can sign.

    Attributes:
        chain: its own certificate first, up to and including the root.

    Raises:
        IssuerError: its key does not match its certificate, its chain has a gap, or DPS would refuse whatever it signs:
            a CA of the chain may not sign, its key or signature is weak, its purposes or names exclude TLS clients.
    """

    certificate: x509.Certificate
    signing_key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = field(repr=False)
    _extensions: dict[tuple[Profile, DistributionPoints], bytes] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self._check()
        except IssuerError:
            raise
        except UNREADABLE:
            raise IssuerError(_damaged(self.chain)) from None

    def _check(self) -> None:
        if self.signing_key.public_key() != self.certificate.public_key():
            raise IssuerError(f"the key of CA {self.quoted_name} does not match its certificate")
        if not self.chain or self.chain[0] != self.certificate:
            raise IssuerError(f"the chain of {self.quoted_name} must begin with its own certificate")
        findings = authority_findings(self.chain)
        if findings:
            raise IssuerError("; ".join(finding.message for finding in findings[:_REASONS_SHOWN]))
        top = self.chain[-1]
        if not issued_by(top, top):
            raise IssuerError(
                f"the chain of {self.quoted_name} ends at {names.quoted(top.subject)}, which is not a root; it must go "
                "up to and include the root"
            )
        _extension(self.certificate, x509.SubjectKeyIdentifier)

    @property
    def sent_chain(self) -> tuple[x509.Certificate, ...]:
        """Its chain as devices send it: without the root, which whoever verifies has."""
        return self.chain[:-1]

    @cached_property
    def name(self) -> str:
        """Its CN."""
        return names.common_name(self.certificate.subject)

    @cached_property
    def may_sign_crls(self) -> bool:
        """Whether its key usage allows it to sign CRLs; that of many an imported CA does not.

        Without the extension nothing is forbidden (RFC 5280 section 6.3.3 f); roots of ``openssl req -x509`` lack it.
        """
        usage = find_extension(self.certificate, x509.KeyUsage)
        return usage is None or usage.crl_sign

    @property
    def quoted_name(self) -> str:
        """Its CN for messages."""
        return names.quoted(self.certificate.subject)

    @cached_property
    def path_length(self) -> int | None:
        """How many CAs may stand below it, by its own and all certificates above it; ``None`` for any number."""
        lengths, below = [], 0
        for authority in self.chain:
            length = _extension(authority, x509.BasicConstraints).path_length
            if length is not None:
                lengths.append(length - below)
            below += not is_self_issued(authority)
        return min(lengths, default=None)

    @cached_property
    def begins(self) -> datetime:
        """Since when its whole chain is valid."""
        return max(authority.not_valid_before_utc for authority in self.chain)

    @cached_property
    def ends_first(self) -> x509.Certificate:
        """Whichever of its chain's certificates ends first: nothing below is valid longer."""
        return min(self.chain, key=lambda authority: authority.not_valid_after_utc)

    @cached_property
    def name_constraints(self) -> tuple[x509.NameConstraints, ...]:
        """What its chain's certificates say about the names below them."""
        found = (find_extension(authority, x509.NameConstraints) for authority in self.chain)
        return tuple(constraints for constraints in found if constraints is not None)

    @cached_property
    def name_in_der(self) -> bytes:
        """Its subject as it stands in its certificate: octet by octet the issuer of what it signs."""
        return subject_in_der(self.certificate)

    @cached_property
    def key_parameters(self) -> KeyParameters:
        """What its key's algorithm stands for."""
        return parameters_of(self.signing_key)

    def extensions(self, profile: Profile, urls: DistributionPoints) -> bytes:
        """Give, in DER, the extensions that are the same in each certificate of a profile: checked once, and kept."""
        encoded = self._extensions.get((profile, urls))
        if encoded is None:
            encoded = self._extensions[profile, urls] = _encoded(
                (*_of_profile(profile), *_of_issuer(profile, self.certificate, urls))
            )
        return encoded


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A certificate that was checked and is not signed yet. It can't be changed: what is signed is what was checked."""

    _to_be_signed: bytes = field(repr=False)
    _issuer: Issuer | None
    _signing_key: PrivateKey = field(repr=False)
    _parameters: KeyParameters = field(repr=False)
    _once: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def redeem(self, issuer: Issuer | None) -> x509.Certificate:
        """Sign; see :func:`issue`."""
        if issuer is not self._issuer:
            raise AlreadyRedeemed("this certificate was prepared for another CA")
        # Taken once and never given back, so that two threads can't both sign.
        if not self._once.acquire(blocking=False):
            raise AlreadyRedeemed("this certificate was signed before; prepare another one")
        signature = sign(self._signing_key, self._to_be_signed, self._parameters.digest)
        certificate = load_certificate(
            der.sequence(self._to_be_signed, self._parameters.signature_identifier, der.bit_string(signature))
        )
        # Parsed and encoded anew by another's hand: it is DER, and a certificate.
        if certificate.tbs_certificate_bytes != self._to_be_signed or certificate.version is not x509.Version.v3:
            raise IssuerError("the certificate that was signed does not read as it was prepared")
        return certificate


def new_serial_number(beginning: int | None = None, random_bits: Callable[[int], int] = secrets.randbits) -> int:
    """Draw a serial number: 158 random bits below a fixed one, so always 20 octets and positive (RFC 5280 4.1.2.2).

    Args:
        beginning: its first 16 bits, of which the first two are 01; then 144 bits are random, where CA/Browser Forum
            Baseline Requirements 7.1 ask for 64.
        random_bits: gives a random number of that many bits.
    """
    if beginning is None:
        return 1 << _SERIAL_BITS | random_bits(_SERIAL_BITS)
    if beginning >> _BEGINNING_BITS - 2 != 1:
        raise ValueError(f"a serial number can't begin with {beginning:#x}: it must be positive, and have 20 octets")
    return beginning << _DRAWN_BITS | random_bits(_DRAWN_BITS)


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
        Rejected: the request can't be met: name, key, what the issuer's chain allows, or too little life left in it.
        ProfileError: the profile contradicts its issuer, or its extensions contradict each other.
    """
    _check_name(subject, profile)
    _check_key(public_key)
    if not 0 < serial_number < SERIAL_LIMIT:
        raise ProfileError(
            f"serial number {names.number(serial_number)} is not positive, or has more than 20 octets (RFC 5280 "
            "section 4.1.2.2)"
        )
    key = _signing_key(profile, issuer, signing_key, public_key)
    if issuer is not None:
        _check_issuer(profile, issuer, now)
        _check_constraints(subject, issuer)
    not_before, not_after = _life(profile, issuer, now)
    name = subject.to_der()
    parameters = issuer.key_parameters if issuer else parameters_of(key)
    extensions = issuer.extensions(profile, urls) if issuer else _encoded(_of_profile(profile))
    key_info = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    to_be_signed = der.sequence(  # TBSCertificate, RFC 5280 section 4.1
        _VERSION_3,
        der.integer(serial_number),
        parameters.signature_identifier,
        issuer.name_in_der if issuer else name,
        der.sequence(der.time(not_before), der.time(not_after)),
        name,
        key_info,
        der.explicit(3, der.sequence(extensions, _subject_key_identifier(key_info))),
    )
    return Prepared(to_be_signed, issuer, key, parameters)


def issue(prepared: Prepared, issuer: Issuer | None) -> x509.Certificate:
    """Sign what was prepared, once, with the issuer it was prepared for.

    With a key in a vault this waits for the network: call it in a thread.

    Raises:
        AlreadyRedeemed: it was signed before, or was prepared for another CA.
        IssuerError: what came out is not what was prepared; it must not be used.
    """
    return prepared.redeem(issuer)


def _signing_key(
    profile: Profile, issuer: Issuer | None, own_key: PrivateKey | None, public_key: PublicKey
) -> PrivateKey:
    if profile.kind is not Kind.ROOT:
        if issuer is None or own_key is not None:
            raise ProfileError("only a root signs itself; everything else is signed by an issuer's key")
        return issuer.signing_key
    if issuer is not None or own_key is None:
        raise ProfileError("a root has no issuer: it is signed by its own key")
    if own_key.public_key() != public_key:
        raise ProfileError("a root's signing key must be the private half of the key it certifies")
    return own_key


def _check_name(subject: Subject, profile: Profile) -> None:
    name = subject.common_name
    if not name or len(name) > _NAME_LIMIT:
        raise Rejected.because(
            f"the CN {name[:140]!r} has {len(name)} characters; 1 to {_NAME_LIMIT} are allowed (RFC 5280 "
            "ub-common-name)"
        )
    if not name.isprintable():  # which a lone surrogate is not either, so it can be encoded
        raise Rejected.because(f"the CN {name!r} has characters that can't be printed")
    octets = len(name.encode())
    if octets > _NAME_LIMIT:
        raise Rejected.because(f"the CN {name!r} has {octets} octets in UTF-8; at most {_NAME_LIMIT} are taken")
    if profile.kind is Kind.DEVICE and name != (canonical := canonical_registration_id(name)):
        raise Rejected.because(f"the CN {name!r} must be the registration id in lower case, {canonical!r}")


def _check_key(public_key: PublicKey) -> None:
    try:
        check_public_key(public_key)
    except UnsupportedKey as error:
        raise Rejected.because(str(error), field="csr") from None


def check_fit(profile: Profile, subject: Subject, issuer: Issuer, now: datetime) -> None:
    """Check that a profile and a name fit below an issuer, before anything is made for them.

    Raises:
        Rejected: path length, name or life contradict the issuer's.
    """
    _check_issuer(profile, issuer, now)
    _check_constraints(subject, issuer)
    _life(profile, issuer, now)


def _check_issuer(profile: Profile, issuer: Issuer, now: datetime) -> None:
    """Check what the issuer allows, its own time aside."""
    if now < issuer.begins:
        raise Rejected.because(
            f"{issuer.quoted_name} can't sign before {issuer.begins:%Y-%m-%d %H:%M} UTC, when it becomes valid"
        )
    allowed = issuer.path_length
    if not profile.is_ca or allowed is None:
        return
    if profile.path_length is None or profile.path_length >= allowed:
        raise Rejected.because(
            f"a CA of path length {profile.path_length} does not fit below {issuer.quoted_name}, whose path length is "
            f"{allowed}: it must be smaller (RFC 5280 section 4.2.1.9)",
            field="pathLength",
        )


def _check_constraints(subject: Subject, issuer: Issuer) -> None:
    reasons = [
        f"{subject.common_name!r} can't have a certificate of {issuer.quoted_name}, whose chain constrains names: it "
        + reason
        for constraints in issuer.name_constraints
        for reason in islice(forbidden_names(constraints, names_of(subject.to_name())), 1)
    ]
    if reasons:
        raise Rejected(*(Reason("issuer", reason) for reason in reasons[:_REASONS_SHOWN]))


def check_for_devices(issuer: Issuer, now: datetime, *, field: str) -> None:
    """Check that a CA that comes from elsewhere can sign for devices now, before anything is done with it.

    Args:
        issuer: the CA.
        now: the present time, UTC.
        field: path of what it was read from, for messages.

    Raises:
        Rejected: a certificate of its chain is not valid now, or the names that it allows are not those of devices.
    """
    found = [finding.message for finding in life_findings(issuer.chain, now)]
    try:
        _check_constraints(Subject(_ANY_DEVICE), issuer)
    except Rejected as rejection:
        found += [reason.message for reason in rejection.reasons]
    if found:
        raise Rejected(*(Reason(field, message) for message in found[:_REASONS_SHOWN]))


_ANY_DEVICE = "device-1"
"""Devices have a CN and nothing else in their names, so a chain that forbids this one forbids about all."""


def _life(profile: Profile, issuer: Issuer | None, now: datetime) -> tuple[datetime, datetime]:
    """Choose notBefore and notAfter, both inclusive (RFC 5280 section 4.1.2.5), to the second."""
    start = now.replace(microsecond=0)
    try:
        not_before, not_after = start - BACKDATING, start + profile.validity - timedelta(seconds=1)
    except OverflowError:
        raise Rejected.because(
            f"a life of {profile.validity.days} days ends after the year 9999, the last that a certificate can name "
            "(RFC 5280 section 4.1.2.5)",
            field="validityDays",
        ) from None
    if issuer is None:
        return not_before, not_after
    last = issuer.ends_first
    left = last.not_valid_after_utc - start
    if left <= timedelta(0) or left < profile.validity * profile.least_share:
        raise Rejected.because(
            f"{names.quoted(last.subject)} ends on {last.not_valid_after_utc:%Y-%m-%d}, which leaves "
            f"{max(left.days, 0)} of the {profile.validity.days} days wanted; roll the issuing CA, or ask for fewer "
            "days",
            field="validityDays",
        )
    return max(not_before, issuer.certificate.not_valid_before_utc), min(not_after, last.not_valid_after_utc)


type _Extensions = Iterable[tuple[x509.ExtensionType, bool]]
"""Each with whether it is critical."""

_ANY_POLICY = x509.CertificatePolicies(
    [x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), None)]  # anyPolicy, RFC 5280 section 4.2.1.4
)


def _of_profile(profile: Profile) -> _Extensions:
    yield profile.basic_constraints(), True
    yield profile.key_usage(), True
    usage = profile.extended_key_usage()
    if usage is not None:
        yield usage, False
    if profile.kind in {Kind.INTERMEDIATE, Kind.DEVICE}:
        yield _ANY_POLICY, False
    if profile.kind is Kind.OCSP_RESPONDER:
        yield x509.OCSPNoCheck(), False  # RFC 6960 section 4.2.2.2.1


def _of_issuer(profile: Profile, issuer: x509.Certificate, urls: DistributionPoints) -> _Extensions:
    # Copied, not computed: another CA may have made the issuer's identifier by another rule.
    identifier = _extension(issuer, x509.SubjectKeyIdentifier)
    yield x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False
    if not profile.distribution_points:
        return
    if urls.crl_url:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(urls.crl_url)], None, None, None)
        yield x509.CRLDistributionPoints([point]), False
    accesses = [
        x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
        for method, url in (
            (AuthorityInformationAccessOID.OCSP, urls.ocsp_url),
            (AuthorityInformationAccessOID.CA_ISSUERS, urls.ca_issuers_url),
        )
        if url
    ]
    if accesses:
        yield x509.AuthorityInformationAccess(accesses), False


def _encoded(extensions: _Extensions) -> bytes:
    """Encode extensions, and have cryptography read them in a certificate that holds nothing else.

    Raises:
        ProfileError: they are not read as they are meant, or there are two of a kind.
    """
    meant = [x509.Extension(value.oid, critical, value) for value, critical in extensions]
    encoded = b"".join(
        der.extension(each.oid.dotted_string, each.value.public_bytes(), critical=each.critical) for each in meant
    )
    identifier = x509.SubjectKeyIdentifier(bytes(20))
    try:
        read = [*x509.load_der_x509_certificate(holding(encoded, _KEY_IDENTIFIER + identifier.digest)).extensions]
    except UNREADABLE:
        fault = extension_fault(der.sequence(encoded))
        raise ProfileError(f"the extensions of the profile can't be read: {fault}") from None
    if read != [*meant, x509.Extension(identifier.oid, critical=False, value=identifier)]:
        raise ProfileError("the extensions of the profile are not read as they are meant")
    return encoded


_KEY_IDENTIFIER = der.extension("2.5.29.14", der.octet_string(bytes(20)))[:-20]


def _subject_key_identifier(key_info: bytes) -> bytes:
    """Encode the extension by method 1 of RFC 5280 section 4.2.1.2: the SHA-1 of the key's bits."""
    bits = der.content(key_info, 1)[1:]  # without the count of unused bits
    return _KEY_IDENTIFIER + hashlib.sha1(bits, usedforsecurity=False).digest()


def _damaged(chain: Sequence[x509.Certificate]) -> str:
    faults = [finding.message for finding in unreadable_findings(chain, "the CA's chain")]
    return "; ".join(faults[:_REASONS_SHOWN]) or "a key of the CA's chain can't be read"


def _extension[E: x509.ExtensionType](certificate: x509.Certificate, kind: type[E]) -> E:
    found = find_extension(certificate, kind)
    if found is None:
        raise IssuerError(f"the certificate of {names.quoted(certificate.subject)} has no {kind.__name__} extension")
    return found
