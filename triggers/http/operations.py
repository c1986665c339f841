"""What operators ask: health, the description of this API and of its messages, and what was rejected."""

from __future__ import annotations

import json
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import azure.functions as func
from pydantic import Field

from shared.contracts.answers import (
    Alive,
    Description,
    ListedSchema,
    Readiness,
    Rejection,
    RejectionClosing,
    RejectionPage,
    Replay,
    Replayed,
    SchemaList,
)
from shared.contracts.messages import INBOUND_QUEUES, Queue
from shared.contracts.parsing import parse
from shared.domain.callers import Role
from shared.domain.rejections import RejectionKind, RejectionState
from shared.errors import NotFound
from shared.ledger.rejections import Filters
from shared.reading.times import point_in_time
from triggers import callers
from triggers.asyncapi import document as queues_document
from triggers.asyncapi import json_schemas
from triggers.http.endpoints import (
    PAGING,
    body_of,
    chosen,
    continuation_of,
    endpoint,
    json_answer,
    page_answer,
    page_size_of,
    published,
)
from triggers.http.paths import rejection_id_of
from triggers.http.scopes import nothing
from triggers.openapi import SCHEMA_JSON, Answer, Parameter
from triggers.openapi import document as api_document

if TYPE_CHECKING:
    from shared.services import Services


# --- health and description ---


