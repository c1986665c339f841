"""The HTTP API and what stands behind it: renewal, holds, deletion, rolls, bundles, large orders, webhooks."""

from __future__ import annotations

import io
import json
import time
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs12

from devstack.outside import signed, until
from tests.end_to_end.conftest import APART, GROUP, WEBHOOK_SECRET

if TYPE_CHECKING:
    from devstack.outside import Device, World

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def ordered(world: World, *ids: str, group: str = GROUP, order_id: str | None = None) -> None:
    """Order devices, and wait until all are registered."""
    order_id = order_id or f"order-{ids[0]}"
    devices = [{"registrationId": each} for each in ids]
    answer = world.post("device-orders", {"orderId": order_id, "enrollmentGroup": group, "devices": devices})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/requests/{order_id}?kind=device-orders"
    world.followed(answer)
    assert world.get(f"device-orders/{order_id}")["state"] == "completed"
    assert [world.state(each) for each in ids] == ["registered"] * len(ids)


def booted(world: World, registration_id: str) -> Device:
    device = world.device(registration_id)
    device.take_bundle()
    device.register()
    return device


def wait_for_state(world: World, registration_id: str, state: str) -> dict[str, Any]:
    until(f"{registration_id} is {state}", lambda: world.state(registration_id), lambda found: found == state)
    found: dict[str, Any] = world.get(f"devices/{registration_id}")
    return found


def test_every_route_of_the_document_is_there(world: World) -> None:
    """The OpenAPI document names the routes of the contract, and each asks for the key unless it says otherwise."""
    document = world.get("openapi.json")
    routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert {
        "POST /api/device-orders",
        "GET /api/device-orders/{orderId}",
        "GET /api/devices/{registrationId}/bundle",
        "POST /api/revocations",
        "POST /api/enrollment-groups/{id}/roll",
        "POST /api/rejections/{id}/replay",
    } <= routes
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "security" in operation and "{" not in path:
                answer = world.request(method.upper(), path.removeprefix("/api/"), headers={"x-functions-key": ""})
                assert answer.status_code == 401, path


def test_the_schema_of_an_event_is_downloaded(world: World) -> None:
    """Its name is in the list, and its address leads to it."""
    (listed,) = [each for each in world.get("schemas")["schemas"] if each["name"] == "DeviceRevoked"]
    schema = world.get(listed["url"].removeprefix("/api/"))
    assert schema["$schema"].endswith("/2020-12/schema")
    assert "registrationId" in schema["required"]


@pytest.mark.skipif(APART, reason="each zone has a readiness of its own, see test_zones")
def test_the_worker_is_alive_and_each_dependency_answers(world: World) -> None:
    """Readiness names each dependency."""
    assert world.anonymous("health/live") == b'{"status": "ok"}'
    hub = f"iotHub {world.hub_name}"
    names = (
        "queues",
        "tables",
        "blobs",
        "orderLists",
        "passwordVault",
        "caCertificates of the DPS",
        f"caCertificates of the IoT hub {world.hub_name.replace('.', '-')!r}",
        "keyVault",
        "certificateAuthorities",
        "provisioningService",
        "webhookSecret",
        "ledger",
        "log",
        hub,
    )
    assert world.get("health/ready") == {"status": "ok", "dependencies": dict.fromkeys(names, "ok")}


def test_a_pfx_opens_with_the_password_from_the_vault(world: World) -> None:
    """The PFX holds key, leaf and chain; its password is a vault secret; one caller gets it until the receipt is told."""
    ordered(world, "pfx-1")
    answer = world.request("GET", "devices/pfx-1/bundle?format=pfx")
    assert answer.headers["content-type"] == "application/x-pkcs12"
    assert answer.headers["cache-control"] == "no-store"
    opened = pkcs12.load_pkcs12(answer.content, world.secret(answer.headers["x-password-secret"]).encode())
    assert opened.cert is not None
    assert opened.cert.certificate.subject.rfc4514_string() == "CN=pfx-1"
    assert [each.certificate.subject.rfc4514_string() for each in opened.additional_certs] == [
        "CN=line-1-ca1,O=Example Corporation,C=US"
    ]
    other = world.request("GET", "devices/pfx-1/bundle", headers={"Idempotency-Key": "another"})
    assert (other.status_code, other.json()["detail"]) == (
        410,
        "the bundle was handed out to another caller; renew the device to get a new key",
    )
    assert world.request("GET", "devices/pfx-1/bundle?format=pfx").content == answer.content
    assert world.confirm_bundle("pfx-1") == 204
    again = world.request("GET", "devices/pfx-1/bundle")
    assert again.status_code == 410
    assert again.json()["detail"] == (
        "the bundle was handed out before, or not fetched in time, and its private key is deleted; renew the device to get "
        "a new key"
    )


