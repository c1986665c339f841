"""Brings the vault, the services, the books and the lists to what a CA's record wants.

A CA goes ``requested`` -> (``awaitingCertificate``, when another CA signs it) -> ``signed`` -> ``active``. Later it may
be ``disabled`` for a while, and ends as ``retired``, ``revoked`` or ``deleted``. An act
changes its record, and that alone: from then on it is decided what the CA is to be. What is brought about here finds
what an earlier attempt left, so that anybody may start it, at any time, and any number of times.

A ledger that is older than it was does not know what a CA has become since. So by such a one no CA is made, proved or
opened. What an act wants is brought about all the same: it shuts, or it tells and enters what the row says already.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.authorities import OPENED, OVER, AuthorityState, Missing, ProofOfPossession
from shared.domain.authority_acts import followed, withdrawn
from shared.domain.certificates import CertificateState
from shared.domain.expiry import DueNotice, Notice, first_warning
from shared.errors import Deferred, Overtaken, Rejected
from shared.telemetry.spans import step
from shared.workflows.authorities.changes import authority_of, change
from shared.workflows.authorities.records import (
    all_certificates,
    book_entry,
    issued_event,
    issuer_of,
    problem_of,
    signer_of,
)
from shared.workflows.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.domain.authorities import AuthorityRecord
    from shared.domain.certificates import CertificateRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.expiry import ExpiryIndex
    from shared.pki.issuers import Issuer
    from shared.ports.lists import Lists
    from shared.settings import Settings
    from shared.workflows.authorities.endings import AuthorityEndings
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.authorities.making import AuthorityMaking
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.intake.outbox import Clock, Outbox

_ATTEMPTS = 10
_LEFT_LYING = timedelta(minutes=1)
"""What is younger is somebody's work."""

_SETTLED = OPENED | {AuthorityState.DELETED}

