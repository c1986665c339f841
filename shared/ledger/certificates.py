"""Every certificate ever signed, found by its serial number, and every revocation, found by its issuer.

A serial number is recorded before it is signed. So a row that stays ``reserved`` stands for a signature that may exist
and was never handed out, and no signature exists without a row.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from shared.contracts import CertificateKind, RevocationReason
from shared.ledger.table import Record, Table, Versioned, keyed, versioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable


class CertificateState(StrEnum):
    """States of a certificate."""

    RESERVED = "reserved"
    ACTIVE = "active"
    ABANDONED = "abandoned"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"
    EXPIRED = "expired"


class CertificateRecord(Record):
    """One certificate.

    Attributes:
        serial_number: 40 hexadecimal digits, lower case.
        subject: the CN: registration id or CA name.
        issuer: name of the CA that signs it; a root names itself.
        cause: id of the order or request that asked for it.
        pem: the certificate, once signed.
        thumbprint: SHA-1 in upper-case hexadecimal, as IoT Hub names certificates.
        successor: serial number of the certificate that replaced it.
    """

    serial_number: str
    kind: CertificateKind
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


class RevocationRecord(Record):
    """One entry of an issuer's CRL."""

    serial_number: str
    issuer: str
    revoked_at: datetime
    reason: RevocationReason
    not_after: datetime


class RevocationChange(Record):
    """A revocation, or its end, that is not in the issuer's kept CRL entries yet.

    Attributes:
        change_id: grows with time.
        revocation: as it is from now on.
        ended: whether the certificate leaves the list.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"revocation"})

    change_id: str
    revocation: RevocationRecord
    ended: bool


class Certificates:
    """The certificates' and revocations' tables.

    A revocation is a row under its issuer and serial number. Beside it stands, until the issuer's next list is there,
    a row that says what has changed, so that a list is made from the entries kept and the changes alone.
    """

    def __init__(self, certificates: Table, revocations: Table) -> None:
        self._certificates = certificates
        self._revocations = revocations

    async def reserve(self, record: CertificateRecord) -> Versioned[CertificateRecord]:
        """Record a serial number before it is signed.

        Raises:
            RuntimeError: the serial number was drawn before: the random source is broken.
        """
        reserved = versioned(record, await self._certificates.insert(self._row(record)))
        if reserved is None:
            raise RuntimeError(f"serial number {record.serial_number} was drawn twice; the random source is broken")
        return reserved

    async def get(self, serial_number: str) -> Versioned[CertificateRecord] | None:
        """Find a certificate by its serial number."""
        row = await self._certificates.get(serial_number[:2], serial_number)
        return Versioned(CertificateRecord.from_columns(row.values), row.etag) if row else None

    async def put(self, record: CertificateRecord) -> None:
        """Write a state that follows from what was committed elsewhere, so that each writer writes the same."""
        await self._certificates.put(self._row(record))

    async def replace(
        self, known: Versioned[CertificateRecord], record: CertificateRecord
    ) -> Versioned[CertificateRecord] | None:
        """Replace a row as it was read; ``None`` if it has changed since."""
        return versioned(record, await self._certificates.replace(self._row(record), known.etag))

    async def revoke(self, record: RevocationRecord, at: datetime) -> None:
        """Put a certificate on its issuer's list.

        Args:
            record: the entry; its own time stays when a hold becomes final.
            at: the present time.
        """
        await self._revocations.put(keyed(record.issuer, record.serial_number, record))
        await self._note(record, at, ended=False)

    async def reinstate(self, issuer: str, serial_number: str, at: datetime) -> None:
        """Take a certificate off its issuer's list."""
        row = await self._revocations.get(issuer, serial_number)
        if row is None:
            return
        await self._note(RevocationRecord.from_columns(row.values), at, ended=True)
        await self._revocations.delete(issuer, serial_number)

    async def _note(self, record: RevocationRecord, at: datetime, *, ended: bool) -> None:
        change = RevocationChange(
            change_id=f"{at:%Y%m%dT%H%M%S%f}-{record.serial_number}", revocation=record, ended=ended
        )
        await self._revocations.put(keyed(_changes_of(record.issuer), change.change_id, change))

    async def changes(self, issuer: str) -> list[RevocationChange]:
        """Give what has changed since the issuer's entries were kept, oldest first."""
        rows = self._revocations.query("PartitionKey eq @changes", {"changes": _changes_of(issuer)})
        return [RevocationChange.from_columns(row.values) async for row in rows]

    async def forget(self, changes: Iterable[RevocationChange]) -> None:
        """Delete changes that are in the entries kept."""
        for change in changes:
            await self._revocations.delete(_changes_of(change.revocation.issuer), change.change_id)

    async def revoked_by(self, issuer: str) -> AsyncIterator[RevocationRecord]:
        """List the revocations of an issuer's certificates."""
        async for row in self._revocations.query("PartitionKey eq @issuer", {"issuer": issuer}):
            yield RevocationRecord.from_columns(row.values)

    @staticmethod
    def _row(record: CertificateRecord) -> dict[str, object]:
        # A serial number is random, so its first octet spreads as well as a hash would.
        return keyed(record.serial_number[:2], record.serial_number, record)


def _changes_of(issuer: str) -> str:
    return f"{issuer}!changes"  # no CA's name has such a sign
