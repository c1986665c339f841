"""A device's own connection over MQTT (Microsoft, "Communicate with your IoT hub using the MQTT protocol")."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from cryptography.hazmat.primitives import hashes

from devstack.emulator.identity.errors import Refusal
from devstack.emulator.identity.sas import verify_sas
from devstack.emulator.iot_hub import errors
from devstack.emulator.iot_hub.errors import HubError
from devstack.emulator.mqtt import SUBSCRIPTION_REFUSED, Refused, ReturnCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devstack.emulator.context import Context
    from devstack.emulator.iot_hub.state import IotHub, IotHubs
    from devstack.emulator.mqtt import Acceptor, Connect, Connection

LOG = logging.getLogger(__name__)
_TWIN = "$iothub/twin/"
_METHODS = "$iothub/methods/"


def acceptor(context: Context, hubs: IotHubs) -> Acceptor:
    """Give what decides about a device's CONNECT."""

    async def accept(connect: Connect, connection: Connection) -> DeviceSession:
        host, _, rest = connect.username.partition("/")  # {hub}/{deviceId}/?api-version=...
        device_id = rest.split("/")[0]
        if host not in hubs:
            raise Refused(ReturnCode.NOT_AUTHORIZED, f"there is no hub {host!r} here; hubs are {', '.join(hubs)}")
        if device_id != connect.client_id:
            raise Refused(ReturnCode.IDENTIFIER_REJECTED, f"client id {connect.client_id!r} is not {device_id!r}")
        _authenticate(context, hubs[host], device_id, connect, connection)
        session = DeviceSession(hubs[host], device_id, connection)
        hubs[host].connect(device_id, session)
        return session

    return accept


def _authenticate(context: Context, hub: IotHub, device_id: str, connect: Connect, connection: Connection) -> None:
    """Let the device in by its certificate's thumbprint, or by a signature with its key.

    Raises:
        Refused: with the reason that the real hub does not tell.
    """
    try:
        identity = hub.get(device_id)
    except HubError as error:
        raise Refused(ReturnCode.NOT_AUTHORIZED, error.message) from None
    if identity["status"] == "disabled":
        raise Refused(ReturnCode.NOT_AUTHORIZED, f"device {device_id!r} is disabled: {identity['statusReason']}")
    authentication = identity["authentication"]
    if authentication["type"] == "selfSigned":
        _check_certificate(context, device_id, authentication["x509Thumbprint"], connection)
    elif authentication["type"] == "sas":
        _check_signature(context, hub, device_id, authentication["symmetricKey"], connect)
    else:
        raise Refused(ReturnCode.NOT_AUTHORIZED, "the emulated hub has no CA certificates of its own")


def _check_certificate(
    context: Context, device_id: str, thumbprints: Mapping[str, str | None], connection: Connection
) -> None:
    if not connection.peer_chain:
        raise Refused(ReturnCode.NOT_AUTHORIZED, f"device {device_id!r} sent no certificate")
    leaf = connection.peer_chain[0]
    sent = {leaf.fingerprint(kind).hex().upper() for kind in (hashes.SHA1(), hashes.SHA256())}  # noqa: S303 - its names
    if not sent & {value.upper() for value in thumbprints.values() if value}:
        raise Refused(ReturnCode.NOT_AUTHORIZED, f"the certificate of {device_id!r} is not the one the hub knows")
    if not leaf.not_valid_before_utc <= context.clock() <= leaf.not_valid_after_utc:
        raise Refused(ReturnCode.NOT_AUTHORIZED, f"the certificate of {device_id!r} is expired or not yet valid")


def _check_signature(context: Context, hub: IotHub, device_id: str, keys: Mapping[str, str], connect: Connect) -> None:
    header = (connect.password or b"").decode(errors="replace")
    for key in keys.values():
        try:
            verify_sas(
                header,
                resource=f"{hub.host_name}/devices/{device_id}",
                keys={"": base64.b64decode(key)},
                now=context.clock(),
            )
        except Refusal:
            continue
        return
    raise Refused(ReturnCode.NOT_AUTHORIZED, f"the signature of {device_id!r} does not fit its keys")


