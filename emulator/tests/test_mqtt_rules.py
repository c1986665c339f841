"""Packets that MQTT 3.1.1 forbids, octet by octet: no SDK sends them, a hand-made client may."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from emulator.tests.dps_clients import DpsService
from emulator.tests.iot_hub_clients import PATIENCE, device_certificate
from emulator.tests.running import MQTT_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.tests.iot_hub_clients import DeviceCertificate
    from emulator.tests.running import RunningEmulator

ACCEPTED = bytes((0x20, 2, 0, 0))
EVENTS = "devices/rules/messages/events/"
COMMANDS = "devices/rules/messages/devicebound/#"
CLEAN, USERNAME, PASSWORD = 0x02, 0x80, 0x40


def text(value: str) -> bytes:
    return len(value).to_bytes(2) + value.encode()


def packet(first: int, body: bytes) -> bytes:
    return bytes((first, len(body))) + body


def connect(host: str, flags: int = CLEAN | USERNAME, *, fixed: int = 0x10) -> bytes:
    parts = [text("MQTT"), bytes((4, flags, 0, 60)), text("rules")]
    if flags & USERNAME:
        parts.append(text(f"{host}/rules/?api-version=2021-04-12"))
    return packet(fixed, b"".join(parts))


@pytest.fixture
def certificate(emulator: RunningEmulator, tmp_path: Path) -> DeviceCertificate:
    """The one of the device ``rules``, which the hub knows."""
    service = DpsService(emulator)
    service.hub("DELETE", "/devices/rules")
    made = device_certificate(tmp_path, "rules")
    x509 = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": made.sha1}}
    service.hub("PUT", "/devices/rules", {"deviceId": "rules", "authentication": x509}).raise_for_status()
    return made


@contextmanager
def stream(emulator: RunningEmulator, certificate: DeviceCertificate) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=emulator.ca_file)
    context.load_cert_chain(certificate.certificate_file, certificate.key_file)
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    with (
        socket.create_connection((host, MQTT_PORT), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        yield secured


def answers(connection: ssl.SSLSocket, sent: bytes, *, until: int | None = None) -> bytes:
    """What comes until so many octets are there, or the connection ends."""
    connection.sendall(sent)
    received = b""
    while (until is None or len(received) < until) and (more := connection.recv(1024)):
        received += more
    return received


@pytest.mark.parametrize(
    "broken",
    [
        packet(0x82, b"\x00\x01"),  # a SUBSCRIBE for nothing, 3.8.3
        packet(0x80, b"\x00\x01" + text(COMMANDS) + b"\x00"),  # without its reserved flag, 3.8.1
        packet(0x82, b"\x00\x00" + text(COMMANDS) + b"\x00"),  # with the packet identifier 0, 2.3.1
        packet(0x82, b"\x00\x01" + text(COMMANDS) + b"\x03"),  # for QoS 3, 3.8.3
        packet(0xA2, b"\x00\x01"),  # an UNSUBSCRIBE for nothing, 3.10.3
        packet(0xA0, b"\x00\x01" + text(COMMANDS)),
        packet(0x32, text(EVENTS) + b"\x00\x00x"),  # a PUBLISH with the packet identifier 0
        packet(0x36, text(EVENTS) + b"\x00\x01x"),  # with QoS 3, 3.3.1
        packet(0x34, text(EVENTS) + b"\x00\x01x"),  # with QoS 2, which hubs lack
        packet(0xC1, b""),  # a PINGREQ with a flag
        packet(0x62, b"\x00\x01"),  # a PUBREL for nothing
    ],
    ids=lambda broken: broken.hex(),
)
def test_a_packet_that_breaks_a_rule_ends_the_connection(
    emulator: RunningEmulator, certificate: DeviceCertificate, broken: bytes
) -> None:
    """Nothing is answered, as 4.8 demands; what follows is not read."""
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    with stream(emulator, certificate) as connection:
        assert answers(connection, connect(host), until=len(ACCEPTED)) == ACCEPTED
        assert answers(connection, broken + packet(0xC0, b"")) == b""


@pytest.mark.parametrize(
    ("flags", "fixed"),
    [
        (CLEAN | USERNAME | 0x01, 0x10),  # the reserved flag, 3.1.2.3
        (CLEAN | USERNAME | 0x08, 0x10),  # the QoS of a will without one, 3.1.2.6
        (CLEAN | USERNAME | 0x20, 0x10),  # its retaining, 3.1.2.7
        (CLEAN | USERNAME | 0x1C, 0x10),  # a will of QoS 3
        (CLEAN | PASSWORD, 0x10),  # a password without a user name, 3.1.2.9
        (CLEAN | USERNAME, 0x12),  # flags of the packet itself, 2.2.2
    ],
)
def test_a_connect_whose_flags_do_not_go_together(
    emulator: RunningEmulator, certificate: DeviceCertificate, flags: int, fixed: int
) -> None:
    """It gets no CONNACK, whoever the device is."""
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    with stream(emulator, certificate) as connection:
        assert answers(connection, connect(host, flags, fixed=fixed)) == b""


def test_packets_sent_in_one_go(emulator: RunningEmulator, certificate: DeviceCertificate) -> None:
    """A client need not wait for its CONNACK (3.1.4): each packet is answered, in order."""
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    subscribe = packet(0x82, b"\x00\x01" + text(COMMANDS) + b"\x02" + text("elsewhere") + b"\x00")
    publish = packet(0x32, text(EVENTS) + b"\x00\x02x")
    wanted = ACCEPTED + packet(0x90, b"\x00\x01\x01\x80") + packet(0x40, b"\x00\x02") + packet(0xD0, b"")
    with stream(emulator, certificate) as connection:
        sent = connect(host) + subscribe + publish + packet(0xC0, b"")
        assert answers(connection, sent, until=len(wanted)) == wanted
