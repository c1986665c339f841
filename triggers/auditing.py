"""Has what HTTP requests do at once, and what was denied, written into the audit log."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from shared.contracts.ids import HIDDEN, path_value
from shared.contracts.messages import COMMENT_LIMIT
from shared.domain.audit_entries import SubjectKind
from shared.domain.callers import ANONYMOUS
from shared.errors import Forbidden, NotAuthentic, Rejected
from shared.reading.json_text import read_json
from shared.rules.shown_text import hidden_in
from shared.workflows.intake.audit import Act
from triggers import callers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import azure.functions as func

    from shared.domain.callers import Caller
    from shared.services import Services


@dataclass(slots=True)
class Tried:
    """What somebody tries.

    Attributes:
        caller: who that is, as far as it is known.
        is_begun: whether it is written down as an act.
    """

    caller: Caller
    is_begun: bool = False


@asynccontextmanager
async def trying(services: Services, request: func.HttpRequest, route: str, operation: str) -> AsyncIterator[Tried]:
    """Write a try down if it is denied: by whom, as far as is known, and why.

    Raises:
        TooManyRequests: so much else was denied to them that it is not said any more.
    """
    tried = Tried(replace(ANONYMOUS, address=callers.address_of(request.headers)))
    try:
        yield tried
    except (Forbidden, NotAuthentic) as denied:
        kind, subject = _named_in(request, route, operation)
        act = Act(action=operation, kind=kind, subject=subject, reason=str(denied))
        await services.limits.denied(tried.caller, None if tried.is_begun else act)
        raise


@asynccontextmanager
async def carried_out(
    services: Services, request: func.HttpRequest, route: str, action: str | None, tried: Tried
) -> AsyncIterator[None]:
    """Write an act down ahead of the deed, and what came of it; without an action, nothing."""
    if action is None:
        yield
        return
    kind, subject = _subject_of(request, route, action)
    reason = checked("reason", said_in(request, "reason"))
    async with services.audit.carried_out(Act(action=action, kind=kind, subject=subject, reason=reason)):
        tried.is_begun = True
        yield


_KINDS = (
    ("registrationId", "", SubjectKind.DEVICE),
    ("name", "", SubjectKind.AUTHORITY),
    ("orderId", "", SubjectKind.ORDER),
    ("id", "rejections/", SubjectKind.REJECTION),
    ("id", "findings/", SubjectKind.FINDING),
    ("id", "approvals/", SubjectKind.APPROVAL),
)
"""What a part of the path names, by the part's name and what stands before it."""


def _named_in(request: func.HttpRequest, route: str, operation: str) -> tuple[SubjectKind, str]:
    """Say what the path of a denied try is about; the operation itself, if it names nothing, or nothing valid."""
    with suppress(Rejected):
        return _subject_of(request, route, operation)
    return SubjectKind.OPERATION, operation


def _subject_of(request: func.HttpRequest, route: str, action: str) -> tuple[SubjectKind, str]:
    """Say what the path is about.

    Raises:
        Rejected: it names something by an id that is not valid.
    """
    for name, before, kind in _KINDS:
        if name in request.route_params and route.startswith(before):
            return kind, path_value(name, request.route_params[name])
    return SubjectKind.OPERATION, action


def comment_of(request: func.HttpRequest) -> str | None:
    """Read what a caller says to what they ask for, in the query or in the body.

    Raises:
        Rejected: it is too long, or has a character that would be obeyed where it is shown.
    """
    text = request.params.get("comment")
    if text and len(text) > COMMENT_LIMIT:
        raise Rejected.because(f"has {len(text)} characters; at most {COMMENT_LIMIT} are kept", field="comment")
    # The length of a body's has its rule in its contract.
    return checked("comment", text or (said_in(request, "comment") or "")[:COMMENT_LIMIT] or None)


def checked(field: str, words: str | None) -> str | None:
    """See that words can be written down, before they are: they are shown to others, in a terminal perhaps.

    Raises:
        Rejected: they have a character that would be obeyed there.
    """
    hidden = hidden_in(words or "")
    if hidden is not None:
        raise Rejected.because(f"has {HIDDEN.format(hidden)}", field=field)
    return words


def said_in(request: func.HttpRequest, name: str) -> str | None:
    """Read a text out of a body in JSON; ``None`` if it has none."""
    try:
        body: Any = read_json(request.get_body())
    except ValueError:
        return None
    found = body.get(name) if isinstance(body, dict) else None
    return found if isinstance(found, str) and found else None
