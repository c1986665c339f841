"""The bodies of queue messages, as they lie in their queues."""

from __future__ import annotations

import codecs
import json
from base64 import b64decode
from hashlib import sha256


def decoded(body: bytes) -> bytes:
    """Take a message out of base64, with line ends or without, or as it is, if it is not base64 or is JSON by itself.

    host.json leaves this to the app, because the host would set a message aside that it can't decode where no function
    ever sees it.
    """
    try:
        content = b64decode(b"".join(body.removeprefix(codecs.BOM_UTF8).strip().splitlines()), validate=True)
    except ValueError:
        return body
    try:
        json.loads(body)
    except ValueError:
        return content
    return body


def trace_of(body: bytes) -> str:
    """Give a message without a trace one of its own, the same on every delivery."""
    digest = sha256(body).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"
