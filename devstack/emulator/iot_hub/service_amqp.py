"""The service's side of a hub over AMQP: tokens by ``$cbs``, cloud-to-device messages, and feedback on them.

Endpoints and message properties: Microsoft, "Communicate with your IoT hub by using the AMQP protocol" and "Understand
cloud-to-device messaging from an IoT hub". Conditions: what Microsoft's service SDKs make exceptions of
(azure-iot-sdk-csharp, ``AmqpErrorMapper``; azure-iot-sdk-node, ``amqp_service_errors`` and ``amqp_common_errors``).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from devstack.emulator.amqp import failures
from devstack.emulator.amqp.composites import Accepted, Error, Properties, Rejected
from devstack.emulator.amqp.failures import ConnectionFailure, LinkFailure
from devstack.emulator.amqp.links import ReceivingLink, SendingLink
from devstack.emulator.amqp.messages import Message
from devstack.emulator.amqp.types import Int, Malformed
from devstack.emulator.identity.errors import Refusal
from devstack.emulator.identity.sas import SCHEME
from devstack.emulator.iot_hub import errors
from devstack.emulator.iot_hub.callers import verify_caller
from devstack.emulator.iot_hub.errors import HubError
from devstack.emulator.iot_hub.feedback_link import FeedbackReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from devstack.emulator.amqp.composites import Composite
    from devstack.emulator.amqp.connection import Connection
    from devstack.emulator.amqp.links import Link, Service, Session
    from devstack.emulator.context import Context
    from devstack.emulator.faults import Rule
    from devstack.emulator.iot_hub.state import IotHub

LOG = logging.getLogger(__name__)
_SERVICE: Final = "iot_hub_service"
_CBS: Final = "$cbs"
_DEVICEBOUND: Final = "/messages/devicebound"
_FEEDBACK: Final = "/messages/servicebound/feedback"
_KNOWN_ELSEWHERE: Final = {
    "/messages/servicebound/filenotifications": "file notifications",
    "/messages/events": "the Event Hubs endpoint",
}
"""Endpoints of the real service that are missing here, with all that is below them."""

_TOKEN_TYPES: Final = {"servicebus.windows.net:sastoken", "bearer", "jwt"}
_TO: Final = re.compile(r"/devices/([^/]+)(/modules/[^/]+)?/messages/devicebound", re.IGNORECASE)
_PLAIN_USER: Final = re.compile(r"[^@]+@sas\.root\..+")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OK, _BAD_REQUEST, _UNAUTHORIZED, _NOT_IMPLEMENTED = 200, 400, 401, 501

ARGUMENT_ERROR: Final = "com.microsoft:argument-error"
THROTTLED: Final = "com.microsoft:device-container-throttled"
TIMEOUT: Final = "com.microsoft:timeout"
_CONDITIONS: Final = {
    "ArgumentInvalid": ARGUMENT_ERROR,
    "DeviceNotFound": failures.NOT_FOUND,
    "DeviceMaximumQueueDepthExceeded": failures.RESOURCE_LIMIT_EXCEEDED,
    "MessageTooLarge": failures.MESSAGE_SIZE_EXCEEDED,
    "ThrottlingException": THROTTLED,
    "NotImplemented": failures.NOT_IMPLEMENTED,
}
_PLANNED: Final = {
    400: ARGUMENT_ERROR,
    401: failures.UNAUTHORIZED_ACCESS,
    403: failures.RESOURCE_LIMIT_EXCEEDED,
    404: failures.NOT_FOUND,
    413: failures.MESSAGE_SIZE_EXCEEDED,
    429: THROTTLED,
    501: failures.NOT_IMPLEMENTED,
    503: TIMEOUT,
    504: TIMEOUT,
}
"""What stands for the status of a planned fault; ``amqp:internal-error`` for any other."""


def server(context: Context, hub: IotHub) -> Callable[[Connection], Service]:
    """Give what makes the service behind one connection to a hub."""
    return lambda connection: ServiceClient(context, hub, connection)


class ServiceClient:
    """One client of the service's side, with the token it has shown."""

    def __init__(self, context: Context, hub: IotHub, connection: Connection) -> None:
        self._context = context
        self._hub = hub
        self._connection = connection
        self._token: str | None = None
        self._answers: dict[Session, SendingLink] = {}
        """Where the answers of ``$cbs`` go."""
        self._readers: dict[Link, FeedbackReader] = {}

    # --- links.Service ---

    def signs_in(self, username: str, password: str) -> bool:
        """Take a shared access signature for a password, as service clients without ``$cbs`` send it."""
        if not _PLAIN_USER.fullmatch(username):
            LOG.info("the user %r is not {policy}@sas.root.{hub name}", username)
            return False
        return self._refusal(password) is None

    async def opened(self) -> None:
        """Let a planned fault happen."""
        rule = await self._planned("connect")
        if rule is not None and rule.status is not None:
            raise ConnectionFailure(_planned_condition(rule.status), _planned_text(rule.status))
        self._after(rule)

    async def attached(self, link: Link) -> None:
        """Take a link to one of the hub's nodes.

        Raises:
            LinkFailure: there is no such node, or the client has shown no token that is good.
        """
        path = _path(link.address)
        if path == _CBS:
            self._attach_to_cbs(link)
            return
        self._authorize()
        missing = next((what for start, what in _KNOWN_ELSEWHERE.items() if _is_below(path, start)), None)
        if missing is not None:
            raise LinkFailure(failures.NOT_IMPLEMENTED, errors.not_offered(missing).message)
        if path == _DEVICEBOUND and isinstance(link, ReceivingLink):
            link.take = self._take_command
        elif path == _FEEDBACK and isinstance(link, SendingLink):
            self._readers[link] = FeedbackReader(self._hub, link)
            self._readers[link].start()
        elif path in {_DEVICEBOUND, _FEEDBACK}:
            raise LinkFailure(failures.NOT_ALLOWED, f"services send to {_DEVICEBOUND}, and receive from {_FEEDBACK}")
        else:
            raise LinkFailure(failures.NOT_FOUND, f"the hub has no node {link.address!r} for services")

    def detached(self, link: Link) -> None:
        """Forget a link."""
        if self._answers.get(link.session) is link:
            del self._answers[link.session]
        if (reader := self._readers.pop(link, None)) is not None:
            reader.stop()

    # --- who it is ---

    def _refusal(self, token: str) -> str | None:
        """Tell why a token is not good; it becomes the client's if it is."""
        header = token if token.startswith((f"{SCHEME} ", "Bearer ")) else f"Bearer {token}"
        host = f"{self._hub.host_name}:{self._context.configuration.https_port}"
        try:
            verify_caller(self._context, self._hub, header, host=host)
        except Refusal as refusal:
            LOG.info("a service client of %s is refused: %s", self._hub.host_name, refusal.reason)
            return refusal.reason
        self._token = token
        return None

    def _authorize(self) -> None:
        """See that the client's token is still good: it may have expired, or the role may be gone.

        Raises:
            LinkFailure: it is not.
        """
        reason = "no token was put to $cbs" if self._token is None else self._refusal(self._token)
        if reason is not None:
            raise LinkFailure(failures.UNAUTHORIZED_ACCESS, reason)

    def _attach_to_cbs(self, link: Link) -> None:
        if isinstance(link, SendingLink):
            self._answers[link.session] = link
        elif isinstance(link, ReceivingLink):
            link.take = partial(self._take_token, link.session)

    async def _take_token(self, session: Session, octets: bytes) -> Composite:
        """Answer a request for ``$cbs`` (OASIS, "AMQP Claims-based Security"; a real hub's good answer is 200)."""
        answers = self._answers.get(session)
        if answers is None:
            return _rejected(failures.PRECONDITION_FAILED, "attach a link that receives from $cbs first")
        try:
            request = Message.of(octets)
        except Malformed as error:
            return _rejected(failures.DECODE_ERROR, str(error))
        rule = await self._planned("putToken")
        status, description = await self._token_status(request, rule)
        answer = Message(
            body=None,
            has_data=False,
            properties=Properties(correlation_id=request.properties.message_id),
            application_properties={"status-code": Int(status), "status-description": description},
        )
        answers.send(answer.encode())
        return Accepted()

    async def _token_status(self, request: Message, rule: Rule | None) -> tuple[int, str]:
        if rule is not None and rule.status is not None:
            return rule.status, _planned_text(rule.status)
        asked, token = request.application_properties, request.body
        if asked.get("operation") != "put-token":
            return _NOT_IMPLEMENTED, f"$cbs knows put-token, and not {asked.get('operation')!r}"
        if asked.get("type") not in _TOKEN_TYPES or not isinstance(token, str):
            return _BAD_REQUEST, f"a token is a text of one of the types {', '.join(sorted(_TOKEN_TYPES))}"
        reason = self._refusal(token)
        self._after(rule)
        return (_OK, "OK") if reason is None else (_UNAUTHORIZED, reason)

    # --- cloud-to-device messages ---

    async def _take_command(self, octets: bytes) -> Composite:
        self._authorize()
        rule = await self._planned("sendMessage")
        if rule is not None and rule.status is not None:
            return _rejected(_planned_condition(rule.status), _planned_text(rule.status))
        try:
            device_id, message = command(Message.of(octets))
            await self._hub.send(device_id, message)
        except Malformed as error:
            return _rejected(failures.DECODE_ERROR, str(error))
        except HubError as error:
            condition = _CONDITIONS.get(error.code, failures.INTERNAL_ERROR)
            return _rejected(condition, f"ErrorCode:{error.code};{error.message}")
        self._after(rule)
        return Accepted()

    # --- planned faults ---

    async def _planned(self, operation: str) -> Rule | None:
        """Give the fault that hits an operation; here it waits, and breaks off before anything took place."""
        rule = self._context.faults.next(_SERVICE, operation)
        if rule is not None:
            await asyncio.sleep(rule.latency_ms / 1000)
            if rule.drop == "request":
                self._connection.close()
                raise ConnectionFailure(failures.INTERNAL_ERROR, "a planned fault breaks it off")
        return rule

    def _after(self, rule: Rule | None) -> None:
        """Break off after the effect took place, if that is planned."""
        if rule is not None and rule.drop == "response":
            self._connection.close()


