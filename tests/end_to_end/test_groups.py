"""Enrollment groups from outside: rollovers, changes under ETags, individual enrollments, previews, identities."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from devstack.outside import REPOSITORY, Failed, sweep_at, until
from devstack.rehearsal import read_plan, rehearse
from tests.end_to_end.conftest import running
from tests.end_to_end.test_api import booted, ordered, wait_for_state

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.outside import World
    from devstack.stack import Stack

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

_SWEEP = """
import asyncio, os, sys
from datetime import datetime
from shared.services import build
from shared.settings import Settings

async def sweep(at):
    services = build(Settings.from_environment(os.environ), clock=lambda: at)
    try:
        return await services.groups.rollovers.sweep()
    finally:
        await services.close()

print(asyncio.run(sweep(datetime.fromisoformat(sys.argv[1])))["retired"])
"""


def retired_at(stack: Stack, at: datetime) -> int:
    """Run the app's rollover sweep at another time, and give how many CAs it retired."""
    done = subprocess.run(
        [sys.executable, "-c", _SWEEP, at.isoformat()],
        cwd=REPOSITORY,
        env={**os.environ, **stack.endpoints.environment(), **stack.settings()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"the sweep failed: {done.stderr[-2000:]}")
    return int(done.stdout)


def created(world: World, group: str, **definition: Any) -> dict[str, Any]:
    """Create a group, and wait until it takes devices."""
    answer = world.request("PUT", f"enrollment-groups/{group}", json=definition)
    assert answer.status_code == 202, answer.text
    return until(
        f"{group} is enabled",
        lambda: world.get(f"enrollment-groups/{group}", missing={}),
        lambda body: body.get("state") == "enabled",
    )


def rejected(world: World, request_id: str) -> list[dict[str, str]]:
    """Wait until a request was rejected, and give the reasons."""
    found = until(
        f"{request_id} is rejected",
        lambda: [
            event
            for event in world.events("DeviceProvisioning.RequestRejected")
            if event["correlationid"] == request_id
        ],
        bool,
    )
    reasons: list[dict[str, str]] = found[0]["data"]["reasons"]
    return reasons


def group_changes(world: World, group: str) -> list[str]:
    return [
        event["data"]["action"]
        for event in world.events("DeviceProvisioning.EnrollmentGroupChanged")
        if event["subject"] == group
    ]


def test_a_rollover_ends_when_the_old_ca_has_no_certificate_left(stack_and_world: tuple[Stack, World]) -> None:
    """Devices of both CAs register all along; renewed and revoked away, the old CA leaves DPS, and a new roll may come."""
    stack, world = stack_and_world
    created(world, "over")
    ordered(world, "over-1", "over-2", group="over")
    renewing, old = booted(world, "over-1"), booted(world, "over-2")
    world.post("enrollment-groups/over/roll")
    rolling = until(
        "the next CA signs", lambda: world.get("enrollment-groups/over"), lambda body: body["issuer"] == "over-ca2"
    )
    progress = {name: rolling["rollover"][name] for name in ("from", "to", "state", "certificatesLeft")}
    assert progress == {"from": "over-ca1", "to": "over-ca2", "state": "rolling", "certificatesLeft": 2}
    certificates = rolling["provisioningService"]["attestation"]["x509"]["signingCertificates"]
    assert [certificates[place]["info"]["subjectName"].split(",")[0] for place in ("primary", "secondary")] == [
        "CN=over-ca1",
        "CN=over-ca2",
    ]
    refused = world.post("enrollment-groups/over/roll")
    assert refused.status_code == 409
    assert "a rollover of 'over' from 'over-ca1' to 'over-ca2' is under way" in refused.json()["detail"]

    ordered(world, "over-3", group="over", order_id="order-over-3")
    booted(world, "over-3")
    old.register()
    world.post("devices/over-1/renew", {})
    wait_for_state(world, "over-1", "renewing")
    renewing.take_bundle()
    renewing.register()
    wait_for_state(world, "over-1", "registered")
    assert world.get("enrollment-groups/over")["rollover"]["certificatesLeft"] == 1
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert retired_at(stack, later) == 0
    old.register()
    world.post("devices/over-2/revoke", {"reason": "superseded"})
    wait_for_state(world, "over-2", "revoked")
    assert retired_at(stack, later) == 1

    done = world.get("enrollment-groups/over")
    assert (done["rollover"]["state"], done["rollover"]["certificatesLeft"], done["previousIssuer"]) == (
        "retired",
        0,
        None,
    )
    certificates = done["provisioningService"]["attestation"]["x509"]["signingCertificates"]
    assert certificates["primary"]["info"]["subjectName"].startswith("CN=over-ca2,")
    assert certificates.get("secondary") is None
    renewing.register()
    assert retired_at(stack, later) == 0
    until("both events", lambda: group_changes(world, "over"), lambda found: found == ["create", "roll", "retire"])
    world.post("enrollment-groups/over/roll")
    until("a third CA", lambda: world.get("enrollment-groups/over"), lambda body: body["issuer"] == "over-ca3")


def test_the_timer_carries_on_a_rollover_that_broke_off(stack_and_world: tuple[Stack, World]) -> None:
    """A row that says "preparing", and no message for it any more: the next tick makes what is missing, and goes on."""
    stack, world = stack_and_world
    created(world, "broken-off")
    rollover = {"source": "broken-off-ca1", "target": "broken-off-ca2", "state": "preparing", "request": "lost"}
    started = {"startedAt": datetime.now(UTC).isoformat(), "parent": "dpsCa", "custody": "vault"}
    with world.table("groups") as table:
        row = dict(table.get_entity("group", "broken-off"))
        table.update_entity({**row, "generation": 2, "rollover": json.dumps({**rollover, **started})})
    key = {"x-functions-key": stack.endpoints.master_key}
    url = f"{stack.endpoints.functions_url}/admin/functions/rollover_sweep"
    assert requests.post(url, json={}, headers=key, timeout=10).status_code == 202
    rolling = until(
        "the tick",
        lambda: world.get("enrollment-groups/broken-off"),
        lambda body: body["rollover"]["state"] == "rolling",
    )
    assert (rolling["issuer"], rolling["previousIssuer"]) == ("broken-off-ca2", "broken-off-ca1")
    assert rolling["provisioningService"]["attestation"]["x509"]["signingCertificates"]["secondary"] is not None


def test_a_change_is_guarded_by_the_etag_that_was_read(world: World) -> None:
    """The answer's ETag lets one of two writers through; the other gets 412, over HTTP and through the queue alike."""
    created(world, "guarded")
    read = world.request("GET", "enrollment-groups/guarded")
    etag = read.headers["ETag"]
    assert etag.strip('"') == read.json()["etag"].strip('"')
    change = {"allocationPolicy": "static", "iotEdge": True, "iotHubs": [world.hub_name]}
    answer = world.request("PUT", "enrollment-groups/guarded", json=change, headers={"If-Match": etag})
    assert (answer.status_code, answer.headers["ETag"]) == (202, etag)
    changed = until(
        "the change",
        lambda: world.get("enrollment-groups/guarded"),
        lambda body: body["provisioningService"]["allocationPolicy"] == "static",
    )
    entry = changed["provisioningService"]
    assert (entry["capabilities"], entry["iotHubs"]) == ({"iotEdge": True}, [world.hub_name])
    late = world.request("PUT", "enrollment-groups/guarded", json={}, headers={"If-Match": etag})
    assert late.status_code == 412
    assert late.headers["content-type"] == "application/problem+json"
    present = '"' + changed["etag"].strip('"') + '"'
    assert late.json()["detail"] == (
        f"If-Match: the enrollment group 'guarded' was changed since it was read: its ETag is {present}, and If-Match "
        f"says {etag}; read it again and decide anew"
    )
    again = world.request("PUT", "enrollment-groups/guarded", json={}, headers={"If-None-Match": "*"})
    assert again.status_code == 412
    message = {"requestId": "late", "enrollmentGroup": "guarded", "action": "update", "allocationPolicy": "hashed"}
    world.post_message("enrollment-group-requests", {**message, "ifMatch": etag})
    assert "was changed since it was read" in rejected(world, "late")[0]["message"]
    assert world.get("enrollment-groups/guarded")["etag"] == changed["etag"]


def outcome(world: World, request_id: str) -> dict[str, Any]:
    """Wait until a request about a group was carried out, and give what was told of it."""
    found = until(
        f"{request_id} is carried out",
        lambda: [
            event
            for event in world.events("DeviceProvisioning.EnrollmentGroupChanged")
            if event["correlationid"] == request_id
        ],
        bool,
    )
    data: dict[str, Any] = found[0]["data"]
    return data


def test_what_is_asked_for_last_is_what_stays(world: World) -> None:
    """Sent one after the other, requests of one group end as they were sent; one that comes again is the same one."""
    created(world, "last")
    steps = [("POST", "/disable"), ("POST", "/enable"), ("DELETE", ""), ("PUT", "")]
    for first, second in (steps[:2], steps[2:]):
        for index, (method, path) in enumerate((first, second)):
            key = {"Idempotency-Key": f"last-{method}-{index}"}
            assert world.request(method, f"enrollment-groups/last{path}", headers=key).status_code == 202
        for index, (method, _) in enumerate((first, second)):
            outcome(world, f"last-{method}-{index}")
        group = world.get("enrollment-groups/last")
        assert (group["state"], group["provisioningService"]["provisioningStatus"]) == ("enabled", "enabled")
    again = world.request("PUT", "enrollment-groups/last", headers={"Idempotency-Key": "last-PUT-1"})
    assert again.status_code == 202
    other = {"Idempotency-Key": "last-PUT-1"}
    refused = world.request("PUT", "enrollment-groups/last", json={"iotEdge": True}, headers=other)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "requestId")


