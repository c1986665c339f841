"""Four trust zones: each passes with its roles, and fails without any one of them.

Azurite and the emulator let each zone's identity do what its roles in infra/zones.json allow, and keep a record of which
role decided what. So it is seen which roles are needed, and that none is missing.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import requests
from azure.storage.queue import QueueServiceClient
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

from devstack import zones
from devstack.outside import until
from devstack.zoned_stack import ZonedStack
from shared.rules.zones import Zone
from tests.end_to_end.conftest import GROUP, SETTINGS, running
from tests.end_to_end.test_api import booted, ordered, wait_for_state
from tests.end_to_end.test_drift import compared
from tests.end_to_end.test_groups import created
from tests.end_to_end.test_owner_pki import corporate_root
from tests.end_to_end.test_revocation_status import asked, chain_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devstack.outside import World

SAID = zones.read_zones()
WITHOUT = {"EVENT_TOPIC_URL"}
"""Settings that the local cloud has nothing to set to; their roles are not needed here."""

ASSIGNMENTS = [
    (zone, each["role"], each["scope"])
    for zone, said in SAID["zones"].items()
    for each in said["roles"]
    if each.get("onlyWith") not in WITHOUT
]
ACCOUNTS = {"device-orders": "erp", "revocation-requests": "soc"}
"""Queues that have a storage account of their own here; without ZONES the other tests have them all in one."""

WRITES_ONLY = ("intake", "tableContributor", "requestsTable")
"""Readiness reads, and what this zone reads it may read by another role."""

APPENDS_ONLY = ("intake", "auditAppender", "auditTable")
"""The same; and what is denied stays denied, whether it can be written down or not."""

_QUEUES = "Microsoft.Storage/storageAccounts/queueServices/queues"
_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
_DPS = "Microsoft.Devices/provisioningServices"
NOT_SEEN_HERE: Mapping[str, str] = {
    f"issuing {_QUEUES}/messages/read": "the platform looks at the first message to decide how many workers to start",
    f"revocation {_QUEUES}/messages/read": "the same",
    f"revocation {_QUEUES}/messages/add/action revocation-requests-poison": "the host, after five failed tries",
    f"issuing {_BLOBS}/delete": "the list of an order that came over HTTP, a while after the order has ended",
    "issuing Microsoft.KeyVault/vaults/secrets/readMetadata/action": "a sweep that looks for passwords nobody fetches",
    "issuing Microsoft.KeyVault/vaults/secrets/delete": "the password of a bundle that is not to be fetched any more",
    f"issuing {_DPS}/registrationStates/delete": "a device that is deleted while it is being registered",
    "issuing Microsoft.Devices/IotHubs/devices/delete": "the same",
    "issuing Microsoft.Devices/IotHubs/devices/write": "a device that is revoked while it is being registered",
    "revocation Microsoft.KeyVault/vaults/keys/unwrap/action": "a CRL of a CA whose key is wrapped",
}
"""Actions of roles of our own that nothing in here comes to, and what does."""


@dataclass(frozen=True)
class Zoned:
    """A stack in four zones that was put to use."""

    stack: ZonedStack
    world: World

    def decisions(self) -> list[dict[str, str]]:
        """Give what was decided so far."""
        lines = self.stack.decisions_file.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def withhold(self, *assignment: str) -> None:
        """Give every zone all of its roles but this one."""
        held = zones.roles(SAID, without=lambda *each: each == assignment, queue_accounts=ACCOUNTS)
        before = self.stack.roles_file.stat().st_mtime_ns
        self.stack.roles_file.write_text(json.dumps(held), encoding="utf-8")
        os.utime(self.stack.roles_file, ns=(before + 1, before + 1))

    def readiness(self, zone: str) -> tuple[int, Mapping[str, str]]:
        """Ask a zone, and not the gateway, whether it is ready; 0 stands for a host that is being started anew."""
        endpoints = self.stack.endpoints
        try:
            answer = requests.get(
                f"{endpoints.zones[zone]}/api/health/ready",
                headers={"x-functions-key": endpoints.function_key},
                timeout=60,
            )
        except requests.ConnectionError:
            return 0, {}
        # Without its dependencies it is an answer of the host, which has its worker not yet or no longer.
        dependencies = answer.json().get("dependencies", {})
        if dependencies:
            self.world.on_answer(answer)
        return answer.status_code, dependencies


@pytest.fixture(scope="module")
def zoned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoned]:
    """Four zones, after everything was asked of them that needs a right; two senders have accounts of their own."""
    settings = {**SETTINGS, "QUEUE_SENDERS": "device-orders=SAP ERP"}
    folder = tmp_path_factory.mktemp("zones")
    with running(folder, kind=ZonedStack, settings=settings, queue_accounts=ACCOUNTS) as (stack, world):
        assert isinstance(stack, ZonedStack)
        subject = Zoned(stack, world)
        for use in (orders, status, revocations, enrollments, authorities, replay, reconciliation):
            use(world)
        denied(subject)
        for zone in SAID["zones"]:
            assert subject.readiness(zone)[0] == requests.codes.ok, subject.readiness(zone)
        yield subject


def orders(world: World) -> None:
    """Intake and issuing: orders by queue, by HTTP and by list; a bundle; a renewal, and one that is denied."""
    ordered(world, "apart-1")
    booted(world, "apart-1")
    body = {"orderId": "apart-http", "enrollmentGroup": GROUP, "devices": [{"registrationId": "apart-2"}]}
    assert world.post("device-orders", body).status_code == 202
    url = world.upload("orders", "apart.csv", b"registrationId\napart-3\n")
    world.post_message("device-orders", {"orderId": "apart-list", "enrollmentGroup": GROUP, "devicesUrl": url})
    uploaded = world.request(
        "POST",
        "device-orders",
        params={"orderId": "apart-csv", "enrollmentGroup": GROUP},
        data=b"registrationId\napart-7\n",
        headers={"Content-Type": "text/csv"},
    )
    assert world.followed(uploaded)["state"] == "done"
    for name in ("apart-2", "apart-3", "apart-7"):
        wait_for_state(world, name, "registered")
    assert world.post("devices/apart-2/renew").status_code == 202
    denied = world.request("POST", "devices/apart-2/renew", headers={"x-functions-key": "wrong"})
    assert denied.status_code == 401
    twin = {"tags": {"line": 1}}
    order = {"orderId": "apart-twin", "enrollmentGroup": GROUP}
    world.post_message("device-orders", {**order, "devices": [{"registrationId": "apart-4", "initialTwin": twin}]})
    wait_for_state(world, "apart-4", "registered")


def status(world: World) -> None:
    """The public zone: a CRL, the certificate of a CA, and OCSP by a responder that issuing has made."""
    issuer = world.get("devices/apart-1")["certificate"]["issuer"]
    chain = chain_of(world, "apart-1")
    assert world.anonymous(f"ca/{issuer}.cer") == chain[1].public_bytes(Encoding.DER)
    assert world.anonymous(f"crl/{issuer}.crl")
    answer = until(
        "the responder is there",
        lambda: asked(world, issuer, chain),
        lambda answer: answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL,
    )
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD


def revocations(world: World) -> None:
    """Revocation: a signed webhook, an operator's switch, a deletion, and a whole group at once."""
    assert world.post("devices/apart-3/disable").status_code == 200
    assert world.request("DELETE", "devices/apart-3/identity").status_code == 204
    world.post("devices/apart-2/revoke", {"reason": "keyCompromise"})
    wait_for_state(world, "apart-2", "revoked")
    assert world.request("DELETE", "devices/apart-4").status_code == 202
    wait_for_state(world, "apart-4", "deleted")
    created(world, "apart")
    ordered(world, "apart-5", "apart-6", group="apart")
    world.post_message("revocation-requests", {"requestId": "a", "enrollmentGroup": "apart", "reason": "superseded"})
    for name in ("apart-5", "apart-6"):
        wait_for_state(world, name, "revoked")
    world.post("devices/apart-1/revoke", {"reason": "certificateHold"})
    wait_for_state(world, "apart-1", "revoked")
    world.post("devices/apart-1/reinstate")
    wait_for_state(world, "apart-1", "registered")


