"""Records in rows: guarded by what was read, and whole whatever their length."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.domain.groups import Change, ChangeAction, GroupRecord, GroupState
from shared.ledger.groups import Groups
from shared.ledger.rows import Rows
from shared.ledger.table import Stale
from tests.unit.fakes import FakeTable

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def group(**fields: Any) -> GroupRecord:
    return GroupRecord(
        enrollment_group="g", state=GroupState.ENABLED, issuer="ca", updated_at=NOW, last_request="r", **fields
    )


async def test_what_has_changed_since_it_was_read_is_not_replaced() -> None:
    """A guarded write that loses raises, and so does the creation of what is there."""
    groups = Groups(FakeTable())
    read = await groups.insert(group())
    await groups.replace(read, group(generation=2))
    with pytest.raises(Stale, match="a GroupRecord has changed since it was read"):
        await groups.replace(read, group(generation=3))
    with pytest.raises(Stale):
        await groups.insert(group())
    known = await groups.get("g")
    assert known is not None
    assert known.record == group(generation=2)


async def test_who_may_lose_is_told_so() -> None:
    """A try gives nothing if somebody else was faster, and otherwise what was written, with its new version."""
    rows = Rows(FakeTable(), GroupRecord, key=lambda record: ("p", record.enrollment_group))
    first = await rows.try_insert(group())
    assert first is not None
    assert await rows.try_insert(group()) is None
    second = await rows.try_replace(first, group(generation=2))
    assert second is not None
    assert second.etag != first.etag
    assert await rows.try_replace(first, group(generation=3)) is None


async def test_what_every_writer_writes_alike_is_put_whatever_was_there() -> None:
    """A notice that two workers give is one row."""
    table = FakeTable()
    rows = Rows(table, GroupRecord, key=lambda record: ("p", record.enrollment_group))
    for _ in range(2):
        await rows.put(group())
    assert list(table.rows) == [("p", "g")]


async def test_a_text_that_is_longer_than_a_column_is_kept_whole() -> None:
    """A twin of 40,000 characters stands in two columns, each no longer than Azure Tables takes."""
    table = FakeTable()
    settings = {"initialTwin.properties.desired": {f"n{index}": "ü" * 4000 for index in range(10)}}
    change = Change(
        request="r",
        action=ChangeAction.UPDATE,
        state=GroupState.ENABLED,
        issuer="ca",
        decided_at=NOW,
        settings=settings,
    )
    await Groups(table).insert(group(change=change))
    [row] = table.rows.values()
    assert max(len(value) for value in row.values.values() if isinstance(value, str)) == 32_768
    known = await Groups(table).get("g")
    assert known is not None
    assert known.record.change == change
    assert [each async for each in Groups(table).list()] == [known.record]
