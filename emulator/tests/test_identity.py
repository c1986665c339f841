"""The managed identity endpoint, and the tokens it issues."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential
from cryptography.hazmat.primitives.asymmetric import rsa

from emulator.platform.configuration import TENANT_ID
from emulator.platform.identity.errors import Unauthenticated
from emulator.platform.identity.tokens import KEY_VAULT_AUDIENCE, Tokens
from emulator.platform.store import Store
from emulator.tests.running import made_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential

    from emulator.tests.running import RunningEmulator

UNKNOWN_RESOURCE = (
    "The resource 'https://vault.example' is unknown; known are: https://azure-devices-provisioning.net, "
    "https://iothubs.azure.net, https://vault.azure.net, https://management.azure.com, https://storage.azure.com, "
    "https://eventgrid.azure.net."
)
UNKNOWN_CLIENT = (
    "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId: "
    "client_id is 'me', and must be a GUID."
)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def claims_of(token: str) -> dict[str, Any]:
    """What a token says."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def ask(
    emulator: RunningEmulator, query: Mapping[str, str], headers: Mapping[str, str] | None = None
) -> requests.Response:
    """Ask the identity endpoint as no SDK would."""
    given = {"X-IDENTITY-HEADER": emulator.endpoints["identityHeader"]} if headers is None else headers
    return requests.get(emulator.endpoints["identityEndpoint"], params=query, headers=given, timeout=10)


def test_the_sdk_gets_a_token_of_an_application(managed_identity: ManagedIdentityCredential) -> None:
    """azure-identity gets a token for a day whose audience is the resource it asked for."""
    token = managed_identity.get_token("https://vault.azure.net/.default")
    claims = claims_of(token.token)
    assert claims["aud"] == "https://vault.azure.net"
    assert claims["iss"] == f"https://sts.windows.net/{TENANT_ID}/"
    assert claims["tid"] == TENANT_ID
    assert claims["idtyp"] == "app"
    assert claims["exp"] - claims["iat"] == 86_400
    assert abs(token.expires_on - claims["exp"]) <= 2
    assert abs(claims["nbf"] - time.time()) < 60


async def test_the_asynchronous_sdk_gets_one_too(async_managed_identity: AsyncManagedIdentityCredential) -> None:
    """The aio credential gets a token for storage, whose audience keeps the slash a client may write."""
    token = await async_managed_identity.get_token("https://storage.azure.com//.default")
    assert claims_of(token.token)["aud"] == "https://storage.azure.com/"


def test_a_user_assigned_identity_is_another_principal(
    managed_identity: ManagedIdentityCredential,
) -> None:
    """A client id gets a token in its own name."""
    client_id = "6f1dd4dc-3a2f-4c7c-92bb-8a9f6f4f5ad1"
    with ManagedIdentityCredential(client_id=client_id) as user_assigned:
        claims = claims_of(user_assigned.get_token("https://vault.azure.net/.default").token)
    system_assigned = claims_of(managed_identity.get_token("https://vault.azure.net/.default").token)
    assert claims["appid"] == client_id
    assert claims["oid"] != system_assigned["oid"]


@pytest.mark.parametrize("headers", [{}, {"X-IDENTITY-HEADER": "guess"}, {"X-IDENTITY-HEADER": "gu\xe9ss"}])
def test_no_token_without_the_header(emulator: RunningEmulator, headers: Mapping[str, str]) -> None:
    """Whoever does not know IDENTITY_HEADER gets no token."""
    answer = ask(emulator, {"api-version": "2019-08-01", "resource": KEY_VAULT_AUDIENCE}, headers)
    assert answer.status_code == 401
    assert answer.json()["message"] == (
        "The header X-IDENTITY-HEADER is missing or wrong; it must hold the value of IDENTITY_HEADER."
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"resource": KEY_VAULT_AUDIENCE}, "The api-version '' is not supported; use 2019-08-01."),
        (
            {"api-version": "2019-08-01", "resource": "https://vault.example"},
            UNKNOWN_RESOURCE,
        ),
        (
            {"api-version": "2019-08-01", "resource": KEY_VAULT_AUDIENCE, "client_id": "me"},
            UNKNOWN_CLIENT,
        ),
    ],
)
def test_a_bad_question_is_answered_in_words(emulator: RunningEmulator, query: Mapping[str, str], message: str) -> None:
    """A wrong api-version, resource or client id gets a 400 that names it."""
    answer = ask(emulator, query)
    assert answer.status_code == 400
    assert answer.json()["message"] == message


