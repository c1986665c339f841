"""What every page of the console has: its registration, who may see it, its headers, and its HTML."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

import azure.functions as func
import jinja2

from shared import tracing
from shared.acting import acting
from shared.contracts.base import Contract
from shared.domain.callers import ANONYMOUS, Role
from shared.errors import Rejected
from triggers import auditing, callers, outcomes
from triggers.console import access
from triggers.http.endpoints import refuse_unknown
from triggers.http.scopes import everything, permit
from triggers.openapi import PROBLEM
from triggers.worker import HOST_JSON
from triggers.zones import blueprint_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from shared.services import Services
    from triggers.http.scopes import Scope

    type Page = Callable[[Services, func.HttpRequest], Awaitable[func.HttpResponse]]

_PREFIX = json.loads(HOST_JSON.read_text(encoding="utf-8"))["extensions"]["http"]["routePrefix"].strip("/")
ROOT = f"/{_PREFIX}/console" if _PREFIX else "/console"
_FORM_LIMIT = 16 * 1024
_FIELD_LIMIT = 10
_HTML = "text/html"

HEADERS = {
    # Nothing but the console's own style sheet: no script, no image from elsewhere, no frame (CSP level 3).
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With no-referrer a form's Origin would be null (Fetch, "append a request Origin header").
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def page(
    route: str = "",
    *,
    method: str = "GET",
    known: tuple[str, ...] = (),
    role: Role | None = Role.FLEET_READ,
    scope: Scope = everything,
    act: str | None = None,
) -> Callable[[Page], Page]:
    """Register a page as an HTTP function.

    Args:
        route: below the console.
        method: ``GET``, or ``POST`` for a form, which must come from a page of the console.
        known: parameters of the query that it takes.
        role: that who asks needs; with ``None`` they need not even be signed in.
        scope: finds the enrollment group that the role must be given for, see :mod:`triggers.http.scopes`.
        act: what a form does at once, for the audit log.
    """
    methods = ["GET", "HEAD"] if method == "GET" else [method]
    path = f"console/{route}".rstrip("/")

    def register(handler: Page) -> Page:
        name = handler.__name__
        blueprint = blueprint_of(name)

        @blueprint.function_name(name)
        @blueprint.route(route=path, methods=methods, auth_level=func.AuthLevel.ANONYMOUS)
        async def entry(req: func.HttpRequest) -> func.HttpResponse:
            return _dressed(await outcomes.answer(req, checked, path))

        async def checked(services: Services, request: func.HttpRequest) -> func.HttpResponse:
            if method == "POST" and not access.is_from_console(request.headers):
                return outcomes.problem(HTTPStatus.FORBIDDEN, access.ELSEWHERE)
            caller = await access.visitor(services, request) if role is not None else ANONYMOUS
            if caller is None:
                return redirect(f"{ROOT}/sign-in?{_way_back(request, method)}")
            async with auditing.trying(services, request, route, name) as tried:
                tried.caller = caller
                if role is not None:
                    await services.limits.request(caller)
                with callers.answering(caller):
                    if role is not None:
                        await permit(services, request, caller, role, scope)
                    refuse_unknown(request, frozenset(known))
                    comment = form_of(request).get("comment") if method == "POST" else None
                    auditing.checked("comment", comment)
                    with acting(caller.as_actor(role, tracing.trace_id()), comment):
                        async with auditing.carried_out(services, request, route, act, tried):
                            return await handler(services, request)

        return handler

    return register


def _way_back(request: func.HttpRequest, method: str) -> str:
    """Say where somebody wanted to go, for after the sign-in; a form is not sent a second time."""
    parts = urlsplit(request.url)
    wanted = f"{parts.path}{'?' if parts.query else ''}{parts.query}" if method == "GET" else ROOT
    return f"then={quote(wanted, safe='')}"


def _dressed(answer: func.HttpResponse) -> func.HttpResponse:
    """Give an answer the headers of the console; a refusal becomes a page."""
    if answer.mimetype == PROBLEM:
        problem = json.loads(answer.get_body())
        told = rendered("problem.html", status=answer.status_code, problem=problem)
        told.headers.update({name: value for name, value in answer.headers.items() if name.lower() == "retry-after"})
        answer = told
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


def rendered(template: str, *, status: int = HTTPStatus.OK, **values: Any) -> func.HttpResponse:
    """Answer with a page: a template, filled in."""
    shown = {name: _shown(value) for name, value in values.items()}
    now = datetime.now(UTC)
    text = _templates().get_template(template).render(root=ROOT, now=now, may=may, caller=callers.current(), **shown)
    return func.HttpResponse(text, status_code=int(status), mimetype=_HTML, charset="utf-8")


def _shown(value: Any) -> Any:
    """Give an answer of the contract as pages show it: by the names that it has on the wire."""
    match value:
        case Contract():
            return value.shown()
        case list() | tuple():
            return [_shown(each) for each in value]
        case dict():
            return {name: _shown(each) for name, each in value.items()}
        case _:
            return value


def may(role: str, group: str | None = None) -> bool:
    """Tell whether who asks may do what needs a role, so that nothing is offered to them that would be refused."""
    return callers.current().may(Role(role), group)


def redirect(to: str, *, cookie: str | None = None) -> func.HttpResponse:
    """Send a browser to another page (303, so that a form is not sent a second time: RFC 9110 section 15.4.4)."""
    headers = {"Location": to, **({"Set-Cookie": cookie} if cookie else {})}
    return func.HttpResponse(status_code=HTTPStatus.SEE_OTHER, headers=headers)


def form_of(request: func.HttpRequest) -> Mapping[str, str]:
    """Read a form.

    Raises:
        Rejected: it is too large, or not one.
    """
    body = request.get_body()
    if len(body) > _FORM_LIMIT:
        raise Rejected.because(f"the form has {len(body)} bytes; at most {_FORM_LIMIT} are taken")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELD_LIMIT, errors="strict"))
    except ValueError:
        raise Rejected.because("the form can't be read; send it from the page that has it") from None


# --- templates ---


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"at": at, "point": point, "words": words, "distance": distance, "segment": segment})
    return environment


def segment(text: str) -> str:
    """Write a text as one segment of a path."""
    return quote(text, safe="")


def point(moment: datetime | str) -> datetime:
    """Give a point in time, which lists of the directory have as text (RFC 3339)."""
    return datetime.fromisoformat(moment) if isinstance(moment, str) else moment


def at(moment: datetime) -> str:
    """Write a point in time as people read it."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def words(text: str) -> str:
    """Write a word of the contract, such as ``awaitingCertificate``, as words; what follows it stays as it is."""
    first, space, rest = text.partition(" ")
    return f"{_INNER.sub(lambda found: f' {found[0].lower()}', first)}{space}{rest}"


_INNER = re.compile("(?<=[a-z])[A-Z](?=[a-z])")


@dataclass(frozen=True, slots=True)
class _Unit:
    name: str
    length: timedelta


_UNITS = (
    _Unit("day", timedelta(days=1)),
    _Unit("hour", timedelta(hours=1)),
    _Unit("minute", timedelta(minutes=1)),
)


def distance(moment: datetime, now: datetime) -> str:
    """Say how long ago or ahead a point in time is, in its largest unit; days from two days on."""
    apart = abs(moment - now)
    for unit in _UNITS:
        count = apart // unit.length
        if count >= (2 if unit.name == "day" else 1):
            said = f"{count} {unit.name}{'' if count == 1 else 's'}"
            return f"in {said}" if moment > now else f"{said} ago"
    return "now"
