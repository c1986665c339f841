"""Profiles: what each kind of certificate contains. A profile that contradicts itself can't be made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID


class ProfileError(ValueError):
    """A profile contradicts a rule of X.509; the message names the rule."""


class Kind(StrEnum):
    """What a certificate is for."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"
    DEVICE = "device"
    VERIFICATION = "verification"
    OCSP_RESPONDER = "ocspResponder"


_CA_KINDS = frozenset({Kind.ROOT, Kind.INTERMEDIATE})


@dataclass(frozen=True, slots=True)
class Profile:
    """The content of one kind of certificate.

    Attributes:
        path_length: how many CAs may stand between this CA and a leaf; ``None`` for leaves.
        validity: the life that is wanted.
        client_authentication: whether the extended key usage says clientAuth. The extension is left out otherwise:
            an empty one is forbidden (RFC 5280 section 4.2.1.12), and roots and proofs need none.
        distribution_points: whether the CRL's and the issuer's URLs go in.
        least_share: of the wanted life, so much must be left in the issuer, or the request is refused rather than
            silently shortened; 0 where any life will do.
    """

    kind: Kind
    validity: timedelta
    path_length: int | None = None
    client_authentication: bool = False
    distribution_points: bool = False
    least_share: float = 0.9

    def __post_init__(self) -> None:
        if self.validity < timedelta(hours=1):
            raise ProfileError(f"a life of {self.validity} is too short; at least one hour, for clocks that differ")
        if self.is_ca and (self.path_length is None or self.path_length < 0):
            raise ProfileError(f"a CA needs a path length of 0 or more, not {self.path_length} (RFC 5280 4.2.1.9)")
        if not self.is_ca and self.path_length is not None:
            raise ProfileError("only a CA has a path length (RFC 5280 section 4.2.1.9)")
        if self.kind is Kind.ROOT and (self.client_authentication or self.distribution_points):
            raise ProfileError("a root is trusted as it is: it carries no EKU and no CRL of its own")

    @property
    def is_ca(self) -> bool:
        """Whether it signs certificates."""
        return self.kind in _CA_KINDS

    def basic_constraints(self) -> x509.BasicConstraints:
        """Give the extension (RFC 5280 section 4.2.1.9), critical in every profile."""
        return x509.BasicConstraints(ca=self.is_ca, path_length=self.path_length)

    def key_usage(self) -> x509.KeyUsage:
        """Give the extension (RFC 5280 section 4.2.1.3), critical in every profile.

        A leaf signs its TLS handshake and does nothing else: keyEncipherment is forbidden for EC keys (RFC 8813
        section 3), and TLS 1.3 has no use for it with RSA.
        """
        return x509.KeyUsage(
            digital_signature=not self.is_ca,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=self.is_ca,
            crl_sign=self.is_ca,
            encipher_only=False,
            decipher_only=False,
        )

    def extended_key_usage(self) -> x509.ExtendedKeyUsage | None:
        """Give the extension, ``None`` where it is left out."""
        if self.kind is Kind.OCSP_RESPONDER:
            return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])  # RFC 6960 section 4.2.2.2
        return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]) if self.client_authentication else None


def root_profile(*, path_length: int = 3, validity: timedelta = timedelta(days=3652)) -> Profile:
    """Give the profile of a root: ten years, three CAs below it."""
    return Profile(Kind.ROOT, validity, path_length=path_length)


def issuing_profile(*, path_length: int = 0, validity: timedelta = timedelta(days=1826)) -> Profile:
    """Give the profile of an issuing CA: five years, signs leaves only."""
    return Profile(
        Kind.INTERMEDIATE, validity, path_length=path_length, client_authentication=True, distribution_points=True
    )


def device_profile(*, validity: timedelta = timedelta(days=365)) -> Profile:
    """Give the profile of a device: one year, TLS client."""
    return Profile(Kind.DEVICE, validity, client_authentication=True, distribution_points=True)


def verification_profile() -> Profile:
    """Give the profile of a proof of possession: one day."""
    return Profile(Kind.VERIFICATION, timedelta(days=1))


def ocsp_responder_profile(validity: timedelta = timedelta(days=14)) -> Profile:
    """Give the profile of an OCSP responder: it lives for days, since nothing tells whether it is revoked itself.

    In the last days of its CA it is shorter: answers are wanted until the end.
    """
    return Profile(Kind.OCSP_RESPONDER, validity, least_share=0)
