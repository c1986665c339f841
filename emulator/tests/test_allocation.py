"""Where devices go and what moves with them: reprovision policies, and custom allocation by a webhook."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import requests

from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService, HttpsDevice
from emulator.tests.iot_hub_clients import PATIENCE
from emulator.tests.running import RunningEmulator, emulator_in_thread, own_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = make("allocation root", ca=True)
INITIAL = {"tags": {"line": "a"}, "properties": {"desired": {"pace": 1}}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator with two hubs."""
    folder = tmp_path_factory.mktemp("allocation")
    with emulator_in_thread(folder, extra_hub_addresses=[own_address()]) as emulator:
        DpsService(emulator).verified("root", ROOT)
        yield emulator


@pytest.fixture
def hosts(running: RunningEmulator) -> list[str]:
    return [hub["hostName"] for hub in running.endpoints["iotHubs"]]


def enroll(running: RunningEmulator, hub: str, **fields: Any) -> None:
    """Send the devices of the group to one hub."""
    fields = {"allocationPolicy": "static", "iotHubs": [hub], "initialTwin": INITIAL, **fields}
    DpsService(running).group("moving", ROOT, **fields)


def lived_twin(running: RunningEmulator, device_id: str) -> dict[str, Any]:
    """Change the device's twin at the first hub, as life does, and give it."""
    change = {"tags": {"line": "b"}, "properties": {"desired": {"pace": 2}}}
    twin: dict[str, Any] = DpsService(running).hub("PATCH", f"/twins/{device_id}", change).json()
    return twin


def without_metadata(twin: dict[str, Any]) -> tuple[Any, Any]:
    desired = twin["properties"]["desired"]
    return twin["tags"], {name: value for name, value in desired.items() if not name.startswith("$")}


# --- reprovision policies ---


def test_a_device_that_moves_takes_its_twin_along(running: RunningEmulator, hosts: list[str], tmp_path: Path) -> None:
    """With migrateDeviceData the twin goes as it is, versions included, and the old hub forgets the device."""
    enroll(running, hosts[0])
    device = HttpsDevice(running, "mover", make("mover", ROOT).files(tmp_path))
    assert device.registered()["substatus"] == "initialAssignment"
    lived = lived_twin(running, "mover")
    enroll(running, hosts[1])
    state = device.registered()
    assert (state["assignedHub"], state["substatus"]) == (hosts[1], "deviceDataMigrated")
    service = DpsService(running)
    moved = service.hub("GET", "/twins/mover", hub=1).json()
    assert without_metadata(moved) == ({"line": "b"}, {"pace": 2})
    assert (moved["version"], moved["properties"]) == (lived["version"], lived["properties"])
    assert service.hub("GET", "/devices/mover").status_code == 404
    assert service.hub("GET", "/twins/mover").status_code == 404


def test_a_device_that_is_reset_begins_anew(running: RunningEmulator, hosts: list[str], tmp_path: Path) -> None:
    """Without migrateDeviceData the twin is the enrollment's initial one, at another hub and at the same."""
    reset = {"reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": False}}
    enroll(running, hosts[0], **reset)
    device = HttpsDevice(running, "reset", make("reset", ROOT).files(tmp_path))
    device.registered()
    lived_twin(running, "reset")
    assert device.registered()["substatus"] == "reprovisionedToInitialAssignment"
    service = DpsService(running)
    assert without_metadata(service.hub("GET", "/twins/reset").json()) == ({"line": "a"}, {"pace": 1})
    lived_twin(running, "reset")
    enroll(running, hosts[1], **reset)
    assert device.registered()["substatus"] == "deviceDataReset"
    assert without_metadata(service.hub("GET", "/twins/reset", hub=1).json()) == ({"line": "a"}, {"pace": 1})
    assert service.hub("GET", "/devices/reset").status_code == 404


def test_a_device_that_is_never_reprovisioned_stays(running: RunningEmulator, hosts: list[str], tmp_path: Path) -> None:
    """Without updateHubAssignment a device keeps its hub and its twin, whatever the group says now."""
    never = {"reprovisionPolicy": {"updateHubAssignment": False, "migrateDeviceData": True}}
    enroll(running, hosts[0], **never)
    device = HttpsDevice(running, "stays", make("stays", ROOT).files(tmp_path))
    device.registered()
    lived_twin(running, "stays")
    enroll(running, hosts[1], **never)
    assert device.registered()["assignedHub"] == hosts[0]
    assert without_metadata(DpsService(running).hub("GET", "/twins/stays").json()) == ({"line": "b"}, {"pace": 2})


