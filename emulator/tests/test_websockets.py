"""MQTT over websockets, with Microsoft's SDK where port 443 can be had, and with a plain client where not."""

from __future__ import annotations

import asyncio
import queue
import ssl
from typing import TYPE_CHECKING

import aiohttp
import paho.mqtt.client as mqtt  # type: ignore[import-untyped]  # it comes with azure-iot-device, and has no types
import pytest
import requests
from azure.iot.device import X509, IoTHubDeviceClient, Message, ProvisioningDeviceClient

from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService, HttpsDevice
from emulator.tests.iot_hub_clients import PATIENCE, eventually
from emulator.tests.running import RunningEmulator, can_bind, emulator_in_thread, own_address

if TYPE_CHECKING:
    from pathlib import Path

HTTPS_PORT = 443
ROOT = make("websocket root", ca=True)


def set_up(emulator: RunningEmulator) -> None:
    service = DpsService(emulator)
    service.verified("websockets", ROOT)
    service.group("websockets", ROOT)


def telemetry(emulator: RunningEmulator, device_id: str) -> list[str]:
    answer = requests.get(f"{emulator.admin_url}/telemetry", params={"device": device_id}, timeout=PATIENCE)
    return [message["body"] for message in answer.json()["messages"]]


@pytest.mark.skipif(not can_bind(own_address(), HTTPS_PORT), reason="port 443 needs a privilege here")
def test_microsofts_sdk_registers_and_sends_over_websockets(tmp_path: Path) -> None:
    """The unmodified SDK registers at DPS and connects to its hub through port 443 alone."""
    with emulator_in_thread(tmp_path, websocket_port=HTTPS_PORT) as emulator:
        assert emulator.endpoints["websocketPort"] == HTTPS_PORT
        set_up(emulator)
        certificate, key = make("websocket-1", ROOT).files(tmp_path)
        trusted = (tmp_path / "tls" / "ca.pem").read_text()
        registration = ProvisioningDeviceClient.create_from_x509_certificate(
            provisioning_host=emulator.endpoints["dpsDeviceHost"],
            registration_id="websocket-1",
            id_scope=emulator.endpoints["idScope"],
            x509=X509(certificate, key),
            server_verification_cert=trusted,
            websockets=True,
        ).register()
        assert registration is not None
        assert registration.registration_state is not None
        client = IoTHubDeviceClient.create_from_x509_certificate(
            x509=X509(certificate, key),
            hostname=registration.registration_state.assigned_hub,
            device_id="websocket-1",
            server_verification_cert=trusted,
            websockets=True,
            connection_retry=False,
        )
        client.connect()
        client.send_message(Message("over 443"))
        assert telemetry(emulator, "websocket-1") == ["over 443"]
        assert client.get_twin()["reported"] == {"$version": 1}
        client.shutdown()


def test_the_https_port_takes_websockets_too(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Without a port of their own websockets come to the HTTPS port, with the client's certificate."""
    set_up(emulator)
    files = make("websocket-2", ROOT).files(tmp_path)
    HttpsDevice(emulator, "websocket-2", files).registered()
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    events: queue.Queue[str] = queue.Queue()
    client = mqtt.Client(client_id="websocket-2", transport="websockets", protocol=mqtt.MQTTv311)
    client.ws_set_options(path="/$iothub/websocket")
    client.username_pw_set(f"{host}/websocket-2/?api-version=2021-04-12")
    context = ssl.create_default_context(cafile=emulator.ca_file)
    context.load_cert_chain(*files)
    client.tls_set_context(context)
    client.on_connect = lambda _client, _data, _flags, code: events.put(f"connected {code}")
    client.on_publish = lambda *_: events.put("published")
    client.on_disconnect = lambda *_: events.put("disconnected")
    client.connect(host, emulator.endpoints["websocketPort"])
    client.loop_start()
    assert events.get(timeout=PATIENCE) == "connected 0"
    client.publish("devices/websocket-2/messages/events/", b"x" * 200_000, qos=1)
    assert events.get(timeout=PATIENCE) == "published"
    assert telemetry(emulator, "websocket-2") == ["x" * 200_000]
    connections = requests.get(f"{emulator.admin_url}/connections", timeout=PATIENCE).json()["count"]
    assert connections >= 1
    DpsService(emulator).hub("DELETE", "/devices/websocket-2")
    assert events.get(timeout=PATIENCE) == "disconnected"
    client.loop_stop()


def test_what_is_no_known_websocket_is_refused(emulator: RunningEmulator, http: requests.Session) -> None:
    """A plain request, and a websocket of another protocol, are told what is taken here."""
    url = f"{emulator.https_url}/$iothub/websocket"
    plain = http.get(url, timeout=PATIENCE)
    assert plain.status_code == 400
    assert plain.json()["error"]["message"] == (
        "/$iothub/websocket takes websockets of the subprotocol 'mqtt' or 'AMQPWSB10'; this request asks for None."
    )

    async def over_wamp() -> int:
        context = ssl.create_default_context(cafile=emulator.ca_file)
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(url, protocols=("wamp.2.json",), ssl=context):
                    return 101
            except aiohttp.WSServerHandshakeError as refusal:
                return refusal.status

    assert asyncio.run(over_wamp()) == 400


async def test_text_frames_end_the_connection(emulator: RunningEmulator) -> None:
    """MQTT comes in binary frames; a text frame closes the websocket."""
    context = ssl.create_default_context(cafile=emulator.ca_file)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{emulator.https_url}/$iothub/websocket", protocols=("mqtt",), ssl=context) as websocket,
    ):
        await websocket.send_str("hello")
        message = await websocket.receive(timeout=PATIENCE)
        assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
    count = f"{emulator.admin_url}/connections"
    eventually(lambda: requests.get(count, timeout=PATIENCE).json()["count"], lambda open_: open_ == 0)
