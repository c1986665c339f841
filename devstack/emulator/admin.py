"""The admin port: what a test or a developer asks of the emulator itself, apart from every emulated protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from devstack.emulator.faults import FaultError
from devstack.emulator.wire import WireError, json_body

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devstack.emulator.context import Context


def routes(
    context: Context, hubs: Mapping[str, Any], mqtt: Sequence[Any], endpoints: Mapping[str, Any]
) -> list[web.RouteDef]:
    """The routes of the admin port; the README lists them."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "time": context.clock().isoformat()})

    async def show_endpoints(_: web.Request) -> web.Response:
        return web.json_response(endpoints)

    async def show_faults(_: web.Request) -> web.Response:
        return web.json_response(context.faults.to_json())

    async def plan_faults(request: web.Request) -> web.Response:
        try:
            context.faults.plan(await json_body(request, on_error=_refusal))
        except FaultError as error:
            raise _refusal(str(error)) from None
        return web.json_response(context.faults.to_json())

    async def clear_faults(_: web.Request) -> web.Response:
        context.faults.clear()
        return web.Response(status=204)

    async def telemetry(request: web.Request) -> web.Response:
        hub = hubs[_known(request, "hub", hubs)] if "hub" in request.query else next(iter(hubs.values()))
        device = request.query.get("device")
        if not device:
            raise _refusal("The query has no 'device'; name the device id, e.g. /telemetry?device=thermostat-1.")
        return web.json_response({"messages": hub.telemetry(device)})

    async def connections(_: web.Request) -> web.Response:
        return web.json_response({"count": sum(len(listener.connections) for listener in mqtt)})

    return [
        web.get("/health", health),
        web.get("/endpoints", show_endpoints),
        web.get("/faults", show_faults),
        web.put("/faults", plan_faults),
        web.delete("/faults", clear_faults),
        web.get("/telemetry", telemetry),
        web.get("/connections", connections),
    ]


def _known(request: web.Request, parameter: str, known: Mapping[str, Any]) -> str:
    value = request.query[parameter]
    if value not in known:
        raise _refusal(f"There is no {parameter} {value!r}; known are: {', '.join(sorted(known))}.")
    return value


def _refusal(message: str) -> WireError:
    return WireError(400, {"error": {"code": "BadRequest", "message": message}})
