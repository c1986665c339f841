"""Ids of requests: each kind has its own, they are taken by what was accepted, and nobody takes a part's place."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.devices import MemberRevocation, RenewalRequest, RevocationRequest
from shared.contracts.messages import Queue
from shared.domain.requests import DELIVERY_LASTS, RequestState
from shared.domain.words import RevocationReason
from shared.errors import Conflict, Deferred, NotAuthentic, NotFound, Rejected
from shared.ledger.requests import Requests
from shared.workflows.intake.deliveries import delivering, once
from shared.workflows.intake.outbox import Outbox
from shared.workflows.intake.requests import Part, is_repeated, part_for, submit
from tests.unit.fakes import FakeQueues, FakeTable

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NO_DEVICE = NotFound.because("there is no such device")
REVOCATIONS, RENEWALS = Queue.REVOCATION_REQUESTS, Queue.RENEWAL_REQUESTS


def revocation(device: str = "press-1", request_id: str = "r-1") -> RevocationRequest:
    return RevocationRequest(request_id=request_id, registration_id=device, reason=RevocationReason.KEY_COMPROMISE)


@dataclass
class Scene:
    rows: FakeTable = field(default_factory=FakeTable)
    queues: FakeQueues = field(default_factory=FakeQueues)
    now: datetime = NOW

    def clock(self) -> datetime:
        return self.now

    def __post_init__(self) -> None:
        self.requests = Requests(self.rows)
        queues: Any = self.queues
        self.outbox = Outbox(queues=queues, clock=self.clock)

    async def submit(self, request: Any, kind: Queue = REVOCATIONS) -> None:
        await submit(self.requests, self.outbox, kind, request, self.clock)

    async def carry_out(self, request: Any, kind: Queue = REVOCATIONS, *, fails: Exception | None = None) -> bool:
        """Carry out a request, and tell whether there was something to do."""
        async with once(self.requests, kind, request, self.clock) as to_do:
            if fails is not None:
                raise fails
            return to_do is not None

    async def carry_out_part(self, group: RevocationRequest, device: str, token: str) -> bool:
        message = MemberRevocation(request_id=group.request_id, registration_id=device, reason=group.reason, part=token)
        async with once(
            self.requests, REVOCATIONS, message, self.clock, part=Part(member=device, token=token)
        ) as to_do:
            return to_do is not None


async def test_a_request_is_carried_out_once() -> None:
    """The second delivery has nothing to do; the same id with other content is refused."""
    scene = Scene()
    assert [await scene.carry_out(revocation()) for _ in range(2)] == [True, False]
    with pytest.raises(Conflict) as refused:
        await scene.carry_out(revocation("press-2"))
    assert str(refused.value) == (
        "requestId: 'r-1' was used on 2026-03-01 with other content; a new request needs a new id"
    )


@pytest.mark.parametrize("kind", [REVOCATIONS, Queue.ENROLLMENT_GROUP_REQUESTS])
async def test_what_stands_in_the_table_of_intake_stops_no_revocation(kind: Queue) -> None:
    """Whoever may write there can't have it that a request about a group, or one that revokes, is done or another's."""
    of_intake, apart, request = FakeTable(), FakeTable(), revocation()
    async with once(Requests(of_intake), kind, request, lambda: NOW):
        pass
    assert of_intake.rows
    subject = Requests(of_intake, apart=apart)
    async with once(subject, kind, request, lambda: NOW) as to_do:
        assert to_do is not None
    known = await subject.find(kind, request.request_id)
    assert known is not None
    assert known.record.state is RequestState.DONE
    assert [row for _, row in apart.rows] == [f"{kind}|r-1"]


async def test_requests_of_intake_are_in_the_table_that_it_may_write() -> None:
    of_intake, apart = FakeTable(), FakeTable()
    subject = Requests(of_intake, apart=apart)
    async with once(subject, RENEWALS, RenewalRequest(request_id="r-1", registration_id="press-1"), lambda: NOW):
        pass
    assert apart.rows == {}
    assert len(of_intake.rows) == 2  # with its row of the list


async def test_each_kind_of_request_has_ids_of_its_own() -> None:
    """A renewal that has the id of a revocation takes nothing away from it."""
    scene = Scene()
    assert await scene.carry_out(RenewalRequest(request_id="r-1", registration_id="press-1"), RENEWALS)
    assert await scene.carry_out(revocation())


async def test_a_refused_request_leaves_its_id_free() -> None:
    """Otherwise whoever guesses an id blocks it with a request that fails."""
    scene = Scene()
    with pytest.raises(NotFound):
        await scene.carry_out(revocation("nobody"), fails=NotFound.because("there is no such device"))
    assert not await is_repeated(scene.requests, REVOCATIONS, revocation())
    assert await scene.carry_out(revocation())
    assert await is_repeated(scene.requests, REVOCATIONS, revocation())


@pytest.mark.parametrize("error", [Deferred("not yet", retry_after=timedelta(1)), OSError()])
async def test_a_request_under_way_keeps_its_id(error: Exception) -> None:
    """It waits or failed by the world's fault, and comes again."""
    scene = Scene()
    with pytest.raises(type(error)):
        await scene.carry_out(revocation(), fails=error)
    with pytest.raises(Conflict):
        await scene.carry_out(revocation("press-2"))
    assert await scene.carry_out(revocation())


