"""Which enrollment group a role has to be given for: found by the path of what a request is about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest

from shared.errors import NotFound, Rejected
from triggers.http.endpoints import body_of, endpoint
from triggers.http.scopes import group_of_path


def services() -> Any:
    """Give a ledger with one of each, which is of the group ``line``, and a CA of none."""

    async def group_of(registration_id: str) -> str | None:
        return "line" if registration_id == "press" else None

    def found(known: dict[str, str | None]) -> Any:
        async def get(name: str) -> Any:
            if name not in known:
                raise NotFound.because(f"{name!r} does not exist")
            return SimpleNamespace(enrollment_group=known[name])

        return get

    return SimpleNamespace(
        devices=SimpleNamespace(group_of=group_of),
        order_answers=SimpleNamespace(order=found({"o1": "line"})),
        authorities=SimpleNamespace(get=found({"line-ca1": "line", "root": None})),
    )


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/api/devices/press", "line"),
        ("/api/devices/unknown", None),
        ("/api/enrollment-groups/mill", "mill"),
        ("/api/device-orders/o1", "line"),
        ("/api/device-orders/o2", None),
        ("/api/certificate-authorities/line-ca1", "line"),
        ("/api/certificate-authorities/root", None),
        ("/api/certificate-authorities/none", None),
        ("/api/certificates/00", None),
        ("", None),
        (None, None),
    ],
)
async def test_what_has_a_path_has_the_group_that_the_ledger_says(path: str | None, group: str | None) -> None:
    """What has no group, or does not exist, has none: a role for one group does not do there."""
    assert await group_of_path(services(), path) == group


def request(body: bytes) -> func.HttpRequest:
    return func.HttpRequest(method="POST", url="https://factory/api/x", body=body)


def test_a_body_is_read_up_to_a_limit() -> None:
    """Where none is needed, none is as good as an empty object."""
    assert body_of(request(b'{"a": 1}'), limit=8) == {"a": 1}
    assert body_of(request(b""), optional=True) == {}
    with pytest.raises(Rejected) as refused:
        body_of(request(b'{"a": 10}'), limit=8, way_out="; send less")
    assert str(refused.value) == "the body has 9 bytes, at most 8 are taken; send less"


@pytest.mark.parametrize("given", [{}, {"role": "Fleet.Read", "anonymous": True}])
def test_an_operation_has_a_role_or_says_that_it_needs_none(given: dict[str, Any]) -> None:
    """Nobody can forget to say who may call it."""
    with pytest.raises(TypeError, match="GET x: give either role= or anonymous=True"):
        endpoint("GET", "x", answers=[], refuses=set(), **given)
