"""What stands in for App Service authentication locally: it checks tokens, and takes claims of others away."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from devstack.functions_host.authentication import Authentication, Refused, me
from shared.domain.callers import CallerKind, Grant, Role
from shared.settings import Settings
from tests.unit.test_settings import GOOD
from triggers.callers import caller_of

OBJECT = "5b5450db-eb26-4c1a-981c-ba1d25f0483d"
USER: dict[str, Any] = {
    "aud": "api://factory",
    "iss": "https://sts.windows.net/t/",
    "oid": OBJECT,
    "sub": "s",
    "upn": "ada@example.com",
    "scp": "user_impersonation",
    "roles": ["Fleet.Read", "Devices.Revoke:line-1"],
}


@cache
def key(name: str) -> rsa.RSAPrivateKey:
    del name
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def token(claims: dict[str, Any] | None = None, *, signed_with: str = "issuer", named: str = "k", **more: Any) -> str:
    now = datetime.now(UTC)
    times = {"nbf": now - timedelta(minutes=1), "exp": now + timedelta(minutes=5)}
    said = {name: value for name, value in {**times, **(claims or USER), **more}.items() if value is not None}
    return jwt.encode(said, key(signed_with), "RS256", headers={"kid": named})


def host() -> Authentication:
    known = Authentication("http://127.0.0.1:1/keys", "api://factory")
    known._keys["k"] = jwt.PyJWK.from_dict(  # noqa: SLF001 - in the place of the issuer's answer
        jwt.algorithms.RSAAlgorithm.to_jwk(key("issuer").public_key(), as_dict=True) | {"kid": "k", "alg": "RS256"}
    )
    return known


async def test_the_app_sees_who_a_token_is_of() -> None:
    """By the header that App Service sets, in its shape: the app reads from it what it reads in Azure."""
    headers = await host().headers({"authorization": f"Bearer {token()}", "accept": "*/*"})
    assert headers["x-ms-client-principal-name"] == "ada@example.com"
    said = json.loads(b64decode(headers["x-ms-client-principal"]))
    assert said["auth_typ"] == "aad"
    assert {"typ": "http://schemas.microsoft.com/identity/claims/objectidentifier", "val": OBJECT} in said["claims"]
    services: Any = SimpleNamespace(settings=Settings.from_environment({**GOOD, "ENTRA_AUTHENTICATION": "true"}))
    request = func.HttpRequest("GET", "http://h/api/x", headers=headers, params={}, body=b"")
    caller = await caller_of(services, request)
    assert (caller.kind, caller.id, caller.name) == (CallerKind.USER, OBJECT, "ada@example.com")
    assert caller.grants == {Grant(Role.FLEET_READ), Grant(Role.DEVICES_REVOKE, "line-1")}
    [shown] = me(USER)
    assert (shown["provider_name"], shown["user_id"]) == ("aad", "ada@example.com")
    assert {"typ": "roles", "val": "Fleet.Read"} in shown["user_claims"]


async def test_what_a_request_says_of_its_user_is_taken_away() -> None:
    """With a token, and without one."""
    forged = {"x-ms-client-principal": "forged", "x-ms-client-principal-id": "forged", "x-ms-token-aad-id-token": "f"}
    assert await host().headers({**forged, "accept": "*/*"}) == {"accept": "*/*"}
    headers = await host().headers({**forged, "authorization": f"bearer {token()}"})
    assert "forged" not in headers.values()
    assert headers["x-ms-client-principal-id"] == OBJECT
    assert (await host().headers({"authorization": "Basic eDp5"})) == {"authorization": "Basic eDp5"}


@pytest.mark.parametrize(
    "given",
    [
        {"aud": "https://vault.azure.net"},
        {"exp": datetime(2026, 1, 1, tzinfo=UTC), "nbf": datetime(2025, 1, 1, tzinfo=UTC)},
        {"nbf": datetime(2126, 1, 1, tzinfo=UTC), "exp": datetime(2127, 1, 1, tzinfo=UTC)},
        {"oid": None},
        {"signed_with": "somebody"},
    ],
)
async def test_a_token_that_does_not_hold_is_refused(given: dict[str, Any]) -> None:
    """For another API, at another time, of nobody, or signed by somebody else."""
    with pytest.raises(Refused):
        await host().headers({"authorization": f"Bearer {token(**given)}"})


@pytest.mark.parametrize("text", ["", "x", "a.b.c"])
async def test_what_is_not_a_token_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        await host().headers({"authorization": f"Bearer {text}"})


async def test_a_token_without_a_signature_is_refused() -> None:
    """Whatever it says of its algorithm (RFC 8725 section 3.1)."""
    unsigned = jwt.encode({**USER, "exp": 1e10, "nbf": 0}, "", "none", headers={"kid": "k"})
    shared = jwt.encode({**USER, "exp": 1e10, "nbf": 0}, "0" * 32, "HS256", headers={"kid": "k"})
    for each in (unsigned, shared):
        with pytest.raises(Refused):
            await host().headers({"authorization": f"Bearer {each}"})
