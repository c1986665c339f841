"""Devices at the hub over MQTT: with ``azure-iot-device``, and with a client that breaks the rules."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import queue
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse
from azure.iot.device.exceptions import ConnectionDroppedError, CredentialError
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from emulator.platform.configuration import Configuration
from emulator.platform.context import Context, utc_now
from emulator.platform.faults import Faults
from emulator.platform.identity.sas import kept_sas_keys
from emulator.platform.identity.tokens import Tokens
from emulator.platform.store import Store
from emulator.platform.tls import ensure_tls
from emulator.protocols.mqtt import MqttListener
from emulator.server import STORE_FILE
from emulator.services.iot_hub.device import DeviceSession, acceptor
from emulator.services.iot_hub.errors import HubError
from emulator.services.iot_hub.state import IotHubs
from emulator.tests.iot_hub_clients import (
    PATIENCE,
    DeviceCertificate,
    RawDevice,
    device_certificate,
    device_client,
    eventually,
    raw_device,
    registry_of,
)
from emulator.tests.running import MQTT_PORT, emulator_in_thread, emulator_process, made_once, own_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from azure.iot.hub import IoTHubRegistryManager

    from emulator.tests.running import RunningEmulator

VERSION = "?api-version=2021-04-12"
DESIRED_TOPIC = "$iothub/twin/PATCH/properties/desired/#"
ANSWERS_TOPIC = "$iothub/twin/res/#"


@pytest.fixture
def device_id() -> str:
    """An id that no other test has."""
    return f"device-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def registry(emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> IoTHubRegistryManager:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", emulator.ca_file)
    return registry_of(emulator.endpoints)


@pytest.fixture
def certificate(registry: IoTHubRegistryManager, device_id: str, tmp_path: Path) -> DeviceCertificate:
    """The certificate of the test's device, which the hub knows."""
    made = device_certificate(tmp_path, device_id)
    registry.create_device_with_x509(device_id, made.sha1, None, "enabled")
    return made


@pytest.fixture
def client(emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate) -> Iterator[IoTHubDeviceClient]:
    """The test's device, connected."""
    with device_client(emulator.endpoints, device_id, certificate) as device:
        device.connect()
        yield device


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="emulator")
    return caplog


def telemetry(emulator: RunningEmulator, device_id: str) -> list[dict[str, Any]]:
    """What the hub received from a device, as the admin port tells it."""
    answer = requests.get(f"{emulator.admin_url}/telemetry", params={"device": device_id}, timeout=PATIENCE)
    messages: list[dict[str, Any]] = answer.json()["messages"]
    return messages


def connection_state(registry: IoTHubRegistryManager, device_id: str) -> str:
    return str(registry.get_device(device_id).connection_state)


def reasons(log: pytest.LogCaptureFixture) -> list[str]:
    """Why devices were refused; the address before the reason is left out."""
    return [text.partition(" is refused: ")[2] for text in log.messages if " is refused: " in text]


def watched(client: IoTHubDeviceClient) -> threading.Event:
    """An event that is set when the client is no longer connected."""
    gone = threading.Event()

    def changed(_: None = None) -> None:
        if not client.connected:
            gone.set()

    client.on_connection_state_change = changed
    return gone


def username(emulator: RunningEmulator, device_id: str) -> str:
    return f"{emulator.endpoints['iotHubs'][0]['hostName']}/{device_id}/{VERSION}"


@contextmanager
def session(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate, *, clean: bool = True
) -> Iterator[RawDevice]:
    """The test's device as a raw client, connected."""
    name = username(emulator, device_id)
    with raw_device(emulator.ca_file, device_id, name, certificate, clean=clean) as device:
        assert device.connect(name.partition("/")[0], MQTT_PORT) == 0
        yield device


# --- who gets in ---


def test_a_device_connects_and_leaves(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, certificate: DeviceCertificate
) -> None:
    """The identity shows the connection and when it changed, and the service's statistics count it."""
    with device_client(emulator.endpoints, device_id, certificate) as client:
        client.connect()
        seen = registry.get_device(device_id)
        assert seen.connection_state == "Connected"
        assert abs(seen.last_activity_time - datetime.now(UTC)) < timedelta(minutes=1)
        assert seen.connection_state_updated_time == seen.last_activity_time
        assert registry.get_twin(device_id).connection_state == "Connected"
        assert registry.get_service_statistics().connected_device_count >= 1
    eventually(lambda: connection_state(registry, device_id), lambda state: state == "Disconnected")
    left = registry.get_device(device_id)
    assert left.connection_state_updated_time > seen.connection_state_updated_time
    assert left.etag == seen.etag


def test_either_thumbprint_opens(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, certificate: DeviceCertificate
) -> None:
    """The secondary thumbprint lets in too, also as SHA-256 and in lower case: so certificates are rolled over."""
    registry.update_device_with_x509(device_id, "*", "0" * 40, certificate.sha256.lower(), "enabled")
    with device_client(emulator.endpoints, device_id, certificate) as client:
        client.connect()
        assert client.connected


