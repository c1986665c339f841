"""The device API of the emulated DPS over HTTPS, and registrations that take their time over every transport."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.iot.device import X509, ProvisioningDeviceClient

from emulator.tests.certificates import Party, make
from emulator.tests.dps_clients import DEVICE_VERSION, DpsService, HttpsDevice, MqttDevice
from emulator.tests.running import RunningEmulator, SetClock, emulator_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = make("device api root", ca=True)
ISSUING = make("device api issuing", ROOT, ca=True)
OPERATION_ID = re.compile(r"5\.[0-9a-f]{16}\.[0-9a-f-]{36}")
ERROR_FIELDS = {"errorCode", "trackingId", "message", "timestampUtc"}


def set_up(emulator: RunningEmulator) -> DpsService:
    service = DpsService(emulator)
    service.verified("device-api", ROOT)
    service.group("device-api", ISSUING)
    return service


@pytest.fixture
def service(emulator: RunningEmulator) -> DpsService:
    """A DPS with a group for the devices of these tests."""
    return set_up(emulator)


@pytest.fixture
def device_id() -> str:
    """An id that no other test has."""
    return f"device-{uuid.uuid4().hex[:8]}"


def device(emulator: RunningEmulator, device_id: str, folder: Path, party: Party | None = None) -> HttpsDevice:
    return HttpsDevice(emulator, device_id, (party or make(device_id, ISSUING)).files(folder))


def assigning(emulator: RunningEmulator, seconds: Any) -> requests.Response:
    return requests.put(f"{emulator.admin_url}/assigning", json={"seconds": seconds}, timeout=10)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def slow(tmp_path: Path, clock: SetClock) -> Iterator[RunningEmulator]:
    """An emulator where a registration takes ten seconds of a clock that stands still."""
    with emulator_in_thread(tmp_path, clock=clock) as running:
        set_up(running)
        assert assigning(running, 10).json() == {"seconds": 10.0}
        yield running


# --- HTTPS ---


def test_a_device_registers_over_https(
    emulator: RunningEmulator, service: DpsService, device_id: str, tmp_path: Path
) -> None:
    """A registration is accepted with 202, its operation then says the hub, and so does the registration state."""
    client = device(emulator, device_id, tmp_path)
    begun = client.register(payload={"model": 7})
    assert begun.status_code == 202
    assert begun.headers["Retry-After"] == "3"
    assert begun.headers["Location"] == begun.url.partition("?")[0]
    assert OPERATION_ID.fullmatch(begun.json()["operationId"])
    assert begun.json() == {"operationId": begun.json()["operationId"], "status": "assigning"}

    done = client.operation(begun.json()["operationId"])
    assert (done.status_code, done.json()["status"]) == (200, "assigned")
    state = done.json()["registrationState"]
    assert state["assignedHub"] == emulator.endpoints["iotHubs"][0]["hostName"]
    assert (state["deviceId"], state["substatus"]) == (device_id, "initialAssignment")
    assert state["x509"] == {"enrollmentGroupId": "device-api"}
    assert client.state().json() == state
    assert service.registration(device_id)["etag"] == state["etag"]


@pytest.mark.parametrize("version", ["2019-03-31", "2021-06-01"])
def test_both_versions_are_served(
    emulator: RunningEmulator, service: DpsService, device_id: str, tmp_path: Path, version: str
) -> None:
    """The versions that device SDKs and the how-to pages use are known."""
    del service
    answer = device(emulator, device_id, tmp_path).call("PUT", "/register", json={}, params={"api-version": version})
    assert answer.status_code == 202


def test_a_client_that_no_entry_lets_in_gets_401_with_the_documented_body(
    emulator: RunningEmulator, service: DpsService, device_id: str, tmp_path: Path
) -> None:
    """No certificate, a strange one and one without its chain are each answered, not cut off in the handshake."""
    del service
    own = make(device_id, ISSUING)
    for files, message in (
        (None, "Invalid certificate"),
        (make(device_id, make("strange", ca=True)).files(tmp_path), "CA certificate not found"),
        (own.files(tmp_path, chain=()), "CA certificate not found"),
        (make(f"{device_id}-other", ISSUING).files(tmp_path), "Invalid certificate"),
    ):
        answer = HttpsDevice(emulator, device_id, files).register()
        assert answer.status_code == 401
        assert set(answer.json()) == ERROR_FIELDS
        assert (answer.json()["errorCode"], answer.json()["message"]) == (401002, message)
        assert answer.headers["x-ms-error-code"] == "401002"


def test_an_operation_is_told_to_its_device_alone(
    emulator: RunningEmulator, service: DpsService, device_id: str, tmp_path: Path
) -> None:
    """Another device's certificate, or none, gets 401, and an operation that is not there 404."""
    del service
    client = device(emulator, device_id, tmp_path)
    operation_id = client.register().json()["operationId"]
    assert HttpsDevice(emulator, device_id, None).operation(operation_id).status_code == 401
    stranger = device(emulator, device_id, tmp_path, make(f"{device_id}-2", ISSUING))
    assert stranger.operation(operation_id).status_code == 401
    assert stranger.state().status_code == 401
    missing = client.operation("5.0.0")
    assert (missing.status_code, missing.json()["message"]) == (404, "Operation not found.")


