"""What operators ask: health, the description of this API, and what was rejected."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from shared.contracts.answers import Alive, Description, Readiness, Rejection, RejectionPage
from shared.contracts.ids import path_value
from shared.errors import Rejected
from triggers.asyncapi import document as queues_document
from triggers.http.endpoints import PAGING, continuation_of, endpoint, json_answer, page_answer, page_size_of, published
from triggers.openapi import Answer, Parameter
from triggers.openapi import document as api_document

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services


# --- health and description ---


@endpoint("GET", "health/live", answers=[Answer(200, "the worker runs", (Alive,))], anonymous=True, alone=True)
async def health_live(_services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Tell that the worker runs."""
    return json_answer(Alive, {"status": "ok"})


@endpoint(
    "GET",
    "health/ready",
    answers=[
        Answer(200, "every dependency answers", (Readiness,)),
        Answer(503, "one does not", (Readiness,)),
    ],
    alone=True,
)
async def health_ready(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Tell of each dependency whether it answers and lets the app in."""
    report = await services.readiness.report()
    ready = all(outcome == "ok" for outcome in report.values())
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    said = {"status": "ok" if ready else "unavailable", "dependencies": report}
    return json_answer(Readiness, said, status)


@cache
def _api() -> dict[str, Any]:
    return api_document(published)


@cache
def _queues() -> dict[str, Any]:
    return queues_document()


@endpoint("GET", "openapi.json", answers=[Answer(200, "this document", (Description,))], alone=True)
async def openapi(_services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Describe this API."""
    return json_answer(Description, _api())


@endpoint("GET", "asyncapi.json", answers=[Answer(200, "the document", (Description,))], alone=True)
async def asyncapi(_services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Describe the queues, the messages that they take, and the events."""
    return json_answer(Description, _queues())


# --- rejections ---


_LISTED = {"open": False, "replayed": True, "all": None}


@endpoint(
    "GET",
    "rejections",
    answers=[Answer(200, "a page of rejections", (RejectionPage,))],
    parameters=(
        Parameter("state", "which ones", Annotated[Literal["open", "replayed", "all"], Field(default="open")]),
        *PAGING,
    ),
)
async def list_rejections(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List what was refused or set aside and not replayed, with the reasons and the message itself."""
    state = request.params.get("state", "open")
    if state not in _LISTED:
        raise Rejected.because(f"{state[:40]!r} is not a state; give {', '.join(_LISTED)}", field="state")
    items, following = await services.rejected_messages.page(
        size=page_size_of(request), continuation=continuation_of(request), replayed=_LISTED[state]
    )
    return page_answer(RejectionPage, items, following)


@endpoint("GET", "rejections/{id}", answers=[Answer(200, "the rejection", (Rejection,))], refuses={404})
async def get_rejection(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show one message that was refused or set aside, and whether it was replayed."""
    identifier = path_value("id", request.route_params["id"])
    return json_answer(Rejection, await services.rejected_messages.describe(identifier))


@endpoint(
    "POST",
    "rejections/{id}/replay",
    answers=[Answer(202, "put back into its queue", (Rejection,))],
    refuses={404, 409},
)
async def replay_rejection(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Put a refused message back into its queue, once: repeated, it changes nothing."""
    identifier = path_value("id", request.route_params["id"])
    return json_answer(Rejection, await services.rejected_messages.replay(identifier), HTTPStatus.ACCEPTED)
