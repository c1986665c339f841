"""Writes down who did or tried what: ahead of the deed, and what came of it."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shared import acting
from shared.contracts.authorities import AuthorityAct
from shared.contracts.devices import AuthorityRevocation
from shared.contracts.messages import Queue
from shared.contracts.orders import OrderAct
from shared.domain.audit_entries import REASON_LIMIT, AuditedAct, AuditEntry, AuditOutcome, SubjectKind
from shared.domain.callers import Actor, CallerKind
from shared.domain.words import CertificateKind
from shared.errors import AwaitsApproval, Rejected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from datetime import datetime

    from shared.domain.requests import RequestRecord
    from shared.ledger.audit_log import AuditFilters
    from shared.workflows.intake.outbox import Clock

APP = Actor(kind=CallerKind.TIMER, id="device-identity-factory")
"""The app itself, where nobody asked."""

LIMIT = "limit"
"""What is done where requests are counted, and not written down one by one."""

REVOKE_DEVICES = "revokeDevices"
"""What the revocation of a CA asks for: the CA itself is revoked by an act before it."""


class AuditLog(Protocol):
    """Where entries go."""

    async def append(self, entry: AuditEntry) -> None:
        """Add an entry, or what came of one that was begun; repeated, it adds nothing."""
        ...

    async def find(self, act: AuditedAct) -> AuditEntry | None:
        """Find the entry of an act, as it was begun."""
        ...

    async def page(
        self, filters: AuditFilters, *, size: int, continuation: str | None
    ) -> tuple[Sequence[AuditEntry], str | None]:
        """List one page, the latest first, and the continuation of the next."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is done to what.

    Attributes:
        action: as in ``revoke``.
        kind: of what it is done to.
        subject: its id.
        group: that it belongs to, where that is known.
        reason: for which it is asked.
    """

    action: str
    kind: SubjectKind
    subject: str
    group: str | None = None
    reason: str | None = None


class Audit:
    """Writes entries.

    Args:
        log: where they go.
        clock: gives the present time.
        devices: finds the enrollment group of a device.
        authorities: finds that of a CA.
        approvals: finds that of an approval.
    """

    def __init__(
        self,
        *,
        log: AuditLog,
        clock: Clock,
        devices: Callable[[str], Awaitable[str | None]],
        authorities: Callable[[str], Awaitable[str | None]],
        approvals: Callable[[str], Awaitable[str | None]] | None = None,
    ) -> None:
        self.log, self._clock = log, clock
        self._groups = {SubjectKind.DEVICE: devices, SubjectKind.AUTHORITY: authorities}
        if approvals is not None:
            self._groups[SubjectKind.APPROVAL] = approvals

    @asynccontextmanager
    async def carried_out(self, act: Act, *, request_id: str | None = None) -> AsyncIterator[None]:
        """Write down an act that somebody waits for, around it; each time it is asked for, it is an act of its own."""
        entry = await self._entry(act, uuid.uuid4().hex, self._clock(), request_id)
        async with self._around(entry):
            yield

    async def begun(self, known: RequestRecord, request: Any) -> None:
        """Write down what a request asks for; repeated, it adds nothing."""
        await self.log.append(await self._of_request(known, request))

    async def ended(self, known: RequestRecord, request: Any, refusal: Rejected | None) -> None:
        """Write down that it was carried out, or why it was refused; repeated, it adds nothing."""
        entry = await self._of_request(known, request)
        if refusal is None:
            await self.log.append(entry.changed(outcome=AuditOutcome.DONE))
        else:
            await self.log.append(_ended(entry, AuditOutcome.REFUSED, str(refusal)))

    async def given_up(self, known: RequestRecord, why: str) -> None:
        """Write down that a request will not be carried out: its message was set aside and closed, or got lost."""
        await self.log.append(_ended(_of_row(known), AuditOutcome.REFUSED, why))

    async def brought_about(self, known: RequestRecord) -> None:
        """Write down that a request was carried out, whose worker was killed when that was decided."""
        await self.log.append(_of_row(known).changed(outcome=AuditOutcome.DONE))

    async def took_effect(self, act: AuditedAct) -> None:
        """Write down that an act took effect, whatever its caller was told; repeated, it adds nothing."""
        await took_effect(self.log, act)

    async def _of_request(self, known: RequestRecord, request: Any) -> AuditEntry:
        act = act_of(Queue(known.kind), request)
        return await self._entry(act, _name(known), known.received_at, known.request_id)

    async def ordered(self, order_id: str, group: str, at: datetime) -> None:
        """Write down that an order was taken in."""
        act = Act(action="order", kind=SubjectKind.ORDER, subject=order_id, group=group)
        entry = await self._entry(act, f"{Queue.DEVICE_ORDERS}|{order_id}", at, order_id)
        await self.log.append(entry.changed(outcome=AuditOutcome.DONE))

    async def denied(self, act: Act) -> None:
        """Write down a try that was denied, for the reason of the act."""
        entry = await self._entry(act, uuid.uuid4().hex, self._clock(), None)
        await self.log.append(entry.changed(outcome=AuditOutcome.DENIED))

    async def counting(self, what: str, why: str) -> AuditEntry:
        """Write down that tries are counted from now on, and not written down one by one."""
        entry = await self._entry(
            Act(action=LIMIT, kind=SubjectKind.OPERATION, subject=what, reason=why),
            uuid.uuid4().hex,
            self._clock(),
            None,
        )
        await self.log.append(entry)
        return entry

    async def counted(self, entry: AuditEntry, why: str) -> None:
        """Write down how many that were."""
        await self.log.append(_ended(entry, AuditOutcome.DENIED, why))

    @asynccontextmanager
    async def _around(self, entry: AuditEntry) -> AsyncIterator[None]:
        await self.log.append(entry)
        try:
            with acting.auditing(AuditedAct(entry_id=entry.entry_id, at=entry.at)):
                yield
        except (Rejected, AwaitsApproval) as rejection:
            await self.log.append(_ended(entry, AuditOutcome.REFUSED, str(rejection)))
            raise
        except Exception as error:
            with suppress(Exception):
                await self.log.append(_ended(entry, AuditOutcome.FAILED, type(error).__name__))
            raise
        await self.log.append(entry.changed(outcome=AuditOutcome.DONE))

    async def _entry(self, act: Act, name: str, at: datetime, request_id: str | None) -> AuditEntry:
        group = act.group
        if group is None and act.kind in self._groups:
            group = await self._groups[act.kind](act.subject)
        actor, comment = acting.actor() or APP, acting.comment()
        return AuditEntry(
            entry_id=name,
            at=at,
            actor=actor,
            action=act.action,
            subject_kind=act.kind,
            subject=act.subject,
            outcome=AuditOutcome.BEGUN,
            enrollment_group=group,
            request_id=request_id or actor.request_id,
            reason=act.reason[:REASON_LIMIT] if act.reason else None,
            comment=comment[:REASON_LIMIT] if comment else None,
        )


async def took_effect(log: AuditLog, act: AuditedAct) -> None:
    """Write down that an act took effect, whatever its caller was told; repeated, it adds nothing."""
    entry = await log.find(act)
    if entry is not None:
        await log.append(entry.changed(outcome=AuditOutcome.DONE))


def _name(known: RequestRecord) -> str:
    # A request that was refused, and is sent again, is another one under the same id.
    return f"{known.key}|{known.nonce[:8]}"


def _of_row(known: RequestRecord) -> AuditEntry:
    """Give an entry of which no more than the request's row is known; what is there of it stays as it is."""
    return AuditEntry(
        entry_id=_name(known),
        at=known.received_at,
        actor=known.actor or APP,
        action=known.kind,
        subject_kind=SubjectKind.REQUEST,
        subject=known.request_id,
        outcome=AuditOutcome.BEGUN,
        request_id=known.request_id,
    )