def test_a_hold_shuts_out_and_is_undone(world: World) -> None:
    """On hold a device is refused by hub and DPS and stands on the CRL; reinstated, it connects again."""
    ordered(world, "hold-1")
    device = booted(world, "hold-1")
    serial = int(world.get("devices/hold-1")["certificate"]["serialNumber"], 16)
    assert world.post("devices/hold-1/revoke", {"reason": "certificateHold"}).status_code == 202
    wait_for_state(world, "hold-1", "revoked")
    assert device.refused_by_hub()
    assert device.refused_by_dps()
    held = x509.load_der_x509_crl(world.anonymous("crl/line-1-ca1.crl"))
    assert held.get_revoked_certificate_by_serial_number(serial) is not None
    assert world.post("devices/hold-1/reinstate").status_code == 202
    wait_for_state(world, "hold-1", "registered")
    with device.connected() as client:
        client.send({"back": True})
    free = x509.load_der_x509_crl(world.anonymous("crl/line-1-ca1.crl"))
    assert free.get_revoked_certificate_by_serial_number(serial) is None
    number = x509.CRLNumber
    assert (
        free.extensions.get_extension_for_class(number).value.crl_number
        > held.extensions.get_extension_for_class(number).value.crl_number
    )


def test_a_final_revocation_is_not_undone(world: World) -> None:
    """Only a hold can be undone; anything else is refused at once with that rule, and in the queue as well."""
    ordered(world, "final-1")
    world.post("devices/final-1/revoke", {"reason": "keyCompromise"})
    wait_for_state(world, "final-1", "revoked")
    reasons = [
        {
            "field": "action",
            "message": "'final-1' is not on hold; only reason 'certificateHold' can be undone, any other revocation is final",
        }
    ]
    refused = world.request("POST", "devices/final-1/reinstate", headers={"Idempotency-Key": "undo-final-1"})
    assert (refused.status_code, refused.json()["errors"]) == (409, reasons)
    request = {"requestId": "undo-final-1", "registrationId": "final-1", "action": "reinstate"}
    world.post_message("revocation-requests", request)
    rejected = until(
        "the rejection",
        lambda: [
            event
            for event in world.events("DeviceProvisioning.RequestRejected")
            if event["correlationid"] == "undo-final-1"
        ],
        bool,
    )
    assert rejected[0]["data"]["reasons"] == reasons


def test_a_renewed_device_keeps_its_old_certificate_until_it_uses_the_new(world: World) -> None:
    """The device works on while the new certificate waits; when it registers with it, the old one is superseded."""
    ordered(world, "renew-1")
    device = booted(world, "renew-1")
    old = world.get("devices/renew-1")["certificate"]["serialNumber"]
    assert world.post("devices/renew-1/renew", {}).status_code == 202
    renewing = wait_for_state(world, "renew-1", "renewing")
    assert renewing["certificate"]["serialNumber"] == old
    with device.connected() as client:
        client.send({"still": "here"})
    device.take_bundle()
    device.register()
    renewed = wait_for_state(world, "renew-1", "registered")
    new = renewed["certificate"]["serialNumber"]
    assert new != old
    assert new == renewing["nextCertificate"]["serialNumber"]
    before, after = world.get(f"certificates/{old}"), world.get(f"certificates/{new}")
    assert (before["state"], before["successor"]) == ("superseded", new)
    assert (after["state"], after["predecessor"]) == ("active", old)
    with device.connected() as client:
        client.send({"renewed": True})
    request = {"requestId": "revoke-former", "serialNumber": old, "reason": "keyCompromise"}
    world.post_message("revocation-requests", request)
    until("old one revoked", lambda: world.get(f"certificates/{old}")["state"], lambda state: state == "revoked")
    entry = until("its own entry", lambda: world.get("enrollments/renew-1", missing={}), bool)
    assert entry["provisioningStatus"] == "enabled"
    assert world.state("renew-1") == "registered"
    device.register()


