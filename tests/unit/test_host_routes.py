"""Routes of the functions host: matched, and requests read, as the real host does."""

from __future__ import annotations

from typing import Any

import pytest

from devstack.functions_host.configuration import ConfigurationError
from devstack.functions_host.routes import decoded_path, found, headers, query, routes
from devstack.functions_host.worker import Function


def function(name: str, route: str | None, *methods: str) -> Function:
    trigger: dict[str, Any] = {"type": "httpTrigger", "route": route, "methods": list(methods)}
    return Function(name, name, trigger)


FUNCTIONS = [
    function("get_item", "items/{id}", "GET", "HEAD"),
    function("delete_item", "items/{id}", "DELETE"),
    function("items_new", "items/new", "GET"),
    function("ask", "ask/{name}/{*rest}", "GET"),
    function("Bare", None),
    Function("timer", "timer", {"type": "timerTrigger"}),
]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/items/7", ("get_item", {"id": "7"})),
        ("head", "/API/Items/Seven/", ("get_item", {"id": "Seven"})),
        ("DELETE", "/api/items/7", ("delete_item", {"id": "7"})),
        ("POST", "/api/items/7", None),
        ("GET", "/api/items", None),
        ("GET", "/api/items/", None),
        ("GET", "/api/items//", None),
        ("GET", "/api//items/7", None),
        ("GET", "/api/items/7/8", None),
        ("GET", "/items/7", None),
        ("GET", "/api/items/a%2Fb", ("get_item", {"id": "a%2Fb"})),
        ("GET", "/api/items/new", ("get_item", {"id": "new"})),
        ("GET", "/api/ask/ca", ("ask", {"name": "ca"})),
        ("GET", "/api/ask/ca/", ("ask", {"name": "ca"})),
        ("GET", "/api/ask/ca/MEow//x/", ("ask", {"name": "ca", "rest": "MEow//x/"})),
        ("GET", "/api/ask/ca//MEow", None),
        ("POST", "/api/bare", ("Bare", {})),
        ("PUT", "/api/bare", ("Bare", {})),
        ("GET", "", None),
        ("GET", "*", None),
    ],
)
def test_a_path_is_matched_as_by_asp_net(method: str, path: str, expected: tuple[str, dict[str, str]] | None) -> None:
    """Without regard to case and a slash at the end; empty segments match nothing, but for what takes the rest.

    A function that names no method takes all. The first route by the functions' names wins, even against a literal.
    """
    matched = found(routes(FUNCTIONS, "api"), method, path)
    assert (matched and (matched[0].name, matched[1])) == expected


@pytest.mark.parametrize("route", ["items/{id:int}", "items/a{id}", "{*all}/items", "items/{id?}"])
def test_a_template_that_this_host_does_not_offer_is_refused_at_the_start(route: str) -> None:
    """Rather than matched in another way than the real host would."""
    with pytest.raises(ConfigurationError, match="which this host does not offer"):
        routes([function("f", route)], "api")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/api/a%20b?x=1", "/api/a b"),
        ("/api/a%2Fb%2fc", "/api/a%2Fb%2fc"),
        ("/api/%C3%A4", "/api/ä"),
        ("/api/%ff%41", "/api/%FFA"),
        ("/api/%zz%", "/api/%zz%"),
        ("/api/x/../y", "/api/y"),
        ("/api/%2e%2e/%2E/y", "/y"),
        ("/../../y/..", "/"),
        ("/api/x//y", "/api/x//y"),
        ("/api/%00", None),
        ("/api/\x01", None),
        ("/api/ä", None),
        ("/api/%01%7f", "/api/\x01\x7f"),
    ],
)
def test_a_path_is_decoded_as_by_kestrel(target: str, expected: str | None) -> None:
    """Slashes stay escaped, and so does what is not UTF-8; dot segments go after decoding; NUL is refused."""
    assert decoded_path(target) == expected


def test_a_query_is_what_functions_get_to_see() -> None:
    """Values of one name are joined whatever its case, empty ones dropped."""
    assert query("/x?a=1&A=2&b=&c&d=%C3%A4+%ff&b=3&=") == {"a": "1,2", "b": "3", "d": "ä \ufffd"}


def test_headers_of_one_name_are_joined() -> None:
    """In the order in which they came; a header without a value stays one."""
    assert headers([("X-A", "1"), ("x-a", ""), ("x-a", "2"), ("If-Match", "")]) == {"x-a": "1,2", "if-match": ""}
