"""What callers say beside what they ask for: a comment, a reason, a key; and a body where none is needed."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest

from shared.domain.callers import Caller, CallerKind, Role
from tests.unit.test_roles import ROUTE, Unasked, digest, functions, settings
from triggers import outcomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Audit:
    """Takes note of acts that are begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    @asynccontextmanager
    async def carried_out(self, act: Any) -> AsyncIterator[None]:
        self.begun.append(act.action)
        yield


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> Audit:
    async def kept() -> None:
        pass

    noted = Audit()
    services = Unasked(settings(f"name {','.join(Role)} {digest('the-key')}"), audit=noted)
    monkeypatch.setattr(outcomes, "services", lambda: services)
    monkeypatch.setattr(outcomes, "keep_directory", kept)
    return noted


async def refusal(name: str, body: bytes = b"", *, key: str = "", **params: str) -> tuple[int, list[dict[str, str]]]:
    headers = {"x-functions-key": "the-key", **({"Idempotency-Key": key} if key else {})}
    request = func.HttpRequest(
        "POST", "https://host/api/x", headers=headers, params=params, route_params=ROUTE, body=body
    )
    answer = await functions()[name].get_user_function()(request)
    said = json.loads(answer.get_body())
    return answer.status_code, said.get("errors", [])


BARE = ["close_device_order", "disable_enrollment_group", "reinstate_device", "delete_identity", "mend_finding"]
"""Operations that need no body."""


@pytest.mark.usefixtures("audit")
@pytest.mark.parametrize("name", BARE)
async def test_a_body_that_an_operation_does_not_have_is_not_left_out_without_a_word(name: str) -> None:
    told = {"field": "issued", "message": "is not a known field; known are comment"}
    assert await refusal(name, b'{"issued": "revoke"}') == (400, [told])
    assert (await refusal(name, b"issued=revoke"))[0] == 400
    for body in (b"", b"{}", b'{"comment": "ticket 4711"}'):
        assert await refusal(name, body) == (500, []), "it is taken, and asks a service"


HIDDEN = "has the character U+001B, which is not shown but obeyed; leave it out. Tabs and line ends may stay"


@pytest.mark.parametrize("name", ["delete_identity", "disable_device", "approve_act", "close_rejection"])
async def test_a_comment_that_hides_something_is_refused_before_it_is_written_down(audit: Audit, name: str) -> None:
    for field in ("comment", "reason"):
        body = json.dumps({field: "done\x1b[2K"}).encode()
        status, errors = await refusal(name, body)
        assert (status, errors[0]["field"]) == (400, field), field
    assert (await refusal(name, comment="done\x1b[2K"))[1] == [{"field": "comment", "message": HIDDEN}]
    assert audit.begun == []


@pytest.mark.usefixtures("audit")
async def test_a_key_that_is_not_valid_is_refused_by_the_header_s_name() -> None:
    status, [error] = await refusal("close_device_order", key="a b")
    assert (status, error["field"]) == (400, "Idempotency-Key")
    assert error["message"].startswith("'a b' is not a valid id: 1 to 128 letters, digits and - . _ :, ")


def test_the_name_of_an_actor_shows_what_it_has() -> None:
    """Others choose it: a user name in a directory, the source of a message."""
    caller = Caller(kind=CallerKind.USER, id="5b54", name="ada\x1b[2K\u202e@example.com")
    assert caller.as_actor(None).name == "ada\ufffd[2K\ufffd@example.com"
