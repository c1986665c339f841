"""What becomes of an error: one place for queues, one for HTTP.

==============  =====================================================================  ==============================
error           queue                                                                  HTTP
==============  =====================================================================  ==============================
``Rejected``    complete the message, record it, emit ``RequestRejected``              400 to 404, 409 to 412, 422
``Deferred``    put it back for later, without using up a delivery                     503 with Retry-After, or 429
an outage       the same, ever later, and say so in the log and at the order's line    503 with Retry-After
anything else   raise: the host retries, then poison                                   500
==============  =====================================================================  ==============================
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import azure.functions as func

from shared import tracing
from shared.acting import acting
from shared.adapters.sdk_errors import is_outage, role_missing, service_of, unusable_key, was_not_sent
from shared.contracts.answers import Problem
from shared.contracts.messages import (
    ATTEMPTS_LIMIT,
    Message,
    Queue,
    attempts_of,
    left_behind,
    put_back,
    read_message,
)
from shared.errors import (
    AwaitsOthers,
    Conflict,
    Deferred,
    DeviceFactoryError,
    Forbidden,
    Gone,
    LedgerBehind,
    LengthRequired,
    LogDamaged,
    Misconfigured,
    NotAuthentic,
    NotFound,
    PreconditionFailed,
    Rejected,
    Reused,
    TooManyRequests,
)
from shared.reading.text import text_of
from shared.telemetry.metrics import STATUS
from shared.workflows.intake.deliveries import delivering
from shared.workflows.intake.rejections import WAITS, ReceivedMessage
from triggers import time_limits, whole
from triggers.bodies import decoded, trace_of
from triggers.observed import Outcome, Try, answering, processing
from triggers.openapi import PROBLEM
from triggers.senders import sender_of
from triggers.worker import log, services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from shared.services import Services

type Workflow = Callable[[Services, Any, datetime], Awaitable[None]]
"""Carries out the data of a message, with the time at which it was asked for."""

_QUEUE_CLOCK = timedelta(seconds=1)
_LONG_OUTAGE = 60
"""Tries within the first hour; then they are rarer."""

_UNCOUNTED_DELAY = timedelta(minutes=1)
_PUT_BACKS, _PUT_BACK_PAUSE = 48, 5.0
"""Tries to put a message back into a queue that can't be reached, and seconds between two: four minutes at most.

Raised, it would use up a delivery, and be poison after five, which take less than three minutes. The host keeps its
lease of the message meanwhile, and a function may take ten minutes: see :mod:`triggers.time_limits`.
"""

_READING = frozenset({"GET", "HEAD"})
_OUTAGE_RETRY = "30"  # seconds
_STATUS: Mapping[type[Rejected], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    Gone: HTTPStatus.GONE,
    LengthRequired: HTTPStatus.LENGTH_REQUIRED,
    NotAuthentic: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
}


async def settle(queue: Queue, message: func.QueueMessage, carry_out: Workflow) -> None:
    """Carry out a queue message, and see to what becomes of it."""
    received = received_of(queue, message)
    with tracing.continued(trace_of(received.body)):
        restored = await whole.unfinished(services())
        try:
            text = text_of(received.body, "the message")
            said = read_message(text)
        except Rejected as rejection:
            if restored is not None:  # a refusal is a row as well; the host keeps the message in the poison queue
                raise restored from None
            await reject(received, rejection)
            return
        if restored is not None:
            await _wait_for_restore(text, received, said, restored)
            return
        copy = left_behind(text, queue, asked_at=asked_at(said, received))
        with tracing.continued(said.traceparent or tracing.current()), processing(received, said.data) as trying:
            async with services().in_hand.holding(queue, received.message_id, copy, receipt=message.pop_receipt):
                await _attempt(text, received, carry_out, said, trying)


async def _attempt(
    text: str,
    received: ReceivedMessage,
    carry_out: Workflow,
    said: Message,
    trying: Try,
) -> None:
    queue, asked, attempts = received.queue, asked_at(said, received), attempts_of(text)
    trying.outcome, lost = Outcome.DONE, await whole.lost(services())

    async def wait(delay: timedelta, attempts: int) -> None:
        again = put_back(text, queue, asked_at=asked, attempt=attempts, traceparent=tracing.current())
        if attempts_of(again) != attempts:  # the count does not fit
            delay = max(delay, _UNCOUNTED_DELAY)
        await _put_back(queue, again, delay)

    try:
        try:
            with delivering(received.message_id), acting(sender_of(queue, said, services().settings), said.comment):
                async with time_limits.within(time_limits.MESSAGE, "its work"):
                    await carry_out(services(), said.data, asked)
        except Rejected as rejection:
            await whole.check_refusal(services(), rejection, lost)
            trying.outcome = Outcome.REJECTED
            await reject(received, rejection)
    except Deferred as deferred:
        trying.waits(Outcome.DEFERRED, deferred)
        log.info("%s: put back for %.0f s: %s", queue, deferred.retry_after.total_seconds(), deferred)
        halted = isinstance(deferred, LedgerBehind | LogDamaged)  # until an operator acts, like an outage
        await wait(deferred.retry_after, int(halted))
        await _say_deferred(received, said, deferred)
        if attempts or halted:
            await _show_waiting(received, f"{WAITS[0]}{deferred}" if halted else None)
    except Exception as error:
        if not is_outage(error) or attempts >= ATTEMPTS_LIMIT:
            trying.outcome = Outcome.FAILED
            log.error("%s: a try failed: %s: %s", queue, type(error).__name__, error)
            await _unless_down(services().rejected_messages.note_failure(received, error))
            raise
        missing = Outcome.ROLE_MISSING if role_missing(error) else Outcome.OUTAGE
        trying.waits(missing, error)
        delay = outage_delay(attempts)
        cause, level = _cause_of(error)
        log.log(level, "%s: waits %.0f s, %s: %s", queue, delay.total_seconds(), cause, error)
        await wait(delay, attempts + 1)
        await _say_waiting(received, said, cause, delay)
        await _show_waiting(received, f"{WAITS[0]}{cause}: {' '.join(str(error).split())[:500]}")
    else:
        if attempts:
            await _show_waiting(received, None)


def _cause_of(error: BaseException) -> tuple[str, int]:
    """Say why a message waits, and how loud: what an operator has to mend is cried out."""
    where = service_of(error)
    if role_missing(error):
        return f"a role is missing at {where}", logging.CRITICAL
    if (key := unusable_key(error)) is not None:
        return key, logging.CRITICAL
    return f"{where} fails", logging.WARNING


async def _wait_for_restore(text: str, received: ReceivedMessage, said: Message, restored: LedgerBehind) -> None:
    """Put a message back, and write nothing into the ledger: what a restore finds there is not the archive's."""
    queue, asked = received.queue, asked_at(said, received)
    log.critical("%s: put back for %.0f s: %s", queue, restored.retry_after.total_seconds(), restored)
    again = put_back(text, queue, asked_at=asked, attempt=attempts_of(text), traceparent=said.traceparent)
    await _put_back(queue, again, restored.retry_after)


