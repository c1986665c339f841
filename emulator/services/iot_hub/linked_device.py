"""One device and its links over AMQP: telemetry, cloud-to-device messages, direct methods and the twin.

Nodes and messages: Microsoft, "Communicate with your IoT hub by using the AMQP protocol" (events and devicebound), and
for methods and twins what the SDKs send and read: azure-iot-sdk-node (``amqp_device_method_client``,
``amqp_twin_client``), azure-iot-sdk-csharp (``AmqpIotMessageConverter``, ``AmqpIotReceivingLink``) and azure-iot-sdk-c
(``iothubtransportamqp_methods``, ``iothubtransport_amqp_twin_messenger``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from emulator.platform.amqp_conditions import rejected
from emulator.protocols.amqp import failures
from emulator.protocols.amqp.composites import Accepted, Modified, Properties, Rejected, Released
from emulator.protocols.amqp.failures import LinkFailure
from emulator.protocols.amqp.links import ReceivingLink, SendingLink
from emulator.protocols.amqp.messages import Message, data_sections
from emulator.protocols.amqp.types import Int, Malformed, Symbol, Timestamp, UByte, ULong
from emulator.services.iot_hub import amqp_values, errors, messages
from emulator.services.iot_hub.errors import HubError
from emulator.services.iot_hub.method_calls import MethodCalls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from emulator.platform.amqp_conditions import PlannedFaults
    from emulator.platform.context import Context
    from emulator.protocols.amqp.composites import Composite
    from emulator.protocols.amqp.links import Link
    from emulator.services.iot_hub.cloud_to_device import Command
    from emulator.services.iot_hub.feedback import Ending
    from emulator.services.iot_hub.state import IotHub

LOG = logging.getLogger(__name__)
_EVENTS, _COMMANDS, _METHODS, _TWIN = "messages/events", "messages/devicebound", "methods/devicebound", "twin"
_BATCH: Final = 0x80013700
"""The message format in which each data section is a message (azure-iot-sdk-csharp, ``AmqpIotSendingLink``)."""

_METHOD_NAME, _METHOD_STATUS = "IoThub-methodname", "IoThub-status"
_UUID_SIZE: Final = 16


class Connections(Protocol):
    """What a device asks of the connection that it shares."""

    def drop(self, device: LinkedDevice) -> None:
        """End the device's part of it."""
        ...

    def authorize_again(self, device_id: str) -> None:
        """See that the device's signature has not expired.

        Raises:
            LinkFailure: it has.
        """
        ...


def check_node(link: Link, node: str) -> None:
    """See that the hub has such a node for a device.

    Raises:
        LinkFailure: it has not.
    """
    sends = isinstance(link, ReceivingLink)
    if node not in ((_EVENTS, _METHODS, _TWIN) if sends else (_COMMANDS, _METHODS, _TWIN)):
        what = "send nothing to" if sends else "receive nothing from"
        raise LinkFailure(failures.NOT_FOUND, f"devices {what} {link.address!r}")


