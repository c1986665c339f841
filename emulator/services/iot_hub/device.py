"""A device's own connection over MQTT (Microsoft, "Communicate with your IoT hub using the MQTT protocol")."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from emulator.protocols.mqtt import SUBSCRIPTION_REFUSED, Refused, ReturnCode
from emulator.services.iot_hub import errors, messages
from emulator.services.iot_hub.device_access import Denied, admit
from emulator.services.iot_hub.errors import HubError
from emulator.services.iot_hub.method_calls import MethodCalls

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from emulator.platform.context import Context
    from emulator.platform.faults import Rule
    from emulator.protocols.mqtt import Acceptor, Connect, Connection, Will
    from emulator.services.iot_hub.state import IotHub, IotHubs

LOG = logging.getLogger(__name__)
_SERVICE = "iot_hub_device"
_TWIN_ANSWERS = "$iothub/twin/res/"
_TWIN_GET = "$iothub/twin/GET/"
_TWIN_REPORT = "$iothub/twin/PATCH/properties/reported/"
_TWIN_DESIRED = "$iothub/twin/PATCH/properties/desired/"
_METHOD_CALLS = "$iothub/methods/POST/"
_METHOD_ANSWERS = "$iothub/methods/res/"
_OVERLOADED = 429
_RETAINED = "mqtt-retain"
_MESSAGE_TYPE = "iothub-MessageType"
_RATES = {
    "telemetry": "iot_hub.deviceToCloud",
    "twinGet": "iot_hub.twinReads",
    "twinReport": "iot_hub.twinUpdates",
}
_USERNAME = "{hub host name}/{device id}/?api-version=..."


def acceptor(context: Context, hubs: IotHubs) -> Acceptor:
    """Give what decides about a device's CONNECT."""

    async def accept(connect: Connect, connection: Connection) -> DeviceSession:
        hub, device_id = _addressed(hubs, connect)
        if context.throttled("iot_hub.connections", subject=hub.host_name) is not None:
            raise Refused(ReturnCode.UNAVAILABLE, f"{hub.host_name!r} gets more new connections than its rate allows")
        rule = context.faults.next(_SERVICE, "connect")
        await _planned_refusal(rule, connection)
        signature = (connect.password or b"").decode(errors="replace")
        try:
            admit(context, hub, device_id, chain=connection.peer_chain, signature=signature)
        except Denied as denied:  # the reason is for the log: a device is not told
            raise Refused(ReturnCode.NOT_AUTHORIZED, str(denied)) from None
        session = DeviceSession(context, hub, device_id, connection, persistent=not connect.clean_session)
        hub.connect(device_id, session)
        if rule is not None and rule.drop == "response":
            connection.close()
        return session

    return accept


def _addressed(hubs: IotHubs, connect: Connect) -> tuple[IotHub, str]:
    """Read from the user name which device connects to which hub."""
    host, _, rest = connect.username.partition("/")
    device_id, _, parameters = rest.partition("/")
    if host.lower() not in hubs:
        raise Refused(
            ReturnCode.NOT_AUTHORIZED, f"the hub {host!r} does not exist here; the hubs are {', '.join(hubs)}"
        )
    if connect.client_id.partition("/")[2]:
        raise Refused(ReturnCode.NOT_AUTHORIZED, f"{connect.client_id!r} is a module; the emulator has none")
    if "api-version=" not in parameters:
        raise Refused(ReturnCode.NOT_AUTHORIZED, f"the user name {connect.username!r} is not {_USERNAME}")
    try:
        errors.check_version(parse_qs(parameters.removeprefix("?")).get("api-version", [""])[0])
    except HubError as error:
        raise Refused(ReturnCode.NOT_AUTHORIZED, error.message) from None
    if device_id != connect.client_id:
        raise Refused(ReturnCode.IDENTIFIER_REJECTED, f"client id {connect.client_id!r} is not {device_id!r}")
    return hubs[host.lower()], device_id


async def _planned_refusal(rule: Rule | None, connection: Connection) -> None:
    if rule is None:
        return
    await asyncio.sleep(rule.latency_ms / 1000)
    if rule.drop == "request":
        connection.close()
        raise Refused(ReturnCode.UNAVAILABLE, "a planned fault dropped the connection")
    if rule.status is not None:
        overloaded = rule.status == _OVERLOADED or rule.status >= 500  # noqa: PLR2004 - the server's own faults
        code = ReturnCode.UNAVAILABLE if overloaded else ReturnCode.NOT_AUTHORIZED
        raise Refused(code, f"a planned fault: {rule.status}")


