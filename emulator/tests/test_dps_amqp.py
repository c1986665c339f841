"""The device API of the emulated DPS over AMQP, with a client that says what Microsoft's SDKs for Node, C# and C say."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests

from emulator.protocols.amqp.composites import Properties
from emulator.protocols.amqp.messages import Message
from emulator.protocols.amqp.types import Int, Symbol
from emulator.tests.amqp_clients import RawClient, device_client
from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService, HttpsDevice
from emulator.tests.iot_hub_clients import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.tests.running import RunningEmulator

ROOT = make("amqp dps root", ca=True)
ISSUING = make("amqp dps issuing", ROOT, ca=True)
VERSION = {Symbol("com.microsoft:api-version"): "2019-03-31"}
SCOPE = "0ne00000001"


def set_up(emulator: RunningEmulator) -> None:
    service = DpsService(emulator)
    service.verified("amqp", ROOT)
    service.group("amqp", ISSUING)


@pytest.fixture(scope="module")
def dps(emulator: RunningEmulator) -> RunningEmulator:
    """An emulator with a group for the devices of these tests."""
    set_up(emulator)
    return emulator


@pytest.fixture
def device_id() -> str:
    return f"amqp-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def files(device_id: str, tmp_path: Path) -> tuple[str, str]:
    """The device's certificate with its chain, and its key."""
    return make(device_id, ISSUING).files(tmp_path)


@pytest.fixture
def faults(dps: RunningEmulator) -> Iterator[Any]:
    """Plans one fault of the device API; it is gone after the test."""

    def plan(**rule: Any) -> None:
        body = {"rules": [{"service": "dps_device", "count": 1, **rule}]}
        requests.put(f"{dps.admin_url}/faults", json=body, timeout=PATIENCE).raise_for_status()

    yield plan
    requests.delete(f"{dps.admin_url}/faults", timeout=PATIENCE)


def attach(client: RawClient, device_id: str, *, scope: str = SCOPE, properties: Any = VERSION) -> int:
    """Attach both links, as the SDKs do; gives the handle to send on."""
    address = f"{scope}/registrations/{device_id}"
    client.receiver(address, properties=properties)
    return client.sender(address, properties=properties)


def request(operation: str, body: bytes = b"", **properties: Any) -> Message:
    return Message(
        body=body,
        properties=Properties(correlation_id="correlation-1"),
        application_properties={
            "iotdps-operation-type": operation,
            **{f"iotdps-{name.replace('_', '-')}": value for name, value in properties.items()},
        },
    )


def answered(client: RawClient, handle: int, message: Message) -> tuple[Any, dict[Any, Any]]:
    """Send a request that is taken; gives the body of its answer and the answer's properties."""
    client.transfer(handle, message)
    _, answer = client.receive()
    assert client.told() is None
    assert answer.properties.correlation_id == message.properties.correlation_id
    return json.loads(answer.body), answer.application_properties


def register(client: RawClient, device_id: str, handle: int) -> dict[str, Any]:
    """Register to the end; gives the registration state."""
    begun, properties = answered(client, handle, request("iotdps-register", b"", forceRegistration=False))
    assert begun == {"operationId": begun["operationId"], "status": "assigning"}
    assert properties == {"retry-after": Int(3), "Retry-After": Int(3)}
    # Node sends a text, C# a value, C nothing: a look needs no body.
    look = request("iotdps-get-operationstatus", operation_id=begun["operationId"])
    done, properties = answered(client, handle, look)
    assert (done["operationId"], done["status"], properties) == (begun["operationId"], "assigned", {})
    state: dict[str, Any] = done["registrationState"]
    assert state["registrationId"] == device_id
    return state


@pytest.mark.parametrize("mechanism", [None, "ANONYMOUS", "EXTERNAL", "MSSBCBS"])
@pytest.mark.parametrize("websocket", [None, "/$iothub/websocket", "/"])
def test_a_device_registers_over_amqp(
    dps: RunningEmulator, device_id: str, files: tuple[str, str], mechanism: str | None, websocket: str | None
) -> None:
    """It is accepted first and then looked up, over TCP and websockets, with every kind of SASL and with none."""
    with device_client(dps, files, mechanism=mechanism, websocket=websocket) as client:
        state = register(client, device_id, attach(client, device_id))
        client.close()
    hub = dps.endpoints["iotHubs"][0]["hostName"]
    assert (state["assignedHub"], state["deviceId"], state["substatus"]) == (hub, device_id, "initialAssignment")
    assert DpsService(dps).registration(device_id)["etag"] == state["etag"]


