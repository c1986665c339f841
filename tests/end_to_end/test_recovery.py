"""The runbooks of docs/recover.md, carried out: a ledger that is put back, and a key that comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from azure.data.tables import TableServiceClient, UpdateMode
from azure.identity import ManagedIdentityCredential
from azure.keyvault.keys import KeyClient
from azure.storage.blob import BlobServiceClient
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import ocsp

from devstack.auditing import audited
from devstack.outside import until
from devstack.stack import REPOSITORY
from tests.end_to_end.conftest import GROUP, run_timer, running
from tests.end_to_end.test_api import ordered
from tests.end_to_end.test_drift import compared
from tests.end_to_end.test_owner_pki import create_group
from tests.end_to_end.test_revocation_status import asked, chain_of, revoked_in_crl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from devstack.outside import World
    from devstack.stack import Stack

type Copy = Mapping[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, World]]:
    """A stack whose ledger may be put back, with a second hub. The devices of the first group go to the first one."""
    with running(tmp_path_factory.mktemp("recovery"), extra_hubs=1) as (stack, world):
        assign(world, GROUP, world.hub_names[0])
        yield stack, world


def assign(world: World, group: str, hub: str) -> None:
    """Have the devices of a group go to a hub, once it is so in DPS."""
    world.followed(world.request("PUT", f"enrollment-groups/{group}", json={"iotHubs": [hub]}))


@contextmanager
def moving(stack: Stack, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Have devices register again, as an operator does; it ends by itself when all have."""
    command = [sys.executable, "-m", "shared.moving", *options, "--seconds", "1", "--per-minute", "600"]
    environment = {**os.environ, **stack.endpoints.environment(), **stack.settings()}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert output.splitlines()[-1] == f"all devices of {options[0]!r} have registered again"


def left(stack: Stack, *options: str) -> list[str]:
    """Ask who is to register again; give them by name."""
    command = [sys.executable, "-m", "shared.moving", *options, "--look"]
    environment = {**os.environ, **stack.endpoints.environment(), **stack.settings()}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr[-3000:]
    return sorted(done.stdout.splitlines())


def copied(stack: Stack) -> Copy:
    """Copy the ledger, as docs/recover.md does."""
    with closing(TableServiceClient.from_connection_string(stack.endpoints.storage_connection_string)) as service:
        return {
            each.name: [dict(row) for row in service.get_table_client(each.name).list_entities()]
            for each in service.list_tables()
        }


def put_back(stack: Stack, copy: Copy) -> None:
    """Have the ledger as it was: nothing that came after stays."""
    with closing(TableServiceClient.from_connection_string(stack.endpoints.storage_connection_string)) as service:
        for each in service.list_tables():
            table = service.get_table_client(each.name)
            for row in table.list_entities(select=["PartitionKey", "RowKey"]):
                table.delete_entity(row)
            for before in copy.get(each.name, []):
                table.upsert_entity(before, mode=UpdateMode.REPLACE)


def ledger_check(world: World) -> str:
    """Give what readiness says of the ledger."""
    answer: dict[str, Any] = world.request("GET", "health/ready").json()
    return str(answer["dependencies"]["ledger"])


def lose(stack: Stack, *containers: str) -> None:
    """Lose the ledger, and the blobs of containers."""
    put_back(stack, {})
    with (
        ManagedIdentityCredential() as identity,
        BlobServiceClient(stack.endpoints.blob_service_url, identity) as blobs,
    ):
        for each in map(blobs.get_container_client, containers):
            for name in list(each.list_blob_names()):
                each.delete_blob(name)


@contextmanager
def stopped(stack: Stack) -> Iterator[None]:
    """Stop the apps meanwhile."""
    for each in stack.hosts:
        stack.kill(each)
    yield
    stack.start_functions_host()


def ran(stack: Stack, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command, as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", "shared.restoration", *options],
        cwd=REPOSITORY,
        env={**os.environ, **stack.endpoints.environment(), **stack.settings()},
        capture_output=True,
        text=True,
        check=False,
    )


