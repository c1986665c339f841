"""Carries out a request once, however often its message is delivered, and by however many at once.

The queue takes a request's id, or finds it taken by the same request (see :mod:`shared.workflows.intake.requests`)::

    async with once(requests, Queue.REVOCATION_REQUESTS, request, clock) as to_do:
        for device in group:
            part = part_for(to_do, device.registration_id)
            await outbox.send(queue, MemberRevocation(request_id=request.request_id, ..., part=part.token))

    # and when that message comes:
    part = Part(message.registration_id, message.part)
    async with once(requests, Queue.REVOCATION_REQUESTS, message, clock, part=part) as to_do:
        ...

A request that waits is looked at again and again, for weeks where it waits for its device. So a look is cheap: its row
is read once, written when the look begins, and once more when it ends.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING

from shared import acting
from shared.domain.request_deliveries import has_left_it, left, put_off, refused_by, taken_up
from shared.domain.requests import ENDED, RequestRecord, RequestState, approved, awaits_approval, done, waits
from shared.errors import AwaitsApproval, AwaitsOthers, Deferred, LedgerBehind, Reason, Rejected, UnderWay
from shared.workflows.intake.queue_purposes import check_purpose
from shared.workflows.intake.requests import check_part, check_same, record_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime

    from shared.contracts.messages import Queue
    from shared.ledger.requests import Requests
    from shared.ledger.table import Versioned
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.intake.requests import Part, Request

_MESSAGE: ContextVar[str | None] = ContextVar("message", default=None)
_ANOTHER_ENDS = timedelta(seconds=30)


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
        LedgerBehind: it was refused by an older ledger.
    """
    actor, comment = acting.actor(), acting.comment()
    if part is not None:
        whole = await check_part(requests, kind, request, part)
        actor, comment = whole.actor, whole.comment
    with acting.acting(actor, comment):
        record = record_of(kind, request, asked_at or clock(), part)
    delivery, lost = record.nonce, await _lost(requests)
    begun_as = await _begin(requests, taken_up(delivery, clock(), _MESSAGE.get())(record), request, clock)
    known = begun_as.record
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
            await _check_counts(requests, rejection, lost)
            if await _is_refused(requests, delivery, begun_as, rejection, clock()):
                await _ended(requests, known, request, rejection)
                raise
        else:
            await _ended(requests, known, request)
            await requests.enter(begun_as, done(clock()))
    except Rejected:
        raise
    except Deferred as deferred:
        await _put_off(requests, begun_as, delivery, deferred, clock())
        raise
    except Exception:
        await _leave(requests, begun_as, delivery)
        raise


async def _lost(requests: Requests) -> str | None:
    """Tell what of the ledger is lost; ``None`` if nothing is known to be."""
    with suppress(Exception):  # a vault that does not answer says nothing of the ledger
        return await requests.lost() if requests.lost is not None else None
    return None


async def _check_counts(requests: Requests, rejection: Rejected, before: str | None) -> None:
    """See that a refusal counts: what an older ledger does not know may be there, and may have been taken back since.

    Raises:
        LedgerBehind: it does not count.
    """
    fault = before or await _lost(requests)
    if fault is not None:
        raise LedgerBehind.of_refusal(fault, rejection)


async def _begun(requests: Requests, known: RequestRecord, request: Request) -> None:
    """Have it written down that a request is being carried out, before anything is."""
    has_begun = known.wait is not None and known.wait.for_others  # what came before told so, and this is ahead of it
    if not has_begun:
        await requests.begun(known, request)


async def _allowed(requests: Requests, known: RequestRecord, request: Request, clock: Clock) -> RequestRecord:
    """See that a request may come the way it came, and needs no second person, or that one has approved it.

    What they did, the ledger says.
    """
    check_purpose(request, known.actor)
    try:
        await requests.check_allowed(known, request)
    except AwaitsApproval as awaited:
        await requests.enter(known, awaits_approval(str(awaited), awaited.approval_id, clock()))
        raise
    if known.state is RequestState.AWAITING_APPROVAL:
        entered = await requests.enter(known, approved)
        return entered.record if entered is not None else known
    return known


async def _ended(requests: Requests, known: RequestRecord, request: Request, refusal: Rejected | None = None) -> None:
    """Have it written down what came of it."""
    with acting.acting(known.actor, known.comment):
        await requests.came_to_end(known, request, refusal)


async def _begin(requests: Requests, record: RequestRecord, request: Request, clock: Clock) -> Versioned[RequestRecord]:
    """Enter that a delivery begins, unless the request is done, or its message was refused."""
    known: RequestRecord | Versioned[RequestRecord] = record
    try:
        while True:
            # A part gets its row from its first delivery, and all others from who has asked for them, or once for all.
            known = await requests.claim(record, message=_MESSAGE.get(), is_expected=record.member is None)
            check_same(known.record, request)
            if known.record.state in ENDED or known.record.nonce == record.nonce:
                return known
            begun_as = await requests.enter(known, taken_up(record.nonce, clock(), _MESSAGE.get()))
            if begun_as is not None and begun_as.record.state is not RequestState.REJECTED:
                return begun_as
    except Rejected:
        raise
    except Exception:  # it may have been entered, and the answer got lost
        await _leave(requests, known, record.nonce)
        raise


async def _leave(requests: Requests, known: RequestRecord | Versioned[RequestRecord], delivery: str) -> None:
    """Enter that a delivery has ended by an error, which is what counts; if that fails, it is taken for dead."""
    with suppress(Exception):
        await requests.enter(known, left(delivery))


async def _put_off(
    requests: Requests, known: Versioned[RequestRecord], delivery: str, deferred: Deferred, now: datetime
) -> None:
    """Enter that a delivery has ended, and what the request waits for.

    One that waits for a second person says so already, and one that goes on by messages of its own does not wait.
    """
    if isinstance(deferred, AwaitsApproval | UnderWay):
        deferred.is_entered = True
        await _leave(requests, known, delivery)
        return
    wait = waits(
        str(deferred),
        at=now,
        next_try=now + deferred.retry_after,
        for_others=isinstance(deferred, AwaitsOthers),
    )
    with suppress(Exception):
        await requests.enter(known, put_off(delivery, wait))
        deferred.is_entered = True


async def _is_refused(
    requests: Requests, delivery: str, begun_as: Versioned[RequestRecord], rejection: Rejected, now: datetime
) -> bool:
    """Enter a refusal, and tell whether it counts; it does not if the request was carried out, or still may be.

    Raises:
        Deferred: a delivery that began before is at work, or died less than ten minutes ago.
    """
    known = begun_as.record
    entered = await requests.enter(begun_as, refused_by(delivery, known, now, rejection.documented(), _MESSAGE.get()))
    if entered is None or entered.record.state is RequestState.REJECTED:
        return True
    if entered.record.state is RequestState.DONE or has_left_it(known, entered.record, _MESSAGE.get()):
        return False
    raise Deferred(
        f"another delivery of request {known.request_id!r} is at work; this one would be refused: {rejection}",
        retry_after=_ANOTHER_ENDS,
    )
