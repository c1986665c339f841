"""Devices that cost next to nothing: bare MQTT over asyncio, so that a benchmark measures the emulator and not them.

Topics and names: Microsoft, "Communicate with DPS using the MQTT protocol" and "Communicate with an IoT hub using the
MQTT protocol"; packets: MQTT 3.1.1.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.engine_world import URLS
from shared.pki import names
from shared.pki.issuance import issue, new_serial_number, prepare
from shared.pki.profiles import device_profile
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.pki.subjects import Subject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from shared.pki.issuers import Issuer

_CONNECT, _PUBLISH, _SUBSCRIBE, _DISCONNECT = 0x10, 0x30, 0x82, 0xE0
_CONNACK, _PUBACK, _SUBACK = 0x20, 0x40, 0x90
_AT_LEAST_ONCE = 0x02
_USER_NAME, _CLEAN = 0x80, 0x02
_KEEP_ALIVE = 1200  # seconds
_PACKET_IDENTIFIER = (1).to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Device:
    """A device with its certificate, ready to connect.

    Attributes:
        tls: has its certificate, and trusts the emulator's CA.
    """

    name: str
    tls: ssl.SSLContext


def make_devices(prefix: str, count: int, *, issuer: Issuer, now: datetime, ca_file: str, folder: Path) -> list[Device]:
    """Make devices with keys and certificates of their own; ``ssl`` takes them from files only."""
    devices = []
    chain = "".join(map(names.pem, issuer.sent_chain))
    for number in range(count):
        name = f"{prefix}-{number}"
        key = generate_key(KeyAlgorithm.EC_P256)
        prepared = prepare(
            device_profile(),
            subject=Subject(name),
            public_key=key.public_key(),
            issuer=issuer,
            serial_number=new_serial_number(),
            now=now,
            urls=URLS,
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        file = folder / "device.pem"
        file.write_text(pem + names.pem(issue(prepared, issuer)) + chain)
        tls = ssl.create_default_context(cafile=ca_file)
        tls.load_cert_chain(file)
        file.unlink()
        devices.append(Device(name, tls))
    return devices


class Connection:
    """An MQTT connection that waits for each answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def opened(cls, device: Device, host: str, port: int, user_name: str) -> Self:
        """Connect, and see that it is accepted."""
        connection = cls(*await asyncio.open_connection(host, port, ssl=device.tls))
        flags = bytes((4, _USER_NAME | _CLEAN))
        body = _text("MQTT") + flags + _KEEP_ALIVE.to_bytes(2, "big") + _text(device.name) + _text(user_name)
        connection._send(_CONNECT, body)
        answer = await connection._answer(_CONNACK)
        if answer[1]:
            raise ConnectionRefusedError(f"{device.name} was refused with CONNACK {answer[1]}")
        return connection

    async def subscribe(self, topic: str) -> None:
        """Subscribe, at most once."""
        self._send(_SUBSCRIBE, _PACKET_IDENTIFIER + _text(topic) + b"\0")
        await self._answer(_SUBACK)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish, at least once, and wait until it has arrived."""
        self._send(_PUBLISH | _AT_LEAST_ONCE, _text(topic) + _PACKET_IDENTIFIER + payload)
        await self._answer(_PUBACK)

    async def received(self) -> tuple[str, bytes]:
        """Wait for a message of QoS 0; gives topic and payload."""
        body = await self._answer(_PUBLISH)
        end = 2 + int.from_bytes(body[:2], "big")
        return body[2:end].decode(), body[end:]

    async def close(self) -> None:
        """Say goodbye."""
        self._send(_DISCONNECT, b"")
        self._writer.close()
        await self._writer.wait_closed()

    def _send(self, kind: int, body: bytes) -> None:
        self._writer.write(bytes((kind,)) + _length(len(body)) + body)

    async def _answer(self, kind: int) -> bytes:
        """Read packets up to one of this kind; those of other kinds wait for nobody here."""
        while True:
            found = (await self._reader.readexactly(1))[0]
            body = await self._reader.readexactly(await self._read_length())
            if found & 0xF0 == kind & 0xF0:
                return body

    async def _read_length(self) -> int:
        length = shift = 0
        while True:
            octet = (await self._reader.readexactly(1))[0]
            length |= (octet & 0x7F) << shift
            if octet < 128:  # noqa: PLR2004 - the last one
                return length
            shift += 7


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _length(length: int) -> bytes:
    octets = bytearray()
    while True:
        length, septet = length >> 7, length & 0x7F
        octets.append(septet | (0x80 if length else 0))
        if not length:
            return bytes(octets)


async def register(device: Device, endpoints: dict[str, Any]) -> str:
    """Register a device at DPS, from the TCP connection to its end, and give its hub.

    The operation is looked up without the wait that the service advises: what is measured is the service.
    """
    user = f"{endpoints['idScope']}/registrations/{device.name}/api-version=2019-03-31"
    connection = await Connection.opened(device, endpoints["dpsDeviceHost"], endpoints["mqttPort"], user)
    await connection.subscribe("$dps/registrations/res/#")
    payload = json.dumps({"registrationId": device.name}).encode()
    status, begun = await _answered(connection, "PUT/iotdps-register/?$rid=1", payload)
    if status == "202":
        look = f"GET/iotdps-get-operationstatus/?$rid=2&operationId={begun['operationId']}"
        status, begun = await _answered(connection, look, b"")
    await connection.close()
    if status != "200":
        raise ConnectionRefusedError(f"{device.name} was not registered: {status} {begun}")
    return str(begun["registrationState"]["assignedHub"])


async def _answered(connection: Connection, request: str, payload: bytes) -> tuple[str, dict[str, Any]]:
    """Ask DPS, and give the status and the body of its answer, which may come before the acknowledgement."""
    connection._send(_PUBLISH, _text(f"$dps/registrations/{request}") + payload)  # noqa: SLF001
    topic, answer = await connection.received()
    return topic.removeprefix("$dps/registrations/res/").partition("/")[0], json.loads(answer)


async def connect(device: Device, hub: str, port: int) -> Connection:
    """Connect a device to its hub."""
    return await Connection.opened(device, hub, port, f"{hub}/{device.name}/?api-version=2021-04-12")


async def all_of(devices: Sequence[Device], work: Any, *, at_once: int) -> list[Any]:
    """Do a work for all devices, so many at a time."""
    turn = asyncio.Semaphore(at_once)

    async def one(device: Device) -> Any:
        async with turn:
            return await work(device)

    return await asyncio.gather(*map(one, devices))