def test_another_certificate(
    emulator: RunningEmulator,
    device_id: str,
    certificate: DeviceCertificate,
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    """A certificate of the same name with another key is refused, and the log says which thumbprints differ."""
    other = device_certificate(tmp_path, device_id)
    with device_client(emulator.endpoints, device_id, other) as client, pytest.raises(CredentialError):
        client.connect()
    assert reasons(log) == [
        f"device {device_id!r}: Thumbprint does not match configuration: Thumbprint: SHA1Hash={other.sha1},"
        f" SHA2Hash={other.sha256}; Configuration: PrimaryThumbprint={certificate.sha1}, SecondaryThumbprint=None"
    ]


def test_an_expired_certificate(
    emulator: RunningEmulator,
    registry: IoTHubRegistryManager,
    device_id: str,
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    """A certificate that has expired is refused even when its thumbprint is the right one."""
    expired = device_certificate(tmp_path, device_id, not_after=datetime(2025, 6, 2, tzinfo=UTC))
    registry.create_device_with_x509(device_id, expired.sha1, None, "enabled")
    with device_client(emulator.endpoints, device_id, expired) as client, pytest.raises(CredentialError):
        client.connect()
    assert reasons(log) == [
        f"device {device_id!r}: CN={device_id} is valid from 2025-05-31T00:00:00Z to 2025-06-02T00:00:00Z, not now"
    ]


def test_an_unknown_device_and_one_that_needs_a_ca(
    emulator: RunningEmulator,
    registry: IoTHubRegistryManager,
    device_id: str,
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    """Without an identity nothing opens; nor does one that trusts a CA of the hub, while the hub has none."""
    made = device_certificate(tmp_path, device_id)
    for _ in range(2):
        with device_client(emulator.endpoints, device_id, made) as client, pytest.raises(CredentialError):
            client.connect()
        if len(reasons(log)) == 1:
            registry.create_device_with_certificate_authority(device_id, "enabled")
    hub = emulator.endpoints["iotHubs"][0]["hostName"]
    assert reasons(log) == [
        f"IotHub {hub!r} does not contain the specified device {device_id!r}",
        f"device {device_id!r}: no verified CA is reached; CN={device_id} is missing",
    ]


def test_disabling_ends_the_connection(
    emulator: RunningEmulator,
    registry: IoTHubRegistryManager,
    device_id: str,
    certificate: DeviceCertificate,
    log: pytest.LogCaptureFixture,
) -> None:
    """A device that gets disabled is cut off at once and refused again, until it is enabled."""

    def client() -> AbstractContextManager[IoTHubDeviceClient]:
        return device_client(emulator.endpoints, device_id, certificate)

    with client() as first:
        first.connect()
        gone = watched(first)
        registry.update_device_with_x509(device_id, "*", certificate.sha1, None, "disabled", status_reason="stolen")
        assert gone.wait(PATIENCE)
    assert connection_state(registry, device_id) == "Disconnected"
    with client() as second, pytest.raises(CredentialError):
        second.connect()
    assert reasons(log) == [f"device {device_id!r} is disabled: stolen"]
    registry.update_device_with_x509(device_id, "*", certificate.sha1, None, "enabled")
    with client() as third:
        third.connect()
        assert third.connected


def test_deleting_ends_the_connection(
    registry: IoTHubRegistryManager, client: IoTHubDeviceClient, device_id: str
) -> None:
    """A device whose identity is deleted is cut off at once."""
    gone = watched(client)
    registry.delete_device(device_id)
    assert gone.wait(PATIENCE)


def test_the_second_connection_ends_the_first(
    emulator: RunningEmulator,
    registry: IoTHubRegistryManager,
    client: IoTHubDeviceClient,
    device_id: str,
    certificate: DeviceCertificate,
) -> None:
    """There is one connection per device: the newest; and its end of the older one does not disconnect it."""
    gone = watched(client)
    with device_client(emulator.endpoints, device_id, certificate) as second:
        second.connect()
        assert gone.wait(PATIENCE)
        second.send_message("from the second")
        assert connection_state(registry, device_id) == "Connected"


def test_a_device_with_keys(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, log: pytest.LogCaptureFixture
) -> None:
    """A device with symmetric keys connects with either of them, and with no other."""
    keys = registry.create_device_with_sas(device_id, None, None, "enabled").authentication.symmetric_key
    other = base64.b64encode(bytes(32)).decode()
    outcomes = []
    for key in (keys.primary_key, keys.secondary_key, other):
        client = IoTHubDeviceClient.create_from_symmetric_key(
            key,
            emulator.endpoints["iotHubs"][0]["hostName"],
            device_id,
            server_verification_cert=Path(emulator.ca_file).read_text(),
            connection_retry=False,
            auto_connect=False,
        )
        try:
            client.connect()
            outcomes.append(True)
        except CredentialError:
            outcomes.append(False)
        finally:
            client.shutdown()
    assert outcomes == [True, True, False]
    assert reasons(log) == [f"the signature of {device_id!r} is refused: the signature does not match the policy's key"]


# --- telemetry ---


def test_telemetry(emulator: RunningEmulator, client: IoTHubDeviceClient, device_id: str) -> None:
    """A message arrives with its properties, whatever characters they have, and its place in the sequence."""
    message = Message(json.dumps({"temperature": 21.5}))
    message.content_type, message.content_encoding, message.message_id = "application/json", "utf-8", "m/1"
    message.custom_properties |= {"alert level": "a&b=c/d+e", "unit": "°C"}
    client.send_message(message)
    client.send_message("second")
    first, second = telemetry(emulator, device_id)
    assert datetime.fromisoformat(first.pop("enqueuedTime")) <= datetime.fromisoformat(second["enqueuedTime"])
    assert first == {
        "sequenceNumber": 1,
        "body": '{"temperature": 21.5}',
        "bodyEncoding": "utf-8",
        "properties": {"alert level": "a&b=c/d+e", "unit": "°C"},
        "systemProperties": {
            "messageId": "m/1",
            "contentType": "application/json",
            "contentEncoding": "utf-8",
        },
    }
    assert (second["sequenceNumber"], second["body"], second["properties"]) == (2, "second", {})


def test_telemetry_that_is_no_text(emulator: RunningEmulator, client: IoTHubDeviceClient, device_id: str) -> None:
    """Octets that are not UTF-8 are kept whole."""
    client.send_message(Message(b"\x00\xff\xfe"))
    (message,) = telemetry(emulator, device_id)
    assert (message["bodyEncoding"], base64.b64decode(message["body"])) == ("base64", b"\x00\xff\xfe")


def test_the_last_hundred_messages_are_kept(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate
) -> None:
    """Older messages go, the count goes on, and another device's messages stay apart."""
    with session(emulator, device_id, certificate) as device:
        for number in range(1, 104):
            device.publish(f"devices/{device_id}/messages/events/", str(number).encode())
    messages = telemetry(emulator, device_id)
    assert [message["body"] for message in messages] == [str(number) for number in range(4, 104)]
    assert messages[-1]["sequenceNumber"] == 103
    assert telemetry(emulator, device_id[:-1]) == []


# --- twin ---


def test_a_device_reads_and_reports(
    registry: IoTHubRegistryManager, client: IoTHubDeviceClient, device_id: str
) -> None:
    """A device sees desired and reported properties and no tags; what it reports merges, and leaves the ETag."""
    etag = registry.update_twin(
        device_id, Twin(tags={"secret": 1}, properties=TwinProperties(desired={"interval": 5}))
    ).etag
    client.patch_twin_reported_properties({"firmware": {"version": "1", "slot": "a"}})
    client.patch_twin_reported_properties({"firmware": {"version": "2", "slot": None}})
    assert client.get_twin() == {
        "desired": {"interval": 5, "$version": 2},
        "reported": {"firmware": {"version": "2"}, "$version": 3},
    }
    twin = registry.get_twin(device_id)
    assert twin.properties.reported["firmware"] == {"version": "2"}
    assert "version" in twin.properties.reported["$metadata"]["firmware"]
    assert (twin.etag, twin.version) == (etag, 5)


def test_a_report_that_is_refused(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, certificate: DeviceCertificate
) -> None:
    """What no twin can hold, and what is not valid JSON, is answered with 400 and the rule; the next request works."""
    with session(emulator, device_id, certificate) as device:
        device.subscribe(ANSWERS_TOPIC)
        for payload, message in (
            (b"{", "The payload is not valid JSON."),
            (b"7", "properties.reported must be a JSON object."),
            (
                json.dumps({f"t{n}": "x" * 4096 for n in range(9)}).encode(),
                "properties.reported would have 36882 bytes; at most 32768 are allowed.",
            ),
        ):
            device.publish("$iothub/twin/PATCH/properties/reported/?$rid=r%201", payload)
            topic, answer = device.messages.get(timeout=PATIENCE)
            assert topic == "$iothub/twin/res/400/?$rid=r%201"
            assert json.loads(answer) == {"errorCode": 400004, "message": message}
        device.publish("$iothub/twin/PATCH/properties/reported/?$rid=2", b'{"ok": true}')
        assert device.messages.get(timeout=PATIENCE) == ("$iothub/twin/res/204/?$rid=2&$version=2", b"")
    assert registry.get_twin(device_id).properties.reported["ok"] is True


def desired(**properties: Any) -> Twin:
    return Twin(properties=TwinProperties(desired=properties))


def test_desired_properties_reach_the_device(
    registry: IoTHubRegistryManager, client: IoTHubDeviceClient, device_id: str
) -> None:
    """A connected device gets each change of its desired properties as it was made, and none of its tags."""
    patches: queue.Queue[dict[str, Any]] = queue.Queue()
    client.on_twin_desired_properties_patch_received = patches.put
    registry.update_twin(device_id, desired(interval=7, old=None))
    registry.update_twin(device_id, Twin(tags={"site": "north"}))
    registry.replace_twin(device_id, desired(interval=8))
    assert patches.get(timeout=PATIENCE) == {"interval": 7, "old": None, "$version": 2}
    assert patches.get(timeout=PATIENCE) == {"interval": 8, "$version": 3}
    assert client.get_twin()["desired"] == {"interval": 8, "$version": 3}
    assert patches.empty()


def test_subscriptions_of_a_persistent_session(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, certificate: DeviceCertificate
) -> None:
    """They outlive the connection, as SDKs rely on; what changed in between is not sent; a clean session ends them."""
    received = []
    for number, (clean, subscribes) in enumerate(((False, True), (False, False), (True, False), (False, False))):
        registry.update_twin(device_id, desired(missed=number))
        with session(emulator, device_id, certificate, clean=clean) as device:
            if subscribes:
                device.subscribe(DESIRED_TOPIC)
            registry.update_twin(device_id, desired(sent=number))
            device.subscribe(ANSWERS_TOPIC)
            device.publish("$iothub/twin/GET/?$rid=last")
            while not (message := device.messages.get(timeout=PATIENCE))[0].endswith("$rid=last"):
                received.append(json.loads(message[1]))
    assert received == [{"sent": 0, "$version": 3}, {"sent": 1, "$version": 5}]


# --- direct methods ---


def test_a_direct_method(registry: IoTHubRegistryManager, client: IoTHubDeviceClient, device_id: str) -> None:
    """The device gets name and payload, and its status and answer come back."""
    asked: queue.Queue[tuple[str, Any]] = queue.Queue()

    def answer(request: Any) -> None:
        asked.put((request.name, request.payload))
        client.send_method_response(MethodResponse.create_from_method_request(request, 207, {"rebooted": True}))

    client.on_method_request_received = answer
    result = registry.invoke_device_method(
        device_id, CloudToDeviceMethod(method_name="reboot", payload={"delay": 3}, response_timeout_in_seconds=30)
    )
    assert (result.status, result.payload) == (207, {"rebooted": True})
    assert asked.get(timeout=PATIENCE) == ("reboot", {"delay": 3})


def method_refusal(registry: IoTHubRegistryManager, device_id: str, **method: Any) -> tuple[int, dict[str, Any]]:
    """Status of a refused call, and what its message says."""
    with pytest.raises(HttpOperationError) as caught:
        registry.invoke_device_method(device_id, CloudToDeviceMethod(**{"method_name": "reboot", **method}))
    body = caught.value.response.json()
    assert body["ExceptionMessage"] == ""
    return caught.value.response.status_code, json.loads(body["Message"])


def test_methods_of_devices_that_can_not_take_them(
    registry: IoTHubRegistryManager, client: IoTHubDeviceClient, device_id: str
) -> None:
    """No such device, and one that does not listen, are told apart in the form that method errors have."""
    status, error = method_refusal(registry, "nobody")
    assert (status, error["errorCode"], error["message"], error["info"]) == (404, 404001, "Not registered", {})
    assert client.connected
    status, error = method_refusal(registry, device_id, connect_timeout_in_seconds=1)
    assert (status, error["errorCode"]) == (404, 404103)
    assert error["message"] == "Timed out waiting for device to connect."
    assert error["info"] == {"timeout": "00:00:01"}


def test_a_method_waits_for_its_device(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, certificate: DeviceCertificate
) -> None:
    """With a connect timeout, a call made before the device connects is answered once it listens."""
    method = CloudToDeviceMethod(method_name="wake", connect_timeout_in_seconds=60)
    with ThreadPoolExecutor(1) as pool, device_client(emulator.endpoints, device_id, certificate) as client:
        result = pool.submit(registry.invoke_device_method, device_id, method)
        client.connect()
        client.on_method_request_received = lambda request: client.send_method_response(
            MethodResponse.create_from_method_request(request, 200)
        )
        assert result.result(PATIENCE).status == 200


def test_a_method_waits_for_a_persistent_session(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, certificate: DeviceCertificate
) -> None:
    """A device that had subscribed to methods takes them as soon as it connects again."""
    with session(emulator, device_id, certificate, clean=False) as device:
        device.subscribe("$iothub/methods/POST/#")
    eventually(lambda: connection_state(registry, device_id), lambda state: state == "Disconnected")
    method = CloudToDeviceMethod(method_name="wake", connect_timeout_in_seconds=60)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(registry.invoke_device_method, device_id, method)
        with session(emulator, device_id, certificate, clean=False) as device:
            topic, _ = device.messages.get(timeout=PATIENCE)
            device.publish(topic.replace("POST/wake", "res/202"))
            assert result.result(PATIENCE).status == 202


def test_a_device_that_leaves_during_a_call(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, certificate: DeviceCertificate
) -> None:
    """The caller is told at once, and does not wait for the timeout."""
    with ThreadPoolExecutor(1) as pool, session(emulator, device_id, certificate) as device:
        device.subscribe("$iothub/methods/POST/#")
        refusal = pool.submit(method_refusal, registry, device_id, response_timeout_in_seconds=300)
        assert device.messages.get(timeout=PATIENCE)[0].startswith("$iothub/methods/POST/reboot/?$rid=")
        device.close()
        status, error = refusal.result(PATIENCE)
    assert (status, error["errorCode"], error["message"]) == (404, 404103, "Device unavailable")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"methodName": ""}, "methodName '' is not made of ASCII letters, digits and ! # % & ' * + . ^ _ ` | ~ -."),
        (
            {"methodName": "a/b"},
            "methodName 'a/b' is not made of ASCII letters, digits and ! # % & ' * + . ^ _ ` | ~ -.",
        ),
        (
            {"methodName": "a", "responseTimeoutInSeconds": 4},
            "responseTimeoutInSeconds 4 is not a whole number from 5 to 300.",
        ),
        (
            {"methodName": "a", "connectTimeoutInSeconds": 301},
            "connectTimeoutInSeconds 301 is not a whole number from 0 to 300.",
        ),
    ],
)
def test_methods_that_can_not_be(registry: IoTHubRegistryManager, method: Mapping[str, Any], message: str) -> None:
    """A method that breaks a rule is refused before any device is asked."""
    with pytest.raises(HttpOperationError) as caught:
        registry.protocol.devices.invoke_method("nobody", method)
    assert caught.value.response.json()["Message"] == f"ErrorCode:ArgumentInvalid;{message}"


