"""Webhook signatures, after Standard Webhooks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import Misconfigured, NotAuthentic
from shared.workflows.intake.webhooks import Webhooks, key_of, sign, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = key_of(SECRET)
NOW = datetime(2021, 2, 25, 15, 13, 20, tzinfo=UTC)
BODY = b'{"test": 2432232314}'
IDENTIFIER = "msg_p5jXN8AQM9LWM0D4loKWxJek"


def headers(**changes: str) -> dict[str, str]:
    stamp = str(int(NOW.timestamp()))
    given = {
        "webhook-id": IDENTIFIER,
        "webhook-timestamp": stamp,
        "webhook-signature": sign(KEY, IDENTIFIER, stamp, BODY),
    }
    return {**given, **{f"webhook-{name}": value for name, value in changes.items()}}


def test_a_genuine_webhook_gives_its_id() -> None:
    """A signature over id, timestamp and raw body is accepted, also as one of several."""
    assert verify(KEY, headers(), BODY, NOW) == IDENTIFIER
    several = "v1,bm9wZQ== " + headers()["webhook-signature"]
    assert verify(KEY, headers(signature=several), BODY, NOW) == IDENTIFIER


@pytest.mark.parametrize(
    ("changes", "body", "late", "message"),
    [
        ({}, b"{}", timedelta(), "webhook-signature: webhook-signature does not fit the body"),
        ({"id": "other"}, BODY, timedelta(), "webhook-signature: webhook-signature does not fit the body"),
        ({}, BODY, timedelta(minutes=6), "webhook-timestamp: webhook-timestamp is off by more than five minutes"),
        ({}, BODY, -timedelta(minutes=6), "webhook-timestamp: webhook-timestamp is off by more than five minutes"),
        ({"timestamp": "9" * 30}, BODY, timedelta(), "webhook-timestamp: webhook-timestamp must be seconds since 1970"),
        (
            {"timestamp": "9" * 12},
            BODY,
            timedelta(),
            "webhook-timestamp: webhook-timestamp is off by more than five minutes",
        ),
        ({"timestamp": "١٦١٤"}, BODY, timedelta(), "webhook-timestamp: webhook-timestamp must be seconds since 1970"),
        ({"id": "\udcff"}, BODY, timedelta(), "webhook-signature: webhook-signature does not fit the body"),
        ({"signature": "v1,\udcff"}, BODY, timedelta(), "webhook-signature: webhook-signature does not fit the body"),
        ({"timestamp": "soon"}, BODY, timedelta(), "webhook-timestamp: webhook-timestamp must be seconds since 1970"),
        ({"signature": ""}, BODY, timedelta(), "the webhook lacks the header webhook-signature (Standard Webhooks)"),
    ],
)
def test_anything_else_is_not_authentic(changes: dict[str, str], body: bytes, late: timedelta, message: str) -> None:
    """Another body, id or time, or no signature: each is refused with its reason."""
    with pytest.raises(NotAuthentic) as caught:
        verify(KEY, headers(**changes), body, NOW + late)
    assert str(caught.value) == message


def test_the_specification_s_example_is_signed_as_it_says() -> None:
    """The signature in the documentation of Standard Webhooks."""
    example = sign(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", BODY)
    assert example == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


class Vault:
    """A vault with one secret, or none."""

    def __init__(self, secret: str | None) -> None:
        self.secret = secret

    async def get(self, name: str) -> str | None:
        assert name == "hook"
        return self.secret


async def test_without_a_secret_s_name_the_function_key_is_enough() -> None:
    """Nothing is asked of the headers, and the caller has no id of its own."""
    door = Webhooks(secrets=Vault(None), secret_name=None, clock=lambda: NOW)
    await door.check()
    assert await door.authenticate({}, b"") is None


@pytest.mark.parametrize("secret", [SECRET, f"{SECRET}\n", f"\t{SECRET}\r\n "])
async def test_white_space_around_a_secret_does_not_count(secret: str) -> None:
    """A secret that was stored out of a file ends with a line end."""
    given = {name.title(): value for name, value in headers().items()}
    assert (
        await Webhooks(secrets=Vault(secret), secret_name="hook", clock=lambda: NOW).authenticate(given, BODY)
        == IDENTIFIER
    )


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        (None, "the vault has no secret 'hook', which WEBHOOK_SECRET_NAME names"),
        ("", "has a key of 0 octets; it needs 16, and 24 to 64 are recommended"),
        ("whsec_", "has a key of 0 octets; it needs 16, and 24 to 64 are recommended"),
        ("whsec_c2hvcnQ=", "has a key of 5 octets; it needs 16, and 24 to 64 are recommended"),
        ("whsec_MfKQ9r8GK\nYqrTwjUPD8ILPZIo2LaLaSw", "must be 'whsec_' and the key in base64"),
        ("whsec_ümlaut", "must be 'whsec_' and the key in base64"),
    ],
)
async def test_a_secret_that_keeps_nobody_out_is_refused(secret: str | None, message: str) -> None:
    """An empty one would let everybody sign; the door stays shut, and readiness says why."""
    door = Webhooks(secrets=Vault(secret), secret_name="hook", clock=lambda: NOW)
    with pytest.raises(Misconfigured) as caught:
        await door.authenticate(headers(), BODY)
    assert str(caught.value).endswith(message)
    with pytest.raises(Misconfigured):
        await door.check()
