"""What a hub takes in a twin, as Microsoft documents it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contracts.groups import EnrollmentGroupDefinition
from shared.contracts.orders import DeviceRequest
from shared.contracts.parsing import parse
from shared.errors import Rejected
from shared.rules.twin_limits import DESIRED_LIMIT, TAGS_LIMIT, twin_fault

NAME = "is not a valid name: 1 to 1024 bytes without '.', '$', spaces and control characters"


def nested(levels: int) -> dict[str, Any]:
    content: dict[str, Any] = {"property": 1}
    for _ in range(levels):
        content = {"level": content}
    return content


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"a.b": 1}, f"'a.b' {NAME}"),
        ({"a": [{"$x": 1}]}, f"'a[0]/$x' {NAME}"),
        ({"": 1}, f"'' {NAME}"),
        ({"a": {"b\u0085": 1}}, f"'a/b\\x85' {NAME}"),
        ({"ü" * 513: 1}, f"'{'ü' * 200}' {NAME}"),
        ({"a": "ü" * 2049}, "'a' is a text of 4098 bytes; at most 4096 are taken"),
        ({"a": 2**52}, "'a' is 4503599627370496; integers are from -4503599627370496 to 4503599627370495"),
        ({"a": float("nan")}, "'a' is nan, which is not a number in JSON"),
        (
            nested(11),
            "'level/level/level/level/level/level/level/level/level/level/level' is nested deeper than 10 levels",
        ),
        ({f"{index:04}": "x" * 4092 for index in range(3)}, "its size is 12288; at most 8192 is taken"),
    ],
)
def test_what_a_hub_refuses_is_found(content: dict[str, Any], fault: str) -> None:
    """Each rule with the place and what would be right."""
    assert twin_fault(content, TAGS_LIMIT) == fault


def test_what_a_hub_takes_is_taken() -> None:
    """Up to each limit: size counts characters, 8 for a number, 4 for a boolean, and no control characters."""
    assert twin_fault({}, 0) is None
    assert twin_fault(nested(10), TAGS_LIMIT) is None
    assert twin_fault({"ü" * 512: -(2**52), "a": None, "b": [1.5, True, "x\n"]}, 512 + 8 + 1 + 1 + 8 + 4 + 1) is None
    assert twin_fault({f"{index:04}": "x" * 4092 for index in range(8)}, DESIRED_LIMIT) is None


def test_twins_are_checked_wherever_they_are_given() -> None:
    """In a group and for a device: refused before DPS stores what the hub would refuse with the device."""
    for contract, body, field in (
        (EnrollmentGroupDefinition, {"initialTwin": {"tags": {"a.b": 1}}}, "initialTwin.tags"),
        (
            EnrollmentGroupDefinition,
            {"initialTwin": {"properties": {"desired": {"a.b": 1}}}},
            "initialTwin.properties.desired",
        ),
        (DeviceRequest, {"registrationId": "a", "tags": {"a.b": 1}}, "tags"),
    ):
        with pytest.raises(Rejected) as refused:
            parse(contract, body)
        assert str(refused.value) == f"{field}: no hub takes it: 'a.b' {NAME}"