@pytest.mark.parametrize("form", ["amqps://host/{}/registrations/{}", "/{}/registrations/{}/", "{}/Registrations/{}"])
def test_addresses_come_in_several_forms(
    dps: RunningEmulator, device_id: str, files: tuple[str, str], form: str
) -> None:
    """The SDK for C sends a whole URL."""
    address = form.format(SCOPE, device_id)
    with device_client(dps, files) as client:
        client.receiver(address, properties=VERSION)
        register(client, device_id, client.sender(address, properties=VERSION))


def test_a_payload_and_the_registration_state(dps: RunningEmulator, device_id: str, files: tuple[str, str]) -> None:
    """A body is read as over HTTPS, and the registration itself can be asked for."""
    with device_client(dps, files) as client:
        handle = attach(client, device_id)
        body = json.dumps({"registrationId": device_id, "payload": {"model": 7}}).encode()
        begun, _ = answered(client, handle, request("iotdps-register", body))
        assert begun["status"] == "assigning"
        state, _ = answered(client, handle, request("iotdps-get-registration"))
        assert (state["status"], state["deviceId"]) == ("assigned", device_id)


def test_an_operation_is_the_same_over_every_transport(
    dps: RunningEmulator, device_id: str, files: tuple[str, str]
) -> None:
    """What was begun over HTTPS is looked up over AMQP."""
    operation_id = HttpsDevice(dps, device_id, files).register().json()["operationId"]
    with device_client(dps, files) as client:
        look = request("iotdps-get-operationstatus", operation_id=operation_id)
        done, _ = answered(client, attach(client, device_id), look)
    assert done["status"] == "assigned"


def test_a_registration_can_be_answered_at_once(
    fresh_emulator: RunningEmulator, device_id: str, files: tuple[str, str]
) -> None:
    """With the variant of that name the first answer has the hub."""
    set_up(fresh_emulator)
    variants = {"dpsRegistration": "atOnce"}
    requests.put(f"{fresh_emulator.admin_url}/variants", json=variants, timeout=PATIENCE).raise_for_status()
    with device_client(fresh_emulator, files) as client:
        done, properties = answered(client, attach(client, device_id), request("iotdps-register"))
    assert (done["status"], properties) == ("assigned", {})


def test_a_device_that_no_entry_lets_in_is_rejected_with_the_documented_body(
    dps: RunningEmulator, device_id: str, files: tuple[str, str], tmp_path: Path
) -> None:
    """No certificate, a strange one and another's are told so when they register, in the service's own body."""
    strange = make(device_id, make("strange", ca=True)).files(tmp_path)
    for shown, named, message in (
        (None, device_id, "Invalid certificate"),
        (strange, device_id, "CA certificate not found"),
        (files, f"{device_id}-2", "Invalid certificate"),
    ):
        with device_client(dps, shown) as client:
            handle = attach(client, named)
            for operation in ("iotdps-register", "iotdps-get-operationstatus", "iotdps-get-registration"):
                error = client.rejection(handle, request(operation))
                body = json.loads(error.description or "")
                assert (error.condition, error.info) == ("amqp:unauthorized-access", None)
                assert set(body) == {"errorCode", "trackingId", "message", "timestampUtc"}
                assert (body["errorCode"], body["message"]) == (401002, message)


