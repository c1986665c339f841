"""Recognises a request that comes again, by HTTP or by its queue.

An id belongs to one kind of request, and is taken by what was accepted: a request that is refused leaves it free. HTTP
takes it ahead of the queue (:func:`submit`), so that a conflict is said at once. The queue takes it, or finds it taken
by the same request (:func:`once`).

What a request about a group asks for each member of it goes by messages of its own. Such a part carries the id of its
request, and a token that only this request can make (:func:`part_for`). It is recorded where no id from outside leads,
so nobody can take its place beforehand::

    async with once(requests, Queue.REVOCATION_REQUESTS, request, clock) as to_do:
        for device in group:
            part = part_for(to_do, device.registration_id)
            await outbox.order(queue, MemberRevocation(request_id=request.request_id, ..., part=part.token))

    # and when that message comes:
    part = Part(message.registration_id, message.part)
    async with once(requests, Queue.REVOCATION_REQUESTS, message, clock, part=part) as to_do:
        ...
"""

from __future__ import annotations

import hmac
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from shared import acting
from shared.contracts.authorities import AuthorityAct
from shared.contracts.devices import IssuerRevocation
from shared.contracts.messages import Queue
from shared.domain.request_deliveries import has_left_it, left, refused_by, taken_up
from shared.domain.requests import (
    ENDED,
    RequestRecord,
    RequestState,
    approved,
    awaits_approval,
    done,
    queued,
    rejected,
)
from shared.domain.words import CertificateKind
from shared.errors import AwaitsApproval, Deferred, NotAuthentic, Reason, Rejected, Reused
from shared.workflows.intake.queue_purposes import check_purpose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime

    from shared.domain.callers import Actor
    from shared.ledger.requests import Requests
    from shared.workflows.intake.outbox import Clock, Outbox


_MESSAGE: ContextVar[str | None] = ContextVar("message", default=None)
_ANOTHER_ENDS = timedelta(seconds=30)


class Request(Protocol):
    """A body of the contract that has an id."""

    @property
    def request_id(self) -> str:
        """Its id, or that of the request that it is a part of."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for equal content; see :class:`shared.contracts.base.Contract`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a request about a group asks for one member of it.

    Attributes:
        member: the member's id.
        token: made by :func:`part_for`; 64 hexadecimal digits.
    """

    member: str
    token: str


def part_for(request: RequestRecord, member: str) -> Part:
    """Make the part of a request for one member; the same one however often the request is carried out.

    Args:
        request: as :func:`once` gave it.
        member: the member's id.
    """
    return Part(member=member, token=hmac.new(request.nonce.encode(), member.encode(), sha256).hexdigest())


def led_to_by(request: RequestRecord, prefix: str, about: str) -> str:
    """Name a request that another one leads to: the same however often it is asked for, so it is done once.

    Nobody can tell the name beforehand, so nobody can have used it for something else.

    Args:
        request: the other one, as :func:`once` gave it.
        prefix: what leads to it, as in ``renewed-ca``; a hyphen and 32 hexadecimal digits follow.
        about: what tells it from others of the same request.
    """
    return f"{prefix}-{part_for(request, about).token[:32]}"


@contextmanager
def delivering(message_id: str) -> Iterator[None]:
    """Say by which message the requests inside come. One that was refused stays so; another one may fare better."""
    before = _MESSAGE.set(message_id or None)
    try:
        yield
    finally:
        _MESSAGE.reset(before)


