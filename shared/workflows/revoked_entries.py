"""The entries of CRLs, encoded once and kept: for each CA one blob for each month in which the certificates expire.

A list joins the blobs and signs. When a month is over, its blob leaves as a whole: a certificate that has expired need
not be listed any more (RFC 5280 section 3.3), once it was on a list that was made after its end.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.adapters.storage import StoredBlob
from shared.pki.revocation_lists import RevokedCertificate, changed_entries

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from shared.adapters.storage import Blobs
    from shared.ledger.certificates import Certificates, RevocationChange, RevocationRecord

_BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class RevokedEntries:
    """Keeps the encoded entries of each CA, and brings them up to date.

    Attributes:
        container: of the blobs.
    """

    certificates: Certificates
    blobs: Blobs
    container: str

    async def current(
        self, issuer: str, listed_at: datetime | None
    ) -> tuple[list[bytes], list[RevocationChange]] | None:
        """Give all entries of a CA, with what has changed worked in.

        Args:
            issuer: the CA.
            listed_at: when its newest list was made, ``None`` if there is none.

        Returns:
            The entries, joined by month; and the changes, to be forgotten when a list with them is published. ``None``
            when others changed the same entries at the same time.
        """
        kept = {name: await self.blobs.get(self.container, name) for name in await self._names(issuer)}
        changes = await self.certificates.changes(issuer)
        if not kept:
            # The first list; or the blobs were deleted, to have them made anew.
            await self._rebuild(issuer, listed_at)
            changes = await self.certificates.changes(issuer)
            kept = {name: await self.blobs.get(self.container, name) for name in await self._names(issuer)}
        for month, wanted in _by_month(changes).items():
            name = _blob(issuer, month)
            changed = await self._change(name, kept.get(name), wanted)
            if changed is None:
                return None
            kept[name] = changed
        entries = [
            blob.content for name, blob in kept.items() if blob is not None and not await self._left(name, listed_at)
        ]
        return entries, changes

    async def _names(self, issuer: str) -> list[str]:
        return await self.blobs.names(self.container, f"entries/{issuer}/")

    async def _rebuild(self, issuer: str, listed_at: datetime | None) -> None:
        months: dict[str, list[RevokedCertificate]] = defaultdict(list)
        async for record in self.certificates.revoked_by(issuer):
            if not _is_over(_month(record.not_after), listed_at):
                months[_month(record.not_after)].append(_entry(record))
        for month, revoked in months.items():
            content = changed_entries(b"", removed=(), added=revoked)
            # Who comes second finds a blob made from the same rows; what differs is among the changes of one of them.
            await self.blobs.create(self.container, _blob(issuer, month), content, content_type=_BINARY, metadata={})

    async def _change(
        self, name: str, kept: StoredBlob | None, changes: Iterable[RevocationChange]
    ) -> StoredBlob | None:
        """Work changes into a month's entries; the newest of each certificate counts. ``None`` if others did so."""
        newest = {change.revocation.serial_number: change for change in changes}
        content = changed_entries(
            kept.content if kept else b"",
            removed=[int(serial, 16) for serial, change in newest.items() if change.ended],
            added=[_entry(change.revocation) for change in newest.values() if not change.ended],
        )
        if kept is None:
            stored = await self.blobs.create(self.container, name, content, content_type=_BINARY, metadata={})
        else:
            changed = StoredBlob(content, kept.metadata, kept.etag)
            stored = await self.blobs.replace(self.container, name, changed, content_type=_BINARY)
        return StoredBlob(content, {}, "") if stored else None

    async def _left(self, name: str, listed_at: datetime | None) -> bool:
        """Tell whether a month is over; then its entries leave."""
        if not _is_over(name.rpartition("/")[2], listed_at):
            return False
        await self.blobs.delete(self.container, name)
        return True


def _entry(record: RevocationRecord) -> RevokedCertificate:
    return RevokedCertificate(int(record.serial_number, 16), record.revoked_at, record.reason.value)


def _by_month(changes: Iterable[RevocationChange]) -> dict[str, list[RevocationChange]]:
    months: dict[str, list[RevocationChange]] = defaultdict(list)
    for change in changes:
        months[_month(change.revocation.not_after)].append(change)
    return months


def _month(at: datetime) -> str:
    return f"{at:%Y-%m}"


def _is_over(month: str, listed_at: datetime | None) -> bool:
    """Tell whether a list was made after the month, so after the last certificate of it had expired."""
    return listed_at is not None and month < _month(listed_at)


def _blob(issuer: str, month: str) -> str:
    return f"entries/{issuer}/{month}"
