"""Who sent an HTTP request: whom the platform signed in, and who has which function key."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import azure.functions as func
import pytest

from shared.domain.callers import READING, Caller, CallerKind, Grant, Role
from shared.errors import Deferred, NotAuthentic, Rejected
from shared.settings import Settings
from tests.pki.hierarchy import NOW
from tests.unit.limiting import unlimited
from tests.unit.test_settings import GOOD, problems
from triggers.callers import address_of, caller_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OBJECT = "5b5450db-eb26-4c1a-981c-ba1d25f0483d"
APPLICATION = "2d4d11a2-f814-46a7-890a-274a72a7309e"
MAPPED = "http://schemas.microsoft.com/identity/claims/"
ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
USER = [("preferred_username", "ada@example.com"), (f"{MAPPED}objectidentifier", OBJECT), (f"{MAPPED}scope", "x")]
APP = [("oid", OBJECT), ("appid", APPLICATION), ("sub", OBJECT)]


class Host:
    """The Functions host, with the keys that it takes."""

    def __init__(self, *keys: str) -> None:
        self.keys, self.asked = keys, 0

    async def takes(self, key: str) -> bool:
        self.asked += 1
        if not self.keys:
            raise aiohttp.ServerDisconnectedError
        return key in self.keys

    def believes(self, _key: str) -> bool:
        return False


def principal(claims: Sequence[tuple[str, str]], **more: Any) -> dict[str, str]:
    said = {
        "auth_typ": "aad",
        "name_typ": "name",
        "role_typ": ROLE,
        "claims": [{"typ": name, "val": value} for name, value in claims],
        **more,
    }
    return {"x-ms-client-principal": b64encode(json.dumps(said).encode()).decode()}


async def caller(
    headers: Mapping[str, str], *, entra: bool = True, params: Mapping[str, str] | None = None, **more: Any
) -> Caller:
    digest = sha256(b"the-key").hexdigest()
    environment = {
        **GOOD,
        "ENTRA_AUTHENTICATION": str(entra).lower(),
        "KEY_ROLES": f"erp Orders.Write,Devices.Revoke:line-1 {'0' * 64},{digest}",
    }
    services: Any = SimpleNamespace(
        settings=Settings.from_environment(environment),
        own_host=more.get("host", Host("the-key", "another")),
        limits=unlimited(None, lambda: NOW),
    )
    request = func.HttpRequest("GET", "https://host/api/x", headers=headers, params=params or {}, body=b"")
    return await caller_of(services, request)


@pytest.mark.parametrize("claim", ["roles", ROLE])
async def test_a_user_is_known_by_the_object_id_and_has_the_app_roles(claim: str) -> None:
    """Roles of other apps, and what is not a role of this one, count for nothing."""
    roles = [(claim, "Devices.Revoke:Line-1"), (claim, "Fleet.Read"), (claim, "Owner"), ("groups", "Orders.Write")]
    assert await caller(principal([*USER, *roles])) == Caller(
        kind=CallerKind.USER,
        id=OBJECT,
        name="ada@example.com",
        grants=frozenset({Grant(Role.DEVICES_REVOKE, "line-1"), Grant(Role.FLEET_READ)}),
    )


@pytest.mark.parametrize("more", [[], [("idtyp", "app"), ("name", "line-1")]])
async def test_an_app_is_known_by_its_object_id_and_its_application_id(more: list[tuple[str, str]]) -> None:
    """A token of its own has no scope and no name of a user; some say that it is an app's."""
    assert await caller(principal([*APP, *more, ("roles", "Orders.Write")])) == Caller(
        kind=CallerKind.APP, id=OBJECT, name=APPLICATION, grants=frozenset({Grant(Role.ORDERS_WRITE)})
    )


async def test_who_is_signed_in_counts_before_a_key() -> None:
    found = await caller({**principal(USER), "x-functions-key": "the-key", "client-ip": "192.0.2.7:50123"})
    assert (found.kind, found.grants, found.address) == (CallerKind.USER, frozenset(), "192.0.2.7")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ms-client-principal": "%%%"},
        {"x-ms-client-principal": b64encode(b"[]").decode()},
        {"x-ms-client-principal": b64encode(b'{"claims": 7}').decode()},
        principal(USER, auth_typ="github"),
        principal([("roles", "Orders.Write")]),
        {"x-ms-client-principal": b64encode(b'{"auth_typ": "aad", "claims": ["roles", 7, null]}').decode()},
    ],
)
async def test_a_principal_that_is_not_of_entra_is_nobody(headers: dict[str, str]) -> None:
    """Also with a function key beside it: nobody is let in under another name."""
    with pytest.raises(NotAuthentic, match="X-MS-CLIENT-PRINCIPAL"):
        await caller({**headers, "x-functions-key": "the-key"})


async def test_without_app_service_authentication_its_header_is_refused() -> None:
    """Anybody could send it."""
    with pytest.raises(Rejected, match="is not taken, since App Service authentication is off here"):
        await caller({**principal(USER), "x-functions-key": "the-key"}, entra=False)


@pytest.mark.parametrize("entra", [True, False])
@pytest.mark.parametrize(("headers", "params"), [({"x-functions-key": "the-key"}, {}), ({}, {"code": "the-key"})])
async def test_a_key_has_the_roles_that_the_settings_give_it(
    headers: dict[str, str], params: dict[str, str], *, entra: bool
) -> None:
    """Its name is kept of it. One of two digests is enough."""
    assert await caller(headers, entra=entra, params=params) == Caller(
        kind=CallerKind.KEY,
        id="erp",
        grants=frozenset({Grant(Role.ORDERS_WRITE), Grant(Role.DEVICES_REVOKE, "line-1")}),
    )