class DeviceSession:
    """One connected device."""

    def __init__(self, hub: IotHub, device_id: str, connection: Connection) -> None:
        self._hub = hub
        self._device_id = device_id
        self._connection = connection
        self._filters: set[str] = set()
        self._calls: dict[str, asyncio.Future[tuple[int, Any]]] = {}
        self._own = f"devices/{device_id}/messages/"

    # --- mqtt.Session ---

    async def subscribed(self, filters: Sequence[tuple[str, int]]) -> list[int]:
        """Grant the device's own topics."""
        allowed = (f"{self._own}devicebound/", _TWIN, _METHODS)
        granted = [min(qos, 1) if topic.startswith(allowed) else SUBSCRIPTION_REFUSED for topic, qos in filters]
        pairs = zip(filters, granted, strict=True)
        self._filters |= {topic for (topic, _), answer in pairs if answer != SUBSCRIPTION_REFUSED}
        return granted

    async def published(self, topic: str, payload: bytes, qos: int) -> None:
        """Take telemetry, a twin request, or the answer of a method."""
        del qos
        path, _, query = topic.partition("?")
        if topic.startswith(f"{self._own}events/"):
            properties = dict(parse_qsl(unquote(topic.removeprefix(f"{self._own}events/")), keep_blank_values=True))
            self._hub.receive(self._device_id, payload, properties)
        elif path.startswith(_TWIN):
            await self._twin_request(path, dict(parse_qsl(query)).get("$rid", ""), payload)
        elif path.startswith(f"{_METHODS}res/"):
            self._method_answer(path, dict(parse_qsl(query)).get("$rid", ""), payload)
        else:
            LOG.info("%s published to %s, which is no topic of its own", self._device_id, topic)
            self._connection.close()

    async def closed(self) -> None:
        """Leave the hub."""
        self._hub.disconnected(self._device_id, self)
        for call in self._calls.values():
            call.cancel()

    # --- twin ---

    async def _twin_request(self, path: str, request_id: str, payload: bytes) -> None:
        try:
            if path == f"{_TWIN}GET/":
                await self._twin_answer(200, request_id, self._hub.device_view(self._device_id))
            elif path == f"{_TWIN}PATCH/properties/reported/":
                version = self._hub.report(self._device_id, _json(payload))
                await self._twin_answer(204, request_id, None, version)
        except HubError as error:
            await self._twin_answer(error.status, request_id, {"errorCode": error.code, "message": error.message})

    async def _twin_answer(self, status: int, request_id: str, body: Any, version: int | None = None) -> None:
        topic = f"{_TWIN}res/{status}/?$rid={request_id}" + (f"&$version={version}" if version is not None else "")
        await self._connection.publish(topic, b"" if body is None else json.dumps(body).encode())

    # --- state.ConnectedDevice ---

    async def desired_changed(self, patch: Mapping[str, Any], version: int) -> None:
        """Tell the device, if it listens."""
        if any(each.startswith(f"{_TWIN}PATCH/properties/desired") for each in self._filters):
            topic = f"{_TWIN}PATCH/properties/desired/?$version={version}"
            await self._connection.publish(topic, json.dumps({**patch, "$version": version}).encode())

    async def invoke(self, method: str, payload: Any, seconds: float) -> tuple[int, Any]:
        """Call a direct method of the device.

        Raises:
            HubError: 404 if it does not listen for methods, 504 if it does not answer in time.
        """
        if not any(each.startswith(_METHODS) for each in self._filters):
            raise errors.not_online(self._device_id)
        request_id = uuid.uuid4().hex
        call: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()
        self._calls[request_id] = call
        try:
            topic = f"{_METHODS}POST/{method}/?$rid={request_id}"
            await self._connection.publish(topic, json.dumps(payload).encode())
            async with asyncio.timeout(seconds):
                return await call
        except (TimeoutError, asyncio.CancelledError):
            raise errors.timed_out(self._device_id) from None
        finally:
            del self._calls[request_id]

    def _method_answer(self, path: str, request_id: str, payload: bytes) -> None:
        status = path.removeprefix(f"{_METHODS}res/").strip("/")
        call = self._calls.get(request_id)
        if call is not None and not call.done() and status.lstrip("-").isdecimal():
            call.set_result((int(status), _json(payload) if payload else None))

    def drop(self) -> None:
        """End the connection."""
        self._connection.close()


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        raise errors.bad_argument("The payload is no JSON.") from None
