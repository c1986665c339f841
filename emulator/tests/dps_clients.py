"""Plain clients of the emulated DPS: one for its service side, one that is a device over HTTPS, one over MQTT."""

from __future__ import annotations

import queue
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import paho.mqtt.client as mqtt  # type: ignore[import-untyped]  # it comes with azure-iot-device, and has no types
import requests

from emulator.tests.iot_hub_clients import PATIENCE
from emulator.tests.running import MQTT_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.tests.certificates import Party
    from emulator.tests.running import RunningEmulator

DEVICE_VERSION = {"api-version": "2021-06-01"}


class DpsService:
    """Sets up groups and verified CAs, with tokens made on the spot."""

    def __init__(self, emulator: RunningEmulator) -> None:
        self._emulator = emulator

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        resource: str,
        if_match: str = "",
        continuation: str = "",
        page_size: str = "",
        **params: str,
    ) -> requests.Response:
        headers = {
            "Authorization": f"Bearer {self._emulator.token(resource)}",
            "If-Match": if_match,
            "x-ms-continuation": continuation,
            "x-ms-max-item-count": page_size,
        }
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                f"{self._emulator.https_url}{path}",
                json=body,
                params=params,
                headers={name: value for name, value in headers.items() if value},
                verify=self._emulator.ca_file,
                timeout=PATIENCE,
            )

    def dps(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self.call(
            method, path, body, resource="https://azure-devices-provisioning.net", **{"api-version": "2021-10-01"}
        )

    def hub(self, method: str, path: str, body: Any = None, *, hub: int = 0) -> requests.Response:
        base = self._emulator.endpoints["iotHubs"][hub]["serviceUrl"]
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                f"{base}{path}?api-version=2021-04-12",
                json=body,
                headers={"Authorization": f"Bearer {self._emulator.token('https://iothubs.azure.net')}"},
                verify=self._emulator.ca_file,
                timeout=PATIENCE,
            )

    def verified(self, name: str, party: Party) -> None:
        path = f"{self._emulator.endpoints['dpsResourceId']}/certificates/{name}"
        body = {"properties": {"certificate": party.pem, "isVerified": True}}
        version = {"api-version": "2022-12-12"}
        self.call(
            "PUT", path, body, resource="https://management.azure.com", if_match="*", **version
        ).raise_for_status()

    def group(self, name: str, signer: Party, **fields: Any) -> None:
        """Create a group, or replace the one that is there."""
        present = self.dps("GET", f"/enrollmentGroups/{name}")
        if present.ok:
            self.dps("DELETE", f"/enrollmentGroups/{name}").raise_for_status()
        certificates = {"primary": {"certificate": signer.pem}}
        body = {
            "enrollmentGroupId": name,
            "attestation": {"type": "x509", "x509": {"signingCertificates": certificates}},
            **fields,
        }
        self.dps("PUT", f"/enrollmentGroups/{name}", body).raise_for_status()

    def registration(self, registration_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.dps("GET", f"/registrations/{registration_id}").json()
        return found


class HttpsDevice:
    """A device that registers with plain HTTPS, as curl would."""

    def __init__(self, emulator: RunningEmulator, registration_id: str, files: tuple[str, str] | None) -> None:
        self._base = f"{emulator.endpoints['dpsDeviceUrl']}/{emulator.endpoints['idScope']}"
        self._registration_id = registration_id
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = emulator.ca_file
        self._session.cert = files

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        url = f"{self._base}/registrations/{quote(self._registration_id, safe='')}{path}"
        options.setdefault("params", DEVICE_VERSION)
        with self._session as session:
            return session.request(method, url, timeout=PATIENCE, **options)

    def register(self, **fields: Any) -> requests.Response:
        body = {"registrationId": self._registration_id, **fields}
        return self.call("PUT", "/register", json=body, headers={"Content-Encoding": "utf-8"})

    def operation(self, operation_id: str) -> requests.Response:
        return self.call("GET", f"/operations/{operation_id}")

    def state(self) -> requests.Response:
        return self.call("POST", "", json={"registrationId": self._registration_id})

    def registered(self, **fields: Any) -> dict[str, Any]:
        """Register to the end; gives the registration state."""
        begun = self.register(**fields)
        assert begun.status_code == 202, begun.text
        state: dict[str, Any] = self.operation(begun.json()["operationId"]).json()["registrationState"]
        return state


class MqttDevice:
    """A device that registers with plain MQTT.

    Attributes:
        answers: what DPS sent: topic and payload.
        qualities: the QoS of each answer.
    """

    def __init__(
        self,
        emulator: RunningEmulator,
        registration_id: str,
        files: tuple[str, str] | None,
        *,
        qos: int = 1,
        password: str | None = None,
    ) -> None:
        self.answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.qualities: list[int] = []
        self._ready: queue.Queue[int] = queue.Queue()
        self._client = mqtt.Client(client_id=registration_id, protocol=mqtt.MQTTv311, reconnect_on_failure=False)
        scope = emulator.endpoints["idScope"]
        self._client.username_pw_set(f"{scope}/registrations/{registration_id}/api-version=2019-03-31", password)
        context = ssl.create_default_context(cafile=emulator.ca_file)
        if files:
            context.load_cert_chain(*files)
        self._client.tls_set_context(context)
        self._client.on_connect = lambda *_: self._client.subscribe("$dps/registrations/res/#", qos=qos)
        self._client.on_subscribe = lambda *_: self._ready.put(0)
        self._client.on_message = self._received
        self._host = emulator.endpoints["dpsDeviceHost"]

    def _received(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self.qualities.append(message.qos)
        self.answers.put((message.topic, message.payload))

    def ask(self, topic: str, body: bytes = b"") -> tuple[str, bytes]:
        """Publish below ``$dps/registrations/``, and give the answer."""
        self._client.publish(f"$dps/registrations/{topic}", body, qos=1)
        return self.answers.get(timeout=PATIENCE)

    @contextmanager
    def connected(self) -> Iterator[MqttDevice]:
        self._client.connect(self._host, MQTT_PORT)
        self._client.loop_start()
        try:
            self._ready.get(timeout=PATIENCE)
            yield self
        finally:
            self._client.disconnect()
            self._client.loop_stop()
