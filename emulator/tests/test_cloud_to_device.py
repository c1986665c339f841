"""Cloud-to-device messages, wills and sessions of devices at the emulated hub."""

from __future__ import annotations

import socket
import ssl
import uuid
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from msrest.exceptions import HttpOperationError

from emulator.protocols.mqtt import PacketType, encode
from emulator.tests.dps_clients import DpsService
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
from emulator.tests.running import MQTT_PORT, RunningEmulator, SetClock, emulator_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from azure.iot.hub import IoTHubRegistryManager


@pytest.fixture
def registry(emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> IoTHubRegistryManager:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", emulator.ca_file)
    return registry_of(emulator.endpoints)


@pytest.fixture
def device_id() -> str:
    return f"device-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def certificate(registry: IoTHubRegistryManager, device_id: str, tmp_path: Path) -> DeviceCertificate:
    """The certificate of the test's device, which the hub knows."""
    made = device_certificate(tmp_path, device_id)
    registry.create_device_with_x509(device_id, made.sha1, None, "enabled")
    return made


def send(emulator: RunningEmulator, device_id: str, body: str = "do it", **fields: Any) -> requests.Response:
    message = {"device": device_id, "body": body, **fields}
    return requests.post(f"{emulator.admin_url}/messages", json=message, timeout=PATIENCE)


def telemetry(emulator: RunningEmulator, device_id: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{emulator.admin_url}/telemetry", params={"device": device_id}, timeout=PATIENCE)
    messages: list[dict[str, Any]] = answer.json()["messages"]
    return messages


def devicebound(device_id: str) -> str:
    return f"devices/{device_id}/messages/devicebound/#"


@contextmanager
def session(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate, *, clean: bool = True
) -> Iterator[RawDevice]:
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    name = f"{host}/{device_id}/?api-version=2021-04-12"
    with raw_device(emulator.ca_file, device_id, name, certificate, clean=clean) as device:
        assert device.connect(host, MQTT_PORT) == 0
        yield device


# --- cloud-to-device messages ---


def test_microsofts_sdk_receives_a_message_with_its_properties(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, certificate: DeviceCertificate
) -> None:
    """The unmodified SDK gets body, application and system properties, and the message is then off the queue."""
    with device_client(emulator.endpoints, device_id, certificate) as client:
        client.connect()
        received: list[Any] = []
        client.on_message_received = received.append
        answer = send(
            emulator,
            device_id,
            "wörk",
            properties={"a name": "1 + 1 = 2"},
            systemProperties={"messageId": "m-1", "correlationId": "c-1", "contentType": "text/plain"},
        )
        assert (answer.status_code, answer.json()) == (202, {"messageId": "m-1", "sequenceNumber": 1})
        [message] = eventually(lambda: received, bool)
        assert message.data.decode() == "wörk"
        assert message.custom_properties == {"a name": "1 + 1 = 2"}
        assert (message.message_id, message.correlation_id, message.content_type) == ("m-1", "c-1", "text/plain")
        waiting = eventually(
            lambda: registry.get_device(device_id).cloud_to_device_message_count, lambda count: count == 0
        )
        assert waiting == 0


def test_messages_wait_for_a_device_that_is_away(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, certificate: DeviceCertificate
) -> None:
    """What is sent meanwhile is counted, and comes in order when the device subscribes."""
    send(emulator, device_id, "first")
    send(emulator, device_id, "second")
    assert registry.get_device(device_id).cloud_to_device_message_count == 2
    assert registry.get_twin(device_id).cloud_to_device_message_count == 2
    with session(emulator, device_id, certificate) as device:
        assert device.subscribe(devicebound(device_id)) == [1]
        got = [device.messages.get(timeout=PATIENCE) for _ in range(2)]
    assert [payload for _, payload in got] == [b"first", b"second"]
    assert got[0][0].startswith(f"devices/{device_id}/messages/devicebound/%24.mid=")
    assert f"%24.to=%2Fdevices%2F{device_id}%2Fmessages%2Fdevicebound" in got[0][0]


def test_a_persistent_session_goes_on_where_it_was(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate
) -> None:
    """A session that is kept is said to be present, and messages come without subscribing again; a clean one is new."""
    with session(emulator, device_id, certificate, clean=False) as device:
        assert device.session_present is False
        device.subscribe(devicebound(device_id))
    send(emulator, device_id, "meanwhile")
    with session(emulator, device_id, certificate, clean=False) as device:
        assert device.session_present is True
        assert device.messages.get(timeout=PATIENCE)[1] == b"meanwhile"
    with session(emulator, device_id, certificate) as device:
        assert device.session_present is False
    with session(emulator, device_id, certificate, clean=False) as device:
        assert device.session_present is False


def publish_flags_seen_without_puback(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate
) -> tuple[int, bytes]:
    """Subscribe, read one PUBLISH and leave without a word; gives its first octet and the end of its body."""

    def text(value: str) -> bytes:
        return len(value).to_bytes(2, "big") + value.encode()

    host = emulator.endpoints["iotHubs"][0]["hostName"]
    context = ssl.create_default_context(cafile=emulator.ca_file)
    context.load_cert_chain(certificate.certificate_file, certificate.key_file)
    with (
        socket.create_connection((host, MQTT_PORT), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
        secured.makefile("rb") as stream,
    ):
        name = f"{host}/{device_id}/?api-version=2021-04-12"
        body = text("MQTT") + bytes((4, 0x82, 0, 60)) + text(device_id) + text(name)
        secured.sendall(encode(PacketType.CONNECT, body))
        assert stream.read(4) == bytes((0x20, 2, 0, 0))
        secured.sendall(encode(PacketType.SUBSCRIBE, b"\0\1" + text(devicebound(device_id)) + b"\1", 0x02))
        assert stream.read(5) == bytes((0x90, 3, 0, 1, 1))
        first, low, high = stream.read(3)
        packet = stream.read((low & 0x7F) + (high << 7))  # a topic with properties takes two octets of length
        return first, packet


def test_an_unacknowledged_message_comes_again_marked_as_duplicate(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate
) -> None:
    """A device that goes before its PUBACK gets the message once more, with DUP set."""
    send(emulator, device_id, "at least once")
    flags, packet = publish_flags_seen_without_puback(emulator, device_id, certificate)
    assert (flags, packet.endswith(b"at least once")) == (0x32, True)
    flags, packet = publish_flags_seen_without_puback(emulator, device_id, certificate)
    assert (flags, packet.endswith(b"at least once")) == (0x3A, True)


def test_a_queue_holds_fifty_messages_and_can_be_purged(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, certificate: DeviceCertificate
) -> None:
    """The fifty-first is refused as the hub refuses it, and a purge tells how many went."""
    del certificate
    for number in range(50):
        assert send(emulator, device_id, str(number)).status_code == 202
    full = send(emulator, device_id)
    assert full.status_code == 403
    assert full.headers["iothub-errorcode"] == "DeviceMaximumQueueDepthExceeded"
    answer = registry.protocol.cloud_to_device_messages.purge_cloud_to_device_message_queue(device_id)
    assert (answer.total_messages_purged, answer.device_id) == (50, device_id)
    assert send(emulator, device_id).json()["sequenceNumber"] == 51


def test_a_message_expires(tmp_path: Path) -> None:
    """At the time it names, or after an hour, a message is gone."""
    clock = SetClock()
    with emulator_in_thread(tmp_path, clock=clock) as running:
        service = DpsService(running)
        service.hub("PUT", "/devices/d", {"deviceId": "d"}).raise_for_status()

        def waiting() -> int:
            return int(service.hub("GET", "/devices/d").json()["cloudToDeviceMessageCount"])

        soon = (clock.now + timedelta(minutes=1)).isoformat()
        send(running, "d", "a minute", systemProperties={"expiryTimeUtc": soon})
        send(running, "d", "an hour")
        clock.pass_(59)
        assert waiting() == 2
        clock.pass_(1)
        assert waiting() == 1
        clock.pass_(3540)
        assert waiting() == 0


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"body": 7}, 400, "body must be a text, and bodyEncoding 'utf-8' or 'base64'."),
        ({"body": "?", "bodyEncoding": "base64"}, 400, "body is not base64."),
        ({"colour": "red"}, 400, "A message is an object with the fields body, bodyEncoding, properties, systemProperties."),
        ({"properties": {"n": 1}}, 400, "properties must be an object of texts."),
        (
            {"systemProperties": {"to": "x"}},
            400,
            "systemProperties has 'to'; known are messageId, correlationId, userId, contentType, contentEncoding, expiryTimeUtc, ack.",
        ),
        ({"systemProperties": {"ack": "always"}}, 400, "ack is 'always'; it may be none, positive, negative, full."),
        (
            {"systemProperties": {"expiryTimeUtc": "soon"}},
            400,
            "expiryTimeUtc 'soon' is not a time with its zone, e.g. 2030-01-31T12:00:00Z.",
        ),
        ({"body": "x" * 65_537}, 413, "The message has 65537 bytes; at most 65536 are allowed."),
    ],
)  # fmt: skip
def test_a_message_that_breaks_a_rule_is_refused(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, fields: dict[str, Any], status: int, message: str
) -> None:
    """The admin port says what was wrong, in the hub's own error body."""
    with suppress(HttpOperationError):  # it is there from the row before
        registry.create_device_with_sas("choosy", "", "", "enabled")
    answer = send(emulator, "choosy", **fields)
    assert answer.status_code == status
    assert answer.json()["Message"].partition(";")[2] == message


