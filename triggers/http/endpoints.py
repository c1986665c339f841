"""What every HTTP function has: its registration, and the shapes of requests and answers."""

from __future__ import annotations

import json
import re
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func
from pydantic import Field

from shared import tracing
from shared.acting import acting
from shared.contracts.answers import Accepted
from shared.contracts.base import Contract
from shared.contracts.devices import Saying
from shared.contracts.ids import path_value
from shared.contracts.messages import COMMENT_LIMIT, MESSAGE_LIMIT, Queue
from shared.contracts.parsing import decoded, parse
from shared.errors import NotAuthentic, Reason, Rejected
from shared.reading.numbers import whole_number
from shared.rules.zones import Zone
from shared.workflows.intake.following import location_of
from shared.workflows.intake.requests import is_repeated, submit
from triggers import auditing, callers, limiting, outcomes, preconditions
from triggers.http.awaiting import gated
from triggers.http.scopes import everything, permit
from triggers.openapi import IDEMPOTENCY_KEY, JSON, Answer, Operation, Parameter
from triggers.zones import blueprint_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

    from shared.domain.callers import Role
    from shared.services import Services
    from triggers.http.scopes import Scope

    type Handler = Callable[[Services, func.HttpRequest], Awaitable[func.HttpResponse]]

published: list[Operation] = []
_PAGE_LIMIT = 1000
_EVERYWHERE = frozenset({"code"})
"""A function key may come so (Functions: access keys)."""
CONTINUATION = Parameter("continuationToken", "of the page before", Annotated[str, Field(max_length=2048)])
PAGING = (
    Parameter("pageSize", "items of a page", Annotated[int, Field(ge=1, le=_PAGE_LIMIT, default=100)]),
    CONTINUATION,
)
COMMENT = Parameter(
    "comment", "why, for the history and the audit log", Annotated[str, Field(min_length=1, max_length=COMMENT_LIMIT)]
)
_FLAG = Annotated[Literal["true", "false"], Field(default="false")]
DRY_RUN = Parameter("dryRun", "true: nothing is done, and the answer says what would be", _FLAG)
QUEUED = Answer(202, "queued", (Accepted,), (("Location", "where it can be followed"),))
ETAG = (("ETag", "guards changes: RFC 9110 section 8.8.3"),)
_STRUCTURED_STRING = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_CONTINUATION = re.compile(r"[\x20-\x7e\n]{1,2048}")
FILE_LIMIT = 128 * 1024
"""Bytes of a body that goes through no queue: 64 KiB of PKCS#12 in base64, and what is around it."""


def endpoint(
    method: str,
    route: str,
    *,
    answers: Sequence[Answer],
    refuses: Collection[int] = (),
    body: type[Contract] | str | None = None,
    body_required: bool = True,
    other_bodies: tuple[str, ...] = (),
    parameters: tuple[Parameter, ...] = (),
    role: Role | None = None,
    scope: Scope = everything,
    act: str | None = None,
    anonymous: bool = False,
    alone: bool = False,
    head: bool = True,
) -> Callable[[Handler], Handler]:
    """Register a handler as an HTTP function, and as an operation of the OpenAPI document.

    ``role`` is what a caller needs, and ``scope`` finds the enrollment group that it must be given for, see
    :mod:`triggers.http.scopes`; an ``anonymous`` operation needs none. ``act`` is what an operation does at once, for
    the audit log; what becomes a request is written down when that is carried out.

    What can be answered is documented here, see :class:`triggers.openapi.Operation`; the end-to-end tests hold every
    answer against it.

    HEAD is answered as GET is, without the body, which every host leaves out (RFC 9110 section 9.3.2); ``head=False``
    is for a GET that changes something.
    """
    if anonymous is (role is not None):
        raise TypeError(f"{method} {route}: give either role= or anonymous=True")
    if method != "GET" or act is not None:
        parameters = (*parameters, COMMENT)
    takes_words = method != "GET" and body is None
    if takes_words:
        body, body_required = Saying, False
    methods = [method, "HEAD"] if method == "GET" and head else [method]
    level = func.AuthLevel.ANONYMOUS if anonymous else None  # that of the app: triggers.registration

    def register(handler: Handler) -> Handler:
        name = handler.__name__
        summary = (handler.__doc__ or "").splitlines()[0].rstrip(".")
        published.append(
            Operation(
                name,
                method,
                route,
                summary,
                anonymous,
                tuple(answers),
                refuses=frozenset(refuses),
                body=body,
                body_required=body_required,
                other_bodies=other_bodies,
                parameters=parameters,
                role=role,
                scope=scope,
                act=act,
                alone=alone,
            )
        )

        blueprint = blueprint_of(name)
        known = frozenset(each.name for each in parameters if each.place == "query") | _EVERYWHERE

        @blueprint.function_name(name)
        @blueprint.route(route=route, methods=methods, auth_level=level)
        async def entry(req: func.HttpRequest) -> func.HttpResponse:
            door = limiting.public(handler, alone=alone) if anonymous else gated(checked)
            return await outcomes.answer(req, door, route)

        async def checked(services: Services, request: func.HttpRequest) -> func.HttpResponse:
            async with auditing.trying(services, request, route, name) as tried:
                caller = tried.caller = await callers.caller_of(services, request)
                await services.limits.request(caller)
                with callers.answering(caller):
                    if role is not None:
                        await permit(services, request, caller, role, scope)
                    refuse_unknown(request, known)
                    refuse_empty(request)
                    if takes_words:
                        parse(Saying, body_of(request, optional=True))
                    with acting(caller.as_actor(role, request_id_in(request)), auditing.comment_of(request)):
                        async with auditing.carried_out(services, request, route, act, tried):
                            return await handler(services, request)

        return handler

    return register