async def test_a_delivery_that_is_refused_does_not_free_what_another_one_carried_out() -> None:
    """Two workers have the same message: one is done while the other one finds nothing left to do. So it is done."""
    scene = Scene()
    slow = once(scene.requests, REVOCATIONS, revocation(), scene.clock)
    await slow.__aenter__()
    await scene.carry_out(revocation())
    late = Conflict.because("it is revoked already")
    assert await slow.__aexit__(Conflict, late, None)  # nobody hears of it
    assert not await scene.carry_out(revocation())


async def test_a_delivery_leaves_its_refusal_to_one_that_began_later() -> None:
    """That one may have found what this one did not; if it breaks off, its message is there."""
    scene = Scene()
    first, second = (once(scene.requests, REVOCATIONS, revocation(), scene.clock) for _ in range(2))
    with delivering("m1"):
        await first.__aenter__()
    with delivering("m2"):
        await second.__aenter__()
    with delivering("m1"):
        assert await first.__aexit__(NotFound, NO_DEVICE, None)
    assert await is_repeated(scene.requests, REVOCATIONS, revocation())
    with pytest.raises(Deferred):  # the first one was at work when it began, and may have found more
        await second.gen.athrow(NO_DEVICE)
    with pytest.raises(NotFound):
        await scene.carry_out(revocation(), fails=NO_DEVICE)
    assert not await is_repeated(scene.requests, REVOCATIONS, revocation())


async def test_a_delivery_does_not_leave_its_refusal_to_another_one_of_the_same_message() -> None:
    """Who ends deletes the message: if the other one is killed then, nobody would ever be told."""
    scene = Scene()
    first, second = (once(scene.requests, REVOCATIONS, revocation(), scene.clock) for _ in range(2))
    with delivering("m1"):
        await first.__aenter__()
        await second.__aenter__()
        with pytest.raises(Deferred):
            await first.gen.athrow(NO_DEVICE)


async def test_a_delivery_is_refused_when_the_one_before_has_ended() -> None:
    """Until then it waits; one that died is taken for ended when the host would have ended it: after ten minutes."""
    scene = Scene()
    await once(scene.requests, REVOCATIONS, revocation(), scene.clock).__aenter__()  # and dies
    waits = "another delivery of request 'r-1' is at work; this one would be refused: there is no such device"
    for minutes in (0, 9):
        scene.now = NOW + timedelta(minutes=minutes)
        with pytest.raises(Deferred, match=waits) as caught:
            await scene.carry_out(revocation(), fails=NO_DEVICE)
        assert caught.value.retry_after == timedelta(seconds=30)
    scene.now = NOW + timedelta(minutes=10)
    with pytest.raises(NotFound):
        await scene.carry_out(revocation(), fails=NO_DEVICE)