@pytest.mark.parametrize("entra", [True, False])
async def test_a_key_that_the_settings_do_not_name_reads(*, entra: bool) -> None:
    found = await caller({"x-functions-key": "another"}, entra=entra)
    assert (found.id, found.grants) == ("a key without a name", READING)


async def test_where_the_host_lets_everybody_in_it_is_asked_about_keys() -> None:
    """A key that it does not take any more opens nothing, though the settings still name it."""
    host = Host("another")
    with pytest.raises(NotAuthentic, match="sign in with Microsoft Entra ID, or send a function key"):
        await caller({"x-functions-key": "the-key"}, host=host)
    with pytest.raises(NotAuthentic, match="who asks is not known"):
        await caller({}, host=host)
    assert host.asked == 1
    with pytest.raises(Deferred, match="can't be checked now"):
        await caller({"x-functions-key": "the-key"}, host=Host())
    await caller({"x-functions-key": "the-key"}, host=Host(), entra=False)  # the host has checked it before


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({}, None),
        ({"client-ip": "192.0.2.7:50123"}, "192.0.2.7"),
        ({"client-ip": "192.0.2.7", "x-forwarded-for": "10.0.0.5, 10.0.0.6"}, "192.0.2.7"),
        ({"x-forwarded-for": "10.0.0.5, 192.0.2.7:50123"}, "192.0.2.7"),
        ({"x-forwarded-for": "10.0.0.5, [2001:db8::1]:443"}, "2001:db8::1"),
        ({"x-forwarded-for": "2001:db8::1"}, "2001:db8::1"),
        ({"x-forwarded-for": "somewhere"}, None),
        ({"x-forwarded-for": "10.0.0.5, "}, None),
    ],
)
def test_the_address_is_the_one_that_the_platform_added(headers: dict[str, str], address: str | None) -> None:
    """What a caller says of itself stands before it."""
    assert address_of(headers) == address


LEVELS = """
import json, os
from shared.rules.zones import Zone
from triggers.registration import app_of

for entra in (False, True):
    if not os.fork():  # functions are registered once in a process
        found = app_of(Zone.STATUS, entra=entra).get_functions()
        print(json.dumps({each.get_function_name(): each.get_trigger().auth_level.name for each in found}), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.long
def test_only_with_app_service_authentication_the_host_lets_in_whoever_has_no_key() -> None:
    """The function that tells whether a key is one keeps its level."""
    done = subprocess.run([sys.executable, "-c", LEVELS], capture_output=True, text=True, check=True)
    without, with_it = map(json.loads, done.stdout.splitlines())
    assert (without["health_ready"], without["console_access"], without["get_crl"]) == (
        "FUNCTION",
        "FUNCTION",
        "ANONYMOUS",
    )
    assert {name: level for name, level in with_it.items() if level != "ANONYMOUS"} == {"console_access": "FUNCTION"}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("erp Orders.Write", "has an entry, number 1, with 2 parts; it must have three, separated by blanks: a name, "),
        ("e,p Orders.Write " + "0" * 64, "has an entry, number 1, whose name is not 1 to 64 letters, digits and - . _"),
        (
            "erp Orders " + "0" * 64,
            "has an entry, number 1, in which 'Orders' is not a role; give one of Orders.Write, ",
        ),
        ("erp Orders.Write s3cret", "has an entry, number 1, with something else than SHA-256 digests, which have 64 "),
        (f"a Fleet.Read {'0' * 64}; a Fleet.Read {'1' * 64}", "has the name 'a' more than once"),
        (f"a Fleet.Read {'0' * 64}; b Fleet.Read {'0' * 64}", f"has the digest {'0' * 64!r} more than once"),
    ],
)
def test_what_is_wrong_with_the_roles_of_keys_is_said_without_the_key(value: str, problem: str) -> None:
    found = problems(KEY_ROLES=value)
    assert [each[: len(problem) + 10] for each in found] == [f"KEY_ROLES {problem}"]
    assert "s3cret" not in str(found)


def test_roles_of_single_groups_add_up() -> None:
    settings = Settings.from_environment(
        {**GOOD, "KEY_ROLES": f"a Devices.Revoke:line-1,Devices.Revoke:line-2 {'A' * 64} ; "}
    )
    assert [(each.name, sorted(map(str, each.grants)), each.digests) for each in settings.key_roles] == [
        ("a", ["Devices.Revoke:line-1", "Devices.Revoke:line-2"], ("a" * 64,))
    ]


def test_authentication_that_the_platform_says_is_off_stops_the_app() -> None:
    """Then anybody could send its header. Where the platform does not say, the setting counts."""
    assert problems(ENTRA_AUTHENTICATION="true", WEBSITE_AUTH_ENABLED="False") == [
        "ENTRA_AUTHENTICATION is true, and WEBSITE_AUTH_ENABLED says that App Service authentication is off, so that "
        "anybody could say who they are: switch it on, or set ENTRA_AUTHENTICATION to false"
    ]
    for platform in ("True", ""):
        environment = {**GOOD, "ENTRA_AUTHENTICATION": "true", "WEBSITE_AUTH_ENABLED": platform}
        assert Settings.from_environment(environment).entra_authentication
    assert not Settings.from_environment({**GOOD, "WEBSITE_AUTH_ENABLED": "True"}).entra_authentication
