"""A device's own calls to a hub over HTTPS: telemetry, and cloud-to-device messages with a lock on each.

Operations and headers: Microsoft, "Device - Send Device Event", "Device - Receive Device Bound Notification" and those
beside them (REST API of IoT Hub); azure-iot-sdk-node (``azure-iot-device-http``).
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from emulator.services.iot_hub import errors, messages
from emulator.services.iot_hub.device_access import Denied, admit
from emulator.services.iot_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from emulator.platform.context import Context
    from emulator.services.iot_hub.cloud_to_device import Command
    from emulator.services.iot_hub.feedback import Ending
    from emulator.services.iot_hub.state import IotHub, IotHubs

    Operation = Callable[[web.Request, IotHub, str], Awaitable[web.Response]]

LOCK: Final = timedelta(minutes=1)
"""For so long a message that was received waits for what becomes of it ("Understand cloud-to-device messaging")."""

_DEVICE: Final = "/devices/{id}"
_BATCH: Final = "application/vnd.microsoft.iothub.json"
_APPLICATION: Final = "iothub-app-"
_SYSTEM: Final = {
    "iothub-messageid": "messageId",
    "iothub-correlationid": "correlationId",
    "iothub-userid": "userId",
    "iothub-to": "to",
    "iothub-expiry": "expiryTimeUtc",
    "iothub-ack": "ack",
    "iothub-contenttype": "contentType",
    "iothub-contentencoding": "contentEncoding",
    "iothub-interface-id": "interfaceId",
}
"""System properties, by the headers that carry them."""

_SHORT: Final = {long: short for short, long in messages.SYSTEM_PROPERTIES.items()}
_MISSING: Final = (
    ("POST", f"{_DEVICE}/files", "uploads of files"),
    ("POST", f"{_DEVICE}/files/notifications", "uploads of files"),
    ("POST", f"{_DEVICE}/modules/{{module}}/messages/events", "modules"),
)


class Locks:
    """The messages that devices have received and not settled; a restart forgets them, and they come once more."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, str, int, datetime]] = {}
        """By lock token: hub, device, number and end of the lock."""

    def hold(self, hub: IotHub, device_id: str, number: int, now: datetime) -> str:
        """Lock a message; gives the lock's token."""
        token = str(uuid.uuid4())
        self._held[token] = hub.host_name, device_id, number, now + LOCK
        return token

    def numbers(self, hub: IotHub, device_id: str, now: datetime) -> set[int]:
        """Tell which messages of a device are locked."""
        self._held = {token: lock for token, lock in self._held.items() if lock[3] > now}
        return {lock[2] for lock in self._held.values() if lock[:2] == (hub.host_name, device_id)}

    def release(self, token: str, hub: IotHub, device_id: str, now: datetime) -> int:
        """Give up a lock; tells the number of its message.

        Raises:
            HubError: 412, the lock does not exist any more.
        """
        self.numbers(hub, device_id, now)
        lock = self._held.get(token)
        if lock is None or lock[:2] != (hub.host_name, device_id):
            raise errors.lock_lost()
        del self._held[token]
        return lock[2]


def routes(context: Context, hubs: IotHubs) -> list[web.RouteDef]:
    """All routes of devices."""
    calls = DeviceCalls(context, hubs)
    commands = f"{_DEVICE}/messages/devicebound"
    table: list[tuple[str, str, Operation]] = [
        ("POST", f"{_DEVICE}/messages/events", calls.send),
        ("GET", commands, calls.receive),
        ("DELETE", f"{commands}/{{lock}}", calls.settle),
        ("POST", f"{commands}/{{lock}}/abandon", calls.abandon),
        *((method, path, _missing(what)) for method, path, what in _MISSING),
    ]
    return [web.route(method, path, calls.admitted(operation)) for method, path, operation in table]


def _missing(what: str) -> Operation:
    async def refuse(_request: web.Request, _hub: IotHub, _device_id: str) -> web.Response:
        raise errors.not_offered(f"IoT Hub's {what}")

    return refuse


