"""The main job from end to end, on one machine: an order in, working devices out.

Plays everybody outside the app, with Microsoft's SDKs and nothing of the app's own code: the ERP that orders, the
devices that boot, the security desk that revokes, the operator who disables a group. Every step is checked where it
takes effect: in DPS, in the hub, in the vault, in the CRL. Exit status 0 means that every step was seen to work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.client import ACCEPTED, FORBIDDEN, GONE, NO_CONTENT, OK
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509

from devstack import outside, zones
from devstack.outside import Failed, until
from devstack.stack import Stack
from devstack.zoned_stack import ZonedStack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPOSITORY = Path(__file__).parents[1]
STATE = REPOSITORY / ".devstack" / "demo"
SAMPLE = REPOSITORY / "samples" / "device-order.json"
VERIFIER = REPOSITORY / "shared" / "evidence" / "verify.py"
OWN_CSR = "press-004"
ROOT = "dpsCa"
GROUPS = ("line-1", "line-2")


class Narrator:
    """Says what happens, with the time it took."""

    def __init__(self) -> None:
        self._step = 0

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Tell of a step, and of its end."""
        self._step += 1
        print(f"\n{self._step}. {title}", flush=True)
        started = time.perf_counter()
        yield
        print(f"   done in {time.perf_counter() - started:.1f} s", flush=True)

    @staticmethod
    def seen(text: str) -> None:
        """Tell of something that was checked."""
        print(f"   \N{CHECK MARK} {text}", flush=True)


def run(stack: Stack) -> None:
    """Play the whole story against a running stack."""
    with contextlib.closing(outside.World(stack.endpoints, STATE / "devices")) as world:
        tell_the_story(world, stack)


def tell_the_story(world: outside.World, stack: Stack) -> None:
    """Play one step after the other."""
    tell = Narrator()
    with tell.step(f"Root CA {ROOT} and its proof of possession to DPS"):
        make_root(world, tell)
    with tell.step("Two enrollment groups, each with an issuing CA of its own"):
        make_groups(world, tell)
    with tell.step(f"An ERP order from {SAMPLE.relative_to(REPOSITORY)}, by azure-storage-queue"):
        order = post_order(world, tell)
    with tell.step("Certificates, bundles, registration through DPS, identities in the hub, events"):
        see_order_through(world, tell, order)
    with tell.step("A device boots with its bundle and nothing else"):
        boot(world, tell, "press-001")
    with tell.step("An auditor proves that its certificate was logged before it was signed"):
        prove(world, tell, "press-001")
    with tell.step("The webhook revokes one device"):
        revoke(world, tell, "press-001")
    with tell.step("A group is disabled, and enabled again"):
        disable_group(world, tell)
    with tell.step("The expiry sweep, with its clock set ahead"):
        sweep(world, tell, stack)
    with tell.step("A group is deleted, which needs a second person"):
        delete_group(world, tell, stack.endpoints.role_keys["Approvals.Give"])
    with tell.step("The console, where an operator looks at all of this"):
        look(world, tell, order, "press-001")
    show(world)


def make_root(world: outside.World, tell: Narrator) -> None:
    """Step 1."""
    world.post_message("certificate-requests", {"requestId": "root-1", "kind": "root", "name": ROOT})
    authority = until(
        f"{ROOT} is verified",
        lambda: world.get(f"certificate-authorities/{ROOT}", missing=None),
        lambda body: body is not None and body["proofOfPossession"] == "verified",
    )
    certificate = x509.load_pem_x509_certificate(authority["certificate"].encode())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    years = round(life / timedelta(days=365.25), 1)
    world.check(certificate.issuer == certificate.subject, "the root is self-signed")
    world.check(constraints.path_length == 3, "the root's path length is 3")  # noqa: PLR2004 - what is ordered
    tell.seen(f"self-signed, path length {constraints.path_length}, {years:g} years, key {authority['keyId']}")
    world.check(world.dps_says_verified(ROOT), f"DPS says that {ROOT} is verified")
    tell.seen("DPS gave a verification code, took the verification certificate and says: verified")