def refuse_unknown(request: func.HttpRequest, known: frozenset[str]) -> None:
    """Refuse parameters that an operation does not have: misspelt, they would be left out without a word.

    What relying parties ask takes any, since caches add some.
    """
    unknown = sorted({*request.params, *_empty_in(request)} - known)
    if unknown:
        taken = f"known are {', '.join(sorted(known - _EVERYWHERE))}" if known - _EVERYWHERE else "it takes none"
        raise Rejected(*(Reason(each, f"is not a parameter of this operation; {taken}") for each in unknown))


def refuse_empty(request: func.HttpRequest) -> None:
    """Refuse parameters without a value: ``?dryRun`` would do what was only to be foreseen.

    The host leaves them out of what it passes on, and passes on the URL as it came (Azure/azure-functions-host,
    ``GrpcMessageConversionExtensions.ToRpcHttp``). A continuation without a value is that of the first page.
    """
    begins = {CONTINUATION.name, *_EVERYWHERE}
    empty = sorted(each for each in _empty_in(request) - begins if not request.params.get(each))
    if empty:
        raise Rejected(*(Reason(each, "has no value; give one, or leave the parameter out") for each in empty))


def _empty_in(request: func.HttpRequest) -> frozenset[str]:
    given = parse_qsl(urlsplit(request.url).query, keep_blank_values=True, errors="replace")
    return frozenset(name for name, value in given if not value)


# --- shapes of requests and answers ---


