"""The roles that a registration in Microsoft Entra ID gets are those of the app."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from devstack.app_roles import main

if TYPE_CHECKING:
    import pytest


def test_each_role_is_there_and_those_of_a_group_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """With an id that is always the same, and never another role's."""
    printed = []
    for _ in range(2):
        assert main(["Devices.Revoke:line-1"]) == 0
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0] == printed[1]
    roles = {each["value"]: each for each in printed[0]}
    assert len(roles) == len(printed[0]) == 9
    assert len({uuid.UUID(each["id"]) for each in roles.values()}) == 9
    assert (
        roles["Devices.Revoke:line-1"]
        | {
            "displayName": "Devices.Revoke:line-1",
            "description": "shut devices out, and undo that: for security, in the group line-1",
            "allowedMemberTypes": ["User", "Application"],
            "isEnabled": True,
        }
        == roles["Devices.Revoke:line-1"]
    )


def test_what_is_not_a_role_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["Devices.Revok:line-1"]) == 1
    assert capsys.readouterr().err.startswith("'Devices.Revok:line-1' is not a role; give one of Orders.Write, ")