def test_a_device_that_never_registered_has_no_state(
    emulator: RunningEmulator, service: DpsService, device_id: str, tmp_path: Path
) -> None:
    """The state of a registration that is not there is 404 with the service's code."""
    del service
    answer = device(emulator, device_id, tmp_path).state()
    assert (answer.status_code, answer.json()["errorCode"]) == (404, 404202)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"params": {}}, 400, "api-version is required, e.g. ?api-version=2021-10-01"),
        ({"data": b"no json"}, 400, "The registration is not valid JSON."),
        ({"data": b"[" * 30_000}, 400, "The registration is not valid JSON."),
        ({"data": b"[]"}, 400, "The registration must be a JSON object."),
        (
            {"json": {"registrationId": "else"}},
            400,
            "registrationId is 'else' in the body and 'careless' in the request.",
        ),
        ({"json": {"csr": "MII="}}, 501, "The emulator does not offer registrations with 'csr'."),
    ],
)
def test_a_request_that_breaks_a_rule_says_which(
    emulator: RunningEmulator, tmp_path: Path, options: dict[str, Any], status: int, message: str
) -> None:
    """A wrong version, body or id is refused in words, in the service's own error body."""
    answer = device(emulator, "careless", tmp_path).call("PUT", "/register", **options)
    assert (answer.status_code, answer.json()["message"]) == (status, message)


@pytest.mark.parametrize("registration_id", ["dotted.", "under_", "a b", "x" * 129])
def test_an_id_that_can_not_be_one_is_refused(emulator: RunningEmulator, tmp_path: Path, registration_id: str) -> None:
    """An id of other characters, or that ends with one it must not end with, neither registers nor is enrolled."""
    message = (
        f"registrationId {registration_id!r} is not valid: 1 to 128 letters, digits and - . _ :, the last a letter, digit "
        "or -."
    )
    answer = device(emulator, registration_id, tmp_path, make("any", ISSUING)).register()
    assert (answer.status_code, answer.json()["message"]) == (400, message)
    leaf = {"primary": {"certificate": ISSUING.pem}}
    body = {"registrationId": registration_id, "attestation": {"type": "x509", "x509": {"clientCertificates": leaf}}}
    enrolled = DpsService(emulator).dps("PUT", f"/enrollments/{registration_id}", body)
    assert (enrolled.status_code, enrolled.json()["message"]) == (400, message)


def test_another_id_scope_is_not_found(emulator: RunningEmulator, http: requests.Session) -> None:
    """A wrong ID scope names the right one."""
    url = f"{emulator.https_url}/0neOther/registrations/d/register"
    answer = http.put(url, params=DEVICE_VERSION, json={}, timeout=10)
    assert answer.status_code == 404
    assert answer.json()["message"] == "ID scope '0neOther' not found; here is '0ne00000001'."


# --- assigning ---


def test_a_registration_takes_as_long_as_it_is_told_to(
    slow: RunningEmulator, clock: SetClock, device_id: str, tmp_path: Path
) -> None:
    """Until the time is over, device and service are told "assigning" and when to ask again; then they see the hub."""
    client = device(slow, device_id, tmp_path)
    begun = client.register()
    assert (begun.status_code, begun.headers["Retry-After"]) == (202, "3")
    operation_id = begun.json()["operationId"]
    clock.pass_(8.5)
    waiting = client.operation(operation_id)
    assert (waiting.status_code, waiting.headers["Retry-After"]) == (202, "3")
    assert waiting.json() == {"operationId": operation_id, "status": "assigning"}
    assert client.state().json()["status"] == "assigning"
    seen = DpsService(slow).registration(device_id)
    assert seen["status"] == "assigning"
    assert "assignedHub" not in seen
    clock.pass_(1.5)
    assert client.operation(operation_id).json()["status"] == "assigned"
    assert DpsService(slow).registration(device_id)["assignedHub"] == slow.endpoints["iotHubs"][0]["hostName"]


