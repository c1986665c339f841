"""What bad input gets: an answer that names field, value and rule; and nothing is lost."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from devstack.outside import until
from emulator.controls import AUDIENCE
from tests.end_to_end.conftest import GROUP
from tests.end_to_end.test_api import ordered

if TYPE_CHECKING:
    from devstack.outside import World
    from devstack.stack import Stack

REJECTED = "DeviceProvisioning.RequestRejected"
NO_SUCH_GROUP = (
    "the enrollment group 'nowhere' does not exist; create it first (queue enrollment-group-requests, action 'create')"
)


def signing_request(name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def with_wrong_signature(name: str) -> str:
    pem = signing_request(name, ec.generate_private_key(ec.SECP256R1()))
    request = bytearray(x509.load_pem_x509_csr(pem.encode()).public_bytes(Encoding.DER))
    request[-1] ^= 1
    return x509.load_der_x509_csr(bytes(request)).public_bytes(Encoding.PEM).decode()


def rejection_of(world: World, correlation_id: str) -> list[dict[str, str]]:
    """Wait for the event about a request, and give its reasons."""
    event = until(
        f"{correlation_id} is rejected",
        lambda: [each for each in world.events(REJECTED) if each["correlationid"] == correlation_id],
        bool,
    )[0]
    reasons: list[dict[str, str]] = event["data"]["reasons"]
    return reasons


def order(order_id: str, *devices: Any, **fields: Any) -> dict[str, Any]:
    return {"orderId": order_id, "enrollmentGroup": GROUP, "devices": list(devices), **fields}


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (
            order("bad-unknown-field", {"registrationId": "a"}, colour="red"),
            "colour",
            "is not a known field; known are devices, devicesUrl, enrollmentGroup, orderId, progressEvents, registerBy, "
            "validityDays",
        ),
        (
            {"orderId": "bad-missing-field", "devices": [{"registrationId": "a"}]},
            "enrollmentGroup",
            "is required",
        ),
        (
            {**order("bad-unknown-group", {"registrationId": "a"}), "enrollmentGroup": "nowhere"},
            "enrollmentGroup",
            NO_SUCH_GROUP,
        ),
        (
            {"orderId": "bad-no-devices", "enrollmentGroup": GROUP},
            "",
            "an order needs either devices or devicesUrl, and not both",
        ),
    ],
    ids=lambda value: value["orderId"] if isinstance(value, dict) else "",
)
def test_a_bad_order_is_rejected_with_field_and_rule(
    world: World, body: dict[str, Any], field: str, message: str
) -> None:
    """An order that can't be carried out is rejected with one reason that names its field and the rule; its id says so."""
    world.post_message("device-orders", body)
    reasons = [{"field": field, "message": message}]
    assert rejection_of(world, body["orderId"]) == reasons
    answer = until(
        "the order says so",
        lambda: world.request("GET", f"device-orders/{body['orderId']}"),
        lambda answer: answer.status_code == 200,
    ).json()
    assert (answer["state"], answer["reasons"], answer["devices"]) == ("rejected", reasons, [])
    assert body["orderId"] in [each["orderId"] for each in world.get("device-orders?state=rejected")["items"]]


def test_a_message_that_is_no_json_is_kept_whole_and_can_be_replayed(world: World) -> None:
    """What is not valid JSON stands in the rejections, byte for byte, and a replay puts it back."""
    world.post_message("device-orders", "{ no JSON ü")
    found = until(
        "the rejection",
        lambda: [each for each in world.get("rejections")["items"] if each["body"] == "{ no JSON ü"],
        bool,
    )[0]
    assert found["queue"] == "device-orders"
    assert found["kind"] == "rejected"
    assert found["reasons"] == [
        {
            "field": "",
            "message": "the message is not valid JSON: Expecting property name enclosed in double quotes: "
            "line 1 column 3 (char 2)",
        }
    ]
    answer = world.post(f"rejections/{found['id']}/replay")
    assert answer.status_code == 202
    assert answer.json()["replayedAt"] is not None


def test_a_message_that_is_no_base64_is_not_lost(world: World) -> None:
    """What is neither base64 nor JSON is rejected with that reason, and kept as it came."""
    world.plain_queue("device-orders").send_message("plain text, no base64!")
    [found] = until(
        "the rejection",
        lambda: [each for each in world.get("rejections")["items"] if each["body"] == "plain text, no base64!"],
        bool,
    )
    assert found["kind"] == "rejected"
    assert "the message is not valid JSON" in found["reasons"][0]["message"]


