"""Devices' own connections to the emulated hub over AMQP, with a client that says what Microsoft's SDKs say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import pytest
import requests
import uamqp
from uamqp import ReceiveClient, SendClient
from uamqp.authentication import JWTTokenAuth
from uamqp.constants import MessageState

from emulator.protocols.amqp.composites import (
    Accepted,
    Close,
    Detach,
    Disposition,
    End,
    Error,
    Modified,
    Properties,
    Rejected,
    Released,
    Transfer,
)
from emulator.protocols.amqp.messages import Message
from emulator.protocols.amqp.types import Described, Int, Symbol, Timestamp, ULong, encode
from emulator.tests.amqp_clients import (
    FEEDBACK,
    SAS_TYPE,
    RawClient,
    device_client,
    raw_client,
    trusted_client,
)
from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService
from emulator.tests.iot_hub_clients import PATIENCE, device_certificate, eventually
from emulator.tests.running import SetClock, emulator_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from emulator.tests.running import RunningEmulator

UNAUTHORIZED = "amqp:unauthorized-access"
BATCH = 0x80013700
VERSION = {Symbol("com.microsoft:api-version"): "2021-04-12"}
SENDER_SETTLES = {"snd_settle_mode": 1}


@dataclass(frozen=True)
class Known:
    """A device that the hub knows by its certificate."""

    emulator: RunningEmulator
    device_id: str
    files: tuple[str, str]

    def at(self, node: str) -> str:
        return f"/devices/{self.device_id}/{node}"

    @property
    def identity(self) -> dict[str, Any]:
        found: dict[str, Any] = DpsService(self.emulator).hub("GET", f"/devices/{self.device_id}").json()
        return found

    def telemetry(self) -> list[dict[str, Any]]:
        query = {"device": self.device_id}
        answer = requests.get(f"{self.emulator.admin_url}/telemetry", params=query, timeout=PATIENCE)
        messages: list[dict[str, Any]] = answer.json()["messages"]
        return messages

    def command(self, body: str, **fields: Any) -> None:
        """Send a cloud-to-device message."""
        message = {"device": self.device_id, "body": body, **fields}
        requests.post(f"{self.emulator.admin_url}/messages", json=message, timeout=PATIENCE).raise_for_status()

    def enable(self, status: str) -> None:
        path = f"{self.emulator.https_url}/devices/{self.device_id}?api-version=2021-04-12"
        token = self.emulator.token("https://iothubs.azure.net")
        requests.put(
            path,
            json={"deviceId": self.device_id, "status": status},
            headers={"Authorization": f"Bearer {token}", "If-Match": "*"},
            verify=self.emulator.ca_file,
            timeout=PATIENCE,
        ).raise_for_status()


class SignedFor(NamedTuple):
    """A token as uamqp takes it."""

    token: bytes
    expires_on: int


def known(emulator: RunningEmulator, folder: Path) -> Known:
    name = f"device-{uuid.uuid4().hex[:8]}"
    certificate = device_certificate(folder, name)
    thumbprints = {"primaryThumbprint": certificate.sha256}
    body = {"deviceId": name, "authentication": {"type": "selfSigned", "x509Thumbprint": thumbprints}}
    DpsService(emulator).hub("PUT", f"/devices/{name}", body).raise_for_status()
    return Known(emulator, name, (str(certificate.certificate_file), str(certificate.key_file)))


@pytest.fixture
def device(emulator: RunningEmulator, tmp_path: Path) -> Known:
    return known(emulator, tmp_path)


@pytest.fixture
def faults(emulator: RunningEmulator) -> Iterator[Any]:
    """Plans one fault of devices' connections; it is gone after the test."""

    def plan(**rule: Any) -> None:
        body = {"rules": [{"service": "iot_hub_device", "count": 1, **rule}]}
        requests.put(f"{emulator.admin_url}/faults", json=body, timeout=PATIENCE).raise_for_status()

    yield plan
    requests.delete(f"{emulator.admin_url}/faults", timeout=PATIENCE)


# --- another client ---


