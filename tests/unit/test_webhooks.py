"""Webhook signatures, after Standard Webhooks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import NotAuthentic
from shared.webhooks import sign, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime(2021, 2, 25, 15, 13, 20, tzinfo=UTC)
BODY = b'{"test": 2432232314}'
IDENTIFIER = "msg_p5jXN8AQM9LWM0D4loKWxJek"


def headers(**changes: str) -> dict[str, str]:
    stamp = int(NOW.timestamp())
    given = {
        "webhook-id": IDENTIFIER,
        "webhook-timestamp": str(stamp),
        "webhook-signature": sign(SECRET, IDENTIFIER, stamp, BODY),
    }
    return {**given, **{f"webhook-{name}": value for name, value in changes.items()}}


def test_a_genuine_webhook_gives_its_id() -> None:
    """A signature over id, timestamp and raw body is accepted, also as one of several."""
    assert verify(SECRET, headers(), BODY, NOW) == IDENTIFIER
    several = "v1,bm9wZQ== " + headers()["webhook-signature"]
    assert verify(SECRET, headers(signature=several), BODY, NOW) == IDENTIFIER


@pytest.mark.parametrize(
    ("changes", "body", "late", "message"),
    [
        ({}, b"{}", timedelta(), "webhook-signature: webhook-signature does not fit the body"),
        ({"id": "other"}, BODY, timedelta(), "webhook-signature: webhook-signature does not fit the body"),
        ({}, BODY, timedelta(minutes=6), "webhook-timestamp: webhook-timestamp is off by more than five minutes"),
        ({}, BODY, -timedelta(minutes=6), "webhook-timestamp: webhook-timestamp is off by more than five minutes"),
        ({"timestamp": "soon"}, BODY, timedelta(), "webhook-timestamp: webhook-timestamp must be seconds since 1970"),
        ({"signature": ""}, BODY, timedelta(), "the webhook lacks the header webhook-signature (Standard Webhooks)"),
    ],
)
def test_anything_else_is_not_authentic(changes: dict[str, str], body: bytes, late: timedelta, message: str) -> None:
    """Another body, id or time, or no signature: each is refused with its reason."""
    with pytest.raises(NotAuthentic) as caught:
        verify(SECRET, headers(**changes), body, NOW + late)
    assert str(caught.value) == message
