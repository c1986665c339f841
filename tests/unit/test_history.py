"""The history of a device: who asked for what, as much as a column of a table holds."""

from __future__ import annotations

import json
from datetime import timedelta

from shared.domain.callers import Actor, CallerKind
from shared.domain.history import ALWAYS_FIT, History, asked_by, with_entry
from shared.domain.words import DeviceState
from tests.pki.hierarchy import NOW

ADA = Actor(kind=CallerKind.USER, id="5b54", name="ada@example.com", role="Devices.Revoke")


def long_history(count: int) -> History:
    history: History = ()
    for number in range(count):
        history = with_entry(history, NOW + timedelta(days=number), DeviceState.REGISTERED, "n" * 300)
    return history


def test_only_what_is_new_is_said_to_be_asked_for() -> None:
    """What the app did by itself stays without a name, and nobody else's name is written over."""
    before = asked_by(long_history(2), long_history(1), ADA, "ticket 4711")
    assert [(each.actor, each.comment) for each in before] == [(None, None), (ADA, "ticket 4711")]
    bob = ADA.changed(id="b0b")
    after = asked_by(with_entry(before, NOW, DeviceState.REVOKED, ""), before, bob, None)
    assert [each.actor for each in after] == [None, ADA, bob]


def test_a_history_fits_its_column_and_the_oldest_entries_go_first() -> None:
    """Azure Tables: 32 K characters. Names and ids of others are as long as they may be."""
    actor = Actor(
        kind=CallerKind.USER, id="i" * 200, name="n" * 200, role="r" * 60, request_id="q" * 128, address="a" * 39
    )
    kept = asked_by(long_history(70), (), actor, "c" * 1000)
    text = json.dumps([each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in kept])
    assert len(text) < 32_768
    assert len(kept) >= ALWAYS_FIT
    few = asked_by(long_history(ALWAYS_FIT), (), actor, "c" * 1000)
    assert len(few) == ALWAYS_FIT
    assert sum(len(each.model_dump_json(by_alias=True)) + 1 for each in few) < 32_768
    assert kept[-1].at == NOW + timedelta(days=69)
    assert len(asked_by(long_history(70), (), ADA, None)) == 60
