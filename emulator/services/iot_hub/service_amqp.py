"""The service's side of a hub over AMQP: cloud-to-device messages, and feedback on them.

Endpoints and message properties: Microsoft, "Communicate with your IoT hub by using the AMQP protocol" and "Understand
cloud-to-device messaging from an IoT hub".
"""

from __future__ import annotations

import base64
import logging
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from emulator.platform.amqp_conditions import rejected
from emulator.platform.identity.errors import Refusal
from emulator.platform.identity.sas import SCHEME
from emulator.protocols.amqp import failures
from emulator.protocols.amqp.composites import Accepted
from emulator.protocols.amqp.failures import LinkFailure
from emulator.protocols.amqp.links import ReceivingLink, SendingLink
from emulator.protocols.amqp.messages import Message
from emulator.protocols.amqp.types import Malformed
from emulator.services.iot_hub import amqp_values, errors
from emulator.services.iot_hub.callers import verify_caller
from emulator.services.iot_hub.errors import HubError
from emulator.services.iot_hub.feedback_link import FeedbackReader

if TYPE_CHECKING:
    from emulator.platform.amqp_conditions import PlannedFaults
    from emulator.platform.context import Context
    from emulator.protocols.amqp.composites import Composite
    from emulator.protocols.amqp.links import Link
    from emulator.services.iot_hub.state import IotHub

LOG = logging.getLogger(__name__)
SERVICE: Final = "iot_hub_service"
"""As a plan of faults names it."""

_DEVICEBOUND: Final = "/messages/devicebound"
_FEEDBACK: Final = "/messages/servicebound/feedback"
_KNOWN_ELSEWHERE: Final = {
    "/messages/servicebound/filenotifications": "file notifications",
    "/messages/events": "the Event Hubs endpoint",
}
"""Endpoints of the real service that are missing here, with all that is below them."""

_TO: Final = re.compile(r"/devices/([^/]+)(/modules/[^/]+)?/messages/devicebound", re.IGNORECASE)


class ServiceNodes:
    """What one client of the service's side reaches, with the token it has shown."""

    def __init__(self, context: Context, hub: IotHub, faults: PlannedFaults) -> None:
        self._context = context
        self._hub = hub
        self._faults = faults
        self._token: str | None = None
        self._readers: dict[Link, FeedbackReader] = {}

    def attach(self, link: Link) -> None:
        """Take a link to one of the hub's nodes.

        Raises:
            LinkFailure: the node does not exist, or the client has shown no token that is good.
        """
        self._authorize()
        path = amqp_values.path(link.address).lower()
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
        if (reader := self._readers.pop(link, None)) is not None:
            reader.stop()

    # --- who it is ---

    def put_token(self, token: str) -> str | None:
        """Tell why a token is not good; it becomes the client's if it is (None)."""
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
        reason = "no token was put to $cbs" if self._token is None else self.put_token(self._token)
        if reason is not None:
            raise LinkFailure(failures.UNAUTHORIZED_ACCESS, reason)

    # --- cloud-to-device messages ---

    async def _take_command(self, octets: bytes) -> Composite:
        self._authorize()
        rule, planned = await self._faults.rejection("sendMessage")
        if planned is not None:
            return planned
        try:
            device_id, message = command(Message.of(octets))
            await self._hub.send(device_id, message)
        except Malformed as error:
            return rejected(failures.DECODE_ERROR, str(error))
        except HubError as error:
            return amqp_values.refusal(error)
        self._faults.after(rule)
        return Accepted()


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
        "expiryTimeUtc": amqp_values.time(properties.absolute_expiry_time),
    }
    application = dict(message.application_properties)
    named["ack"] = application.pop("iothub-ack", None)
    body = {
        "body": base64.b64encode(message.body).decode(),
        "bodyEncoding": "base64",
        "properties": {
            amqp_values.text("name", name): amqp_values.text(name, value) for name, value in application.items()
        },
        "systemProperties": {name: amqp_values.text(name, value) for name, value in named.items() if value is not None},
    }
    return unquote(addressed[1]), body


def _is_below(path: str, start: str) -> bool:
    """Tell whether a path is this one or below it; clients write it with and without slashes at its ends."""
    return f"/{path.strip('/')}/".startswith(f"{start}/")
