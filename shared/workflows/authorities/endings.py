"""Brings about what an act wants of a CA: doors are shut, entries are made, places are freed, and then it is told.

The act has changed the CA's row. What is done here can be done by anybody, any number of times. Nothing is opened: so
nothing has a condition, and every door is tried, whatever the others answer.

What a group and a device are to be stands in rows of their own. So their requests are sent, and their own convergers
carry them out. The devices of a revoked CA and of those below it have one request in common, which goes through them at
the pace that was asked for. The sweep looks at a revoked CA again until none of its certificates is in force: one that
was under way when the CA was revoked is found then.

Each request takes its row before its message is sent, so that it is done for who has revoked the CA.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from shared.acting import acting
from shared.acting import actor as current_actor
from shared.contracts.authorities import AuthorityAct
from shared.contracts.devices import AuthorityRevocation, RevocationRequest
from shared.contracts.events import CertificateAuthorityChanged
from shared.contracts.groups import EnrollmentGroupRequest, GroupAction
from shared.contracts.messages import Queue
from shared.domain.authorities import OPENED, AuthorityAction, AuthorityState
from shared.domain.authority_acts import Wanted, asked_for, decided, devices_request_of
from shared.domain.certificates import CertificateState, RevocationRecord
from shared.domain.expiry import DueNotice, Notice, first_warning
from shared.domain.groups import GroupState
from shared.domain.requests import ENDED
from shared.domain.revocation import Falls, falls
from shared.domain.words import RevocationReason
from shared.errors import Conflict, Deferred, Overtaken, Rejected
from shared.pki import names
from shared.workflows.authorities.changes import change as change_record
from shared.workflows.authorities.changes import change_certificate
from shared.workflows.authorities.records import book_entry, issued_event, issuer_of, signers_of
from shared.workflows.intake.requests import submit
from shared.workflows.many import pages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from datetime import datetime

    from cryptography import x509

    from shared.domain.authorities import AuthorityChange, AuthorityRecord
    from shared.domain.certificates import CertificateRecord, InForceRecord
    from shared.domain.groups import GroupRecord
    from shared.domain.requests import RequestRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.requests import Requests
    from shared.ports.lists import Lists
    from shared.settings import Settings
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.authorities.reach import AuthorityReach
    from shared.workflows.intake.outbox import Clock, Outbox

_PAGE = 50
_ATTEMPTS = 10
_ASKED_BY_THEN = timedelta(days=1)
"""So long after a CA was revoked its devices were asked for, and what came of that may be forgotten. So long after the
next ones were due nobody is at work on their request: its message is gone, or an app of another version refused it."""

_MADE_REVOCABLE = frozenset({CertificateState.ACTIVE, CertificateState.EXPIRED, CertificateState.SUPERSEDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityEndings:
    """Makes everything follow acts on CAs."""

    records: Authorities
    requests: Requests
    certificates: Certificates
    devices: Devices
    reach: AuthorityReach
    possession: Possession
    lists: Lists
    expiry: ExpiryIndex
    outbox: Outbox
    settings: Settings
    clock: Clock

    async def follow(self, record: AuthorityRecord, change: AuthorityChange) -> None:
        """Do what an act wants, and tell it.

        Raises:
            Deferred: others are at it.
        """
        with acting(change.actor, change.comment):  # whoever carries it on
            await self._follow(record, change)

    async def _follow(self, record: AuthorityRecord, change: AuthorityChange) -> None:
        if change.action is AuthorityAction.REVOKE:
            reason = _reason(record)
            shut = (self._shut_groups(record), self._revoke_devices(record, change), self._revoke_below(record))
            await _all((*shut, self._leave(record, reason), self.possession.withdraw(record)))
        elif change.serial_number is not None:
            await self._enter_certificate(record, change)
        elif change.action is AuthorityAction.DELETE:
            reason = record.revocation_reason or RevocationReason.CESSATION_OF_OPERATION
            await _all((self._leave(record, reason), self.possession.withdraw(record)))
        await self._tell(record, change)

    async def _tell(self, record: AuthorityRecord, change: AuthorityChange) -> None:
        await self.outbox.publish(
            CertificateAuthorityChanged(
                name=record.name,
                action=change.action,
                state=record.state,
                reason=change.reason,
                comment=change.comment,
                enrollment_groups=list(change.groups),
            ),
            subject=record.name,
            correlation_id=change.request,
            occasion=change.action,
        )

    async def write_down(self, record: AuthorityRecord) -> None:
        """Have the audit log say of the calls that a CA was made open by that they took effect."""
        await self.requests.took_effect(record.audited)

    # --- another certificate ---

    async def _enter_certificate(self, record: AuthorityRecord, change: AuthorityChange) -> None:
        """Enter a certificate that was signed for a CA into the books, note its end, and tell of it."""
        for certificate, signer in await signers_of(record, self.records):
            if names.serial_text(certificate.serial_number) != change.serial_number:
                continue
            entry = book_entry(record, certificate, signer or issuer_of(certificate)).changed(cause=change.request)
            await self._enter_active(entry)
            await self.expiry.put(
                DueNotice.on(
                    first_warning(certificate.not_valid_after_utc, self.settings.authority_warnings),
                    Notice.EXPIRING,
                    serial_number=entry.serial_number,
                    subject=record.name,
                    not_after=certificate.not_valid_after_utc,
                )
            )
            await self.outbox.publish(
                issued_event(record, certificate, entry.issuer), subject=record.name, correlation_id=change.request
            )

    async def _enter_active(self, entry: CertificateRecord) -> None:
        def entered(present: CertificateRecord) -> CertificateRecord:
            is_awaited = present.state is CertificateState.RESERVED  # else entered before: what came of it since stays
            return present.changed(**_signed(entry)) if is_awaited else present

        await change_certificate(self.certificates, entry.serial_number, entered)

    # --- a revoked CA ---

    async def shut_again(self, record: AuthorityRecord) -> None:
        """Have shut out what a revoked CA lets in after all, for who has revoked it.

        Its devices are left to their request while that goes through them.
        """
        asked = await self._asked(record)
        with acting(asked.actor, asked.comment) if asked else nullcontext():
            shut = (self._shut_groups(record), self._revoke_below(record))
            await _all((*shut, self._revoke_left(record, asked)))

    async def _asked(self, record: AuthorityRecord) -> RequestRecord | None:
        if record.devices_request is None:
            return None
        known = await self.requests.find(Queue.REVOCATION_REQUESTS, record.devices_request)
        return known.record if known else None

    async def _shut_groups(self, record: AuthorityRecord) -> None:
        """Have DPS let nobody in by an entry that the CA is in: whoever has its key could sign for any device.

        Microsoft, "How to disenroll or revoke a device from Azure IoT Hub Device Provisioning Service": a CA is
        disallowed by disabling, or deleting, the enrollment group that has it. One that is about to be enabled was
        asked for before, so it is disabled after that.
        """
        enabled = [each for each in await self.reach.groups_of(record.name) if _is_to_be_enabled(each)]
        wanted = [
            EnrollmentGroupRequest(
                request_id=asked_for(record, each.enrollment_group, each.last_request),
                enrollment_group=each.enrollment_group,
                action=GroupAction.DISABLE,
            )
            for each in enabled
        ]
        await _all(self._ask_again(Queue.ENROLLMENT_GROUP_REQUESTS, each) for each in wanted)

    async def _revoke_devices(self, record: AuthorityRecord, change: AuthorityChange) -> None:
        """Have the devices revoked that have certificates of it, or of a CA below it, by one request for all.

        Those of a CA that is revoked with one above it are asked for by that one's.
        """
        own = devices_request_of(record, change)
        if record.devices_request not in {None, own}:
            return
        wanted = AuthorityRevocation(
            request_id=own, issuer=record.name, reason=_reason(record), per_minute=change.per_minute
        )
        await submit(self.requests, self.outbox, Queue.REVOCATION_REQUESTS, wanted, self.clock)

    async def _revoke_left(self, record: AuthorityRecord, asked: RequestRecord | None) -> None:
        """Have devices revoked that are left when their request has gone through all."""
        if not await self._has_gone_through(record, asked):
            return
        refused = None
        async for entries in pages(partial(self.certificates.page_in_force, record.name, self.clock()), size=_PAGE):
            try:
                await _all(self._revoke_device(record, entry) for entry in entries)
            except Rejected as rejection:  # one device does not keep the others in service
                refused = refused or rejection
        if refused is not None:
            raise refused

    async def _has_gone_through(self, record: AuthorityRecord, asked: RequestRecord | None) -> bool:
        """Tell whether all devices were asked for, and nothing is under way that was, or nobody is at work on it."""
        if record.devices_request is None or record.revoked_at is None:
            return True
        if asked is None:
            return self.clock() - record.revoked_at > _ASKED_BY_THEN
        if asked.state in ENDED or asked.is_set_aside:
            return True
        progress = asked.progress
        if progress is None or not progress.is_dispatched:
            due = progress.next_at if progress else None
            return self.clock() - (due or asked.received_at) > _ASKED_BY_THEN
        return not (await self.requests.count_parts(asked.kind, asked.request_id)).open

    async def _revoke_device(self, record: AuthorityRecord, entry: InForceRecord) -> None:
        """Have a device revoked that uses a certificate of the CA, or the certificate alone if it uses another one."""
        known, certificate = await self.devices.get(entry.subject), await self.certificates.get(entry.serial_number)
        what = falls(known.record, certificate.record) if known is not None and certificate is not None else None
        if what is None:
            return  # it may not be signed yet; the next sweep sees
        wanted = RevocationRequest(
            # Its device may get another CA's certificate before its request is done; that alone is another request.
            request_id=asked_for(record, entry.subject, entry.serial_number, what),
            registration_id=entry.subject if what is Falls.DEVICE else None,
            serial_number=None if what is Falls.DEVICE else entry.serial_number,
            reason=_reason(record),
        )
        await self._ask_again(Queue.REVOCATION_REQUESTS, wanted)

    async def _ask_again(self, queue: Queue, wanted: EnrollmentGroupRequest | RevocationRequest) -> None:
        """Send a request, whether it was sent before or not, for who has revoked the CA."""
        await submit(self.requests, self.outbox, queue, wanted, self.clock, again=True)

    async def _revoke_below(self, record: AuthorityRecord) -> None:
        """Revoke the CAs that it has signed: a chain with a revoked CA in it counts for nothing."""
        below = [each for each in await self.reach.below(record.name) if each.state in OPENED]
        await _all(self._revoke(record, each.name) for each in below if each.state is not AuthorityState.REVOKED)

    async def _revoke(self, above: AuthorityRecord, name: str) -> None:
        request, reason = asked_for(above, name), _reason(above)
        groups = await self.reach.groups_under(name)
        comment = f"{above.name!r} above it was revoked"
        wanted = Wanted(
            request,
            AuthorityAction.REVOKE,
            reason=reason,
            comment=comment,
            groups=groups,
            actor=current_actor(),
            devices_request=above.devices_request,
        )
        try:
            await change_record(self.records, name, lambda present: decided(present, wanted, self.clock()))
        except (Conflict, Deferred):
            return  # another act is being carried out there; the next sweep sees
        # It is decided. The message has it carried out at once, and not by the next sweep.
        act = AuthorityAct(request_id=request, name=name, action=AuthorityAction.REVOKE, reason=reason, comment=comment)
        await submit(self.requests, self.outbox, Queue.ENROLLMENT_GROUP_REQUESTS, act, self.clock)

    # --- its own certificates ---

    async def _leave(self, record: AuthorityRecord, reason: RevocationReason) -> None:
        """Enter a CA's own certificates as revoked, and put them on their issuers' lists.

        A root is on no list: whoever trusts it takes it off their own. The issuer of a CA that was signed elsewhere is
        asked by its owner.
        """
        at, touched = record.since or self.clock(), set[str]()
        for certificate, signer in await signers_of(record, self.records):
            if certificate.not_valid_after_utc < self.clock():
                continue
            await self._enter(record, certificate, signer or issuer_of(certificate), reason=reason, at=at)
            if signer in {None, record.name}:
                continue
            await self.certificates.enter_revocation(
                RevocationRecord(
                    serial_number=names.serial_text(certificate.serial_number),
                    issuer=str(signer),
                    revoked_at=record.revoked_at or at,
                    reason=reason,
                    not_after=certificate.not_valid_after_utc,
                    generation=1,
                )
            )
            touched.add(str(signer))
        for signer in sorted(touched):
            present = await self.records.get(signer)
            if present is not None and present.record.state in OPENED:
                await self.lists.publish(signer)

    async def _enter(
        self,
        record: AuthorityRecord,
        certificate: x509.Certificate,
        signed_by: str,
        *,
        reason: RevocationReason,
        at: datetime,
    ) -> None:
        entry = book_entry(record, certificate, signed_by)
        for _ in range(_ATTEMPTS):
            known = await self.certificates.get(entry.serial_number)
            if known is None:
                # One that was never opened is not in the books; its serial number is not another's.
                _ = await self.certificates.try_add(entry)  # whoever was quicker: it is read again
                continue
            present = known.record
            if present.state is CertificateState.RESERVED and present.subject == record.name:
                _ = await self.certificates.try_replace(known, entry)  # signed, and never opened; it is read again
                continue
            if present.subject != record.name or present.state not in _MADE_REVOCABLE:
                return  # another's, revoked already, or never made
            revoked = present.changed(
                state=CertificateState.REVOKED, revoked_at=record.revoked_at or at, revocation_reason=reason
            )
            if await self.certificates.try_replace(known, revoked) is not None:
                return
        raise Overtaken(f"the certificate of {record.name!r} is being changed by others")


def _is_to_be_enabled(group: GroupRecord) -> bool:
    wanted = group.change.state if group.change is not None else group.state
    return GroupState.ENABLED in {group.state, wanted} and group.state is not GroupState.REQUESTED


def _signed(entry: CertificateRecord) -> dict[str, object]:
    kept = ("state", "issuer", "not_before", "not_after", "thumbprint", "pem")
    return {name: getattr(entry, name) for name in kept}


def _reason(record: AuthorityRecord) -> RevocationReason:
    return record.revocation_reason or RevocationReason.UNSPECIFIED


async def _all(calls: Iterable[Awaitable[None]]) -> None:
    """Do everything, whatever fails, and then raise what failed first."""
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
