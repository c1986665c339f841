"""``python -m devstack.gate``: what stands before the storage account and the apps when trust zones run apart.

Azurite takes any bearer token for the owner's. So a request with one passes here first, and gets through if a role of
its identity lets it; what comes with the account's key is the owner's. In Azure the storage services do that.

And callers of the API know one address: each request goes on to the zone that has its function, as a gateway in Azure
would send it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import ssl
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import jwt
from aiohttp import web

from devstack import storage_permissions
from devstack.functions_host import routes
from emulator.platform.identity.errors import Forbidden
from emulator.platform.identity.roles import Roles
from shared.rules.zones import APART
from triggers.http.endpoints import published
from triggers.registration import MODULES
from triggers.zones import zones_of_functions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

LOG = logging.getLogger(__name__)
_BODY_LIMIT = 256 * 1024 * 1024
_SECONDS = 240
_DROPPED = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
_NOT_ADDED = frozenset({"Accept", "Accept-Encoding", "Content-Type", "User-Agent"})
"""What a client adds by itself. A request with the account's key is signed with its Content-Type, or without one."""

_FIRST = "intake"
"""The zone that answers what belongs to none, or to all."""

_ADMIN = "/admin/functions/"


@dataclass(frozen=True, slots=True)
class _Forwarding:
    """Hands requests on to what stands behind."""

    session: aiohttp.ClientSession

    async def to(self, base: str, request: web.Request, body: bytes) -> web.Response:
        """Give the answer of what stands behind; 502 if it can't be reached, as while it is started anew."""
        try:
            return await self._answer(base, request, body)
        except aiohttp.ClientConnectionError as error:
            LOG.warning("%s %s was not answered: %s", request.method, request.path, error)
            return web.Response(status=502, text=f"{base} can't be reached\n")

    async def _answer(self, base: str, request: web.Request, body: bytes) -> web.Response:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _DROPPED]
        chunked = body and "Content-Length" not in request.headers
        async with self.session.request(
            request.method,
            f"{base}{request.raw_path}",
            headers=headers,
            data=_in_chunks(body) if chunked else body or None,
            allow_redirects=False,
            skip_auto_headers=_NOT_ADDED,
        ) as answer:
            content = await answer.read()
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _DROPPED]
            response = web.Response(status=answer.status, body=content)
            for name, value in kept:
                response.headers.add(name, value)
            if "Content-Type" not in answer.headers:
                response.headers.popall("Content-Type", None)
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                response.headers["Content-Length"] = answer.headers["Content-Length"]
            return response


async def _in_chunks(body: bytes) -> AsyncIterator[bytes]:
    """Send a body without its length, as it came."""
    yield body


def _storage(service: str, target: str, forwarding: _Forwarding, roles: Roles) -> web.Application:
    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            try:
                caller = _caller(token)
                for each in storage_permissions.needed(service, _asked(request, body)):
                    roles.check(caller, each)
            except Forbidden:
                return _mismatch(service)
        return await forwarding.to(target, request, body)

    application = web.Application(client_max_size=_BODY_LIMIT)
    application.router.add_route("*", "/{path:.*}", handle)
    return application


def _asked(request: web.Request, body: bytes) -> storage_permissions.Asked:
    path = request.raw_path.partition("?")[0]
    return storage_permissions.Asked(request.method, path, request.query, request.headers, body)


def _caller(token: str) -> str:
    """Tell whose a token is. Azurite checks the rest of it, and nothing here checks its signature."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return str(claims.get("appid", ""))


def _mismatch(service: str) -> web.Response:
    """403 in the words of the storage services ("Common REST API error codes")."""
    code, identifier = "AuthorizationPermissionMismatch", str(uuid.uuid4())
    message = (
        "This request is not authorized to perform this operation using this permission.\n"
        f"RequestId:{identifier}\nTime:{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    )
    headers = {"x-ms-error-code": code, "x-ms-request-id": identifier}
    if service == "table":
        body = {"odata.error": {"code": code, "message": {"lang": "en-US", "value": message}}}
        return web.json_response(body, status=403, headers=headers)
    text = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(status=403, text=text, content_type="application/xml", headers=headers)


def _gateway(zones: Mapping[str, str], prefix: str, forwarding: _Forwarding) -> web.Application:
    functions: list[Any] = [
        SimpleNamespace(
            name=each.name, kind="httpTrigger", trigger={"route": each.route, "methods": _methods(each.method)}
        )
        for each in published
    ]
    table = routes.routes(functions, prefix)

    async def handle(request: web.Request) -> web.Response:
        zone = _zone_of(request, table)
        return await forwarding.to(zones[zone], request, await request.read())

    application = web.Application(client_max_size=_BODY_LIMIT)
    application.router.add_route("*", "/{path:.*}", handle)
    return application


def _methods(method: str) -> list[str]:
    return [method, "HEAD"] if method == "GET" else [method]


def _zone_of(request: web.Request, table: Sequence[routes.Route]) -> str:
    path = routes.decoded_path(request.raw_path) or ""
    name = ""
    if path.startswith(_ADMIN):
        name = path.removeprefix(_ADMIN)
    elif found := routes.found(table, request.method, path):
        name = found[0].name
    homes = zones_of_functions().get(name, APART)
    return next(iter(homes)).value if len(homes) == 1 else _FIRST


async def _serve(settings: Mapping[str, Any]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    trusted = ssl.create_default_context(cafile=settings["tlsCaFile"])
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(settings["certificateFile"], settings["keyFile"])
    connector = aiohttp.TCPConnector(ssl=trusted, limit=0)
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        forwarding = _Forwarding(session)
        roles = Roles(Path(settings["roles"]))
        served: list[tuple[web.Application, int, ssl.SSLContext | None]] = [
            (_storage(service, each["target"], forwarding, roles), each["port"], shown)
            for service, each in settings["storage"].items()
        ]
        served.append((_gateway(settings["zones"], settings["prefix"], forwarding), settings["port"], None))
        runners = []
        for application, port, tls in served:
            runner = web.AppRunner(application, access_log=None, auto_decompress=False, handle_signals=False)
            await runner.setup()
            await web.TCPSite(runner, settings["address"], port, ssl_context=tls).start()
            runners.append(runner)
        print(json.dumps({"functionsUrl": f"http://{settings['address']}:{settings['port']}"}), flush=True)
        await stopped.wait()
        for runner in runners:
            await runner.cleanup()


def main() -> int:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m devstack.gate", description=__doc__)
    parser.add_argument("settings", type=Path, help="addresses, ports and files, in JSON; devstack.stack writes them")
    asyncio.run(_serve(json.loads(parser.parse_args().settings.read_text(encoding="utf-8"))))
    return 0


_PUBLISHING = MODULES  # they publish their routes when they are imported
if __name__ == "__main__":
    sys.exit(main())
