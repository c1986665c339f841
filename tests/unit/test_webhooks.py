"""Webhook signatures, after Standard Webhooks."""

from __future__ import annotations

import hmac
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import Misconfigured, NotAuthentic, Rejected, Reused
from shared.ledger.webhook_uses import WebhookUses
from shared.workflows.intake.webhooks import Keys, Webhooks, keys_of, signed_content, verify
from tests.unit.fakes import FakeTable

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = keys_of(SECRET)
DOOR = "POST /api/revocations"
NOW = datetime(2021, 2, 25, 15, 13, 20, tzinfo=UTC)
BODY = b'{"test": 2432232314}'
IDENTIFIER = "msg_p5jXN8AQM9LWM0D4loKWxJek"


def sign(keys: Keys, identifier: str, timestamp: str, body: bytes) -> str:
    """Sign as the owner of a secret does (RFC 2104)."""
    digest = hmac.new(keys.shared[0], f"{identifier}.{timestamp}.".encode() + body, sha256).digest()
    return f"v1,{b64encode(digest).decode()}"


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


def opened(secret: str | None, name: str | None = "hook") -> Webhooks:
    return Webhooks(secrets=Vault(secret), secret_name=name, uses=WebhookUses(FakeTable()), clock=lambda: NOW)


async def test_without_a_secret_s_name_the_role_is_enough() -> None:
    """Nothing is asked of the headers, and the caller has no id of its own."""
    door = opened(None, None)
    await door.check()
    assert await door.authenticate({}, b"", DOOR) is None


@pytest.mark.parametrize("secret", [SECRET, f"{SECRET}\n", f"\t{SECRET}\r\n "])
async def test_white_space_around_a_secret_does_not_count(secret: str) -> None:
    """A secret that was stored out of a file ends with a line end."""
    given = {name.title(): value for name, value in headers().items()}
    assert await opened(secret).authenticate(given, BODY, DOOR) == IDENTIFIER


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        (None, "the vault has no secret 'hook', which WEBHOOK_SECRET_NAME names"),
        ("", "is empty; it must hold 'whsec_' or 'whpk_' and a key in base64"),
        ("whsec_", "has a key of 0 octets; it needs 16, and 24 to 64 are recommended"),
        ("whsec_c2hvcnQ=", "has a key of 5 octets; it needs 16, and 24 to 64 are recommended"),
        ("whsec_MfKQ9r8GK\nYqrTwjUPD8ILPZIo2LaLaSw", "must be 'whsec_' or 'whpk_' and the key in base64"),
        ("whpk_c2hvcnQ=", "has a public key of 5 octets; one of Ed25519 has 32"),
        ("whpk_%", "must be 'whsec_' or 'whpk_' and the key in base64"),
        (
            "whsk_c2hvcnQ=",
            "holds a private key (whsk_), which belongs to who signs; put its public key (whpk_) there",
        ),
        ("whsec_ümlaut", "must be 'whsec_' or 'whpk_' and the key in base64"),
    ],
)
async def test_a_secret_that_keeps_nobody_out_is_refused(secret: str | None, message: str) -> None:
    """An empty one would let everybody sign; the door stays shut, and readiness says why."""
    door = opened(secret)
    with pytest.raises(Misconfigured) as caught:
        await door.authenticate(headers(), BODY, DOOR)
    assert str(caught.value).endswith(message)
    with pytest.raises(Misconfigured):
        await door.check()


def own_signature(key: Ed25519PrivateKey, body: bytes = BODY) -> str:
    content = signed_content(IDENTIFIER, str(int(NOW.timestamp())), body)
    return f"v1a,{b64encode(key.sign(content)).decode()}"


def public(key: Ed25519PrivateKey) -> str:
    return f"whpk_{b64encode(key.public_key().public_bytes_raw()).decode()}"


async def test_a_key_is_changed_by_putting_the_new_one_beside_the_old_one() -> None:
    """Of either scheme: what was signed with any of them is genuine, and with another one is not."""
    old, new, other = (Ed25519PrivateKey.generate() for _ in range(3))
    another = "whsec_" + b64encode(b"0" * 24).decode()
    secret = f"{SECRET} {another}\n{public(old)}\t{public(new)}"
    signatures = [
        headers()["webhook-signature"],
        sign(keys_of(another), IDENTIFIER, headers()["webhook-timestamp"], BODY),
        own_signature(old),
        own_signature(new),
        f"v1,AAAA v1a,AAAA {own_signature(new)}",
    ]
    for signature in signatures:
        assert await opened(secret).authenticate(headers(signature=signature), BODY, DOOR) == IDENTIFIER
    for signature in (
        own_signature(other),
        own_signature(new, b"{}"),
        own_signature(new).replace("v1a,", "v1,"),
        headers()["webhook-signature"].replace("v1,", "v1a,"),
        own_signature(new).removeprefix("v1a,"),
        "v2,AAAA",
    ):
        with pytest.raises(NotAuthentic):
            await opened(secret).authenticate(headers(signature=signature), BODY, DOOR)


def test_a_public_key_alone_lets_nobody_sign() -> None:
    """With what is in the vault, no webhook can be made: the key that signs is elsewhere."""
    key = Ed25519PrivateKey.generate()
    keys = keys_of(public(key))
    stamp = headers()["webhook-timestamp"]
    octets = key.public_key().public_bytes_raw()
    forged = sign(Keys(shared=(octets,)), IDENTIFIER, stamp, BODY)
    for signature in (forged, forged.replace("v1,", "v1a,")):
        with pytest.raises(NotAuthentic):
            verify(keys, headers(signature=signature), BODY, NOW)


async def test_a_signed_call_that_was_caught_can_be_repeated_and_nothing_else() -> None:
    """The path is not signed. So its id belongs to where it went first, with its body."""
    door = opened(SECRET)
    for _ in range(2):
        assert await door.authenticate(headers(), BODY, "POST /api/devices/press-1/revoke") == IDENTIFIER
    for elsewhere in ("POST /api/devices/press-2/revoke", "DELETE /api/devices/press-1", DOOR):
        with pytest.raises(Reused, match="came on 2021-02-25 with another method, path or body"):
            await door.authenticate(headers(), BODY, elsewhere)


async def test_an_id_that_cannot_be_a_request_s_is_refused() -> None:
    """It becomes the id of the request."""
    given = headers(id="a/b", signature=sign(KEY, "a/b", headers()["webhook-timestamp"], BODY))
    with pytest.raises(Rejected, match="is not a valid id"):
        await opened(SECRET).authenticate(given, BODY, DOOR)