async def _put_back(queue: Queue, text: str, delay: timedelta) -> None:
    """Put a message back, as soon as its queue can be reached.

    Raises:
        Exception: that was not so for minutes, or nobody knows whether it is there: the host brings it once more.
    """
    async with time_limits.within(time_limits.PUTTING_BACK, "putting it back"):
        for left in reversed(range(_PUT_BACKS)):
            try:
                await services().clients.queues.send(queue, text, delay=delay)
            except Exception as error:
                if not left or not was_not_sent(error):  # what was sent may be there, and would be there twice
                    raise
                await asyncio.sleep(_PUT_BACK_PAUSE)
            else:
                return


def outage_delay(attempts: int) -> timedelta:
    """Tell how long a message waits for a service that is down, by how often it has waited before."""
    if attempts >= _LONG_OUTAGE:
        return timedelta(minutes=5)
    return timedelta(seconds=min(10 << min(attempts, 3), 60))


async def _say_deferred(received: ReceivedMessage, said: Message, deferred: Deferred) -> None:
    """Say of the message's request what it waits for, unless its row says so."""
    if not deferred.is_entered:
        for_others = isinstance(deferred, AwaitsOthers)
        await _say_waiting(received, said, str(deferred), deferred.retry_after, for_others=for_others)


async def _say_waiting(
    received: ReceivedMessage, said: Message, what: str, delay: timedelta, *, for_others: bool = False
) -> None:
    """Say of the message's request what it waits for."""
    at = services().clock() + delay
    following = services().following
    await _unless_down(following.waits(received.queue, said.data, what, next_try=at, for_others=for_others))


async def _show_waiting(received: ReceivedMessage, why: str | None) -> None:
    """Say at an order's line why it waits, or that it does no more."""
    await _unless_down(services().rejected_messages.show_waiting(received, why))


async def _unless_down(saying: Awaitable[None]) -> None:
    """Say what may be said at the next try as well, if a service is down now."""
    try:
        await saying
    except Exception as error:
        if not is_outage(error):
            raise


async def reject(received: ReceivedMessage, rejection: Rejected) -> None:
    """Record that a message was refused, and say so to whoever sent it."""
    identifier = await services().rejected_messages.record(received, rejection)
    log.warning("%s: rejected as %s: %s", received.queue, identifier, rejection)


def asked_at(said: Message, received: ReceivedMessage) -> datetime:
    """Give the time of a request: when it was put into its queue, which is known to the second, or finer as it says."""
    latest = received.received + _QUEUE_CLOCK
    return min(said.time, latest) if said.time else received.received


def received_of(queue: Queue, message: func.QueueMessage) -> ReceivedMessage:
    """Give a message as the host has handed it over."""
    return ReceivedMessage(
        queue=queue,
        message_id=message.id or "",
        body=decoded(message.get_body()),
        received=message.insertion_time or datetime.now(UTC),
    )


# --- HTTP ---


