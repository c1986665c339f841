"""A request about a group is done when its parts are: counted, however they end and wherever a worker is killed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.contracts.devices import CertificateRenewal, MemberRevocation, RevocationRequest, revocation_request
from shared.contracts.messages import Queue
from shared.domain.request_parts import PartNote
from shared.domain.requests import RequestRecord, done, rejected
from shared.domain.words import DeviceState, RevocationReason
from shared.errors import Deferred, NotAuthentic, Rejected, UnderWay
from shared.ledger.requests import Requests
from shared.workflows.intake.following import FollowedRequests
from shared.workflows.intake.outbox import Outbox
from shared.workflows.intake.parts import Parts
from tests.unit.devices import DeviceScene
from tests.unit.fakes import FakeQueues, FakeTable, Killed, Trap

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KIND = Queue.REVOCATION_REQUESTS
WANTED = RevocationRequest(request_id="all", enrollment_group="line", reason=RevocationReason.KEY_COMPROMISE)
PRESSES = ["drill", "lathe", "press"]


async def line() -> DeviceScene:
    """Give a scene with three registered devices."""
    scene = await DeviceScene().set_up()
    for device in PRESSES:
        await scene.order(f"order-{device}", device)
    return scene


def parts(scene: DeviceScene) -> dict[str, dict[str, Any]]:
    sent = [body["data"] for queue, body, _ in scene.queues.sent if queue == KIND]
    return {data["registrationId"]: data for data in sent}


def following(scene: DeviceScene) -> FollowedRequests:
    return FollowedRequests(requests=scene.requests, orders=scene.orders, clock=scene.clock)


async def shown(scene: DeviceScene) -> tuple[str, dict[str, int]]:
    """Give the state of the request, and of its counts those that are not zero."""
    described = await following(scene).describe("all", KIND)
    counts = described.progress.shown() if described.progress else {}
    return described.state, {name: count for name, count in counts.items() if count}


async def deliver(scene: DeviceScene) -> None:
    with pytest.raises(UnderWay):
        await scene.revocations.carry_out(WANTED)


async def carry_out(scene: DeviceScene, device: str) -> None:
    await scene.revocations.carry_out(revocation_request(parts(scene)[device]))


async def test_a_revocation_of_a_group_is_done_when_its_devices_are_revoked() -> None:
    """Until then it is running, and says how many are."""
    scene = await line()
    await deliver(scene)
    assert await shown(scene) == ("running", {"queued": 3})
    for count, device in enumerate(PRESSES[:2], start=1):
        await carry_out(scene, device)
        await deliver(scene)
        assert await shown(scene) == ("running", {"queued": 3, "done": count})
    await carry_out(scene, "press")
    await scene.revocations.carry_out(WANTED)
    assert await shown(scene) == ("done", {"queued": 3, "done": 3})
    scene.queues.sent.clear()
    await scene.revocations.carry_out(WANTED)
    assert scene.queues.sent == [], "it has ended"


async def test_a_revocation_of_a_group_without_devices_is_done_at_once() -> None:
    """There is nothing to wait for."""
    scene = await DeviceScene().set_up()
    await scene.revocations.carry_out(WANTED)
    assert await shown(scene) == ("done", {})


@dataclass
class RevokedMeanwhile:
    """A group's devices, of which somebody revokes one for good when it has been read."""

    scene: DeviceScene

    async def page(self, *asked: Any, **page: Any) -> Any:
        found = await self.scene.revocations.members.page(*asked, **page)
        await self.scene.revoke(registration_id="press")
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scene.revocations.members, name)


async def test_a_device_that_can_not_be_revoked_is_counted_as_failed() -> None:
    """It was revoked for good before it was put on hold; the others are on hold, and the request ends."""
    scene, hold = await line(), WANTED.model_copy(update={"reason": RevocationReason.CERTIFICATE_HOLD})
    members: Any = RevokedMeanwhile(scene)
    with pytest.raises(UnderWay):
        await replace(scene.revocations, members=members).carry_out(hold)
    with pytest.raises(Rejected, match="'press' is revoked for good"):
        await carry_out(scene, "press")
    await carry_out(scene, "drill")
    await carry_out(scene, "lathe")
    await scene.revocations.carry_out(hold)
    assert await shown(scene) == ("done", {"queued": 3, "done": 2, "failed": 1})