def test_a_registration_takes_as_long_over_mqtt(
    slow: RunningEmulator, clock: SetClock, device_id: str, tmp_path: Path
) -> None:
    """Over MQTT the 202 and its retry-after are in the topic, and the operation is looked up by its id."""
    party = make(device_id, ISSUING)
    with MqttDevice(slow, device_id, party.files(tmp_path)).connected() as client:
        topic, body = client.ask("PUT/iotdps-register/?$rid=1")
        assert topic == "$dps/registrations/res/202/?$rid=1&retry-after=3"
        operation_id = json.loads(body)["operationId"]
        assert json.loads(body) == {"operationId": operation_id, "status": "assigning"}
        clock.pass_(10)
        topic, body = client.ask(f"GET/iotdps-get-operationstatus/?$rid=2&operationId={operation_id}")
        assert topic == "$dps/registrations/res/200/?$rid=2"
        assert json.loads(body)["registrationState"]["deviceId"] == device_id


@pytest.mark.parametrize("qos", [0, 1])
def test_answers_come_with_the_qos_that_was_granted(
    emulator: RunningEmulator, device_id: str, tmp_path: Path, qos: int
) -> None:
    """A client that subscribes at most once is not sent what it would have to acknowledge."""
    files = make(device_id, ROOT).files(tmp_path)
    with MqttDevice(emulator, device_id, files, qos=qos).connected() as client:
        client.ask("GET/iotdps-get-operationstatus/?$rid=1&operationId=none")
    assert client.qualities == [qos]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"csr": "MII="}', "registrations with 'csr'"),
        (b'{"tpm": {}}', "registrations with 'tpm'"),
    ],
)
def test_what_is_not_offered_does_not_let_a_device_ask_for_ever(
    emulator: RunningEmulator, tmp_path: Path, body: bytes, what: str
) -> None:
    """Microsoft's SDKs take a 5xx over MQTT for passing: the topic says 400, and the body what is missing."""
    files = make("missing", ISSUING).files(tmp_path)
    with MqttDevice(emulator, "missing", files).connected() as client:
        topic, answer = client.ask("PUT/iotdps-register/?$rid=1", body)
    assert topic == "$dps/registrations/res/400/?$rid=1"
    assert json.loads(answer)["errorCode"] == 501000
    assert json.loads(answer)["message"] == f"The emulator does not offer {what}."


def test_a_planned_status_comes_as_it_was_planned(
    fresh_emulator: RunningEmulator, device_id: str, tmp_path: Path
) -> None:
    """Also one that the emulator itself would not send."""
    plan = {"rules": [{"service": "dps_device", "operation": "register", "count": 1, "status": 501}]}
    requests.put(f"{fresh_emulator.admin_url}/faults", json=plan, timeout=10).raise_for_status()
    with MqttDevice(fresh_emulator, device_id, make(device_id, ISSUING).files(tmp_path)).connected() as client:
        topic, _ = client.ask("PUT/iotdps-register/?$rid=1")
    assert topic.startswith("$dps/registrations/res/501/?$rid=1")


def test_an_operation_outlives_a_restart(tmp_path: Path, device_id: str) -> None:
    """What was accepted before a restart is found after it, by the same operation id."""
    with emulator_in_thread(tmp_path) as running:
        set_up(running)
        client = device(running, device_id, tmp_path)
        operation_id = client.register().json()["operationId"]
    with emulator_in_thread(tmp_path) as running:
        client = device(running, device_id, tmp_path)
        assert client.operation(operation_id).json()["status"] == "assigned"


@pytest.mark.parametrize("seconds", [-1, "soon", 86_401, True])
def test_a_time_that_makes_no_sense_is_refused(emulator: RunningEmulator, seconds: Any) -> None:
    """The admin port says what would be right."""
    answer = assigning(emulator, seconds)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"seconds is {seconds!r}; it must be a number from 0 to 86400"


def test_microsofts_sdk_waits_for_an_assignment(
    fresh_emulator: RunningEmulator, device_id: str, tmp_path: Path
) -> None:
    """After a 202 the SDK asks again as told, and ends with the hub."""
    set_up(fresh_emulator)
    assigning(fresh_emulator, 0.5)
    certificate, key = make(device_id, ISSUING).files(tmp_path)
    client = ProvisioningDeviceClient.create_from_x509_certificate(
        provisioning_host=fresh_emulator.endpoints["dpsDeviceHost"],
        registration_id=device_id,
        id_scope=fresh_emulator.endpoints["idScope"],
        x509=X509(certificate, key),
        server_verification_cert=(tmp_path / "tls" / "ca.pem").read_text(),
    )
    result = client.register()
    assert result is not None
    assert result.registration_state is not None
    assert result.registration_state.assigned_hub == fresh_emulator.endpoints["iotHubs"][0]["hostName"]
