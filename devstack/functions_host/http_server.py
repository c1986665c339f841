"""HTTP triggers, with function keys; and what of the host's own admin API the tools here need."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from devstack.functions_host import routes
from devstack.functions_host.authentication import ME, Refused, me
from devstack.functions_host.protocol import Message, TypedData
from devstack.functions_host.timer_listener import timer_data
from devstack.functions_host.worker import InvocationFailed, log_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from devstack.functions_host.authentication import Authentication
    from devstack.functions_host.keys import Keys
    from devstack.functions_host.routes import Route
    from devstack.functions_host.worker import Function, Worker

    Handler = Callable[[web.Request], Awaitable[web.Response]]

LOG = logging.getLogger("functions_host")
ANSWER_SECONDS = 230
"""The real platform's load balancer cuts an answer off after that."""

BODY_LIMIT = 100 * 1024 * 1024
"""Bytes (ScriptConstants.DefaultMaxRequestBodySize of Azure/azure-functions-host: 104857600)."""


def application(
    worker: Worker,
    functions: Sequence[Function],
    keys: Keys,
    route_prefix: str,
    authentication: Authentication | None = None,
) -> web.Application:
    """Put all HTTP functions and the admin API under their routes; with authentication, ``/.auth/me`` too."""
    server = web.Application(client_max_size=BODY_LIMIT)
    server.router.add_get("/admin/host/status", _guarded(keys, _status))
    server.router.add_post("/admin/functions/{name}", _guarded(keys, _started(worker, functions)))
    if authentication is not None:
        server.router.add_get(ME, _me(authentication))
    handler = _http(worker, routes.routes(functions, route_prefix), keys, authentication)
    server.router.add_route("*", "/{path:.*}", handler)
    return server


def _guarded(keys: Keys, handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.Response:
        if not keys.open("admin", request.headers.get("x-functions-key") or request.query.get("code", "")):
            return web.Response(status=401)
        return await handler(request)

    return guarded


def _me(authentication: Authentication) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        try:
            claims = await authentication.claims(routes.headers(request.headers.items()))
        except Refused:
            claims = None
        return web.Response(status=401) if claims is None else web.json_response(me(claims))

    return answer


def _http(worker: Worker, tried: Sequence[Route], keys: Keys, authentication: Authentication | None = None) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        asked = _Asked.read(request)
        if asked is None:
            return web.Response(status=400)
        headers = {**asked.headers, "client-ip": _peer(request)}
        if authentication is not None:
            try:
                headers = await authentication.headers(headers)
            except Refused:
                return web.Response(status=401)
        found = routes.found(tried, request.method, asked.path)
        if found is None:
            return web.Response(status=404)
        function, parameters = found
        level = str(function.trigger.get("authLevel", "function")).lower()
        if not keys.open(level, asked.headers.get("x-functions-key") or asked.query.get("code", "")):
            return web.Response(status=401)
        if (request.content_length or 0) > BODY_LIMIT:
            return web.Response(status=413)
        # A body without Content-Length is not handed on (ToRpcHttp in GrpcMessageConversionExtensions of
        # azure-functions-host: ``request.ContentLength > 0``).
        body = await request.read() if request.content_length else b""
        data = Message(
            method=request.method,
            url=asked.url,
            headers=headers,
            query=asked.query,
            params=parameters,
            body=TypedData(bytes=body),
        )
        return await _answer(worker, function, TypedData(http=data))

    return handle


def _peer(request: web.Request) -> str:
    """Give who is connected, as App Service's front end does (Azure/app-service-linux-docs#140)."""
    host, port, *_ = request.transport.get_extra_info("peername") if request.transport else ("", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for, without its body.

    Attributes:
        path: decoded.
    """

    url: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @classmethod
    def read(cls, request: web.Request) -> _Asked | None:
        """Read it; ``None`` for what Kestrel refuses."""
        target = re.sub(r"^[a-z]+://[^/?#]*", "", request.raw_path, flags=re.IGNORECASE)
        path = routes.decoded_path(target)
        headers = routes.headers(request.headers.items())
        if path is None or not _is_text("".join(headers.values())):
            return None
        return cls(f"{request.scheme}://{request.host}{target}", path, routes.query(target), headers)


def _is_text(text: str) -> bool:
    """Tell whether what came was UTF-8, as Kestrel asks of headers; aiohttp marks what was not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


async def _answer(worker: Worker, function: Function, data: TypedData) -> web.Response:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return _response(await worker.invoke(function, data))
    except InvocationFailed as failure:
        log_failure(failure)
        return web.Response(status=500)
    except TimeoutError:
        return web.Response(status=504)


def _response(returned: TypedData | None) -> web.Response:
    if returned is None:
        return web.Response(status=204)
    fields: dict[str, Any] = vars(returned)
    if "string" in fields:
        return web.Response(text=fields["string"])
    answer = fields["http"]
    response = web.Response(status=int(answer.status_code), headers=answer.headers, body=vars(answer.body).get("bytes"))
    for cookie in answer.cookies or ():
        _set_cookie(response, cookie)
    return response


def _set_cookie(response: web.Response, cookie: Any) -> None:
    """Set a cookie as the real host does: its value escaped as in a URL (ASP.NET Core: ``IResponseCookies.Append``)."""
    same_site = {1: "Lax", 2: "Strict", 3: "None"}
    response.set_cookie(
        cookie.name,
        quote(cookie.value, safe=""),
        path=cookie.path.value if cookie.path else "/",
        max_age=int(cookie.max_age.value) if cookie.max_age else None,
        secure=bool(cookie.secure and cookie.secure.value),
        httponly=bool(cookie.http_only and cookie.http_only.value),
        samesite=same_site.get(cookie.same_site),
    )


async def _status(_: web.Request) -> web.Response:
    return web.json_response({"state": "Running"})


def _started(worker: Worker, functions: Sequence[Function]) -> Handler:
    """Start a function that has no HTTP trigger, as ``POST /admin/functions/{name}`` of the real host does.

    The answer is 202 at once, whatever becomes of it (FunctionsController.Invoke of Azure/azure-functions-host).
    """
    by_name = {function.name: function for function in functions if function.kind != "httpTrigger"}
    running: set[asyncio.Task[None]] = set()

    async def invoke(function: Function, data: TypedData) -> None:
        try:
            await worker.invoke(function, data, {"Id": TypedData(string="admin")})
        except InvocationFailed as failure:
            log_failure(failure)

    async def start(request: web.Request) -> web.Response:
        function = by_name.get(request.match_info["name"])
        if function is None:
            return web.Response(status=404)
        if function.kind == "timerTrigger":
            data = timer_data()
        else:
            data = TypedData(string=str((await request.json()).get("input", "")))
        task = asyncio.create_task(invoke(function, data))
        running.add(task)
        task.add_done_callback(running.discard)
        return web.Response(status=202)

    return start
