"""Which group has a CA is found in one place, by one rule: a deleted group lets nobody in, and counts only if it may."""

from __future__ import annotations

import ast
from datetime import UTC, datetime

import pytest

from shared.domain.groups import Change, ChangeAction, GroupRecord, GroupState, Rollover, RolloverState, having
from shared.ledger.groups import Groups
from tests.sources import sources
from tests.unit.fakes import FakeTable

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def group(name: str, issuer: str = "ca-1", state: GroupState = GroupState.ENABLED, **more: object) -> GroupRecord:
    values = {"enrollment_group": name, "state": state, "issuer": issuer, "updated_at": NOW, "last_request": "r"}
    return GroupRecord.model_validate({**values, **more})


ROLLING = Rollover(source="ca-0", target="ca-1", state=RolloverState.ROLLING, request="r", started_at=NOW)
KNOWN = [
    group("a-deleted", state=GroupState.DELETED),
    group("b-other", issuer="ca-2"),
    group("c-disabled", state=GroupState.DISABLED),
    group("d-requested", state=GroupState.REQUESTED),
    group("e-rolling", issuer="ca-3", rollover=ROLLING),
    group("f-rolled", issuer="ca-3", rollover=ROLLING.changed(state=RolloverState.RETIRED)),
    group("g-former", issuer="ca-3", previous_issuer="ca-1"),
    group(
        "h-coming",
        issuer="ca-3",
        change=Change(request="r", action=ChangeAction.UPDATE, state=GroupState.ENABLED, issuer="ca-1", decided_at=NOW),
    ),
]
THERE = ["c-disabled", "d-requested", "e-rolling", "g-former", "h-coming"]


@pytest.mark.parametrize(("deleted", "found"), [(False, THERE), (True, [*THERE, "a-deleted"])])
async def test_a_group_has_its_issuing_cas_past_present_and_to_come_and_a_deleted_one_comes_last_if_at_all(
    *, deleted: bool, found: list[str]
) -> None:
    assert [each.enrollment_group for each in having(KNOWN, {"ca-1", "ca-9"}, deleted=deleted)] == found
    rows = Groups(FakeTable())
    for each in reversed(KNOWN):
        await rows.insert(each)
    assert [each.enrollment_group for each in await rows.having({"ca-1"}, deleted=deleted)] == found


def test_nobody_else_looks_through_the_cas_of_groups() -> None:
    """``each.authorities`` in a comprehension with a condition, or in a loop, would be a rule of its own."""
    looking = {
        path
        for path, source in sources("shared").items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.comprehension)
        for test in node.ifs
        for part in ast.walk(test)
        if isinstance(part, ast.Attribute) and part.attr == "authorities" and isinstance(part.value, ast.Name)
    }
    assert looking == {"shared/domain/groups.py"}