def test_microsofts_amqp_library_is_a_device(device: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """uamqp, which the service SDK for Python is built on, puts a signature, sends, receives and accepts."""
    emulator, name = device.emulator, keyed(device.emulator)
    monkeypatch.setenv("SSL_CERT_FILE", emulator.ca_file)
    host = emulator.endpoints["iotHubs"][0]["hostName"]

    def of_the_device() -> JWTTokenAuth:
        token = SignedFor(signature(emulator, name).encode(), int(time.time()) + 60)
        resource = f"{host}/devices/{name}"
        return JWTTokenAuth(resource, f"amqps://{resource}", lambda: token, token_type=SAS_TYPE.encode())

    sender = SendClient(f"amqps://{host}/devices/{name}/messages/events", auth=of_the_device())
    sender.queue_message(uamqp.Message(b"20 C", application_properties={"a": "b"}))
    assert sender.send_all_messages() == [MessageState.SendComplete]
    sender.close()
    keyed_device = Known(emulator, name, ("", ""))
    assert [(each["body"], each["properties"]) for each in keyed_device.telemetry()] == [("20 C", {"a": "b"})]

    keyed_device.command("do it")
    receiver = ReceiveClient(f"amqps://{host}/devices/{name}/messages/devicebound", auth=of_the_device(), prefetch=5)
    [message] = receiver.receive_message_batch(timeout=PATIENCE * 1000)
    assert b"".join(message.get_data()) == b"do it"
    message.accept()
    receiver.close()
    assert keyed_device.identity["cloudToDeviceMessageCount"] == 0


# --- telemetry ---


@pytest.mark.parametrize("mechanism", [None, "ANONYMOUS", "EXTERNAL"])
@pytest.mark.parametrize("websocket", [None, "/$iothub/websocket"])
def test_a_device_sends_with_its_certificate(device: Known, mechanism: str | None, websocket: str | None) -> None:
    """Over TCP and websockets, with every kind of SASL and with none; it is connected as long as it has links."""
    with device_client(device.emulator, device.files, mechanism=mechanism, websocket=websocket) as client:
        handle = client.sender(device.at("messages/events"))
        assert client.outcome(handle, Message(body=b"20 C")) is None
        assert device.identity["connectionState"] == "Connected"
        client.send(Detach(handle=handle, closed=True))
        client.next(Detach)
        assert device.identity["connectionState"] == "Disconnected"
        client.close()
    assert [message["body"] for message in device.telemetry()] == ["20 C"]


def test_a_message_keeps_its_properties(device: Known) -> None:
    """As over MQTT: those of the application, and those of the system by their names in the documentation."""
    message = Message(
        body=b'{"t": 20}',
        properties=Properties(
            message_id="m-1",
            correlation_id=uuid.UUID(int=7),
            user_id=b"me",
            to=device.at("messages/events"),
            content_type="application/json",
            content_encoding="utf-8",
            absolute_expiry_time=Timestamp(1_900_000_000_000),
        ),
        application_properties={"level": Int(3), "hot": True, "iothub-creation-time-utc": "2026-01-31T12:00:00Z"},
        annotations={Symbol("dt-subject"): "thermostat1"},
    )
    with device_client(device.emulator, device.files) as client:
        address = f"amqps://{device.emulator.endpoints['iotHubs'][0]['hostName']}{device.at('messages/events')}"
        assert client.outcome(client.sender(address, properties=VERSION), message) is None
    received = device.telemetry()[0]
    assert received["properties"] == {"level": "3", "hot": "true"}
    assert received["systemProperties"] == {
        "messageId": "m-1",
        "correlationId": "00000000-0000-0000-0000-000000000007",
        "userId": "me",
        "contentType": "application/json",
        "contentEncoding": "utf-8",
        "expiryTimeUtc": "2030-03-17T17:46:40+00:00",
        "creationTimeUtc": "2026-01-31T12:00:00Z",
        "componentName": "thermostat1",
    }


def test_a_batch_is_several_messages(device: Known) -> None:
    """As the SDK for C# sends it: a message format of its own, and a message in each data section."""
    messages = [Message(body=b"one"), Message(body=b"two", application_properties={"n": "2"})]
    batch = b"".join(encode(Described(ULong(0x75), each.encode())) for each in messages)
    with device_client(device.emulator, device.files) as client:
        client.transfer(client.sender(device.at("messages/events")), batch, kind=BATCH)
        assert client.told() is None
    assert [(each["body"], each["properties"]) for each in device.telemetry()] == [("one", {}), ("two", {"n": "2"})]


def test_a_message_that_can_not_be_read_is_rejected(device: Known) -> None:
    """Octets that are none, a body that is not data, a property of a wrong kind; nothing of a bad batch is kept."""
    with device_client(device.emulator, device.files) as client:
        handle = client.sender(device.at("messages/events"))
        assert client.outcome(handle, b"\x99")[0] == "amqp:decode-error"
        assert client.outcome(handle, Message(body="text", has_data=False)) == (
            "amqp:not-implemented",
            "ErrorCode:NotImplemented;The emulator does not offer bodies other than data sections.",
        )
        listed = Message(body=b"", application_properties={"list": [1]})
        assert client.outcome(handle, listed) == (
            "com.microsoft:argument-error",
            "ErrorCode:ArgumentInvalid;the property 'list' is neither text nor number.",
        )
        batch = b"".join(encode(Described(ULong(0x75), each)) for each in (Message(body=b"good").encode(), b"\x99"))
        client.transfer(handle, batch, kind=BATCH)
        assert client.told()[0] == "amqp:decode-error"
        assert client.outcome(handle, b"") is None  # a message without a body, as the SDK for C# makes them
    assert [message["body"] for message in device.telemetry()] == [""]


def test_the_rate_of_messages_holds(tmp_path: Path) -> None:
    """One over it is rejected with the condition that the SDKs take for throttling."""
    with emulator_in_thread(tmp_path) as emulator:
        device = known(emulator, tmp_path)
        with device_client(emulator, device.files) as client:
            handle = client.sender(device.at("messages/events"))
            limits = {"enabled": True, "scale": 0.01}
            requests.put(f"{emulator.admin_url}/throttling", json=limits, timeout=PATIENCE).raise_for_status()
            assert client.outcome(handle, Message(body=b"1")) is None
            assert client.outcome(handle, Message(body=b"2"))[0] == "com.microsoft:device-container-throttled"
        assert len(device.telemetry()) == 1


def test_the_rate_of_connections_holds(tmp_path: Path) -> None:
    """A device's first link counts as its connection, further ones do not."""
    with emulator_in_thread(tmp_path) as emulator:
        first, second = known(emulator, tmp_path), known(emulator, tmp_path)
        limits = {"enabled": True, "scale": 0.01}
        requests.put(f"{emulator.admin_url}/throttling", json=limits, timeout=PATIENCE).raise_for_status()
        with device_client(emulator, first.files) as client:
            client.sender(first.at("messages/events"))
            client.sender(first.at("twin"))
        with device_client(emulator, second.files) as client:
            condition, _ = client.refused(second.at("messages/events"))
            assert condition == "com.microsoft:device-container-throttled"


# --- cloud-to-device messages ---


def test_a_device_receives_and_accepts(device: Known) -> None:
    """A message that waited comes with its properties, and is gone once accepted."""
    system = {"messageId": "c-1", "correlationId": "k", "contentType": "text/plain", "ack": "full", "userId": "you"}
    device.command("do it", properties={"to": "the max"}, systemProperties=system)
    with device_client(device.emulator, device.files) as client:
        client.receiver(device.at("messages/devicebound"))
        number, message = client.receive()
        assert message.body == b"do it"
        properties = message.properties
        assert (properties.message_id, properties.correlation_id, properties.user_id) == ("c-1", "k", b"you")
        assert (properties.content_type, properties.to) == ("text/plain", device.at("messages/devicebound"))
        assert message.application_properties == {"to": "the max", "iothub-ack": "full"}
        assert message.annotations == {"x-opt-sequence-number": 1, "iothub-deliverycount": 0}
        expires = (properties.absolute_expiry_time or 0) / 1000 - time.time()
        assert 3500 < expires <= 3600
        assert device.identity["cloudToDeviceMessageCount"] == 1
        client.settle(number, Accepted())
        eventually(lambda: device.identity["cloudToDeviceMessageCount"], lambda count: count == 0)


def test_one_comes_while_the_device_listens_and_only_as_many_as_it_takes(device: Known) -> None:
    """Credit bounds what is on its way; what has not been sent does not count as delivered."""
    with device_client(device.emulator, device.files) as client:
        handle = client.receiver(device.at("messages/devicebound"), credit=1)
        device.command("first")
        device.command("second")
        number, message = client.receive()
        assert message.body == b"first"
        client.settle(number, Accepted())
        client.allow(handle, 1, delivery_count=1, next_incoming_id=1)
        _, message = client.receive()
        assert (message.body, message.annotations["iothub-deliverycount"]) == (b"second", 0)


@pytest.mark.parametrize("outcome", [Released(), Modified(delivery_failed=True)])
def test_what_is_given_back_comes_once_more(device: Known, outcome: Any) -> None:
    """Released and modified mean later; the count of deliveries goes up."""
    with device_client(device.emulator, device.files) as client:
        client.receiver(device.at("messages/devicebound"))
        device.command("again")
        number, _ = client.receive()
        client.settle(number, outcome)
        number, message = client.receive()
        assert (message.body, message.annotations["iothub-deliverycount"]) == (b"again", 1)
        client.settle(number, Accepted())
        eventually(lambda: device.identity["cloudToDeviceMessageCount"], lambda count: count == 0)


def test_what_is_rejected_is_gone_and_its_sender_told(device: Known) -> None:
    """The feedback of a rejected message says so."""
    message_id = f"unwanted by {device.device_id}"
    device.command("no", systemProperties={"messageId": message_id, "ack": "negative"})
    with device_client(device.emulator, device.files) as client:
        client.receiver(device.at("messages/devicebound"))
        number, _ = client.receive()
        client.settle(number, Rejected())
        eventually(lambda: device.identity["cloudToDeviceMessageCount"], lambda count: count == 0)
    with trusted_client(device.emulator) as service:
        service.receiver(FEEDBACK)
        found: list[dict[str, Any]] = []
        while not (ours := [record for record in found if record["originalMessageId"] == message_id]):
            number, batch = service.receive()
            service.settle(number, Accepted())
            found += json.loads(batch.body)
    assert [record["statusCode"] for record in ours] == ["Rejected"]


def test_what_was_not_settled_comes_with_the_next_connection(device: Known) -> None:
    """A link that ends leaves its messages where they were."""
    device.command("keep")
    for count in (0, 1):
        with device_client(device.emulator, device.files) as client:
            client.receiver(device.at("messages/devicebound"))
            _, message = client.receive()
            assert (message.body, message.annotations["iothub-deliverycount"]) == (b"keep", count)
            client.close()
    assert device.identity["cloudToDeviceMessageCount"] == 1


def test_a_receiver_that_settles_second_is_answered(device: Known) -> None:
    """As the SDK for C# attaches: the mode is kept, and its disposition is answered with the outcome."""
    device.command("do it")
    with device_client(device.emulator, device.files) as client:
        attached = client.attach(device.at("messages/devicebound"), receives=True, rcv_settle_mode=1)
        assert attached.rcv_settle_mode == 1
        client.allow(attached.handle, 10)
        number, _ = client.receive()
        client.send(Disposition(role=True, first=number, settled=False, state=Accepted()))
        answer = client.next(Disposition)
        assert (answer.role, answer.first, answer.settled) == (False, number, True)
        assert isinstance(answer.state, Accepted)


# --- direct methods ---


class Calling(threading.Thread):
    """A service that calls a direct method, while the device answers in the test's own thread."""

    def __init__(self, device: Known, **fields: Any) -> None:
        super().__init__()
        self._device = device
        self._body = {"methodName": "reboot", "payload": {"in": 5}, "responseTimeoutInSeconds": 5, **fields}
        self._answer: requests.Response | None = None
        self.start()

    def run(self) -> None:
        service = DpsService(self._device.emulator)
        self._answer = service.hub("POST", f"/twins/{self._device.device_id}/methods", self._body)

    @property
    def answer(self) -> requests.Response:
        self.join(PATIENCE)
        assert self._answer is not None
        return self._answer


@pytest.mark.parametrize("form", [lambda given: given, str, lambda given: given.bytes])
def test_a_device_answers_a_method(device: Known, form: Callable[[uuid.UUID], Any]) -> None:
    """The request's id comes as a UUID, and goes back as one, as its text, or as its octets."""
    with device_client(device.emulator, device.files) as client:
        sender = client.sender(device.at("methods/devicebound"), properties=VERSION, **SENDER_SETTLES)
        client.receiver(device.at("methods/devicebound"), properties=VERSION, **SENDER_SETTLES)
        calling = Calling(device)
        _, request = client.receive()
        assert request.application_properties == {"IoThub-methodname": "reboot"}
        assert json.loads(request.body) == {"in": 5}
        assert isinstance(request.properties.correlation_id, uuid.UUID)
        answer = Message(
            body=b'{"ok": true}',
            properties=Properties(correlation_id=form(request.properties.correlation_id)),
            application_properties={"IoThub-status": Int(202)},
        )
        assert client.outcome(sender, answer) is None
    assert calling.answer.json() == {"status": 202, "payload": {"ok": True}}


def test_answers_that_can_not_be_read_are_rejected(device: Known) -> None:
    """No status, no id of a request, no JSON; one that nobody waits for is taken, as it came too late."""
    good: dict[str, Any] = {"correlation_id": uuid.uuid4()}
    with device_client(device.emulator, device.files) as client:
        sender = client.sender(device.at("methods/devicebound"))
        for properties, application, body, reason in (
            (good, {}, b"", "IoThub-status is None; a method's answer has a whole number there."),
            ({"correlation_id": "x"}, {"IoThub-status": Int(1)}, b"", "correlation-id 'x' is not the id of a request."),
            (good, {"IoThub-status": Int(1)}, b"{", "The payload is not valid JSON."),
        ):
            message = Message(body=body, properties=Properties(**properties), application_properties=application)
            expected = ("com.microsoft:argument-error", f"ErrorCode:ArgumentInvalid;{reason}")
            assert client.outcome(sender, message) == expected
        late = Message(body=b"", properties=Properties(**good), application_properties={"IoThub-status": Int(200)})
        assert client.outcome(sender, late) is None


def test_a_device_that_leaves_ends_its_calls(device: Known) -> None:
    """A caller is told at once that the device is gone, and one that calls a device with one link finds none."""
    with device_client(device.emulator, device.files) as client:
        client.receiver(device.at("methods/devicebound"))
        offline = Calling(device).answer
        assert (offline.status_code, json.loads(offline.json()["Message"])["errorCode"]) == (404, 404103)
        client.sender(device.at("methods/devicebound"))
        calling = Calling(device, responseTimeoutInSeconds=60)
        client.receive()
        client.close()
    assert json.loads(calling.answer.json()["Message"])["message"] == "Device unavailable"


# --- the twin ---


class Twin:
    """The twin's links of a client."""

    def __init__(self, client: RawClient, device: Known) -> None:
        self._client = client
        self._sender = client.sender(device.at("twin"), properties=VERSION, **SENDER_SETTLES)
        client.receiver(device.at("twin"), properties=VERSION, **SENDER_SETTLES)

    def ask(self, operation: str, resource: str | None = None, body: bytes = b" ") -> tuple[int, Any, Any]:
        """Gives status, version and body of the answer."""
        annotations: dict[Any, Any] = {Symbol("operation"): operation, Symbol("version"): None}
        if resource is not None:
            annotations[Symbol("resource")] = resource
        properties = Properties(correlation_id=f"{operation}-1")
        self._client.transfer(self._sender, Message(body=body, properties=properties, annotations=annotations))
        _, answer = self._client.receive()
        assert self._client.told() is None
        assert answer.properties.correlation_id == f"{operation}-1"
        parsed = json.loads(answer.body) if answer.body else None
        return answer.annotations["status"], answer.annotations.get("version"), parsed


def change_desired(device: Known, **desired: Any) -> None:
    path = f"{device.emulator.https_url}/twins/{device.device_id}?api-version=2021-04-12"
    token = device.emulator.token("https://iothubs.azure.net")
    headers = {"Authorization": f"Bearer {token}"}
    body = {"properties": {"desired": desired}}
    answer = requests.patch(path, json=body, headers=headers, verify=device.emulator.ca_file, timeout=PATIENCE)
    answer.raise_for_status()


def test_a_device_reads_and_reports_its_twin(device: Known) -> None:
    """GET gives what the device may see; a report gives the new version."""
    with device_client(device.emulator, device.files) as client:
        twin = Twin(client, device)
        assert twin.ask("GET") == (200, None, {"desired": {"$version": 1}, "reported": {"$version": 1}})
        assert twin.ask("PATCH", "/properties/reported", b'{"firmware": "1.2"}') == (204, 2, None)
        assert twin.ask("GET")[2]["reported"] == {"firmware": "1.2", "$version": 2}


def test_a_device_hears_of_desired_properties_while_it_wants_to(device: Known) -> None:
    """A notification is a message without a correlation id; PUT asks for them, and DELETE asks for no more."""
    notifications = "/notifications/twin/properties/desired"
    with device_client(device.emulator, device.files) as client:
        twin = Twin(client, device)
        change_desired(device, unseen=True)
        assert twin.ask("PUT", notifications) == (200, None, None)
        change_desired(device, speed=7)
        _, message = client.receive()
        assert message.properties.correlation_id is None
        assert json.loads(message.body) == {"speed": 7, "$version": 3}
        assert message.annotations == {"version": 3}
        assert twin.ask("DELETE", notifications) == (200, None, None)
        change_desired(device, speed=8)
        assert twin.ask("GET")[2]["desired"] == {"unseen": True, "speed": 8, "$version": 4}


def test_twin_requests_that_can_not_be_are_answered_by_status(device: Known) -> None:
    """In the body that MQTT has for it: a report that breaks a rule, no JSON, an operation that does not exist."""
    with device_client(device.emulator, device.files) as client:
        twin = Twin(client, device)
        report = "/properties/reported"
        broken = "properties.reported must be a JSON object."
        assert twin.ask("PATCH", report, b"[]") == (400, None, {"errorCode": 400004, "message": broken})
        no_json = {"errorCode": 400004, "message": "The payload is not valid JSON."}
        assert twin.ask("PATCH", report, b"{") == (400, None, no_json)
        status, _, body = twin.ask("PATCH", "/tags", b"{}")
        assert status == 501
        assert body == {
            "errorCode": 501001,
            "message": "The emulator does not offer the operation 'PATCH' on '/tags' of a twin over AMQP.",
        }
    with device_client(device.emulator, device.files) as client:
        expected = ("amqp:precondition-failed", "attach a link that receives from the twin first")
        assert client.outcome(client.sender(device.at("twin")), Message(body=b"")) == expected


# --- who may ---


def refused(client: RawClient, address: str, **fields: Any) -> tuple[str, str | None]:
    found = client.refused(address, **fields)
    client.close()
    return found


def test_a_device_is_let_in_by_what_the_hub_knows_of_it(device: Known, tmp_path: Path) -> None:
    """No certificate and a strange one are told at the link, as the SDKs expect, and so is an id that is not there."""
    strange = device_certificate(tmp_path, device.device_id)
    address = device.at("messages/events")
    with device_client(device.emulator, None) as client:
        expected = (UNAUTHORIZED, "no token was put to $cbs, and no certificate was sent")
        assert refused(client, address) == expected
    with device_client(device.emulator, (str(strange.certificate_file), str(strange.key_file))) as client:
        condition, reason = refused(client, address)
        assert condition == UNAUTHORIZED
        assert f"Thumbprint does not match configuration: Thumbprint: SHA1Hash={strange.sha1}" in (reason or "")
    with device_client(device.emulator, device.files) as client:
        host = device.emulator.endpoints["iotHubs"][0]["hostName"]
        reason = f"IotHub '{host}' does not contain the specified device 'nobody'"
        assert refused(client, "/devices/nobody/messages/events") == ("amqp:not-found", reason)
    device.enable("disabled")
    with device_client(device.emulator, device.files) as client:
        assert refused(client, address)[0] == "amqp:not-found"


def test_a_device_below_a_verified_ca_of_the_hub_is_let_in(emulator: RunningEmulator, tmp_path: Path) -> None:
    """With ``certificateAuthority`` its chain decides, as over MQTT."""
    root, name = make("amqp hub root", ca=True), f"device-{uuid.uuid4().hex[:8]}"
    service = DpsService(emulator)
    body = {"properties": {"certificate": root.pem, "isVerified": True}}
    path = f"{emulator.endpoints['iotHubs'][0]['resourceId']}/certificates/amqp-root?api-version=2023-06-30"
    service.call("PUT", path, body, resource="https://management.azure.com").raise_for_status()
    identity = {"deviceId": name, "authentication": {"type": "certificateAuthority"}}
    service.hub("PUT", f"/devices/{name}", identity).raise_for_status()
    for files, is_good in ((make(name, root).files(tmp_path), True), (make("other", root).files(tmp_path), False)):
        with device_client(emulator, files) as client:
            address = f"/devices/{name}/messages/events"
            if is_good:
                assert client.outcome(client.sender(address), Message(body=b"in")) is None
            else:
                assert client.refused(address)[0] == UNAUTHORIZED


def signature(emulator: RunningEmulator, device_id: str, *, seconds: int = 60, key: bytes | None = None) -> str:
    """A signature with a device's own key, of the emulator's time."""
    identity = DpsService(emulator).hub("GET", f"/devices/{quote(device_id, safe='')}").json()
    kept = base64.b64decode(identity["authentication"]["symmetricKey"]["primaryKey"])
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    scope = quote(f"{host}/devices/{quote(device_id, safe='')}", safe="")
    end = int(emulator.context.clock().timestamp()) + seconds
    digest = hmac.digest(kept if key is None else key, f"{scope}\n{end}".encode(), hashlib.sha256)
    return f"SharedAccessSignature sr={scope}&sig={quote(base64.b64encode(digest).decode(), safe='')}&se={end}"


def keyed(emulator: RunningEmulator, device_id: str | None = None) -> str:
    """A device that the hub knows by its key."""
    name = device_id or f"keyed-{uuid.uuid4().hex[:8]}"
    path = f"/devices/{quote(name, safe='')}"
    DpsService(emulator).hub("PUT", path, {"deviceId": name}).raise_for_status()
    return name


def test_a_signature_is_put_to_cbs(emulator: RunningEmulator) -> None:
    """It lets in the device that it is of, and no other; one that is not good is told by its status."""
    name, other = keyed(emulator), keyed(emulator)
    with device_client(emulator, None, mechanism="MSSBCBS") as client:
        assert client.put_token(signature(emulator, name, key=b"x")) == (
            401,
            f"the signature of {name!r} is refused: the signature does not match the policy's key",
        )
        assert client.put_token(signature(emulator, name, seconds=-1))[0] == 401
        assert client.put_token(signature(emulator, name).replace(name, "nobody"))[0] == 404
        assert client.refused(f"/devices/{name}/messages/events")[0] == UNAUTHORIZED
        assert client.put_token(signature(emulator, name)) == (200, "OK")
        assert client.outcome(client.sender(f"/devices/{name}/messages/events"), Message(body=b"in")) is None
        assert client.refused(f"/devices/{other}/messages/events")[0] == UNAUTHORIZED
        assert client.refused("/messages/devicebound") == (UNAUTHORIZED, "no token was put to $cbs")


def test_a_signature_ends_with_its_time(tmp_path: Path) -> None:
    """The link is detached with the next message, and a new signature opens it again."""
    clock = SetClock()
    with emulator_in_thread(tmp_path, clock=clock) as emulator:
        name = keyed(emulator)
        address = f"/devices/{name}/messages/events"
        with device_client(emulator, None) as client:
            assert client.put_token(signature(emulator, name)) == (200, "OK")
            handle = client.sender(address)
            clock.pass_(61)
            client.transfer(handle, Message(body=b"late"))
            error = client.next(Detach).error
            assert error is not None
            assert error.condition == UNAUTHORIZED
            client.send(Detach(handle=handle, closed=True))
            assert client.put_token(signature(emulator, name)) == (200, "OK")
            assert client.outcome(client.sender(address), Message(body=b"in time")) is None


@pytest.mark.parametrize(("user", "code"), [("{}@sas.hub", 0), ("{}", 1)])
def test_a_signature_may_be_a_password(emulator: RunningEmulator, user: str, code: int) -> None:
    """SASL PLAIN takes a device's signature too."""
    name = keyed(emulator)
    with raw_client(emulator) as client:
        assert client.sign_in("PLAIN", f"\0{user.format(name)}\0{signature(emulator, name)}".encode()) == code
        if code:
            assert client.hear() is None
            return
        client.open()
        client.begin()
        assert client.outcome(client.sender(f"/devices/{name}/messages/events"), Message(body=b"in")) is None


def test_ids_are_read_encoded_or_not(emulator: RunningEmulator) -> None:
    """The SDK for C# encodes a device's id in addresses, that for Node does not."""
    name = keyed(emulator, f"a+b%2B-{uuid.uuid4().hex[:8]}")
    with device_client(emulator, None) as client:
        assert client.put_token(signature(emulator, name)) == (200, "OK")
        for spelled in (name, quote(name, safe="")):
            assert client.outcome(client.sender(f"/devices/{spelled}/messages/events"), Message(body=b"in")) is None


@pytest.mark.parametrize(
    ("node", "receives", "fields", "error"),
    [
        ("messages/devicebound", False, {}, ("amqp:not-found", "devices send nothing to '/devices/{}/messages/devicebound'")),
        ("messages/events", True, {}, ("amqp:not-found", "devices receive nothing from '/devices/{}/messages/events'")),
        ("files", False, {}, ("amqp:not-found", "devices send nothing to '/devices/{}/files'")),
        ("modules/m/messages/events", False, {}, ("amqp:not-implemented", "The emulator does not offer modules.")),
    ],
)  # fmt: skip
def test_other_nodes_are_refused_by_name(
    device: Known, node: str, fields: dict[str, Any], error: tuple[str, str], *, receives: bool
) -> None:
    """The session goes on, and a device that has no link is not connected."""
    with device_client(device.emulator, device.files) as client:
        expected = (error[0], error[1].format(device.device_id))
        assert client.refused(device.at(node), receives=receives, **fields) == expected
        assert device.identity["connectionState"] == "Disconnected"
        assert client.outcome(client.sender(device.at("messages/events")), Message(body=b"in")) is None


def test_a_version_that_does_not_exist_is_refused(device: Known) -> None:
    """A link may say none, as Node's for telemetry; what it says has to be one of the hub's."""
    with device_client(device.emulator, device.files) as client:
        unknown = {Symbol("com.microsoft:api-version"): "1999-01-01"}
        condition, reason = client.refused(device.at("twin"), properties=unknown)
        assert condition == "com.microsoft:argument-error"
        assert (reason or "").startswith("BadRequest: api-version is '1999-01-01'; it must be one of ")


# --- how it ends ---


def ended(client: RawClient) -> tuple[Error | None, Error | None]:
    """Give why the session and then the connection end, and answer as a client does."""
    session = client.next(End).error
    connection = client.next(Close).error
    client.send(Close())
    assert client.hear() is None
    return session, connection


@pytest.mark.parametrize("websocket", [None, "/$iothub/websocket"])
def test_a_device_that_is_disabled_is_disconnected_at_once(device: Known, websocket: str | None) -> None:
    """Session and connection end with the reason; Node's SDK waits for both."""
    with device_client(device.emulator, device.files, websocket=websocket) as client:
        client.sender(device.at("messages/events"))
        device.enable("disabled")
        expected = Error(condition="amqp:not-found", description="the device was disabled or deleted")
        assert ended(client) == (expected, expected)
    assert device.identity["connectionState"] == "Disconnected"


def test_a_client_that_does_not_answer_is_cut_off(device: Known) -> None:
    """What it still says is not heard."""
    with device_client(device.emulator, device.files) as client:
        handle = client.sender(device.at("messages/events"))
        device.enable("disabled")
        client.next(End)
        client.next(Close)
        client.transfer(handle, Message(body=b"too late"))
        assert client.hear() is None
    assert device.telemetry() == []


def test_a_newer_connection_takes_the_place_of_an_older_one(device: Known) -> None:
    """Of each device there is one; the older one is told."""
    with device_client(device.emulator, device.files) as older:
        older.sender(device.at("messages/events"))
        with device_client(device.emulator, device.files) as newer:
            handle = newer.sender(device.at("messages/events"))
            expected = Error(condition="amqp:connection:forced", description="the device has connected anew")
            assert ended(older) == (expected, expected)
            assert newer.outcome(handle, Message(body=b"newer")) is None
            assert device.identity["connectionState"] == "Connected"


def test_devices_share_a_connection(emulator: RunningEmulator) -> None:
    """As the SDK for C# pools them: one that is deleted loses its links, and the other goes on."""
    first, second = keyed(emulator), keyed(emulator)
    with device_client(emulator, None) as client:
        handles = []
        for name in (first, second):
            assert client.put_token(signature(emulator, name)) == (200, "OK")
            handles.append(client.sender(f"/devices/{name}/messages/events"))
        DpsService(emulator).hub("DELETE", f"/devices/{first}").raise_for_status()
        detach = client.next(Detach)
        assert (detach.handle, detach.error and detach.error.condition) == (handles[0], "amqp:not-found")
        assert client.outcome(handles[1], Message(body=b"goes on")) is None


# --- planned faults ---


@pytest.mark.parametrize(
    ("status", "condition"),
    [(401, UNAUTHORIZED), (429, "com.microsoft:device-container-throttled"), (503, "com.microsoft:timeout")],
)
def test_a_planned_status_stands_for_a_condition(device: Known, faults: Any, status: int, condition: str) -> None:
    """It refuses a link, or rejects a message, once."""
    expected = (condition, f"a planned fault: {status}")
    with device_client(device.emulator, device.files) as client:
        faults(operation="connect", status=status)
        assert client.refused(device.at("messages/events")) == expected
        handle = client.sender(device.at("messages/events"))
        faults(operation="telemetry", status=status)
        assert client.outcome(handle, Message(body=b"lost")) == expected
        assert client.outcome(handle, Message(body=b"kept")) is None
        faults(operation="twinGet", status=status)
        assert Twin(client, device).ask("GET")[0] == status
    assert [message["body"] for message in device.telemetry()] == ["kept"]


@pytest.mark.parametrize(("drop", "kept"), [("request", []), ("response", ["sent"])])
def test_a_planned_drop_ends_the_connection(device: Known, faults: Any, drop: str, kept: list[str]) -> None:
    """Before its effect or after it."""
    with device_client(device.emulator, device.files) as client:
        handle = client.sender(device.at("messages/events"))
        faults(operation="telemetry", drop=drop)
        client.transfer(handle, Message(body=b"sent"))
        while not isinstance(client.frame()[0], Transfer | None):
            pass
    assert [message["body"] for message in device.telemetry()] == kept