def test_a_message_to_nobody_is_refused(emulator: RunningEmulator) -> None:
    """An unknown device, an unknown hub and a body without a device are each named."""
    assert send(emulator, "nobody").json()["Message"] == "ErrorCode:DeviceNotFound;nobody"
    assert send(emulator, "d", hub="else").json()["error"]["message"].startswith("The hub 'else' does not exist")
    answer = requests.post(f"{emulator.admin_url}/messages", json={"body": "x"}, timeout=PATIENCE)
    assert answer.json()["error"]["message"] == 'The body must be {"device": device id, "body": text, ...}.'


# --- wills and retained messages ---


def test_a_will_becomes_telemetry_when_the_connection_breaks(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate
) -> None:
    """Without a DISCONNECT the will is published with its message type and its properties; with one it is not."""
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    for broken in (False, True):
        name = f"{host}/{device_id}/?api-version=2021-04-12"
        with raw_device(emulator.ca_file, device_id, name, certificate) as device:
            device.will(f"devices/{device_id}/messages/events/why=battery", b"gone", retain=True)
            assert device.connect(host, MQTT_PORT) == 0
            if broken:
                device.socket.shutdown(socket.SHUT_RDWR)
    [message] = eventually(lambda: telemetry(emulator, device_id), bool)
    assert message["body"] == "gone"
    assert message["properties"] == {"why": "battery", "iothub-MessageType": "Will", "mqtt-retain": "true"}


def test_the_will_of_a_device_that_was_shut_out_stays_unsaid(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str, certificate: DeviceCertificate
) -> None:
    """A disabled device says nothing more, its will included."""
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    with raw_device(emulator.ca_file, device_id, f"{host}/{device_id}/?api-version=2021-04-12", certificate) as device:
        device.will(f"devices/{device_id}/messages/events/", b"gone", retain=False)
        assert device.connect(host, MQTT_PORT) == 0
        present = registry.get_device(device_id)
        registry.update_device_with_x509(device_id, present.etag, certificate.sha1, None, "disabled")
        device.endings.get(timeout=PATIENCE)
    assert telemetry(emulator, device_id) == []


def test_a_retained_message_is_marked_as_such(
    emulator: RunningEmulator, device_id: str, certificate: DeviceCertificate
) -> None:
    """The hub keeps no retained messages, and says so with a property."""
    with session(emulator, device_id, certificate) as device:
        device.publish(f"devices/{device_id}/messages/events/", b"plain")
        device.publish(f"devices/{device_id}/messages/events/n=1", b"kept", retain=True)
    assert [message["properties"] for message in telemetry(emulator, device_id)] == [
        {},
        {"n": "1", "mqtt-retain": "true"},
    ]
