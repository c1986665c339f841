"""The managed identity endpoint, as an App Service offers it to the app it hosts.

``GET {endpoint}?api-version=2019-08-01&resource=...[&client_id=...]`` with the header ``X-IDENTITY-HEADER``
(learn.microsoft.com/azure/app-service/overview-managed-identity, "REST endpoint reference").
"""

from __future__ import annotations

import hmac
import secrets
import uuid
from typing import TYPE_CHECKING

from aiohttp import web

from emulator.platform.identity.tokens import AUDIENCES
from emulator.protocols.wire import WireError

if TYPE_CHECKING:
    from emulator.platform.context import Context
    from emulator.platform.store import Store

PATH = "/msi/token"
API_VERSION = "2019-08-01"
STORAGE_SUFFIX = ".core.windows.net"


def kept_identity_header(store: Store) -> str:
    """The value that callers must send in ``X-IDENTITY-HEADER``; made at random on the first start."""
    kept = store.get("identity", "header")
    if kept is None:
        kept = {"value": secrets.token_hex(32)}
        store.put("identity", "header", kept)
    value: str = kept["value"]
    return value


def routes(context: Context, identity_header: str) -> list[web.RouteDef]:
    """The endpoint's one route."""

    async def token(request: web.Request) -> web.Response:
        _check_header(request, identity_header)
        resource = _resource(request)
        client_id = _client_id(request)
        issued = context.tokens.issue(resource, client_id=client_id)
        body = {
            "access_token": issued.token,
            "expires_on": str(int(issued.expires_on.timestamp())),
            "resource": resource,
            "token_type": "Bearer",
        }
        if client_id is not None:
            body["client_id"] = client_id
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    return [web.get(PATH, token)]


def _refusal(status: int, message: str) -> WireError:
    return WireError(status, {"statusCode": status, "message": message, "correlationId": str(uuid.uuid4())})


def _check_header(request: web.Request, expected: str) -> None:
    sent = request.headers.get("X-IDENTITY-HEADER", "")
    if not hmac.compare_digest(sent.encode(errors="surrogateescape"), expected.encode()):
        raise _refusal(
            401, "The header X-IDENTITY-HEADER is missing or wrong; it must hold the value of IDENTITY_HEADER."
        )
    version = request.query.get("api-version", "")
    if version != API_VERSION:
        raise _refusal(400, f"The api-version {version!r} is not supported; use {API_VERSION}.")


def _resource(request: web.Request) -> str:
    resource = request.query.get("resource", "")
    plain = resource.removesuffix("/")
    if plain in AUDIENCES or (plain.startswith("https://") and plain.endswith(STORAGE_SUFFIX)):
        return resource
    raise _refusal(400, f"The resource {resource!r} is unknown; known are: {', '.join(AUDIENCES)}.")


def _client_id(request: web.Request) -> str | None:
    client_id = request.query.get("client_id")
    if client_id is None:
        return None
    try:
        return str(uuid.UUID(client_id))
    except ValueError:
        raise _refusal(
            400,
            "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId: "
            f"client_id is {client_id!r}, and must be a GUID.",
        ) from None
