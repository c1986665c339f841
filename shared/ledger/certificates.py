"""Every certificate ever signed, found by its serial number, and every revocation, found by its issuer.

A serial number is recorded before it is signed. So a row that stays ``reserved`` stands for a signature that may exist
and was never handed out, and no signature exists without a row.

Device certificates that may still be in use stand in an index by issuer besides, from before they are signed until they
have ended. So what an issuing CA still answers for is found without reading the fleet.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import batched
from typing import TYPE_CHECKING

from shared.domain.certificates import (
    CertificateRecord,
    InForceRecord,
    RevocationChange,
    RevocationRecord,
)
from shared.ledger.rows import Rows
from shared.ledger.table import TRANSACTION_LIMIT, Stale, keyed
from shared.ports.rows import Delete, Put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from datetime import datetime

    from shared.ledger.rows import Key
    from shared.ledger.table import Versioned
    from shared.ports.rows import Table


class Certificates:
    """The tables of certificates and revocations, and the index of what is in force.

    A revocation is a row under its issuer and serial number. Beside it stands, until the issuer's next list is there,
    a row that says what has changed, so that a list is made from the entries kept and the changes alone.
    """

    @classmethod
    def of(cls, table: Callable[[str], Table]) -> Certificates:
        """Give those of the ledger whose tables these are, by name."""
        return cls(certificates=table("identities"), revocations=table("revocations"), in_force=table("inforce"))

    def __init__(self, *, certificates: Table, revocations: Table, in_force: Table) -> None:
        self._certificates = Rows(
            certificates, CertificateRecord, key=lambda record: certificate_place(record.serial_number)
        )
        self._revocations = Rows(
            revocations, RevocationRecord, key=lambda record: (record.issuer, record.serial_number)
        )
        self._changes = revocations
        self._in_force = in_force

    async def reserve(self, record: CertificateRecord) -> Versioned[CertificateRecord]:
        """Record the serial number of a certificate that is not a device's before it is signed.

        Raises:
            RuntimeError: the serial number was drawn before: the random source is broken.
        """
        reserved = await self._certificates.try_insert(record)
        if reserved is None:
            raise RuntimeError(f"serial number {record.serial_number} was drawn twice; the random source is broken")
        return reserved

    async def try_add(self, record: CertificateRecord) -> Versioned[CertificateRecord] | None:
        """Record a certificate that was signed elsewhere; ``None`` if its serial number is another's, or known."""
        return await self._certificates.try_insert(record)

    async def get(self, serial_number: str) -> Versioned[CertificateRecord] | None:
        """Find a certificate by its serial number."""
        return await self._certificates.get(*certificate_place(serial_number))

    async def every(self) -> AsyncIterator[CertificateRecord]:
        """List all certificates that were ever recorded: for an audit, since it reads everything."""
        async for record in self._certificates.list(
            "RowKey ge @first and RowKey lt @last", {"first": "c:", "last": "c;"}
        ):
            yield record

    async def try_replace(
        self, known: Versioned[CertificateRecord], record: CertificateRecord
    ) -> Versioned[CertificateRecord] | None:
        """Replace a record as it was read; ``None`` if it has changed since, where what others made of it counts.

        Not for certificates of devices.
        """
        return await self._certificates.try_replace(known, record)

    # --- what is in force ---

    async def enter_in_force(self, record: CertificateRecord, *, until: datetime) -> None:
        """Put a device's certificate into the index of its issuer, before it is recorded."""
        entry = InForceRecord(
            serial_number=record.serial_number, issuer=record.issuer, subject=record.subject, until=until
        )
        await self._in_force.put(keyed(record.issuer, record.serial_number, entry))

    async def enter_all_in_force(self, entries: Sequence[InForceRecord]) -> None:
        """Put certificates that are to be recorded into the index of their issuer, which they have in common."""
        for some in batched(entries, TRANSACTION_LIMIT, strict=False):
            # A put meets no state that could refuse it.
            _ = await self._in_force.write_together(
                [Put(keyed(each.issuer, each.serial_number, each)) for each in some]
            )

    async def leave_all_in_force(self, issuer: str, serial_numbers: Sequence[str]) -> None:
        """Take certificates that were not recorded out of the index; who entered them does so, and nobody else."""
        for some in batched(serial_numbers, TRANSACTION_LIMIT, strict=False):
            deletes = [Delete({"PartitionKey": issuer, "RowKey": each}) for each in some]
            if await self._in_force.write_together(deletes) is None:  # one of them has left before, so none was deleted
                for each in some:
                    await self.leave_in_force(issuer, each)

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

    async def page_in_force(
        self, issuer: str, now: datetime, *, size: int, continuation: str | None
    ) -> tuple[list[InForceRecord], str | None]:
        """List a page of an issuer's certificates that may still be used, and the continuation of the next."""
        rows, following = await self._in_force.page(
            _IN_FORCE, {"issuer": issuer, "now": now}, size=size, continuation=continuation
        )
        return [InForceRecord.from_columns(row.values) for row in rows], following

    async def _entries(self, issuer: str, now: datetime) -> AsyncIterator[InForceRecord]:
        async for row in self._in_force.query(_IN_FORCE, {"issuer": issuer, "now": now}):
            yield InForceRecord.from_columns(row.values)

    # --- revocations ---

    async def enter_revocation(self, record: RevocationRecord) -> None:
        """Put a certificate on its issuer's list, or take it off (``ended``), unless a later record said otherwise.

        That it is off is written even if it was not on it: whoever is about to put it there comes too late.

        Raises:
            Stale: others kept changing it.
        """
        for _ in range(_ATTEMPTS):
            present = await self._revocations.get(record.issuer, record.serial_number)
            if present is not None and present.record.generation > record.generation:
                return
            written = (
                await self._revocations.try_replace(present, record)
                if present
                else await self._revocations.try_insert(record)
            )
            if written is not None:
                # The note says that something has changed; what it is now stands in the row above.
                row_key = f"{record.serial_number}-{record.generation:08d}"
                await self._changes.put({"PartitionKey": _changes_of(record.issuer), "RowKey": row_key})
                return
        raise Stale(record.serial_number)

    async def enter_again(self, record: RevocationRecord) -> None:
        """Put a certificate on its issuer's list, whatever was said of it before; what is said later counts again.

        Raises:
            Stale: others kept changing it.
        """
        present = await self._revocations.get(record.issuer, record.serial_number)
        generation = max(record.generation, present.record.generation if present else 0)
        await self.enter_revocation(record.changed(generation=generation))

    async def changes(self, issuer: str) -> list[RevocationChange]:
        """Give what has changed since the issuer's entries were kept, each certificate once, as it is now."""
        noted: dict[str, list[str]] = defaultdict(list)
        async for row in self._changes.query("PartitionKey eq @changes", {"changes": _changes_of(issuer)}):
            noted[str(row.values["RowKey"]).partition("-")[0]].append(str(row.values["RowKey"]))
        found = []
        for serial_number, notes in noted.items():
            present = await self._revocations.get(issuer, serial_number)
            if present is not None:
                found.append(RevocationChange(notes=tuple(notes), revocation=present.record))
        return found

    async def forget(self, changes: Iterable[RevocationChange]) -> None:
        """Delete the notes of changes that are in the entries kept."""
        for change in changes:
            for note in change.notes:
                await self._changes.delete(_changes_of(change.revocation.issuer), note)

    async def revoked_by(self, issuer: str) -> AsyncIterator[RevocationRecord]:
        """List the revocations of an issuer's certificates."""
        async for record in self._revocations.list("PartitionKey eq @issuer", {"issuer": issuer}):
            if not record.ended:
                yield record


_ATTEMPTS = 5
_IN_FORCE = "PartitionKey eq @issuer and until ge @now"


def certificate_row(record: CertificateRecord) -> dict[str, object]:
    """Give a certificate as a row. A serial number begins with its partition, which is that of its device."""
    return keyed(*certificate_place(record.serial_number), record)


def certificate_place(serial_number: str) -> Key:
    """Give the partition and the row of a certificate."""
    return serial_number[:4], f"c:{serial_number}"


def _changes_of(issuer: str) -> str:
    return f"{issuer}!changes"  # no CA's name has such a sign
