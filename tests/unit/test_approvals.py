"""A second person: acts wait for one, whoever asked can't be it, and what was decided is carried out once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.acting import acting
from shared.contracts.authorities import AuthorityAct
from shared.contracts.certificates import CertificateRequest
from shared.contracts.devices import AuthorityRevocation, MemberRevocation, RevocationRequest
from shared.contracts.groups import EnrollmentGroupRequest
from shared.contracts.messages import Queue
from shared.contracts.orders import OrderAct
from shared.contracts.parsing import parse
from shared.domain.approvals import ApprovalAct, ApprovalState, Deed, read_approvals
from shared.domain.audit_entries import SubjectKind
from shared.domain.callers import Actor, CallerKind
from shared.domain.requests import rejected
from shared.errors import AwaitsApproval, Conflict, Forbidden, NotFound, Rejected
from shared.ledger.orders import Orders
from shared.ledger.requests import Requests
from shared.workflows.intake.deliveries import once
from shared.workflows.intake.following import FollowedRequests
from shared.workflows.intake.outbox import Outbox
from shared.workflows.intake.requests import Part, part_for
from tests.unit.fakes import FakeQueues, FakeTable, Killed, Trap
from tests.world.approving import ADA, BOB, approvals

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GROUPS, REVOCATIONS = Queue.ENROLLMENT_GROUP_REQUESTS, Queue.REVOCATION_REQUESTS
DELETION = parse(EnrollmentGroupRequest, {"requestId": "g-1", "enrollmentGroup": "line-1", "action": "delete"})
GROUP = parse(RevocationRequest, {"requestId": "r-1", "enrollmentGroup": "line-1", "reason": "keyCompromise"})


@dataclass
class Scene:
    """One ledger, and a request that comes by its queue as often as it is delivered."""

    wanted: str = "deleteGroup;revokeDevices>100"
    request: Any = DELETION
    queue: Queue = GROUPS
    asker: Actor | None = ADA
    now: datetime = NOW
    devices: dict[str, int] = field(default_factory=lambda: {"line-1": 500})
    deeds: int = 0

    def __post_init__(self) -> None:
        self.table, self.kept, self.queues = FakeTable(), FakeTable(), FakeQueues()
        outbox = Outbox(queues=self.queues, clock=self.clock)
        self.approvals = approvals(self.kept, outbox, self.clock, read_approvals(self.wanted), self.devices)
        self.requests = Requests(self.table, clock=self.clock, gate=self.approvals)
        orders = Orders(orders=FakeTable(), lines=FakeTable())
        self.following = FollowedRequests(requests=self.requests, orders=orders, clock=self.clock)

    def clock(self) -> datetime:
        return self.now

    async def deliver(self, during: Any = None) -> None:
        with acting(self.asker, "the line is closed"):
            async with once(self.requests, self.queue, self.request, self.clock) as to_do:
                if to_do is not None:
                    self.deeds += 1
                    if during is not None:
                        raise during

    async def awaited(self) -> str:
        with pytest.raises(AwaitsApproval) as awaited:
            await self.deliver()
        return awaited.value.approval_id

    async def decide(
        self, identifier: str, by: Actor = BOB, *, refuse: bool = False, said: str = "on the phone"
    ) -> Any:
        with acting(by, said):
            return await (self.approvals.refuse if refuse else self.approvals.approve)(identifier)

    async def listed(self, **columns: str) -> list[tuple[str, str]]:
        found, _ = await self.approvals.page(columns, size=10, continuation=None)
        return [(each.act, each.state) for each in found]

    async def shown(self) -> dict[str, Any]:
        return (await self.following.describe(self.request.request_id, self.queue)).shown()

    def told(self, kind: str = "ApprovalWanted") -> list[dict[str, Any]]:
        return [body for _, body, _ in self.queues.sent if body["type"] == f"DeviceProvisioning.{kind}"]


# --- the setting ---


def test_acts_are_read_with_the_number_of_devices_that_they_may_concern() -> None:
    assert read_approvals(" createRoot; revokeDevices > 250 ;;deleteGroup") == {
        ApprovalAct.CREATE_ROOT: 0,
        ApprovalAct.REVOKE_DEVICES: 250,
        ApprovalAct.DELETE_GROUP: 0,
    }
    assert read_approvals("revokeDevices") == {ApprovalAct.REVOKE_DEVICES: 0}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("makeCoffee", r"has 'makeCoffee', which is not an act; give some of createRoot, .*, revokeAuthority$"),
        ("createRoot>3", r"has 'createRoot>3'; only revokeDevices counts, so leave the number out"),
        ("revokeDevices>", r"has 'revokeDevices>'; after > there must be a whole number from 0 to 1000000"),
        ("revokeDevices>1000001", r"after > there must be a whole number from 0 to 1000000"),
        ("createRoot;createRoot", r"has 'createRoot' more than once"),
    ],
)
def test_a_setting_that_names_no_act_is_refused_in_words(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_approvals(text)


# --- waiting ---


async def test_an_act_waits_and_says_for_whom_and_until_when() -> None:
    """However often its message is looked at, there is one approval, and one event tells of it."""
    scene = Scene()
    identifier = await scene.awaited()
    scene.now += timedelta(minutes=1)
    assert await scene.awaited() == identifier
    assert scene.deeds == 0
    shown = await scene.shown()
    assert (shown["state"], shown["approvalId"], shown["waitingSince"]) == ("awaitingApproval", identifier, NOW)
    assert shown["waitingFor"] == (
        "to delete the enrollment group 'line-1', which the user 'ada@example.com' asked for, needs a second person: "
        f"approval {identifier}, until 2026-03-04 at 12:00 UTC"
    )
    assert await scene.listed(state="open") == [("deleteGroup", "open")]
    [told] = scene.told()
    assert (told["subject"], told["correlationid"]) == ("line-1", "g-1")
    assert told["data"]["approvalId"] == identifier
    assert told["data"]["devices"] == 500
    assert told["data"]["expiresAt"] == "2026-03-04T12:00:00Z"
    assert told["data"]["actor"]["name"] == "ada@example.com"


async def test_a_message_is_looked_at_often_at_first_and_then_each_minute() -> None:
    scene = Scene()
    waits = []
    for later in (timedelta(), timedelta(minutes=9), timedelta(minutes=10)):
        scene.now = NOW + later
        with pytest.raises(AwaitsApproval) as awaited:
            await scene.deliver()
        waits.append(awaited.value.retry_after.total_seconds())
    assert waits == [10, 10, 60]


async def test_an_act_that_somebody_else_approves_is_carried_out_once() -> None:
    scene = Scene()
    identifier = await scene.awaited()
    record = await scene.decide(identifier)
    assert (record.state, record.decided_by, record.comment) == ("approved", BOB, "on the phone")
    assert (record.asked_by.id, record.asked_with) == (ADA.id, "the line is closed")
    await scene.deliver()
    await scene.deliver()
    assert scene.deeds == 1
    assert (await scene.shown())["state"] == "done"
    assert await scene.listed() == [("deleteGroup", "approved")]


async def test_whoever_asked_can_not_approve_whatever_address_they_come_from_but_may_refuse() -> None:
    """A person is known by kind and id: another name or address makes nobody else of them."""
    scene = Scene()
    identifier = await scene.awaited()
    with pytest.raises(Forbidden, match="whoever asked for it can't approve it; somebody else with this role can"):
        await scene.decide(identifier, ADA.changed(name="Ada", address="198.51.100.1"))
    assert (await scene.approvals.describe(identifier)).state == "open"
    await scene.decide(identifier, ADA, refuse=True, said="a mistake")
    with pytest.raises(Conflict, match=r"the user 'ada@example\.com' has refused to delete .*: a mistake"):
        await scene.deliver()


@pytest.mark.parametrize(
    ("asker", "approver", "is_taken"),
    [
        (Actor(kind=CallerKind.KEY, id="ops"), Actor(kind=CallerKind.KEY, id="ops"), False),
        (Actor(kind=CallerKind.KEY, id="ops"), Actor(kind=CallerKind.KEY, id="security"), True),
        (Actor(kind=CallerKind.KEY, id="ops"), Actor(kind=CallerKind.USER, id="ops"), True),
        (Actor(kind=CallerKind.QUEUE, id=GROUPS, name="/erp"), Actor(kind=CallerKind.KEY, id="ops"), True),
        (None, Actor(kind=CallerKind.KEY, id="ops"), True),
    ],
)
async def test_two_keys_of_one_name_are_one_person(asker: Actor | None, approver: Actor, *, is_taken: bool) -> None:
    scene = Scene(asker=asker)
    identifier = await scene.awaited()
    if is_taken:
        assert (await scene.decide(identifier, approver)).state == "approved"
    else:
        with pytest.raises(Forbidden):
            await scene.decide(identifier, approver)


async def test_an_act_that_is_refused_is_rejected_with_who_and_why() -> None:
    """Its id is free then. Within an hour a copy of its message is refused again; sent later, it asks anew."""
    scene = Scene()
    identifier = await scene.awaited()
    await scene.decide(identifier, refuse=True, said="not this line")
    with pytest.raises(Conflict):
        await scene.deliver()
    shown = await scene.shown()
    assert (shown["state"], scene.deeds) == ("rejected", 0)
    [reason] = shown["reasons"]
    assert reason["message"] == (
        "the user 'bob@example.com' has refused to delete the enrollment group 'line-1': not this line"
    )
    scene.now += timedelta(minutes=59)
    with pytest.raises(Conflict, match="has refused to delete the enrollment group 'line-1': not this line"):
        await scene.deliver()
    assert len(await scene.listed()) == 1
    scene.now += timedelta(minutes=1)
    again = await scene.awaited()
    assert again != identifier
    assert await scene.listed() == [("deleteGroup", "open"), ("deleteGroup", "refused")]


async def test_what_was_approved_once_is_not_approved_when_its_id_is_used_again() -> None:
    """The approved deletion was rejected for another reason, and its id is free: the next one is another act."""
    scene = Scene()
    first = await scene.awaited()
    await scene.decide(first)
    with pytest.raises(Rejected, match="does not exist"):
        await scene.deliver(NotFound.because("the enrollment group 'line-1' does not exist"))
    assert await scene.awaited() != first


async def test_what_somebody_else_asks_for_under_the_same_id_is_theirs() -> None:
    """Whoever asks now can't approve it, though the first one could not either."""
    scene = Scene()
    first = await scene.awaited()
    known = await scene.requests.find(GROUPS, "g-1")
    assert known is not None
    await scene.requests.enter(known.record, rejected(NOW, ({"field": "", "message": "closed"},)))
    scene.asker = BOB
    second = await scene.awaited()
    assert second != first
    with pytest.raises(Forbidden):
        await scene.decide(second, BOB)


