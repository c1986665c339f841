"""Every certificate ever signed, found by its serial number, and every revocation, found by its issuer.

A serial number is recorded before it is signed. So a row that stays ``reserved`` stands for a signature that may exist
and was never handed out, and no signature exists without a row.

Device certificates that may still be in use stand in an index by issuer besides, from before they are signed until they
have ended. So what an issuing CA still answers for is found without reading the fleet.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from shared.contracts import CertificateKind, RevocationReason
from shared.ledger.table import Record, Table, Versioned, keyed, versioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

UNSIGNED_FOR = timedelta(days=1)
"""After so long a reserved serial number counts as never signed: no attempt lives longer."""


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
        thumbprint: SHA-1 in upper-case hexadecimal, as IoT Hub names certificates.
        successor: serial number of the certificate that replaced it.
    """

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

    @property
    def ended(self) -> bool:
        """Whether nobody will use it again. One on hold may be reinstated."""
        if self.state is CertificateState.REVOKED:
            return self.revocation_reason is not RevocationReason.CERTIFICATE_HOLD
        return self.state in {CertificateState.ABANDONED, CertificateState.SUPERSEDED, CertificateState.EXPIRED}

    def in_force(self, now: datetime) -> bool:
        """Tell whether a device may use it now, or use it again."""
        if self.not_after is not None and self.not_after < now:
            return False
        if self.state is CertificateState.RESERVED:
            return self.recorded_at > now - UNSIGNED_FOR
        return not self.ended


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


class InForceRecord(Record):
    """One entry of the index of an issuer's certificates.

    Attributes:
        until: it ends then at the latest.
    """

    serial_number: str
    issuer: str
    subject: str
    until: datetime


class Certificates:
    """The tables of certificates and revocations, and the index of what is in force.

    A revocation is a row under its issuer and serial number. Beside it stands, until the issuer's next list is there,
    a row that says what has changed, so that a list is made from the entries kept and the changes alone.
    """

    def __init__(self, certificates: Table, revocations: Table, in_force: Table) -> None:
        self._certificates = certificates
        self._revocations = revocations
        self._in_force = in_force

    async def reserve(
        self, record: CertificateRecord, *, until: datetime | None = None
    ) -> Versioned[CertificateRecord]:
        """Record a serial number before it is signed.

        Args:
            record: what will be signed.
            until: of a device's certificate: when it ends at the latest.

        Raises:
            RuntimeError: the serial number was drawn before: the random source is broken.
        """
        if until is None:
            etag = await self._certificates.insert(self._row(record))
        else:
            etag, _ = await asyncio.gather(
                self._certificates.insert(self._row(record)), self.enter_in_force(record, until=until)
            )
        reserved = versioned(record, etag)
        if reserved is None:
            raise RuntimeError(f"serial number {record.serial_number} was drawn twice; the random source is broken")
        return reserved

    async def add(self, record: CertificateRecord) -> Versioned[CertificateRecord] | None:
        """Record a certificate that was signed elsewhere; ``None`` if its serial number is another's, or known."""
        return versioned(record, await self._certificates.insert(self._row(record)))

    async def get(self, serial_number: str) -> Versioned[CertificateRecord] | None:
        """Find a certificate by its serial number."""
        row = await self._certificates.get(serial_number[:2], serial_number)
        return Versioned(CertificateRecord.from_columns(row.values), row.etag) if row else None

    async def put(self, record: CertificateRecord) -> None:
        """Write a state that follows from what was committed elsewhere, so that each writer writes the same."""
        await self._certificates.put(self._row(record))
        await self._leave(record)

    async def replace(
        self, known: Versioned[CertificateRecord], record: CertificateRecord
    ) -> Versioned[CertificateRecord] | None:
        """Replace a row as it was read; ``None`` if it has changed since."""
        replaced = versioned(record, await self._certificates.replace(self._row(record), known.etag))
        if replaced is not None:
            await self._leave(record)
        return replaced

    # --- what is in force ---

    async def enter_in_force(self, record: CertificateRecord, *, until: datetime) -> None:
        """Put a device's certificate into the index of its issuer."""
        entry = InForceRecord(
            serial_number=record.serial_number, issuer=record.issuer, subject=record.subject, until=until
        )
        await self._in_force.put(keyed(record.issuer, record.serial_number, entry))

    async def _leave(self, record: CertificateRecord) -> None:
        if record.kind is CertificateKind.DEVICE and record.ended:
            await self._in_force.delete(record.issuer, record.serial_number)

    async def any_in_force(self, issuer: str, now: datetime) -> bool:
        """Tell whether a certificate of an issuer may still be used.

        Reads the index up to the first that may; entries that an interrupted attempt left behind are taken out.
        """
        async for entry in self._entries(issuer, now):
            known = await self.get(entry.serial_number)
            if known is not None and known.record.in_force(now):
                return True
            await self._in_force.delete(issuer, entry.serial_number)
        return False

    async def count_in_force(self, issuer: str, now: datetime, *, limit: int) -> int:
        """Count an issuer's certificates that may still be used, up to a limit."""
        count = 0
        async for _ in self._entries(issuer, now):
            count += 1
            if count == limit:
                break
        return count

    async def _entries(self, issuer: str, now: datetime) -> AsyncIterator[InForceRecord]:
        condition = "PartitionKey eq @issuer and until ge @now"
        async for row in self._in_force.query(condition, {"issuer": issuer, "now": now}):
            yield InForceRecord.from_columns(row.values)

    # --- revocations ---

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
