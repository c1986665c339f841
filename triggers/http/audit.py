"""The audit log: who did what, as JSON, JSON lines or CSV."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import azure.functions as func
from pydantic import Field

from shared.contracts.answers_audit import AuditedAct, AuditPage
from shared.contracts.base import told_actor
from shared.contracts.ids import AuthorityName, EnrollmentGroupId, RegistrationId, path_value
from shared.domain.callers import NAME_LIMIT, Role
from shared.errors import Rejected
from shared.ledger.audit_log import AuditFilters
from shared.reading.times import point_in_time
from shared.rules.csv_cells import csv_text
from shared.rules.shown_text import escaped
from triggers.http.endpoints import (
    PAGING,
    continuation_of,
    endpoint,
    page_answer,
    page_size_of,
    shown_continuation,
)
from triggers.http.scopes import by_group
from triggers.openapi import Answer, Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.domain.audit_entries import AuditEntry
    from shared.services import Services

CSV = "text/csv"
_LINES = "application/jsonl"
_ASKED = {_LINES: _LINES, "application/x-ndjson": _LINES, CSV: CSV}
_COLUMNS = (
    *("at", "actorKind", "actorId", "actorName", "role", "address", "action", "subjectKind", "subject"),
    *("enrollmentGroup", "outcome", "requestId", "reason", "comment", "actorAccount", "actorSource"),
)
_TEXT = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT)]


@endpoint(
    "GET",
    "audit",
    answers=[
        Answer(
            200,
            "a page of acts, as JSON, JSON lines or CSV",
            (AuditPage, _LINES, CSV),
            (("Link", "the next page of lines or CSV: RFC 8288"),),
        )
    ],
    parameters=(
        Parameter("device", "only acts on this device", RegistrationId),
        Parameter("group", "only acts on this enrollment group, and on what belongs to it", EnrollmentGroupId),
        Parameter("ca", "only acts on this CA", AuthorityName),
        Parameter("actor", "only by this one: an object id, or the name of a key, a queue or a timer", _TEXT),
        Parameter("action", "only this, as in `revoke`", _TEXT),
        Parameter("since", "only what was asked for then or later (RFC 3339)"),
        Parameter("until", "only what was asked for until then (RFC 3339)"),
        *PAGING,
    ),
    role=Role.AUDIT_READ,
    scope=by_group,
)
async def list_audit_entries(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List who did or tried what, the latest first; with ``Accept`` as JSON lines or CSV."""
    found, following = await services.audit.log.page(
        filters_of(request), size=page_size_of(request), continuation=continuation_of(request)
    )
    items = [shown_act(each) for each in found]
    accepted = request.headers.get("Accept", "")
    kind = next((kind for asked, kind in _ASKED.items() if asked in accepted), None)
    if kind is None:
        return page_answer(AuditPage, items, following)
    text = _as_csv(request, items) if kind == CSV else "".join(map(_line, items))
    headers = {"Cache-Control": "no-store"}
    token = shown_continuation(following)
    if token is not None:
        asked = {name: value for name, value in request.params.items() if name not in {"code", "continuationToken"}}
        headers["Link"] = f'</api/audit?{urlencode({**asked, "continuationToken": token})}>; rel="next"'
    return func.HttpResponse(text, mimetype=kind, charset="utf-8", headers=headers)


def filters_of(request: func.HttpRequest) -> AuditFilters:
    """Read which acts are meant.

    Raises:
        Rejected: a filter is not valid; the message says what it looks like.
    """
    ids = {"device": "registrationId", "group": "enrollmentGroup", "ca": "name"}
    given: dict[str, Any] = {name: _id(request, name, rule) for name, rule in ids.items()}
    since, until = (
        point_in_time(text, field=name) if (text := request.params.get(name)) else None for name in ("since", "until")
    )
    return AuditFilters(
        device=given["device"],
        group=given["group"],
        authority=given["ca"],
        actor=(request.params.get("actor") or "")[:NAME_LIMIT] or None,
        action=(request.params.get("action") or "")[:NAME_LIMIT] or None,
        since=since,
        until=until,
    )


def _id(request: func.HttpRequest, name: str, rule: str) -> str | None:
    text = (request.params.get(name) or "").strip()
    if not text:
        return None
    try:
        return path_value(rule, text)
    except Rejected as rejection:
        raise Rejected.because(rejection.reasons[0].message, field=name) from None


def shown_act(entry: AuditEntry) -> AuditedAct:
    """Give an act as answers have it."""
    return AuditedAct(
        at=entry.at,
        actor=told_actor(entry.actor),
        action=entry.action,
        subject_kind=entry.subject_kind,
        subject=entry.subject,
        enrollment_group=entry.enrollment_group,
        outcome=entry.outcome,
        request_id=entry.request_id,
        reason=entry.reason,
        comment=entry.comment,
    )


def _line(item: AuditedAct) -> str:
    said = item.model_dump(mode="json", by_alias=True)
    return f"{escaped(json.dumps(said, separators=(',', ':'), ensure_ascii=False))}\n"


def _as_csv(request: func.HttpRequest, items: Sequence[AuditedAct]) -> str:
    rows = []
    for item in items:
        said = item.model_dump(mode="json", by_alias=True)
        actor = said.pop("actor")
        said |= {f"actor{name.capitalize()}": actor[name] for name in ("kind", "id", "name", "account", "source")}
        rows.append([{**actor, **said}.get(column) for column in _COLUMNS])
    first = [] if request.params.get("continuationToken") else [_COLUMNS]
    return csv_text([*first, *rows])
