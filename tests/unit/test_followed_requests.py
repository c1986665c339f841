"""Requests can be followed to their end: what each waits for, what became of it, and none is open for ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.acting import acting
from shared.contracts.devices import RenewalRequest, RevocationRequest
from shared.contracts.messages import Queue
from shared.domain.callers import Actor, CallerKind
from shared.domain.orders import OrderRecord, OrderState
from shared.domain.requests import RequestState
from shared.domain.words import RevocationReason
from shared.errors import Conflict, NotFound, Rejected
from shared.ledger.orders import Orders
from shared.ledger.requests import Requests
from shared.workflows.intake.deliveries import once
from shared.workflows.intake.following import FollowedRequests, location_of
from shared.workflows.intake.outbox import Outbox
from shared.workflows.intake.requests import submit
from tests.unit.fakes import FakeQueues, FakeTable

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RENEWALS, REVOCATIONS = Queue.RENEWAL_REQUESTS, Queue.REVOCATION_REQUESTS
RENEWAL = RenewalRequest(request_id="r-1", registration_id="press-1")
MESSAGE = {"requestId": "r-1", "registrationId": "press-1"}
REASONS = ({"field": "csr", "message": "is wrong"},)


@dataclass
class Scene:
    now: datetime = NOW
    queues: FakeQueues = field(default_factory=FakeQueues)
    table: FakeTable = field(default_factory=FakeTable)
    looks: int = 0

    def __post_init__(self) -> None:
        self.requests = Requests(self.table, clock=self.clock)
        self.orders = Orders(orders=FakeTable(), lines=FakeTable())
        self.following = FollowedRequests(
            requests=self.requests, orders=self.orders, clock=self.clock, pause=self.pause
        )

    def clock(self) -> datetime:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.looks += 1
        self.now += timedelta(seconds=seconds)

    async def submit(self, request: Any = RENEWAL, kind: Queue = RENEWALS) -> None:
        outbox: Any = Outbox(queues=self.queues, clock=self.clock)
        await submit(self.requests, outbox, kind, request, self.clock)

    async def carry_out(self, *, fails: Exception | None = None) -> None:
        async with once(self.requests, RENEWALS, RENEWAL, self.clock):
            if fails is not None:
                raise fails

    async def shown(self, kind: Queue | None = None) -> dict[str, Any]:
        return (await self.following.describe("r-1", kind)).shown()

    async def listed(self, **filters: Any) -> list[tuple[str, str]]:
        chosen = {"state": None, "kind": None, "since": None, **filters}
        items, _ = await self.following.page(size=10, continuation=None, **chosen)
        return [(each.request_id, each.state) for each in items]


async def test_a_request_is_queued_then_done() -> None:
    """Each state from the moment of the 202; the end says when."""
    scene = Scene()
    with pytest.raises(NotFound, match="the request 'r-1' does not exist"):
        await scene.shown()
    await scene.submit()
    assert (await scene.shown())["state"] == "queued"
    async with once(scene.requests, RENEWALS, RENEWAL, scene.clock):
        assert (await scene.shown())["state"] == "running"
    ended = await scene.shown()
    assert (ended["state"], ended["about"], ended["endedAt"]) == ("done", "/api/devices/press-1", NOW)
    assert await scene.listed() == [("r-1", "done")]


async def test_a_request_that_came_by_its_queue_exists_from_its_first_delivery() -> None:
    scene = Scene()
    async with once(scene.requests, RENEWALS, RENEWAL, scene.clock):
        assert (await scene.shown())["state"] == "running"


async def test_a_request_says_what_it_waits_for_since_when_and_until_when() -> None:
    """However often it is tried, it waits since the first time; when it goes on, it does not say so any more."""
    scene = Scene()
    await scene.submit()
    soon = NOW + timedelta(seconds=10)
    for _ in range(3):
        await scene.following.waits(RENEWALS, MESSAGE, "a role is missing at Key Vault", next_try=soon)
        scene.now += timedelta(seconds=20)
    shown = await scene.shown()
    assert (shown["state"], shown["waitingFor"], shown["waitingSince"]) == (
        ("waiting", "a role is missing at Key Vault", NOW)
    )
    assert (shown["nextTry"], shown["tries"]) == (soon, 3)
    await scene.carry_out()
    shown = await scene.shown()
    assert (shown["state"], shown["waitingFor"], shown["tries"]) == ("done", None, None)


async def test_a_rejected_request_says_why_and_its_id_is_free() -> None:
    """Sent again, it begins anew, and the reasons of the former try are gone."""
    scene = Scene()
    with pytest.raises(Rejected):
        await scene.carry_out(fails=Rejected.because("is wrong", field="csr"))
    await scene.following.refused(RENEWALS, MESSAGE, REASONS, "2026-03-01-1")
    shown = await scene.shown()
    assert (shown["state"], shown["reasons"], shown["rejectionId"]) == ("rejected", REASONS, "2026-03-01-1")
    await scene.submit()
    shown = await scene.shown()
    assert (shown["state"], shown["reasons"], shown["rejectionId"]) == ("queued", (), None)


async def test_what_is_refused_before_it_has_begun_is_a_rejected_request() -> None:
    """A message that can't be read has an id all the same; that of an accepted request is not touched by it."""
    scene = Scene()
    await scene.following.refused(RENEWALS, MESSAGE, REASONS, "2026-03-01-1")
    assert (await scene.shown())["state"] == "rejected"
    await scene.submit()
    await scene.following.refused(RENEWALS, MESSAGE, REASONS, "2026-03-01-2")
    assert (await scene.shown())["state"] == "queued"
    await scene.following.refused(RENEWALS, {"requestId": "a b", "csr": "x"}, REASONS, "2026-03-01-3")
    await scene.following.refused(RENEWALS, ["no object"], REASONS, "2026-03-01-4")
    assert await scene.listed() == [("r-1", "queued")]


