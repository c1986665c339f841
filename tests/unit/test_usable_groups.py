"""Which groups take devices, and what is said of the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared.domain.groups import GroupRecord, GroupState
from shared.errors import Conflict, Deferred, NotFound
from shared.ledger.groups import Groups
from shared.workflows.devices.usable_groups import UsableGroups
from tests.pki.hierarchy import NOW
from tests.world.storage import Table


async def groups_with(state: GroupState, issuer: str = "line-ca1") -> tuple[UsableGroups, list[str]]:
    """Give the finder over one group, and the CAs of which it has asked whether they sign."""
    table, asked = Groups(Table()), list[str]()
    await table.insert(
        GroupRecord(enrollment_group="line", state=state, issuer=issuer, updated_at=NOW, last_request="r")
    )

    async def check_signs(name: str) -> None:
        asked.append(name)

    authorities: Any = SimpleNamespace(check_signs=check_signs)
    return UsableGroups(groups=table, authorities=authorities, clock=lambda: NOW), asked


async def test_an_enabled_group_takes_devices_if_its_ca_signs() -> None:
    usable, asked = await groups_with(GroupState.ENABLED)
    assert (await usable.get("line")).issuer == "line-ca1"
    assert asked == ["line-ca1"]


@pytest.mark.parametrize(
    ("state", "issuer", "kind", "message"),
    [
        (GroupState.REQUESTED, "line-ca1", Deferred, "the enrollment group 'line' is being made"),
        (GroupState.DELETED, "line-ca1", NotFound,
         "enrollmentGroup: the enrollment group 'line' does not exist; create it first (queue "
         "enrollment-group-requests, action 'create')"),
        (GroupState.DISABLED, "line-ca1", Conflict,
         "enrollmentGroup: the enrollment group 'line' is disabled; enable it before new devices can join"),
        (GroupState.ENABLED, "", Conflict,
         "enrollmentGroup: the enrollment group 'line' attests by caReferences and has no issuing CA, so its devices "
         "get their certificates elsewhere; order for a group that has one"),
    ],
)  # fmt: skip
async def test_a_group_that_takes_no_devices_says_why(
    state: GroupState, issuer: str, kind: type[Exception], message: str
) -> None:
    """One that is being made is waited for."""
    usable, asked = await groups_with(state, issuer)
    with pytest.raises(kind) as refused:
        await usable.get("line")
    assert (str(refused.value), asked) == (message, [])