def test_a_definition_that_dps_would_not_take_is_refused_at_once(world: World) -> None:
    """A hub that is not linked and a CA that is not verified are named in the answer, and nothing is made."""
    answer = world.request("PUT", "enrollment-groups/unfit", json={"iotHubs": ["nowhere.example"]})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "iotHubs[0]"
    assert answer.json()["errors"][0]["message"].startswith("'nowhere.example' is not linked to the DPS; linked are ")
    answer = world.request("PUT", "enrollment-groups/unfit", json={"caReferences": {"primary": "unknown"}})
    assert answer.status_code == 400
    assert "no CA certificate named 'unknown' is verified in the DPS; verified are " in answer.json()["detail"]
    assert world.get("enrollment-groups/unfit", missing=None) is None


def test_a_group_by_reference_takes_devices_of_an_issuing_ca_under_it(world: World) -> None:
    """DPS finds the root by its name; a device of a named issuing CA under it registers. Without a CA none is ordered."""
    assert world.post("certificate-authorities", {"kind": "intermediate", "name": "under-root"}).status_code == 202
    until(
        "the issuing CA",
        lambda: world.get("certificate-authorities/under-root", missing={}),
        lambda body: body.get("state") == "active",
    )
    created(world, "by-root", caReferences={"primary": "dpsCa"}, issuer="under-root")
    ordered(world, "by-root-1", group="by-root")
    listed = world.get("enrollment-groups/by-root/registrations")["items"]
    assert [each["registrationId"] for each in listed] == ["by-root-1"]
    created(world, "others", caReferences={"primary": "dpsCa"})
    order = {"orderId": "others", "enrollmentGroup": "others", "devices": [{"registrationId": "others-1"}]}
    answer = world.post("device-orders", order)
    assert answer.status_code == 409
    assert "attests by caReferences and has no issuing CA" in answer.json()["detail"]
    assert world.request("DELETE", "enrollment-groups/others").status_code == 202


