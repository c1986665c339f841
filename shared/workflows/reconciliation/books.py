"""Sees that what the ledger calls revoked is on the lists that are about to be published.

A certificate says that it is revoked in its own row, and the list of its CA is made of other rows. Whoever put the
ledger back may have lost some of these. A list without them would call revoked certificates good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.certificates import CertificateState, RevocationRecord
from shared.domain.words import CertificateKind, RevocationReason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from shared.domain.certificates import CertificateRecord
    from shared.ledger.certificates import Certificates
    from shared.pki.issuers import Issuer
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """The certificates of the ledger, and the rows that lists are made of."""

    certificates: Certificates
    clock: Clock

    async def enter_missing(self, issuers: Mapping[str, Issuer]) -> AsyncIterator[str]:
        """Put each certificate on the list of its CA that is revoked, lasts, and is not on it; say so.

        Args:
            issuers: CAs of the ledger whose certificates are looked at, by name.
        """
        listed = {name: {each.serial_number async for each in self.certificates.revoked_by(name)} for name in issuers}
        async for record in self.certificates.every():
            issuer = issuers.get(record.issuer)
            if issuer is None or record.serial_number in listed[record.issuer] or not self._belongs(record):
                continue
            await self.certificates.enter_again(_entry(record, issuer, self.clock))
            yield (
                f"certificate {record.serial_number} of {record.issuer!r} ({record.subject!r}) is revoked, and was not "
                "on the ledger's list: it is on it again"
            )

    def _belongs(self, record: CertificateRecord) -> bool:
        """Tell whether a certificate belongs on a list. That of a root is on none: it would be on its own."""
        lasts = record.not_after is None or record.not_after >= self.clock()
        is_root = record.kind is not CertificateKind.DEVICE and record.subject == record.issuer
        return record.state is CertificateState.REVOKED and lasts and not is_root


def _entry(record: CertificateRecord, issuer: Issuer, clock: Clock) -> RevocationRecord:
    return RevocationRecord(
        serial_number=record.serial_number,
        issuer=record.issuer,
        revoked_at=record.revoked_at or clock(),
        reason=record.revocation_reason or RevocationReason.UNSPECIFIED,
        not_after=record.not_after or issuer.certificate.not_valid_after_utc,
    )