async def test_an_act_that_nobody_approves_in_time_is_rejected() -> None:
    """To the second: at the moment when its time has run out, it is too late to approve it."""
    scene = Scene()
    identifier = await scene.awaited()
    scene.now = NOW + timedelta(hours=72)
    with pytest.raises(Conflict, match="nobody approved it until 2026-03-04 at 12:00 UTC, so it has expired"):
        await scene.decide(identifier)
    with pytest.raises(
        Conflict, match="nobody approved that until 2026-03-04 at 12:00 UTC; ask for it anew, with a new id"
    ):
        await scene.deliver()
    assert ((await scene.shown())["state"], scene.deeds) == ("rejected", 0)
    assert await scene.listed() == [("deleteGroup", "expired")]


async def test_an_act_that_was_approved_in_time_is_carried_out_later_too() -> None:
    scene = Scene()
    identifier = await scene.awaited()
    scene.now = NOW + timedelta(hours=72) - timedelta(seconds=1)
    await scene.decide(identifier)
    scene.now += timedelta(hours=5)
    await scene.deliver()
    assert scene.deeds == 1


async def test_a_decision_stays() -> None:
    """Repeated by the same person it changes nothing; another one is told what was decided."""
    scene = Scene()
    identifier = await scene.awaited()
    first = await scene.decide(identifier)
    scene.now += timedelta(minutes=1)
    assert await scene.decide(identifier, said="again") == first
    for by, refuse in ((BOB, True), (ADA, True), (Actor(kind=CallerKind.KEY, id="ops"), False)):
        with pytest.raises(Conflict, match=r"the user 'bob@example\.com' has approved it on 2026-03-01 at 12:00 UTC"):
            await scene.decide(identifier, by, refuse=refuse)
    with pytest.raises(NotFound, match="the approval 'none' does not exist"):
        await scene.decide("none")