# --- what no SDK does ---


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("{hub}/other/?api-version=2021-04-12", 2, "client id 'd' is not 'other'"),
        ("elsewhere/d/?api-version=2021-04-12", 5, "the hub 'elsewhere' does not exist here; the hubs are {hub}"),
        ("{hub}/d", 5, "the user name '{hub}/d' is not {{hub host name}}/{{device id}}/?api-version=..."),
        ("{hub}/d/m/?api-version=2021-04-12", 5, "'d/m' is a module; the emulator has none"),
    ],
)
def test_user_names_that_can_not_be(
    emulator: RunningEmulator, log: pytest.LogCaptureFixture, name: str, code: int, reason: str
) -> None:
    """A CONNECT that names no device of a hub here is refused, with the reason in the log."""
    hub = emulator.endpoints["iotHubs"][0]["hostName"]
    client_id = "d/m" if "/m/" in name else "d"
    with raw_device(emulator.ca_file, client_id, name.format(hub=hub)) as device:
        assert device.connect(hub, MQTT_PORT) == code
    assert reasons(log) == [reason.format(hub=hub)]


@pytest.mark.parametrize("version", ["1999-01-01", "1", ""])
def test_a_version_that_a_hub_never_had(emulator: RunningEmulator, log: pytest.LogCaptureFixture, version: str) -> None:
    """The connection is refused before anything else of the device is looked at."""
    hub = emulator.endpoints["iotHubs"][0]["hostName"]
    with raw_device(emulator.ca_file, "d", f"{hub}/d/?api-version={version}") as device:
        assert device.connect(hub, MQTT_PORT) == 5
    [reason] = reasons(log)
    assert reason.startswith(f"BadRequest: api-version is '{version}'; it must be one of 2016-02-03, ")


