"""Requests that mean harm, as they are on the wire: none is answered with a failure of the service."""

from __future__ import annotations

import http.client
import random
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from devstack.outside import until
from tests.hostile import CONTINUATIONS, IDS, NUMBERS, escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from devstack.outside import World
    from devstack.stack import Stack

    type Sent = tuple[str, str, Mapping[str, str]]
    """Method, target and headers."""

SAMPLES = 1000
VALID = {"file": "line-1-ca1.crl", "issuer": "line-1-ca1", "request": "MEow"}
TELLTALE = re.compile(r"RequestId:|ErrorCode:|Traceback|Azurite|devstoreaccount")
SENDER = re.compile(r'"account": "\w+"')
"""The storage account of the queue by which somebody has asked for something: an actor says so."""

HEADERS = ("traceparent", "Idempotency-Key", "If-Match", "If-None-Match", "If-Modified-Since", "Accept", "webhook-id")
HEADER_VALUES = (
    *("", " ", "*", '"', '""', '"a', "W/", ",,,", "\x01", "\x1b[2J", "a\tb", "\xff", "9" * 5000),
    *("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "Mon, 01 Jan 99999 00:00:00 GMT", "00-" + "f" * 55),
)


def targets(document: Mapping[str, Iterable[str]]) -> Iterator[Sent]:
    """Every route with every hostile value in every place that takes one."""
    for path, methods in document.items():
        for method in (*methods, "head", "patch"):
            for target in (*_paths(path), *_queries(_filled(path))):
                yield method, target, {}
            for header in HEADERS:
                for value in HEADER_VALUES:
                    yield method, _filled(path), {header: value}


def _paths(path: str) -> Iterator[str]:
    for name in re.findall(r"{(\w+)}", path):
        for value in IDS:
            for text in escaped(value):
                yield _filled(path, **{name: text})
    for odd in ("/", "//", "/.", "/..", "/%2e%2e/x", "?", "?" + "&" * 900, "#x", "/x/y/z", "%00"):
        yield _filled(path) + odd


def _queries(path: str) -> Iterator[str]:
    named = {"pageSize": NUMBERS, "continuationToken": CONTINUATIONS, "state": IDS, "format": IDS}
    for key, values in named.items():
        for value in values:
            yield f"{path}?{key}={escaped(value)[0]}&{key}&=&%&%zz"


def _filled(route: str, /, **hostile: str) -> str:
    return re.sub(r"{(\w+)}", lambda name: hostile.get(name[1], VALID.get(name[1], "line-1")), route)


def test_no_request_makes_the_service_fail(stack_and_world: tuple[Stack, World]) -> None:
    """Neither 5xx, nor anything of what storage or the emulator answered."""
    stack, world = stack_and_world
    paths = world.get("openapi.json")["paths"]
    every = [each for each in targets(paths) if not _changes_the_group(each)]
    endpoint = urlsplit(stack.endpoints.functions_url)
    connection = http.client.HTTPConnection(endpoint.hostname or "", endpoint.port, timeout=60)
    failed = []
    picked = random.Random(1).sample(every, SAMPLES)  # noqa: S311 - the same ones each time
    for method, target, headers in picked:
        status, text = _sent(
            connection, method.upper(), target, {"x-functions-key": stack.endpoints.function_key, **headers}
        )
        if status >= 500 or TELLTALE.search(SENDER.sub("", text)):
            failed.append((method, target[:200], headers, status, text[:300]))
    connection.close()
    assert failed == []


def _changes_the_group(sent: Sent) -> bool:
    """Whether it could be carried out on what other tests use: a harmless header leaves a request as good as it was."""
    method, target, _ = sent
    return method in {"delete", "post", "put"} and re.search(r"/line-1(/|\?|$)", target) is not None


def test_what_a_message_says_does_not_forge_lines_of_the_log(stack_and_world: tuple[Stack, World]) -> None:
    """Its reason is logged on one line, with the line ends and the ESC of the name escaped."""
    stack, world = stack_and_world
    name = "x\n2026-03-01 00:00:00 CRITICAL forged\x1b[2J\x00"
    world.post_message("enrollment-group-requests", {"requestId": "forged", "enrollmentGroup": name, "action": "put"})
    until(
        "the rejection",
        lambda: [each["correlationid"] for each in world.events("DeviceProvisioning.RequestRejected")],
        lambda found: "forged" in found,
    )
    log = b"".join(stack.log_of(name).read_bytes() for name in stack.hosts)
    assert rb"'x\n2026-03-01 00:00:00 CRITICAL forged\x1b[2J\x00'" in log
    assert re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", log) is None


def _sent(connection: http.client.HTTPConnection, method: str, target: str, headers: dict[str, str]) -> tuple[int, str]:
    """Send a request as it stands: this client would refuse to, or mend it."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {connection.host}", "Content-Length: 2"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.connect()
    connection.send("\r\n".join(lines).encode("latin-1", errors="replace") + b"\r\n\r\n{}")
    with http.client.HTTPResponse(connection.sock, method=method) as answer:
        answer.begin()
        found = answer.status, answer.read().decode(errors="replace")
    connection.close()
    return found
