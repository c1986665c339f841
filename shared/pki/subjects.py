"""Subject names, as this service writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from shared.errors import Rejected
from shared.pki import der
from shared.pki.profiles import Kind, ProfileError
from shared.rules.registration_ids import canonical_registration_id

if TYPE_CHECKING:
    from shared.pki.profiles import Profile

_NAME_LIMIT = 64  # RFC 5280 appendix A.1: ub-common-name, ub-organization-name
_COUNTRY_NAME, _ORGANIZATION_NAME, _COMMON_NAME = (
    oid.dotted_string for oid in (NameOID.COUNTRY_NAME, NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
)
_COUNTRY = re.compile(r"[A-Z]{2}")


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject name: C, O and CN, in this order.

    Attributes:
        common_name: of whoever asks; its rules are checked by :func:`check_subject`.
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


def check_subject(subject: Subject, profile: Profile) -> None:
    """Check the CN, which comes from whoever asks.

    Raises:
        Rejected: it is empty, too long, not printable, or not a device's registration id in canonical form.
    """
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