def test_a_device_without_a_certificate(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate, log: pytest.LogCaptureFixture
) -> None:
    """TLS lets it pass, the hub does not."""
    assert certificate.sha1
    name = username(emulator, device_id)
    with raw_device(emulator.ca_file, device_id, name) as device:
        assert device.connect(name.partition("/")[0], MQTT_PORT) == 5
    assert reasons(log) == [f"device {device_id!r} sent no certificate"]


def test_topics_that_are_granted(emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate) -> None:
    """The hub's own topics are granted, other devices' and made-up ones are refused, each for itself."""
    with session(emulator, device_id, certificate) as device:
        assert device.subscribe(
            f"devices/{device_id}/messages/devicebound/#",
            DESIRED_TOPIC,
            ANSWERS_TOPIC,
            "$iothub/methods/POST/#",
            "devices/other/messages/devicebound/#",
            "#",
        ) == [1, 1, 1, 1, 128, 128]


@pytest.mark.parametrize("topic", ["devices/other/messages/events/", "$iothub/twin/GET/extra", "anything"])
def test_a_foreign_topic_ends_the_connection(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate, log: pytest.LogCaptureFixture, topic: str
) -> None:
    """A device may publish to its own topics alone."""
    with session(emulator, device_id, certificate) as device:
        device.publish(topic, b"x", acknowledged=False)
        device.endings.get(timeout=PATIENCE)
    hub = emulator.endpoints["iotHubs"][0]["hostName"]
    assert f"device {device_id} of {hub} published to {topic!r}, which is not a topic of its own" in log.messages
    assert telemetry(emulator, "other") == []


