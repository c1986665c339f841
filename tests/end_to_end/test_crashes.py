"""What a crash gets: the order completes, each device has one certificate and one identity, each event is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from devstack.auditing import audited
from devstack.outside import until
from tests.end_to_end.conftest import GROUP, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devstack.outside import World
    from devstack.stack import Stack

DEVICES = 50
KILLS_AT = (5, 15, 25)
# After so many signatures the vault falls silent until the kill: the order can't be over before it, however fast it runs.
SIGNATURES_BETWEEN_KILLS = 12


@dataclass(frozen=True)
class Fleet:
    """A stack that goes on from test to test, whatever was killed in it, and all devices that were ordered there."""

    stack: Stack
    world: World
    ordered: set[str] = field(default_factory=set)

    def order(self, order_id: str, ids: Sequence[str]) -> None:
        """Order devices by the queue."""
        self.ordered.update(ids)
        devices = [{"registrationId": each} for each in ids]
        order = {"orderId": order_id, "enrollmentGroup": GROUP, "devices": devices}
        self.world.post_message("device-orders", order)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("crashes"), message_lease=2) as (stack, world):
        yield Fleet(stack, world)


@pytest.fixture
def fleet(kept: Fleet) -> Iterator[Fleet]:
    """The stack, with services that fail only as the test plans it."""
    yield kept
    kept.world.plan_faults()


def registered(world: World, order_id: str) -> int:
    return int(
        world.get(f"device-orders/{order_id}", missing={"progress": {"registered": 0}})["progress"]["registered"]
    )


def silence_the_vault(world: World, *, after: int) -> None:
    """Let so many signatures through, and no further one."""
    world.plan_faults(
        {"service": "key_vault", "operation": "POST /keys/*/sign", "skip": after, "latencyMilliseconds": 600_000}
    )


def kill_and_start(stack: Stack, part: str) -> None:
    """Kill the emulator, or whatever runs the app: one functions host, or that of each zone."""
    for name in ("emulator",) if part == "emulator" else stack.hosts:
        stack.kill(name)
    (stack.start_emulator if part == "emulator" else stack.start_functions_host)()


@pytest.mark.parametrize("part", ["hosts", "emulator"])
def test_an_order_survives_being_killed_three_times(fleet: Fleet, part: str) -> None:
    """Killed three times in the middle of an order of 50, everything is there in the end, and nothing twice."""
    stack, world, order_id = fleet.stack, fleet.world, f"crash-{part}"
    ids = [f"{order_id}-{index:02d}" for index in range(DEVICES)]
    silence_the_vault(world, after=SIGNATURES_BETWEEN_KILLS)
    fleet.order(order_id, ids)
    for least in KILLS_AT:
        until(f"{least} devices", lambda: registered(world, order_id), lambda count, least=least: count >= least)  # type: ignore[misc]
        assert registered(world, order_id) < DEVICES, "the order was over before the kill"
        kill_and_start(stack, part)
        silence_the_vault(world, after=SIGNATURES_BETWEEN_KILLS)
    world.plan_faults()
    until(
        "the order is complete",
        lambda: world.get(f"device-orders/{order_id}"),
        lambda body: body["state"] == "completed",
        seconds=240,
    )
    assert registered(world, order_id) == DEVICES
    assert_one_certificate_and_identity_each(fleet, ids)
    for kind in ("CertificateIssued", "DeviceRegistered"):
        events = world.events(f"DeviceProvisioning.{kind}")
        subjects = sorted(each["subject"] for each in events if each["correlationid"] == order_id)
        assert subjects == ids, f"each device has its {kind} event, under one id"
    completed = [each["subject"] for each in world.events("DeviceProvisioning.OrderCompleted")]
    assert completed.count(order_id) == 1
    assert audited(stack.options.state_dir).stdout == "ledger, log, DPS, hubs and lists agree\n"


def test_an_order_survives_an_unreliable_cloud(fleet: Fleet) -> None:
    """Refused signatures, lost answers of DPS and broken secrets: everything is there in the end, and nothing twice."""
    world, ids = fleet.world, [f"faulty-{index:02d}" for index in range(20)]
    rules = (
        {"service": "key_vault", "operation": "POST /keys/*/sign", "probability": 0.2, "status": 500},
        {"service": "key_vault", "operation": "PUT /secrets/*", "probability": 0.2, "drop": "response"},
        {"service": "dps_device", "operation": "register", "probability": 0.2, "drop": "response"},
    )
    world.plan_faults(*rules, seed=7)
    fleet.order("faulty", ids)
    until(
        "the order is complete",
        lambda: world.get("device-orders/faulty", missing={}),
        lambda body: body.get("state") == "completed",
        seconds=240,
    )
    assert all(world.applied_faults()), "each fault took place"
    world.plan_faults()
    assert registered(world, "faulty") == len(ids)
    assert_one_certificate_and_identity_each(fleet, ids)
    assert audited(fleet.stack.options.state_dir).stdout == "ledger, log, DPS, hubs and lists agree\n"


def assert_one_certificate_and_identity_each(fleet: Fleet, ids: list[str]) -> None:
    """Each of these devices has one, and there are no devices that nobody has ordered."""
    world = fleet.world
    with world.table("identities") as table:
        rows = [row for row in table.list_entities() if row.get("kind") == "device"]
    assert {row["subject"] for row in rows} <= fleet.ordered
    active = {row["serialNumber"]: row for row in rows if row["state"] == "active" and row["subject"] in ids}
    assert sorted(row["subject"] for row in active.values()) == ids, "exactly one active certificate each"

    def listed() -> dict[str, Any]:
        found = {each["registrationId"]: each for each in world.get("devices?pageSize=1000")["items"]}
        assert found.keys() <= fleet.ordered
        return {each: found[each] for each in ids if each in found}

    devices = until(
        "the directory has them as they are",
        listed,
        lambda found: len(found) == len(ids) and all(each["state"] == "registered" for each in found.values()),
        seconds=240,
    )
    for device in devices.values():
        certificate = active[device["certificate"]["serialNumber"]]
        identity = world.identity(device["assignedHub"], device["deviceId"])
        assert identity.status == "enabled"
        leaf = x509.load_pem_x509_certificate(certificate["pem"].encode())
        sha256 = leaf.fingerprint(hashes.SHA256()).hex().upper()
        thumbprints = {certificate["thumbprint"], sha256}
        assert identity.authentication.x509_thumbprint.primary_thumbprint in thumbprints