def test_a_deleted_device_stays_out_and_can_be_ordered_again_with_a_new_certificate(world: World) -> None:
    """Deleted, a device is gone from its hub and its old certificate is of no use; ordered again, the new one is."""
    ordered(world, "gone-1")
    old = booted(world, "gone-1")
    answer = world.request("DELETE", "devices/gone-1", headers={"Idempotency-Key": "delete-gone-1"})
    assert (answer.status_code, answer.headers["location"]) == (
        202,
        "/api/requests/delete-gone-1?kind=revocation-requests",
    )
    wait_for_state(world, "gone-1", "deleted")
    again = world.request("DELETE", "devices/gone-1", headers={"Idempotency-Key": "delete-gone-1"})
    assert (again.status_code, again.json()) == (202, answer.json()), "a request that comes again answers as it did"
    assert old.refused_by_dps()
    assert old.refused_by_hub()
    ordered(world, "gone-1", order_id="order-gone-1-again")
    assert old.refused_by_dps(), "its old certificate must not take the place of the new one"
    fresh = booted(world, "gone-1")
    with fresh.connected() as client:
        client.send({"again": True})
    assert world.post("devices/gone-1/renew", {}).status_code == 202
    wait_for_state(world, "gone-1", "renewing")
    fresh.take_bundle()
    fresh.register()
    wait_for_state(world, "gone-1", "registered")
    notes = [entry["state"] for entry in world.get("devices/gone-1")["history"]]
    assert notes[:6] == ["ordered", "issued", "registered", "registered", "deleted", "ordered"]


def test_a_revocation_is_carried_out_when_the_first_answer_of_dps_gets_lost(world: World) -> None:
    """The SDK sends the request again and meets its own effect, which is not a conflict: every door gets closed."""
    ordered(world, "lost-answer")
    device = booted(world, "lost-answer")
    world.plan_faults({"service": "dps", "operation": "PUT /enrollments/*", "count": 1, "drop": "response"})
    try:
        assert world.post("devices/lost-answer/revoke", {"reason": "keyCompromise"}).status_code == 202
        wait_for_state(world, "lost-answer", "revoked")
        assert world.applied_faults() == [1]
    finally:
        world.plan_faults()
    assert device.refused_by_hub()
    assert device.refused_by_dps()


def test_a_device_that_is_revoked_while_it_is_renewed_stays_out(world: World) -> None:
    """DPS takes its time over admitting the successor; what shuts the device out meanwhile is not undone by it."""
    ordered(world, "race-1")
    device = booted(world, "race-1")
    assert world.request("PUT", "enrollments/race-1", json={}).status_code == 201
    world.plan_faults({"service": "dps", "operation": "PUT /enrollments/*", "count": 1, "latencyMilliseconds": 3000})
    try:
        world.post("devices/race-1/renew", {})
        until("DPS is at it", world.applied_faults, lambda applied: applied == [1])
        successor = world.get("devices/race-1")["nextCertificate"]["serialNumber"]
        world.post("devices/race-1/revoke", {"reason": "keyCompromise"})
        wait_for_state(world, "race-1", "revoked")
        until(
            "the renewal has ended",
            lambda: [each for each in world.get("rejections?pageSize=1000")["items"] if "race-1" in each["body"]],
            bool,
        )
    finally:
        world.plan_faults()
    assert world.get("enrollments/race-1")["provisioningStatus"] == "disabled"
    assert world.get(f"certificates/{successor}")["state"] == "revoked"
    assert device.refused_by_dps()