def test_a_message_in_plain_json_is_as_good_as_one_in_base64(world: World) -> None:
    """azure-storage-queue sends plain text unless told otherwise: such an order is carried out like any other."""
    order = {"orderId": "plain", "enrollmentGroup": GROUP, "devices": [{"registrationId": "plain-1"}]}
    world.plain_queue("device-orders").send_message(json.dumps(order))
    until(
        "the order", lambda: world.get("device-orders/plain", missing={}), lambda body: body.get("state") == "completed"
    )


def test_one_bad_device_does_not_stop_the_others(world: World) -> None:
    """Each bad device of an order fails with its own reason, and every good one is registered."""
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - weak on purpose
    other = ec.generate_private_key(ec.SECP256R1())
    devices = [
        {"registrationId": "good-1"},
        {"registrationId": "bad id!"},
        {"registrationId": "x" * 65},
        {"registrationId": "GOOD-1"},
        {"registrationId": "bad-5", "csr": "-----BEGIN NONSENSE-----"},
        {"registrationId": "bad-6", "csr": with_wrong_signature("bad-6")},
        {"registrationId": "bad-7", "csr": signing_request("bad-7", weak)},
        {"registrationId": "bad-8", "csr": signing_request("somebody-else", other)},
        {"registrationId": "bad-9", "colour": "red"},
        {"registrationId": "good-2"},
        "no object",
    ]
    world.post_message("device-orders", order("mixed", *devices))
    done = until(
        "the order is complete",
        lambda: world.get("device-orders/mixed", missing={}),
        lambda body: body.get("state") == "completedWithFailures",
    )
    states = [line["state"] for line in done["devices"]]
    assert states == ["registered", *["failed"] * 8, "registered", "failed"]
    reasons = [line.get("reason") for line in done["devices"]]
    rule = "a registration id has letters, digits and - . _ : only"
    limit = "a registration id has at most 64, because it is the certificate's CN"
    assert reasons[1:4] == [
        f"devices[1].registrationId: 'bad id!' contains ' ', '!'; {rule}",
        f"devices[2].registrationId: '{'x' * 65}' has 65 characters; {limit}",
        "devices[3].registrationId: 'good-1' is ordered by devices[0] already; give each device once",
    ]
    assert reasons[4:] == [
        "devices[4].csr: block 1 of the PEM, NONSENSE, has no '-----END NONSENSE-----'",
        "devices[5].csr: the CSR's signature is wrong, so it does not prove possession of its key",
        "devices[6].csr: the CSR's RSA key has 1024 bits; at least 2048 are needed",
        "devices[7].csr: the CSR's CN is 'somebody-else', and the registration id is 'bad-8'; they must be the same",
        "devices[8].colour: is not a known field; known are csr, initialTwin, keyAlgorithm, registrationId, tags",
        None,
        "devices[10]: must be a JSON object, and is a string",
    ]


def test_the_same_order_again_changes_nothing_and_other_content_is_refused(world: World) -> None:
    """An orderId stands for its content: sent again it is the same order, with other content it is refused."""
    world.post_message("device-orders", order("same-order", {"registrationId": "same-1"}))
    first = until(
        "the order is complete",
        lambda: world.get("device-orders/same-order", missing={}),
        lambda body: body.get("state") == "completed",
    )
    world.post_message("device-orders", order("same-order", {"registrationId": "same-1"}))
    world.post_message("device-orders", order("same-order", {"registrationId": "same-2"}))
    reasons = rejection_of(world, "same-order")
    assert reasons[0]["field"] == "orderId"
    assert reasons[0]["message"].endswith("with other content; a changed order needs a new orderId")
    assert world.get("device-orders/same-order") == first
    refused = world.post("device-orders", order("same-order", {"registrationId": "same-2"}))
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"


def test_a_device_of_another_order_is_not_taken(world: World) -> None:
    """A device that one order has registered fails in another order, which says what to do."""
    for name, end in {"first": "completed", "second": "completedWithFailures"}.items():
        world.post_message("device-orders", order(f"taken-{name}", {"registrationId": "taken"}))
        until(
            f"{name} is complete",
            lambda name=name: world.get(f"device-orders/taken-{name}", missing={}),  # type: ignore[misc]
            lambda body, end=end: body.get("state") == end,  # type: ignore[misc]
        )
    line = world.get("device-orders/taken-second")["devices"][0]
    assert line["state"] == "failed"
    assert line["reason"] == (
        "devices[0].registrationId: 'taken' is registered through order 'taken-first'; renew it, or revoke and delete "
        "it before ordering it again"
    )