async def test_of_two_who_decide_at_once_one_does() -> None:
    """Both have read that it is open: the guarded write lets one of them through, and the other one is told."""
    scene = Scene()
    identifier = await scene.awaited()
    rows, read = scene.approvals.rows, asyncio.Barrier(2)
    replace = rows.try_replace

    async def together(known: Any, record: Any) -> Any:
        if not met:
            await read.wait()
            met.append(record.state)
        return await replace(known, record)

    met: list[ApprovalState] = []
    rows.try_replace = together  # type: ignore[method-assign]
    carol = Actor(kind=CallerKind.USER, id="c")
    outcomes = await asyncio.gather(
        scene.decide(identifier), scene.decide(identifier, carol, refuse=True), return_exceptions=True
    )
    record = await scene.approvals.describe(identifier)
    assert sorted(type(each).__name__ for each in outcomes) == ["ApprovalRecord", "Conflict"]
    assert record in outcomes


# --- what needs one ---


async def test_a_group_of_few_devices_is_revoked_at_once() -> None:
    """The number of the setting is let through; the next one is not."""
    scene = Scene(request=GROUP, queue=REVOCATIONS, devices={"line-1": 100})
    await scene.deliver()
    assert (scene.deeds, await scene.listed()) == (1, [])
    scene = Scene(request=GROUP, queue=REVOCATIONS, devices={"line-1": 101})
    await scene.awaited()
    assert scene.deeds == 0