def enrollments(world: World) -> None:
    """Issuing: an enrollment of one device's own, a group that is deleted, and what DPS knows of a chain."""
    pem = world.device("apart-7").sign_itself()
    assert world.request("PUT", "enrollments/apart-7", json={"certificate": pem}).status_code == 201
    assert world.request("DELETE", "enrollments/apart-7").status_code == 204
    created(world, "apart-gone")
    assert world.request("DELETE", "enrollment-groups/apart-gone").status_code == 202
    until("gone", lambda: world.get("enrollment-groups/apart-gone", missing=None), lambda found: found is None)
    created(world, "apart-hub", iotHubs=[world.hub_name])


def authorities(world: World) -> None:
    """Issuing: a CA whose key is wrapped, and one that is imported and revoked, which frees its places."""
    created(world, "apart-volume", custody="wrapped")
    ordered(world, "apart-8", group="apart-volume")
    key, certificate = corporate_root("Apart Root")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    answer = world.post("certificate-authorities/apart-root/import", {"pem": pem.decode()})
    assert answer.status_code == 201, answer.text
    revoked = world.post("certificate-authorities/apart-root/revoke", {"reason": "cessationOfOperation"})
    assert world.followed(revoked)["state"] == "done"


def replay(world: World) -> None:
    """Issuing: a revocation that was refused goes back into its queue."""
    body = {"requestId": "apart-nobody", "registrationId": "apart-nobody", "reason": "superseded"}
    world.post_message("revocation-requests", body)
    [found] = until(
        "refused",
        lambda: [each for each in world.get("rejections")["items"] if "apart-nobody" in each["body"]],
        lambda found: len(found) == 1,
    )
    assert world.post(f"rejections/{found['id']}/replay").status_code == 202


