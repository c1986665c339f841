"""Devices' own calls to the emulated hub over HTTPS, as Microsoft's SDK for Node makes them."""

from __future__ import annotations

import base64
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests

from emulator.tests.dps_clients import DpsService
from emulator.tests.iot_hub_clients import PATIENCE, device_certificate
from emulator.tests.running import SetClock, emulator_in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.tests.running import RunningEmulator

BATCH = "application/vnd.microsoft.iothub.json"


class HttpsDevice:
    """A device that the hub knows by its certificate."""

    def __init__(self, emulator: RunningEmulator, folder: Path) -> None:
        self.emulator = emulator
        self.device_id = f"https-{uuid.uuid4().hex[:8]}"
        certificate = device_certificate(folder, self.device_id)
        self.files: tuple[str, str] | None = (str(certificate.certificate_file), str(certificate.key_file))
        thumbprints = {"primaryThumbprint": certificate.sha256}
        body = {"deviceId": self.device_id, "authentication": {"type": "selfSigned", "x509Thumbprint": thumbprints}}
        DpsService(emulator).hub("PUT", f"/devices/{self.device_id}", body).raise_for_status()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                f"{self.emulator.https_url}/devices/{self.device_id}{path}",
                params=options.pop("params", {"api-version": "2021-04-12"}),
                cert=self.files,
                verify=self.emulator.ca_file,
                timeout=PATIENCE,
                **options,
            )

    def telemetry(self) -> list[dict[str, Any]]:
        query = {"device": self.device_id}
        answer = requests.get(f"{self.emulator.admin_url}/telemetry", params=query, timeout=PATIENCE)
        messages: list[dict[str, Any]] = answer.json()["messages"]
        return messages

    def command(self, body: str, **fields: Any) -> None:
        message = {"device": self.device_id, "body": body, **fields}
        requests.post(f"{self.emulator.admin_url}/messages", json=message, timeout=PATIENCE).raise_for_status()

    def receive(self) -> requests.Response:
        return self.call("GET", "/messages/devicebound")

    def locked(self) -> str:
        """Receive a message; gives the token of its lock."""
        return self.receive().headers["ETag"].strip('"')


@pytest.fixture
def device(emulator: RunningEmulator, tmp_path: Path) -> HttpsDevice:
    return HttpsDevice(emulator, tmp_path)


def test_a_device_sends_over_https(device: HttpsDevice) -> None:
    """Its properties are headers, of the application and of the system."""
    headers = {
        "iothub-to": f"/devices/{device.device_id}/messages/events",
        "iothub-app-Level": "3",
        "IoTHub-MessageId": "m-1",
        "iothub-contenttype": "text/plain",
    }
    assert device.call("POST", "/messages/events", data=b"20 C", headers=headers).status_code == 204
    received = device.telemetry()[0]
    assert (received["body"], received["properties"]) == ("20 C", {"Level": "3"})
    assert received["systemProperties"] == {"messageId": "m-1", "contentType": "text/plain"}


def test_a_batch_is_several_messages(device: HttpsDevice) -> None:
    """Bodies are base64, unless one says that it is not."""
    batch = [
        {"body": base64.b64encode(b"one").decode(), "properties": {"iothub-app-n": "1"}},
        {"body": "two", "base64Encoded": False},
    ]
    answer = device.call("POST", "/messages/events", data=json.dumps(batch), headers={"Content-Type": BATCH})
    assert answer.status_code == 204
    assert [(each["body"], each["properties"]) for each in device.telemetry()] == [("one", {"n": "1"}), ("two", {})]


@pytest.mark.parametrize("batch", [b"no json", b"{}", b"7", b"[7]", b'[{"properties": {}}]', b'[{"body": "?"}]'])
def test_a_batch_that_can_not_be_read_is_refused(device: HttpsDevice, batch: bytes) -> None:
    """With the form that would be right; nothing of it is kept."""
    answer = device.call("POST", "/messages/events", data=batch, headers={"Content-Type": BATCH})
    form = '[{"body": base64, "properties": {"iothub-app-name": text}}, ...]'
    expected = f"ErrorCode:ArgumentInvalid;A batch of messages has the form {form}."
    assert (answer.status_code, answer.json()["Message"]) == (400, expected)
    assert device.telemetry() == []


