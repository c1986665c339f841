"""Tokens of users and apps for an API of one's own, and the key that tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import jwt
import pytest
import requests

if TYPE_CHECKING:
    from emulator.tests.running import RunningEmulator

AUDIENCE = "api://my-api"
USER = {
    "kind": "user",
    "name": "ada@example.com",
    "roles": ["Fleet.Read", "Devices.Revoke:line-1"],
    "audience": AUDIENCE,
}


def ask(emulator: RunningEmulator, body: Any) -> requests.Response:
    return requests.post(f"{emulator.endpoints['adminUrl']}/tokens", json=body, timeout=10)


def claims_of(emulator: RunningEmulator, token: str) -> dict[str, Any]:
    """Check a token as its API does, with the issuer's published key."""
    url = urljoin(emulator.endpoints["identityEndpoint"], "/common/discovery/keys")
    keys = jwt.PyJWKSet.from_dict(requests.get(url, timeout=10).json())
    key = next(each for each in keys.keys if each.key_id == jwt.get_unverified_header(token)["kid"])
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE)
    return claims


def test_a_user_s_token_has_the_user_s_app_roles(emulator: RunningEmulator) -> None:
    """It is signed with the published key, for the API that it was asked for; a user is the same one each time."""
    answer = ask(emulator, USER).json()
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)
    claims = claims_of(emulator, answer["access_token"])
    assert (claims["upn"], claims["roles"]) == ("ada@example.com", ["Fleet.Read", "Devices.Revoke:line-1"])
    assert claims["oid"] != claims["sub"]
    again = claims_of(emulator, ask(emulator, {**USER, "roles": []}).json()["access_token"])
    assert (again["oid"], "roles" in again) == (claims["oid"], False)


def test_an_app_s_token_is_its_own(emulator: RunningEmulator) -> None:
    """Its subject is itself, and it has no scope and no name of a user."""
    claims = claims_of(emulator, ask(emulator, {**USER, "kind": "app", "name": "erp"}).json()["access_token"])
    assert (claims["idtyp"], claims["sub"]) == ("app", claims["oid"])
    assert {"appid", "roles"} <= set(claims)
    assert not {"scp", "upn", "name"} & set(claims)


def test_a_token_may_have_expired(emulator: RunningEmulator) -> None:
    token = ask(emulator, {**USER, "lifetimeSeconds": -60}).json()["access_token"]
    with pytest.raises(jwt.ExpiredSignatureError):
        claims_of(emulator, token)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({**USER, "kind": "device"}, "kind is 'device'."),
        ({**USER, "role": "Fleet.Read"}, "kind is 'user'."),
        ({**USER, "name": ""}, "name and audience must not be empty."),
        ({"kind": "user", "name": "ada", "roles": []}, "name and audience must not be empty."),
        ({**USER, "roles": "Fleet.Read"}, "roles is 'Fleet.Read'."),
        ({**USER, "lifetimeSeconds": "soon"}, "lifetimeSeconds must be a number."),
        ([], "kind is None."),
    ],
)
def test_a_body_that_is_not_valid_is_refused(emulator: RunningEmulator, body: Any, why: str) -> None:
    answer = ask(emulator, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].endswith(why)
