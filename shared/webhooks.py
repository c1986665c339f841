"""Signatures of webhooks, after the Standard Webhooks specification (standardwebhooks.com), symmetric scheme ``v1``."""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.errors import NotAuthentic

if TYPE_CHECKING:
    from collections.abc import Mapping

TOLERANCE = timedelta(minutes=5)
"""How far a webhook's timestamp may be off: what is older could be a replay."""

_SECRET_PREFIX = "whsec_"  # noqa: S105 - the specification's prefix, not a secret


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """Check that a webhook comes from who holds the secret.

    Args:
        secret: ``whsec_`` and the key in base64.
        headers: of the request, names in lower case.
        body: the raw body, byte for byte.
        now: the present time.

    Returns:
        The webhook's id, its idempotency key.

    Raises:
        NotAuthentic: a header is missing, the timestamp is off by more than five minutes, or no signature fits.
    """
    given = {name: headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")}
    missing = [f"webhook-{name}" for name, value in given.items() if not value]
    if missing:
        raise NotAuthentic.because(f"the webhook lacks the header {', '.join(missing)} (Standard Webhooks)")
    if not given["timestamp"].isdecimal():
        raise NotAuthentic.because("webhook-timestamp must be seconds since 1970", field="webhook-timestamp")
    if abs(now - datetime.fromtimestamp(int(given["timestamp"]), UTC)) > TOLERANCE:
        raise NotAuthentic.because("webhook-timestamp is off by more than five minutes", field="webhook-timestamp")
    expected = sign(secret, given["id"], int(given["timestamp"]), body)
    if not any(hmac.compare_digest(expected.encode(), each.encode()) for each in given["signature"].split()):
        raise NotAuthentic.because("webhook-signature does not fit the body", field="webhook-signature")
    return given["id"]


def sign(secret: str, identifier: str, timestamp: int, body: bytes) -> str:
    """Give the signature of a webhook, as in ``webhook-signature``.

    Args:
        secret: ``whsec_`` and the key in base64.
        identifier: the webhook's id.
        timestamp: seconds since 1970.
        body: the raw body.

    Raises:
        ValueError: the secret is not of that form.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("the webhook secret must be 'whsec_' and the key in base64") from None
    content = f"{identifier}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, sha256).digest()).decode()
