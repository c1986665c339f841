"""Callers: how a grant is written, and what it allows."""

from __future__ import annotations

import pytest

from shared.domain.callers import Actor, Caller, CallerKind, Grant, Role


def caller(*grants: str) -> Caller:
    return Caller(kind=CallerKind.KEY, id="erp", grants=frozenset(Grant.read(each) for each in grants))


@pytest.mark.parametrize("text", [*Role, "Devices.Revoke:line-1", "Orders.Write:plant:1"])
def test_a_grant_is_written_as_it_was_read(text: str) -> None:
    assert str(Grant.read(text)) == text


def test_a_grant_means_a_group_whatever_its_case() -> None:
    """Ids of groups have no case, and an app role's value has one."""
    assert Grant.read("Devices.Revoke:LINE-1") == Grant(Role.DEVICES_REVOKE, "line-1")


@pytest.mark.parametrize("text", ["", "Devices", "devices.revoke", "Devices.Revoke:", ":line-1", "*"])
def test_what_is_not_a_grant_is_refused_with_all_that_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a role; give one of Orders\.Write, .*, or one with a group, as in"):
        Grant.read(text)


def test_a_role_is_for_all_groups_or_for_those_that_are_named() -> None:
    limited = caller("Devices.Revoke:line-1", "Devices.Revoke:line-2", "Fleet.Read")
    assert [limited.may(Role.DEVICES_REVOKE, group) for group in ("line-1", "line-2", "line-3", None)] == [
        True,
        True,
        False,
        False,
    ]
    assert (limited.may(Role.FLEET_READ, "line-3"), limited.may(Role.FLEET_READ, None)) == (True, True)
    assert (limited.has(Role.DEVICES_REVOKE), limited.has(Role.ORDERS_WRITE)) == (True, False)
    assert limited.groups(Role.DEVICES_REVOKE) == frozenset({"line-1", "line-2"})
    assert caller("Devices.Revoke:line-1", "Devices.Revoke").groups(Role.DEVICES_REVOKE) is None


def test_no_role_includes_another() -> None:
    for role in Role:
        one = caller(str(role))
        assert [each for each in Role if one.has(each) and one.may(each, None)] == [role]


def test_what_is_kept_of_a_caller_says_who_and_with_which_role() -> None:
    kept = Caller(kind=CallerKind.USER, id="5b54", name="x" * 300, address="192.0.2.7").as_actor(
        Role.DEVICES_REVOKE, "r-1"
    )
    assert kept == Actor(
        kind=CallerKind.USER,
        id="5b54",
        name="x" * 200,
        role="Devices.Revoke",
        request_id="r-1",
        address="192.0.2.7",
    )