def test_a_dps_that_throttles_is_no_failure_of_the_app(world: World) -> None:
    """What only reads says when to ask again, too."""
    rule = {"service": "dps", "operation": "GET /enrollmentGroups/*", "status": 429, "retryAfterSeconds": 0}
    world.plan_faults(rule)
    try:
        answer = world.request("GET", f"enrollment-groups/{GROUP}")
    finally:
        world.plan_faults()
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


def test_a_roll_lets_a_new_ca_take_over_and_keeps_the_old_devices(world: World) -> None:
    """After a roll new devices come from the new CA, and those of the old one still register."""
    answer = world.request("PUT", "enrollment-groups/rolling", json={})
    assert answer.status_code == 202
    until(
        "rolling",
        lambda: world.get("enrollment-groups/rolling", missing={}),
        lambda body: body.get("state") == "enabled",
    )
    ordered(world, "roll-1", group="rolling")
    world.post("enrollment-groups/rolling/roll")
    rolled = until(
        "rolled",
        lambda: world.get("enrollment-groups/rolling"),
        lambda body: body["issuer"] == "rolling-ca2",
    )
    assert rolled["previousIssuer"] == "rolling-ca1"
    ordered(world, "roll-2", group="rolling")
    assert world.get("devices/roll-2")["certificate"]["issuer"] == "rolling-ca2"
    booted(world, "roll-1")
    booted(world, "roll-2")
    listed = world.get("enrollment-groups/rolling/registrations?pageSize=1")
    assert [item["registrationId"] for item in listed["items"]] == ["roll-1"]
    following = world.get(
        f"enrollment-groups/rolling/registrations?pageSize=1&continuationToken={listed['continuationToken']}"
    )
    assert [item["registrationId"] for item in following["items"]] == ["roll-2"]


@pytest.mark.parametrize(
    ("suffix", "name"), [("csv", "list.csv"), ("json", "list.json"), ("odd", "März/100% + Größe.CSV")]
)
def test_a_long_order_comes_in_a_blob(world: World, suffix: str, name: str) -> None:
    """DevicesUrl names a CSV or JSON list in the app's own container, whatever its name."""
    ids = [f"blob-{suffix}-{index}" for index in range(3)]
    listed = json.dumps([{"registrationId": each} for each in ids])
    content = listed if suffix == "json" else "registrationId,keyAlgorithm\n" + "".join(f"{each},\n" for each in ids)
    url = world.upload("orders", name, content.encode())
    world.post_message("device-orders", {"orderId": f"blob-{suffix}", "enrollmentGroup": GROUP, "devicesUrl": url})
    until(
        "complete",
        lambda: world.get(f"device-orders/blob-{suffix}", missing={}),
        lambda body: body.get("state") == "completed",
    )
    assert [world.state(each) for each in ids] == ["registered"] * 3


def test_a_list_in_csv_is_an_order_and_its_results_are_one_again(world: World) -> None:
    """Posted as it is, with its group in the query; the results are asked for, and lie in blobs that the event names."""
    answer = world.request(
        "POST",
        "device-orders",
        params={"orderId": "uploaded", "enrollmentGroup": GROUP, "progressEvery": "1"},
        data=b"registrationId,tags.plant\r\nupload-1,Lyon\r\nupload-2,Bremen\r\n",
        headers={"Content-Type": "text/csv"},
    )
    assert answer.status_code == 202
    assert world.followed(answer)["state"] == "done"
    results = world.request("GET", "device-orders/uploaded/results.csv")
    assert results.headers["content-type"].startswith("text/csv")
    rows = results.text.split("\r\n")
    assert [row.split(",")[:2] for row in rows[1:3]] == [["upload-1", "registered"], ["upload-2", "registered"]]
    items = world.get("device-orders/uploaded/results.json")["items"]
    assert [each["place"] for each in items] == ["line 2", "line 3"]
    told = until(
        "OrderCompleted",
        lambda: [each for each in world.events("DeviceProvisioning.OrderCompleted") if each["subject"] == "uploaded"],
        bool,
    )[0]["data"]
    assert world.download(told["results"]).decode() == results.text
    assert json.loads(world.download(told["resultsJson"]))["items"] == items


