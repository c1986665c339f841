"""A final revocation is absorbing: whatever interleaves with it, every way ends with all doors shut.

Every state of :mod:`tests.world.model` is looked at. A state in which nobody has a step left is a rest. Each state must
have a way to a rest, so that a run in which everybody gets a turn comes to one.
"""

from __future__ import annotations

import os
from array import array
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from shared.domain import revocation
from shared.domain.held_certificates import HOLD
from shared.domain.wanted import wanted
from tests.world.model import AT, Explored, Mistakes, Model, State, is_final, issued, registered
from tests.world.prover import RUNS

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord

DEEPER = os.environ.get("PROVE") == "1"
OTHERS = ("hold", "reinstate", "delete", "disable", "enable", "boot", "sweep")


def held() -> DeviceRecord:
    """A device on hold, whose doors are shut."""
    record = revocation.revoked(registered(), act="before", reason=HOLD, at=AT, correlation="before")
    return record.changed(converged=record.generation)


BEGINNINGS = {"registered": registered, "issued": issued, "held": held}


def open_doors(state: State) -> list[str]:
    """Name the doors by which the device gets in."""
    return [
        *(["DPS"] if state.entry != "disabled" else []),
        *(["the hub"] if state.identity else []),
    ]


def look_at(model: Model, begin: State) -> list[str]:
    """Look at every state that can be reached; give what is wrong."""
    found = model.explore(begin)
    RUNS["states of the model"] += len(found.states)
    return [*_steps(model, found), *_rests(model, found), *_ways(found)]


def _steps(model: Model, explored: Explored) -> list[str]:
    """No step leads out of a final revocation, and none opens a door once it was told."""
    found = []
    for state, following in zip(explored.states, explored.following, strict=True):
        record = model.records[state.record]
        if not is_final(record):
            continue
        told = record.converged == record.generation
        for after in (explored.states[number] for number in following):
            if not is_final(model.records[after.record]):
                found.append(f"{record.state} becomes {model.records[after.record].state}")
            if told:
                opened = set(open_doors(after)) - set(open_doors(state))
                found += [f"{door} is opened though it was told that the device is {record.state}" for door in opened]
    return found


def _rests(model: Model, explored: Explored) -> list[str]:
    """At rest the services are as the record wants them."""
    found = []
    for state, following in zip(explored.states, explored.following, strict=True):
        if following:
            continue
        record, doors = model.records[state.record], open_doors(state)
        swept = any(actor.does == "sweep" for actor in state.actors)
        if record.converged != record.generation or (swept and state.notes):
            found.append(f"at rest the services follow {record.converged} of {record.generation}, notes {state.notes}")
        if record.shut_out and (doors or not state.listed[1]):
            found.append(f"a device that is {record.state} gets in by {doors}, listed: {state.listed}")
        if not record.shut_out and state.entry == "disabled":
            found.append(f"a device that is {record.state} is refused by DPS")
        if not record.shut_out and state.identity is not None and state.identity != wanted(record, AT).identity_enabled:
            found.append(f"a device that is {record.state} finds its identity {state.identity}")
    return found


def _ways(explored: Explored) -> list[str]:
    """From each state there is a way to a rest."""
    before = [array("I") for _ in explored.states]
    for number, following in enumerate(explored.following):
        for after in following:
            before[after].append(number)
    reached = bytearray(not following for following in explored.following)
    ahead = [number for number, rests in enumerate(reached) if rests]
    while ahead:
        new = [number for number in before[ahead.pop()] if not reached[number]]
        for number in new:
            reached[number] = True
        ahead += new
    left = reached.count(0)
    return [f"{left} states have no way to a rest"] if left else []


def scenes() -> list[tuple[str, tuple[str, ...]]]:
    """A final revocation with each other actor, and with a boot besides; deeper, with two others, or with a kill.

    Not with both at once, nor with a sweep beside another act: that had more than 400,000 states when it was given up,
    as many as anything else has here. Each sweep begins a round of its own, and so does each note that it leaves.
    """
    few = [(other,) for other in OTHERS]
    many = [
        *few,
        *((other, "boot") for other in OTHERS[:5]),
        *combinations(OTHERS[:6], 2),
        ("boot", "sweep"),
    ]
    with_boot = [] if DEEPER else [("issued", ("revoke", other, "boot")) for other in ("hold", "enable")]
    return with_boot + [(name, ("revoke", *others)) for name in BEGINNINGS for others in (many if DEEPER else few)]


@pytest.mark.parametrize(("beginning", "actors"), scenes(), ids=[f"{name}: {', '.join(a)}" for name, a in scenes()])
def test_a_final_revocation_is_absorbing(beginning: str, actors: tuple[str, ...]) -> None:
    """Once the ledger says so it stays so, no step opens a door for good, and at rest every door is shut."""
    model = Model()
    kills = 1 if DEEPER and len(actors) == 2 else 0
    assert look_at(model, model.begin(BEGINNINGS[beginning](), *actors, kills=kills)) == []


@pytest.mark.parametrize("other", ["hold", "sweep"])
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_what_is_passed_over_ends_the_same(beginning: str, other: str) -> None:
    """Every order of steps, with a kill, has the rests that the orders have which are looked at."""

    def rests(*, whole: bool) -> set[tuple[object, ...]]:
        model = Model(whole=whole)
        explored = model.explore(model.begin(BEGINNINGS[beginning](), "revoke", other, kills=1))
        looked_at.append(len(explored.states))
        return {
            (model.records[state.record], state.listed, state.entry, state.identity, state.registration, state.notes)
            for state, following in zip(explored.states, explored.following, strict=True)
            if not following
        }

    looked_at: list[int] = []
    assert rests(whole=True) == rests(whole=False)
    assert looked_at[0] > looked_at[1]


@pytest.mark.parametrize(
    ("mistakes", "beginning", "actors", "expected"),
    [
        (Mistakes(careless_of_entries=True), held, ("reinstate", "revoke"), "DPS is opened though it was told"),
        (Mistakes(careless_of_identities=True), held, ("reinstate", "revoke"), "the hub is opened though it was told"),
        (Mistakes(blind_to_who_settled=True), registered, ("hold", "reinstate"), "is refused by DPS"),
    ],
    ids=["an entry is opened whatever its version", "an identity likewise", "a late worker overlooks who settled"],
)
def test_the_model_finds_a_mistake_of_the_converger(
    mistakes: Mistakes, beginning: object, actors: tuple[str, ...], expected: str
) -> None:
    """What the converger is careful of is needed: without it there is a way to an open door, or to a shut one."""
    model = Model(mistakes)
    assert callable(beginning)
    assert any(expected in fault for fault in look_at(model, model.begin(beginning(), *actors)))


def test_the_model_finds_a_mistake_of_the_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a reinstatement did not ask whether the device is on hold, it would undo a final revocation."""
    monkeypatch.setattr(revocation, "check_on_hold", lambda _record: None)
    monkeypatch.setattr("shared.domain.lifecycles.Lifecycle.check", lambda *_: None)
    model = Model()
    faults = look_at(model, model.begin(registered(), "revoke", "reinstate"))
    assert any("revoked becomes registered" in fault for fault in faults)
