"""HTTP triggers: routes, methods, keys, and what becomes of an exception."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from devstack.outside import until

if TYPE_CHECKING:
    from tests.contract.functions_host.conftest import RunningHost


def call(host: RunningHost, method: str, path: str, **options: object) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, f"{host.url}/{path}", timeout=30, **options)  # type: ignore[arg-type]


def test_a_function_sees_route_query_and_body(host: RunningHost) -> None:
    """Route parameters, query and body reach the function; its status, headers and body reach the caller."""
    headers = {"x-functions-key": host.ready["functionKey"]}
    answer = call(host, "POST", "api/items/a%20b?q=1", headers=headers, data=b"content")
    assert answer.status_code == 201
    assert answer.headers["x-seen"] == "yes"
    assert answer.json() == {"id": "a b", "q": "1", "body": "content"}


def test_a_key_is_needed_where_the_function_says_so(host: RunningHost) -> None:
    """Level function takes the function key or the master key, in header or query; anonymous takes anybody."""
    keys = (host.ready["functionKey"], host.ready["masterKey"])
    assert [call(host, "GET", f"api/items/1?code={key}").status_code for key in keys] == [201, 201]
    assert call(host, "GET", "api/items/1").status_code == 401
    assert call(host, "GET", "api/items/1", headers={"x-functions-key": "wrong"}).status_code == 401
    assert call(host, "GET", "api/open").text == "hello GET"


def test_other_paths_and_methods_are_refused(host: RunningHost) -> None:
    """An unknown route is 404, and so is a method that the function does not take, as on the real host."""
    assert call(host, "GET", "api/nowhere").status_code == 404
    assert call(host, "GET", "items/1").status_code == 404
    assert call(host, "DELETE", "api/open").status_code == 404


def test_a_chunked_body_does_not_reach_a_function(host: RunningHost) -> None:
    """The real host hands a body on only if Content-Length says that there is one."""
    headers = {"x-functions-key": host.ready["functionKey"]}
    answer = call(host, "POST", "api/items/1", headers=headers, data=iter([b"con", b"tent"]))
    assert (answer.status_code, answer.json()["body"]) == (201, "")


def test_a_compressed_body_is_handed_on_as_it_came(host: RunningHost) -> None:
    """The real host does not unpack it."""
    headers = {"x-functions-key": host.ready["functionKey"], "Content-Encoding": "gzip"}
    answer = call(host, "POST", "api/items/1", headers=headers, data=b"no gzip at all")
    assert (answer.status_code, answer.json()["body"]) == (201, "no gzip at all")


def test_a_body_of_more_than_100_mb_is_refused_before_it_comes(host: RunningHost) -> None:
    """Its announced length is enough."""
    address = urlsplit(host.url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=10)
    with closing(connection):
        connection.putrequest("POST", "/api/items/7")
        connection.putheader("x-functions-key", host.ready["functionKey"])
        connection.putheader("Content-Length", str(100 * 1024 * 1024 + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_head_is_answered_without_a_body(host: RunningHost) -> None:
    """A function that takes HEAD is called, and what it gives as a body is not sent."""
    answer = call(host, "HEAD", "api/open")
    assert (answer.status_code, answer.content) == (200, b"")


def test_what_kestrel_refuses_reaches_no_function(host: RunningHost) -> None:
    """NUL in a path, and a header that is not UTF-8."""
    assert call(host, "GET", "api/items/a%00b").status_code == 400
    assert call(host, "GET", "api/open", headers={"x-name": b"\xff"}).status_code == 400


def test_an_exception_is_a_500_without_its_text(host: RunningHost) -> None:
    """What a function raises stays in the log."""
    answer = call(host, "GET", "api/broken")
    assert (answer.status_code, answer.text) == (500, "")


def test_the_admin_api_starts_a_timer_with_the_master_key_only(host: RunningHost) -> None:
    """A timer can be started by hand, as on the real host, with the master key."""
    key = {"x-functions-key": host.ready["functionKey"]}
    assert call(host, "POST", "admin/functions/tick", headers=key).status_code == 401
    master = {"x-functions-key": host.ready["masterKey"]}
    before = len(host.seen("tick"))
    assert call(host, "POST", "admin/functions/tick", headers=master).status_code == 202
    until("the tick", lambda: host.seen("tick")[before:], lambda ticks: ticks == [{"body": "tick", "late": False}])
    assert call(host, "POST", "admin/functions/nothing", headers=master).status_code == 404