def test_a_hub_that_is_unlinked_gets_no_device_more(tmp_path: Path) -> None:
    """Its device stays until it registers again; no entry may name the hub; and the DPS shows what is linked."""
    with emulator_in_thread(tmp_path, extra_hub_addresses=[own_address()]) as running:
        first, second = (hub["hostName"] for hub in running.endpoints["iotHubs"])
        service = DpsService(running)
        service.verified("root", ROOT)
        service.group("moving", ROOT, allocationPolicy="static")
        device = HttpsDevice(running, "leaver", make("leaver", ROOT).files(tmp_path))
        assert device.registered()["assignedHub"] == first
        link = {"iotHubs": [second]}
        assert requests.put(f"{running.admin_url}/linked-hubs", json=link, timeout=PATIENCE).json() == link
        assert service.hub("GET", "/devices/leaver").status_code == 200
        named = {"enrollmentGroupId": "named", "attestation": {"type": "x509", "x509": {}}, "iotHubs": [first]}
        assert service.dps("PUT", "/enrollmentGroups/named", named).status_code == 400
        path, version = running.endpoints["dpsResourceId"], {"api-version": "2022-12-12"}
        shown = service.call("GET", path, resource="https://management.azure.com", **version).json()
        assert [each["name"] for each in shown["properties"]["iotHubs"]] == [second]
        assert device.registered()["assignedHub"] == second
        assert service.hub("GET", "/devices/leaver").status_code == 404


def test_a_dps_of_another_id_scope_is_another_one(tmp_path: Path) -> None:
    """It has no entry, no registration and no CA of the one before."""
    with emulator_in_thread(tmp_path) as before:
        service = DpsService(before)
        service.verified("root", ROOT)
        service.group("moving", ROOT)
        HttpsDevice(before, "stayer", make("stayer", ROOT).files(tmp_path)).registered()
    with emulator_in_thread(tmp_path) as same:
        assert DpsService(same).dps("GET", "/enrollmentGroups/moving").ok
    with emulator_in_thread(tmp_path, id_scope="0ne00000002") as after:
        service = DpsService(after)
        assert after.endpoints["idScope"] == "0ne00000002"
        for path in ("/enrollmentGroups/moving", "/registrations/stayer"):
            assert service.dps("GET", path).status_code == 404
        path, version = f"{after.endpoints['dpsResourceId']}/certificates", {"api-version": "2022-12-12"}
        assert service.call("GET", path, resource="https://management.azure.com", **version).json() == {"value": []}


# --- custom allocation ---


class Webhook:
    """The user's function: answers as told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status = 200
        self.answer: Any = {}
        self.url = ""


@contextmanager
def listening(webhook: Webhook) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            webhook.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps(webhook.answer).encode()
            self.send_response(webhook.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        webhook.url = f"http://127.0.0.1:{server.server_port}/api/allocate"
        try:
            yield
        finally:
            server.shutdown()
            thread.join(PATIENCE)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    with listening(made):
        yield made


def enroll_with(running: RunningEmulator, webhook: Webhook, hosts: list[str]) -> None:
    definition = {"webhookUrl": webhook.url, "apiVersion": "2021-10-01"}
    fields = {"allocationPolicy": "custom", "iotHubs": hosts, "customAllocationDefinition": definition}
    DpsService(running).group("custom", ROOT, initialTwin=INITIAL, **fields)


def test_a_webhook_chooses_hub_twin_and_payload(
    running: RunningEmulator, hosts: list[str], webhook: Webhook, tmp_path: Path
) -> None:
    """It is asked as documented, and what it answers becomes hub, twin and the device's payload."""
    enroll_with(running, webhook, hosts)
    twin = {"tags": {"kind": "toaster"}, "properties": {"desired": {"dark": True}}}
    webhook.answer = {"iotHubHostName": hosts[1], "initialTwin": twin, "payload": {"welcome": 1}}
    device = HttpsDevice(running, "toaster", make("toaster", ROOT).files(tmp_path))
    state = device.registered(payload={"model": 7})
    assert (state["assignedHub"], state["payload"]) == (hosts[1], {"welcome": 1})
    found = DpsService(running).hub("GET", "/twins/toaster", hub=1).json()
    assert without_metadata(found) == ({"kind": "toaster"}, {"dark": True})
    [asked] = webhook.asked
    assert set(asked) == {"enrollmentGroup", "deviceRuntimeContext", "linkedHubs"}
    assert asked["enrollmentGroup"]["enrollmentGroupId"] == "custom"
    assert asked["enrollmentGroup"]["customAllocationDefinition"]["webhookUrl"] == webhook.url
    assert asked["linkedHubs"] == hosts
    runtime = asked["deviceRuntimeContext"]
    assert set(runtime) == {"registrationId", "x509", "payload"}
    assert (runtime["registrationId"], runtime["payload"]) == ("toaster", {"model": 7})