async def test_what_is_set_aside_waits_for_an_operator_and_ends_when_it_is_closed() -> None:
    scene = Scene()
    await scene.submit()
    what = "an operator: it is set aside"
    await scene.following.waits(RENEWALS, MESSAGE, what, next_try=None, rejection_id="2026-03-01-1")
    shown = await scene.shown()
    assert (shown["waitingFor"], shown["nextTry"], shown["rejectionId"]) == (what, None, "2026-03-01-1")
    await scene.following.closed(RENEWALS, MESSAGE, "mended by hand", "2026-03-01-1")
    shown = await scene.shown()
    assert (shown["state"], shown["rejectionId"]) == ("rejected", "2026-03-01-1")
    assert shown["reasons"] == ({"field": "", "message": "it was set aside and closed: mended by hand"},)


async def test_a_request_that_does_not_wait_for_the_message_that_is_closed_goes_on() -> None:
    """It was sent once more, and waits for its device by now, or that message was set aside as well."""
    scene = Scene()
    await scene.submit()
    await scene.following.waits(RENEWALS, MESSAGE, "an operator", next_try=None, rejection_id="2026-03-01-1")
    await scene.following.waits(RENEWALS, MESSAGE, "its device", next_try=NOW)
    await scene.following.closed(RENEWALS, MESSAGE, "it was sent again", "2026-03-01-1")
    assert (await scene.shown())["state"] == "waiting"
    await scene.following.waits(RENEWALS, MESSAGE, "an operator", next_try=None, rejection_id="2026-03-01-2")
    await scene.following.closed(RENEWALS, MESSAGE, "it was sent again", "2026-03-01-1")
    assert (await scene.shown())["state"] == "waiting"


async def test_an_id_that_several_kinds_have_needs_its_kind() -> None:
    """Each kind has ids of its own; the location of each names its kind."""
    scene = Scene()
    await scene.submit()
    revocation = RevocationRequest(request_id="r-1", registration_id="press-1", reason=RevocationReason.SUPERSEDED)
    await scene.submit(revocation, REVOCATIONS)
    message = "requests of several kinds have this id; give one of renewal-requests, revocation-requests"
    with pytest.raises(Conflict, match=message):
        await scene.shown()
    assert (await scene.shown(REVOCATIONS))["kind"] == "revocation-requests"
    assert location_of(RENEWALS, "r-1") == "/api/requests/r-1?kind=renewal-requests"


async def test_an_order_is_a_request() -> None:
    """It is running while its lines are, and ends with it."""
    scene = Scene()
    order = OrderRecord(order_id="r-1", state=OrderState.ACCEPTED, accepted_at=NOW)
    known = await scene.orders.insert(order)
    assert known is not None
    shown = await scene.shown()
    assert (shown["state"], shown["about"], shown["kind"]) == (("running", "/api/device-orders/r-1", "device-orders"))