def test_a_message_that_is_too_large(emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate) -> None:
    """256 KiB with the properties are taken, one byte more ends the connection."""
    topic = f"devices/{device_id}/messages/events/a=b"
    with session(emulator, device_id, certificate) as device:
        device.publish(topic, b"x" * (256 * 1024 - 3))
        device.publish(topic, b"x" * (256 * 1024 - 2), acknowledged=False)
        device.endings.get(timeout=PATIENCE)
    assert [len(message["body"]) for message in telemetry(emulator, device_id)] == [256 * 1024 - 3]


# --- planned faults ---


@pytest.fixture
def faults(emulator: RunningEmulator) -> Iterator[Any]:
    """Plans one rule for devices of the hub."""
    url = f"{emulator.admin_url}/faults"

    def plan(**rule: Any) -> None:
        body = {"rules": [{"service": "iot_hub_device", "count": 1, **rule}]}
        requests.put(url, json=body, timeout=PATIENCE).raise_for_status()

    yield plan
    requests.delete(url, timeout=PATIENCE).raise_for_status()


def test_a_connection_that_is_planned_to_fail(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate, faults: Any
) -> None:
    """A planned 503 answers a CONNECT with "unavailable" once; a dropped one gets no answer, and the next gets in."""
    name = username(emulator, device_id)
    faults(operation="connect", status=503)
    with raw_device(emulator.ca_file, device_id, name, certificate) as device:
        assert device.connect(name.partition("/")[0], MQTT_PORT) == 3
    faults(operation="connect", drop="request")
    with device_client(emulator.endpoints, device_id, certificate) as client, pytest.raises(ConnectionDroppedError):
        client.connect()
    with device_client(emulator.endpoints, device_id, certificate) as client:
        client.connect()
        assert client.connected


