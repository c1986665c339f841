"""Who may see the console: people with a function key, or whom App Service authentication has signed in.

The functions of the console are anonymous to the host, since a browser can't send a function key with a link. So each
of them asks here first. docs/decisions/0009 says why.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.domain.callers import ANONYMOUS
from triggers import callers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import azure.functions as func

    from shared.domain.callers import Caller
    from shared.services import Services

COOKIE = "console"
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1")
_LIFE = 8 * 3600
"""Seconds that a sign-in lasts: a shift."""


async def visitor(services: Services, request: func.HttpRequest) -> Caller | None:
    """Give who asks, or ``None`` for somebody who has to sign in first.

    Raises:
        Rejected: the request says who its user is, where nobody checks that.
        Deferred: it can't be checked now.
        TooManyRequests: too much was denied to their address.
    """
    address = callers.address_of(request.headers)
    principal = callers.signed_in(services, request.headers)
    if principal is not None:
        return replace(principal, address=address)
    key = key_in_cookie(request.headers)
    if key and await callers.takes(services, key, address):
        return replace(callers.holder_of(services, key), address=address)
    if key:
        await services.limits.denied(replace(ANONYMOUS, address=address), None)
    return None


def key_in_cookie(headers: Mapping[str, str]) -> str | None:
    """Read the function key that a sign-in left in the browser, whatever the cookies of others look like."""
    for each in (headers.get("cookie") or "").split(";"):
        name, _, value = each.strip().partition("=")
        if name == COOKIE:
            try:
                return urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode()
            except ValueError:
                return None
    return None


def cookie(key: str, root: str, url: str) -> str:
    """Compose the cookie of a sign-in: for this host and the console alone, and out of reach of scripts.

    Args:
        key: the function key; an empty one takes the cookie away.
        root: path of the console.
        url: of the request. A browser takes ``Secure`` over plain HTTP from this machine alone, and some not even so.
    """
    # In base64url, since hosts escape what they find in a cookie's value.
    value, life = urlsafe_b64encode(key.encode()).decode().rstrip("="), _LIFE if key else 0
    secure = "" if is_local(url) else "; Secure"
    return f"{COOKIE}={value}; Path={root}; Max-Age={life}; HttpOnly; SameSite=Strict{secure}"


def is_local(url: str) -> bool:
    """Tell whether a URL is one of this machine's own, over plain HTTP."""
    parts = urlsplit(url)
    return parts.scheme == "http" and _LOOPBACK.fullmatch(parts.hostname or "") is not None


ELSEWHERE = (
    "this form was not sent by a page of the console, so nothing was done; open the console, and send it from there"
)


def is_from_console(headers: Mapping[str, str]) -> bool:
    """Tell whether a form comes from a page of this host.

    Browsers say where a request comes from (Fetch Metadata: ``Sec-Fetch-Site``; Fetch: ``Origin``), and no page can
    change that. The OWASP cheat sheet on cross-site request forgery takes this for a defence of its own;
    ``SameSite=Strict`` is the other one here.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site == "same-origin"
    return origin is not None and urlsplit(origin).netloc.lower() == (headers.get("host") or "").lower()
