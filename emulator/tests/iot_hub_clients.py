"""Clients of the emulated hub: registries and devices, each Microsoft's own, and one that says what no SDK would."""

from __future__ import annotations

import queue
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt  # type: ignore[import-untyped]  # it comes with azure-iot-device, and has no types
from azure.iot.device import X509, IoTHubDeviceClient
from azure.iot.device.exceptions import NoConnectionError
from azure.iot.hub import IoTHubRegistryManager
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PATIENCE = 10
"""Seconds until something that ought to happen is given up."""

DAY = timedelta(days=1)


@dataclass(frozen=True)
class DeviceCertificate:
    """A self-signed certificate with its key, in files as the device SDK wants them."""

    certificate_file: Path
    key_file: Path
    sha1: str
    sha256: str


def device_certificate(folder: Path, name: str, *, not_after: datetime | None = None) -> DeviceCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    until = not_after or datetime.now(UTC) + DAY
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - 2 * DAY)
        .not_valid_after(until)
        .sign(key, hashes.SHA256())
    )
    made = DeviceCertificate(
        folder / f"{name}.{certificate.serial_number:x}.pem",
        folder / f"{name}.{certificate.serial_number:x}.key",
        certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303  a name, not a signature
        certificate.fingerprint(hashes.SHA256()).hex().upper(),
    )
    made.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def registry_of(endpoints: Mapping[str, Any], hub: int = 0) -> IoTHubRegistryManager:
    """A registry with the owner's connection string; the caller sees to REQUESTS_CA_BUNDLE."""
    return IoTHubRegistryManager.from_connection_string(endpoints["iotHubConnectionStrings"][hub])


@contextmanager
def device_client(
    endpoints: Mapping[str, Any], device_id: str, certificate: DeviceCertificate, hub: int = 0
) -> Iterator[IoTHubDeviceClient]:
    """Microsoft's device client, not connected yet, that does not connect again by itself."""
    client = IoTHubDeviceClient.create_from_x509_certificate(
        x509=X509(str(certificate.certificate_file), str(certificate.key_file)),
        hostname=endpoints["iotHubs"][hub]["hostName"],
        device_id=device_id,
        server_verification_cert=Path(endpoints["tlsCaFile"]).read_text(),
        connection_retry=False,
        auto_connect=False,
    )
    try:
        yield client
    finally:
        try:
            client.shutdown()
        except NoConnectionError:  # the emulator ended the connection in between; now there is none to end
            client.shutdown()


def eventually[T](read: Callable[[], T], holds: Callable[[T], bool]) -> T:
    """Ask until the answer holds; the asking itself takes the time."""
    deadline = time.monotonic() + PATIENCE
    while not holds(found := read()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {found!r} after {PATIENCE} s")
    return found


class RawDevice:
    """An MQTT client without a hub's habits.

    Attributes:
        messages: what it received: topic and payload.
        endings: one item for each connection that ended.
        duplicates: for each message, whether DUP was set.
        session_present: what the CONNACK said.
    """

    def __init__(
        self, ca_file: str, client_id: str, username: str, certificate: DeviceCertificate | None, *, clean: bool
    ) -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.endings: queue.Queue[int] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()
        self._client = mqtt.Client(
            client_id=client_id, clean_session=clean, protocol=mqtt.MQTTv311, reconnect_on_failure=False
        )
        self._client.username_pw_set(username)
        context = ssl.create_default_context(cafile=ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate.certificate_file, certificate.key_file)
        self._client.tls_set_context(context)
        self.duplicates: list[bool] = []
        self.session_present: bool | None = None
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda _client, _data, _id, granted: self._answers.put(list(granted))
        self._client.on_publish = lambda _client, _data, number: self._answers.put(number)
        self._client.on_message = self._received
        self._client.on_disconnect = lambda _client, _data, code: self.endings.put(code)

    def _connected(self, _client: Any, _data: Any, flags: dict[str, int], code: int) -> None:
        self.session_present = bool(flags["session present"])
        self._answers.put(code)

    def _received(self, _client: Any, _data: Any, message: Any) -> None:
        self.duplicates.append(bool(message.dup))
        self.messages.put((message.topic, message.payload))

    @property
    def socket(self) -> Any:
        """The connection itself, for a test to break."""
        return self._client.socket()

    def will(self, topic: str, payload: bytes, *, retain: bool) -> None:
        self._client.will_set(topic, payload, qos=1, retain=retain)

    def connect(self, host: str, port: int) -> int:
        """Give the return code of the CONNACK."""
        self._client.connect(host, port)
        self._client.loop_start()
        return int(self._answers.get(timeout=PATIENCE))

    def subscribe(self, *filters: str) -> list[int]:
        """Give what the SUBACK grants."""
        self._client.subscribe([(each, 1) for each in filters])
        return list(self._answers.get(timeout=PATIENCE))

    def publish(self, topic: str, payload: bytes = b"", *, acknowledged: bool = True, retain: bool = False) -> None:
        """Send with QoS 1, and wait for the PUBACK if one is to come."""
        self._client.publish(topic, payload, qos=1, retain=retain)
        if acknowledged:
            self._answers.get(timeout=PATIENCE)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def raw_device(
    ca_file: str, client_id: str, username: str, certificate: DeviceCertificate | None = None, *, clean: bool = True
) -> Iterator[RawDevice]:
    device = RawDevice(ca_file, client_id, username, certificate, clean=clean)
    try:
        yield device
    finally:
        device.close()