def reconciliation(world: World) -> None:
    """Issuing: a group's devices are compared with DPS and their hubs; the timer may not come to it in this time."""
    compared(world, enrollmentGroup="apart-volume")


def denied(zoned: Zoned) -> None:
    """Intake: a try that is denied is written down."""
    key = zoned.stack.endpoints.role_keys["Fleet.Read"]
    order = {"orderId": "apart-denied", "enrollmentGroup": GROUP, "devices": [{"registrationId": "apart-9"}]}
    answer = zoned.world.request("POST", "device-orders", json=order, headers={"x-functions-key": key})
    assert answer.status_code == requests.codes.forbidden


def test_no_zone_asks_for_more_than_its_roles_allow(zoned: Zoned) -> None:
    """Everything was carried out, and nothing was refused on the way."""
    assert [each for each in zoned.decisions() if "denied" in each] == []


def test_every_role_of_every_zone_is_needed(zoned: Zoned) -> None:
    """A role that decided nothing is one too many."""
    deciding = {(each["identity"], each["role"], each["scope"]) for each in zoned.decisions() if "role" in each}
    assert [each for each in ASSIGNMENTS if each not in deciding] == []


def test_every_action_of_a_role_of_our_own_is_needed(zoned: Zoned) -> None:
    """A built-in role is as it is; in one of our own each action decided something, or it is said what comes to it."""
    used: set[tuple[str, str]] = set()
    for each in zoned.decisions():
        if "role" in each:
            used |= {(f"{each['identity']} {each['role']}", each["action"].lower())}
    unused = {
        f"{zone} {action}"
        for zone, role, _ in ASSIGNMENTS
        if "custom" in SAID["roles"][role]
        for action in (*SAID["roles"][role]["actions"], *SAID["roles"][role]["dataActions"])
        if (f"{zone} {role}", action.lower()) not in used
    }
    assert sorted(unused - set(NOT_SEEN_HERE)) == []


def test_a_queue_in_an_account_of_its_own_names_its_sender(zoned: Zoned) -> None:
    """What came by it says which account, and who puts messages there as the settings say; the other has no name."""
    [accepted] = [
        each for each in zoned.world.events("DeviceProvisioning.OrderAccepted") if each["subject"] == "apart-list"
    ]
    known = {"kind": "queue", "id": "device-orders", "account": "erp", "name": "SAP ERP", "source": None}
    assert {name: accepted["data"]["actor"][name] for name in known} == known
    revoked = zoned.world.get("audit?device=apart-5&action=revoke")["items"][0]["actor"]
    assert (revoked["id"], revoked["account"], revoked["name"]) == ("revocation-requests", "soc", None)