async def test_an_approval_is_good_for_as_many_devices_as_it_showed_and_a_tenth() -> None:
    """The group has grown while it waited: more than that have to be approved anew."""
    scene = Scene(request=GROUP, queue=REVOCATIONS)
    first = await scene.awaited()
    await scene.decide(first)
    scene.devices["line-1"] = 551
    second = await scene.awaited()
    assert second != first
    assert (await scene.approvals.describe(second)).devices == 551
    scene.devices["line-1"] = 550
    await scene.deliver()
    assert scene.deeds == 1


async def test_a_group_that_shrinks_while_it_waits_still_needs_its_second_person() -> None:
    """What was refused is not done because a few devices left."""
    scene = Scene(request=GROUP, queue=REVOCATIONS)
    identifier = await scene.awaited()
    scene.devices["line-1"] = 3
    assert await scene.awaited() == identifier


@pytest.mark.parametrize(
    ("wanted", "request_", "words"),
    [
        ("createRoot", (CertificateRequest, {"kind": "root", "name": "dpsCa"}), "make the root 'dpsCa'"),
        ("createRoot", (CertificateRequest, {"kind": "intermediate", "name": "ca1"}), None),
        ("deleteGroup", (EnrollmentGroupRequest, {"enrollmentGroup": "line-1", "action": "disable"}), None),
        (
            "revokeAuthority",
            (AuthorityAct, {"name": "ca1", "action": "revoke", "reason": "keyCompromise"}),
            "revoke the CA 'ca1' and all devices with a certificate of it, for keyCompromise",
        ),
        (
            "revokeAuthority",
            (AuthorityAct, {"name": "ca1", "action": "revoke", "reason": "keyCompromise", "perMinute": 60}),
            "revoke the CA 'ca1' and all devices with a certificate of it, for keyCompromise, 60 devices a minute",
        ),
        # Decided already, as those below a CA are with it: its message only brings that about.
        (
            "revokeAuthority;revokeDevices",
            (AuthorityAct, {"name": "revoked-ca", "action": "revoke", "reason": "keyCompromise"}),
            None,
        ),
        # The CA's revocation was approved with its devices.
        ("revokeDevices", (AuthorityRevocation, {"issuer": "line-1", "reason": "keyCompromise"}), None),
        ("revokeAuthority", (AuthorityAct, {"name": "ca1", "action": "retire"}), None),
        ("revokeDevices>1", (AuthorityAct, {"name": "ca1", "action": "revoke", "reason": "keyCompromise"}), None),
        (
            "revokeDevices",
            (AuthorityAct, {"name": "line-1", "action": "revoke", "reason": "keyCompromise"}),
            "revoke the CA 'line-1' and all devices with a certificate of it, for keyCompromise",
        ),
        (
            "revokeDevices>499",
            (OrderAct, {"orderId": "line-1", "action": "cancel", "issued": "revoke"}),
            "cancel the order 'line-1' and revoke its devices",
        ),
        ("revokeDevices>500", (OrderAct, {"orderId": "line-1", "action": "cancel", "issued": "revoke"}), None),
        ("revokeDevices", (OrderAct, {"orderId": "line-1", "action": "cancel", "issued": "keep"}), None),
        ("revokeDevices", (RevocationRequest, {"registrationId": "press-1", "reason": "keyCompromise"}), None),
        (
            "reinstateDevice",
            (RevocationRequest, {"registrationId": "press-1", "action": "reinstate"}),
            "undo the hold of the device 'press-1'",
        ),
        (
            "reinstateDevice",
            (RevocationRequest, {"serialNumber": "4" * 40, "action": "reinstate"}),
            f"undo the hold of the certificate {'4' * 40}",
        ),
        (
            "reinstateDevice",
            (RevocationRequest, {"enrollmentGroup": "line-1", "action": "reinstate"}),
            "undo the holds of all devices of the enrollment group 'line-1'",
        ),
        (
            "reinstateDevice",
            (RevocationRequest, {"registrationIds": ["press-1", "press-2"], "action": "reinstate"}),
            "undo the holds of 2 devices: press-1, press-2",
        ),
        (
            "revokeDevices>1",
            (RevocationRequest, {"registrationIds": ["press-1", "press-2"], "reason": "keyCompromise"}),
            "revoke 2 devices: press-1, press-2, for keyCompromise",
        ),
        (
            "revokeDevices>1",
            (RevocationRequest, {"enrollmentGroup": "line-1", "reason": "keyCompromise", "perMinute": 1}),
            "revoke all devices of the enrollment group 'line-1', for keyCompromise, 1 device a minute",
        ),
        ("reinstateDevice", (RevocationRequest, {"registrationId": "press-1", "reason": "certificateHold"}), None),
        (
            "revokeDevices>499",
            (RevocationRequest, {"orderId": "line-1", "reason": "keyCompromise"}),
            "revoke all devices of the order 'line-1', for keyCompromise",
        ),
        ("revokeDevices>500", (RevocationRequest, {"orderId": "line-1", "reason": "keyCompromise"}), None),
        (
            "reinstateDevice",
            (RevocationRequest, {"orderId": "line-1", "action": "reinstate"}),
            "undo the holds of all devices of the order 'line-1'",
        ),
        # Another act is wanted of a second person, and this one is not.
        ("deleteGroup", (CertificateRequest, {"kind": "root", "name": "dpsCa"}), None),
        ("createRoot", (EnrollmentGroupRequest, {"enrollmentGroup": "line-1", "action": "delete"}), None),
        ("createRoot", (RevocationRequest, {"enrollmentGroup": "line-1", "reason": "keyCompromise"}), None),
        ("createRoot", (OrderAct, {"orderId": "line-1", "action": "cancel", "issued": "revoke"}), None),
        ("createRoot", (RevocationRequest, {"registrationId": "press-1", "action": "reinstate"}), None),
    ],
)
async def test_what_an_act_does_is_said_in_words(wanted: str, request_: tuple[Any, Any], words: str | None) -> None:
    """``None``: it needs nobody else."""
    contract, body = request_
    deed = await Scene(wanted).approvals.deeds.of(parse(contract, {"requestId": "x-1", **body}))
    assert (deed.what if deed is not None and deed.is_needed else None) == words


