"""What a crash gets: the order completes, each device has one certificate and one identity, each event is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from devstack.auditing import audited
from devstack.outside import until
from tests.end_to_end.conftest import GROUP, running

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.outside import World
    from devstack.stack import Stack

DEVICES = 50
KILLS_AT = (5, 15, 25)
# After so many signatures the vault falls silent until the kill: the order can't be over before it, however fast it runs.
SIGNATURES_BETWEEN_KILLS = 12


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


@pytest.mark.parametrize("part", ["functions_hosts", "emulator"])
def test_an_order_survives_being_killed_three_times(tmp_path: Path, part: str) -> None:
    """Killed three times in the middle of an order of 50, everything is there in the end, and nothing twice."""
    ids = [f"crash-{index:02d}" for index in range(DEVICES)]
    with running(tmp_path, message_lease=2) as (stack, world):
        order = {"orderId": "crash", "enrollmentGroup": GROUP, "devices": [{"registrationId": each} for each in ids]}
        silence_the_vault(world, after=SIGNATURES_BETWEEN_KILLS)
        world.post_message("device-orders", order)
        for least in KILLS_AT:
            until(f"{least} devices", lambda: registered(world, "crash"), lambda count, least=least: count >= least)  # type: ignore[misc]
            assert registered(world, "crash") < DEVICES, "the order was over before the kill"
            kill_and_start(stack, part)
            silence_the_vault(world, after=SIGNATURES_BETWEEN_KILLS)
        world.plan_faults()
        until(
            "the order is complete",
            lambda: world.get("device-orders/crash"),
            lambda body: body["state"] == "completed",
            seconds=240,
        )
        assert registered(world, "crash") == DEVICES
        assert_one_certificate_and_identity_each(world, ids)
        for kind in ("CertificateIssued", "DeviceRegistered"):
            events = world.events(f"DeviceProvisioning.{kind}")
            subjects = sorted(each["subject"] for each in events if each["correlationid"] == "crash")
            assert subjects == ids, f"each device has its {kind} event, under one id"
        assert [each["subject"] for each in world.events("DeviceProvisioning.OrderCompleted")] == ["crash"]
        assert audited(stack.options.state_dir).stdout == "ledger, log, DPS, hubs and lists agree\n"


def test_an_order_survives_an_unreliable_cloud(tmp_path: Path) -> None:
    """Refused signatures, lost answers of DPS and broken secrets: everything is there in the end, and nothing twice."""
    ids = [f"faulty-{index:02d}" for index in range(20)]
    rules = (
        {"service": "key_vault", "operation": "POST /keys/*/sign", "probability": 0.2, "status": 500},
        {"service": "key_vault", "operation": "PUT /secrets/*", "probability": 0.2, "drop": "response"},
        {"service": "dps_device", "operation": "register", "probability": 0.2, "drop": "response"},
    )
    with running(tmp_path) as (stack, world):
        world.plan_faults(*rules, seed=7)
        order = {"orderId": "faulty", "enrollmentGroup": GROUP, "devices": [{"registrationId": each} for each in ids]}
        world.post_message("device-orders", order)
        until(
            "the order is complete",
            lambda: world.get("device-orders/faulty", missing={}),
            lambda body: body.get("state") == "completed",
            seconds=240,
        )
        assert all(world.applied_faults()), "each fault took place"
        world.plan_faults()
        assert registered(world, "faulty") == len(ids)
        assert_one_certificate_and_identity_each(world, ids)
        assert audited(stack.options.state_dir).stdout == "ledger, log, DPS, hubs and lists agree\n"


def assert_one_certificate_and_identity_each(world: World, ids: list[str]) -> None:
    with world.table("identities") as table:
        rows = [row for row in table.list_entities() if row.get("kind") == "device"]
    active = {row["serialNumber"]: row for row in rows if row["state"] == "active"}
    assert sorted(row["subject"] for row in active.values()) == ids, "exactly one active certificate each"
    listed = until(
        "the directory has them as they are",
        lambda: world.get("devices?pageSize=1000")["items"],
        lambda items: len(items) == len(ids) and all(each["state"] == "registered" for each in items),
        seconds=240,
    )
    devices = {each["registrationId"]: each for each in listed}
    assert sorted(devices) == ids
    for device in devices.values():
        certificate = active[device["certificate"]["serialNumber"]]
        identity = world.identity(device["assignedHub"], device["deviceId"])
        assert identity.status == "enabled"
        leaf = x509.load_pem_x509_certificate(certificate["pem"].encode())
        sha256 = leaf.fingerprint(hashes.SHA256()).hex().upper()
        thumbprints = {certificate["thumbprint"], sha256}
        assert identity.authentication.x509_thumbprint.primary_thumbprint in thumbprints