def test_the_bundles_of_an_order_come_in_one_archive(world: World) -> None:
    """To one caller, page by page; what was fetched alone before is named and not in it, and passwords are elsewhere."""
    ids = [f"zip-{number}" for number in range(3)]
    ordered(world, *ids, order_id="zipped")
    assert world.bundle_status("zip-1", caller="somebody-else") == 200
    path, found, states = "device-orders/zipped/bundles?format=pfx&pageSize=2", dict[str, bytes](), dict[str, str]()
    while path:
        answer = world.request("GET", path)
        assert answer.status_code == 200
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        devices = json.loads(files.pop("manifest.json"))["devices"]
        states |= {each["registrationId"]: each["state"] for each in devices}
        secrets = {each["file"]: each["passwordSecret"] for each in devices if each["file"]}
        for name, content in files.items():
            password = world.secret(secrets[name])
            assert password.encode() not in answer.content
            assert pkcs12.load_pkcs12(content, password.encode()).cert is not None
        found |= files
        path = answer.links.get("next", {}).get("url", "").removeprefix("/api/")
    assert sorted(found) == ["zip-0.pfx", "zip-2.pfx"]
    assert states == {"zip-0": "included", "zip-1": "handedOut", "zip-2": "included"}
    assert world.bundle_status("zip-0", caller="somebody-else") == 410
    assert world.request("HEAD", "device-orders/zipped/bundles").status_code == 404


def test_an_order_that_waits_for_a_first_boot_can_be_cancelled(world: World) -> None:
    """Each way is followed by its location alone; the order is listed as what it is, and its device is revoked."""
    body = {
        "orderId": "to-cancel",
        "enrollmentGroup": GROUP,
        "registerBy": "device",
        "devices": [{"registrationId": "cancel-1"}],
    }
    assert world.post("device-orders", body).status_code == 202
    waiting = until(
        "the order waits",
        lambda: world.get("device-orders/to-cancel", missing={}),
        lambda found: found.get("state") == "waiting",
    )
    assert waiting["progress"]["issued"] == 1
    answer = world.post("device-orders/to-cancel/cancel", {"issued": "revoke"})
    if APART:  # the app that takes it can't check signatures, and says where they are checked
        assert (answer.status_code, "POST /api/revocations" in answer.json()["detail"]) == (401, True)
        answer = world.post("device-orders/to-cancel/cancel", {"issued": "keep"})
        world.post("devices/cancel-1/revoke", {"reason": "cessationOfOperation"})
    assert answer.status_code == 202
    followed = world.followed(answer)
    assert (followed["state"], followed["about"]) == ("done", "/api/device-orders/to-cancel")
    assert world.get("device-orders/to-cancel")["state"] == "cancelled"
    assert "to-cancel" in [each["orderId"] for each in world.get("device-orders?state=cancelled")["items"]]
    wait_for_state(world, "cancel-1", "revoked")
    assert world.post("device-orders/to-cancel/close", {}).status_code == 409


def test_devices_are_listed_page_by_page(world: World) -> None:
    """Every device is listed once, over as many pages as it takes, and filters hold."""
    ordered(world, "page-1", "page-2", "page-3")
    found: list[str] = []
    token = ""
    while True:
        page = world.request("GET", "devices", params={"pageSize": 2, "continuationToken": token}).json()
        assert len(page["items"]) <= 2
        found += [item["registrationId"] for item in page["items"]]
        token = page["continuationToken"]
        if not token:
            break
    assert len(found) == len(set(found))
    assert {"page-1", "page-2", "page-3"} <= set(found)
    assert all(item["state"] == "revoked" for item in world.get("devices?state=revoked")["items"])