@endpoint("GET", "health/live", answers=[Answer(200, "the worker runs", (Alive,))], anonymous=True, alone=True)
async def health_live(_services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Tell that the worker runs."""
    return json_answer(Alive(status="ok"))


@endpoint(
    "GET",
    "health/ready",
    answers=[
        Answer(200, "every dependency answers", (Readiness,)),
        Answer(503, "one does not", (Readiness,)),
    ],
    alone=True,
    role=Role.FLEET_READ,
    scope=nothing,
)
async def health_ready(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Tell of each dependency whether it answers and lets the app in."""
    report = await services.readiness.report()
    ready = all(outcome == "ok" for outcome in report.values())
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    said = Readiness(status="ok" if ready else "unavailable", dependencies=dict(report))
    return json_answer(said, status)


@cache
def _api() -> dict[str, Any]:
    return api_document(published)


@cache
def _queues() -> dict[str, Any]:
    return queues_document()


@endpoint(
    "GET",
    "openapi.json",
    answers=[Answer(200, "this document", (Description,))],
    alone=True,
    role=Role.FLEET_READ,
    scope=nothing,
)
async def openapi(_services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Describe this API."""
    return json_answer(Description.model_validate(_api()))


@endpoint(
    "GET",
    "asyncapi.json",
    answers=[Answer(200, "the document", (Description,))],
    alone=True,
    role=Role.FLEET_READ,
    scope=nothing,
)
async def asyncapi(_services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Describe the queues, the messages that they take, and the events."""
    return json_answer(Description.model_validate(_queues()))


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    return json_schemas()


@endpoint(
    "GET",
    "schemas",
    answers=[Answer(200, "the names of all", (SchemaList,))],
    alone=True,
    role=Role.FLEET_READ,
    scope=nothing,
)
async def list_schemas(_services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """List the messages and events that have a JSON Schema."""
    listed = [ListedSchema(name=name, url=f"/api/schemas/{name}.json") for name in _schemas()]
    return json_answer(SchemaList(schemas=listed))


@endpoint(
    "GET",
    "schemas/{schema}",
    answers=[Answer(200, "the schema", (SCHEMA_JSON,))],
    refuses={404},
    alone=True,
    role=Role.FLEET_READ,
    scope=nothing,
)
async def get_schema(_services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the JSON Schema of a message or of the data of an event, as {name}.json."""
    name = request.route_params["schema"].removesuffix(".json")
    if name not in _schemas():
        raise NotFound.because(f"a schema {name[:64]!r} does not exist: GET /api/schemas lists them", field="schema")
    return func.HttpResponse(json.dumps(_schemas()[name]), mimetype=SCHEMA_JSON)


# --- rejections ---


_ALL = "all"


@endpoint(
    "GET",
    "rejections",
    answers=[Answer(200, "a page of rejections", (RejectionPage,))],
    parameters=(
        Parameter("state", "which ones", Annotated[str, Field(default="open", examples=["replayed", "closed", _ALL])]),
        Parameter("queue", "only those of this queue", Queue),
        Parameter("kind", "only those that were refused, or that failed again and again", RejectionKind),
        Parameter("cause", "only those with this text in a reason or cause"),
        Parameter("since", "only those refused since this time (RFC 3339)"),
        Parameter("until", "only those refused until this time (RFC 3339)"),
        *PAGING,
    ),
    role=Role.FLEET_READ,
)
async def list_rejections(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List what was refused or set aside and is open, with the reasons and the message itself."""
    states = (_ALL, *(each.value for each in RejectionState if each is not RejectionState.REPLAYING))
    state = chosen(request, "state", states) or RejectionState.OPEN
    since, until = (request.params.get(name) for name in ("since", "until"))
    filters = Filters(
        state=None if state == _ALL else RejectionState(state),
        queue=chosen(request, "queue", INBOUND_QUEUES),
        kind=chosen(request, "kind", tuple(RejectionKind)),
        cause=request.params.get("cause"),
        since=point_in_time(since, field="since") if since else None,
        until=point_in_time(until, field="until") if until else None,
    )
    items, following = await services.rejected_messages.page(
        filters, size=page_size_of(request), continuation=continuation_of(request)
    )
    return page_answer(RejectionPage, items, following)


@endpoint(
    "GET", "rejections/{id}", answers=[Answer(200, "the rejection", (Rejection,))], refuses={404}, role=Role.FLEET_READ
)
async def get_rejection(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show one message that was refused or set aside, and whether it was replayed."""
    identifier = rejection_id_of(request)
    return json_answer(await services.rejected_messages.describe(identifier))


@endpoint(
    "POST",
    "rejections/{id}/replay",
    answers=[Answer(202, "put back into its queue", (Rejection,))],
    refuses={404, 409},
    role=Role.FLEET_READ,
    act="replay",
)
async def replay_rejection(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Put a refused message back into its queue, once: repeated, it changes nothing.

    It needs the role of what the message asks for as well.
    """
    identifier = rejection_id_of(request)
    await _require_for(services, identifier)
    return json_answer(await services.rejected_messages.replay(identifier), HTTPStatus.ACCEPTED)


async def _require_for(services: Services, identifier: str) -> None:
    callers.require_for((await services.rejected_messages.describe(identifier)).queue)


@endpoint(
    "POST",
    "rejections/replay",
    answers=[Answer(202, "put back into their queues", (Replayed,))],
    body=Replay,
    role=Role.FLEET_READ,
    act="replay",
)
async def replay_rejections(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Put back up to 500 open rejections that the filters mean, so many a minute."""
    wanted = parse(Replay, body_of(request, optional=True))
    callers.require_for(wanted.queue)
    filters = Filters(queue=wanted.queue, kind=wanted.kind, cause=wanted.cause, since=wanted.since, until=wanted.until)
    done = await services.rejected_messages.replay_many(filters, per_minute=wanted.per_minute)
    return json_answer(done, HTTPStatus.ACCEPTED)


@endpoint(
    "POST",
    "rejections/{id}/close",
    answers=[Answer(200, "the rejection", (Rejection,))],
    refuses={404, 409},
    body=RejectionClosing,
    role=Role.FLEET_READ,
    act="close",
)
async def close_rejection(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say of a rejection that it will not be replayed, and why."""
    identifier = rejection_id_of(request)
    await _require_for(services, identifier)
    comment = parse(RejectionClosing, body_of(request)).comment
    return json_answer(await services.rejected_messages.close(identifier, comment))