def make_groups(world: outside.World, tell: Narrator) -> None:
    """Step 2."""
    for group in GROUPS:
        world.post_message(
            "enrollment-group-requests", {"requestId": f"create-{group}", "enrollmentGroup": group, "action": "create"}
        )
    for group in GROUPS:
        found = until(
            f"group {group} is enabled",
            lambda group=group: world.get(f"enrollment-groups/{group}", missing=None),  # type: ignore[misc]
            lambda body: body is not None and body["state"] == "enabled",
        )
        issuer = world.get(f"certificate-authorities/{found['issuer']}")
        root = world.get(f"certificate-authorities/{ROOT}")
        world.check(issuer["notAfter"] <= root["notAfter"], f"{issuer['name']} ends before its root")
        world.check(issuer["pathLength"] == 0, f"{issuer['name']} signs devices only")
        world.check(found["provisioningService"]["provisioningStatus"] == "enabled", f"DPS has {group} enabled")
        tell.seen(f"{group}: {issuer['name']} under {issuer['issuer']}, path length 0, until {issuer['notAfter'][:10]}")


def post_order(world: outside.World, tell: Narrator) -> dict[str, Any]:
    """Step 3."""
    order: dict[str, Any] = json.loads(SAMPLE.read_text(encoding="utf-8"))
    for device in order["devices"]:
        if device["registrationId"] == OWN_CSR:
            device["csr"] = world.device(OWN_CSR).make_own_key()
    world.post_message("device-orders", order)
    ids = [device["registrationId"] for device in order["devices"]]
    tell.seen(f"{order['orderId']}: {', '.join(ids)}; {OWN_CSR} made its own key and sends a CSR")
    return order


def see_order_through(world: outside.World, tell: Narrator, order: dict[str, Any]) -> None:
    """Step 4."""
    path = f"device-orders/{order['orderId']}"
    waiting = until(
        "the service-registered devices are there",
        lambda: world.get(path, missing=None),
        lambda body: body is not None and body["progress"]["registered"] + body["progress"]["issued"] == len(
            order["devices"]
        ) and body["progress"]["issued"] == 1,
    )  # fmt: skip
    tell.seen(f"progress: {waiting['progress']}; {OWN_CSR} has its certificate and waits for its first boot")
    device = world.device(OWN_CSR)
    device.take_bundle()
    hub, _ = device.register()
    tell.seen(f"{OWN_CSR} took its bundle, which holds no key, and registered itself: {hub}")
    done = until("the order is complete", lambda: world.get(path), lambda body: body["state"] == "completed")
    world.check(done["progress"]["registered"] == len(order["devices"]), "every device is registered")
    lowered = next(line for line in done["devices"] if line.get("requestedAs") == "PRESS-002")
    world.check(lowered["deviceId"] == "press-002", "the upper-case id was lowered")
    tell.seen("PRESS-002 became device press-002, and the result says so")
    for line in done["devices"]:
        world.check(world.hub_identity(line["assignedHub"], line["deviceId"]) == "enabled", f"{line} is in its hub")
    tell.seen(f"all {len(done['devices'])} are enabled in {done['devices'][0]['assignedHub']}")
    registered = until(
        "an event for each device",
        lambda: {event["subject"] for event in world.events("DeviceProvisioning.DeviceRegistered")},
        lambda subjects: len(subjects) == len(order["devices"]),
    )
    tell.seen(f"DeviceRegistered on provisioning-events for {', '.join(sorted(registered))}")
    until("OrderCompleted", lambda: world.events("DeviceProvisioning.OrderCompleted"), bool)
    tell.seen("OrderCompleted, with the order's correlation id")