def test_devices_are_found_by_what_is_known_of_them(world: World) -> None:
    """By the filters and by their certificate, as JSON and as CSV; and they are counted."""
    ordered(world, "known-1")
    certificate = world.get("devices/known-1")["certificate"]
    leaf = x509.load_pem_x509_certificate(
        world.get(f"certificates/{certificate['serialNumber']}")["certificate"].encode()
    )
    until("the directory has it", lambda: world.get("devices?idPrefix=known-")["items"], bool)
    for query in (
        f"enrollmentGroup={GROUP}&idPrefix=KNOWN-&state=registered&issuer={certificate['issuer']}",
        f"hub={world.hub_name}&idPrefix=known-&expiresBefore=2100-01-01T00:00:00Z",
        "idPrefix=known-&registeredSince=2020-01-01T00:00:00Z&notRenewedSince=2100-01-01T00:00:00%2B01:00",
        f"serialNumber={certificate['serialNumber']}",
        f"thumbprint={certificate['thumbprint']}",
        f"thumbprint={leaf.fingerprint(hashes.SHA256()).hex()}",
    ):
        assert [item["registrationId"] for item in world.get(f"devices?{query}")["items"]] == ["known-1"], query
    assert world.get("devices?idPrefix=known-&notRenewedSince=2020-01-01T00:00:00Z")["items"] == []
    listed = world.request("GET", "devices", params={"idPrefix": "known-"}, headers={"Accept": "text/csv"})
    assert listed.headers["Content-Type"].startswith("text/csv")
    assert [line.partition(",")[0] for line in listed.text.splitlines()] == ["registrationId", "known-1"]
    counts = world.get("device-counts")
    assert counts["total"] == sum(counts["states"].values()) > 0
    assert certificate["notAfter"][:7] in {each["month"] for each in counts["expiries"]}
    assert "known-1" in {each["registrationId"] for each in world.get("certificates?pageSize=1000")["items"]}
    refused = world.request("GET", "devices", params={"expiresbefore": "2027-01-01T00:00:00Z"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "expiresbefore")


def test_possession_can_be_proved_by_hand(world: World) -> None:
    """The code that a service gave becomes the CN of a certificate that the CA signs."""
    answer = world.post(
        "certificate-authorities/dpsCa/verification-certificates", {"verificationCode": "0123456789ABCDEF"}
    )
    assert answer.status_code == 201
    certificate = x509.load_pem_x509_certificate(answer.json()["certificate"].encode())
    root = x509.load_der_x509_certificate(world.anonymous("ca/dpsCa.cer"))
    assert certificate.subject.rfc4514_string() == "CN=0123456789ABCDEF"
    certificate.verify_directly_issued_by(root)
    chain = world.request("GET", "certificate-authorities/line-1-ca1?format=pem").content
    assert [each.subject.rfc4514_string().split(",")[0] for each in x509.load_pem_x509_certificates(chain)] == [
        "CN=line-1-ca1",
        "CN=dpsCa",
    ]


def test_a_webhook_is_taken_with_its_signature_only(world: World) -> None:
    """Where a secret is set, every door that revokes needs a signature, and its id is its idempotency key."""
    ordered(world, "hook-1")
    body = json.dumps({"registrationId": "hook-1", "reason": "superseded"}).encode()
    doors = (
        ("POST", "revocations", body),
        ("POST", "devices/hook-1/revoke", b'{"reason": "superseded"}'),
        ("POST", "devices/hook-1/reinstate", b""),
        ("DELETE", "devices/hook-1", b""),
    )
    for method, path, content in doors:
        assert world.unsigned(method, path, data=content).status_code == 401, path
        late = signed(WEBHOOK_SECRET.strip(), "late", 10**29, content)
        assert world.unsigned(method, path, data=content, headers=late).status_code == 401, path
    assert world.state("hook-1") == "registered"
    headers = signed(WEBHOOK_SECRET.strip(), "hook-event-1", int(time.time()), body)
    assert world.unsigned("POST", "revocations", data=body, headers=headers).status_code == 202
    assert world.unsigned("POST", "revocations", data=body, headers=headers).status_code == 202
    wait_for_state(world, "hook-1", "revoked")
    events = until(
        "DeviceRevoked",
        lambda: [
            event
            for event in world.events("DeviceProvisioning.DeviceRevoked")
            if event["correlationid"] == "hook-event-1"
        ],
        bool,
    )
    assert [event["data"]["reason"] for event in events] == ["superseded"]


def test_what_can_not_be_revoked_is_refused_at_once(world: World) -> None:
    """An unknown device, certificate or group is 404, and a revocation without a reason is 400, by field."""
    reason = {"reason": "keyCompromise"}
    found = [
        world.request("POST", "devices/nobody/revoke", json=reason),
        world.request("POST", "devices/nobody/reinstate"),
        world.request("DELETE", "devices/nobody"),
        world.request("POST", "revocations", json={"registrationId": "nobody", **reason}),
        world.request("POST", "revocations", json={"serialNumber": "7b", **reason}),
        world.request("POST", "revocations", json={"enrollmentGroup": "nowhere", **reason}),
    ]
    assert [answer.status_code for answer in found] == [404] * 6
    assert [answer.json()["errors"][0]["field"] for answer in found] == [
        *("registrationId", "registrationId", "registrationId", "registrationId"),
        *("serialNumber", "enrollmentGroup"),
    ]
    for answer in (
        world.request("POST", "devices/nobody/revoke"),
        world.request("POST", "devices/nobody/revoke", json={}),
        world.request("POST", "revocations", json={"registrationId": "nobody"}),
    ):
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "reason")


