"""What all HTTP services share: errors as exceptions, request ids, JSON bodies."""

from __future__ import annotations

import json
import logging
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aiohttp.typedefs import Handler

LOG = logging.getLogger(__name__)
REQUEST_LIMIT = 4 * 1024 * 1024


class WireError(Exception):
    """An answer other than success, raised anywhere below a handler.

    Attributes:
        status: HTTP status.
        body: JSON value of the answer, in the service's own shape; None for no body.
        headers: headers besides the usual ones.
    """

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers: Mapping[str, str] = headers or {}

    def response(self) -> web.Response:
        """The answer itself."""
        if self.body is None:
            return web.Response(status=self.status, headers=self.headers)
        return web.json_response(self.body, status=self.status, headers=self.headers)


def not_implemented(what: str) -> WireError:
    """501 that names what the emulator lacks."""
    return WireError(501, {"error": {"code": "NotImplemented", "message": f"The emulator does not offer {what}."}})


def as_documented(given: Any, names: Iterable[str]) -> str | None:
    """Give the documented spelling of a name that a client may write in any case of letters; None for any other name.

    The services read names so: Microsoft's azure-iothub of Node.js sends the import mode ``UpdateIfMatchETag``.
    """
    return next((name for name in names if isinstance(given, str) and name.lower() == given.lower()), None)


async def json_body(request: web.Request, *, on_error: Callable[[str], WireError]) -> Any:
    """Parse the request's body as JSON.

    Args:
        request: the request.
        on_error: makes the service's own error from a sentence saying what is wrong.

    Raises:
        WireError: as made by ``on_error``: the body is empty, or no UTF-8, or no JSON.
    """
    raw = await request.read()
    if not raw:
        raise on_error("The request has no body; a JSON object is expected.")
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise on_error("The request body is not UTF-8 text.") from None
    except (ValueError, RecursionError) as error:
        raise on_error(f"The request body is not JSON: {error}.") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


@web.middleware
async def request_ids(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every answer a request id, and the client's own one back, as the Azure services do."""
    response = await handler(request)
    response.headers.setdefault("x-ms-request-id", str(uuid.uuid4()))
    client_id = request.headers.get("x-ms-client-request-id")
    if client_id is not None:
        response.headers.setdefault("x-ms-client-request-id", client_id)
    return response


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn exceptions into answers: a WireError as it says, an unknown path by name, a defect as a logged 500."""
    try:
        return await handler(request)
    except WireError as error:
        return error.response()
    except web.HTTPNotFound:
        return not_implemented(f"{request.method} {request.path}").response()
    except web.HTTPMethodNotAllowed as refusal:
        message = f"{request.method} is not an operation of {request.path}; offered: {_methods(refusal)}."
        body = {"error": {"code": "MethodNotAllowed", "message": message}}
        return WireError(405, body, {"Allow": refusal.headers["Allow"]}).response()
    except web.HTTPRequestEntityTooLarge:
        body = {"error": {"code": "RequestEntityTooLarge", "message": f"A request is at most {REQUEST_LIMIT} bytes."}}
        return WireError(413, body).response()
    except Exception:
        LOG.exception("defect in the emulator while answering %s %s", request.method, request.path)
        body = {"error": {"code": "InternalServerError", "message": "The emulator has a defect here; see its log."}}
        return WireError(500, body).response()


def _methods(refusal: web.HTTPMethodNotAllowed) -> str:
    return ", ".join(sorted(refusal.allowed_methods))