def boot(world: outside.World, tell: Narrator, registration_id: str) -> None:
    """Step 5."""
    device = world.device(registration_id)
    device.take_bundle()
    world.check(world.bundle_status(registration_id, caller="another") == GONE, "another caller gets 410")
    world.check(world.bundle_status(registration_id) == OK, "the caller gets it again, in case the answer got lost")
    world.check(world.confirm_bundle(registration_id) == NO_CONTENT, "the receipt is confirmed")
    world.check(world.bundle_status(registration_id) == GONE, "after that the key is deleted")
    tell.seen("its bundle was handed out to one caller; when it has confirmed the receipt the key is deleted")
    hub, device_id = device.register()
    tell.seen(f"registered at first boot: device {device_id} of {hub}")
    subject, chain = world.device("press-005").take_pfx()
    world.check(subject == "CN=press-005" and len(chain) == 1, "the PFX holds leaf, key and chain")
    tell.seen(f"the PFX of press-005 opens with the password from the vault: {subject}, with {chain[0]}")
    with device.connected() as client:
        client.send({"pressure": 7.4})
        twin = client.twin()
    received = until("the hub has the telemetry", lambda: world.telemetry(hub, device_id), lambda found: len(found) > 0)
    tell.seen(f"the hub received {received[-1]}")
    tell.seen(f"its twin: tags are the hub's, desired properties at version {twin['desired']['$version']}")


def prove(world: outside.World, tell: Narrator, registration_id: str) -> None:
    """Step 6: with one file of the repository, the bundle and the log's key, and nothing else."""
    key, changed = STATE / "log.key", STATE / "changed.pem"
    key.write_bytes(world.request("GET", "log/key").content)
    bundle = world.device(registration_id).bundle_file
    proved = _verified(bundle, key)
    world.check(proved.returncode == 0, f"the bundle is proved: {proved.stderr}")
    tell.seen(proved.stdout.strip())
    changed.write_bytes(bundle.read_bytes().replace(b"MII", b"MIJ", 1))
    refused = _verified(changed, key)
    world.check(refused.returncode == 1, "a bundle with one letter changed is refused")
    tell.seen(f"with one letter of it changed: {refused.stderr.strip()}")


def _verified(bundle: Path, key: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(VERIFIER), str(bundle), "--log-key", str(key)]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program


def revoke(world: outside.World, tell: Narrator, registration_id: str) -> None:
    """Step 7."""
    device = world.device(registration_id)
    before = world.get(f"devices/{registration_id}")
    answer = world.post("revocations", {"registrationId": registration_id, "reason": "keyCompromise"})
    world.check(answer.status_code == 202, f"the webhook answers 202, not {answer.status_code}")  # noqa: PLR2004
    until("revoked", lambda: world.get(f"devices/{registration_id}"), lambda body: body["state"] == "revoked")
    world.check(device.refused_by_hub(), "the hub refuses it")
    tell.seen(f"{before['assignedHub']} refuses the connection")
    world.check(device.refused_by_dps(), "DPS refuses it")
    tell.seen("DPS refuses to provision it again")
    issuer = before["certificate"]["issuer"]
    crl = x509.load_der_x509_crl(world.anonymous(f"crl/{issuer}.crl"))
    entry = crl.get_revoked_certificate_by_serial_number(int(before["certificate"]["serialNumber"], 16))
    world.check(entry is not None, "the CRL lists it")
    tell.seen(f"the CRL of {issuer} lists {before['certificate']['serialNumber']}")
    until("DeviceRevoked", lambda: world.events("DeviceProvisioning.DeviceRevoked"), bool)