def test_an_id_that_was_used_for_something_else_is_a_conflict_at_once(world: World) -> None:
    """With 422, and not with 202 and a rejection later; the same request again answers as it did, quoted or not."""
    ordered(world, "ids-1", "ids-2")
    answers = [
        world.request("POST", f"devices/{device}/renew", json={}, headers={"Idempotency-Key": key})
        for device, key in (("ids-1", "renew-ids"), ("ids-1", '"renew-ids"'), ("ids-2", "renew-ids"))
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 422]
    assert answers[1].json() == answers[0].json()
    assert answers[0].json()["requestId"] == "renew-ids"


def test_a_chunked_body_is_refused(world: World) -> None:
    """It does not reach the app, which would carry out something else than what was asked for."""
    for method, path in (
        *(("PUT", "enrollment-groups/chunked"), ("PUT", "enrollments/chunked"), ("POST", "device-orders")),
        *(("POST", "devices/chunked/renew"), ("POST", "devices/chunked/disable"), ("POST", "certificates/check")),
        *(("POST", "revocations"), ("POST", "devices/chunked/revoke"), ("POST", "ocsp/line-1-ca1")),
    ):
        answer = world.unsigned(method, path, data=iter([b"{}"]))
        assert answer.status_code == 411, path
        assert answer.json()["detail"].startswith("the body did not arrive, because it was sent with Transfer-Encoding")