class DeviceSession:
    """One connected device."""

    def __init__(
        self, context: Context, hub: IotHub, device_id: str, connection: Connection, *, persistent: bool
    ) -> None:
        self._context = context
        self._hub = hub
        self._device_id = device_id
        self._connection = connection
        self._persistent = persistent
        self._events = f"devices/{device_id}/messages/events/"
        self._filters = hub.subscriptions(device_id) if persistent else frozenset()
        self._present = bool(self._filters)
        self._commands = f"devices/{device_id}/messages/devicebound/#"
        self._command_qos = 1
        self._unacknowledged: dict[int, int] = {}
        """Cloud-to-device messages on their way: packet identifier to number."""
        self._calls = MethodCalls()
        self._ended = False
        """Set with the connection's end: what the device sent before and nobody has read yet is not obeyed."""
        if not persistent:
            hub.remember_subscriptions(device_id, ())

    # --- mqtt.Session ---

    @property
    def present(self) -> bool:
        """Whether the hub kept subscriptions of the device."""
        return self._present

    async def subscribed(self, filters: Sequence[tuple[str, int]]) -> list[int]:
        """Grant what the hub has for a device, and nothing else."""
        if self._ended:
            return [SUBSCRIPTION_REFUSED] * len(filters)
        allowed = {self._commands, *(f"{prefix}#" for prefix in (_TWIN_ANSWERS, _TWIN_DESIRED, _METHOD_CALLS))}
        self._filters |= {topic for topic, _ in filters} & allowed
        if self._persistent:
            self._hub.remember_subscriptions(self._device_id, self._filters)
        if self.takes_methods:
            self._hub.announce()
        self._command_qos = dict(filters).get(self._commands, self._command_qos)
        return [min(qos, 1) if topic in allowed else SUBSCRIPTION_REFUSED for topic, qos in filters]

    async def unsubscribed(self, filters: Sequence[str]) -> None:
        """Send nothing more on these topics, and keep them out of a persistent session."""
        if self._ended:
            return
        self._filters -= set(filters)
        if self._persistent:
            self._hub.remember_subscriptions(self._device_id, self._filters)

    async def published(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        """Take telemetry, a twin request, or the answer of a method; what is not one of them ends the connection."""
        del qos
        if self._ended:
            return
        path, _, query = topic.partition("?")
        request_id = dict(pair.partition("=")[::2] for pair in query.split("&")).get("$rid", "")
        operation = self._operation(topic, path)
        rule = self._context.faults.next(_SERVICE, operation)
        if rule is not None and await self._went_wrong(rule, operation, request_id):
            return
        rate = _RATES.get(operation)
        if rate is not None and (wait := self._context.throttled(rate, subject=self._hub.host_name)) is not None:
            await self._throttled(operation, request_id, wait)
            return
        match operation:
            case "telemetry":
                self._telemetry(topic.removeprefix(self._events), payload, {_RETAINED: "true"} if retain else {})
            case "twinGet":
                await self._twin_answer(200, request_id, self._hub.device_view(self._device_id))
            case "twinReport":
                await self._report(request_id, payload)
            case "methodAnswer":
                self._method_answer(path, request_id, payload)
            case _:
                self._end(f"published to {topic!r}, which is not a topic of its own")

    def _operation(self, topic: str, path: str) -> str:
        if topic.startswith(self._events):
            return "telemetry"
        if path.startswith(_METHOD_ANSWERS):
            return "methodAnswer"
        return {_TWIN_GET: "twinGet", _TWIN_REPORT: "twinReport"}.get(path, "unknown")

    async def _throttled(self, operation: str, request_id: str, wait: int) -> None:
        """Refuse a twin's operation by its status; MQTT has none for telemetry, whose connection ends."""
        error = errors.throttled(wait)
        if operation == "telemetry":
            self._end("sends more telemetry than the hub's rate allows")
        else:
            body = {"errorCode": error.number, "message": error.message}
            await self._twin_answer(error.status, request_id, body)

    async def _went_wrong(self, rule: Rule, operation: str, request_id: str) -> bool:
        """Let a planned fault happen; tell whether the request got lost by it."""
        await asyncio.sleep(rule.latency_ms / 1000)
        if self._ended:
            return True
        if rule.drop is not None:
            self._end(f"loses the connection by a planned fault ({rule.drop})")
            return rule.drop == "request"
        if rule.status is not None and operation.startswith("twin"):
            await self._twin_answer(rule.status, request_id, None)
        elif rule.status is not None:
            self._end(f"loses the connection by a planned fault ({rule.status}): MQTT has no status for {operation}")
        return rule.status is not None

    def _end(self, why: str) -> None:
        LOG.info("device %s of %s %s", self._device_id, self._hub.host_name, why)
        self.drop()

    async def settled(self) -> None:
        """Deliver what has waited for the device: its CONNACK or SUBACK is on its way."""
        await self.deliver()

    async def acknowledged(self, identifier: int) -> None:
        """Let go of a cloud-to-device message that the device has."""
        number = self._unacknowledged.pop(identifier, None)
        if number is not None:
            self._hub.complete_message(self._device_id, number)

    async def closed(self, will: Will | None) -> None:
        """Leave the hub; a will becomes telemetry, unless the device is no longer let in."""
        if will is not None and will.topic.startswith(self._events) and self._hub.lets_in(self._device_id):
            added = {_MESSAGE_TYPE: "Will"} | ({_RETAINED: "true"} if will.retain else {})
            self._telemetry(will.topic.removeprefix(self._events), will.payload, added)
        self._hub.disconnected(self._device_id, self)
        self._calls.end()

    # --- telemetry and twin ---

    def _telemetry(self, bag: str, payload: bytes, added: dict[str, str]) -> None:
        size = len(payload) + len(bag.encode())
        if size > messages.SIZE_LIMIT:
            self._end(f"sent a message of {size} bytes; at most {messages.SIZE_LIMIT} are allowed")
        else:
            self._hub.receive(self._device_id, payload, messages.property_bag(bag) | added)

    async def _report(self, request_id: str, payload: bytes) -> None:
        try:
            version = self._hub.report(self._device_id, _json(payload))
        except HubError as error:
            body = {"errorCode": error.number, "message": error.message}
            await self._twin_answer(error.status, request_id, body)
        else:
            await self._twin_answer(204, request_id, None, version)

    async def _twin_answer(self, status: int, request_id: str, body: Any, version: int | None = None) -> None:
        if f"{_TWIN_ANSWERS}#" in self._filters:
            topic = f"{_TWIN_ANSWERS}{status}/?$rid={request_id}" + ("" if version is None else f"&$version={version}")
            await self._connection.publish(topic, b"" if body is None else json.dumps(body).encode())

    # --- state.ConnectedDevice ---

    async def deliver(self) -> None:
        """Send the cloud-to-device messages that wait and are not on their way."""
        if self._ended or self._commands not in self._filters:
            return
        for command in self._hub.due_messages(self._device_id, skip=frozenset(self._unacknowledged.values())):
            identifier = await self._connection.publish(
                command.topic, command.payload, self._command_qos, again=command.again
            )
            if identifier:
                self._unacknowledged[identifier] = command.number
            else:
                self._hub.complete_message(self._device_id, command.number)

    @property
    def takes_methods(self) -> bool:
        """Whether it has subscribed to direct methods."""
        return f"{_METHOD_CALLS}#" in self._filters

    async def desired_changed(self, patch: Mapping[str, Any], version: int) -> None:
        """Tell the device, if it listens."""
        if f"{_TWIN_DESIRED}#" in self._filters:
            payload = json.dumps({**patch, "$version": version}).encode()
            await self._connection.publish(f"{_TWIN_DESIRED}?$version={version}", payload)

    async def invoke(self, method: str, payload: Any, seconds: float) -> tuple[int, Any]:
        """Call a direct method of the device.

        Raises:
            HubError: 404 if it leaves meanwhile, 504 if it does not answer in time.
        """

        async def send(request_id: uuid.UUID) -> None:
            topic = f"{_METHOD_CALLS}{method}/?$rid={request_id.hex}"
            await self._connection.publish(topic, json.dumps(payload).encode())

        return await self._calls.call(send, seconds)

    def _method_answer(self, path: str, request_id: str, payload: bytes) -> None:
        if not self._calls.waits_for(request_id):
            return  # it came too late
        status = path.removeprefix(_METHOD_ANSWERS).strip("/")
        try:
            self._calls.answer(request_id, int(status), _json(payload) if payload else None)
        except (ValueError, HubError):
            self._end(f"answered a method with status {status!r} and {len(payload)} bytes: no number, or no JSON")

    def drop(self) -> None:
        """End the connection."""
        self._ended = True
        self._connection.close()


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise errors.bad_argument("The payload is not valid JSON.") from None
