"""The requests' tables, where two write at once, and where what was counted is not kept any more."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.domain.request_parts import PartNote, part_note
from shared.domain.requests import RequestRecord, RequestState, done
from shared.ledger.requests import Requests
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeTable

if TYPE_CHECKING:
    import pytest

    from shared.domain.requests import RequestLogEntry

KIND = "revocation-requests"


def request(request_id: str = "r", **fields: Any) -> RequestRecord:
    return RequestRecord(kind=KIND, request_id=request_id, fingerprint="f", received_at=NOW, **fields)


def subject() -> Requests:
    return Requests(FakeTable(), clock=lambda: NOW)


async def listed(requests: Requests) -> list[RequestLogEntry]:
    found, _ = await requests.page(state=None, kind=None, since=None, size=100, continuation=None)
    return list(found)


async def counted(requests: Requests) -> tuple[int, int, int]:
    """Give how many parts of the request ``whole`` there are, are open, and are done."""
    counts = await requests.count_parts(KIND, "whole")
    return counts.total, counts.open, counts.done


def noted(record: RequestRecord) -> PartNote:
    note = part_note(record, NOW)
    assert note is not None
    return note


async def test_a_refusal_takes_nothing_away_from_the_request_that_has_the_id() -> None:
    """Two messages come with one id, and the second one can't be carried out."""
    requests = subject()
    await requests.claim(request(state=RequestState.RUNNING))
    await requests.refuse(request(state=RequestState.REJECTED).changed(received_at=NOW + timedelta(hours=1)))
    known = await requests.get(KIND, "r")
    assert known is not None
    assert known.record.state is RequestState.RUNNING
    assert [each.state for each in await listed(requests)] == [RequestState.RUNNING]


async def test_a_refused_request_is_listed_and_leaves_its_id_free() -> None:
    requests = subject()
    await requests.refuse(request(state=RequestState.REJECTED))
    assert await requests.get(KIND, "r") is None
    assert [each.state for each in await listed(requests)] == [RequestState.REJECTED]


async def test_a_part_that_is_done_stays_as_it_was_noted_though_its_message_is_sent_again() -> None:
    """Nothing is written of it any more; a request whose parts are open for ever is never done."""
    table = FakeTable()
    requests = Requests(table, clock=lambda: NOW)
    part = request("part", whole="whole", state=RequestState.RUNNING)
    note = await requests.expect_part(noted(part))
    await requests.part_sent(note)
    assert await counted(requests) == (1, 1, 0)
    await requests.claim(part)
    await requests.enter(part, done(NOW))
    writes = table.writes
    await requests.part_sent(note)
    assert (await counted(requests), table.writes) == ((1, 0, 1), writes)


async def test_a_part_of_a_request_that_is_not_kept_is_not_counted_anew() -> None:
    """Else a row would be left for ever that nobody deletes."""
    requests = subject()
    part = request("part", whole="whole", state=RequestState.RUNNING)
    await requests.claim(part)
    await requests.part_sent(noted(part))
    await requests.enter(part, done(NOW))
    assert await counted(requests) == (0, 0, 0)


async def test_a_count_that_others_write_at_once_is_written_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that count a part, what is later stays."""
    table = FakeTable()
    requests = Requests(table, clock=lambda: NOW)
    part = request("part", whole="whole", state=RequestState.RUNNING)
    await requests.expect_part(noted(part))
    await requests.claim(part)
    parts = requests._of(KIND).parts  # noqa: SLF001 - where the others write
    replace, others = parts.try_replace, [1]

    async def late(known: Any, record: Any) -> Any:
        if others.pop() if others else 0:
            await replace(known, known.record.changed(noted_at=NOW))
            return await replace(known, record)
        return await replace(known, record)

    monkeypatch.setattr(parts, "try_replace", late)
    await requests.enter(part, done(NOW))
    assert others == []
    assert await counted(requests) == (1, 0, 1)
