"""Ids of requests that the app makes itself."""

from __future__ import annotations

import hmac
from hashlib import sha256


def led_to(prefix: str, *parts: str, secret: str | None = None) -> str:
    """Name a request that something else leads to: the same id whenever it is asked for again, so it is done once.

    Args:
        prefix: what leads to it, as in ``revoked-ca``.
        parts: what tells it from others.
        secret: without it nobody can work the id out, and take it for something else beforehand; ``None`` makes an id
            that anybody can work out who knows the parts.

    Returns:
        The prefix, a hyphen and 32 hexadecimal digits.
    """
    told_apart = "|".join(parts).encode()
    digest = hmac.new(secret.encode(), told_apart, sha256) if secret is not None else sha256(told_apart)
    return f"{prefix}-{digest.hexdigest()[:32]}"
