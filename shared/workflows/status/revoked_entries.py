"""The entries of CRLs, encoded once and kept: for each CA one blob for each month in which the certificates expire.

A list joins the blobs and signs. When a month is over, its blob leaves as a whole: a certificate that has expired need
not be listed any more (RFC 5280 section 3.3), once it was on a list that was made after its end.

Whoever may write blobs could rewrite these. So the CA's row in the ledger says what each must be, and one that is not,
or is gone, is made anew from the ledger's revocations.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.domain.authorities import KeptMonth
from shared.pki.list_checks import check_entries
from shared.pki.revocation_lists import RevokedCertificate, changed_entries
from shared.ports.blobs import StoredBlob

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from shared.domain.certificates import RevocationChange, RevocationRecord
    from shared.ledger.certificates import Certificates
    from shared.ports.blobs import Blobs

_BINARY = "application/octet-stream"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentEntries:
    """All entries of a CA.

    Attributes:
        joined: the entries, joined by month.
        kept: what is kept now, for the CA's row.
        changes: that are in them; to be forgotten when a list with them is published.
        over: blobs of months that are over; to be deleted then.
    """

    joined: list[bytes]
    kept: dict[str, KeptMonth]
    changes: list[RevocationChange]
    over: list[str]

    @property
    def length(self) -> int:
        """How many entries there are."""
        return sum(month.entries for month in self.kept.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedEntries:
    """Keeps the encoded entries of each CA, and brings them up to date.

    Attributes:
        container: of the blobs.
    """

    certificates: Certificates
    blobs: Blobs
    container: str

    async def current(
        self, issuer: str, kept: Mapping[str, KeptMonth], listed_at: datetime | None
    ) -> CurrentEntries | None:
        """Give all entries of a CA, with what has changed worked in.

        Args:
            issuer: the CA.
            kept: what its row says of the blobs.
            listed_at: when its newest list was made, ``None`` if it does not exist.

        Returns:
            The entries; ``None`` when others changed the same entries at the same time.

        Raises:
            ListError: the entries that were made are not those that were to be.
        """
        over = [month for month in kept if _is_over(month, listed_at)]
        months = {month: stamp for month, stamp in kept.items() if month not in over}
        stored = {month: await self.blobs.get(self.container, _blob(issuer, month)) for month in months}
        damaged = {month for month, blob in stored.items() if not _is_kept(months[month], blob)}
        if damaged:
            _log.warning(
                "the entries that are kept for the list of %r are not those that were written (%s); they are made anew "
                "from the ledger",
                issuer,
                ", ".join(sorted(damaged)),
            )
        contents = {month: blob.content for month, blob in stored.items() if blob is not None}
        anew = await self._rebuilt(issuer, damaged if kept else None, listed_at) if damaged or not kept else {}
        contents |= anew
        changes = await self.certificates.changes(issuer)
        wanted = _by_month(changes, listed_at)
        for month in {*anew, *wanted}:
            contents[month], count = _changed(contents.get(month, b""), wanted.get(month, ()))
            if not await self._write(_blob(issuer, month), contents[month], stored.get(month)):
                return None
            months[month] = KeptMonth(sha256=_sha256(contents[month]), entries=count)
        joined = [contents[month] for month in sorted(contents)]
        return CurrentEntries(
            joined=joined, kept=months, changes=changes, over=[_blob(issuer, month) for month in over]
        )

    async def _rebuilt(self, issuer: str, months: set[str] | None, listed_at: datetime | None) -> dict[str, bytes]:
        """Encode the ledger's revocations of some months, or of all that are not over."""
        revoked: dict[str, list[RevokedCertificate]] = defaultdict(list)
        async for record in self.certificates.revoked_by(issuer):
            month = _month(record.not_after)
            if not _is_over(month, listed_at) and (months is None or month in months):
                revoked[month].append(_entry(record))
        found = {month: changed_entries(b"", removed=(), added=entries) for month, entries in revoked.items()}
        return {**dict.fromkeys(months or (), b""), **found}

    async def _write(self, name: str, content: bytes, before: StoredBlob | None) -> bool:
        if before is None:
            before = await self.blobs.get(self.container, name)  # one that the row does not know of
        if before is None:
            return await self.blobs.create(self.container, name, content, content_type=_BINARY, metadata={})
        changed = StoredBlob(content, before.metadata, before.etag)
        return await self.blobs.replace(self.container, name, changed, content_type=_BINARY)

    async def leave(self, over: Iterable[str]) -> None:
        """Delete the blobs of months that are over."""
        for name in over:
            await self.blobs.delete(self.container, name)


def _changed(before: bytes, changes: Iterable[RevocationChange]) -> tuple[bytes, int]:
    """Work changes into a month's entries; the newest of each certificate counts. Gives how many there are then."""
    newest = {int(change.revocation.serial_number, 16): change for change in changes}
    removed = {serial for serial, change in newest.items() if change.ended}
    added = [_entry(change.revocation) for change in newest.values() if not change.ended]
    after = changed_entries(before, removed=removed, added=added)
    return after, check_entries(before, after, removed=removed, added={each.serial_number for each in added})


def _is_kept(month: KeptMonth, blob: StoredBlob | None) -> bool:
    return blob is not None and _sha256(blob.content) == month.sha256


def _sha256(content: bytes) -> str:
    return sha256(content).hexdigest()


def _entry(record: RevocationRecord) -> RevokedCertificate:
    return RevokedCertificate(int(record.serial_number, 16), record.revoked_at, record.reason.value)


def _by_month(changes: Iterable[RevocationChange], listed_at: datetime | None) -> dict[str, list[RevocationChange]]:
    months: dict[str, list[RevocationChange]] = defaultdict(list)
    for change in changes:
        month = _month(change.revocation.not_after)
        if not _is_over(month, listed_at):
            months[month].append(change)
    return months


def _month(at: datetime) -> str:
    return f"{at:%Y-%m}"


def _is_over(month: str, listed_at: datetime | None) -> bool:
    """Tell whether a list was made after the month, so after the last certificate of it had expired."""
    return listed_at is not None and month < _month(listed_at)


def _blob(issuer: str, month: str) -> str:
    return f"entries/{issuer}/{month}"