ORDER = {"orderId": "o-1"}
SERIAL = "4" * 40


@pytest.mark.parametrize(
    ("wanted", "request_", "about"),
    [
        (
            "createRoot",
            (CertificateRequest, {"kind": "root", "name": "dpsCa"}),
            ("certificateAuthority", "dpsCa", None, None),
        ),
        (
            "deleteGroup",
            (EnrollmentGroupRequest, {"enrollmentGroup": "line-1", "action": "delete"}),
            ("enrollmentGroup", "line-1", "line-1", 500),
        ),
        (
            "revokeAuthority",
            (AuthorityAct, {"name": "line-1", "action": "revoke", "reason": "keyCompromise"}),
            ("certificateAuthority", "line-1", "group of the CA line-1", 500),
        ),
        (
            "revokeDevices",
            (OrderAct, {**ORDER, "action": "cancel", "issued": "revoke"}),
            ("order", "o-1", "group of the order o-1", 7),
        ),
        (
            "revokeDevices",
            (RevocationRequest, {**ORDER, "reason": "keyCompromise"}),
            ("order", "o-1", "group of the order o-1", 7),
        ),
        (
            "revokeDevices",
            (RevocationRequest, {"enrollmentGroup": "line-1", "reason": "keyCompromise"}),
            ("enrollmentGroup", "line-1", "line-1", 500),
        ),
        (
            "revokeDevices",
            (RevocationRequest, {"registrationIds": ["saw", "mill", "saw"], "reason": "keyCompromise"}),
            ("request", "x-1", None, 2),
        ),
        (
            "reinstateDevice",
            (RevocationRequest, {"registrationId": "saw", "action": "reinstate"}),
            ("device", "saw", "group of the device saw", None),
        ),
        (
            "reinstateDevice",
            (RevocationRequest, {"serialNumber": SERIAL, "action": "reinstate"}),
            ("certificate", SERIAL, f"group of the certificate {SERIAL}", None),
        ),
        (
            "reinstateDevice",
            (RevocationRequest, {**ORDER, "action": "reinstate"}),
            ("order", "o-1", "group of the order o-1", None),
        ),
    ],
)
async def test_an_act_says_what_it_is_about_and_of_whose_group(
    wanted: str, request_: tuple[Any, Any], about: tuple[str, str, str | None, int | None]
) -> None:
    """Who may decide it is told by its group, and what was done to a subject is found by its kind and id."""
    contract, body = request_

    def finder(kind: str) -> Any:
        async def find(name: str) -> str:
            return f"group of the {kind} {name}"

        return find

    async def of_order(name: str) -> tuple[int, str]:
        return 7, f"group of the order {name}"

    deeds = replace(
        Scene(wanted).approvals.deeds,
        group_of_device=finder("device"),
        group_of_certificate=finder("certificate"),
        group_of_authority=finder("CA"),
        devices_of_order=of_order,
    )
    deed = await deeds.of(parse(contract, {"requestId": "x-1", **body}))
    assert deed is not None
    assert (deed.kind.value, deed.subject, deed.group, deed.devices) == about
    assert deed.act.value == wanted