@pytest.mark.parametrize("drop", ["request", "response"])
def test_telemetry_that_is_planned_to_get_lost(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate, faults: Any, drop: str
) -> None:
    """Either the message or only its acknowledgement is lost; the device can't tell which."""
    faults(operation="telemetry", drop=drop)
    with session(emulator, device_id, certificate) as device:
        device.publish(f"devices/{device_id}/messages/events/", b"x", acknowledged=False)
        device.endings.get(timeout=PATIENCE)
    assert len(telemetry(emulator, device_id)) == (0 if drop == "request" else 1)


def test_a_twin_that_is_planned_to_be_busy(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate, faults: Any
) -> None:
    """A planned status is the twin request's answer, once."""
    faults(operation="twin*", status=429)
    with session(emulator, device_id, certificate) as device:
        device.subscribe(ANSWERS_TOPIC)
        for status in (429, 200):
            device.publish("$iothub/twin/GET/?$rid=1")
            assert device.messages.get(timeout=PATIENCE)[0] == f"$iothub/twin/res/{status}/?$rid=1"


# --- restarts, and several hubs ---


def test_a_killed_emulator_keeps_what_the_hub_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity, twin and telemetry outlive SIGKILL, and afterwards nobody is connected."""
    made = device_certificate(tmp_path, "d")
    options = ("--address", own_address(), "--mqtt-port", str(MQTT_PORT))
    with emulator_process(tmp_path / "state", *options) as (process, endpoints):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", endpoints["tlsCaFile"])
        registry = registry_of(endpoints)
        registry.create_device_with_x509("d", made.sha1, None, "enabled")
        with device_client(endpoints, "d", made) as client:
            client.connect()
            client.patch_twin_reported_properties({"firmware": 1})
            client.send_message("kept")
            before, twin = registry.get_device("d"), registry.get_twin("d")
            process.kill()
            process.wait(PATIENCE)
    with emulator_process(tmp_path / "state", *options) as (_, endpoints):
        registry = registry_of(endpoints)
        assert registry.get_device("d").as_dict() == before.as_dict() | {"connection_state": "Disconnected"}
        assert registry.get_twin("d").properties.as_dict() == twin.properties.as_dict()
        with device_client(endpoints, "d", made) as client:
            client.connect()
            assert client.get_twin()["reported"] == {"firmware": 1, "$version": 2}
        url = f"{endpoints['adminUrl']}/telemetry"
        messages = requests.get(url, params={"device": "d"}, timeout=PATIENCE).json()["messages"]
        assert [message["body"] for message in messages] == ["kept"]


def test_several_hubs_are_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hub has devices, twins, telemetry and keys of its own; a device is let in by the one that knows it."""
    made, address = device_certificate(tmp_path, "d"), own_address()
    with emulator_in_thread(tmp_path / "emulator", extra_hub_addresses=[address]) as emulator:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", emulator.ca_file)
        first, second = registry_of(emulator.endpoints), registry_of(emulator.endpoints, 1)
        second.create_device_with_x509("d", made.sha1, None, "enabled")
        assert [registry.get_device_registry_statistics().total_device_count for registry in (first, second)] == [0, 1]
        with device_client(emulator.endpoints, "d", made) as client, pytest.raises(CredentialError):
            client.connect()
        with device_client(emulator.endpoints, "d", made, 1) as client:
            client.connect()
            client.send_message("here")
        assert telemetry(emulator, "d") == []
        params = {"device": "d", "hub": address}
        found = requests.get(f"{emulator.admin_url}/telemetry", params=params, timeout=PATIENCE).json()["messages"]
        assert [message["body"] for message in found] == ["here"]