def test_a_webhook_is_told_where_the_device_is(
    running: RunningEmulator, hosts: list[str], webhook: Webhook, tmp_path: Path
) -> None:
    """At the next registration it learns the present hub and device id; without a twin of its own the old one moves."""
    enroll_with(running, webhook, hosts)
    device = HttpsDevice(running, "guest", make("guest", ROOT).files(tmp_path))
    webhook.answer = {"iotHubHostName": hosts[0]}
    device.registered()
    lived_twin(running, "guest")
    webhook.answer = {"iotHubHostname": hosts[1]}  # the documentation has both spellings
    assert device.registered()["substatus"] == "deviceDataMigrated"
    runtime = webhook.asked[1]["deviceRuntimeContext"]
    assert (runtime["currentIotHubHostName"], runtime["currentDeviceId"]) == (hosts[0], "guest")
    assert without_metadata(DpsService(running).hub("GET", "/twins/guest", hub=1).json())[1] == {"pace": 2}


def test_a_webhooks_twin_goes_before_migration(
    running: RunningEmulator, hosts: list[str], webhook: Webhook, tmp_path: Path
) -> None:
    """A device that moves begins with the twin that the webhook gives, whatever the reprovision policy says."""
    enroll_with(running, webhook, hosts)
    device = HttpsDevice(running, "renewed", make("renewed", ROOT).files(tmp_path))
    webhook.answer = {"iotHubHostName": hosts[0]}
    device.registered()
    lived_twin(running, "renewed")
    webhook.answer = {"iotHubHostName": hosts[1], "initialTwin": {"tags": {"fresh": True}}}
    assert device.registered()["substatus"] == "deviceDataReset"
    assert without_metadata(DpsService(running).hub("GET", "/twins/renewed", hub=1).json()) == ({"fresh": True}, {})


def test_a_webhook_that_refuses_fails_the_registration(
    running: RunningEmulator, hosts: list[str], webhook: Webhook, tmp_path: Path
) -> None:
    """The registration was accepted, and its operation says what failed; a device that had a hub keeps it."""
    enroll_with(running, webhook, hosts)
    webhook.status = 400
    device = HttpsDevice(running, "unwanted", make("unwanted", ROOT).files(tmp_path))
    state = device.registered()
    assert (state["status"], state["errorCode"]) == ("failed", 400207)
    assert state["errorMessage"] == "Custom allocation failed with status code: 400"
    assert DpsService(running).registration("unwanted")["status"] == "failed"
    webhook.status, webhook.answer = 200, {"iotHubHostName": hosts[0]}
    assert device.registered()["substatus"] == "initialAssignment"
    webhook.status = 500
    assert device.registered()["status"] == "failed"
    assert DpsService(running).registration("unwanted")["assignedHub"] == hosts[0]


@pytest.mark.parametrize("answer", [{"iotHubHostName": "elsewhere"}, {}, ["no object"]])
def test_a_webhook_that_names_no_linked_hub_fails_the_registration(
    running: RunningEmulator, hosts: list[str], webhook: Webhook, tmp_path: Path, answer: Any
) -> None:
    """Only a hub of the entry may be chosen; the message names what came and what was offered."""
    enroll_with(running, webhook, hosts)
    webhook.answer = answer
    state = HttpsDevice(running, "lost", make("lost", ROOT).files(tmp_path)).registered()
    named = answer.get("iotHubHostName") if isinstance(answer, dict) else None
    assert state["errorMessage"] == f"Custom allocation failed: IoT hub {named!r} is not one of {', '.join(hosts)}"


def test_a_webhook_that_is_not_there_fails_the_registration(
    running: RunningEmulator, hosts: list[str], tmp_path: Path
) -> None:
    """An address where nobody listens, and one that is none, each fail the registration and nothing else."""
    for url, reason in (("http://127.0.0.1:1/", "ClientConnectorError"), ("", "InvalidUrlClientError")):
        webhook = Webhook()
        webhook.url = url
        enroll_with(running, webhook, hosts)
        state = HttpsDevice(running, "alone", make("alone", ROOT).files(tmp_path)).registered()
        assert state["errorMessage"] == f"Custom allocation failed: {reason}"
