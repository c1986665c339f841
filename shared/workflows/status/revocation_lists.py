"""CRLs: published for every CA, daily and on each revocation."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from secrets import token_hex
from typing import TYPE_CHECKING

from shared.domain.authorities import OPENED, AuthorityState, ListMaking, PublishedList
from shared.errors import Deferred, LedgerBehind, LogDamaged, NotFound
from shared.ledger.table import Stale
from shared.pki.revocation_lists import build_crl
from shared.ports.blobs import StoredBlob
from shared.workflows.authorities.changes import authority_of
from shared.workflows.evidence.entries import entry_of_list
from shared.workflows.status.former_lists import enter, former_list
from shared.workflows.status.published_lists import checked, is_published, published_later
from shared.workflows.status.revoked_entries import RevokedEntries
from shared.workflows.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from shared.domain.authorities import AuthorityRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.table import Versioned
    from shared.pki.issuers import Issuer
    from shared.pki.list_checks import ReadList
    from shared.ports.blobs import Blobs
    from shared.ports.evidence import EvidenceLog
    from shared.settings import Settings
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.status.former_lists import FormerList

CRLS = "crls"
"""Container of the lists."""

CONTENT_TYPE = "application/pkix-crl"
"""RFC 5280 section 4.2.1.13."""

_ATTEMPTS = 30
_READINGS = 3
_PAUSE = 0.25
_MADE_ELSEWHERE = timedelta(minutes=1)
_TURN = timedelta(minutes=1)
"""So long a worker has for making a list; then others take it for gone. One that was slow only loses."""

_log = logging.getLogger(__name__)


class NotPublished(RuntimeError):
    """A CA's list could not be made or stored; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDescription:
    """What can be known of a list without reading it.

    Attributes:
        etag: of its blob; another list has another.
        made_at: when it was made, UTC, to the second.
        next_update: when the next one will be there at the latest.
    """

    etag: str
    made_at: datetime
    next_update: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """The turn of making a CA's list.

    Attributes:
        begun: the CA's row, which says who has the turn.
        before: the list as it was before the turn was taken; ``None`` before the first.
        former: that list, if a CA has made it that the ledger lost.
    """

    begun: Versioned[AuthorityRecord]
    before: StoredBlob | None
    former: FormerList | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationLists:
    """Builds, publishes and reads CRLs.

    One list of a CA is made at a time: in a worker, where the others wait for it, and among workers, by a turn in the
    CA's row. Who has waited makes another one only if something has changed that is not on it.

    Attributes:
        pause: waits for so many seconds while another worker makes a list.
        reads_only: whether the lists are made elsewhere, because this worker reaches no CA key.
    """

    records: Authorities
    certificates: Certificates
    authorities: CertificateAuthorities
    blobs: Blobs
    settings: Settings
    clock: Clock
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    reads_only: bool = False
    log: EvidenceLog
    _turns: Turns = field(default_factory=Turns)
    _looked_at: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Of lists that were not ahead, the ETag, and the number that the ledger had given."""

    async def publish_all(self) -> int:
        """Publish a new list for every CA.

        Returns:
            How many were published.

        Raises:
            ExceptionGroup: some could not be; every CA was tried.
        """
        names = [record.name async for record in self.records.list() if self._is_due(record)]
        published, failures = 0, list[Exception]()
        for name in names:
            try:
                published += await self._publish_unless(name, _never)
            except Exception as error:  # noqa: BLE001 - one CA that can't sign must not let the others' lists expire
                failure = NotPublished(f"the CRL of {name!r} was not published: {error}")
                failure.__cause__ = error
                failures.append(failure)
        if failures:
            raise ExceptionGroup(f"{len(failures)} of {len(names)} CRLs were not published", failures)
        return published

    def _is_due(self, record: AuthorityRecord) -> bool:
        """Tell whether a CA still answers for certificates: one that is over does until its own certificate ends."""
        lasts = record.not_after is None or record.not_after >= self.clock()
        return record.state in OPENED and (lasts or record.state in {AuthorityState.ACTIVE, AuthorityState.DISABLED})

    async def publish(self, name: str) -> bool:
        """See that what has changed is on a CA's list; ``False`` if its certificate does not allow it to sign one.

        Raises:
            Deferred: others are making one, and it takes long.
            NotFound: the CA does not exist.
            ListError: what was made is not what was to be made, and was not published.
        """
        return await self._publish_unless(name, self._is_up_to_date)

    async def _is_up_to_date(self, record: AuthorityRecord) -> bool:
        return record.published is not None and not await self.certificates.changes(record.name)

    async def _is_intact(self, record: AuthorityRecord) -> bool:
        stored = await self.blobs.get(CRLS, _blob(record.name))
        return await self.authorities.computing(is_published, record, stored)

    async def _publish_unless(self, name: str, done: Callable[[AuthorityRecord], Awaitable[bool]]) -> bool:
        loaded = await self.authorities.loaded(name)
        issuer = loaded.issuer
        if not issuer.may_sign_crls or loaded.deleted:
            return False  # an imported CA; its revocations are in the ledger, and OCSP tells of them
        if self.reads_only:
            raise Deferred(f"the CRL of {name!r} is about to be published", retry_after=_MADE_ELSEWHERE)
        async with self._turns.of(name):
            for _ in range(_ATTEMPTS):
                known = await authority_of(self.records, name)
                if await done(known.record):
                    return True
                turn = await self._begin(known, issuer)
                if turn is None:
                    await self.pause(_PAUSE)
                elif await self._make(turn, issuer):
                    return True
        raise Deferred(f"the CRL of {name!r} is being published by others", retry_after=timedelta(seconds=2))

    # --- one worker at a time ---

    async def _begin(self, known: Versioned[AuthorityRecord], issuer: Issuer) -> _Turn | None:
        """Take the turn, and the number of the list; ``None`` if others have it, or the row has changed.

        The list that is to be replaced is read before the turn is taken. So whoever is slow, and has lost the turn,
        meets another list than it has read, and can't replace a newer one by its own.

        Raises:
            LedgerBehind: the ledger is older than it was, or not whole; or the published list has a number that this
                ledger has not given yet.
        """
        await self.authorities.check_ledger()  # before the row of the CA is written
        record, now = known.record, self.clock()
        if record.list_making is not None and record.list_making.until > now:
            return None
        before = await self.blobs.get(CRLS, _blob(record.name))
        if await self.authorities.computing(published_later, before, record, issuer) is not None:
            await self._check_present(record.name, before)
            return None  # the row is older than the list: others were quicker
        former = await self.authorities.computing(former_list, before, record, issuer)
        number = max(record.crl_number + 1, former.first if former else 0)
        making = ListMaking(number=number, token=token_hex(8), until=now + _TURN)
        # Whoever has changed the row may have the turn: then there is nothing to do but to wait for it.
        begun = await self.records.try_replace(known, record.changed(crl_number=number, list_making=making))
        return _Turn(begun=begun, before=before, former=former) if begun else None

    async def _check_present(self, name: str, stored: StoredBlob | None) -> None:
        """See that a CA's row, read after its list, has given the list's number."""
        record = (await authority_of(self.records, name)).record
        ahead = await self._later(name, record, stored)
        if ahead is not None:
            raise LedgerBehind(
                f"the ledger is older than it was: it has made {record.crl_number} lists of {name!r}, and the one that "
                f"is published has number {ahead.number}; run python -m shared.restoration (docs/recover.md)"
            )

    async def _make(self, turn: _Turn, issuer: Issuer) -> bool:
        """Make a list and end the turn; ``False`` if others have taken over."""
        try:
            return await self._published(turn, issuer)
        except Exception:
            await self._end(turn.begun)
            raise

    async def _end(self, begun: Versioned[AuthorityRecord], **changes: object) -> bool:
        """End the turn, whatever else has changed in the row; ``False`` if it is another's by now."""
        known: Versioned[AuthorityRecord] | None = begun
        for _ in range(_ATTEMPTS):
            if known is None or known.record.list_making != begun.record.list_making:
                return False
            try:
                await self.records.replace(known, known.record.changed(list_making=None, **changes))
            except Stale:
                known = await self.records.get(begun.record.name)
            else:
                return True
        return False

    async def _published(self, turn: _Turn, issuer: Issuer) -> bool:
        """Bring the entries up to date, sign, look at what was made, and put it in the place of the list before.

        Numbers grow with each turn, and the blob is replaced as it was before the turn: an older list never replaces a
        newer one.
        """
        begun, present = turn.begun, turn.before
        record, name = begun.record, begun.record.name
        if turn.former is not None:
            await enter(self.certificates, name, turn.former, issuer)
        entries = RevokedEntries(certificates=self.certificates, blobs=self.blobs, container=CRLS)
        current = await entries.current(
            name, record.list_entries, record.published.made_at if record.published else None
        )
        if current is None:
            await self._end(begun)
            return False
        now = self.clock().replace(microsecond=0)
        crl = await self.authorities.signing(
            issuer, _signed, current.joined, issuer, record.crl_number, now, now + self.settings.crl_validity
        )
        made = await self.authorities.computing(checked, crl, issuer, record, present, current.length)
        await self._note(name, record.crl_number, crl, now)
        if not await self._store(name, crl, present):
            await self._end(begun)
            return False
        # What the list itself says is older than when it was made, for clocks that are late.
        published = PublishedList(sha256=sha256(crl).hexdigest(), made_at=now, next_update=made.next_update)
        if not await self._end(begun, list_entries=current.kept, published=published):
            return False
        await self.certificates.forget(current.changes)
        await entries.leave(current.over)
        return True

    async def _note(self, name: str, number: int, crl: bytes, now: datetime) -> None:
        """Log a list. What shuts devices out goes on though the log was damaged, which issues no certificate then."""
        try:
            await self.log.append(entry_of_list(name, number, crl, now))
        except LogDamaged as damage:
            _log.critical("the CRL of %r with number %d is published and not logged: %s", name, number, damage)

    async def _store(self, name: str, crl: bytes, present: StoredBlob | None) -> bool:
        if present is None:
            return await self.blobs.create(CRLS, _blob(name), crl, content_type=CONTENT_TYPE, metadata={})
        return await self.blobs.replace(CRLS, _blob(name), StoredBlob(crl, {}, present.etag), content_type=CONTENT_TYPE)

    # --- reading ---

    async def describe(self, name: str) -> ListDescription:
        """Describe the newest list of a CA; the first one to ask about a new CA has it published.

        Raises:
            NotFound: the CA does not exist, or it signs no CRLs.
        """
        record, found = (await authority_of(self.records, name)).record, await self.blobs.describe(CRLS, _blob(name))
        if found is None or record.published is None:
            return (await self.read(name))[0]
        return ListDescription(
            etag=found.etag, made_at=record.published.made_at, next_update=record.published.next_update
        )

    async def read(self, name: str) -> tuple[ListDescription, bytes]:
        """Read the newest list of a CA, in DER; errors are those of :meth:`describe`.

        What is given out is what was published: where something else stands in its place, a new list is made.
        """
        for _ in range(_READINGS):
            stored, record = await self.blobs.get(CRLS, _blob(name)), (await authority_of(self.records, name)).record
            published, intact = record.published, await self.authorities.computing(is_published, record, stored)
            if stored is not None and published is not None and intact:
                return ListDescription(
                    etag=stored.etag, made_at=published.made_at, next_update=published.next_update
                ), stored.content
            ahead = await self._later(name, record, stored)
            if stored is not None and ahead is not None:  # of a ledger that was put back: what was said, stays said
                return ListDescription(
                    etag=stored.etag, made_at=ahead.this_update, next_update=ahead.next_update
                ), stored.content
            if not await self._publish_unless(name, self._is_intact):
                raise NotFound.because(
                    f"{name!r} was deleted, and its last CRL is not kept"
                    if record.state is AuthorityState.DELETED
                    else f"{name!r} has no CRL: the key usage of its certificate forbids it to sign one (cRLSign)"
                )
        raise Deferred(f"the CRL of {name!r} is changing", retry_after=timedelta(seconds=2))

    async def is_ahead(self, name: str) -> bool:
        """Tell whether the published list of a CA has a number that the ledger has not given yet."""
        found, (etag, given) = await self.blobs.describe(CRLS, _blob(name)), self._looked_at.get(name, ("", 0))
        number = (await authority_of(self.records, name)).record.crl_number
        if found is None or (found.etag == etag and number >= given):
            return False  # it was looked at before, and the ledger had given its number
        stored = await self.blobs.get(CRLS, _blob(name))  # before the row, whose number grows first
        record = (await authority_of(self.records, name)).record
        if await self._later(name, record, stored) is not None:
            return True
        if stored is not None:
            self._looked_at[name] = stored.etag, record.crl_number
        return False

    async def ahead(self) -> str | None:
        """Tell of a CA whose published list is ahead of the ledger; ``None`` if none is."""
        for record in [each async for each in self.records.list() if self._is_due(each)]:
            if await self.is_ahead(record.name):
                return f"the published CRL of {record.name!r} has a number that the ledger has not given yet"
        return None

    async def _later(self, name: str, record: AuthorityRecord, stored: StoredBlob | None) -> ReadList | None:
        if stored is None:
            return None
        issuer = (await self.authorities.loaded(name)).issuer
        return await self.authorities.computing(published_later, stored, record, issuer)


async def _never(_record: AuthorityRecord) -> bool:
    return False


def _signed(entries: Sequence[bytes], issuer: Issuer, number: int, now: datetime, next_update: datetime) -> bytes:
    return build_crl(entries, issuer=issuer, crl_number=number, now=now, next_update=next_update)


def _blob(name: str) -> str:
    return f"{name}.crl"