# --- the hub's parts by themselves ---


@dataclass(frozen=True)
class SmallHub:
    """A hub in the test's own event loop, without HTTP."""

    hubs: IotHubs
    faults: Faults
    port: int
    ca_file: str


@pytest.fixture
async def small_hub(tmp_path: Path) -> AsyncIterator[SmallHub]:
    configuration = Configuration(state_dir=tmp_path / "state", tls_dir=tmp_path / "tls")
    made_once().put_into(configuration.state_dir, configuration.tls_dir)
    tls = ensure_tls(configuration.tls_dir, ["localhost", configuration.address])
    store = Store(configuration.state_dir / STORE_FILE)
    tokens = Tokens(store, tenant_id=configuration.tenant_id, clock=utc_now)
    context = Context(
        configuration,
        store,
        clock=utc_now,
        tokens=tokens,
        sas_keys=kept_sas_keys(store, configuration),
        faults=Faults(),
    )
    hubs = IotHubs(context)
    listener = MqttListener(
        address=configuration.address,
        port=0,
        certificate_file=tls.certificate_file,
        key_file=tls.key_file,
        accept=acceptor(context, hubs),
    )
    yield SmallHub(hubs, context.faults, await listener.start(), str(tls.ca_file))
    await listener.stop()
    store.close()


async def test_a_device_that_does_not_answer(small_hub: SmallHub, tmp_path: Path) -> None:
    """A method's caller gets 504 after the response timeout; an answer that comes later is nobody's."""
    hub, made = small_hub.hubs["localhost"], device_certificate(tmp_path, "d")
    hub.put("d", {"authentication": {"x509Thumbprint": {"primaryThumbprint": made.sha1}}}, None)
    with raw_device(small_hub.ca_file, "d", f"localhost/d/{VERSION}", made) as device:
        assert await asyncio.to_thread(device.connect, "localhost", small_hub.port) == 0
        await asyncio.to_thread(device.subscribe, "$iothub/methods/POST/#")
        listening = await hub.listening("d", 0)
        with pytest.raises(HubError) as caught:
            await listening.invoke("reboot", None, 0.05)
        topic, payload = await asyncio.to_thread(device.messages.get, timeout=PATIENCE)
        request_id = topic.removeprefix("$iothub/methods/POST/reboot/?")
        await asyncio.to_thread(device.publish, f"$iothub/methods/res/200/?{request_id}")
        assert hub.connected_count == 1
    assert (caught.value.status, caught.value.number, payload) == (504, 504101, b"null")
    assert caught.value.message == "Timed out waiting for the response from device."


async def test_an_answer_that_is_none(small_hub: SmallHub, tmp_path: Path) -> None:
    """A device that answers a method with a status that is not a number loses its connection, and the call fails."""
    hub, made = small_hub.hubs["localhost"], device_certificate(tmp_path, "d")
    hub.put("d", {"authentication": {"x509Thumbprint": {"primaryThumbprint": made.sha1}}}, None)
    with raw_device(small_hub.ca_file, "d", f"localhost/d/{VERSION}", made) as device:
        assert await asyncio.to_thread(device.connect, "localhost", small_hub.port) == 0
        await asyncio.to_thread(device.subscribe, "$iothub/methods/POST/#")
        call = asyncio.create_task((await hub.listening("d", 0)).invoke("reboot", {}, PATIENCE))
        topic, _ = await asyncio.to_thread(device.messages.get, timeout=PATIENCE)
        request_id = topic.removeprefix("$iothub/methods/POST/reboot/?")
        device.publish(f"$iothub/methods/res/ok/?{request_id}", acknowledged=False)
        with pytest.raises(HubError) as caught:
            await call
        await asyncio.to_thread(device.endings.get, timeout=PATIENCE)
    assert caught.value.message == "Device unavailable"