class DeviceCalls:
    """What a device calls."""

    def __init__(self, context: Context, hubs: IotHubs) -> None:
        self._context = context
        self._hubs = hubs
        self._locks = Locks()

    def admitted(self, operation: Operation) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Make a handler of an operation: its device is let in as over MQTT."""

        async def handle(request: web.Request) -> web.Response:
            hub, device_id = self._hubs.called(request.host), request.match_info["id"]
            chain = request.get_extra_info("peer_chain", ())
            try:
                admit(self._context, hub, device_id, chain=chain, signature=request.headers.get("Authorization"))
                errors.check_version(request.query.get("api-version"))
                return await operation(request, hub, device_id)
            except Denied as denied:
                error = errors.unauthorized(str(denied)) if denied.is_known else errors.not_found(device_id)
                raise error.on_the_wire() from None
            except HubError as error:
                raise error.on_the_wire() from None

        return handle

    async def send(self, request: web.Request, hub: IotHub, device_id: str) -> web.Response:
        """Take telemetry, one message or a batch."""
        if (wait := self._context.throttled("iot_hub.deviceToCloud", subject=hub.host_name)) is not None:
            raise errors.throttled(wait)
        raw = await request.read()
        if len(raw) > messages.SIZE_LIMIT:
            raise errors.message_too_large(len(raw), messages.SIZE_LIMIT)
        sent = _batch(raw) if request.content_type == _BATCH else [(raw, _bag(request.headers))]
        for payload, bag in sent:
            hub.receive(device_id, payload, bag)
        return web.Response(status=204)

    async def receive(self, _request: web.Request, hub: IotHub, device_id: str) -> web.Response:
        """Give the first message that waits, under a lock; 204 if none does."""
        now = self._context.clock()
        due = hub.due_messages(device_id, skip=self._locks.numbers(hub, device_id, now), limit=1)
        if not due:
            return web.Response(status=204)
        token = self._locks.hold(hub, device_id, due[0].number, now)
        return web.Response(body=due[0].payload, headers={"ETag": f'"{token}"', **_headers(due[0])})

    async def settle(self, request: web.Request, hub: IotHub, device_id: str) -> web.Response:
        """Let go of a message that the device has, or does not want (``reject``)."""
        ending: Ending = "Rejected" if "reject" in request.query else "Success"
        hub.complete_message(device_id, self._released(request, hub, device_id), ending)
        return web.Response(status=204)

    async def abandon(self, request: web.Request, hub: IotHub, device_id: str) -> web.Response:
        """Take a message back, to be received once more."""
        self._released(request, hub, device_id)
        return web.Response(status=204)

    def _released(self, request: web.Request, hub: IotHub, device_id: str) -> int:
        return self._locks.release(request.match_info["lock"], hub, device_id, self._context.clock())


def _bag(headers: Mapping[str, str]) -> dict[str, str]:
    """Give a message's properties as a topic of MQTT names them."""
    given = {name.lower(): (name, value) for name, value in headers.items()}
    application = {
        name[len(_APPLICATION) :]: value for low, (name, value) in given.items() if low.startswith(_APPLICATION)
    }
    system = {_SHORT[_SYSTEM[low]]: value for low, (_, value) in given.items() if low in _SYSTEM and low != "iothub-to"}
    return application | system


def _batch(raw: bytes) -> list[tuple[bytes, dict[str, str]]]:
    """Read ``[{"body": base64, "properties": {"iothub-app-...": text}}, ...]``; a body may say that it is text."""
    try:
        entries: Any = json.loads(raw)
        found = [_entry(entry) for entry in entries] if isinstance(entries, list) else None
    except (TypeError, AttributeError, KeyError, ValueError, binascii.Error, RecursionError):
        found = None
    if found is None:
        form = '[{"body": base64, "properties": {"iothub-app-name": text}}, ...]'
        raise errors.bad_argument(f"A batch of messages has the form {form}.")
    return found


def _entry(entry: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    text = str(entry["body"])
    payload = text.encode() if entry.get("base64Encoded") is False else base64.b64decode(text, validate=True)
    return payload, _bag({name: str(value) for name, value in (entry.get("properties") or {}).items()})


def _headers(command: Command) -> dict[str, str]:
    """Give the properties of a cloud-to-device message as headers."""
    named = {long: header for header, long in _SYSTEM.items()}
    system = {named[name]: value for name, value in command.system_properties.items()}
    application = {f"{_APPLICATION}{name}": value for name, value in command.properties.items()}
    counted = {"iothub-sequencenumber": str(command.number), "iothub-deliverycount": str(command.deliveries - 1)}
    return system | application | counted
