"""What becomes of an error: one place for queues, one for HTTP.

==============  =====================================================================  ==========================
error           queue                                                                  HTTP
==============  =====================================================================  ==========================
``Rejected``    complete the message, record it, emit ``RequestRejected``              400, 401, 404, 409 to 412
``Deferred``    put it back for later, without using up a delivery                     503 with Retry-After
anything else   raise: the host retries, then poison                                   500
==============  =====================================================================  ==========================
"""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import azure.functions as func

from shared import tracing
from shared.adapters.sdk_errors import role_missing
from shared.contracts import Message, Queue, read_message
from shared.errors import (
    Conflict,
    Deferred,
    DeviceFactoryError,
    Gone,
    LengthRequired,
    Misconfigured,
    NotAuthentic,
    NotFound,
    PreconditionFailed,
    Rejected,
)
from shared.workflows.rejections import ReceivedMessage
from triggers.worker import log, services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from shared.services import Services

type Workflow = Callable[[Services, Any, datetime], Awaitable[None]]
"""Carries out the data of a message, with the time at which it was asked for."""

_QUEUE_CLOCK = timedelta(seconds=1)
PROBLEM = "application/problem+json"
"""RFC 9457."""

_STATUS: Mapping[type[Rejected], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    Gone: HTTPStatus.GONE,
    LengthRequired: HTTPStatus.LENGTH_REQUIRED,
    NotAuthentic: HTTPStatus.UNAUTHORIZED,
}


async def settle(queue: Queue, message: func.QueueMessage, carry_out: Workflow) -> None:
    """Carry out a queue message, and see to what becomes of it."""
    received = _received(queue, message)
    with tracing.continued(_trace_of(received.body)):
        try:
            text = _text(received.body)
            said = read_message(text)
            with tracing.continued(said.traceparent or tracing.current()):
                await _attempt(queue, text, received, carry_out, said)
        except Rejected as rejection:
            await _reject(received, rejection)


async def _attempt(
    queue: Queue,
    text: str,
    received: ReceivedMessage,
    carry_out: Workflow,
    said: Message,
) -> None:
    try:
        await carry_out(services(), said.data, asked_at(said, received))
    except Deferred as deferred:
        log.info("%s: put back for %.0f s: %s", queue, deferred.retry_after.total_seconds(), deferred)
        await services().clients.queues.send(queue, text, delay=deferred.retry_after)
    except Rejected as rejection:
        await _reject(received, rejection)
    except Exception as error:
        if role_missing(error):
            log.critical("%s: a role is missing for this app's identity: %s", queue, error)
        else:
            log.error("%s: a try failed: %s: %s", queue, type(error).__name__, error)
        raise


async def _reject(received: ReceivedMessage, rejection: Rejected) -> None:
    identifier = await services().rejected_messages.record(received, rejection)
    log.warning("%s: rejected as %s: %s", received.queue, identifier, rejection)


async def set_aside(queue: Queue, message: func.QueueMessage) -> None:
    """Move a poison message into the rejections ledger, where it can't expire."""
    received = _received(queue, message)
    with tracing.continued(_sent_trace(received.body) or _trace_of(received.body)):
        identifier = await services().rejected_messages.record_poison(received)
        log.error("%s: a message turned poison and is kept as rejection %s", queue, identifier)


def asked_at(said: Message, received: ReceivedMessage) -> datetime:
    """Give the time of a request: when it was put into its queue, which is known to the second, or finer as it says."""
    latest = received.received + _QUEUE_CLOCK
    return min(said.time, latest) if said.time else received.received


def _received(queue: Queue, message: func.QueueMessage) -> ReceivedMessage:
    return ReceivedMessage(
        queue=queue,
        message_id=message.id or "",
        body=decoded(message.get_body()),
        received=message.insertion_time or datetime.now(UTC),
    )


def decoded(body: bytes) -> bytes:
    """Take a message out of base64, or as it is, if it is no base64 or is JSON, such as ``null``, as it stands.

    host.json leaves this to the app, because the host would set a message aside that it can't decode where no function
    ever sees it.
    """
    try:
        content = b64decode(body, validate=True)
    except ValueError:
        return body
    try:
        json.loads(body)
    except ValueError:
        return content
    return body


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Rejected.because(f"the message is no UTF-8 text: {error.reason} at byte {error.start}") from None


def _sent_trace(body: bytes) -> str | None:
    """Give the trace that a message brings along."""
    try:
        return read_message(_text(body))[1]
    except Rejected:
        return None


def _trace_of(body: bytes) -> str:
    """Give a message without a trace one of its own, the same on every delivery."""
    digest = sha256(body).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"


# --- HTTP ---


async def answer(
    request: func.HttpRequest, handler: Callable[[Services, func.HttpRequest], Awaitable[func.HttpResponse]]
) -> func.HttpResponse:
    """Answer an HTTP request, whatever comes of it."""
    with tracing.continued(request.headers.get("traceparent")):
        try:
            _check_arrived(request)
            return await handler(services(), request)
        except Deferred as deferred:
            wait = str(max(1, int(deferred.retry_after.total_seconds())))
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(deferred), headers={"Retry-After": wait})
        except Rejected as rejection:
            return _problem_of(rejection)
        except Misconfigured as error:
            log.critical("%s %s: %s", request.method, request.url.split("?")[0], error)
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except DeviceFactoryError as error:
            return problem(HTTPStatus.BAD_REQUEST, str(error))
        except Exception:  # noqa: BLE001 - the last resort: the caller gets an answer, the log the traceback
            log.exception("%s %s failed", request.method, request.url.split("?")[0])
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


def _problem_of(rejection: Rejected) -> func.HttpResponse:
    status = _STATUS.get(type(rejection), HTTPStatus.BAD_REQUEST)
    return problem(status, str(rejection), errors=rejection.documented())


def problem(
    status: HTTPStatus,
    detail: str,
    *,
    errors: Any = (),
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> func.HttpResponse:
    """Compose a problem document (RFC 9457); ``errors`` names each bad field, ``more`` are members of its own."""
    body: dict[str, Any] = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    if errors:
        body["errors"] = errors
    body |= more or {}
    return func.HttpResponse(json.dumps(body), status_code=status.value, mimetype=PROBLEM, headers=dict(headers or {}))