def test_more_than_fits_a_queue_is_refused_where_it_goes_through_one(world: World) -> None:
    """A request over 48 KiB is refused; an order is kept as a list instead, and a file goes through no queue."""
    answer = world.post("revocations", {"requestId": "big", "registrationId": "a", "comment": "x" * 49152})
    assert answer.status_code == 400
    assert answer.json()["detail"].endswith(" bytes, at most 49152 are taken")
    body = {"pfx": b64encode(bytes(64 * 1024)).decode()}
    answer = world.post("certificate-authorities/too-large/import", body)
    assert answer.json()["errors"][0]["field"] == "pfx"
    answer = world.post("certificate-authorities/too-large/import", {"pfx": body["pfx"] * 2})
    assert answer.json()["detail"] == "the body has 174779 bytes, at most 131072 are taken"


def test_a_group_beyond_the_limit_of_dps_is_refused(world: World) -> None:
    """The 101st enrollment group is refused with the limit, before a CA is made for it."""
    table = world.table("groups")
    with table:
        present = sum(entity["state"] != "deleted" for entity in table.list_entities())
        rows = [
            {
                "PartitionKey": "group",
                "RowKey": f"filler-{index:03d}",
                "enrollmentGroup": f"filler-{index:03d}",
                "state": "disabled",
                "issuer": "none",
                "updatedAt": "2026-01-01T00:00:00Z",
                "lastRequest": "none",
                "generation": 1,
            }
            for index in range(100 - present)
        ]
        for row in rows:
            table.create_entity(row)
        try:
            request = {"requestId": "one-too-many", "enrollmentGroup": "group-101", "action": "create"}
            world.post_message("enrollment-group-requests", request)
            reasons = rejection_of(world, "one-too-many")
        finally:
            for row in rows:
                table.delete_entity(row)
    assert reasons == [
        {
            "field": "enrollmentGroup",
            "message": "the DPS has 100 enrollment groups and takes 100; delete one, or use another DPS",
        }
    ]
    assert world.get("certificate-authorities/group-101-ca1", missing=None) is None


def test_http_refusals_name_field_and_rule(world: World) -> None:
    """HTTP answers bad input with a problem document whose errors name the fields."""
    answer = world.post("device-orders", {"orderId": "a b", "enrollmentGroup": GROUP, "devices": [{}]})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"] == [
        {
            "field": "orderId",
            "message": "'a b' is not a valid id: 1 to 128 letters, digits and - . _ :, the first a letter or a digit",
        }
    ]
    assert world.request("GET", "devices/unknown").status_code == 404
    assert world.request("GET", "devices?state=happy").json()["errors"][0]["field"] == "state"
    assert world.request("GET", "devices", headers={"x-functions-key": "wrong"}).status_code == 401


@pytest.mark.parametrize("path", ["devices", "rejections", f"enrollment-groups/{GROUP}/registrations"])
@pytest.mark.parametrize("token", ["zzz", "a\nb\nc", "a\nb", "\u212a"])
def test_a_made_up_continuation_fails_nothing(world: World, path: str, token: str) -> None:
    """What is none is refused by its name, and what might be one gives a page."""
    answer = world.request("GET", path, params={"continuationToken": token})
    assert answer.status_code in ({200, 400} if token == "a\nb" else {400}), answer.text


def test_json_that_is_too_deep_is_bad_input(world: World) -> None:
    """Over HTTP and through a queue: it is refused at once, and fails neither the app nor its poison functions."""
    too_deep = "more than 64 arrays and objects are nested; at most 64 are read"
    twin = '{"a":' * 900 + "1" + "}" * 900
    for body in ("[" * 30_000, json.dumps(order("deep", {"registrationId": "a"})).replace('"a"', twin)):
        answer = world.request("POST", "device-orders", data=body)
        assert (answer.status_code, answer.json()["detail"]) == (400, f"the body is not valid JSON: {too_deep}")
    message = "[" * 20_000
    world.post_message("device-orders", message)
    found = until(
        "the rejection",
        lambda: [each for each in world.get("rejections?pageSize=1000")["items"] if each["body"] == message],
        bool,
    )[0]
    assert found["reasons"] == [{"field": "", "message": f"the message is not valid JSON: {too_deep}"}]
    assert found["kind"] == "rejected"