@asynccontextmanager
async def once(
    requests: Requests,
    kind: Queue,
    request: Request,
    clock: Clock,
    *,
    asked_at: datetime | None = None,
    part: Part | None = None,
) -> AsyncIterator[RequestRecord | None]:
    """Run the body for a request, and remember that it was carried out.

    Gives the request's record when the work is still to be done: the first time, or after an attempt that broke off;
    otherwise ``None``. If the body raises ``Rejected``, the id is free again.

    Raised is also what its message was refused for before, if that one is delivered again (:func:`delivering`).

    A request is refused only if no other delivery of it may carry it out: it could have been judged a moment later,
    when it can be done. Who meets a delivery that began later leaves the verdict to that one, whose message is there
    until it gives one. Who meets one that began before, or one of the same message, waits until that has ended.

    Args:
        requests: all requests.
        kind: the queue that it came by.
        request: its content, with its id.
        clock: gives the present time.
        asked_at: when it was asked for; without it, now. Of several deliveries the first one counts.
        part: set if it is the part of a request about a group.

    Raises:
        Conflict: the id was used before, with other content; or a second person has refused it, or none has approved it
            in time.
        NotAuthentic: the part was not made by the request whose id it carries.
        Forbidden: its queue is not for it.
        AwaitsApproval: a second person has to approve it first.
        Deferred: the body was refused, and another delivery is at work.
    """
    actor, comment = acting.actor(), acting.comment()
    if part is not None:
        whole = await _check_part(requests, kind, request, part)
        actor, comment = whole.actor, whole.comment
    with acting.acting(actor, comment):
        record = _record(kind, request, asked_at or clock(), part)
    delivery = record.nonce
    known = await _begin(requests, taken_up(delivery, clock(), _MESSAGE.get())(record), request, clock)
    if known.state is RequestState.DONE:
        await requests.note(known)  # who carried it out may have died before
        yield None
        return
    if known.state is RequestState.REJECTED:
        refusal = Rejected(*(Reason(each["field"], each["message"]) for each in known.reasons or ()))
        await _ended(requests, known, request, refusal)
        raise refusal
    try:
        try:
            # Who asked is known from the row: what the message says of it, anybody could have written.
            with acting.acting(known.actor, known.comment):
                await _begun(requests, known, request)
                yield known if part is not None else await _allowed(requests, known, request, clock)
        except Rejected as rejection:
            if await _is_refused(requests, delivery, known, rejection, clock()):
                await _ended(requests, known, request, rejection)
                raise
        else:
            await _ended(requests, known, request)
            await requests.enter(known, done(clock()))
    except Rejected:
        raise
    except Exception:
        await _leave(requests, known, delivery)
        raise


async def _begun(requests: Requests, known: RequestRecord, request: Request) -> None:
    """Have it written down that a request is being carried out, before anything is."""
    if requests.trail is not None:
        await requests.trail.begun(known, request)


async def _allowed(requests: Requests, known: RequestRecord, request: Request, clock: Clock) -> RequestRecord:
    """See that a request may come the way it came, and needs no second person, or that one has approved it.

    What they did, the ledger says.
    """
    check_purpose(request, known.actor)
    if requests.gate is None:
        return known
    try:
        await requests.gate.check(known, request)
    except AwaitsApproval as awaited:
        await requests.enter(known, awaits_approval(str(awaited), awaited.approval_id, clock()))
        raise
    if known.state is RequestState.AWAITING_APPROVAL:
        return await requests.enter(known, approved) or known
    return known


async def _ended(requests: Requests, known: RequestRecord, request: Request, refusal: Rejected | None = None) -> None:
    """Have it written down what came of it."""
    if requests.trail is not None:
        with acting.acting(known.actor, known.comment):
            await requests.trail.ended(known, request, refusal)


async def _begin(requests: Requests, record: RequestRecord, request: Request, clock: Clock) -> RequestRecord:
    """Enter that a delivery begins, unless the request is done, or its message was refused."""
    known = record
    try:
        while True:
            known = (await requests.claim(record, message=_MESSAGE.get())).record
            _check_same(known, request)
            if known.state in ENDED or known.nonce == record.nonce:
                return known
            begun_as = await requests.enter(known, taken_up(record.nonce, clock(), _MESSAGE.get()))
            if begun_as is not None and begun_as.state is not RequestState.REJECTED:
                return begun_as
    except Rejected:
        raise
    except Exception:  # it may have been entered, and the answer got lost
        await _leave(requests, known, record.nonce)
        raise


async def _leave(requests: Requests, known: RequestRecord, delivery: str) -> None:
    """Enter that a delivery has ended by an error, which is what counts; if that fails, it is taken for dead."""
    with suppress(Exception):
        await requests.enter(known, left(delivery))


async def _is_refused(
    requests: Requests, delivery: str, known: RequestRecord, rejection: Rejected, now: datetime
) -> bool:
    """Enter a refusal, and tell whether it counts; it does not if the request was carried out, or still may be.

    Raises:
        Deferred: a delivery that began before is at work, or died less than ten minutes ago.
    """
    after = await requests.enter(known, refused_by(delivery, known, now, rejection.documented(), _MESSAGE.get()))
    if after is None or after.state is RequestState.REJECTED:
        return True
    if after.state is RequestState.DONE or has_left_it(known, after, _MESSAGE.get()):
        return False
    raise Deferred(
        f"another delivery of request {known.request_id!r} is at work; this one would be refused: {rejection}",
        retry_after=_ANOTHER_ENDS,
    )