async def test_a_part_that_is_set_aside_is_an_operator_s_and_ends_when_it_is_closed() -> None:
    """The request says so and waits for that; closed, the device counts as failed, and the request ends."""
    scene = await line()
    await deliver(scene)
    await carry_out(scene, "drill")
    await carry_out(scene, "lathe")
    message = parts(scene)["press"]
    await following(scene).waits(KIND, message, "an operator", next_try=None, rejection_id="2026-03-01-a")
    with pytest.raises(Deferred) as deferred:
        await scene.revocations.carry_out(WANTED)
    assert not isinstance(deferred.value, UnderWay)
    assert str(deferred.value) == (
        "an operator: what it asks for 1 of 3 devices is set aside as rejections, to be replayed or closed"
    )
    await following(scene).closed(KIND, message, "the device is scrapped", "2026-03-01-a")
    await scene.revocations.carry_out(WANTED)
    assert await shown(scene) == ("done", {"queued": 3, "done": 2, "failed": 1})


async def test_a_message_that_is_not_a_part_says_nothing_of_one() -> None:
    """Whoever can write into the queue can't have a part counted as failed."""
    scene = await line()
    await deliver(scene)
    forged = {**parts(scene)["press"], "part": "0" * 64}
    await following(scene).waits(KIND, forged, "an operator", next_try=None, rejection_id="2026-03-01-a")
    await following(scene).closed(KIND, forged, "no", "2026-03-01-a")
    with pytest.raises(NotAuthentic):
        await scene.revocations.carry_out(revocation_request(forged))
    await deliver(scene)
    assert await shown(scene) == ("running", {"queued": 3})


async def test_a_refused_part_that_is_replayed_is_counted_anew() -> None:
    """As long as its request has not ended."""
    scene = await line()
    await deliver(scene)
    part = await scene.requests.find(KIND, "all", "press")
    assert part is not None
    await scene.requests.enter(part, rejected(NOW, ()))
    await deliver(scene)
    assert await shown(scene) == ("running", {"queued": 3, "failed": 1})
    await carry_out(scene, "press")
    await deliver(scene)
    assert await shown(scene) == ("running", {"queued": 3, "done": 1})


