"""Issuance in two steps: what was not checked can't be signed.

:func:`prepare` validates a request against its profile and issuer and gives a :class:`Prepared`; :func:`issue` redeems
that, once, with the issuer it was prepared for. Extensions are read back when they are encoded, which is once for all
certificates of an issuer and a profile, and each certificate as a whole when it is signed. A signature is verified
where it comes from afar, in the remote key itself; one made here is not, since verifying takes longer than signing.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.errors import Rejected
from shared.pki import der, extensions, names
from shared.pki.certificates import SERIAL_LIMIT
from shared.pki.issuer_limits import check_fit, wanted_life
from shared.pki.issuers import IssuerError
from shared.pki.profiles import Kind, ProfileError
from shared.pki.public_keys import check_public_key
from shared.pki.readable import load_certificate
from shared.pki.signing_keys import UnsupportedKey, parameters_of, sign
from shared.pki.subjects import check_subject

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.pki.extensions import DistributionPoints
    from shared.pki.issuers import Issuer
    from shared.pki.profiles import Profile
    from shared.pki.signing_keys import KeyParameters, PrivateKey, PublicKey
    from shared.pki.subjects import Subject

_SERIAL_BITS = 158
_BEGINNING_BITS = 16
_DRAWN_BITS = 144
_VERSION_3 = der.explicit(0, der.integer(2))


class AlreadyRedeemed(RuntimeError):
    """A prepared certificate was signed before, or is to be signed by another CA than it was prepared for."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A certificate that was checked and is not signed yet. It can't be changed: what is signed is what was checked."""

    _to_be_signed: bytes = field(repr=False)
    _issuer: Issuer | None
    _signing_key: PrivateKey = field(repr=False)
    _parameters: KeyParameters = field(repr=False)
    _once: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of what will be signed, hexadecimal."""
        return sha256(self._to_be_signed).hexdigest()

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
    check_subject(subject, profile)
    _check_key(public_key)
    if not 0 < serial_number < SERIAL_LIMIT:
        raise ProfileError(
            f"serial number {names.number(serial_number)} is not positive, or has more than 20 octets (RFC 5280 "
            "section 4.1.2.2)"
        )
    key = _signing_key(profile, issuer, signing_key, public_key)
    not_before, not_after = check_fit(profile, subject, issuer, now) if issuer else wanted_life(profile, now)
    name = subject.to_der()
    parameters = issuer.key_parameters if issuer else parameters_of(key)
    common = issuer.extensions(profile, urls) if issuer else extensions.encoded(extensions.of_profile(profile))
    key_info = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    to_be_signed = der.sequence(  # TBSCertificate, RFC 5280 section 4.1
        _VERSION_3,
        der.integer(serial_number),
        parameters.signature_identifier,
        issuer.name_in_der if issuer else name,
        der.sequence(der.time(not_before), der.time(not_after)),
        name,
        key_info,
        der.explicit(3, der.sequence(common, extensions.subject_key_identifier(key_info))),
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


def _check_key(public_key: PublicKey) -> None:
    try:
        check_public_key(public_key)
    except UnsupportedKey as error:
        raise Rejected.because(str(error), field="csr") from None