class LinkedDevice:
    """One device.

    Attributes:
        device_id: as the hub has it.
        links: those that are attached, with the node of each.
    """

    def __init__(
        self, context: Context, hub: IotHub, device_id: str, connections: Connections, faults: PlannedFaults
    ) -> None:
        self.device_id = device_id
        self.links: dict[Link, str] = {}
        self._context = context
        self._hub = hub
        self._connections = connections
        self._faults = faults
        self._calls = MethodCalls()
        self._unsettled: dict[int, SendingLink] = {}
        """Cloud-to-device messages on their way, by number."""
        self._wants_desired = False

    # --- links ---

    def attach(self, link: Link, node: str) -> None:
        """Take a link to a node that ``check_node`` knows."""
        if isinstance(link, ReceivingLink):
            takes: dict[str, Callable[[ReceivingLink, bytes], Awaitable[Composite]]] = {
                _EVENTS: self._telemetry,
                _METHODS: self._method_answer,
                _TWIN: self._twin_request,
            }
            link.take = partial(takes[node], link)
        elif isinstance(link, SendingLink) and node == _COMMANDS:
            link.refill = self._send_commands
        self.links[link] = node
        if self.takes_methods:
            self._hub.announce()

    def detached(self, link: Link) -> None:
        """Forget a link; what was on its way there comes once more."""
        del self.links[link]
        self._unsettled = {number: its for number, its in self._unsettled.items() if its is not link}
        if not self.takes_methods:
            self._calls.end()

    def end(self) -> None:
        """Let go of everything."""
        self.links.clear()
        self._unsettled.clear()
        self._calls.end()

    def _outgoing(self, node: str) -> SendingLink | None:
        """Give the latest link on which the device receives from a node."""
        found = [link for link, its in self.links.items() if its == node and isinstance(link, SendingLink)]
        return found[-1] if found else None

    # --- telemetry ---

    async def _telemetry(self, link: ReceivingLink, octets: bytes) -> Composite:
        self._connections.authorize_again(self.device_id)
        rule, planned = await self._faults.rejection("telemetry")
        if planned is not None:
            return planned
        if (wait := self._context.throttled("iot_hub.deviceToCloud", subject=self._hub.host_name)) is not None:
            return amqp_values.refusal(errors.throttled(wait))
        try:
            sent = data_sections(octets) if link.message_format == _BATCH else [octets]
            for payload, bag in [_payload_and_bag(Message.of(each)) for each in sent]:
                self._hub.receive(self.device_id, payload, bag)
        except Malformed as error:
            return rejected(failures.DECODE_ERROR, str(error))
        except HubError as error:
            return amqp_values.refusal(error)
        self._faults.after(rule)
        return Accepted()

    # --- cloud-to-device messages ---

    async def deliver(self) -> None:
        """Send the messages that wait, as far as the device takes them."""
        self._send_commands()

    def _send_commands(self) -> None:
        link = self._outgoing(_COMMANDS)
        while link is not None and link.is_hungry:
            due = self._hub.due_messages(self.device_id, skip=self._unsettled.keys(), limit=1)
            if not due:
                return
            self._unsettled[due[0].number] = link
            link.send(_command(due[0]), partial(self._settled, due[0].number))

    def _settled(self, number: int, outcome: Any) -> None:
        """Let go of a message that the device has or does not want; one that it gives back comes once more."""
        self._unsettled.pop(number, None)
        if isinstance(outcome, Released | Modified):
            asyncio.get_running_loop().call_soon(self._send_commands)
        else:
            ending: Ending = "Rejected" if isinstance(outcome, Rejected) else "Success"
            self._hub.complete_message(self.device_id, number, ending)

    # --- direct methods ---

    @property
    def takes_methods(self) -> bool:
        """Whether a request can be sent, and its answer come back."""
        answers = any(its == _METHODS and isinstance(link, ReceivingLink) for link, its in self.links.items())
        return answers and self._outgoing(_METHODS) is not None

    async def invoke(self, method: str, payload: Any, seconds: float) -> tuple[int, Any]:
        """Call a direct method of the device.

        Raises:
            HubError: 404 if it leaves meanwhile, 504 if it does not answer in time.
        """

        async def send(request_id: uuid.UUID) -> None:
            request = Message(
                body=json.dumps(payload).encode(),
                properties=Properties(correlation_id=request_id),
                application_properties={_METHOD_NAME: method},
            )
            if (link := self._outgoing(_METHODS)) is not None:
                link.send(request.encode())

        return await self._calls.call(send, seconds)

    async def _method_answer(self, _link: ReceivingLink, octets: bytes) -> Composite:
        self._connections.authorize_again(self.device_id)
        rule, planned = await self._faults.rejection("methodAnswer")
        if planned is not None:
            return planned
        try:
            answer = Message.of(octets)
            request_id = _request_id(answer.properties.correlation_id)
            status = answer.application_properties.get(_METHOD_STATUS)
            if not isinstance(status, int) or isinstance(status, bool):
                raise errors.bad_argument(
                    f"{_METHOD_STATUS} is {status!r}; a method's answer has a whole number there."
                )
            self._calls.answer(request_id, int(status), _json(answer.body) if answer.body else None)
        except Malformed as error:
            return rejected(failures.DECODE_ERROR, str(error))
        except HubError as error:
            return amqp_values.refusal(error)
        self._faults.after(rule)
        return Accepted()

    # --- the twin ---

    async def _twin_request(self, _link: ReceivingLink, octets: bytes) -> Composite:
        self._connections.authorize_again(self.device_id)
        if self._outgoing(_TWIN) is None:
            return rejected(failures.PRECONDITION_FAILED, "attach a link that receives from the twin first")
        try:
            request = Message.of(octets)
        except Malformed as error:
            return rejected(failures.DECODE_ERROR, str(error))
        operation, resource = request.annotations.get("operation"), request.annotations.get("resource")
        named = {"GET": "twinGet", "PATCH": "twinReport"}.get(str(operation), "twinNotifications")
        rule = await self._faults.before(named)
        if rule is not None and rule.status is not None:
            self._answer(request, rule.status, {"errorCode": rule.status * 1000, "message": "This fault was planned."})
            return Accepted()
        try:
            self._throttle(named)
            self._answer(request, *self._twin_outcome(operation, resource, request.body))
        except HubError as error:
            self._answer(request, error.status, {"errorCode": error.number, "message": error.message})
        self._faults.after(rule)
        return Accepted()

    def _throttle(self, operation: str) -> None:
        rate = "iot_hub.twinUpdates" if operation == "twinReport" else "iot_hub.twinReads"
        if (wait := self._context.throttled(rate, subject=self._hub.host_name)) is not None:
            raise errors.throttled(wait)

    def _twin_outcome(self, operation: Any, resource: Any, body: Any) -> tuple[int, Any, int | None]:
        """Do what a request says; gives status, body and version."""
        match operation, resource:
            case "GET", None:
                return 200, self._hub.device_view(self.device_id), None
            case "PATCH", "/properties/reported":
                return 204, None, self._hub.report(self.device_id, _json(body))
            case (("PUT" | "DELETE"), "/notifications/twin/properties/desired"):
                self._wants_desired = operation == "PUT"
                return 200, None, None
            case _:
                raise errors.not_offered(f"the operation {operation!r} on {resource!r} of a twin over AMQP")

    def _answer(self, request: Message, status: int, body: Any, version: int | None = None) -> None:
        annotations: dict[Any, Any] = {Symbol("status"): Int(status)}
        if version is not None:
            annotations[Symbol("version")] = version
        self._send_twin(body, Properties(correlation_id=request.properties.correlation_id), annotations)

    def _send_twin(self, body: Any, properties: Properties, annotations: Mapping[Any, Any]) -> None:
        octets = b"" if body is None else json.dumps(body).encode()
        if (link := self._outgoing(_TWIN)) is not None:
            link.send(Message(body=octets, properties=properties, annotations=dict(annotations)).encode())

    async def desired_changed(self, patch: Mapping[str, Any], version: int) -> None:
        """Tell the device, if it has asked for it: a message without a correlation id."""
        if self._wants_desired:
            self._send_twin({**patch, "$version": version}, Properties(), {Symbol("version"): version})

    # --- state.ConnectedDevice ---

    def drop(self) -> None:
        """End the connection, or the device's part of it."""
        self._connections.drop(self)