async def test_the_parts_of_a_request_that_was_approved_need_nobody_else() -> None:
    """Each part proves that it comes from its request, and that one was approved as a whole."""
    body = {"requestId": "r-1", "enrollmentGroup": "line-1", "action": "reinstate"}
    scene = Scene("reinstateDevice", parse(RevocationRequest, body), REVOCATIONS)
    await scene.decide(await scene.awaited())
    async with once(scene.requests, REVOCATIONS, scene.request, scene.clock) as whole:
        assert whole is not None
        token = part_for(whole, "press-1").token
        single = parse(
            MemberRevocation,
            {"requestId": "r-1", "registrationId": "press-1", "action": "reinstate", "part": token},
        )
        part = Part(member="press-1", token=token)
        async with once(scene.requests, REVOCATIONS, single, scene.clock, part=part) as to_do:
            assert to_do is not None
    assert len(await scene.listed()) == 1


# --- broken off ---


@pytest.mark.parametrize("step", range(1, 30))
async def test_a_worker_that_is_killed_at_any_write_leaves_nothing_lost_and_nothing_done_twice(step: int) -> None:
    """The first looks, the decision and the deed: after each write the worker may be gone, and another one goes on."""
    scene = Scene()
    scene.table.step = scene.kept.step = scene.queues.step = Trap(after=step).step
    identifier = ""
    for _ in range(3):
        with suppress(Killed):
            identifier = await scene.awaited()
    assert scene.deeds == 0
    for _ in range(2):
        with suppress(Killed):
            assert (await scene.decide(identifier)).state == "approved"
    for _ in range(3):
        with suppress(Killed):
            await scene.deliver()
    await scene.approvals.sweep()
    shown = await scene.shown()
    assert shown["state"] == "done"
    # The deed itself is of workflows that bear being repeated; here the body is what counts how often it is begun.
    assert 1 <= scene.deeds <= 2
    assert await scene.listed() == [("deleteGroup", "approved")]
    assert {each["id"] for each in scene.told()} == {f"ApprovalWanted/line-1/g-1/{identifier}"}
    assert {each["id"] for each in scene.told("ApprovalEnded")} == {f"ApprovalEnded/line-1/g-1/{identifier}"}


async def test_the_sweep_ends_what_nobody_decided_and_counts_what_waits() -> None:
    scene = Scene()
    identifier = await scene.awaited()
    assert await scene.approvals.sweep() == 0
    scene.now = NOW + timedelta(hours=72)
    assert await scene.approvals.sweep() == 1
    assert (await scene.approvals.describe(identifier)).state == "expired"
    assert await scene.listed(state="open") == []
    assert await scene.approvals.sweep() == 0


# --- how it ended is told ---