def json_answer(
    body: Contract, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    """Answer with JSON, as a model of the contract has it; what is left out of the model is left out of the answer."""
    text = json.dumps(body.model_dump(mode="json", by_alias=True, exclude_unset=True))
    return func.HttpResponse(text, status_code=status, mimetype=JSON, headers=dict(headers or {}))


def body_of(request: func.HttpRequest, *, optional: bool = False, limit: int = MESSAGE_LIMIT, way_out: str = "") -> Any:
    """Read a request's JSON.

    Args:
        request: the request.
        optional: whether no body is as good as an empty object.
        limit: bytes that are taken.
        way_out: what to do with more, for the message.

    Raises:
        Rejected: it is too large, or no JSON.
    """
    raw = request.get_body()
    if not raw and optional:
        return {}
    if len(raw) > limit:
        raise Rejected.because(f"the body has {len(raw)} bytes, at most {limit} are taken{way_out}")
    return decoded(raw, "the body")


def holder_of(request: func.HttpRequest) -> str:
    """Tell apart who gets a bundle: by who they are, and by their Idempotency-Key.

    Returns:
        A digest, from which neither can be told.
    """
    caller, named = callers.current(), idempotency_key_of(request) or ""
    return sha256(f"{caller.kind}\n{caller.id}\n{named}".encode(errors="replace")).hexdigest()[:32]


def request_id_of(request: func.HttpRequest) -> str:
    """Take the caller's Idempotency-Key as the request's id, or make one."""
    return idempotency_key_of(request) or uuid.uuid4().hex


def request_id_in(request: func.HttpRequest) -> str | None:
    """Give the caller's Idempotency-Key where it can be a request's id, or else the trace's id, which the log has."""
    with suppress(Rejected):
        named = idempotency_key_of(request)
        if named is not None:
            return named
    return tracing.trace_id()


def idempotency_key_of(request: func.HttpRequest) -> str | None:
    """Read the caller's Idempotency-Key, if it gave one.

    In double quotes, a structured string (RFC 9651 section 3.3.3) as draft-ietf-httpapi-idempotency-key-header has it,
    it is the same key.
    """
    given = (request.headers.get("Idempotency-Key") or "").strip()
    quoted = _STRUCTURED_STRING.fullmatch(given)
    if quoted:
        given = re.sub(r"\\(.)", r"\1", quoted[1])
    if not (given or quoted):
        return None
    try:
        return path_value("requestId", given)
    except Rejected as rejection:
        raise Rejected.because(rejection.reasons[0].message, field=IDEMPOTENCY_KEY.name) from None


def request_of[C: Contract](contract: type[C], request: func.HttpRequest, *, request_id: str | None = None) -> C:
    """Read a request's body; one that names no ``requestId`` gets this one, or the caller's Idempotency-Key."""
    body = body_of(request)
    if isinstance(body, dict):
        body = {"requestId": request_id or request_id_of(request), **body}
    return parse(contract, body)


async def authenticated(services: Services, request: func.HttpRequest) -> str | None:
    """Check the signature of what revokes, if this deployment wants one, and give the webhook's id.

    Raises:
        NotAuthentic: it is missing or wrong, or this zone can't check it.
    """
    if services.settings.zone is Zone.INTAKE and services.settings.webhook_secret_name:
        raise NotAuthentic.because(
            "this deployment has what revokes signed (WEBHOOK_SECRET_NAME), which this app can't check; send a signed "
            "call to POST /api/revocations"
        )
    door = f"{request.method} {urlsplit(request.url).path.rstrip('/').lower()}"
    return await services.webhooks.authenticate(request.headers, request.get_body(), door)


def page_size_of(request: func.HttpRequest) -> int:
    """Give the size of page that is asked for."""
    text = request.params.get("pageSize", "100")
    return whole_number(text, 1, _PAGE_LIMIT, field="pageSize", what="page size")


def continuation_of(request: func.HttpRequest) -> str | None:
    """Give where the wanted page begins, as the page before said; ``None`` for the first one.

    Whose it is, is checked by who reads it; here, that it has nothing in it that no service gives or takes.
    """
    text = request.params.get("continuationToken") or None
    if text is None:
        return None
    try:
        decoded_text = urlsafe_b64decode(f"{text}{'=' * (-len(text) % 4)}").decode()
    except ValueError:
        decoded_text = ""
    if not _CONTINUATION.fullmatch(decoded_text):
        raise Rejected.because(
            f"{text[:100]!r} is not a continuation; give the one of the previous page, unchanged",
            field="continuationToken",
        )
    return decoded_text


def chosen[E: str](request: func.HttpRequest, name: str, known: Sequence[E]) -> E | None:
    """Read a parameter that has one of some values; ``None`` if it is not given.

    Raises:
        Rejected: it has another one.
    """
    text = request.params.get(name)
    if not text:
        return None
    found = next((each for each in known if each == text), None)
    if found is None:
        raise Rejected.because(f"{text[:40]!r} is not a {name}; give one of {', '.join(known)}", field=name)
    return found


def is_dry(request: func.HttpRequest) -> bool:
    """Tell whether nothing is to be done but to say what would be."""
    return chosen(request, "dryRun", ("true", "false")) == "true"


def shown_continuation(continuation: str | None) -> str | None:
    """Give a continuation as callers get it: opaque, and fit for a URL as it is."""
    return urlsafe_b64encode(continuation.encode()).decode().rstrip("=") if continuation is not None else None


class Page[T](Protocol):
    """A page of a list, as the contract has each: a model of its items, and of where the next page begins."""

    def __call__(self, *, items: list[T], continuation_token: str | None) -> Contract:
        """Make a page."""
        ...


def page_answer[T](page: Page[T], items: Iterable[T], continuation: str | None) -> func.HttpResponse:
    """Answer with a page of a list."""
    return json_answer(page(items=list(items), continuation_token=shown_continuation(continuation)))


async def queued(
    services: Services, queue: Queue, request: Any, headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    """Take a request's id, put it into its queue, and answer where it can be followed.

    Raises:
        Conflict: its id was used before, with other content.
    """
    await submit(services.requests, services.outbox, queue, request, services.clock)
    return accepted(request, location_of(queue, request.request_id), headers)


async def is_new(services: Services, queue: Queue, request: Any) -> bool:
    """Tell whether a request did not come before; one that did is not checked again, and answers as it did.

    Raises:
        Conflict: its id was used before, with other content.
    """
    return not await is_repeated(services.requests, queue, request)


def accepted(request: Contract, location: str, headers: Mapping[str, str] | None = None) -> func.HttpResponse:
    """Answer where a request that was queued can be followed."""
    ids: dict[str, str | None] = request.model_dump(include={"request_id", "order_id"})
    body = Accepted(status="queued", location=location, request_id=ids.get("request_id"), order_id=ids.get("order_id"))
    return json_answer(body.sparse(), HTTPStatus.ACCEPTED, {"Location": location, **(headers or {})})


def etag_header(etag: str | None) -> dict[str, str]:
    """Give the header with the ETag of what is described, if it has one."""
    return {"ETag": preconditions.quoted(etag)} if etag else {}
