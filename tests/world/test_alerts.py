"""Each alert fires when what it is for has happened, and not a moment before: in memory, on a clock of the test's own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.adapters.observed import Call
from shared.contracts.messages import Queue
from shared.domain.authorities import PublishedList
from shared.domain.groups import GroupRecord, GroupState
from shared.domain.words import CertificateKind
from shared.errors import Deferred
from shared.ledger.authorities import Authorities
from shared.ledger.groups import Groups
from shared.telemetry import metrics
from shared.telemetry.metrics import received
from shared.workflows.status.measurements import Measurements
from tests.measured import ALERTS, Kept, fires
from tests.pki.hierarchy import NOW
from tests.records import authority_record
from tests.world.acts import MESSAGES, registered
from tests.world.drift import disable_at_hub, fleet_of, register_a_stranger
from tests.world.storage import Queues, Table
from tests.world.test_approvals import CALLS, awaiting
from tests.world.world import DEVICE, GROUP, World, csr_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

ORDER = {"orderId": "order-1", "enrollmentGroup": GROUP, "devices": [{"registrationId": DEVICE}]}
TESTED = {
    "ca-near-its-end",
    "crl-older-than-planned",
    "poison-messages",
    "rejections-growing",
    "dps-quota-at-80-percent",
    "registration-longer-than-an-hour",
    "revocation-not-closed",
    "rogue-certificate",
    "drift-found",
    "pass-incomplete",
    "approval-waits",
}
ELSEWHERE = {"role-missing"}
"""With the emulator's faults: tests/contract/adapters/test_observed.py."""


@pytest.fixture
def kept() -> Iterator[Kept]:
    receiver = Kept()
    with received(receiver):
        yield receiver


def test_every_alert_is_tested() -> None:
    assert set(ALERTS) == TESTED | ELSEWHERE


async def measured_authorities(now: datetime) -> None:
    """Measure a root, the CA of a group below it, and one that was replaced, at a point in time."""
    records, groups = Authorities(Table("issuers")), Groups(Table("groups"))
    for name, parent, end in (("root", None, 3650), ("line-ca2", "root", 1825), ("line-ca1", "root", 450)):
        await records.try_insert(
            authority_record(
                name,
                NOW,
                kind=CertificateKind.INTERMEDIATE if parent else CertificateKind.ROOT,
                parent=parent,
                not_after=NOW + timedelta(days=end),
                published=PublishedList(sha256="", made_at=NOW, next_update=NOW + timedelta(days=7)),
            )
        )
    await groups.insert(
        GroupRecord(
            enrollment_group=GROUP,
            state=GroupState.ENABLED,
            issuer="line-ca2",
            previous_issuer="line-ca1",
            updated_at=NOW,
            last_request="r",
        )
    )
    await Measurements(records=records, groups=groups, queues=Queues(), clock=lambda: now).authorities()


async def test_a_ca_that_is_in_use_nears_its_end(kept: Kept) -> None:
    """A CA that another has replaced may end: line-ca1 has 50 days left in the first look, and none in the second."""
    await measured_authorities(NOW + timedelta(days=1825 - 400))
    assert not fires("ca-near-its-end", kept)
    await measured_authorities(NOW + timedelta(days=1825 - 400, hours=1))
    assert fires("ca-near-its-end", kept)
    assert {attributes["device_factory.ca"] for name, _, attributes in kept.values if name.endswith("remaining")} == {
        "root",
        "line-ca2",
    }


async def test_a_list_is_older_than_planned(kept: Kept) -> None:
    """It is published daily; two hours more are not yet a reason to get up."""
    await measured_authorities(NOW + timedelta(hours=26))
    assert not fires("crl-older-than-planned", kept)
    await measured_authorities(NOW + timedelta(hours=26, seconds=1))
    assert fires("crl-older-than-planned", kept)


