"""Certificates and their revocation, as the ledger keeps them."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from shared.domain import lifecycles
from shared.domain.record import Record
from shared.domain.words import CertificateKind, RevocationReason

if TYPE_CHECKING:
    from collections.abc import Mapping

UNSIGNED_FOR = timedelta(days=1)
"""After so long a reserved serial number counts as never signed: no attempt lives longer."""


DECISION_HOLDS = timedelta(seconds=30)
"""So long after a group's issuing CA was looked up it is used for signing."""


class CertificateState(StrEnum):
    """States of a certificate."""

    RESERVED = "reserved"
    ACTIVE = "active"
    ABANDONED = "abandoned"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"
    EXPIRED = "expired"


class InternalKind(StrEnum):
    """What a certificate is for that nobody orders."""

    OCSP_RESPONDER = "ocspResponder"


class CertificateRecord(Record):
    """One certificate.

    Attributes:
        serial_number: 40 hexadecimal digits, lower case.
        subject: the CN: registration id or CA name.
        issuer: name of the CA that signs it; a root names itself.
        cause: id of the order or request that asked for it.
        pem: the certificate, once signed.
        thumbprint: SHA-1 in upper-case hexadecimal, as DPS names certificates.
        successor: serial number of the certificate that replaced it.
    """

    lifecycle = lifecycles.CERTIFICATE

    serial_number: str
    kind: CertificateKind | InternalKind
    state: CertificateState
    subject: str
    issuer: str
    cause: str
    recorded_at: datetime
    enrollment_group: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    thumbprint: str | None = None
    pem: str | None = None
    revoked_at: datetime | None = None
    revocation_reason: RevocationReason | None = None
    predecessor: str | None = None
    successor: str | None = None

    @classmethod
    def from_columns(cls, values: Mapping[str, Any]) -> Self:
        """Read a record out of a row. One that is not revoked may have columns left from a hold that was undone."""
        record = super().from_columns(values)
        if record.state is CertificateState.REVOKED:
            return record
        return record.model_copy(update={"revoked_at": None, "revocation_reason": None})

    @property
    def phase(self) -> str:
        """Its state, where a hold is a state of its own."""
        on_hold = self.state is CertificateState.REVOKED and not self.ended
        return "onHold" if on_hold else self.state.value

    @property
    def ended(self) -> bool:
        """Whether nobody will use it again. One on hold may be reinstated."""
        return has_ended(self.state, self.revocation_reason)

    def in_force(self, now: datetime) -> bool:
        """Tell whether a device may use it now, or use it again."""
        if self.not_after is not None and self.not_after < now:
            return False
        if self.state is CertificateState.RESERVED:
            return self.recorded_at > now - UNSIGNED_FOR
        return not self.ended


def has_ended(state: CertificateState, reason: RevocationReason | None) -> bool:
    """Tell whether nobody will use a certificate in this state again."""
    if state is CertificateState.REVOKED:
        return reason is not RevocationReason.CERTIFICATE_HOLD
    return state in {CertificateState.ABANDONED, CertificateState.SUPERSEDED, CertificateState.EXPIRED}


class RevocationRecord(Record):
    """One entry of an issuer's CRL, or one that was on it.

    Attributes:
        generation: of the device's record that it follows from; a later one wins.
        ended: whether the certificate has left the list (a hold was undone).
    """

    serial_number: str
    issuer: str
    revoked_at: datetime
    reason: RevocationReason
    not_after: datetime
    generation: int = 0
    ended: bool = False


class RevocationChange(Record):
    """A revocation, or its end, that is not in the issuer's kept CRL entries yet.

    Attributes:
        notes: the rows that say so, one for each generation of the device's record.
        revocation: as it is now.
    """

    notes: tuple[str, ...]
    revocation: RevocationRecord

    @property
    def ended(self) -> bool:
        """Whether the certificate leaves the list."""
        return self.revocation.ended


class InForceRecord(Record):
    """One entry of the index of an issuer's certificates.

    Attributes:
        until: it ends then at the latest.
    """

    serial_number: str
    issuer: str
    subject: str
    until: datetime