async def test_an_order_is_there_before_its_row_is() -> None:
    """From the 202 on; then its row tells, in the list as well, and the sweep enters how it ended."""
    scene = Scene()

    async def sent() -> None: ...

    await scene.following.order_accepted("r-1", "f", sent())
    assert (await scene.shown())["state"] == "queued"
    order = OrderRecord(order_id="r-1", state=OrderState.ACCEPTED, accepted_at=NOW)
    known = await scene.orders.insert(order)
    assert known is not None
    assert (await scene.shown())["state"] == "running"
    assert await scene.listed() == [("r-1", "running")]
    refused = order.changed(state=OrderState.REJECTED, reasons=REASONS)
    await scene.orders.replace(known, refused)
    scene.now += timedelta(hours=1)
    await scene.following.mend()
    assert await scene.listed(state=RequestState.REJECTED) == [("r-1", "rejected")]
    assert (await scene.shown())["reasons"] == REASONS


async def test_a_caller_can_wait_for_a_change() -> None:
    """It is answered when the state changes, and no later than it asked for."""
    scene = Scene()
    await scene.submit()
    assert (await scene.following.wait("r-1", None, 3)).state == "queued"
    assert (scene.looks, scene.now) == (6, NOW + timedelta(seconds=3))

    async def carried_out_meanwhile(_seconds: float) -> None:
        await scene.carry_out()

    following = FollowedRequests(
        requests=scene.requests, orders=scene.orders, clock=scene.clock, pause=carried_out_meanwhile
    )
    assert (await following.wait("r-1", None, 60)).state == "done"


async def test_requests_are_listed_with_the_latest_first_and_by_state_kind_and_time() -> None:
    scene = Scene()
    for minute in range(3):
        scene.now = NOW + timedelta(minutes=minute)
        await scene.submit(RenewalRequest(request_id=f"r-{minute}", registration_id="press-1"))
    await scene.carry_out()
    assert await scene.listed() == [("r-2", "queued"), ("r-1", "done"), ("r-0", "queued")]
    assert await scene.listed(state=RequestState.DONE) == [("r-1", "done")]
    assert await scene.listed(kind=REVOCATIONS) == []
    assert await scene.listed(since=NOW + timedelta(minutes=1)) == [("r-2", "queued"), ("r-1", "done")]


async def test_requests_are_listed_by_what_they_are_about() -> None:
    scene = Scene()
    for number in (1, 2):
        await scene.submit(RenewalRequest(request_id=f"r-{number}", registration_id=f"press-{number}"))
    assert await scene.listed(about="/api/devices/press-2") == [("r-2", "queued")]
    assert await scene.listed(about="/api/enrollment-groups/line-1") == []


async def test_a_row_of_the_list_that_could_not_be_written_is_mended() -> None:
    """A host died between a request's row and its row in the list."""
    scene = Scene()
    await scene.submit()
    before = dict(scene.table.rows)
    await scene.carry_out()
    log = {key: row for key, row in before.items() if key[0] == "log"}
    scene.table.rows.update(log)
    assert await scene.listed() == [("r-1", "queued")]
    assert await scene.following.mend() == 0, "nothing is looked at that was just heard of"
    scene.now += timedelta(minutes=11)
    assert await scene.following.mend() == 1
    assert await scene.listed() == [("r-1", "done")]


async def test_a_request_that_never_got_into_its_queue_is_rejected_after_an_hour() -> None:
    """Who accepted it died before; the caller got no answer, and may send it again."""
    scene = Scene()

    async def broken(*_: Any, **__: Any) -> None:
        raise ConnectionError

    scene.queues.send = broken  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await scene.submit()
    scene.now += timedelta(minutes=30)
    await scene.following.mend()
    assert (await scene.shown())["state"] == "queued"
    scene.now += timedelta(minutes=31)
    await scene.following.mend()
    shown = await scene.shown()
    assert (shown["state"], shown["reasons"][0]["message"]) == (
        ("rejected", "it did not get into its queue; send it again")
    )


async def test_an_order_is_carried_out_for_who_has_posted_it_and_not_for_another_with_its_id() -> None:
    """Its row says who asked, and why; an order that comes by its queue with other content is somebody else's."""
    scene = Scene()
    ada = Actor(kind=CallerKind.USER, id="5b54", name="ada@example.com")

    async def send() -> None:
        assert (await scene.following.order_asked_by("o-1", "f")) is not None, "it is entered before it is sent"

    with acting(ada, "for the new line"):
        await scene.following.order_accepted("o-1", "f", send())
    asked = await scene.following.order_asked_by("o-1", "f")
    assert asked is not None
    assert asked.actor == ada.changed(request_id="o-1")
    assert (asked.comment, asked.state) == ("for the new line", RequestState.QUEUED)
    assert await scene.following.order_asked_by("o-1", "another") is None
    assert await scene.following.order_asked_by("o-2", "f") is None
