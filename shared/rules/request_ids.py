"""Ids of requests that the app makes itself."""

from __future__ import annotations

from hashlib import sha256


def led_to(prefix: str, *parts: str) -> str:
    """Name a request that something else leads to: the same id whenever it is asked for again, so it is done once.

    Args:
        prefix: what leads to it, as in ``revoked-ca``.
        parts: what tells it from others.

    Returns:
        The prefix, a hyphen and 32 hexadecimal digits.
    """
    return f"{prefix}-{sha256('|'.join(parts).encode()).hexdigest()[:32]}"
