"""Whether a call about a finding was brought about: by what the ledger says otherwise since then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.domain.authorities import AuthorityRecord, AuthorityState
from shared.domain.certificates import CertificateState
from shared.domain.devices import DeviceRecord
from shared.domain.finding_calls import is_settled, said_of
from shared.domain.groups import Change, ChangeAction, GroupRecord, GroupState
from shared.domain.treatments import FindingKind
from shared.domain.words import DeviceState, RevocationReason
from tests.records import authority_record, held_certificate

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ANY = FindingKind.ROGUE_CERTIFICATE
HELD = held_certificate("4" * 40, NOW)


def device(**fields: Any) -> DeviceRecord:
    record = DeviceRecord(
        registration_id="press",
        state=DeviceState.REGISTERED,
        order_id="o",
        updated_at=NOW,
        held=(HELD,),
        assigned_hub="hub-1",
        device_id="press",
        entry_settings={"iotHubs": ["hub-1"]},
    )
    return record.model_copy(update=fields)


def group(**fields: Any) -> GroupRecord:
    record = GroupRecord(enrollment_group="g", state=GroupState.ENABLED, issuer="ca", updated_at=NOW, last_request="r")
    return record.model_copy(update=fields)


def authority(**fields: Any) -> AuthorityRecord:
    return authority_record("ca", NOW, **{"thumbprint": "A" * 64, **fields})


def changed(kind: FindingKind, before: Any, now: Any) -> set[str]:
    """Name what the ledger says otherwise."""
    first, second = said_of(kind, before), said_of(kind, now)
    assert first.keys() == second.keys()
    return {name for name in first if first[name] != second[name]}


@pytest.mark.parametrize(
    ("kind", "before", "now", "said"),
    [
        (ANY, device(), device(), set()),
        (ANY, device(), device(updated_at=NOW.replace(year=2027), generation=9, history=()), set()),
        (ANY, device(), device(state=DeviceState.REVOKED, revoked=RevocationReason.KEY_COMPROMISE), {"state"}),
        (ANY, device(), device(entry_disabled=True), {"state"}),
        (ANY, device(), device(disabled=True), {"disabled"}),
        (ANY, device(), device(held=(HELD.changed(state=CertificateState.REVOKED),)), {"certificates"}),
        (ANY, device(), device(assigned_hub="hub-2", entry_settings={}), set()),
        (FindingKind.HUB_CHANGED, device(), device(assigned_hub="hub-2", entry_settings={}), {"hub"}),
        (FindingKind.HUB_CHANGED, device(), device(device_id="p-1"), {"hub"}),
        (FindingKind.ENROLLMENT_SETTINGS, device(), device(assigned_hub="hub-2", entry_settings={}), {"settings"}),
        (ANY, group(), group(state=GroupState.DISABLED), {"state"}),
        (ANY, group(), group(issuer="ca2"), {"issuer"}),
        (ANY, group(), group(entry_settings={}), set()),
        (FindingKind.GROUP_SETTINGS, group(), group(entry_settings={}), {"settings"}),
        (ANY, authority(), authority(state=AuthorityState.REVOKED), {"state"}),
        (ANY, authority(), authority(thumbprint="B" * 64), {"certificate"}),
    ],
)
def test_what_the_ledger_says_otherwise_is_named(kind: FindingKind, before: Any, now: Any, said: set[str]) -> None:
    """Settings and the hub count where they are what the finding is about: to mend others may note them."""
    assert changed(kind, before, now) == said


def test_of_what_the_ledger_does_not_have_it_says_nothing() -> None:
    assert said_of(ANY, None) == {}
    assert is_settled(None)


def test_of_a_group_that_is_being_changed_it_says_what_it_is_to_become() -> None:
    wanted = Change(request="r", action=ChangeAction.DISABLE, state=GroupState.DISABLED, issuer="ca2", decided_at=NOW)
    assert changed(ANY, group(), group(change=wanted)) == {"state", "issuer"}