def test_head_is_answered_as_get_is(world: World) -> None:
    """Monitors, caches and installers ask so; a bundle is not handed out by it."""
    for path in ("health/live", "crl/line-1-ca1.crl", "ca/line-1-ca1.cer", "devices", "enrollment-groups/line-1"):
        head, got = world.request("HEAD", path), world.request("GET", path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers.get("ETag") == got.headers.get("ETag"), path
        assert head.headers["Content-Type"] == got.headers["Content-Type"], path
    ordered(world, "head-1")
    assert world.request("HEAD", "devices/head-1/bundle").status_code == 404
    assert world.request("GET", "devices/head-1/bundle").status_code == 200


def test_the_trace_of_an_order_is_carried_to_its_events(world: World) -> None:
    """A sender's traceparent stands in every event that its order leads to."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    world.post_message(
        "device-orders",
        {
            "specversion": "1.0",
            "id": "1",
            "source": "/erp",
            "type": "order",
            "traceparent": trace,
            "data": {"orderId": "traced", "enrollmentGroup": GROUP, "devices": [{"registrationId": "traced-1"}]},
        },
    )
    until("complete", lambda: world.events("DeviceProvisioning.OrderCompleted"), lambda found: any(
        event["correlationid"] == "traced" for event in found))  # fmt: skip
    kinds = ("OrderAccepted", "CertificateIssued", "DeviceRegistered", "OrderCompleted")
    events = [event for kind in kinds for event in world.events(f"DeviceProvisioning.{kind}")]
    traces = {
        event["type"].split(".")[1]: event.get("traceparent") for event in events if event["correlationid"] == "traced"
    }
    assert traces == dict.fromkeys(kinds, trace)


@pytest.mark.parametrize("algorithm", ["EC-P384", "RSA-2048"])
def test_a_hierarchy_of_each_algorithm_brings_a_device_into_its_hub(world: World, algorithm: str) -> None:
    """A root and a named issuing CA of another algorithm are made on request, and a group takes the CA by its name."""
    name = algorithm.lower()
    root = {"requestId": f"root-{name}", "kind": "root", "name": f"root-{name}", "keyAlgorithm": algorithm}
    world.post_message("certificate-requests", root)
    until(
        "the root",
        lambda: world.get(f"certificate-authorities/root-{name}", missing={}),
        lambda body: body.get("proofOfPossession") == "verified",
    )
    issuing = {"kind": "intermediate", "name": f"issuing-{name}", "issuer": f"root-{name}", "keyAlgorithm": algorithm}
    assert world.post("certificate-authorities", issuing).status_code == 202
    until(
        "the issuing CA",
        lambda: world.get(f"certificate-authorities/issuing-{name}", missing={}),
        lambda body: body.get("state") == "active",
    )
    world.request("PUT", f"enrollment-groups/group-{name}", json={"issuer": f"issuing-{name}"})
    until(
        "the group",
        lambda: world.get(f"enrollment-groups/group-{name}", missing={}),
        lambda body: body.get("state") == "enabled",
    )
    ordered(world, f"device-{name}", group=f"group-{name}")
    device = world.get(f"devices/device-{name}")
    assert device["certificate"]["issuer"] == f"issuing-{name}"
    with booted(world, f"device-{name}").connected() as client:
        client.send({"algorithm": algorithm})


def test_a_single_device_certificate_is_issued_without_dps(world: World) -> None:
    """A certificate request for a device gives certificate and bundle, and registers nothing."""
    own = world.device("single-own").make_own_key()
    for name, csr in (("single-own", own), ("single-made", None)):
        body = {"kind": "device", "name": name, "issuer": "line-1-ca1", **({"csr": csr} if csr else {})}
        answer = world.post("certificates", body)
        location = f"/api/requests/{answer.json()['requestId']}?kind=certificate-requests"
        assert (answer.status_code, answer.headers["location"]) == (202, location)
        followed = world.followed(answer)
        assert (followed["state"], followed["about"]) == ("done", f"/api/devices/{name}")
        wait_for_state(world, name, "issued")
        world.device(name).take_bundle()
    serial = world.get("devices/single-own")["certificate"]["serialNumber"]
    assert world.get(f"certificates/{serial}")["subject"] == "single-own"
    assert world.get("devices/single-own")["assignedHub"] is None


def test_a_certificate_is_revoked_by_its_serial_number_and_a_group_as_a_whole(world: World) -> None:
    """One device is found by its serial number; naming the group revokes every device of it."""
    world.request("PUT", "enrollment-groups/doomed", json={})
    until(
        "the group",
        lambda: world.get("enrollment-groups/doomed", missing={}),
        lambda body: body.get("state") == "enabled",
    )
    ids = [f"doomed-{index}" for index in range(4)]
    ordered(world, *ids, group="doomed")
    serial = world.get("devices/doomed-0")["certificate"]["serialNumber"]
    world.post_message(
        "revocation-requests", {"requestId": "by-serial", "serialNumber": serial.upper(), "reason": "keyCompromise"}
    )
    wait_for_state(world, "doomed-0", "revoked")
    world.post_message(
        "revocation-requests", {"requestId": "all", "enrollmentGroup": "doomed", "reason": "cessationOfOperation"}
    )
    for each in ids:
        wait_for_state(world, each, "revoked")
    crl = x509.load_der_x509_crl(world.anonymous("crl/doomed-ca1.crl"))
    listed = {f"{entry.serial_number:040x}" for entry in crl}
    assert listed == {world.get(f"devices/{each}")["certificate"]["serialNumber"] for each in ids}
    assert all(world.hub_identity(world.hub_name, each) == "disabled" for each in ids)
