"""What grows old by itself is measured: CAs in use, their lists, and messages that nobody takes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.contracts.messages import Queue
from shared.domain.authorities import AuthorityState, PublishedList
from shared.domain.groups import GroupRecord, GroupState
from shared.ledger.authorities import Authorities
from shared.ledger.groups import Groups
from shared.telemetry import metrics
from shared.workflows.status.measurements import Measurements
from tests.measured import Kept
from tests.pki.hierarchy import NOW
from tests.records import authority_record
from tests.unit.fakes import FakeQueues, FakeTable


def measurements(queues: Any = None) -> Measurements:
    rows = FakeTable()
    return Measurements(
        records=Authorities(rows), groups=Groups(FakeTable()), queues=queues or FakeQueues(), clock=lambda: NOW
    )


async def enter(measured: Measurements, name: str, days: int, **fields: Any) -> None:
    await measured.records.try_insert(
        authority_record(name, NOW, **{"not_after": NOW + timedelta(days=days), **fields})
    )


async def enter_group(measured: Measurements, name: str, issuer: str, state: GroupState = GroupState.ENABLED) -> None:
    await measured.groups.insert(
        GroupRecord(enrollment_group=name, state=state, issuer=issuer, updated_at=NOW, last_request="r")
    )


def of(kept: Kept, metric: Any) -> dict[Any, float]:
    return {next(iter(attributes.values())): value for name, value, attributes in kept.values if name == metric.name}


async def test_of_each_ca_in_use_it_is_told_how_many_days_it_has_left() -> None:
    """That of a group, and those above it. Before there is a group every one counts, and without an end none."""
    measured = measurements()
    await enter(measured, "root", 3000)
    await enter(measured, "line-ca1", 30, parent="root")
    await enter(measured, "unused", 5, parent="root")
    await enter(measured, "disabled", 7, state=AuthorityState.DISABLED)
    await enter(measured, "retired", 1, state=AuthorityState.RETIRED)
    await enter(measured, "signed", 1, not_after=None)
    with metrics.received(kept := Kept()):
        await measured.authorities()
    assert of(kept, metrics.CA_REMAINING) == {"root": 3000, "line-ca1": 30, "unused": 5, "disabled": 7}
    await enter_group(measured, "line", "line-ca1")
    await enter_group(measured, "gone", "unused", GroupState.DELETED)
    await enter_group(measured, "elsewhere", "")
    with metrics.received(kept := Kept()):
        await measured.authorities()
    assert of(kept, metrics.CA_REMAINING) == {"root": 3000, "line-ca1": 30}


async def test_of_each_ca_that_signs_it_is_told_how_old_its_list_is() -> None:
    """In seconds; a clock that is behind makes no list younger than new."""
    measured = measurements()
    for name, age in (("a", timedelta(hours=2)), ("b", timedelta(seconds=-5))):
        made = PublishedList(sha256="0" * 64, made_at=NOW - age, next_update=NOW)
        await enter(measured, name, 30, published=made)
    await enter(measured, "never", 30)
    with metrics.received(kept := Kept()):
        await measured.authorities()
    assert of(kept, metrics.CRL_AGE) == {"a": 7200, "b": 0}


class Waiting:
    """Queues, by when their first message could have been taken."""

    since: dict[str, datetime | Exception | None]

    def __init__(self, **since: datetime | Exception | None) -> None:
        self.since = {name.replace("_", "-"): at for name, at in since.items()}

    async def waiting_since(self, queue: str) -> datetime | None:
        found = self.since[queue]
        if isinstance(found, Exception):
            raise found
        return found


async def test_of_each_queue_it_is_told_how_long_its_first_message_waits_though_another_can_not_be_asked() -> None:
    """In seconds; 0 if it is empty. The failure is raised when all have been looked at."""
    queues = Waiting(
        device_orders=NOW - timedelta(minutes=3),
        renewal_requests=OSError("the account is down"),
        revocation_requests=None,
        device_registrations=NOW + timedelta(seconds=1),
    )
    asked = [Queue.RENEWAL_REQUESTS, Queue.DEVICE_ORDERS, Queue.REVOCATION_REQUESTS, Queue.DEVICE_REGISTRATIONS]
    with metrics.received(kept := Kept()), pytest.raises(OSError, match="the account is down"):
        await measurements(queues).waiting(asked)
    assert of(kept, metrics.QUEUE_AGE) == {"device-orders": 180, "revocation-requests": 0, "device-registrations": 0}
