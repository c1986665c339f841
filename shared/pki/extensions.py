"""Extensions of certificates (RFC 5280 section 4.2): which ones a profile and an issuer ask for, and their encoding."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from shared.pki import der
from shared.pki.certificates import UNREADABLE
from shared.pki.damage import extension_fault, holding
from shared.pki.profiles import Kind, ProfileError

if TYPE_CHECKING:
    from shared.pki.profiles import Profile

_URL = re.compile(r"https?://[!-~]+")

type Extensions = Iterable[tuple[x509.ExtensionType, bool]]
"""Each with whether it is critical."""

_ANY_POLICY = x509.CertificatePolicies(
    [x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), None)]  # anyPolicy, RFC 5280 section 4.2.1.4
)
_KEY_IDENTIFIER = der.extension("2.5.29.14", der.octet_string(bytes(20)))[:-20]


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


def of_profile(profile: Profile) -> Extensions:
    """Give the extensions that a profile alone decides."""
    yield profile.basic_constraints(), True
    yield profile.key_usage(), True
    usage = profile.extended_key_usage()
    if usage is not None:
        yield usage, False
    if profile.kind in {Kind.INTERMEDIATE, Kind.DEVICE}:
        yield _ANY_POLICY, False
    if profile.kind is Kind.OCSP_RESPONDER:
        yield x509.OCSPNoCheck(), False  # RFC 6960 section 4.2.2.2.1


def of_issuer(profile: Profile, identifier: x509.SubjectKeyIdentifier, urls: DistributionPoints) -> Extensions:
    """Give the extensions that say who signs and where to ask about it.

    Args:
        profile: tells whether its certificates name ``urls``.
        identifier: as it stands in the issuer's certificate. It is copied, not computed: another CA may have made it by
            another rule.
        urls: of the issuer.
    """
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


def encoded(extensions: Extensions) -> bytes:
    """Encode extensions, and have cryptography read them in a certificate that holds nothing else.

    Raises:
        ProfileError: they are not read as they are meant, or there are two of a kind.
    """
    meant = [x509.Extension(value.oid, critical, value) for value, critical in extensions]
    octets = b"".join(
        der.extension(each.oid.dotted_string, each.value.public_bytes(), critical=each.critical) for each in meant
    )
    identifier = x509.SubjectKeyIdentifier(bytes(20))
    try:
        read = [*x509.load_der_x509_certificate(holding(octets, _KEY_IDENTIFIER + identifier.digest)).extensions]
    except UNREADABLE:
        fault = extension_fault(der.sequence(octets))
        raise ProfileError(f"the extensions of the profile can't be read: {fault}") from None
    if read != [*meant, x509.Extension(identifier.oid, critical=False, value=identifier)]:
        raise ProfileError("the extensions of the profile are not read as they are meant")
    return octets


def subject_key_identifier(key_info: bytes) -> bytes:
    """Encode the extension by method 1 of RFC 5280 section 4.2.1.2: the SHA-1 of the key's bits."""
    bits = der.content(key_info, 1)[1:]  # without the count of unused bits
    return _KEY_IDENTIFIER + hashlib.sha1(bits, usedforsecurity=False).digest()