def test_what_fails_in_an_account_of_its_own_is_kept_and_can_not_do_what_its_queue_is_not_for(zoned: Zoned) -> None:
    """A message in the poison queue there becomes a rejection, and an order's queue revokes nothing."""
    order = {"orderId": "apart-poisoned", "enrollmentGroup": GROUP, "devices": [{"registrationId": "apart-10"}]}
    zoned.world.post_message("device-orders-poison", order)
    cancel = {"requestId": "apart-cancel", "orderId": "apart-list", "action": "cancel", "issued": "revoke"}
    zoned.world.post_message("device-orders", cancel)
    kept = until(
        "both are rejections",
        lambda: {
            name: each
            for each in zoned.world.get("rejections?queue=device-orders")["items"]
            for name in ("apart-poisoned", "apart-cancel")
            if name in each["body"]
        },
        lambda found: len(found) == 2,
    )
    assert (kept["apart-poisoned"]["kind"], kept["apart-cancel"]["kind"]) == ("poison", "rejected")
    assert kept["apart-cancel"]["reasons"][0]["message"].startswith(
        "a message in device-orders can't have devices revoked"
    )
    assert zoned.world.post(f"rejections/{kept['apart-poisoned']['id']}/replay").status_code == 202
    wait_for_state(zoned.world, "apart-10", "registered")


@pytest.mark.parametrize("assignment", ASSIGNMENTS, ids=" ".join)
def test_a_zone_without_one_of_its_roles_says_so(zoned: Zoned, assignment: tuple[str, str, str]) -> None:
    """Its readiness fails, or its host can't go on; with the role it is ready again."""
    zone, *_ = assignment
    zoned.withhold(*assignment)
    try:
        if assignment == WRITES_ONLY:
            assert zoned.world.post("devices/apart-1/renew").status_code == requests.codes.unavailable
        elif assignment == APPENDS_ONLY:
            denied(zoned)
        else:
            until("not ready", lambda: zoned.readiness(zone), lambda found: found[0] == requests.codes.unavailable)
    finally:
        zoned.withhold()
    assert [each["identity"] for each in zoned.decisions() if "denied" in each][-1] == zone
    until("ready", lambda: zoned.readiness(zone), lambda found: found[0] == requests.codes.ok)


def test_the_gateway_sends_each_call_to_its_zone_and_a_zone_has_no_others(zoned: Zoned) -> None:
    """What is another zone's does not exist there."""
    endpoints = zoned.stack.endpoints
    headers = {"x-functions-key": endpoints.function_key}
    for zone in (Zone.STATUS, Zone.REVOCATION):
        url = f"{endpoints.zones[zone.value]}/api/certificate-authorities"
        assert requests.get(url, headers=headers, timeout=60).status_code == requests.codes.not_found
    assert zoned.world.request("GET", "certificate-authorities").status_code == requests.codes.ok


def test_the_owner_may_do_everything_with_the_accounts_key(zoned: Zoned) -> None:
    """Requests that are signed arrive as they were sent, with a body or without."""
    endpoints = zoned.stack.endpoints
    with QueueServiceClient.from_connection_string(
        endpoints.storage_connection_string, connection_verify=endpoints.tls_ca_file
    ) as service:
        queue = service.create_queue("of-the-owner")
        queue.send_message("here")
        assert [each.content for each in queue.receive_messages()] == ["here"]
        service.delete_queue("of-the-owner")


def test_storage_refuses_in_its_own_words(zoned: Zoned) -> None:
    """An identity without the right gets 403 with the code of the storage services."""
    refused = b64encode(b"{}").decode()
    endpoints = zoned.stack.endpoints
    identity = requests.get(
        endpoints.identity_endpoint,
        params={
            "api-version": "2019-08-01",
            "resource": "https://storage.azure.com",
            "client_id": zones.client_id(Zone.STATUS),
        },
        headers={"X-IDENTITY-HEADER": endpoints.identity_header},
        timeout=60,
    ).json()
    answer = requests.post(
        f"{endpoints.queue_service_url}/device-orders/messages",
        data=f"<QueueMessage><MessageText>{refused}</MessageText></QueueMessage>",
        headers={"Authorization": f"Bearer {identity['access_token']}", "x-ms-version": "2024-11-04"},
        verify=endpoints.tls_ca_file,
        timeout=60,
    )
    assert answer.status_code == requests.codes.forbidden
    assert answer.headers["x-ms-error-code"] == "AuthorizationPermissionMismatch"
    assert "<Code>AuthorizationPermissionMismatch</Code>" in answer.text
