"""Brings about what an act wants of a CA: doors are shut, entries are made, places are freed, and then it is told.

The act has changed the CA's row. What is done here can be done by anybody, any number of times. Nothing is opened: so
nothing has a condition, and every door is tried, whatever the others answer.

What a group and a device are to be stands in rows of their own. So their requests are sent, and their own convergers
carry them out. The sweep looks at a revoked CA again until none of its certificates is in force: one that was under way
when the CA was revoked is found then.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.acting import acting
from shared.acting import actor as current_actor
from shared.contracts.authorities import AuthorityAct
from shared.contracts.devices import RevocationRequest
from shared.contracts.groups import EnrollmentGroupRequest, GroupAction
from shared.contracts.messages import Queue
from shared.domain.authorities import OPENED, AuthorityAction, AuthorityState
from shared.domain.authority_acts import Wanted, decided
from shared.domain.certificates import CertificateState, RevocationRecord
from shared.domain.devices import OUT_OF_SERVICE
from shared.domain.expiry import DueNotice, Notice, first_warning
from shared.domain.groups import GroupState
from shared.domain.words import EventType, RevocationReason
from shared.errors import Conflict, Deferred, Overtaken
from shared.pki import names
from shared.workflows.authorities.changes import change as change_record
from shared.workflows.authorities.records import book_entry, issued_event, issuer_of, signers_of
from shared.workflows.intake.requests import submit
from shared.workflows.many import pages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from datetime import datetime

    from cryptography import x509

    from shared.domain.authorities import AuthorityChange, AuthorityRecord
    from shared.domain.certificates import CertificateRecord, InForceRecord
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
            shut = (self.shut(record), self._revoke_unseen(record))
            await _all((*shut, self._leave(record, reason), self.possession.withdraw(record)))
        elif change.serial_number is not None:
            await self._enter_certificate(record, change)
        elif change.action is AuthorityAction.DELETE:
            reason = record.revocation_reason or RevocationReason.CESSATION_OF_OPERATION
            await _all((self._leave(record, reason), self.possession.withdraw(record)))
        await self._tell(record, change)

    async def _tell(self, record: AuthorityRecord, change: AuthorityChange) -> None:
        await self.outbox.publish(
            EventType.CERTIFICATE_AUTHORITY_CHANGED,
            subject=record.name,
            correlation_id=change.request,
            data={
                "name": record.name,
                "action": change.action,
                "state": record.state,
                "reason": change.reason,
                "comment": change.comment,
                "enrollmentGroups": list(change.groups),
            },
            occasion=change.action,
        )

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
                EventType.CERTIFICATE_ISSUED,
                subject=record.name,
                correlation_id=change.request,
                data={
                    **issued_event(record),
                    "issuer": entry.issuer,
                    "serialNumber": entry.serial_number,
                    "thumbprint": entry.thumbprint,
                    "notBefore": entry.not_before,
                    "notAfter": entry.not_after,
                },
            )

    async def _enter_active(self, entry: CertificateRecord) -> None:
        for _ in range(_ATTEMPTS):
            known = await self.certificates.get(entry.serial_number)
            if known is None or known.record.state is not CertificateState.RESERVED:
                return  # entered before; whatever came of it since stays
            if await self.certificates.try_replace(known, known.record.changed(**_signed(entry))) is not None:
                return
        raise Overtaken(f"the certificate of {entry.subject!r} is being changed by others")

    # --- a revoked CA ---

    async def shut(self, record: AuthorityRecord) -> None:
        """Have everything shut out that a revoked CA lets in: its groups, its devices, and the CAs below it."""
        await _all((self._shut_groups(record), self._revoke_devices(record), self._revoke_below(record)))

    async def _shut_groups(self, record: AuthorityRecord) -> None:
        """Have DPS let nobody in by an entry that the CA is in: whoever has its key could sign for any device.

        Microsoft, "How to disenroll or revoke a device from Azure IoT Hub Device Provisioning Service": a CA is
        disallowed by disabling, or deleting, the enrollment group that has it.
        """
        for group in await self.reach.groups_of(record.name):
            if group.state is GroupState.ENABLED:
                wanted = EnrollmentGroupRequest(
                    request_id=_id(record, group.enrollment_group, group.last_request),
                    enrollment_group=group.enrollment_group,
                    action=GroupAction.DISABLE,
                )
                await self.outbox.order(Queue.ENROLLMENT_GROUP_REQUESTS, wanted)

    async def _revoke_devices(self, record: AuthorityRecord) -> None:
        async for entries in pages(partial(self.certificates.page_in_force, record.name, self.clock()), size=_PAGE):
            await _all(self._revoke_device(record, entry) for entry in entries)

    async def _revoke_device(self, record: AuthorityRecord, entry: InForceRecord) -> None:
        """Have a device revoked that uses a certificate of the CA, or the certificate alone if it uses another one."""
        known, certificate = await self.devices.get(entry.subject), await self.certificates.get(entry.serial_number)
        if known is None or certificate is None or certificate.record.state is CertificateState.RESERVED:
            return  # it is not signed yet, or never will be; the next sweep sees
        device = known.record
        if certificate.record.ended or (device.state in OUT_OF_SERVICE and not device.on_hold):
            return
        uses = entry.serial_number in device.in_use
        wanted = RevocationRequest(
            request_id=_id(record, entry.subject, entry.serial_number),
            registration_id=entry.subject if uses else None,
            serial_number=None if uses else entry.serial_number,
            reason=_reason(record),
        )
        await self.outbox.order(Queue.REVOCATION_REQUESTS, wanted)

    async def _revoke_unseen(self, record: AuthorityRecord) -> None:
        """Have the devices of its groups revoked whose certificates nobody knows: they may be of this CA.

        They are in no index, so the groups' devices are read through, when the act is carried out.
        """
        for group in await self.reach.groups_of(record.name):
            async for page in pages(partial(self.devices.page, enrollment_group=group.enrollment_group), size=_PAGE):
                unseen = [each for each in page if each.unseen and (each.on_hold or each.state not in OUT_OF_SERVICE)]
                await _all(
                    self.outbox.order(
                        Queue.REVOCATION_REQUESTS,
                        RevocationRequest(
                            request_id=_id(record, each.registration_id, group.enrollment_group),
                            registration_id=each.registration_id,
                            reason=_reason(record),
                        ),
                    )
                    for each in unseen
                )

    async def _revoke_below(self, record: AuthorityRecord) -> None:
        """Revoke the CAs that it has signed: a chain with a revoked CA in it counts for nothing."""
        for below in await self.reach.below(record.name):
            if below.state in OPENED and below.state is not AuthorityState.REVOKED:
                await self._revoke(record, below.name)

    async def _revoke(self, above: AuthorityRecord, name: str) -> None:
        request, reason = _id(above, name), _reason(above)
        groups = await self.reach.groups_under(name)
        comment = f"{above.name!r} above it was revoked"
        wanted = Wanted(
            request, AuthorityAction.REVOKE, reason=reason, comment=comment, groups=groups, actor=current_actor()
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
                # One that was never opened is not in the books; its serial number is none of another's.
                await self.certificates.try_add(entry)
                continue
            present = known.record
            if present.state is CertificateState.RESERVED and present.subject == record.name:
                await self.certificates.try_replace(known, entry)  # signed, and never opened
                continue
            if present.subject != record.name or present.state not in _MADE_REVOCABLE:
                return  # another's, revoked already, or never made
            revoked = present.changed(
                state=CertificateState.REVOKED, revoked_at=record.revoked_at or at, revocation_reason=reason
            )
            if await self.certificates.try_replace(known, revoked) is not None:
                return
        raise Overtaken(f"the certificate of {record.name!r} is being changed by others")


def _signed(entry: CertificateRecord) -> dict[str, object]:
    kept = ("state", "issuer", "not_before", "not_after", "thumbprint", "pem")
    return {name: getattr(entry, name) for name in kept}


def _reason(record: AuthorityRecord) -> RevocationReason:
    return record.revocation_reason or RevocationReason.UNSPECIFIED


def _id(record: AuthorityRecord, *parts: str) -> str:
    """Name what a CA's revocation asks for: the same however often it is asked."""
    digest = sha256("|".join((record.name, str(record.revoked_at), *parts)).encode()).hexdigest()[:32]
    return f"revoked-ca-{digest}"


async def _all(calls: Iterable[Awaitable[None]]) -> None:
    """Do everything, whatever fails, and then raise what failed first."""
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