def disable_group(world: outside.World, tell: Narrator) -> None:
    """Step 8."""
    world.post_message(
        "device-orders",
        {"orderId": "line-2-first", "enrollmentGroup": "line-2", "devices": [{"registrationId": "oven-001"}]},
    )
    world.post_message(
        "device-orders",
        {
            "orderId": "line-2-self",
            "enrollmentGroup": "line-2",
            "registerBy": "device",
            "devices": [{"registrationId": "oven-002"}],
        },
    )
    until("oven-001", lambda: world.state("oven-001"), lambda state: state == "registered")
    until("oven-002", lambda: world.state("oven-002"), lambda state: state == "issued")
    registered, fresh = world.device("oven-001"), world.device("oven-002")
    for device in (registered, fresh):
        device.take_bundle()
    hub, device_id = registered.register()
    world.switch_group("line-2", "disable")
    tell.seen("line-2 is disabled in DPS")
    world.check(fresh.refused_by_dps(), "a new device of a disabled group is refused")
    tell.seen("oven-002, new, is refused by DPS")
    world.post_message(
        "device-orders",
        {"orderId": "line-2-late", "enrollmentGroup": "line-2", "devices": [{"registrationId": "oven-003"}]},
    )
    rejected = until(
        "the order is refused",
        lambda: [
            event
            for event in world.events("DeviceProvisioning.RequestRejected")
            if event["correlationid"] == "line-2-late"
        ],
        bool,
    )
    tell.seen(f"an order for it is refused: {rejected[0]['data']['reasons'][0]['message']}")
    with registered.connected() as client:
        client.send({"temperature": 190})
    until("telemetry of oven-001", lambda: world.telemetry(hub, device_id), lambda found: len(found) > 0)
    tell.seen("oven-001, registered before, keeps sending")
    world.switch_group("line-2", "enable")
    fresh.register()
    until("oven-002 is noticed", lambda: world.state("oven-002"), lambda state: state == "registered")
    tell.seen("line-2 is enabled again: oven-002 registered by itself, and the app noticed")


def sweep(world: outside.World, tell: Narrator, stack: Stack) -> None:
    """Step 9: the app's own sweep, run in this process with another clock, against the same ledger."""
    ahead = datetime.now(UTC) + timedelta(days=340)
    reported = outside.sweep_at(stack, ahead)
    until("CertificateExpiring", lambda: world.events("DeviceProvisioning.CertificateExpiring"), bool)
    expiring = sorted(event["subject"] for event in world.events("DeviceProvisioning.CertificateExpiring"))
    world.check(len(expiring) == reported, "one event per certificate")
    world.check("press-001" not in expiring, "a revoked certificate is not reported")
    tell.seen(f"on {ahead:%Y-%m-%d} it reports {', '.join(expiring)}; the revoked press-001 is left out")


def delete_group(world: outside.World, tell: Narrator, second_key: str) -> None:
    """Step 10: ``APPROVALS`` says that it waits, until whoever has the second key says yes."""
    answer = world.request("DELETE", "enrollment-groups/line-2", headers={"Idempotency-Key": "delete-line-2"})
    world.check(answer.status_code == ACCEPTED, f"the deletion is taken: {answer.text}")
    path = answer.json()["location"].removeprefix("/api/")
    waiting = until("it waits", lambda: world.get(path), lambda body: body["state"] == "awaitingApproval")
    tell.seen(f"{waiting['waitingFor']}")
    approve = f"approvals/{waiting['approvalId']}/approve"
    own = world.post(approve)
    world.check(own.status_code == FORBIDDEN, f"whoever asked can't approve: {own.text}")
    tell.seen(f"the key that asked is refused: {own.json()['detail']}")
    yes = world.request("POST", approve, headers={"x-functions-key": second_key}, json={"comment": "line 2 is closed"})
    world.check(yes.status_code == OK, f"the second key approves: {yes.text}")
    tell.seen(
        f"approved by the {yes.json()['decidedBy']['kind']} {yes.json()['decidedBy']['id']!r}: {yes.json()['comment']}"
    )
    until("it is carried out by itself", lambda: world.get(path), lambda body: body["state"] == "done")
    done = (each for each in world.get("audit?group=line-2")["items"] if each["outcome"] == "done")
    acts = {each["action"]: each for each in done}
    world.check({"delete", "approve"} <= acts.keys(), f"both stand in the audit log: {sorted(acts)}")
    asked, decided = acts["delete"]["actor"], acts["approve"]["actor"]
    tell.seen(f"line-2 is deleted; the audit log has {asked['id']!r}, who asked, and {decided['id']!r}, who said yes")


