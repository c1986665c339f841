"""The registry on the wire (api-version 2021-04-12, as Microsoft's azure-iot-hub uses it)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from aiohttp import web

from devstack.emulator.identity.errors import Refusal
from devstack.emulator.identity.sas import verify_sas
from devstack.emulator.identity.tokens import IOT_HUB_AUDIENCE
from devstack.emulator.iot_hub import errors, queries
from devstack.emulator.iot_hub.errors import HubError
from devstack.emulator.wire import json_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from devstack.emulator.context import Context
    from devstack.emulator.iot_hub.state import IotHub, IotHubs

    Operation = Callable[[web.Request, IotHub], Awaitable[web.Response]]

PAGE = 1000
BULK_LIMIT = 100
_METHOD_SECONDS = 30
_MISSING = (
    ("GET", "/devices/{id}/modules", "modules"),
    ("PUT", "/devices/{id}/modules/{module}", "modules"),
    ("GET", "/devices/{id}/modules/{module}", "modules"),
    ("GET", "/configurations", "configurations"),
    ("PUT", "/configurations/{id}", "configurations"),
    ("POST", "/jobs/create", "jobs"),
    ("GET", "/jobs", "jobs"),
    ("PUT", "/jobs/v2/{id}", "jobs"),
)


def routes(context: Context, hubs: IotHubs) -> list[web.RouteDef]:
    """All routes of the registry."""
    table: list[tuple[str, str, Operation]] = [
        *((method, path, _missing(what)) for method, path, what in _MISSING),
        ("POST", "/devices/query", query),
        ("GET", "/devices", list_identities),
        ("POST", "/devices", bulk),
        ("GET", "/devices/{id}", get_identity),
        ("PUT", "/devices/{id}", put_identity),
        ("DELETE", "/devices/{id}", delete_identity),
        ("GET", "/statistics/devices", device_statistics),
        ("GET", "/statistics/service", service_statistics),
        ("GET", "/twins/{id}", get_twin),
        ("PATCH", "/twins/{id}", update_twin),
        ("PUT", "/twins/{id}", replace_twin),
        ("POST", "/twins/{id}/methods", invoke_method),
    ]
    return [web.route(method, path, _guarded(context, hubs, operation)) for method, path, operation in table]


def _guarded(context: Context, hubs: IotHubs, operation: Operation) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        hub = hubs.called(request.host)
        try:
            _authenticate(context, hub, request)
            if not request.query.get("api-version"):
                raise errors.bad_argument("api-version is required, e.g. ?api-version=2021-04-12")
            return await operation(request, hub)
        except Refusal as refusal:
            raise errors.unauthorized(refusal.reason).on_the_wire() from None
        except HubError as error:
            raise error.on_the_wire() from None

    return handle


def _authenticate(context: Context, hub: IotHub, request: web.Request) -> None:
    header = request.headers.get("Authorization")
    if header is not None and header.startswith("SharedAccessSignature "):
        keys = context.sas_keys.hubs[hub.host_name]
        verify_sas(header, resource=request.host, keys=keys, now=context.clock())
    else:
        context.tokens.verify(header, IOT_HUB_AUDIENCE)


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
    top = request.query.get("top", str(PAGE))
    if not top.isdecimal() or not 1 <= int(top) <= PAGE:
        raise errors.bad_argument(f"top {top!r} is not from 1 to {PAGE}.")
    return web.json_response(hub.identities(limit=int(top)))


async def bulk(request: web.Request, hub: IotHub) -> web.Response:
    """Create, change or delete up to 100 identities, each by its import mode."""
    entries = await _body(request)
    if not isinstance(entries, list) or len(entries) > BULK_LIMIT:
        raise errors.bad_argument(f"A bulk operation has a list of at most {BULK_LIMIT} devices.")
    failures = [failure for entry in entries if (failure := _one_of_many(hub, entry))]
    body = {"isSuccessful": not failures, "errors": failures, "warnings": []}
    return web.json_response(body, status=400 if failures else 200)


def _one_of_many(hub: IotHub, entry: Any) -> dict[str, Any] | None:
    device_id, mode = str(entry.get("id", "")), entry.get("importMode", "create")
    identity = {name: value for name, value in entry.items() if name not in {"id", "importMode", "eTag"}}
    etag = entry.get("eTag")
    try:
        match mode:
            case "create":
                hub.put(device_id, identity, None)
            case "update":
                hub.put(device_id, identity, "*")
            case "updateIfMatchETag":
                hub.put(device_id, identity, etag)
            case "createOrUpdate":
                hub.put(device_id, identity, "*" if _exists(hub, device_id) else None)
            case "delete":
                hub.delete(device_id, None)
            case "deleteIfMatchETag":
                hub.delete(device_id, etag)
            case _:
                raise errors.bad_argument(f"importMode {mode!r} is not offered.")
    except HubError as error:
        return {"deviceId": device_id, "errorCode": error.code, "errorStatus": error.message}
    return None


def _exists(hub: IotHub, device_id: str) -> bool:
    try:
        hub.get(device_id)
    except HubError:
        return False
    return True


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
    """Find twins."""
    body = await _body(request)
    wanted = queries.predicate(str(body.get("query", "")) if isinstance(body, dict) else "")
    size, after = request.headers.get("x-ms-max-item-count", "100"), _continuation(request)
    if not size.isdecimal() or int(size) < 1:
        raise errors.bad_argument(f"x-ms-max-item-count {size!r} is no number from 1.")
    found = [twin for identity in hub.identities(limit=1_000_000) if wanted(twin := hub.twin(identity["deviceId"]))]
    page = [twin for twin in found if twin["deviceId"] > after][: int(size)]
    headers = {"x-ms-item-type": "twin", "x-ms-continuation": ""}
    if page and page[-1]["deviceId"] != found[-1]["deviceId"]:
        headers["x-ms-continuation"] = base64.b64encode(page[-1]["deviceId"].encode()).decode()
    return web.json_response(page, headers=headers)


def _continuation(request: web.Request) -> str:
    try:
        return base64.b64decode(request.headers.get("x-ms-continuation", "")).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise errors.bad_argument("x-ms-continuation is none that this hub gave.") from None


async def invoke_method(request: web.Request, hub: IotHub) -> web.Response:
    """Call a direct method of a connected device."""
    body = await _body(request)
    if not isinstance(body, dict) or not body.get("methodName"):
        raise errors.bad_argument("methodName is required.")
    seconds = float(body.get("responseTimeoutInSeconds") or _METHOD_SECONDS)
    status, payload = await hub.connected(_id(request)).invoke(str(body["methodName"]), body.get("payload"), seconds)
    return web.json_response({"status": status, "payload": payload})