def test_the_sdk_reports_the_refusal(managed_identity: ManagedIdentityCredential) -> None:
    """azure-identity passes on why it got no token."""
    with pytest.raises((CredentialUnavailableError, ClientAuthenticationError), match=re.escape(UNKNOWN_RESOURCE)):
        managed_identity.get_token("https://vault.example/.default")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of the test's own."""
    kept = Store(tmp_path / "tokens.sqlite3")
    made_once().put_signing_key(kept)
    yield kept
    kept.close()


def tokens_at(store: Store, now: datetime) -> Tokens:
    """The tokens of an emulator with that state and that clock."""
    return Tokens(store, tenant_id=TENANT_ID, clock=lambda: now)


@pytest.mark.parametrize("audience", ["https://vault.azure.net", "https://vault.azure.net/"])
def test_a_token_holds_until_its_last_second(store: Store, audience: str) -> None:
    """A token works until it expires, with or without a slash after its audience, also across a restart."""
    issued = tokens_at(store, NOW).issue(audience, lifetime=timedelta(hours=1))
    tokens_at(store, NOW + timedelta(minutes=59, seconds=59)).verify(f"Bearer {issued.token}", KEY_VAULT_AUDIENCE)
    with pytest.raises(Unauthenticated, match=r"^the token expired at 2026-11-23T13:00:00Z$"):
        tokens_at(store, NOW + timedelta(hours=1)).verify(f"Bearer {issued.token}", KEY_VAULT_AUDIENCE)


def forged(**changes: Any) -> str:
    """A header with a token signed by a key that the emulator never had."""
    claims = {
        "aud": KEY_VAULT_AUDIENCE,
        "iss": f"https://sts.windows.net/{TENANT_ID}/",
        "nbf": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 3600,
    }
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return f"Bearer {jwt.encode(claims | changes, key, 'RS256')}"


def unsigned() -> str:
    """A header with a token of algorithm "none"."""
    return f"Bearer {jwt.encode({'aud': KEY_VAULT_AUDIENCE}, '', 'none')}"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "the request has no Authorization header"),
        ("", "the request has no Authorization header"),
        ("Basic abc", "the Authorization header is not of the form 'Bearer <token>'"),
        ("Bearer ", "the Authorization header is not of the form 'Bearer <token>'"),
        ("Bearer abc", "the token is not a JSON Web Token signed with RS256"),
        (unsigned(), "the token is not a JSON Web Token signed with RS256"),
        (forged(), "the token was not signed by this emulator's identity endpoint"),
    ],
)
def test_what_is_no_token_of_ours_is_refused(store: Store, header: str | None, reason: str) -> None:
    """Anything but a token signed by this emulator is turned away, with the reason and without the token."""
    with pytest.raises(Unauthenticated) as refusal:
        tokens_at(store, NOW).verify(header, KEY_VAULT_AUDIENCE)
    assert refusal.value.reason == reason


def test_a_token_for_another_service_is_refused(store: Store) -> None:
    """The audience is compared as a whole: a service takes only tokens that were issued for it."""
    issued = tokens_at(store, NOW).issue("https://vault.azure.net.example")
    with pytest.raises(Unauthenticated) as refusal:
        tokens_at(store, NOW).verify(f"Bearer {issued.token}", KEY_VAULT_AUDIENCE)
    assert refusal.value.reason == (
        "the token's audience is 'https://vault.azure.net.example'; 'https://vault.azure.net' is expected"
    )


def test_a_token_of_another_tenant_is_refused(store: Store) -> None:
    """The issuer has to be the emulator's own tenant, even under the right key."""
    other = Tokens(store, tenant_id="11111111-2222-3333-4444-555555555555", clock=lambda: NOW)
    with pytest.raises(Unauthenticated) as refusal:
        tokens_at(store, NOW).verify(f"Bearer {other.issue(KEY_VAULT_AUDIENCE).token}", KEY_VAULT_AUDIENCE)
    assert refusal.value.reason == f"the token's issuer is not 'https://sts.windows.net/{TENANT_ID}/'"


def test_a_token_from_the_future_is_refused(store: Store) -> None:
    """A token may be used up to five minutes before its nbf, as clocks differ, and no earlier."""
    header = f"Bearer {tokens_at(store, NOW).issue(KEY_VAULT_AUDIENCE).token}"
    tokens_at(store, NOW - timedelta(minutes=5)).verify(header, KEY_VAULT_AUDIENCE)
    with pytest.raises(Unauthenticated, match=r"^the token is not valid before 2026-11-23T12:00:00Z$"):
        tokens_at(store, NOW - timedelta(minutes=5, seconds=1)).verify(header, KEY_VAULT_AUDIENCE)