def restored(stack: Stack, *options: str) -> list[str]:
    """Run the command, and give its lines."""
    done = ran(stack, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def said_of(world: World, issuer: str, chain: list[x509.Certificate]) -> ocsp.OCSPResponseStatus:
    return asked(world, issuer, chain).response_status


def set_aside(world: World, registration_id: str) -> tuple[str, ...]:
    """Give the ids of the rejections that are about a device."""
    return tuple(each["id"] for each in world.get("rejections")["items"] if registration_id in each["body"])


def crl_number(world: World, issuer: str) -> int:
    crl = x509.load_der_x509_crl(world.anonymous(f"crl/{issuer}.crl"))
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_a_ledger_of_yesterday_is_noticed_and_takes_back_what_happened(apart: tuple[Stack, World]) -> None:
    """A device was revoked, and another one made, after the copy: neither is called good, and then both are right."""
    stack, world = apart
    ordered(world, "rec-1", "rec-2", "rec-6")
    run_timer(stack, "epoch_upkeep")
    copy = copied(stack)
    run_timer(stack, "epoch_upkeep")
    chains = {name: chain_of(world, name) for name in ("rec-1", "rec-2", "rec-6")}
    issuer = world.get(f"enrollment-groups/{GROUP}")["issuer"]
    said_of(world, issuer, chains["rec-2"])  # makes a responder, whose certificate can't be had again
    world.post("devices/rec-1/revoke", {"reason": "keyCompromise"})
    until("rec-1 is on the list", lambda: revoked_in_crl(world, issuer), lambda listed: len(listed) == 1)
    ordered(world, "rec-3")
    chains["rec-3"], number = chain_of(world, "rec-3"), crl_number(world, issuer)

    put_back(stack, copy)
    for name, chain in chains.items():  # before any other sign: the list has a number that the ledger has not given
        until(
            f"nothing is said of {name}",
            partial(said_of, world, issuer, chain),
            lambda status: status is ocsp.OCSPResponseStatus.TRY_LATER,
        )
    assert ledger_check(world).startswith("LedgerBehind: the ledger is older than it was: it is at epoch ")
    assert crl_number(world, issuer) == number, "the list that was published last is still served"
    devices = [{"registrationId": "rec-4"}]
    order = {"orderId": "order-rec-4", "enrollmentGroup": GROUP, "devices": devices}
    refused = world.post("device-orders", order)
    assert (refused.status_code, "older than it was" in refused.json()["detail"]) == (503, True)
    world.post_message("device-orders", order)
    world.post("devices/rec-6/revoke", {"reason": "keyCompromise"})
    until(
        "the hub shuts rec-6 out",
        lambda: world.hub_identity(world.hub_name, "rec-6"),
        lambda status: status == "disabled",
    )

    lines = restored(stack)
    assert any(line.startswith("rec-1: revoked again (keyCompromise, ") for line in lines), lines
    assert any(line.startswith("rec-3: known again, with certificate ") for line in lines), lines
    until(
        "rec-2 is good again",
        lambda: asked(world, issuer, chains["rec-2"]).response_status,
        lambda status: status is ocsp.OCSPResponseStatus.SUCCESSFUL,
    )
    said = {name: asked(world, issuer, chain).certificate_status for name, chain in chains.items()}
    assert said == {
        "rec-1": ocsp.OCSPCertStatus.REVOKED,
        "rec-2": ocsp.OCSPCertStatus.GOOD,
        "rec-3": ocsp.OCSPCertStatus.GOOD,
        "rec-6": ocsp.OCSPCertStatus.REVOKED,
    }
    assert ledger_check(world) == "ok"
    assert crl_number(world, issuer) > number + 1000
    revoked = {chains[name][0].serial_number for name in ("rec-1", "rec-6")}
    until("both are on the list", lambda: set(revoked_in_crl(world, issuer)), lambda listed: listed == revoked)
    assert (world.state("rec-1"), world.state("rec-3")) == ("revoked", "registered")
    assert world.post("devices/rec-3/revoke", {"reason": "superseded"}).status_code == 202
    until("rec-3 is revoked", lambda: world.state("rec-3"), lambda state: state == "revoked")
    until("rec-4 is made", lambda: world.state("rec-4"), lambda state: state == "registered", seconds=90)
    lost = [line for line in lines if line.endswith("can't be had again: OCSP says that it is unknown")]
    assert lost, lines
    told = until("all agree", lambda: audited(stack.options.state_dir), lambda done: done.returncode == 0).stdout
    assert told.splitlines()[-1] == "ledger, log, DPS, hubs and lists agree"
    assert told.startswith(f"lost certificates, which are in the log and can't be had again: {len(lost)}, since "), told


def test_a_key_that_was_deleted_is_named_and_comes_back(
    apart: tuple[Stack, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders wait while a CA's key is soft-deleted, and go on when it is recovered (az keyvault key recover)."""
    stack, world = apart
    issuer = world.get(f"enrollment-groups/{GROUP}")["issuer"]
    for name, value in stack.endpoints.environment().items():
        monkeypatch.setenv(name, value)
    run_timer(stack, "epoch_upkeep")
    url = stack.endpoints.key_vault_url
    with ManagedIdentityCredential() as identity, KeyClient(url, identity, verify_challenge_resource=False) as keys:
        keys.begin_delete_key(issuer).wait()
        devices = [{"registrationId": "rec-5"}]
        world.post("device-orders", {"orderId": "order-rec-5", "enrollmentGroup": GROUP, "devices": devices})
        found = until("what can't be signed is set aside", lambda: set_aside(world, "rec-5"), bool)
        keys.begin_recover_deleted_key(issuer).wait()
    for each in found:
        world.post(f"rejections/{each}/replay")
    until("rec-5 is made", lambda: world.state("rec-5"), lambda state: state == "registered")


def test_a_ledger_that_is_lost_is_taken_over_from_the_services(apart: tuple[Stack, World], tmp_path: Path) -> None:
    """CAs come back from vault and DPS, devices from DPS and hub, and who was revoked from lists that others have."""
    stack, world = apart
    ordered(world, "lost-1", "lost-2")
    chains = {name: chain_of(world, name) for name in ("lost-1", "lost-2")}
    issuer = world.get(f"enrollment-groups/{GROUP}")["issuer"]
    world.post("devices/lost-2/revoke", {"reason": "keyCompromise"})
    revoked = chains["lost-2"][0].serial_number
    until("lost-2 is on the list", lambda: revoked_in_crl(world, issuer), lambda found: revoked in found)
    for name in ("dpsCa", issuer):  # what a relying party has
        (tmp_path / f"{name}.crl").write_bytes(world.anonymous(f"crl/{name}.crl"))
        (tmp_path / f"{name}.cer").write_bytes(world.anonymous(f"ca/{name}.cer"))
    number = crl_number(world, issuer)
    run_timer(stack, "epoch_upkeep")

    lose(stack, "bundles", "crls", "log", "loghead")
    until("readiness says so", lambda: ledger_check(world), lambda said: "the ledger is empty" in said)
    with stopped(stack):
        refused = ran(stack, "adopt", "--files", str(tmp_path))
        assert (refused.returncode, "as the vault remembers it, and has 0: it was lost" in refused.stderr) == (2, True)
        another = {**stack.options.settings, "EVIDENCE_ORIGIN": "another/log"}
        stack.options = replace(stack.options, settings=another)
        lines = restored(stack, "adopt", "--files", str(tmp_path))
    thumbprint = chains["lost-1"][0].fingerprint(SHA256()).hex().upper()
    where = f"'line-1' and {world.hub_name}"
    assert f"lost-1: taken over from {where}; not known: its certificate, of thumbprint {thumbprint}" in lines, lines
    assert any(line.startswith("not known: orders, requests, rejections") for line in lines), lines
    until("the ledger is whole", lambda: ledger_check(world), lambda said: said == "ok")
    said = {name: asked(world, issuer, chain).certificate_status for name, chain in chains.items()}
    assert said == {"lost-1": ocsp.OCSPCertStatus.UNKNOWN, "lost-2": ocsp.OCSPCertStatus.REVOKED}
    assert crl_number(world, issuer) > number + 1000
    assert revoked in revoked_in_crl(world, issuer)
    assert (world.state("lost-1"), world.state("lost-2")) == ("registered", "revoked")
    ordered(world, "lost-3")
    world.post("devices/lost-1/revoke", {"reason": "superseded"})
    until("lost-1 is revoked", lambda: world.state("lost-1"), lambda state: state == "revoked")
    assert world.hub_identity(world.hub_name, "lost-1") == "disabled"
    assert restored(stack, "adopt") == ["the ledger is not older than it was, as far as vault and CRLs tell"]


def test_a_hub_is_retired_and_its_devices_register_with_another(apart: tuple[Stack, World]) -> None:
    """They are told so many a minute, watched until none is left, and the ledger has the other hub."""
    stack, world = apart
    old, new = world.hub_names
    create_group(world, "moving-1", iotHubs=[old])
    ordered(world, "hub-1", "hub-2", group="moving-1")
    for name in ("hub-1", "hub-2"):
        world.device(name).take_bundle()
    assign(world, "moving-1", new)
    assert left(stack, "moving-1", "--hub", old) == [f"hub-1 {old}", f"hub-2 {old}"]
    with moving(stack, "moving-1", "--hub", old):
        for name in ("hub-1", "hub-2"):
            told = partial(world.told_to_register_again, old, name)
            scope = until(f"{name} is told", told, lambda scope: scope is not None)
            assert world.device(name).register(scope) == (new, name)
    assert left(stack, "moving-1", "--hub", old) == []
    assert {world.get(f"devices/{name}")["assignedHub"] for name in ("hub-1", "hub-2")} == {new}
    world.link_hubs(new)
    ordered(world, "hub-3", group="moving-1")
    assert world.get("devices/hub-3")["assignedHub"] == new
    world.link_hubs(old, new)  # for the tests that come next


def test_another_dps_gets_cas_groups_and_doors_and_then_the_devices(apart: tuple[Stack, World]) -> None:
    """A pass names what it lacks and shuts who was revoked; then its groups are made, and devices come at a pace."""
    stack, world = apart
    create_group(world, "moving-2", iotHubs=[world.hub_name])
    ordered(world, "dps-1", "dps-2", group="moving-2")
    for name in ("dps-1", "dps-2"):
        world.device(name).take_bundle()
    world.post("devices/dps-2/revoke", {"reason": "keyCompromise"})
    until("dps-2 is revoked", lambda: world.state("dps-2"), lambda state: state == "revoked")
    scope, kept = "0ne00000002", {"DEPLOYMENT_NAME": stack.options.id_scope}
    with stopped(stack):
        stack.kill("emulator")
        stack.options = replace(stack.options, id_scope=scope, settings={**stack.options.settings, **kept})
        stack.start_emulator()
    found = compared(world)["found"]
    assert found.get("doorOpen"), found
    open_findings = world.get("findings?pageSize=100")["items"]
    for kind in ("authorityUnverified", "groupMissing"):
        for each in [each for each in open_findings if each["kind"] == kind]:
            mended = world.post(f"findings/{each['id']}/mend")
            assert mended.status_code == 200, mended.text
            assert mended.json()["state"] == "mended"
    assert world.dps_says_verified("dpsCa")
    assert world.device("dps-2").refused_by_dps(scope)
    assert left(stack, "moving-2") == [f"dps-1 {world.hub_name}"]
    with moving(stack, "moving-2"):
        told = partial(world.told_to_register_again, world.hub_name, "dps-1")
        given = until("dps-1 is told", told, lambda scope: scope is not None)
        assert given == scope
        assert world.device("dps-1").register(given) == (world.hub_name, "dps-1")
    assert compared(world, registrationId="dps-1")["found"] == {}
    assert compared(world, registrationId="dps-2")["found"] == {}


def test_a_vault_that_is_gone_is_waited_for_and_may_come_back_elsewhere(apart: tuple[Stack, World]) -> None:
    """While nothing answers there, an order waits and goes on by itself; a vault of another address has the same keys."""
    stack, world = apart
    world.plan_faults({"service": "key_vault", "operation": "*", "drop": "request"})
    order = {"orderId": "order-vault-1", "enrollmentGroup": GROUP, "devices": [{"registrationId": "vault-1"}]}
    world.post_message("device-orders", order)
    until("the vault is asked again and again", world.applied_faults, lambda applied: applied[0] > 8)
    assert (world.state("vault-1"), set_aside(world, "vault-1")) in {(None, ()), ("ordered", ())}
    world.plan_faults()
    until("vault-1 is made", lambda: world.state("vault-1"), lambda state: state == "registered", seconds=120)
    assert set_aside(world, "vault-1") == ()

    here = stack.endpoints.key_vault_url
    first, second = world.hub_names
    there = here.replace(first, second)
    assert here != there
    with stopped(stack):
        stack.options = replace(stack.options, settings={**stack.options.settings, "KEY_VAULT_URL": there})
    ordered(world, "vault-2")
    until(
        "each key is found",
        lambda: world.request("GET", "health/ready").json()["dependencies"]["certificateAuthorities"],
        lambda said: said == "ok",
    )
