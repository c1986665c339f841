"""Every route refuses what is not an id before it asks a service about it."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest

from shared.domain.callers import Role
from shared.errors import Rejected
from tests.hostile import CONTINUATIONS, IDS, NUMBERS
from tests.unit.test_roles import functions, holding
from triggers import http_api, outcomes
from triggers.http.endpoints import holder_of, published, request_id_of

if TYPE_CHECKING:
    from triggers.http.endpoints import Handler
    from triggers.openapi import Operation

VALID = {
    "registrationId": "press-1",
    "id": "line-1",
    "name": "line-1-ca1",
    "issuer": "line-1-ca1",
    "serialNumber": "7b",
    "requestId": "r-1",
    "orderId": "order-1",
    "file": "line-1-ca1.crl",
    "request": "MEow",
    "path": "0/000",
    "number": "1",
    "schema": "DeviceRevoked.json",
}
IN_PATHS = [
    (operation, name)
    for operation in published
    for name in re.findall(r"{(\w+)}", operation.route)  # what takes the rest of a path is not an id
]
LISTS = [operation for operation in published if "pageSize" in [each.name for each in operation.parameters]]


class Asked(Exception):
    """A service was asked."""


class Untouched:
    """Services of which none may be asked."""

    def __getattr__(self, name: str) -> Any:
        return Untouched()

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise Asked


class Door:
    """A deployment without a secret for webhooks."""

    async def authenticate(self, _headers: Any, _body: bytes, _door: str) -> None:
        return None


@pytest.fixture(autouse=True)
def _no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    services: Any = Untouched()
    services.webhooks = Door()
    monkeypatch.setattr(outcomes, "services", lambda: services)


def handler_of(operation: Operation) -> Handler:
    found: Handler = next(
        getattr(module, operation.name) for module in vars(http_api).values() if hasattr(module, operation.name)
    )
    return found


async def status(
    operation: Operation, *, route: dict[str, str], query: dict[str, str], headers: dict[str, str] | None = None
) -> tuple[int, str]:
    request = func.HttpRequest(
        operation.method,
        f"http://host/api/{operation.route}",
        headers={"traceparent": "\x00", **(headers or {})},
        params=query,
        route_params=route,
        body=b"{}",
    )
    answer = await outcomes.answer(request, handler_of(operation))
    return answer.status_code, answer.get_body().decode()


def route_of(operation: Operation) -> dict[str, str]:
    return {name: VALID[name] for name in re.findall(r"{\*?(\w+)}", operation.route)}


@pytest.mark.parametrize(("operation", "name"), IN_PATHS, ids=lambda each: getattr(each, "name", each))
async def test_what_is_not_an_id_is_refused_before_anything_is_asked(operation: Operation, name: str) -> None:
    """Each answer is a 400, or a 404 to relying parties; an error of storage could be neither."""
    suffix = ".crl" if operation.route.startswith("crl") else ".cer" if operation.route.startswith("ca/") else ""
    for value in IDS:
        route = {**route_of(operation), name: value + suffix}
        found, text = await status(operation, route=route, query={})
        assert found in {400, 404}, (value, text)


@pytest.mark.parametrize("operation", LISTS, ids=lambda operation: operation.name)
async def test_what_is_not_a_size_or_a_continuation_is_refused_by_field(operation: Operation) -> None:
    """Numbers of five thousand digits as well."""
    for field, values in (("pageSize", NUMBERS), ("continuationToken", CONTINUATIONS)):
        for value in values:
            found, text = await status(operation, route=route_of(operation), query={field: value})
            assert (found, f'"field": "{field}"' in text) == (400, True), (value, text)


def test_every_list_of_pages_is_looked_at() -> None:
    """So that none is left out by its way of declaring parameters."""
    assert {"list_devices", "list_rejections", "list_registrations"} <= {operation.name for operation in LISTS}


def test_no_two_routes_of_a_method_take_the_same_path() -> None:
    """The host takes the first one by the functions' names, and would never call the other."""
    shapes = [(operation.method, re.sub(r"{[^}]*}", "{}", operation.route).lower()) for operation in published]
    assert sorted(shapes) == sorted(set(shapes))
    for operation in published:
        pattern = "/".join("[^/]+" if part[:1] == "{" else re.escape(part) for part in operation.route.split("/"))
        others = [
            other.route
            for other in published
            if other is not operation and other.method == operation.method and re.fullmatch(pattern, other.route)
        ]
        assert others == [], operation.route


@pytest.mark.parametrize(
    "operation", [each for each in published if each.method != "GET"], ids=lambda operation: operation.name
)
async def test_a_body_that_was_announced_and_did_not_arrive_is_asked_for(operation: Operation) -> None:
    """Before anything is done: 411, and what would be right."""
    request = func.HttpRequest(
        operation.method,
        "http://host/api",
        headers={"Transfer-Encoding": "chunked"},
        route_params=route_of(operation),
        body=b"",
    )
    answer = await outcomes.answer(request, handler_of(operation))
    assert answer.status_code == 411
    assert b"send it with Content-Length" in answer.get_body()


@pytest.mark.parametrize("key", ["", *[each for each in IDS if each.strip()]])
async def test_an_idempotency_key_that_is_not_an_id_is_refused(key: str) -> None:
    """In quotes too, where an empty one is one that was given."""
    request: Any = SimpleNamespace(headers={"Idempotency-Key": f'"{key}"'}, params={})
    with pytest.raises(Rejected):
        request_id_of(request)
    with pytest.raises(Rejected):
        holder_of(request)


def test_a_key_in_quotes_is_the_key() -> None:
    """The IETF's draft has it in quotes, and many send it bare; a caller is known by either."""
    requests: list[Any] = [SimpleNamespace(headers={"Idempotency-Key": text}, params={}) for text in ("k-1", ' "k-1" ')]
    bare, quoted = requests
    assert request_id_of(quoted) == request_id_of(bare) == "k-1"
    assert holder_of(quoted) == holder_of(bare)


@pytest.mark.parametrize(
    "operation", [each for each in published if not each.anonymous], ids=lambda operation: operation.name
)
async def test_a_parameter_without_a_value_is_refused(operation: Operation, monkeypatch: pytest.MonkeyPatch) -> None:
    """``?dryRun`` must not do what was only to be foreseen. The host keeps it in the URL, and leaves it out of the rest."""
    holding(monkeypatch, ",".join(Role))
    known = sorted(each.name for each in operation.parameters if each.place == "query")
    taken = f"known are {', '.join(known)}" if known else "it takes none"
    expected = {"dry&code=": ("dry", f"is not a parameter of this operation; {taken}")}
    for name in (each for each in known if each != "continuationToken"):  # that of the first page
        expected[name] = expected[f"{name}="] = (name, "has no value; give one, or leave the parameter out")
    for query, (field, message) in expected.items():
        request = func.HttpRequest(
            operation.method,
            f"https://host/api/x?{query}",
            headers={"x-functions-key": "the-key"},
            route_params=route_of(operation),
            body=b"{}",
        )
        answer = await functions()[operation.name].get_user_function()(request)
        assert (answer.status_code, json.loads(answer.get_body())["errors"]) == (
            400,
            [{"field": field, "message": message}],
        )