def look(world: outside.World, tell: Narrator, order: dict[str, Any], revoked: str) -> None:
    """Step 11: the pages are fetched as a browser does, and show what was done."""
    with world.console() as read:
        wanted = ("1 revoked", "the enrollment group 'line-2' is disabled")
        today = until("Today", lambda: read(""), lambda page: all(each in page for each in wanted))
        world.check("CA certificates of " in today, "Today shows the places that are used in DPS")
        tell.seen(f"Today: {wanted[0]}, and the order that was refused, since {wanted[1]}")
        count = len(order["devices"])
        page = read(f"/orders/{order['orderId']}")
        world.check(f"State completed Enrollment group {GROUPS[0]}" in page, "the order's page says: completed")
        world.check(f"{count} of {count} devices finished" in page, "the order's page shows its progress")
        tell.seen(f"the order: completed, {count} of {count} devices finished")
        closed = ("State revoked", "Closed since", "IoT hub", "CRL", "OCSP")
        until(revoked, lambda: read(f"/devices/{revoked}"), lambda page: all(each in page for each in closed))
        tell.seen(f"{revoked}: revoked, and since when DPS, its hub, CRL and OCSP are closed to it")
    tell.seen(f"these are pages of {world.console_url}, where the function key opens them")


def show(world: outside.World) -> None:
    """Print what there is at the end."""
    columns = ("device", "group", "state", "hub", "serial number", "expires")
    rows = [
        (
            device["registrationId"],
            device["enrollmentGroup"],
            device["state"],
            device["assignedHub"] or "",
            device["certificate"]["serialNumber"] if device["certificate"] else "",
            device["certificate"]["notAfter"][:10] if device["certificate"] else "",
        )
        for device in sorted(world.get("devices")["items"], key=lambda item: item["registrationId"])
    ]
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    print()
    for row in (columns, tuple("-" * width for width in widths), *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    print(f"\nTo look at: {STATE / 'devices'} (bundles, chains, keys of the devices)")
    print(f"            {STATE / 'logs'} (of the functions host, the emulator and Azurite)")
    print("The demo's stack has stopped; `make run` starts one of your own, still empty: README.md goes on with it.")
    print("It names the address of its console, and the function key that opens it: docs/console.md")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo on a stack of its own, with one app for everything or with one for each trust zone."""
    parser = argparse.ArgumentParser(prog="python -m devstack.demo", description=__doc__)
    parser.add_argument(
        "--zones", type=int, choices=(1, len(zones.ZONES)), default=1, help="how many apps share the work (%(default)s)"
    )
    parser.add_argument("--event-topic", action="store_true", help="send events by an emulated Event Grid topic")
    given = parser.parse_args(argv)
    apart = given.zones > 1
    logging.getLogger("azure").setLevel(logging.CRITICAL)  # refusals are part of the story
    threading.excepthook = lambda _: None  # the device SDK leaves timers behind after a refusal
    shutil.rmtree(STATE, ignore_errors=True)
    settings = {"APPROVALS": "deleteGroup"}
    hosts = f"{len(zones.ZONES)} functions hosts, each with its zone's roles alone" if apart else "the functions host"
    print(f"Starting Azurite, the emulated Azure services and {hosts} ...", flush=True)
    started = time.perf_counter()
    try:
        with (ZonedStack if apart else Stack).free(STATE, event_topic=given.event_topic, settings=settings) as stack:
            print(f"ready after {time.perf_counter() - started:.1f} s: {stack.endpoints.functions_url}", flush=True)
            run(stack)
    except Failed as failure:
        print(f"\nFAILED: {failure}\nThe logs are in {STATE / 'logs'}.", file=sys.stderr)
        return 1
    print(f"\nEvery step was seen to work ({time.perf_counter() - started:.0f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