def test_a_message_that_is_too_large_is_refused(device: HttpsDevice) -> None:
    """256 KB, as over every transport."""
    answer = device.call("POST", "/messages/events", data=bytes(256 * 1024 + 1))
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (413, "MessageTooLarge")


def test_a_device_receives_and_settles(device: HttpsDevice) -> None:
    """A message comes under a lock, one at a time, with its properties as headers; 204 when none waits."""
    assert device.receive().status_code == 204
    device.command("first", properties={"x": "y"}, systemProperties={"messageId": "c-1"})
    device.command("second")
    first = device.receive()
    assert (first.status_code, first.content) == (200, b"first")
    assert (first.headers["iothub-app-x"], first.headers["iothub-messageid"]) == ("y", "c-1")
    assert first.headers["iothub-to"] == f"/devices/{device.device_id}/messages/devicebound"
    second = device.locked()
    assert device.receive().status_code == 204
    lock = first.headers["ETag"].strip('"')
    assert device.call("DELETE", f"/messages/devicebound/{lock}").status_code == 204
    assert device.call("POST", f"/messages/devicebound/{second}/abandon").status_code == 204
    again = device.receive()
    assert (again.content, again.headers["iothub-deliverycount"]) == (b"second", "1")
    lock = again.headers["ETag"].strip('"')
    rejected = {"api-version": "2021-04-12", "reject": ""}
    assert device.call("DELETE", f"/messages/devicebound/{lock}", params=rejected).status_code == 204
    assert device.receive().status_code == 204


def test_a_lock_is_over_after_a_minute(tmp_path: Path) -> None:
    """The message comes once more, and the old lock, like one that never was, is refused."""
    clock = SetClock()
    with emulator_in_thread(tmp_path, clock=clock) as emulator:
        device = HttpsDevice(emulator, tmp_path)
        device.command("late")
        lock = device.locked()
        clock.pass_(60)
        for token in (lock, "none"):
            answer = device.call("DELETE", f"/messages/devicebound/{token}")
            assert (answer.status_code, answer.headers["iothub-errorcode"]) == (412, "DeviceMessageLockLost")
        assert device.receive().content == b"late"


def test_a_device_with_nothing_to_authenticate_with_is_refused(device: HttpsDevice) -> None:
    identity = {"deviceId": device.device_id, "authentication": {"type": "none"}}
    registry = DpsService(device.emulator)
    registry.hub("DELETE", f"/devices/{device.device_id}").raise_for_status()
    registry.hub("PUT", f"/devices/{device.device_id}", identity).raise_for_status()
    answer = device.call("POST", "/messages/events", data=b"in")
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (401, "IotHubUnauthorizedAccess")


def test_the_device_is_let_in_as_over_mqtt(device: HttpsDevice, tmp_path: Path) -> None:
    """No certificate and another one's are 401, an id that is not there 404, and a version that never was 400."""
    other = HttpsDevice(device.emulator, tmp_path)
    for files in (None, other.files):
        device.files = files
        answer = device.call("POST", "/messages/events", data=b"in")
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (401, "IotHubUnauthorizedAccess")
    device.device_id = "nobody"
    assert device.receive().status_code == 404
    unknown = other.call("GET", "/messages/devicebound", params={"api-version": "1999-01-01"})
    assert (unknown.status_code, unknown.headers["iothub-errorcode"]) == (400, "InvalidProtocolVersion")


@pytest.mark.parametrize(
    ("path", "what"),
    [("/files", "uploads of files"), ("/files/notifications", "uploads of files"), ("/modules/m/messages/events", "modules")],
)  # fmt: skip
def test_what_is_missing_is_named(device: HttpsDevice, path: str, what: str) -> None:
    """501, in the hub's own body."""
    answer = device.call("POST", path, json={})
    expected = f"ErrorCode:NotImplemented;The emulator does not offer IoT Hub's {what}."
    assert (answer.status_code, answer.json()["Message"]) == (501, expected)