async def test_how_an_approval_ended_is_told_once_with_who_asked_and_who_decided() -> None:
    scene = Scene()
    identifier = await scene.awaited()
    await scene.decide(identifier, refuse=True, said="not this week")
    await scene.decide(identifier, refuse=True, said="not this week")
    await scene.approvals.sweep()
    [told] = scene.told("ApprovalEnded")
    assert (told["id"], told["correlationid"]) == (f"ApprovalEnded/line-1/g-1/{identifier}", "g-1")
    shown = told["data"]
    assert (shown["state"], shown["act"], shown["comment"]) == ("refused", "deleteGroup", "not this week")
    assert (shown["askedBy"]["name"], shown["actor"]["name"]) == ("ada@example.com", "bob@example.com")
    assert shown["what"] == "delete the enrollment group 'line-1'"


async def test_a_call_that_nobody_approves_in_time_is_told_as_expired_by_nobody() -> None:
    """No request of it is rejected, so no other event tells who asked."""
    scene = Scene("importAuthority")
    identifier = await call(scene, request_id="import-1")
    scene.now = NOW + timedelta(hours=72)
    for _ in range(3):
        await scene.approvals.sweep()
    [told] = scene.told("ApprovalEnded")
    assert (told["id"], told["subject"]) == (f"ApprovalEnded/f/import-1/{identifier}", "f")
    assert (told["data"]["state"], told["data"]["actor"], told["data"]["comment"]) == ("expired", None, None)
    assert told["data"]["askedBy"]["name"] == "ada@example.com"
    assert (await scene.approvals.describe(identifier)).end_told is True


async def test_a_decision_stands_while_events_can_not_be_sent_and_is_told_by_the_sweep() -> None:
    scene = Scene("importAuthority")
    identifier = await call(scene)

    def down() -> None:
        raise OSError("the queue of events is down")

    scene.queues.step = down
    assert (await scene.decide(identifier)).state == "approved"
    scene.queues.step = lambda: None
    sent = len(scene.queues.sent)
    await scene.approvals.sweep()
    assert [body["data"]["state"] for _, body, _ in scene.queues.sent[sent:]] == ["approved"]
    assert await scene.approvals.sweep() == 0
    assert len(scene.queues.sent) == sent + 1


# --- calls that are not kept ---

IMPORT = Deed(act=ApprovalAct.IMPORT_AUTHORITY, what="import the CA 'f'", kind=SubjectKind.AUTHORITY, subject="f")


async def call(
    scene: Scene, fingerprint: str = "own|root|vault", by: Actor = ADA, request_id: str | None = None
) -> str:
    """Make a call that is gated; give the approval that it awaits, or an empty text if it is let through."""
    with acting(by, None):
        try:
            await scene.approvals.allow(IMPORT, fingerprint, request_id)
        except AwaitsApproval as awaited:
            return awaited.approval_id
    return ""


async def test_a_call_is_let_through_when_the_same_caller_sends_it_again() -> None:
    """Not with other content, and not by somebody else: that is another act, which asks by itself."""
    scene = Scene("importAuthority")
    identifier = await call(scene)
    assert identifier
    assert await call(scene) == identifier
    await scene.decide(identifier)
    assert await call(scene) == ""
    assert await call(scene, "another|root|vault") not in {"", identifier}
    assert await call(scene, by=BOB) not in {"", identifier}


async def test_a_call_that_was_refused_stays_so_until_its_time_is_over_or_it_has_a_key_of_its_own() -> None:
    scene = Scene("importAuthority")
    identifier = await call(scene)
    await scene.decide(identifier, refuse=True, said="not known here")
    with pytest.raises(Rejected, match="has refused to import the CA 'f': not known here"):
        await call(scene)
    assert await call(scene, request_id="try-2") not in {"", identifier}
    scene.now = NOW + timedelta(hours=72)
    assert await call(scene) not in {"", identifier}


async def test_the_approval_of_a_call_ends_with_its_time() -> None:
    """What was approved in January is not done in June by sending it again."""
    scene = Scene("importAuthority")
    identifier = await call(scene)
    await scene.decide(identifier)
    scene.now = NOW + timedelta(hours=72)
    assert await call(scene) not in {"", identifier}


async def test_without_the_setting_nothing_waits() -> None:
    scene = Scene("")
    await scene.deliver()
    assert scene.deeds == 1
    assert await call(scene) == ""
    assert scene.kept.rows == {}