@pytest.mark.long
async def test_a_group_is_revoked_wherever_a_worker_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After whatever write: each message comes again, each device is revoked, and the request ends with the counts."""
    monkeypatch.setattr("shared.workflows.devices.revocations.BATCH", 2)
    for after in range(1, 300):
        scene, trap = await line(), Trap(after)
        kept: Any = (scene.requests._kept, scene.requests._apart)  # noqa: SLF001 - their writes are what is killed
        kept[0].table.step = kept[1].table.step = scene.queues.step = trap.step
        killed = False
        waiting: list[Any] = [WANTED]
        for _ in range(40):
            if not waiting:
                break
            message = waiting.pop()
            known = set(parts(scene))
            try:
                await scene.revocations.carry_out(message)
            except UnderWay:
                waiting.insert(0, message)
            except Killed:
                killed = True
                waiting.append(message)
            waiting += [revocation_request(parts(scene)[device]) for device in set(parts(scene)) - known]
            scene.now += timedelta(minutes=6)
        assert waiting == [], f"killed after {after}"
        assert await shown(scene) == ("done", {"queued": 3, "done": 3}), f"killed after {after}"
        for device in PRESSES:
            assert (await scene.record(device)).state is DeviceState.REVOKED
        if not killed:
            assert after > 15, "it was killed nowhere"
            return
    raise AssertionError("it has more steps than were tried")


def note(key: str, whole: str = "all") -> PartNote:
    return PartNote(kind=KIND, whole=whole, key=key, noted_at=NOW)


def parts_of(requests: Requests) -> Parts:
    return Parts(requests=requests, outbox=Outbox(queues=FakeQueues(), clock=lambda: NOW), clock=lambda: NOW)


async def test_ten_thousand_parts_are_counted_by_reads_of_their_own_rows() -> None:
    """Nothing of the other requests is counted, whatever their ids."""
    requests = Requests(FakeTable(), clock=lambda: NOW)
    whole = RequestRecord(kind=KIND, request_id="all", fingerprint="f", received_at=NOW)
    await requests.claim(whole)
    for other in ("al", "alll", "all-"):
        await requests.expect_part(note(f"{KIND}|{other}|press", other))
    for number in range(10_000):
        await requests.expect_part(note(f"{KIND}|all|press-{number}"))
    with pytest.raises(UnderWay) as under_way:
        await parts_of(requests).follow(whole)
    assert str(under_way.value) == "10000 of 10000 devices are under way"
    assert under_way.value.retry_after == timedelta(minutes=1)


async def test_a_part_that_nothing_was_heard_of_for_a_while_is_looked_at_itself() -> None:
    """Who carried it out may have died before it was noted."""
    table, now = FakeTable(), [NOW]
    requests = Requests(table, clock=lambda: now[0])
    part = RequestRecord(kind=KIND, request_id="all", member="press-1", whole="all", fingerprint="f", received_at=NOW)
    await requests.expect_part(note(part.key))
    await requests.claim(part)
    [row] = [each for each in table.rows.values() if each.values.get("key") == f"{KIND}|all|press-1"]
    await requests.enter(part, done(NOW))
    await table.put(row.values)  # who entered it died before it was noted
    assert (await requests.count_parts(KIND, "all")).done == 0
    now[0] += timedelta(minutes=6)
    assert (await requests.count_parts(KIND, "all")).done == 0
    assert (await requests.count_parts(KIND, "all")).done == 1


@dataclass
class Left:
    """A request whose parts were counted, and of which nothing is known further.

    Attributes:
        now: the time.
    """

    now: datetime = NOW

    def __post_init__(self) -> None:
        self.queues = FakeQueues()
        self.requests = Requests(FakeTable(), clock=self.clock)
        outbox = Outbox(queues=self.queues, clock=self.clock)
        self.parts = Parts(requests=self.requests, outbox=outbox, clock=self.clock)
        self.whole = RequestRecord(kind=Queue.RENEWAL_REQUESTS, request_id="all", fingerprint="f", received_at=NOW)

    def clock(self) -> datetime:
        return self.now

    async def killed_after(self, write: int, replaces: str = "4" * 40) -> None:
        """Have a worker count a part, and die after one of its writes."""
        await self.requests.claim(self.whole)
        table: Any = self.requests._kept.table  # noqa: SLF001 - its writes are what is killed
        table.step = self.queues.step = Trap(write).step
        with suppress(Killed):
            await self.ask(replaces)
        table.step = self.queues.step = lambda: None

    async def ask(self, replaces: str) -> None:
        wanted = CertificateRenewal(request_id="renewal-press", registration_id="press", replaces=replaces)
        await self.parts.ask(self.whole, wanted)

    async def follow(self) -> None:
        with pytest.raises(UnderWay):
            await self.parts.follow(self.whole)

    @property
    def sent(self) -> list[str]:
        return [body["data"]["replaces"] for _, body, _ in self.queues.sent]


@pytest.mark.parametrize("write", [1, 2, 3])
async def test_a_part_whose_message_was_not_sent_is_sent_by_who_counts(write: int) -> None:
    """When nothing was heard of it for five minutes, and once; from then on it is in its queue."""
    left = Left()
    await left.killed_after(write)
    await left.follow()
    assert left.sent == []
    left.now += timedelta(minutes=6)
    await left.follow()
    assert left.sent == ["4" * 40]
    left.now += timedelta(minutes=6)
    await left.follow()
    assert left.sent == ["4" * 40]


async def test_a_part_that_has_no_row_is_not_sent_more_than_every_five_minutes() -> None:
    """Its message may lie in a long queue; who gets it twice does it once."""
    left = Left()
    left.whole = left.whole.changed(kind=KIND.value)
    await left.requests.claim(left.whole)
    token = "0" * 64
    reason = RevocationReason.KEY_COMPROMISE
    await left.parts.ask(
        left.whole, MemberRevocation(request_id="all", registration_id="press", reason=reason, part=token)
    )
    sent = []
    for _ in range(12):
        await left.follow()
        sent.append(len(left.queues.sent))
        left.now += timedelta(minutes=1)
    assert sent == [1] * 6 + [2] * 6


async def test_what_a_part_was_asked_for_first_counts() -> None:
    """Its device has another certificate by the time that the request goes on: the request is not refused for that."""
    left = Left()
    await left.killed_after(1, replaces="4" * 40)
    await left.ask("5" * 40)
    assert left.sent == ["4" * 40]