async def submit(
    requests: Requests,
    outbox: Outbox,
    kind: Queue,
    request: Any,
    clock: Clock,
    *,
    delay: timedelta | None = None,
    whole: str | None = None,
    again: bool = False,
) -> None:
    """Accept a request that came over HTTP, or is the app's own: take its id and put it into its queue, once.

    Args:
        requests: all requests.
        outbox: sends it.
        kind: its queue.
        request: a :class:`shared.contracts.base.Contract` with a ``request_id``.
        clock: gives the present time.
        delay: how long it stays in its queue at least.
        whole: id of the request about a group that it is a part of.
        again: whether it is sent though it was sent before, unless it is done: whoever asks sees that it is not.

    Raises:
        Conflict: the id was used before, with other content.
        Rejected: it is too large for a queue.
    """
    wanted = _record(kind, request, clock(), state=RequestState.QUEUED, whole=whole)
    known = (await requests.claim(wanted)).record
    _check_same(known, request)
    was_sent = known.queued_at is not None or known.state is not RequestState.QUEUED
    if known.state is RequestState.DONE or (was_sent and not again):
        return
    try:
        await outbox.order(kind, request, delay=delay)
    except Rejected as rejection:
        await requests.enter(known, rejected(clock(), rejection.documented()))
        raise
    await requests.enter(known, queued(clock()))


async def is_repeated(requests: Requests, kind: Queue, request: Request) -> bool:
    """Tell whether a request was accepted before.

    Raises:
        Conflict: the id was used before, with other content.
    """
    known = await requests.get(kind, request.request_id)
    if known is not None:
        _check_same(known.record, request)
    return known is not None


def _record(
    kind: Queue,
    request: Request,
    at: datetime,
    part: Part | None = None,
    *,
    state: RequestState = RequestState.RUNNING,
    whole: str | None = None,
) -> RequestRecord:
    return RequestRecord(
        state=state,
        kind=kind.value,
        request_id=request.request_id,
        member=part.member if part else None,
        whole=request.request_id if part else whole,
        fingerprint=request.fingerprint,
        received_at=at,
        about=about(kind, request) if part is None else None,
        actor=asked_by(request.request_id),
        comment=acting.comment(),
    )


def asked_by(request_id: str) -> Actor | None:
    """Give who asks for the work under way, by a request of some id."""
    actor = acting.actor()
    return actor.changed(request_id=request_id) if actor else None


def about(kind: Queue, request: Any) -> str | None:
    """Give the path of what a request is about, where its outcome is to be seen."""
    if kind is Queue.DEVICE_ORDERS:
        return f"/api/device-orders/{request.order_id}"
    if isinstance(request, AuthorityAct | IssuerRevocation):
        name = request.name if isinstance(request, AuthorityAct) else request.issuer
        return f"/api/certificate-authorities/{name}"
    if kind is Queue.ENROLLMENT_GROUP_REQUESTS:
        return f"/api/enrollment-groups/{request.enrollment_group}"
    if kind is Queue.CERTIFICATE_REQUESTS and request.kind is not CertificateKind.DEVICE:
        verifies = request.kind is CertificateKind.VERIFICATION
        return f"/api/certificate-authorities/{request.issuer if verifies else request.name}"
    device = request.name if kind is Queue.CERTIFICATE_REQUESTS else getattr(request, "registration_id", None)
    order, group = getattr(request, "order_id", None), getattr(request, "enrollment_group", None)
    if device is not None or order is not None:
        return f"/api/devices/{device.lower()}" if device is not None else f"/api/device-orders/{order}"
    return f"/api/enrollment-groups/{group}" if group else None


async def part_of(requests: Requests, kind: Queue, request: Request, part: Part, at: datetime) -> RequestRecord:
    """Find the row of a part, which gets one if its message never got as far.

    Raises:
        NotAuthentic: the part was not made by the request whose id it carries.
    """
    await _check_part(requests, kind, request, part)
    known = await requests.find(kind, request.request_id, part.member)
    return (known or await requests.claim(_record(kind, request, at, part))).record


async def _check_part(requests: Requests, kind: Queue, request: Request, part: Part) -> RequestRecord:
    whole = await requests.get(kind, request.request_id)
    if whole is None or not hmac.compare_digest(part_for(whole.record, part.member).token, part.token):
        raise NotAuthentic.because(
            f"this is not a part of request {request.request_id!r}; only the service makes parts: leave 'part' out",
            field="part",
        )
    return whole.record


def _check_same(known: RequestRecord, request: Request) -> None:
    if known.fingerprint != request.fingerprint:
        raise Reused.because(
            f"{known.request_id!r} was used on {known.received_at:%Y-%m-%d} with other content; a new request needs a "
            "new id",
            field="requestId",
        )
