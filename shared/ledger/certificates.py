"""Every certificate ever signed, found by its serial number, and every revocation, found by its issuer.

A serial number is recorded before it is signed. So a row that stays ``reserved`` stands for a signature that may exist
and was never handed out, and no signature exists without a row.

Device certificates that may still be in use stand in an index by issuer besides, from before they are signed until they
have ended. So what an issuing CA still answers for is found without reading the fleet.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from shared.domain.certificates import (
    CertificateRecord,
    InForceRecord,
    RevocationChange,
    RevocationRecord,
)
from shared.ledger.table import Stale, Versioned, keyed, versioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from datetime import datetime

    from shared.ports.rows import Table


class Certificates:
    """The tables of certificates and revocations, and the index of what is in force.

    A revocation is a row under its issuer and serial number. Beside it stands, until the issuer's next list is there,
    a row that says what has changed, so that a list is made from the entries kept and the changes alone.
    """

    def __init__(self, certificates: Table, revocations: Table, in_force: Table) -> None:
        self._certificates = certificates
        self._revocations = revocations
        self._in_force = in_force

    async def reserve(self, record: CertificateRecord) -> Versioned[CertificateRecord]:
        """Record the serial number of a certificate that is not a device's before it is signed.

        Raises:
            RuntimeError: the serial number was drawn before: the random source is broken.
        """
        reserved = versioned(record, await self._certificates.insert(certificate_row(record)))
        if reserved is None:
            raise RuntimeError(f"serial number {record.serial_number} was drawn twice; the random source is broken")
        return reserved

    async def add(self, record: CertificateRecord) -> Versioned[CertificateRecord] | None:
        """Record a certificate that was signed elsewhere; ``None`` if its serial number is another's, or known."""
        return versioned(record, await self._certificates.insert(certificate_row(record)))

    async def get(self, serial_number: str) -> Versioned[CertificateRecord] | None:
        """Find a certificate by its serial number."""
        row = await self._certificates.get(*_key(serial_number))
        return Versioned(CertificateRecord.from_columns(row.values), row.etag) if row else None

    async def put(self, record: CertificateRecord) -> None:
        """Write a state that follows from what was committed elsewhere, so that each writer writes the same.

        Not for certificates of devices: those change with their device alone.
        """
        await self._certificates.put(certificate_row(record))

    async def replace(
        self, known: Versioned[CertificateRecord], record: CertificateRecord
    ) -> Versioned[CertificateRecord] | None:
        """Replace a row as it was read; ``None`` if it has changed since. Not for certificates of devices."""
        return versioned(record, await self._certificates.replace(certificate_row(record), known.etag))

    # --- what is in force ---

    async def enter_in_force(self, record: CertificateRecord, *, until: datetime) -> None:
        """Put a device's certificate into the index of its issuer, before it is recorded."""
        entry = InForceRecord(
            serial_number=record.serial_number, issuer=record.issuer, subject=record.subject, until=until
        )
        await self._in_force.put(keyed(record.issuer, record.serial_number, entry))

    async def leave_in_force(self, issuer: str, serial_number: str) -> None:
        """Take a certificate that nobody will use again out of the index; one that stays by mistake does no harm."""
        await self._in_force.delete(issuer, serial_number)

    async def any_in_force(self, issuer: str, now: datetime) -> bool:
        """Tell whether a certificate of an issuer may still be used.

        Reads the index up to the first that may; entries that an interrupted attempt left behind are taken out.
        """
        async for entry in self._entries(issuer, now):
            known = await self.get(entry.serial_number)
            if known is None:
                continue  # it is about to be recorded; or never will be, and leaves when it would have ended
            if known.record.in_force(now):
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

    async def enter_revocation(self, record: RevocationRecord) -> None:
        """Put a certificate on its issuer's list, or take it off (``ended``), unless a later record said otherwise.

        That it is off is written even if it was not on it: whoever is about to put it there comes too late.

        Raises:
            Stale: others kept changing it.
        """
        for _ in range(_ATTEMPTS):
            row = await self._revocations.get(record.issuer, record.serial_number)
            present = RevocationRecord.from_columns(row.values) if row else None
            if present is not None and present.generation > record.generation:
                return
            columns = keyed(record.issuer, record.serial_number, record)
            written = await (self._revocations.replace(columns, row.etag) if row else self._revocations.insert(columns))
            if written is not None:
                # The note says that something has changed; what it is now stands in the row above.
                row_key = f"{record.serial_number}-{record.generation:08d}"
                note = {"PartitionKey": _changes_of(record.issuer), "RowKey": row_key}
                await self._revocations.put(note)
                return
        raise Stale(record.serial_number)

    async def changes(self, issuer: str) -> list[RevocationChange]:
        """Give what has changed since the issuer's entries were kept, each certificate once, as it is now."""
        noted: dict[str, list[str]] = defaultdict(list)
        async for row in self._revocations.query("PartitionKey eq @changes", {"changes": _changes_of(issuer)}):
            noted[str(row.values["RowKey"]).partition("-")[0]].append(str(row.values["RowKey"]))
        found = []
        for serial_number, notes in noted.items():
            present = await self._revocations.get(issuer, serial_number)
            if present is not None:
                record = RevocationRecord.from_columns(present.values)
                found.append(RevocationChange(notes=tuple(notes), revocation=record))
        return found

    async def forget(self, changes: Iterable[RevocationChange]) -> None:
        """Delete the notes of changes that are in the entries kept."""
        for change in changes:
            for note in change.notes:
                await self._revocations.delete(_changes_of(change.revocation.issuer), note)

    async def revoked_by(self, issuer: str) -> AsyncIterator[RevocationRecord]:
        """List the revocations of an issuer's certificates."""
        async for row in self._revocations.query("PartitionKey eq @issuer", {"issuer": issuer}):
            record = RevocationRecord.from_columns(row.values)
            if not record.ended:
                yield record


_ATTEMPTS = 5


def certificate_row(record: CertificateRecord) -> dict[str, object]:
    """Give a certificate as a row. A serial number begins with its partition, which is that of its device."""
    return keyed(*_key(record.serial_number), record)


def _key(serial_number: str) -> tuple[str, str]:
    return serial_number[:4], f"c:{serial_number}"


def _changes_of(issuer: str) -> str:
    return f"{issuer}!changes"  # no CA's name has such a sign