@pytest.mark.parametrize(
    ("links", "sent", "error"),
    [
        ({"scope": "0neOther"}, request("iotdps-register"), ("amqp:not-found", 404000, "ID scope '0neOther' not found; here is '0ne00000001'.")),
        ({"properties": None}, request("iotdps-register"), ("com.microsoft:argument-error", 400000, "api-version is required, e.g. ?api-version=2021-10-01")),
        ({"properties": {Symbol("com.microsoft:api-version"): "1999-01-01"}}, request("iotdps-register"), ("com.microsoft:argument-error", 400000, "api-version '1999-01-01' is not one of ")),
        ({}, request("iotdps-get-operationstatus", operation_id="5.0.0"), ("amqp:not-found", 404201, "Operation not found.")),
        ({}, request("iotdps-get-operationstatus"), ("amqp:not-found", 404201, "Operation not found.")),
        ({}, request("iotdps-register", b"no json"), ("com.microsoft:argument-error", 400000, "The registration is not valid JSON.")),
        ({}, request("iotdps-register", b'{"csr": "MII="}'), ("amqp:not-implemented", 501000, "The emulator does not offer registrations with 'csr'.")),
        ({}, request("iotdps-dance"), ("amqp:not-implemented", 501000, "The emulator does not offer the operation 'iotdps-dance' of a device.")),
        ({}, Message(body=b""), ("amqp:not-implemented", 501000, "The emulator does not offer the operation 'None' of a device.")),
    ],
)  # fmt: skip
def test_a_request_that_can_not_be_is_rejected_by_name(
    dps: RunningEmulator, tmp_path: Path, links: dict[str, Any], sent: Message, error: tuple[str, int, str]
) -> None:
    """Never at the link, where Node would wait for ever, but at the request."""
    files = make("rejected", ISSUING).files(tmp_path)
    with device_client(dps, files) as client:
        found = client.rejection(attach(client, "rejected", **links), sent)
        body = json.loads(found.description or "")
        assert (found.condition, body["errorCode"]) == error[:2]
        assert body["message"].startswith(error[2])
        client.close()


def test_a_request_needs_somewhere_to_be_answered(dps: RunningEmulator, device_id: str, files: tuple[str, str]) -> None:
    """Without a link to receive on, and when it is not a message, it is rejected."""
    address = f"{SCOPE}/registrations/{device_id}"
    with device_client(dps, files) as client:
        handle = client.sender(address, properties=VERSION)
        expected = ("amqp:precondition-failed", "attach a link that receives from this address first")
        assert client.outcome(handle, request("iotdps-register")) == expected
        client.receiver(address, properties=VERSION)
        assert client.outcome(handle, b"\x99")[0] == "amqp:decode-error"
        register(client, device_id, handle)


# --- rates and planned faults ---


def test_a_throttled_device_is_told_when_to_come_back(
    fresh_emulator: RunningEmulator, device_id: str, files: tuple[str, str]
) -> None:
    """The condition is one that the SDKs take for passing, and the error says when to try again."""
    set_up(fresh_emulator)
    with device_client(fresh_emulator, files) as client:
        handle = attach(client, device_id)
        limits = {"enabled": True, "scale": 0.001}
        requests.put(f"{fresh_emulator.admin_url}/throttling", json=limits, timeout=PATIENCE).raise_for_status()
        answered(client, handle, request("iotdps-register"))
        error = client.rejection(handle, request("iotdps-register"))
    assert error.condition == "com.microsoft:device-container-throttled"
    assert json.loads(error.description or "")["errorCode"] == 429001
    assert error.info is not None
    assert error.info["retry-after"] == error.info["Retry-After"]
    assert 0 < error.info["Retry-After"] <= 60


def test_a_planned_status_rejects_the_request(
    dps: RunningEmulator, device_id: str, files: tuple[str, str], faults: Any
) -> None:
    """It is one of ``register`` or ``operationStatus``, as over MQTT, and the next request is answered."""
    with device_client(dps, files) as client:
        handle = attach(client, device_id)
        faults(operation="register", status=503, retryAfterSeconds=7)
        error = client.rejection(handle, request("iotdps-register"))
        assert (error.condition, json.loads(error.description or "")["errorCode"]) == ("com.microsoft:timeout", 503001)
        assert error.info == {"retry-after": 7, "Retry-After": 7}
        register(client, device_id, handle)


@pytest.mark.parametrize(("drop", "is_there"), [("request", False), ("response", True)])
def test_a_planned_drop_ends_the_connection(
    dps: RunningEmulator, device_id: str, files: tuple[str, str], faults: Any, drop: str, *, is_there: bool
) -> None:
    """Before its effect or after it."""
    with device_client(dps, files) as client:
        handle = attach(client, device_id)
        faults(operation="register", drop=drop)
        client.transfer(handle, request("iotdps-register"))
        while client.frame()[0] is not None:
            pass
    assert ("etag" in DpsService(dps).registration(device_id)) is is_there
