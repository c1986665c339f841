"""Devices' own connections to a hub over AMQP: who is let in, and which links lead to whom.

What an SDK attaches, and how it takes a refusal: azure-iot-sdk-node (``azure-iot-device-amqp``) and
azure-iot-sdk-csharp (``AmqpIotSession``, ``AmqpIotErrorAdapter``, ``RetryDelegatingHandler``).
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

from emulator.platform.amqp_conditions import THROTTLED, PlannedFaults, condition_of, planned_text
from emulator.platform.identity.sas import signed_resource
from emulator.protocols.amqp import failures
from emulator.protocols.amqp.failures import ConnectionFailure, LinkFailure
from emulator.protocols.amqp.types import Symbol
from emulator.services.iot_hub import amqp_values, errors
from emulator.services.iot_hub.device_access import Denied, admit
from emulator.services.iot_hub.errors import HubError
from emulator.services.iot_hub.linked_device import LinkedDevice, check_node

if TYPE_CHECKING:
    from emulator.platform.context import Context
    from emulator.protocols.amqp.connection import Connection
    from emulator.protocols.amqp.links import Link
    from emulator.services.iot_hub.state import IotHub

LOG = logging.getLogger(__name__)
_SERVICE: Final = "iot_hub_device"
API_VERSION: Final = Symbol("com.microsoft:api-version")
"""The property of a link that says which version of a service its client speaks."""

_NODE: Final = re.compile(r"/devices/(?P<device>[^/]+)(?P<module>/modules/[^/]+)?/(?P<node>.+?)/?", re.IGNORECASE)
_SIGNED: Final = re.compile(r"[^/]+/devices/(?P<device>[^/]+)(?P<module>/modules/[^/]+)?/?", re.IGNORECASE)
_OK, _UNAUTHORIZED, _NOT_FOUND, _NOT_IMPLEMENTED = 200, 401, 404, 501


def signed_device(token: str) -> re.Match[str] | None:
    """Tell whose a token is, if it is the signature of a device; None if it is of a service."""
    resource = signed_resource(token)
    return None if resource is None else _SIGNED.fullmatch(resource)


class Address(NamedTuple):
    """Where a link leads."""

    device_id: str
    is_module: bool
    node: str


def address_of(link_address: str) -> Address | None:
    """Read the address of a link; None if it does not lead to a device."""
    found = _NODE.fullmatch(amqp_values.path(link_address))
    return found and Address(found["device"], bool(found["module"]), found["node"].lower())


class DeviceNodes:
    """What the devices of one connection reach: mostly there is one, but SDKs let several share a connection."""

    def __init__(self, context: Context, hub: IotHub, connection: Connection) -> None:
        self._context = context
        self._hub = hub
        self._connection = connection
        self._faults = PlannedFaults(context, _SERVICE, connection)
        self._signatures: dict[str, str] = {}
        self._devices: dict[str, LinkedDevice] = {}

    def put_token(self, whose: re.Match[str], signature: str) -> tuple[int, str]:
        """Take a device's signature; tells the status of ``$cbs`` and its description."""
        if whose["module"]:
            return _NOT_IMPLEMENTED, errors.not_offered("modules").message
        device_id = self._known_as(whose["device"])
        try:
            self._admit(device_id, signature)
        except Denied as denied:
            LOG.info("a device of %s is refused: %s", self._hub.host_name, denied)
            return _UNAUTHORIZED if denied.is_known else _NOT_FOUND, str(denied)
        self._signatures[device_id] = signature
        return _OK, "OK"

    async def attach(self, link: Link, address: Address) -> None:
        """Take a link to one of a device's nodes.

        Raises:
            LinkFailure: the node does not exist, or the device is not let in.
        """
        device_id = self._known_as(address.device_id)
        if address.is_module:
            raise LinkFailure(failures.NOT_IMPLEMENTED, errors.not_offered("modules").message)
        self.authorize(device_id)
        version = link.properties.get(API_VERSION)
        try:
            if version is not None:
                errors.check_version(str(version))
        except HubError as error:
            raise LinkFailure(amqp_values.condition(error), error.message) from None
        check_node(link, address.node)
        device = self._devices.get(device_id) or await self._connected(device_id)
        device.attach(link, address.node)

    async def _connected(self, device_id: str) -> LinkedDevice:
        if self._context.throttled("iot_hub.connections", subject=self._hub.host_name) is not None:
            raise LinkFailure(THROTTLED, f"{self._hub.host_name!r} gets more new connections than its rate allows")
        rule = await self._faults.before("connect")
        if rule is not None and rule.status is not None:
            raise LinkFailure(condition_of(rule.status), planned_text(rule.status))
        device = LinkedDevice(self._context, self._hub, device_id, self, self._faults)
        self._devices[device_id] = device
        self._hub.connect(device_id, device)
        self._faults.after(rule)
        return device

    def detached(self, link: Link) -> None:
        """Forget a link; a device without links is no longer connected."""
        for device in [each for each in self._devices.values() if link in each.links]:
            device.detached(link)
            if not device.links:
                self._gone(device)

    def _gone(self, device: LinkedDevice) -> None:
        if self._devices.get(device.device_id) is device:
            del self._devices[device.device_id]
        device.end()
        self._hub.disconnected(device.device_id, device)

    def drop(self, device: LinkedDevice) -> None:
        """End a device's links, and the connection if there is nobody else on it."""
        if self._hub.lets_in(device.device_id):
            condition, reason = failures.CONNECTION_FORCED, "the device has connected anew"
        else:
            condition, reason = failures.NOT_FOUND, "the device was disabled or deleted"
        links = tuple(device.links)
        self._gone(device)
        self._signatures.pop(device.device_id, None)
        if not self._devices:
            self._connection.fail(ConnectionFailure(condition, reason))
            return
        for link in links:
            link.session.fail(link, LinkFailure(condition, reason))

    # --- who it is ---

    def _known_as(self, given: str) -> str:
        """Give a device's id as the hub has it: some SDKs encode it in addresses, some don't."""
        return given if self._hub.has(given) else unquote(given)

    def _admit(self, device_id: str, signature: str | None) -> None:
        chain = self._connection.peer_chain
        admit(self._context, self._hub, device_id, chain=chain, signature=signature)

    def authorize(self, device_id: str) -> None:
        """See that a device is let in.

        Raises:
            LinkFailure: it is not, or no longer; a device that the hub does not have, or has disabled, gets the
                condition that azure-iot-sdk-csharp takes for that (``RetryDelegatingHandler``).
        """
        try:
            self._admit(device_id, self._signatures.get(device_id))
        except Denied as denied:
            LOG.info("a device of %s is refused: %s", self._hub.host_name, denied)
            shown = self._connection.peer_chain or device_id in self._signatures
            reason = str(denied) if shown else "no token was put to $cbs, and no certificate was sent"
            condition = failures.UNAUTHORIZED_ACCESS if denied.is_known else failures.NOT_FOUND
            raise LinkFailure(condition, reason) from None

    def authorize_again(self, device_id: str) -> None:
        """See that a device's signature has not expired.

        Raises:
            LinkFailure: it has.
        """
        if device_id in self._signatures:
            self.authorize(device_id)
