"""A CA that can sign: its key, its chain, and what that chain allows below it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from cryptography import x509

from shared.pki import extensions, names
from shared.pki.certificate_rules import unreadable_findings
from shared.pki.certificates import UNREADABLE, find_extension, is_self_issued, issued_by, subject_in_der
from shared.pki.chains import authority_findings
from shared.pki.signing_keys import parameters_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shared.pki.extensions import DistributionPoints
    from shared.pki.profiles import Profile
    from shared.pki.signing_keys import KeyParameters, PrivateKey

_REASONS_SHOWN = 5


class IssuerError(ValueError):
    """A CA can't sign: its key, its usage or its chain is wrong; the message says which."""


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
            identifier = _extension(self.certificate, x509.SubjectKeyIdentifier)
            encoded = self._extensions[profile, urls] = extensions.encoded(
                (*extensions.of_profile(profile), *extensions.of_issuer(profile, identifier, urls))
            )
        return encoded


def _damaged(chain: Sequence[x509.Certificate]) -> str:
    faults = [finding.message for finding in unreadable_findings(chain, "the CA's chain")]
    return "; ".join(faults[:_REASONS_SHOWN]) or "a key of the CA's chain can't be read"


def _extension[E: x509.ExtensionType](certificate: x509.Certificate, kind: type[E]) -> E:
    found = find_extension(certificate, kind)
    if found is None:
        raise IssuerError(f"the certificate of {names.quoted(certificate.subject)} has no {kind.__name__} extension")
    return found
