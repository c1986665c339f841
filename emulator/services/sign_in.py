"""Tokens of users and apps for an API of one's own, as Microsoft Entra ID issues them, and the key that tells them.

``POST /tokens`` of the admin port takes the place of every sign-in. ``GET /common/discovery/keys`` stands beside the
managed identity endpoint, at the path that it has at login.microsoftonline.com.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import web

from emulator.platform.configuration import KEYS_PATH
from emulator.platform.identity.tokens import SignIn
from emulator.protocols.wire import WireError

if TYPE_CHECKING:
    from emulator.platform.context import Context

_KINDS = ("user", "app")
_SHAPE = 'The body must be {"kind": "user" or "app", "name": text, "roles": [text, ...], "audience": text}'
_LIFETIME = timedelta(hours=1)


def routes(context: Context) -> list[web.RouteDef]:
    """The route of the keys."""

    async def keys(_: web.Request) -> web.Response:
        return web.json_response(context.tokens.public_keys(), headers={"Cache-Control": "no-store"})

    return [web.get(KEYS_PATH, keys)]


def issued(context: Context, body: Any) -> dict[str, Any]:
    """Issue a token for a user or an app; gives what the token endpoint of Microsoft Entra ID answers."""
    given = body if isinstance(body, dict) else {}
    kind, name, roles, audience = (given.get(each) for each in ("kind", "name", "roles", "audience"))
    seconds = given.get("lifetimeSeconds", _LIFETIME.total_seconds())
    if set(given) - {"kind", "name", "roles", "audience", "lifetimeSeconds"} or kind not in _KINDS:
        raise _refusal(f"{_SHAPE}; kind is {kind!r}.")
    if not all(isinstance(each, str) and each for each in (name, audience)):
        raise _refusal(f"{_SHAPE}; name and audience must not be empty.")
    if not isinstance(roles, list) or not all(isinstance(each, str) for each in roles):
        raise _refusal(f"{_SHAPE}; roles is {roles!r}.")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise _refusal(f"{_SHAPE}; lifetimeSeconds must be a number.")
    who = SignIn(kind == "app", str(name), tuple(roles))
    token = context.tokens.issue_sign_in(str(audience), who, lifetime=timedelta(seconds=seconds))
    return {"token_type": "Bearer", "expires_in": int(seconds), "access_token": token.token}


def _refusal(message: str) -> WireError:
    return WireError(400, {"error": {"code": "BadRequest", "message": message}})