async def test_a_message_turns_poison(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World().prepare()

    async def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(world.registrar, "register", broken)
    world.ask("the order", Queue.DEVICE_ORDERS, ORDER)
    await world.deliver_visible()
    assert not fires("poison-messages", kept)
    await world.drain()
    assert fires("poison-messages", kept)
    assert not fires("rejections-growing", kept)


async def test_rejections_grow(kept: Kept) -> None:
    world = await World().prepare()
    for number in range(21):
        assert not fires("rejections-growing", kept)
        world.ask(f"renewal {number}", Queue.RENEWAL_REQUESTS, {"requestId": f"r{number}", "registrationId": "none"})
        await world.deliver_visible()
    assert fires("rejections-growing", kept)
    assert not fires("poison-messages", kept)


def test_the_dps_gets_80_percent_of_what_it_takes(kept: Kept) -> None:
    """For five minutes. That each request counts once is tested with the emulator."""
    for _ in range(3999):
        Call.begin("dps", "GET", "https://dps/enrollments/press").answered(200)
        Call.begin("tables", "GET", "https://tables/orders").answered(200)
    assert not fires("dps-quota-at-80-percent", kept)
    Call.begin("dps", "GET", "https://dps/enrollments/press").answered(429, "5")
    assert fires("dps-quota-at-80-percent", kept)
    assert kept.of(metrics.THROTTLED) == [1]
    assert kept.of(metrics.THROTTLE_WAIT) == [5]


async def let_pass(world: World, time: timedelta) -> None:
    until = world.now + time
    while world.now < until:
        await world.deliver_visible()
        world.now += timedelta(minutes=1)


@pytest.mark.parametrize("cause", ["the network", "throttling"])
async def test_a_registration_takes_longer_than_an_hour(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    world = await World().prepare()

    async def throttled(*_: object) -> None:
        raise Deferred("DPS is throttling", retry_after=timedelta(seconds=30))

    if cause == "throttling":
        monkeypatch.setattr(world.registrar, "register", throttled)
    world.ask("the order", Queue.DEVICE_ORDERS, ORDER)
    await world.deliver_visible()
    if cause == "the network":
        world.conductor.down = {"dps"}
    await let_pass(world, timedelta(minutes=58))
    assert kept.of(metrics.REGISTRATION_WAIT)
    assert not fires("registration-longer-than-an-hour", kept)
    await let_pass(world, timedelta(minutes=10))
    assert fires("registration-longer-than-an-hour", kept)


async def test_a_device_that_has_not_booted_yet_is_no_registration_that_takes_long(kept: Kept) -> None:
    world = await World().prepare()
    device = {"registrationId": DEVICE, "csr": csr_of("own")}
    world.ask("the order", Queue.DEVICE_ORDERS, {**ORDER, "devices": [device]})
    await let_pass(world, timedelta(hours=3))
    assert kept.of(metrics.REGISTRATION_WAIT) == []
    await world.boot()
    await world.drain()
    [took] = kept.of(metrics.REGISTRATION_DURATION)
    assert took >= 3 * 3600


async def test_a_revocation_is_not_closed_within_five_minutes(kept: Kept) -> None:
    """The hub does not answer; when it does again, all is told to be closed, and how long it took."""
    world = await registered()
    kept.values.clear()
    world.ask("revoke", *MESSAGES["revoke"])
    world.conductor.down = {"hub"}
    begun = world.now
    await world.deliver_visible()
    world.now = begun + timedelta(minutes=5)
    await world.hosts[0].tick("convergence_sweep")
    assert kept.of(metrics.UNSETTLED_AGE) == [300]
    assert not fires("revocation-not-closed", kept)
    world.now = begun + timedelta(minutes=5, seconds=1)
    await world.hosts[0].tick("convergence_sweep")
    assert fires("revocation-not-closed", kept)
    assert kept.of(metrics.UNSETTLED_DEVICES) == [1, 1]
    assert kept.of(metrics.REVOCATION_DURATION) == []
    world.conductor.down = set()
    await world.drain()
    assert kept.of(metrics.REVOCATION_DURATION)[0] >= 300
    kept.values.clear()
    await world.hosts[0].tick("convergence_sweep")
    assert kept.of(metrics.UNSETTLED_AGE) == [0]


async def test_others_change_an_identity(kept: Kept) -> None:
    """A healthy fleet alarms nobody, and what was found is not told again in the next pass."""
    fleet = await fleet_of()
    await fleet.look()
    assert not fires("drift-found", kept)
    await disable_at_hub(fleet)
    await fleet.look()
    assert fires("drift-found", kept)
    assert not fires("rogue-certificate", kept)
    kept.values.clear()
    await fleet.look()
    assert not fires("drift-found", kept)


async def test_each_pass_of_a_day_leaves_something_out(kept: Kept) -> None:
    """The timer tells of the last pass that has ended, every minute; one that has compared everything ends it."""
    fleet = await fleet_of()
    await fleet.timer()
    await fleet.look()
    await fleet.timer()
    assert kept.of(metrics.NOT_COMPARED) == [0, 0], "before a pass has ended, and after one that has compared all"
    kept.values.clear()
    fleet.world.conductor.down = {"hub"}
    for _ in range(2):
        await fleet.look()
        await fleet.timer()
    first, second = kept.of(metrics.NOT_COMPARED)
    assert first == second > 0
    assert fires("pass-incomplete", kept)
    fleet.world.conductor.down = set()
    await fleet.look()
    await fleet.timer()
    assert not fires("pass-incomplete", kept)


async def test_a_pass_over_one_device_says_nothing_of_all_others(kept: Kept) -> None:
    """Neither does one that still runs: it may come to what the last one has left out."""
    fleet = await fleet_of()
    fleet.world.conductor.down = {"hub"}
    await fleet.look()
    fleet.world.conductor.down = set()
    fleet.world.now += timedelta(hours=1)
    alone = await fleet.reconciler.begin(registration_id=DEVICE)
    await fleet.reconciler.carry_on(alone.reconciliation_id, until=fleet.world.now + timedelta(hours=1))
    await fleet.reconciler.begin()
    await fleet.timer()
    [unread] = kept.of(metrics.NOT_COMPARED)
    assert unread > 0


async def test_the_key_of_a_ca_has_signed_elsewhere(kept: Kept) -> None:
    fleet = await fleet_of()
    await register_a_stranger(fleet)
    await fleet.look()
    assert fires("rogue-certificate", kept)


async def test_an_act_waits_for_a_second_person(kept: Kept) -> None:
    """It is told by every sweep of the window; once somebody has decided, the least of them is 0."""
    world = await awaiting()
    approvals = world.hosts[0].services.approvals
    for _ in range(3):
        await approvals.sweep()
    assert kept.of(metrics.APPROVALS_WAITING) == [1, 1, 1]
    assert fires("approval-waits", kept)
    await CALLS["approve"](world)
    await approvals.sweep()
    assert not fires("approval-waits", kept)


async def test_what_comes_of_orders_and_devices_is_counted(kept: Kept) -> None:
    """By the states that the contract has, each change once, however often a message comes."""
    world = await World().prepare()
    for name in ("the order", "the order, once more"):
        world.ask(name, Queue.DEVICE_ORDERS, ORDER)
    await world.drain()

    def states(metric: metrics.Metric) -> list[Any]:
        return [attributes["device_factory.state"] for name, _, attributes in kept.values if name == metric.name]

    assert states(metrics.ORDERS) == ["accepted", "processing", "completed"]
    assert states(metrics.DEVICES) == ["ordered", "issued", "registered"]
    assert len(kept.of(metrics.REGISTRATION_DURATION)) == 1


async def test_how_long_a_message_waits_is_measured_where_it_can_be_taken(kept: Kept) -> None:
    """One that is put back for later does not count before its time."""
    world = await World().prepare()
    world.queues.put(Queue.RENEWAL_REQUESTS, "{}")
    world.queues.put(Queue.CERTIFICATE_REQUESTS, "{}", delay=timedelta(hours=1))
    world.now += timedelta(seconds=70)
    await world.hosts[0].tick("poison_sweep")
    await world.hosts[0].tick("convergence_sweep")
    ages = {
        attributes[metrics.QUEUE]: value
        for name, value, attributes in kept.values
        if name == "device_factory.queue.age"
    }
    assert ages == {
        "certificate-requests": 0,
        "enrollment-group-requests": 0,
        "device-orders": 0,
        "device-registrations": 0,
        "renewal-requests": 70,
        "revocation-requests": 0,
    }


async def test_what_can_not_be_measured_holds_up_no_work(kept: Kept) -> None:
    world = await registered()
    world.conductor.down = {"queues"}
    await world.hosts[0].tick("convergence_sweep")
    assert kept.of(metrics.QUEUE_AGE) == []
    assert kept.of(metrics.UNSETTLED_AGE) == [0]