def _payload_and_bag(message: Message) -> tuple[bytes, dict[str, str]]:
    """Give a message's body, and its properties as a topic of MQTT names them.

    Raises:
        HubError: 400, a property is neither text nor number; 413; 501, the body is not data.
    """
    if not message.has_data and message.body is not None:
        raise errors.not_offered("bodies other than data sections")
    payload = bytes(message.body or b"")
    properties, application = message.properties, dict(message.application_properties)
    system = {
        "$.mid": properties.message_id,
        "$.cid": properties.correlation_id,
        "$.uid": properties.user_id,
        "$.ct": properties.content_type,
        "$.ce": properties.content_encoding,
        "$.exp": amqp_values.time(properties.absolute_expiry_time),
        "$.ctime": application.pop("iothub-creation-time-utc", None),
        "$.ifid": message.annotations.get("iothub-interface-id"),
        "$.sub": message.annotations.get("dt-subject"),
    }
    named = {**application, **{name: value for name, value in system.items() if value is not None}}
    bag = {amqp_values.text("name", name): amqp_values.text(name, value) for name, value in named.items()}
    size = len(payload) + sum(len(name.encode()) + len(value.encode()) for name, value in bag.items())
    if size > messages.SIZE_LIMIT:
        raise errors.message_too_large(size, messages.SIZE_LIMIT)
    return payload, bag


def _command(command: Command) -> bytes:
    """Write a cloud-to-device message."""
    system = command.system_properties
    user_id = system.get("userId")
    properties = Properties(
        message_id=system["messageId"],
        user_id=None if user_id is None else user_id.encode(),
        to=system["to"],
        correlation_id=system.get("correlationId"),
        content_type=system.get("contentType"),
        content_encoding=system.get("contentEncoding"),
        absolute_expiry_time=Timestamp(amqp_values.milliseconds(system["expiryTimeUtc"])),
    )
    annotations = {
        Symbol("x-opt-sequence-number"): ULong(command.number),
        Symbol("iothub-deliverycount"): UByte(command.deliveries - 1),
    }
    ack = {"iothub-ack": system["ack"]} if "ack" in system else {}
    return Message(
        body=command.payload,
        properties=properties,
        application_properties={**command.properties, **ack},
        annotations=annotations,
    ).encode()


def _request_id(correlation_id: Any) -> str:
    """Read the id of a request out of its answer; SDKs send it back as a UUID, as its octets or as its text."""
    try:
        if isinstance(correlation_id, bytes) and len(correlation_id) == _UUID_SIZE:
            return uuid.UUID(bytes=correlation_id).hex
        return uuid.UUID(str(correlation_id)).hex
    except ValueError:
        raise errors.bad_argument(f"correlation-id {correlation_id!r} is not the id of a request.") from None


def _json(body: Any) -> Any:
    try:
        return json.loads(body)
    except (TypeError, ValueError, RecursionError):
        raise errors.bad_argument("The payload is not valid JSON.") from None
