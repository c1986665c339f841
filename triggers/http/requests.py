"""How far requests are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared.contracts.answers_requests import FollowedRequest, RequestPage
from shared.contracts.ids import path_value
from shared.domain.callers import Role
from shared.domain.requests import RequestState
from shared.reading.times import point_in_time
from shared.workflows.intake.following import KINDS
from triggers.http.endpoints import PAGING, chosen, continuation_of, endpoint, json_answer, page_answer, page_size_of
from triggers.http.scopes import of_request
from triggers.openapi import Answer, Parameter

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

LONGEST_WAIT = 60
"""Seconds that somebody may wait for an answer; the platform cuts it off after 230."""

_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,4})\"?")
_KIND = Parameter("kind", "the queue that requests of this kind come by", Annotated[str, Field(examples=list(KINDS))])


@endpoint(
    "GET",
    "requests/{requestId}",
    answers=[
        Answer(200, "the request", (FollowedRequest,), (("Preference-Applied", "`wait=N`, if it was asked for"),))
    ],
    refuses={404, 409},
    parameters=(
        _KIND,
        Parameter("Prefer", f"`wait=N`: up to {LONGEST_WAIT} seconds for a change; RFC 7240", str, "header"),
    ),
    role=Role.FLEET_READ,
    scope=of_request,
)
async def get_request(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show how far a request is, whatever way it came."""
    identifier = path_value("requestId", request.route_params["requestId"])
    kind = chosen(request, "kind", KINDS)
    wanted = _WAIT.search((request.headers.get("Prefer") or "").lower())
    if wanted is None:
        return json_answer(await services.following.describe(identifier, kind))
    seconds = min(int(wanted[1]), LONGEST_WAIT)
    shown = await services.following.wait(identifier, kind, seconds)
    return json_answer(shown, headers={"Preference-Applied": f"wait={seconds}"})


@endpoint(
    "GET",
    "requests",
    answers=[Answer(200, "a page of requests", (RequestPage,))],
    parameters=(
        Parameter("state", "only those in this state", RequestState),
        _KIND,
        Parameter("since", "only those asked for since this time (RFC 3339)"),
        *PAGING,
    ),
    role=Role.FLEET_READ,
)
async def list_requests(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List requests, the latest first; orders are listed by ``device-orders``."""
    since = request.params.get("since")
    items, following = await services.following.page(
        state=chosen(request, "state", tuple(RequestState)),
        kind=chosen(request, "kind", KINDS),
        since=point_in_time(since, field="since") if since else None,
        size=page_size_of(request),
        continuation=continuation_of(request),
    )
    return page_answer(RequestPage, items, following)
