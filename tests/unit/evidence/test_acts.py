"""Acts come into the log once each, from zones that do not write it, whatever breaks on their way."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from shared.domain.acts_to_log import ActToLog
from shared.domain.audit_entries import AuditEntry, AuditOutcome, SubjectKind
from shared.domain.callers import Actor, CallerKind
from shared.evidence.leaves import read_entry
from shared.ledger.acts_to_log import ActsToLog
from shared.workflows.evidence.acts import ActsForLog
from tests.unit.evidence.stored import Place
from tests.world.conductor import Go

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def act(name: str, outcome: AuditOutcome = AuditOutcome.DONE) -> AuditEntry:
    return AuditEntry(
        entry_id=name,
        at=NOW,
        actor=Actor(
            kind=CallerKind.USER, id="b7e6", name="ann@example.com", role="Devices.Revoke", address="192.0.2.1"
        ),
        action="revoke",
        subject_kind=SubjectKind.DEVICE,
        subject="press-001",
        outcome=outcome,
        reason="keyCompromise",
        comment="stolen",
    )


async def leave(place: Place, *acts: AuditEntry) -> None:
    for each in acts:
        await ActsForLog(rows=ActsToLog(place.acts)).append(each)


async def logged(place: Place) -> Counter[str]:
    return Counter(str(read_entry(each)["entryId"]) for each in await place.entries())


async def test_an_act_is_logged_with_who_did_it_and_why() -> None:
    place = Place()
    await leave(place, act("a"))
    assert await place.worker().projection.run() == 1
    [entry] = map(read_entry, await place.entries())
    assert dict(entry) == {
        "v": 1,
        "type": "act",
        "at": "2026-03-01T12:00:00.000+00:00",
        "entryId": "a",
        "actor": {
            "kind": "user", "id": "b7e6", "name": "ann@example.com", "role": "Devices.Revoke", "address": "192.0.2.1",
        },
        "action": "revoke",
        "subjectKind": "device",
        "subject": "press-001",
        "outcome": "done",
        "reason": "keyCompromise",
        "comment": "stolen",
    }  # fmt: skip


async def test_an_act_that_is_left_again_is_logged_once_and_what_came_of_it_by_itself() -> None:
    place = Place()
    worker = place.worker()
    await leave(place, act("a", AuditOutcome.BEGUN), act("a", AuditOutcome.BEGUN))
    assert await worker.projection.run() == 1
    await leave(place, act("a", AuditOutcome.BEGUN), act("a"))
    assert await worker.projection.run() == 1
    assert await worker.projection.run() == 0
    outcomes = [read_entry(each)["outcome"] for each in await place.entries()]
    assert outcomes == ["begun", "done"]
    assert [key for key, _ in place.acts.rows] == ["logged", "logged"]


async def test_acts_that_an_older_app_left_and_marked_are_read() -> None:
    """Its rows had no version of their schema, and its marks no column at all."""
    place = Place()
    worker = place.worker()
    keys = {name: sha256(f"{name}|done".encode()).hexdigest() for name in "ab"}
    for name, key in keys.items():
        await place.acts.insert({"PartitionKey": "waiting", "RowKey": key, "entry": ActToLog.of(act(name)).entry})
    await place.acts.insert({"PartitionKey": "logged", "RowKey": keys["a"]})
    assert await worker.projection.run() == 1
    assert await logged(place) == {"b": 1}
    assert [key for key, _ in place.acts.rows] == ["logged", "logged"]


async def test_many_acts_are_logged_in_batches() -> None:
    place = Place()
    await leave(place, *(act(f"{number}") for number in range(450)))
    assert await place.worker().projection.run() == 450
    assert len(await logged(place)) == 450
    assert place.blobs.writes <= 3 + 2, "three batches, and the two tiles that they fill"


async def _projected(place: Place) -> Any:
    return await place.worker().projection.run()


async def test_killed_at_any_step_or_beside_another_projector_each_act_is_logged_once() -> None:
    for kind in ("killed", "answer lost", "paused"):
        step = 0
        while True:
            place, names = Place(), ("a", "b", "c")
            await leave(place, *map(act, names))
            place.conductor.start("first", _projected(place))
            taken = await place.conductor.advance("first", step)
            if kind == "killed":
                await place.conductor.kill("first")
            elif kind == "answer lost":
                await place.conductor.advance("first", 1, go=Go.LOSE_ANSWER)
                await place.conductor.advance("first")
                assert isinstance(place.conductor.outcome("first"), ConnectionError | None)
            await _projected(place)
            await leave(place, act("d"))
            await asyncio.gather(_projected(place), _projected(place))
            await place.conductor.advance("first")
            await _projected(place)
            assert await logged(place) == Counter((*names, "d")), f"{kind} after {step} steps"
            assert not any(kind == "waiting" for kind, _ in place.acts.rows)
            if taken < step:
                break
            step += 1
        assert step > 8