def _ended(entry: AuditEntry, outcome: AuditOutcome, why: str) -> AuditEntry:
    return entry.changed(outcome=outcome, reason=why[:REASON_LIMIT])


def act_of(kind: Queue, request: Any) -> Act:
    """Say what a request of a queue does to what."""
    if isinstance(request, OrderAct):
        return Act(action=request.action.value, kind=SubjectKind.ORDER, subject=request.order_id)
    if kind is Queue.ENROLLMENT_GROUP_REQUESTS:
        return _act_of_group(request)
    if kind is Queue.CERTIFICATE_REQUESTS:
        return _act_of_certificate(request)
    if isinstance(request, AuthorityRevocation):
        return Act(
            action=REVOKE_DEVICES,
            kind=SubjectKind.AUTHORITY,
            subject=request.issuer,
            reason=request.reason.value,
        )
    revokes = kind is Queue.REVOCATION_REQUESTS
    action = request.action.value if revokes else "renew"
    reason = request.reason.value if action == "revoke" else None
    kind_of, subject = _subject_of(request)
    group = subject if kind_of is SubjectKind.GROUP else None
    return Act(action=action, kind=kind_of, subject=subject, group=group, reason=reason)


def _subject_of(request: Any) -> tuple[SubjectKind, str]:
    """Say what is revoked or renewed; devices that are named one by one have entries of their own beside the whole."""
    named = {
        SubjectKind.DEVICE: getattr(request, "registration_id", None),
        SubjectKind.GROUP: getattr(request, "enrollment_group", None),
        SubjectKind.ORDER: getattr(request, "order_id", None),
        SubjectKind.CERTIFICATE: getattr(request, "serial_number", None),
    }
    found = next(((kind, subject) for kind, subject in named.items() if subject is not None), None)
    return found or (SubjectKind.REQUEST, request.request_id)


def _act_of_group(request: Any) -> Act:
    if isinstance(request, AuthorityAct):
        return Act(action=request.action.value, kind=SubjectKind.AUTHORITY, subject=request.name, reason=request.reason)
    return Act(
        action=request.action.value,
        kind=SubjectKind.GROUP,
        subject=request.enrollment_group,
        group=request.enrollment_group,
    )


def _act_of_certificate(request: Any) -> Act:
    if request.kind is CertificateKind.DEVICE:
        return Act(action="issue", kind=SubjectKind.DEVICE, subject=request.name.lower())
    if request.kind is CertificateKind.VERIFICATION:
        return Act(action="prove", kind=SubjectKind.AUTHORITY, subject=request.issuer)
    return Act(action="create", kind=SubjectKind.AUTHORITY, subject=request.name)
