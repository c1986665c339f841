"""The name of a blob out of its URL, as Microsoft's SDKs, portals and people write it."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

from shared.errors import Rejected

_PORTS = {"https": 443, "http": 80}
_NAME_LIMIT = 1024
"""Characters (Microsoft: "Naming and referencing containers, blobs, and metadata")."""

_HALF_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})")


def blob_name(url: str, container_url: str, *, field: str = "devicesUrl") -> str:
    """Give the name of a blob in a container.

    In a URL a blank is ``%20``, an umlaut the percent-encoded UTF-8 of it, ``%`` is ``%25``, and ``+`` is a plus. What
    is not encoded though it should be stands for itself.

    Args:
        url: of the blob.
        container_url: of the container, with or without a slash at its end.
        field: path of the URL in the request.

    Raises:
        Rejected: it names no blob of the container, or has a query: the app reads by its own identity, and a shared
            access signature is never repeated.
    """
    given, container = urlsplit(url), urlsplit(container_url.rstrip("/") + "/")
    if given.query or "?" in url:
        raise Rejected.because(
            "the URL has a query ('?'), such as a shared access signature; leave it out: the app reads the blob by its "
            "own identity. A '?' in the name is '%3F'",
            field=field,
        )
    if given.fragment or "#" in url:
        raise Rejected.because("the URL has a '#'; in the name of a blob write it as '%23'", field=field)
    if _account(given) != _account(container) or not given.path.startswith(container.path):
        raise Rejected.because(
            f"the URL is not in the container {container.geturl()!r}; put the list there: nothing else is read",
            field=field,
        )
    try:
        name = unquote(_HALF_ENCODED.sub("%25", given.path.removeprefix(container.path)), errors="strict")
    except UnicodeDecodeError:
        raise Rejected.because(
            "the URL's percent-encoding is not that of UTF-8: 'ü' is '%C3%BC', for instance", field=field
        ) from None
    if not 0 < len(name) <= _NAME_LIMIT:
        raise Rejected.because(f"a blob's name has 1 to {_NAME_LIMIT} characters; this has {len(name)}", field=field)
    if {".", ".."} & set(name.split("/")):  # some HTTP clients resolve it, and leave the container
        raise Rejected.because("a part of the name is '.' or '..'; give the blob another name", field=field)
    return name


def _account(url: SplitResult) -> tuple[str, str | None, int | None, bool]:
    try:
        port = url.port
    except ValueError:
        port = -1
    return url.scheme.lower(), url.hostname, port or _PORTS.get(url.scheme.lower()), "@" in url.netloc