async def test_a_message_that_was_refused_stays_so_and_the_same_request_in_another_one_does_not() -> None:
    """The queue delivers it again if its deletion fails, and it was told that it is refused."""
    scene = Scene()
    with delivering("m1"), pytest.raises(NotFound):
        await scene.carry_out(revocation(), fails=NO_DEVICE)
    with delivering("m1"), pytest.raises(Rejected) as again:
        await scene.carry_out(revocation())
    assert again.value.documented() == NO_DEVICE.documented()
    with delivering("m2"):
        assert await scene.carry_out(revocation())


def test_a_delivery_lasts_as_long_as_the_host_lets_a_function_run() -> None:
    """Otherwise one that is at work would be taken for dead."""
    host = json.loads((Path(__file__).parents[2] / "host.json").read_text())
    assert host["functionTimeout"] == "00:10:00"
    assert timedelta(minutes=10) == DELIVERY_LASTS


async def test_a_late_delivery_does_not_settle_another_request_with_its_id() -> None:
    """It hung, was refused by another delivery, and its id was given to a request that is still to be carried out."""
    scene = Scene()
    async with once(scene.requests, REVOCATIONS, revocation("press-1"), scene.clock):
        scene.now += timedelta(minutes=10)
        with pytest.raises(NotFound):
            await scene.carry_out(revocation("press-1"), fails=NO_DEVICE)
        await scene.submit(revocation("press-2"))
    assert await scene.carry_out(revocation("press-2"))


async def test_http_takes_the_id_when_it_accepts() -> None:
    """A second caller learns of the conflict at once, and not after a 202; the first one's request is queued once."""
    scene = Scene()
    for _ in range(3):
        await scene.submit(revocation())
    with pytest.raises(Conflict):
        await scene.submit(revocation("press-2"))
    assert [(queue, message["data"]["registrationId"]) for queue, message, _ in scene.queues.sent] == [
        ("revocation-requests", "press-1")
    ]
    assert await scene.carry_out(revocation())


async def test_what_does_not_fit_its_queue_takes_no_id() -> None:
    """It is refused, so its id is free."""
    scene = Scene()
    with pytest.raises(Rejected):
        await scene.submit(
            RenewalRequest.model_construct(request_id="r-1", registration_id="a", csr="x" * 60_000), RENEWALS
        )
    assert not await is_repeated(scene.requests, RENEWALS, RenewalRequest(request_id="r-1", registration_id="a"))


async def test_parts_of_a_group_s_revocation_can_not_be_blocked_or_made_up() -> None:
    """They are recorded apart from every id that somebody may choose, and their token can't be known beforehand."""
    group = RevocationRequest(request_id="all", enrollment_group="line", reason=RevocationReason.KEY_COMPROMISE)
    scene = Scene()
    async with once(scene.requests, REVOCATIONS, group, scene.clock) as record:
        assert record is not None
        tokens = {device: part_for(record, device).token for device in ("press-1", "press-2")}
    for made_up in ("0" * 64, tokens["press-2"]):
        with pytest.raises(NotAuthentic) as refused:
            await scene.carry_out_part(group, "press-1", made_up)
        assert str(refused.value) == (
            "part: this is not a part of request 'all'; only the service makes parts: leave 'part' out"
        )
    assert [await scene.carry_out_part(group, "press-1", tokens["press-1"]) for _ in range(2)] == [True, False]
    assert await scene.carry_out_part(group, "press-2", tokens["press-2"])
    other = Scene()
    async with once(other.requests, REVOCATIONS, group, scene.clock) as record:
        assert record is not None
        assert part_for(record, "press-1").token != tokens["press-1"], "the same request elsewhere tells nothing"