def test_one_device_of_a_group_is_shut_out_and_let_in_again(world: World) -> None:
    """A disabled individual enrollment decides before the group; deleted, the group decides again."""
    ordered(world, "single-1")
    device = booted(world, "single-1")
    assert world.request("GET", "enrollments/single-1").status_code == 404
    shut = world.post("enrollments/single-1/disable")
    assert (shut.status_code, shut.json()["provisioningStatus"]) == (200, "disabled")
    assert device.refused_by_dps()
    etag = shut.headers["ETag"]
    enabled = world.request(
        "PUT", "enrollments/single-1", json={"provisioningStatus": "enabled"}, headers={"If-Match": etag}
    )
    assert enabled.status_code == 200
    device.register()
    late = world.request("DELETE", "enrollments/single-1", headers={"If-Match": etag})
    assert late.status_code == 412
    assert world.request("DELETE", "enrollments/single-1").status_code == 204
    assert world.request("DELETE", "enrollments/single-1").status_code == 204
    device.register()


def test_an_individual_enrollment_does_not_let_a_revoked_certificate_in(world: World) -> None:
    """The entry that shuts a revoked device out is neither enabled nor deleted through this API."""
    ordered(world, "single-2")
    device = booted(world, "single-2")
    world.post("devices/single-2/revoke", {"reason": "keyCompromise"})
    wait_for_state(world, "single-2", "revoked")
    for method, body in (("PUT", {"provisioningStatus": "enabled"}), ("DELETE", None)):
        answer = world.request(method, "enrollments/single-2", json=body)
        assert answer.status_code == 409
        assert answer.json()["detail"] == (
            "registrationId: the individual enrollment 'single-2' keeps out a device that is revoked (keyCompromise), and "
            "is not changed by others; a hold is undone by reinstating the device, any other revocation is final"
        )
    assert device.refused_by_dps()