def command(message: Message) -> tuple[str, dict[str, Any]]:
    """Read a cloud-to-device message.

    Returns:
        The device, and the message as ``IotHub.send`` takes it.

    Raises:
        HubError: it has no body, no device or properties that a device could not read.
    """
    properties = message.properties
    addressed = _TO.fullmatch(properties.to) if isinstance(properties.to, str) else None
    if addressed is None:
        raise errors.bad_argument(f"'to' is {properties.to!r}, and not /devices/{{id}}/messages/devicebound.")
    if addressed[2]:
        raise errors.not_offered("messages to modules")
    if not message.has_data:
        raise errors.not_offered("bodies other than data sections")
    named = {
        "messageId": properties.message_id,
        "correlationId": properties.correlation_id,
        "userId": properties.user_id,
        "contentType": properties.content_type,
        "contentEncoding": properties.content_encoding,
        "expiryTimeUtc": _time(properties.absolute_expiry_time),
    }
    application = dict(message.application_properties)
    named["ack"] = application.pop("iothub-ack", None)
    body = {
        "body": base64.b64encode(message.body).decode(),
        "bodyEncoding": "base64",
        "properties": {
            _text("name", name): _text(name, value) for name, value in message.application_properties.items()
        },
        "systemProperties": {name: _text(name, value) for name, value in named.items() if value is not None},
    }
    return unquote(addressed[1]), body


def _text(name: Any, value: Any) -> str:
    """Give a property as the text that a device gets."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise errors.bad_argument(f"the property {name!r} is no UTF-8.") from None
    if not isinstance(value, str | int | float | uuid.UUID):
        raise errors.bad_argument(f"the property {name!r} is neither text nor number.")
    return str(value)


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    try:
        return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat()
    except OverflowError:
        raise errors.bad_argument(f"absolute-expiry-time {milliseconds} is beyond the year 9999.") from None


def _path(address: str) -> str:
    """Give the path of a node's address, which may be a whole URL; the real service takes any case."""
    return re.sub(r"^amqps?://[^/]*", "", address, flags=re.IGNORECASE).lower()


def _is_below(path: str, start: str) -> bool:
    """Tell whether a path is this one or below it; clients write it with and without slashes at its ends."""
    return f"/{path.strip('/')}/".startswith(f"{start}/")


def _rejected(condition: str, description: str) -> Rejected:
    LOG.info("a message is rejected: %s: %s", condition, description)
    return Rejected(error=Error(condition=condition, description=description))


def _planned_condition(status: int) -> str:
    return _PLANNED.get(status, failures.INTERNAL_ERROR)


def _planned_text(status: int) -> str:
    return f"a planned fault: {status}"
