"""The certificates of a device, as its record has them.

Every certificate that was ever issued to the device is among ``held`` until it has expired. A certificate that was
reserved and not committed is ``abandoned``: it may have been signed, and was never handed out.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from shared.domain import lifecycles
from shared.domain.certificates import UNSIGNED_FOR, CertificateState, has_ended
from shared.domain.record import Part
from shared.domain.words import RevocationReason

HELD_LIMIT = 31_000
"""Characters of a device's certificates in their column: at least 45 of them."""

HOLD = RevocationReason.CERTIFICATE_HOLD


class Purpose(StrEnum):
    """What a certificate of a device was issued for; with the id of the cause it names an issuance."""

    ORDER = "order"
    REQUEST = "request"
    RENEWAL = "renewal"


class CertificateSummary(Part):
    """The certificate of a device, as ``GET /devices/{registrationId}`` shows it."""

    serial_number: str = Field(description="in hexadecimal")
    thumbprint: str = Field(description="SHA-1 of the certificate")
    not_before: datetime = Field(description="when it begins to be valid")
    not_after: datetime = Field(description="its last second")
    issuer: str = Field(description="name of the CA that has signed it")


class HeldCertificate(Part):
    """One certificate of a device, as its record has it.

    Attributes:
        issuer: name of the CA that signs it.
        cause: id of the order or request that it was issued for.
        public_key: fingerprint of its key.
        successor: serial number of the certificate that replaced it.
        listed: whether its issuer's list was ever told of it.
        changed_in: generation of the record in which its state changed last.
    """

    lifecycle = lifecycles.CERTIFICATE

    serial_number: str
    state: CertificateState
    issuer: str
    purpose: Purpose
    cause: str
    recorded_at: datetime
    public_key: str
    not_after: datetime | None = None
    revoked_at: datetime | None = None
    reason: RevocationReason | None = None
    successor: str | None = None
    listed: bool = False
    changed_in: int = 0

    @property
    def phase(self) -> str:
        """Its state, where a hold is a state of its own."""
        return "onHold" if self.on_hold else self.state.value

    @property
    def on_hold(self) -> bool:
        """Whether it is revoked for now."""
        return self.state is CertificateState.REVOKED and self.reason is HOLD

    @property
    def final(self) -> bool:
        """Whether it is revoked for good."""
        return self.state is CertificateState.REVOKED and self.reason is not HOLD

    @property
    def issued(self) -> bool:
        """Whether it was signed and committed."""
        return self.not_after is not None

    @property
    def over(self) -> bool:
        """Whether nobody will use it again."""
        return has_ended(self.state, self.reason)

    @property
    def room(self) -> int:
        """Characters that it may take in the record's row, when all of it is filled in."""
        longest = {
            "state": CertificateState.SUPERSEDED,
            "not_after": self.recorded_at,
            "revoked_at": self.recorded_at,
            "reason": RevocationReason.CESSATION_OF_OPERATION,
            "successor": self.serial_number,
            "listed": False,
            "changed_in": 1_000_000,
        }
        filled = self.model_copy(update=longest)
        return len(filled.model_dump_json(by_alias=True)) + 1

    def expired(self, now: datetime) -> bool:
        """Tell whether it has ended by time. ``notAfter`` is inclusive (RFC 5280 section 4.1.2.5)."""
        return self.not_after is not None and self.not_after < now

    def kept(self, now: datetime) -> bool:
        """Tell whether the record still has to know it."""
        if self.state in {CertificateState.RESERVED, CertificateState.ABANDONED}:
            return self.recorded_at > now - UNSIGNED_FOR
        # One that is active when it expires is entered as expired first.
        return not (self.expired(now) and self.over)