IMPORT_ENDS = timedelta(minutes=30)
"""A worker that was at a CA has ended by then, whatever became of it: after ``functionTimeout`` the host ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityConverger:
    """Makes everything follow the records of CAs.

    Attributes:
        check_ledger: sees that the ledger is not an older one, before a CA is made, proved or opened; raises
            ``LedgerBehind``.
    """

    records: Authorities
    certificates: Certificates
    expiry: ExpiryIndex
    keys: AuthorityKeys
    making: AuthorityMaking
    possession: Possession
    endings: AuthorityEndings
    lists: Lists
    outbox: Outbox
    settings: Settings
    clock: Clock
    check_ledger: Callable[[], Awaitable[None]]
    _proving: Turns = field(default_factory=Turns)

    @step("converge CA", "device_factory.ca")
    async def converge(self, name: str) -> AuthorityRecord:
        """Bring about what a CA lacks of what its record wants.

        Returns:
            Its record, of a CA that is open for use, or waits for its owner.

        Raises:
            NotFound: the CA does not exist.
            Rejected: it can't be made, or a service does not take its proof: its row says why.
            Deferred: others are at it.
            LedgerBehind: it is to be made, proved or opened, and the ledger is an older one.
        """
        known = await authority_of(self.records, name)
        record = known.record
        while (missing := record.missing) is not None:
            if missing is not Missing.ACT:
                await self.check_ledger()
            match missing:
                case Missing.CERTIFICATE:
                    record = await self.making.make(known)
                case Missing.PROOF:
                    record = await self._prove(name)
                case Missing.OPENING:
                    record = await self._open(record)
                case Missing.ACT:
                    record = await self._follow(record)
        return record

    @step("follow act on CA", "device_factory.ca")
    async def follow(self, name: str) -> None:
        """Bring about the act on a CA that was decided last, and nothing else: what shuts waits for no proof.

        Raises:
            NotFound: the CA does not exist.
            Deferred: others are at it.
        """
        record = (await authority_of(self.records, name)).record
        while record.change is not None:
            record = await self._follow(record)

    async def sweep(self) -> int:
        """Finish the CAs that are not open yet: their message is gone, or a service had no place for them.

        Returns:
            How many are open now.

        Raises:
            ExceptionGroup: services failed; every CA was tried.
        """
        known = [each async for each in self.records.list()]
        finished, failures = 0, list[Exception]()
        for record in known:
            if record.missing is None and record.state in _SETTLED and not self._is_looked_after(record):
                continue
            try:
                finished += await self._carry_on(record)
            except (Deferred, Rejected):
                continue  # somebody is at it; or its row says what is in the way
            except Exception as error:  # noqa: BLE001 - the other CAs come first, then it is raised
                failures.append(error)
        if failures:
            raise ExceptionGroup("CAs could not be finished", failures)
        return finished

    async def _carry_on(self, record: AuthorityRecord) -> bool:
        age = self.clock() - record.requested_at
        if record.state is AuthorityState.REQUESTED:
            if record.wanted is None:
                await self._end_import(record.name)
                return False
            if record.problem is not None or age < _LEFT_LYING:
                return False  # refused, as its sender was told; or its own message is at it
        if record.missing is None:
            if self._may_be_uploaded(record):
                await self._withdraw(record)
            if record.state is AuthorityState.REVOKED:
                await self._see_to_revoked(record)
            return False
        if record.change is not None and self.clock() - record.change.decided_at < _LEFT_LYING:
            return False  # its own message is at it
        return (await self.converge(record.name)).state in _SETTLED

    async def _end_import(self, name: str) -> None:
        """Give the name back that an import which broke off has taken; if its key is here, it keeps the name."""
        known = await authority_of(self.records, name)
        record = known.record
        if record.problem is not None:
            return  # its owner was told
        await self.check_ledger()  # an older one may not know that it was imported
        if record.state is not AuthorityState.REQUESTED or self.clock() - record.requested_at <= IMPORT_ENDS:
            return
        if await self.keys.holds(name, record.custody):
            problem = "its import broke off when its key was in the vault; import it again as before"
            # One that has changed meanwhile is looked at by the next sweep, as it is then.
            _ = await self.records.try_replace(known, record.changed(problem=problem))
            return
        _ = await self.records.withdraw(known)  # one that has changed meanwhile is not left lying any more

    # --- acts ---

    async def _follow(self, record: AuthorityRecord) -> AuthorityRecord:
        """Have everything follow the act that was decided last."""
        wanted = record.change
        if wanted is None:
            return record
        await self.endings.follow(record, wanted)
        return await change(self.records, record.name, lambda present: followed(present, wanted))

    async def _see_to_revoked(self, record: AuthorityRecord) -> None:
        """Shut out what a revoked CA has let in after all: it was under way when the CA was revoked."""
        if record.not_after is None or record.not_after < self.clock():
            return
        await self.endings.shut_again(record)

    def _is_looked_after(self, record: AuthorityRecord) -> bool:
        return record.state is AuthorityState.REVOKED or self._may_be_uploaded(record)

    def _may_be_uploaded(self, record: AuthorityRecord) -> bool:
        """Tell whether somebody who proves possession of a CA that is over may still be at that, or have left it so."""
        if record.state not in OVER or record.certificate is None:
            return False
        return record.proof_of_possession is ProofOfPossession.PENDING or not self._is_long_over(record)

    def _is_long_over(self, record: AuthorityRecord) -> bool:
        return self.clock() - (record.since or record.revoked_at or record.requested_at) > IMPORT_ENDS

    async def _withdraw(self, record: AuthorityRecord) -> None:
        """Free the places of a CA that is over, until nobody can be at proving it any more."""
        is_last = self._is_long_over(record)
        await self.possession.withdraw(record)
        if is_last:
            await change(self.records, record.name, withdrawn)

    # --- possession ---

    async def _prove(self, name: str) -> AuthorityRecord:
        """Prove possession of a CA's key wherever it is to be known; what refuses it is kept in the CA's row."""
        async with self._proving.of(name):  # a second code would make the first one void
            record = (await authority_of(self.records, name)).record
            if record.missing is not Missing.PROOF:
                return record
            try:
                await self.possession.prove(record)
            except Rejected as rejection:
                problem = problem_of(rejection)
                await change(self.records, name, lambda present: _unproved(present, problem=problem))
                raise
            proved = ProofOfPossession.VERIFIED
            return await change(
                self.records, name, lambda present: _unproved(present, proof_of_possession=proved, problem=None)
            )

    # --- opening ---

    async def _open(self, record: AuthorityRecord) -> AuthorityRecord:
        """Enter a CA into the books, publish its first list, tell of it, and open it for use."""
        assert record.serial_number is not None  # noqa: S101 - a signed CA has one
        assert record.not_after is not None  # noqa: S101
        certificate = next(all_certificates(record))
        told = issued_event(record, certificate, record.signed_by)
        await self._enter(book_entry(record, certificate, record.signed_by))
        await self.expiry.put(
            DueNotice.on(
                first_warning(record.not_after, self.settings.authority_warnings),
                Notice.EXPIRING,
                serial_number=record.serial_number,
                subject=record.name,
                not_after=record.not_after,
            )
        )
        await self.lists.publish(record.name)
        await self.outbox.publish(told, subject=record.name, correlation_id=record.cause)
        await self.endings.write_down(record)
        return await change(self.records, record.name, partial(_opened, seen=record))

    async def enter_further(self, record: AuthorityRecord, issuer: Issuer) -> None:
        """Enter a further certificate of a CA into the books."""
        signed_by = record.name if len(issuer.chain) == 1 else await signer_of(issuer.chain, self.records)
        await self._enter(book_entry(record, issuer.certificate, signed_by or issuer_of(issuer.certificate)))

    async def _enter(self, entry: CertificateRecord) -> None:
        """Enter a CA's certificate into the ledger, once: whatever came of it since stays.

        A serial number that is another certificate's is left to it: owners' CAs count from 1.
        """
        for _ in range(_ATTEMPTS):
            known = await self.certificates.get(entry.serial_number)
            if known is None:
                if await self.certificates.try_add(entry):
                    return
                continue
            awaited = known.record.state is CertificateState.RESERVED and known.record.subject == entry.subject
            if not awaited or await self.certificates.try_replace(known, entry):
                return
        raise Overtaken(f"the certificate of {entry.subject!r} is being changed by others")


def _unproved(record: AuthorityRecord, **changes: object) -> AuthorityRecord:
    return record.changed(**changes) if record.is_being_proved else record


def _opened(record: AuthorityRecord, *, seen: AuthorityRecord) -> AuthorityRecord:
    """Enter that a CA is open, unless others have called for it meanwhile: of these the audit log says so first."""
    is_told = record.state is AuthorityState.SIGNED and record.audited == seen.audited
    return record.changed(state=AuthorityState.ACTIVE, audited=()) if is_told else record