def test_a_hold_undone_does_not_let_an_earlier_certificate_in(world: World) -> None:
    """Ordered anew, a device has an enrollment for its present certificate only; it outlives a hold, and is not deleted."""
    ordered(world, "again-1")
    assert world.request("DELETE", "devices/again-1").status_code == 202
    wait_for_state(world, "again-1", "deleted")
    ordered(world, "again-1", order_id="order-again-1-again")
    device = booted(world, "again-1")
    world.post("devices/again-1/revoke", {"reason": "certificateHold"})
    wait_for_state(world, "again-1", "revoked")
    assert device.refused_by_dps()
    world.post("devices/again-1/reinstate")
    wait_for_state(world, "again-1", "registered")
    assert world.get("enrollments/again-1")["provisioningStatus"] == "enabled"
    device.register()
    kept = world.request("DELETE", "enrollments/again-1")
    assert kept.status_code == 409
    assert "an earlier one was revoked, and its group would let that in" in kept.json()["detail"]


def test_a_device_of_its_own_is_enrolled_with_its_own_certificate(world: World) -> None:
    """A certificate that no group knows is let in by an individual enrollment, under the device id that it names."""
    device = world.device("single-3")
    pem = device.sign_itself()
    answer = world.request(
        "PUT", "enrollments/single-3", json={"certificate": pem, "deviceId": "press-3", "iotHubs": [world.hub_name]}
    )
    assert answer.status_code == 201
    assert device.register() == (world.hub_name, "press-3")
    wrong = world.request("PUT", "enrollments/single-4", json={"certificate": pem})
    assert wrong.json()["errors"] == [
        {
            "field": "certificate",
            "message": "its CN is 'single-3' and the registration id 'single-4'; DPS wants them to be the same",
        }
    ]
    nobody = world.request("PUT", "enrollments/single-4", json={})
    assert nobody.status_code == 404
    assert "has no certificate of this app's; give the device's own in certificate" in nobody.json()["detail"]


