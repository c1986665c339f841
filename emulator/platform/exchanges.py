"""A log of what was asked and answered at the HTTPS port, for those who check it against a description of the services.

One JSON object a line: ``service``, ``method``, ``path``, ``query``, ``requestHeaders``, ``requestBody``, ``status``,
``responseHeaders``, ``responseBody``. Header names are in lower case, and only a chosen few are there; a body is a JSON
value, or null where there is none. Keys are left out, and Key Vault's bodies altogether.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from aiohttp.typedefs import Handler, Middleware

LEFT_OUT: Final = "(left out)"
_HEADERS = frozenset(
    {
        "allow",
        "content-type",
        "etag",
        "if-match",
        "if-none-match",
        "iothub-errorcode",
        "location",
        "retry-after",
        "x-ms-continuation",
        "x-ms-error-code",
        "x-ms-item-type",
        "x-ms-max-item-count",
    }
)
_KEYS = frozenset({"primaryKey", "secondaryKey", "connectionString", "authenticationKey"})
_WITHOUT_BODIES = frozenset({"key_vault"})


def middleware(log: TextIO, service_of: Callable[[web.Request], str]) -> Middleware:
    """Write every exchange down before its answer leaves, so that who has the answer finds it in the log.

    Args:
        log: where to; a text file opened for appending.
        service_of: which service a request belongs to.
    """

    @web.middleware
    async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if isinstance(response, web.Response):  # a websocket is not an exchange
            service = service_of(request)
            asked = None if service in _WITHOUT_BODIES else await _request_body(request)
            answered = None if service in _WITHOUT_BODIES else response.body
            exchange = {
                "service": service,
                "method": request.method,
                "path": request.rel_url.raw_path,
                "query": dict(request.query),
                "requestHeaders": _named(request.headers),
                "requestBody": _json(asked),
                "status": response.status,
                "responseHeaders": _named(response.headers),
                "responseBody": _json(answered),
            }
            log.write(json.dumps(exchange) + "\n")
            log.flush()
        return response

    return record


async def _request_body(request: web.Request) -> bytes | None:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return None


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() in _HEADERS}


def _json(raw: Any) -> Any:
    if not isinstance(raw, bytes | bytearray) or not raw:
        return None
    try:
        return _without_keys(json.loads(raw))
    except (ValueError, RecursionError):
        return LEFT_OUT


def _without_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: LEFT_OUT if name in _KEYS and isinstance(item, str) else _without_keys(item)
            for name, item in value.items()
        }
    return [_without_keys(item) for item in value] if isinstance(value, list) else value
