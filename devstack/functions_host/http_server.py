"""HTTP triggers, with function keys; and what of the host's own admin API the tools here need."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from devstack.functions_host.protocol import Message, TypedData
from devstack.functions_host.timer_listener import timer_data
from devstack.functions_host.worker import InvocationFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from devstack.functions_host.worker import Function, Worker

    Handler = Callable[[web.Request], Awaitable[web.Response]]

LOG = logging.getLogger("functions_host")
ANSWER_SECONDS = 230
"""The real platform's load balancer cuts an answer off after that."""

BODY_LIMIT = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Keys:
    """The host's keys.

    Attributes:
        function: opens functions of level ``function``.
        master: opens everything.
    """

    function: str
    master: str

    @classmethod
    def kept(cls, path: Path) -> Keys:
        """Read the keys, or make them at the first start; the file is its owner's only."""
        if path.exists():
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        keys = cls(secrets.token_urlsafe(40), secrets.token_urlsafe(40))
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"function": keys.function, "master": keys.master}, file)
        return keys

    def open(self, level: str, given: str) -> bool:
        """Tell whether a key opens a function of some level."""
        if level == "anonymous":
            return True
        accepted = [self.master] if level == "admin" else [self.master, self.function]
        return any(hmac.compare_digest(key.encode(), given.encode()) for key in accepted)


def application(worker: Worker, functions: Sequence[Function], keys: Keys, route_prefix: str) -> web.Application:
    """Put all HTTP functions and the admin API under their routes."""
    server = web.Application(client_max_size=BODY_LIMIT)
    for function in functions:
        if function.kind == "httpTrigger":
            path = _path(route_prefix, str(function.trigger.get("route") or function.name))
            for method in function.trigger.get("methods") or ["GET", "POST"]:
                server.router.add_route(str(method).upper(), path, _http(worker, function, keys), expect_handler=None)
    server.router.add_get("/admin/host/status", _guarded(keys, "admin", _status))
    server.router.add_post("/admin/functions/{name}", _guarded(keys, "admin", _started(worker, functions)))
    return server


def _path(prefix: str, route: str) -> str:
    """Translate a route template of ASP.NET: ``{id}``, ``{id:int}``, ``{*rest}``."""
    translated = re.sub(r"{\*(\w+)}", r"{\1:.*}", route.strip("/"))
    translated = re.sub(r"{(\w+):(?:int|long)}", r"{\1:[0-9]+}", translated)
    return f"/{prefix}/{translated}" if prefix else f"/{translated}"


def _given_key(request: web.Request) -> str:
    return request.headers.get("x-functions-key") or request.query.get("code", "")


def _guarded(keys: Keys, level: str, handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.Response:
        if not keys.open(level, _given_key(request)):
            return web.Response(status=401)
        return await handler(request)

    return guarded


def _http(worker: Worker, function: Function, keys: Keys) -> Handler:
    level = str(function.trigger.get("authLevel", "function")).lower()

    async def handle(request: web.Request) -> web.Response:
        data = TypedData(
            http=Message(
                method=request.method,
                url=str(request.url),
                headers={name.lower(): value for name, value in request.headers.items()},
                params=dict(request.match_info),
                query=dict(request.query),
                body=TypedData(bytes=await request.read()),
            )
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return _response(await worker.invoke(function, data))
        except InvocationFailed as failure:
            LOG.warning("%s", failure)
            return web.Response(status=500)
        except TimeoutError:
            return web.Response(status=504)

    return _guarded(keys, level, handle)


def _response(returned: TypedData | None) -> web.Response:
    if returned is None:
        return web.Response(status=204)
    fields: dict[str, Any] = vars(returned)
    if "string" in fields:
        return web.Response(text=fields["string"])
    answer = fields["http"]
    return web.Response(status=int(answer.status_code), headers=answer.headers, body=vars(answer.body).get("bytes"))


async def _status(_: web.Request) -> web.Response:
    return web.json_response({"state": "Running"})


def _started(worker: Worker, functions: Sequence[Function]) -> Handler:
    """Start a function that has no HTTP trigger, as ``POST /admin/functions/{name}`` of the real host does."""
    by_name = {function.name: function for function in functions if function.kind != "httpTrigger"}

    async def start(request: web.Request) -> web.Response:
        function = by_name.get(request.match_info["name"])
        if function is None:
            return web.Response(status=404)
        if function.kind == "timerTrigger":
            data = timer_data()
        else:
            data = TypedData(string=str((await request.json()).get("input", "")))
        try:
            await worker.invoke(function, data, {"Id": TypedData(string="admin")})
        except InvocationFailed as failure:
            LOG.warning("%s", failure)
            return web.Response(status=500)
        return web.Response(status=202)

    return start