def previewed(world: World, group: str, name: str, chain: str) -> dict[str, Any]:
    answer = world.post(f"enrollment-groups/{group}/check", {"registrationId": name, "chain": chain})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_preview_says_what_dps_then_does(world: World) -> None:
    """Matched entry and answer are foretold with reasons, and each time the device meets with just that."""
    created(world, "seen")
    ordered(world, "seen-1", group="seen")
    device = booted(world, "seen-1")
    chain = device.chain()

    found = previewed(world, "seen", "seen-1", chain)
    assert (found["accepted"], found["matchesGroup"], found["reasons"]) == (True, True, [])
    by_group = {"kind": "enrollmentGroup", "id": "seen", "provisioningStatus": "enabled", "by": "seen-ca1"}
    assert (found["match"], found["answer"]["status"]) == (by_group, 200)
    device.register()

    elsewhere = previewed(world, "line-1", "seen-1", chain)
    assert (elsewhere["accepted"], elsewhere["matchesGroup"], elsewhere["match"]) == (True, False, by_group)
    assert elsewhere["reasons"][0]["message"].startswith("DPS matches the enrollment group 'seen' and not 'line-1'")

    leaf = chain[: chain.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")]
    bare = previewed(world, "seen", "seen-1", leaf)
    assert (bare["match"], bare["answer"]["errorCode"]) == (None, 401002)
    assert bare["answer"]["message"] == "CA certificate not found"
    assert "send every intermediate up to a CA that is verified" in bare["reasons"][0]["message"]
    named = previewed(world, "seen", "seen-2", chain)
    assert [reason["code"] for reason in named["reasons"]] == ["common-name"]

    world.switch_group("seen", "disable")
    disabled = previewed(world, "seen", "seen-1", chain)
    assert disabled["answer"] == {"status": 401, "errorCode": 401002, "message": "Enrollment is disabled"}
    assert device.refused_by_dps()
    world.switch_group("seen", "enable")

    world.post("enrollments/seen-1/disable")
    shut = previewed(world, "seen", "seen-1", chain)
    assert (shut["match"]["kind"], shut["accepted"]) == ("individualEnrollment", False)
    assert shut["reasons"][-1]["message"] == (
        "the individual enrollment of 'seen-1' is disabled, and decides before any group: the device is shut out"
    )
    assert device.refused_by_dps()

    garbage = world.post("enrollment-groups/seen/check", {"registrationId": "seen-1", "chain": "none"})
    assert garbage.status_code == 400
    assert garbage.json()["errors"][0]["field"] == "chain"


def test_a_device_is_kept_out_of_its_hub_and_let_in_again(world: World) -> None:
    """Its identity is shown, disabled with a reason, enabled and deleted; a revoked device is not let in."""
    ordered(world, "identity-1")
    device = booted(world, "identity-1")
    shown = world.get("devices/identity-1/identity")
    serial = world.get("devices/identity-1")["certificate"]["serialNumber"]
    leaf = x509.load_pem_x509_certificate(world.get(f"certificates/{serial}")["certificate"].encode())
    assert shown == {
        "registrationId": "identity-1",
        "deviceId": "identity-1",
        "assignedHub": world.hub_name,
        "status": "enabled",
        "statusReason": None,
        "connectionState": "disconnected",
        "authentication": "selfSigned",
        "thumbprint": leaf.fingerprint(hashes.SHA256()).hex().upper(),
    }
    disabled = world.post("devices/identity-1/disable", {"reason": "stolen?"}).json()
    assert (disabled["status"], disabled["statusReason"]) == ("disabled", "stolen?")
    assert device.refused_by_hub()
    assert world.post("devices/identity-1/enable").json()["statusReason"] == "enabled by an operator"
    with device.connected() as client:
        client.send({"back": True})
    assert world.request("DELETE", "devices/identity-1/identity").status_code == 204
    gone = world.request("GET", "devices/identity-1/identity")
    assert gone.status_code == 404
    assert gone.json()["detail"] == (
        f"registrationId: {world.hub_name} has no identity 'identity-1'; the device gets one when it registers again"
    )
    device.register()
    world.post("devices/identity-1/revoke", {"reason": "superseded"})
    wait_for_state(world, "identity-1", "revoked")
    refused = world.post("devices/identity-1/enable")
    assert refused.status_code == 409
    assert "is revoked, so its identity stays disabled" in refused.json()["detail"]
    unknown = world.request("GET", "devices/identity-0/identity")
    assert (unknown.status_code, unknown.json()["detail"]) == (
        404,
        "registrationId: the device 'identity-0' does not exist",
    )


def test_a_device_that_dps_moved_is_followed(tmp_path: Path) -> None:
    """DPS is told to use another hub, the device registers again: the ledger follows, and a revocation finds it there."""
    with running(tmp_path, extra_hubs=1) as (_, world):
        here, there = world.hub_names
        created(world, "moving", iotHubs=[here])
        ordered(world, "moving-1", group="moving")
        device = booted(world, "moving-1")
        world.request("PUT", "enrollment-groups/moving", json={"iotHubs": [there]})
        until(
            "the other hub",
            lambda: world.get("enrollment-groups/moving")["provisioningService"]["iotHubs"],
            lambda hubs: hubs == [there],
        )
        assert device.register()[0] == there
        assert world.get("devices/moving-1")["assignedHub"] == here
        world.post("devices/moving-1/revoke", {"reason": "superseded"})
        revoked = wait_for_state(world, "moving-1", "revoked")
        assert revoked["assignedHub"] == there
        assert f"DPS has it in {there} now, not in {here}" in [entry["note"] for entry in revoked["history"]]
        assert world.hub_identity(there, "moving-1") == "disabled"
        assert device.refused_by_hub()


def test_a_group_is_shut_out_of_its_hub_together(world: World) -> None:
    """Revoking a group disables its identities in bulk, with their certificates kept as they are."""
    created(world, "together")
    ids = [f"together-{index}" for index in range(5)]
    ordered(world, *ids, group="together")
    thumbprints = {each: world.get(f"devices/{each}/identity")["thumbprint"] for each in ids}
    message = {"requestId": "together", "enrollmentGroup": "together", "reason": "superseded"}
    world.post_message("revocation-requests", message)
    for each in ids:
        wait_for_state(world, each, "revoked")
    followed = until(
        "its end",
        lambda: world.get("requests/together?kind=revocation-requests"),
        lambda body: body["state"] in {"done", "rejected"},
    )
    counts = {"queued": 5, "needCsr": 0, "skipped": 0, "done": 5, "failed": 0, "waiting": 0}
    assert (followed["state"], followed["progress"]) == ("done", counts)
    identities = [world.get(f"devices/{each}/identity") for each in ids]
    assert {each["status"] for each in identities} == {"disabled"}
    assert {each["statusReason"] for each in identities} == {"certificate revoked: superseded"}
    assert {each["deviceId"]: each["thumbprint"] for each in identities} == thumbprints


def test_the_revocation_of_a_ca_is_planned_by_one_call_and_rehearsed_as_planned(world: World) -> None:
    """The plan's own call revokes a CA of the rehearsal's, whose devices are revoked for who has called."""
    ordered(world, "drilled")
    issuer = world.get("enrollment-groups/line-1")["issuer"]
    answer = until(
        "a plan with devices",
        lambda: world.post(f"certificate-authorities/{issuer}/revoke?dryRun=true", {"perMinute": 240}),
        lambda given: given.json()["plan"]["devices"] > 0,
    )
    plan = read_plan(answer.text, most=4)
    assert (plan.target, plan.per_minute, plan.hubs) == (None, 240, 1)
    done = rehearse(world, plan, scale=100)
    assert done.foreseen["devices"] == plan.devices
    assert 0 < done.hubs_shut <= done.done
    assert done.rates["dps.operations"]["admitted"] >= done.foreseen["dpsCalls"]
    assert world.get(f"certificate-authorities/{issuer}")["state"] == "active", "a rehearsal is not the deed"

    rehearsed = world.get(f"certificate-authorities/{world.get('enrollment-groups/rehearsal')['issuer']}")
    assert rehearsed["state"] == "revoked"
    followed = until(
        "the end of the request for its devices",
        lambda: world.get(f"requests/{rehearsed['devicesRequest']}?kind=revocation-requests"),
        lambda body: body["state"] == "done",
    )
    assert (followed["progress"]["done"], followed["actor"]["kind"]) == (plan.devices, "key")
    history = world.get("devices/rehearsal-00000")["history"]
    (revoked,) = [each for each in history if each["state"] == "revoked"]
    assert revoked["actor"]["kind"] == "key"


def test_a_group_is_renewed_as_a_whole_after_a_roll(stack_and_world: tuple[Stack, World]) -> None:
    """The devices left on the old CA are listed; one request renews them, and each can be followed to its end."""
    stack, world = stack_and_world
    created(world, "whole", renewAutomatically=True)
    ordered(world, "whole-1", "whole-2", group="whole")
    first = booted(world, "whole-1")
    world.followed(world.post("enrollment-groups/whole/roll"))
    ordered(world, "whole-3", group="whole", order_id="order-whole-3")
    left = world.get("enrollment-groups/whole/rollover/devices")
    assert sorted(each["registrationId"] for each in left["items"]) == ["whole-1", "whole-2"]

    refused = world.post("enrollment-groups/whole/renew", {"onlyIssuer": "no-such-ca"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (404, "onlyIssuer")
    answer = world.post("enrollment-groups/whole/renew", {"onlyIssuer": "whole-ca1", "perMinute": 600})
    done = world.followed(answer)
    assert (done["state"], done["about"]) == ("done", "/api/enrollment-groups/whole")
    counts = {"queued": 2, "needCsr": 0, "skipped": 0, "done": 0, "failed": 0, "waiting": 2}
    assert done["progress"] == counts, "both have only to come by"
    for device in ("whole-1", "whole-2"):
        wait_for_state(world, device, "renewing")
    listed = world.get("requests?kind=renewal-requests")["items"]
    (single,) = (each for each in listed if each["about"] == "/api/devices/whole-1")
    first.take_bundle()
    first.register()
    wait_for_state(world, "whole-1", "registered")
    until(
        "its end", lambda: world.get(single["location"].removeprefix("/api/")), lambda found: found["state"] == "done"
    )
    left = world.get("enrollment-groups/whole/rollover/devices")
    assert [each["registrationId"] for each in left["items"]] == ["whole-2"]

    assert world.get("enrollment-groups/whole")["renewAutomatically"] is True
    serial = world.get("devices/whole-3")["certificate"]["serialNumber"]
    sweep_at(stack, datetime.now(UTC) + timedelta(days=280))
    assert world.get(f"requests/renewal-{serial}")["state"] == "queued"
    assert world.get("enrollment-groups/whole/missed-renewals?needs=device")["items"] == []
    sweep_at(stack, datetime.now(UTC) + timedelta(days=336))
    missed = world.get("enrollment-groups/whole/missed-renewals?needs=device")["items"]
    assert [(each["registrationId"], each["needs"]) for each in missed] == [("whole-2", "device")]