@asynccontextmanager
async def session_inside(small_hub: SmallHub, folder: Path) -> AsyncIterator[DeviceSession]:
    """What the hub holds of a connected device ``d``, with a persistent session."""
    made = device_certificate(folder, "d")
    small_hub.hubs["localhost"].put("d", {"authentication": {"x509Thumbprint": {"primaryThumbprint": made.sha1}}}, None)
    with raw_device(small_hub.ca_file, "d", f"localhost/d/{VERSION}", made, clean=False) as device:
        assert await asyncio.to_thread(device.connect, "localhost", small_hub.port) == 0
        await asyncio.to_thread(device.subscribe, "$iothub/methods/POST/#")
        inside = await small_hub.hubs["localhost"].listening("d", 0)
        assert isinstance(inside, DeviceSession)
        yield inside


async def test_what_is_read_after_the_end(small_hub: SmallHub, tmp_path: Path) -> None:
    """Packets of a deleted device that were not read yet change nothing, and are not a defect."""
    hub = small_hub.hubs["localhost"]
    async with session_inside(small_hub, tmp_path) as inside:
        await inside.published("devices/d/messages/events/", b"before", 1)
        hub.remove("d")
        await inside.published("devices/d/messages/events/", b"after", 1)
        await inside.published("$iothub/twin/GET/?$rid=1", b"", 1)
        await inside.published("$iothub/twin/PATCH/properties/reported/?$rid=2", b'{"a": 1}', 1)
        assert await inside.subscribed([(DESIRED_TOPIC, 1), (ANSWERS_TOPIC, 0)]) == [0x80, 0x80]
    assert [message["body"] for message in hub.telemetry("d")] == ["before"]
    assert hub.subscriptions("d") == frozenset()


async def test_a_message_delayed_beyond_the_end(small_hub: SmallHub, tmp_path: Path) -> None:
    """A message that a planned fault holds back while its device gets disabled is not kept."""
    hub = small_hub.hubs["localhost"]
    small_hub.faults.plan({"rules": [{"operation": "telemetry", "latencyMilliseconds": 1}]})
    async with session_inside(small_hub, tmp_path) as inside:
        late = asyncio.create_task(inside.published("devices/d/messages/events/", b"late", 1))
        await asyncio.sleep(0)  # gives way to the task, which gets as far as the planned latency
        assert small_hub.faults.to_json()["rules"][0]["applied"] == 1
        hub.put("d", {"status": "disabled"}, "*")
        await late
    assert hub.telemetry("d") == []


async def test_provisioning(small_hub: SmallHub) -> None:
    """What DPS does: make the identity with the leaf's thumbprints, renew it, keep it disabled, keep or reset its twin."""
    hub = small_hub.hubs["localhost"]
    first, second = "0" * 40, "1" * 40
    twin = {"tags": {"site": "north"}, "properties": {"desired": {"interval": 5}}}

    def provision(thumbprint: str, *, reset_twin: bool) -> dict[str, Any]:
        both = {"primaryThumbprint": thumbprint, "secondaryThumbprint": thumbprint}
        authentication = {"type": "selfSigned", "x509Thumbprint": both}
        hub.provision("d", authentication=authentication, initial_twin=twin, reset_twin=reset_twin, iot_edge=False)
        return hub.get("d")

    made = provision(first, reset_twin=False)
    assert made["authentication"]["x509Thumbprint"] == {"primaryThumbprint": first, "secondaryThumbprint": first}
    hub.put("d", {"status": "disabled", "statusReason": "stolen"}, "*")
    hub.write_twin("d", {"tags": {"site": "south"}}, None, replace=False)
    renewed = provision(second, reset_twin=False)
    assert renewed["authentication"]["x509Thumbprint"]["primaryThumbprint"] == second
    assert (renewed["status"], renewed["statusReason"]) == ("disabled", "stolen")
    assert renewed["generationId"] == made["generationId"]
    assert hub.twin("d")["tags"] == {"site": "south"}
    provision(second, reset_twin=True)
    assert hub.twin("d")["tags"] == {"site": "north"}
    assert hub.twin("d")["properties"]["desired"]["interval"] == 5
    hub.remove("d")
    assert not hub.has("d")


async def test_what_a_device_unsubscribes_from(small_hub: SmallHub, tmp_path: Path) -> None:
    """A topic that is unsubscribed from is gone, also from a persistent session."""
    async with session_inside(small_hub, tmp_path) as inside:
        assert small_hub.hubs["localhost"].subscriptions("d") == {"$iothub/methods/POST/#"}
        await inside.unsubscribed(["$iothub/methods/POST/#"])
        assert not inside.takes_methods
        assert small_hub.hubs["localhost"].subscriptions("d") == frozenset()