def test_what_can_be_seen_not_to_succeed_is_refused_at_once(world: World) -> None:
    """With the status of its cause and the field; it is not a request then, and its id is free."""
    ordered(world, "refused-1")
    world.followed(world.request("PUT", "enrollment-groups/refusing", json={}))
    world.followed(world.post("enrollment-groups/refusing/disable"))
    device = {"registrationId": "refused-2"}
    elsewhere, here = "https://elsewhere.blob.core.windows.net", world.upload("orders", "refused.csv", b"x")
    cases: list[tuple[str, str, dict[str, Any] | None, int, str]] = [
        (
            "POST",
            "certificate-authorities",
            {"kind": "root", "name": "r", "keyAlgorithm": "RSA-1"},
            400,
            "keyAlgorithm",
        ),
        ("POST", "certificates", {"kind": "device", "name": "d", "issuer": "none"}, 404, "issuer"),
        ("PUT", "enrollment-groups/refused", {"issuer": "none"}, 404, "issuer"),
        ("POST", "enrollment-groups/none/disable", None, 404, "enrollmentGroup"),
        ("POST", "enrollment-groups/none/renew", {}, 404, "enrollmentGroup"),
        ("POST", "enrollment-groups/refusing/renew", {}, 409, "enrollmentGroup"),
        ("POST", "device-orders", order("refused", device, enrollmentGroup="none"), 404, "enrollmentGroup"),
        ("POST", "device-orders", order("refused", device, enrollmentGroup="refusing"), 409, "enrollmentGroup"),
        ("POST", "device-orders", order("refused", {"registrationId": "a b"}), 400, "devices[0].registrationId"),
        ("POST", "device-orders", listed("refused", f"{elsewhere}/orders/a.csv"), 400, "devicesUrl"),
        ("POST", "device-orders", listed("refused", here.replace("refused.csv", "none.csv")), 404, "devicesUrl"),
        ("POST", "device-orders/none/cancel", None, 404, "orderId"),
        ("POST", "devices/none/renew", {}, 404, "registrationId"),
        ("POST", "devices/refused-1/renew", {"csr": "x"}, 400, "csr"),
        ("POST", "devices/refused-1/reinstate", None, 409, "action"),
    ]
    found = []
    for number, (method, path, body, status, field) in enumerate(cases):
        key = f"refused-{number}"
        answer = world.request(method, path, json=body, headers={"Idempotency-Key": key})
        fields = [each["field"] for each in answer.json().get("errors", [])]
        if (answer.status_code, fields[:1]) != (status, [field]):
            found.append(f"{method} {path}: {answer.text}")
        assert world.get(f"requests/{key}", missing=None) is None, path
    assert found == []
    assert world.get("device-orders/refused", missing=None) is None


def listed(order_id: str, url: str) -> dict[str, Any]:
    return {"orderId": order_id, "enrollmentGroup": GROUP, "devicesUrl": url}


def test_a_token_opens_what_its_roles_are_for(stack_and_world: tuple[Stack, World]) -> None:
    """From the emulated sign-in to the app: who it is, what they may do, and what the audit log has of it."""
    stack, world = stack_and_world
    endpoints = stack.endpoints
    body = {"kind": "user", "name": "ada@example.com", "roles": ["Fleet.Read"], "audience": AUDIENCE}
    token = requests.post(f"{endpoints.emulator_admin_url}/tokens", json=body, timeout=10).json()["access_token"]
    bearer = {"authorization": f"Bearer {token}", "x-functions-key": ""}
    if not endpoints.zones:
        told = requests.get(f"{endpoints.functions_url}/.auth/me", headers=bearer, timeout=10)
        assert told.json()[0]["user_id"] == "ada@example.com"
    forged = {**bearer, "x-ms-client-principal": "Zm9yZ2Vk"}
    assert world.request("GET", "device-orders", headers=forged).status_code == 200
    refused = world.request("DELETE", "enrollment-groups/nobodys", headers=bearer)
    assert (refused.status_code, refused.json()["detail"]) == (403, "this needs the role Groups.Manage")
    [entry] = world.get("audit?action=delete_enrollment_group&pageSize=1")["items"]
    assert (entry["actor"]["kind"], entry["actor"]["name"], entry["outcome"]) == ("user", "ada@example.com", "denied")
