"""The registry on the wire (api-version 2021-04-12, as Microsoft's azure-iot-hub uses it)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aiohttp import web

from emulator.platform.identity.errors import Forbidden, Unauthenticated
from emulator.protocols.wire import json_body
from emulator.services.iot_hub import bulk, errors, permissions
from emulator.services.iot_hub.callers import verify_caller
from emulator.services.iot_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from emulator.platform.context import Context
    from emulator.services.iot_hub.state import IotHub, IotHubs

    Operation = Callable[[web.Request, IotHub], Awaitable[web.Response]]

PAGE = 1000
DEFAULT_PAGE = 100
METHOD_SECONDS = range(5, 301)
CONNECT_SECONDS = range(301)
_DEFAULT_METHOD_SECONDS = 30
_METHOD_NAME = re.compile(r"[A-Za-z0-9!#%&'*+.^_`|~-]+")
_MODULES = "/devices/{id}/modules/{module}"
_MISSING = (
    ("GET", "/devices/{id}/modules", "modules"),
    *((method, _MODULES, "modules") for method in ("GET", "PUT", "DELETE")),
    *((method, "/twins/{id}/modules/{module}", "modules") for method in ("GET", "PATCH", "PUT")),
    ("POST", "/twins/{id}/modules/{module}/methods", "modules"),
    ("GET", "/messages/serviceBound/feedback", "feedback over HTTPS"),
    ("GET", "/configurations", "configurations"),
    *((method, "/configurations/{id}", "configurations") for method in ("GET", "PUT", "DELETE")),
    ("POST", "/configurations/testQueries", "configurations"),
    ("POST", "/devices/{id}/applyConfigurationContent", "configurations"),
    ("POST", "/jobs/create", "jobs"),
    *((method, "/jobs/{id}", "jobs") for method in ("GET", "DELETE")),
    ("GET", "/jobs", "jobs"),
    ("GET", "/jobs/v2/query", "jobs"),
    *((method, "/jobs/v2/{id}", "jobs") for method in ("GET", "PUT")),
    ("POST", "/jobs/v2/{id}/cancel", "jobs"),
    *((method, "/digitaltwins/{id}", "digital twins") for method in ("GET", "PATCH")),
)


def routes(context: Context, hubs: IotHubs) -> list[web.RouteDef]:
    """All routes of the registry."""
    registry, reads, updates = "iot_hub.registry", "iot_hub.twinReads", "iot_hub.twinUpdates"
    table: list[tuple[str, str, Operation, str]] = [
        ("POST", "/devices/query", query, "iot_hub.queries"),
        ("GET", "/devices", list_identities, registry),
        ("POST", "/devices", change_many_in(context), registry),
        ("GET", "/devices/{id}", get_identity, registry),
        ("PUT", "/devices/{id}", put_identity, registry),
        ("DELETE", "/devices/{id}", delete_identity, registry),
        ("DELETE", "/devices/{id}/commands", purge_commands, registry),
        ("GET", "/statistics/devices", device_statistics, registry),
        ("GET", "/statistics/service", service_statistics, registry),
        ("GET", "/twins/{id}", get_twin, reads),
        ("PATCH", "/twins/{id}", update_twin, updates),
        ("PUT", "/twins/{id}", replace_twin, updates),
        ("POST", "/twins/{id}/methods", invoke_method, "iot_hub.methods"),
        *((method, path, _missing(what), registry) for method, path, what in _MISSING),
    ]
    return [
        web.route(method, path, _guarded(context, hubs, operation, rate)) for method, path, operation, rate in table
    ]


def _guarded(
    context: Context, hubs: IotHubs, operation: Operation, rate: str
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        hub = hubs.called(request.host)
        try:
            verify_caller(
                context,
                hub,
                request.headers.get("Authorization"),
                host=request.host,
                needed=permissions.needed(request.method, request.path),
            )
            errors.check_version(request.query.get("api-version"))
            if (wait := context.throttled(rate, subject=hub.host_name)) is not None:
                raise errors.throttled(wait)
            return await operation(request, hub)
        except Unauthenticated as refusal:
            raise errors.unauthorized(refusal.reason).on_the_wire() from None
        except Forbidden:
            raise errors.no_role(request.method, request.path).on_the_wire() from None
        except HubError as error:
            raise error.on_the_wire() from None

    return handle


def _missing(what: str) -> Operation:
    async def refuse(_request: web.Request, _hub: IotHub) -> web.Response:
        raise errors.not_offered(f"IoT Hub's {what}")

    return refuse


async def _body(request: web.Request) -> Any:
    return await json_body(request, on_error=lambda text: errors.bad_argument(text).on_the_wire())


def _id(request: web.Request) -> str:
    return request.match_info["id"]


def _answer(body: Any) -> web.Response:
    return web.json_response(body, headers={"ETag": f'"{body["etag"]}"'})


async def get_identity(request: web.Request, hub: IotHub) -> web.Response:
    """Read one identity."""
    return _answer(hub.get(_id(request)))


async def put_identity(request: web.Request, hub: IotHub) -> web.Response:
    """Create or change one identity."""
    return _answer(hub.put(_id(request), await _body(request), request.headers.get("If-Match")))


async def delete_identity(request: web.Request, hub: IotHub) -> web.Response:
    """Delete one identity."""
    hub.delete(_id(request), request.headers.get("If-Match"))
    return web.Response(status=204)


async def list_identities(request: web.Request, hub: IotHub) -> web.Response:
    """List identities, at most 1,000."""
    top = request.query.get("top", "")
    within = top.isdecimal() and 1 <= int(top) <= PAGE
    return web.json_response(hub.identities(limit=int(top) if within else PAGE))


async def purge_commands(request: web.Request, hub: IotHub) -> web.Response:
    """Drop the cloud-to-device messages that wait for a device (``PurgeMessageQueueResult``)."""
    purged = hub.purge_messages(_id(request))
    return web.json_response({"totalMessagesPurged": purged, "deviceId": _id(request), "moduleId": None})


def change_many_in(context: Context) -> Operation:
    """Create, change or delete up to 100 identities, each by its import mode."""

    async def change_many(request: web.Request, hub: IotHub) -> web.Response:
        failures = await bulk.change(context.store, hub, await _body(request))
        body = {"isSuccessful": not failures, "errors": failures, "warnings": []}
        return web.json_response(body, status=400 if failures else 200)

    return change_many


async def device_statistics(_request: web.Request, hub: IotHub) -> web.Response:
    """Count identities."""
    return web.json_response(hub.statistics())


async def service_statistics(_request: web.Request, hub: IotHub) -> web.Response:
    """Count connections."""
    return web.json_response({"connectedDeviceCount": hub.connected_count})


async def get_twin(request: web.Request, hub: IotHub) -> web.Response:
    """Read one twin."""
    return _answer(hub.twin(_id(request)))


async def update_twin(request: web.Request, hub: IotHub) -> web.Response:
    """Merge into one twin."""
    body, if_match = await _body(request), request.headers.get("If-Match")
    return _answer(await hub.change_twin(_id(request), body, if_match, replace=False))


async def replace_twin(request: web.Request, hub: IotHub) -> web.Response:
    """Replace the tags and desired properties of one twin."""
    body, if_match = await _body(request), request.headers.get("If-Match")
    return _answer(await hub.change_twin(_id(request), body, if_match, replace=True))


async def query(request: web.Request, hub: IotHub) -> web.Response:
    """Find twins, or what is asked of them, a page at a time."""
    body = await _body(request)
    size = request.headers.get("x-ms-max-item-count", str(DEFAULT_PAGE))
    if not size.isdecimal() or int(size) < 1:
        raise errors.bad_argument(f"x-ms-max-item-count {size!r} is not a whole number from 1.")
    wanted = body.get("query") if isinstance(body, dict) else None
    page = hub.find(wanted, continuation=request.headers.get("x-ms-continuation", ""), size=min(int(size), PAGE))
    headers = {"x-ms-item-type": page.kind}
    if page.continuation is not None:
        headers["x-ms-continuation"] = page.continuation
    return web.json_response(page.rows, headers=headers)


async def invoke_method(request: web.Request, hub: IotHub) -> web.Response:
    """Call a direct method of a device."""
    body = await _body(request)
    name = body.get("methodName") if isinstance(body, dict) else None
    if not isinstance(name, str) or not _METHOD_NAME.fullmatch(name):
        raise errors.bad_argument(
            f"methodName {name!r} is not made of ASCII letters, digits and ! # % & ' * + . ^ _ ` | ~ -."
        )
    waits = _seconds(body, "connectTimeoutInSeconds", CONNECT_SECONDS, 0)
    answers_within = _seconds(body, "responseTimeoutInSeconds", METHOD_SECONDS, _DEFAULT_METHOD_SECONDS)
    try:
        device = await hub.listening(_id(request), waits)
        status, payload = await device.invoke(name, body.get("payload"), answers_within)
    except HubError as error:
        raise error.of_a_method_on_the_wire() from None
    return web.json_response({"status": status, "payload": payload})


def _seconds(body: dict[str, Any], name: str, allowed: range, default: int) -> int:
    given = body.get(name)
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int) or given not in allowed:
        raise errors.bad_argument(f"{name} {given!r} is not a whole number from {allowed[0]} to {allowed[-1]}.")
    return given
