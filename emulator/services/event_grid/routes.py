"""The topic on the wire: CloudEvents 1.0 in JSON, one or a batch, by bearer token.

Sources: "Post to custom topic for Azure Event Grid" (endpoint, api-version, answers, 1 MB), "CloudEvents v1.0 schema
with Azure Event Grid" and the HTTP protocol binding of CloudEvents (content types, required attributes),
"Authentication and authorization with Microsoft Entra ID" of Event Grid (role ``EventGrid Data Sender``), and
Microsoft's azure-eventgrid (audience).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from emulator.platform.identity.errors import Forbidden, Unauthenticated
from emulator.platform.identity.roles import Needed
from emulator.platform.identity.tokens import EVENT_GRID_AUDIENCE
from emulator.protocols.wire import json_body
from emulator.services.event_grid import errors

if TYPE_CHECKING:
    from emulator.platform.context import Context
    from emulator.services.event_grid.topic import Topic

PATH = "/api/events"
API_VERSION = "2018-01-01"
BATCH, ONE = "application/cloudevents-batch+json", "application/cloudevents+json"
LIMIT = 1024 * 1024
SEND = Needed.one("Microsoft.EventGrid/events/send/action", "/eventTopic")
_REQUIRED = ("id", "source", "type")


def routes(context: Context, topic: Topic) -> list[web.RouteDef]:
    """The topic's one route."""

    async def publish(request: web.Request) -> web.Response:
        _check_caller(request, context)
        if request.query.get("api-version") != API_VERSION:
            raise errors.refusal(400, "BadRequest", f"The api-version must be specified as {API_VERSION}.")
        await topic.take(await _events(request))
        return web.Response()

    return [web.post(PATH, publish)]


def _check_caller(request: web.Request, context: Context) -> None:
    if not request.headers.get("Authorization") and {"aeg-sas-key", "aeg-sas-token"} & request.headers.keys():
        raise errors.unauthorized("keys and shared access signatures are disabled at this topic (disableLocalAuth)")
    try:
        caller = context.tokens.verify(request.headers.get("Authorization"), EVENT_GRID_AUDIENCE)
        context.roles.check(caller, SEND)
    except Unauthenticated as refused:
        raise errors.unauthorized(refused.reason) from None
    except Forbidden:
        raise errors.no_role(context.configuration.event_topic_id) from None


async def _events(request: web.Request) -> list[dict[str, Any]]:
    """Give the events of a request.

    Raises:
        WireError: one is not a CloudEvent, or it is all too large.
    """
    raw = await request.read()
    if len(raw) > LIMIT:
        raise errors.too_large(len(raw), LIMIT)
    if request.content_type not in (BATCH, ONE):
        raise errors.bad_request(f"The content type is {request.content_type!r}, and {BATCH} or {ONE} is expected.")
    body = await json_body(request, on_error=errors.bad_request)
    events = body if request.content_type == BATCH else [body]
    if not isinstance(events, list):
        raise errors.bad_request("Token Expected: StartArray.")
    for event in events:
        _check(event)
    return events


def _check(event: Any) -> None:
    if not isinstance(event, dict):
        raise errors.bad_request(f"Token Expected: StartObject, and {json.dumps(event)[:40]} is there.")
    if event.get("specversion") != "1.0":
        raise errors.bad_request("The property 'specversion' must be '1.0'.")
    for name in _REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise errors.bad_request(f"The required property {name!r} is missing, or is not a text.")