async def answer(
    request: func.HttpRequest,
    handler: Callable[[Services, func.HttpRequest], Awaitable[func.HttpResponse]],
    route: str = "",
) -> func.HttpResponse:
    """Answer an HTTP request, whatever comes of it; ``route`` is that of its function, for the trace."""
    with tracing.continued(request.headers.get("traceparent")), answering(request, route) as running:
        response = await _answer(request, handler, route)
        running.set(STATUS, response.status_code)
    if request.method not in _READING:
        await keep_directory()
    return response


async def settle_and_follow(queue: Queue, message: func.QueueMessage, carry_out: Workflow) -> None:
    """Carry out a queue message, see to what becomes of it, and have the directory of devices follow."""
    with services().directory_upkeep.work():
        await settle(queue, message, carry_out)
    await keep_directory()


async def keep_directory() -> None:
    """Have the directory of devices follow at once; if that can't be, its timer does it."""
    try:
        if await whole.unfinished(services()) is not None:
            return
        async with time_limits.within(time_limits.FOLLOWING, "following"):
            await services().directory_upkeep.follow()
    except Exception as error:  # noqa: BLE001 - what was asked for is done
        log.warning("the directory follows later: %s: %s", type(error).__name__, error)


async def _answer(
    request: func.HttpRequest,
    handler: Callable[[Services, func.HttpRequest], Awaitable[func.HttpResponse]],
    route: str,
) -> func.HttpResponse:
    lost = None
    try:
        _check_arrived(request)
        async with time_limits.within(time_limits.ANSWER, "the answer"):
            if route not in whole.ALWAYS:
                await whole.check(services())
            if request.method not in _READING:
                lost = await whole.lost(services())
            return await handler(services(), request)
    except Deferred as deferred:
        return _problem_of_wait(deferred)
    except Rejected as rejection:
        return await _refusal(request, rejection, lost)
    except Misconfigured as error:
        log.critical("%s %s: %s", request.method, request.url.split("?")[0], error)
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
    except DeviceFactoryError as error:
        return problem(HTTPStatus.BAD_REQUEST, str(error))
    except Exception as error:  # noqa: BLE001 - the last resort: the caller gets an answer, the log the traceback
        log.exception("%s %s failed", request.method, request.url.split("?")[0])
        return _problem_of_failure(error)


async def _refusal(request: func.HttpRequest, rejection: Rejected, lost: str | None) -> func.HttpResponse:
    if isinstance(rejection, NotFound | Conflict) and request.method not in _READING:
        try:
            await whole.check_refusal(services(), rejection, lost)
        except LedgerBehind as behind:
            return _problem_of_wait(behind)
    return _problem_of(rejection, has_key=bool(request.headers.get("Idempotency-Key")))


def _problem_of_wait(deferred: Deferred) -> func.HttpResponse:
    wait = str(max(1, int(deferred.retry_after.total_seconds())))
    is_many = isinstance(deferred, TooManyRequests)
    status = HTTPStatus.TOO_MANY_REQUESTS if is_many else HTTPStatus.SERVICE_UNAVAILABLE
    return problem(status, str(deferred), headers={"Retry-After": wait})


def _problem_of_failure(error: Exception) -> func.HttpResponse:
    """Say whether it is worth coming again, and nothing of the cause, which is the operator's to know."""
    if is_outage(error):
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "a service that this needs fails, or does not let this app in, which is not the request's fault; the log "
            f"has it under {tracing.current()}. Send the request again later",
            headers={"Retry-After": _OUTAGE_RETRY},
        )
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        f"something failed that is not the request's fault; the log has it under {tracing.current()}",
    )


def _check_arrived(request: func.HttpRequest) -> None:
    """Refuse a request whose body the host kept: without it, it would be carried out as if nothing had been asked for.

    The Functions host hands a body on only if Content-Length is there and above zero (ToRpcHttp in
    GrpcMessageConversionExtensions.cs of Azure/azure-functions-host), and RFC 9112 section 6.1 has Transfer-Encoding
    take its place.
    """
    if "transfer-encoding" in request.headers and not request.get_body():
        raise LengthRequired.because(
            "the body did not arrive, because it was sent with Transfer-Encoding: chunked; send it with Content-Length "
            "(in .NET: StringContent, or LoadIntoBufferAsync before it is posted)"
        )


def _problem_of(rejection: Rejected, *, has_key: bool) -> func.HttpResponse:
    status = _STATUS.get(type(rejection), HTTPStatus.BAD_REQUEST)
    if isinstance(rejection, Reused):
        status = HTTPStatus.UNPROCESSABLE_ENTITY if has_key else HTTPStatus.CONFLICT
    return problem(status, str(rejection), errors=rejection.documented())


def problem(
    status: HTTPStatus,
    detail: str,
    *,
    errors: Any = (),
    headers: Mapping[str, str] | None = None,
) -> func.HttpResponse:
    """Compose a problem document (RFC 9457); ``errors`` names each bad field."""
    body: dict[str, Any] = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    if errors:
        body["errors"] = errors
    text = json.dumps(Problem.model_validate(body).model_dump(mode="json", by_alias=True, exclude_unset=True))
    return func.HttpResponse(text, status_code=status.value, mimetype=PROBLEM, headers=dict(headers or {}))
