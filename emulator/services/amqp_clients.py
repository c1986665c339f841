"""One client's AMQP connection: each link leads to DPS, to a hub as a device does, or to a hub as a service does.

They share an address and a port here, as ``localhost`` is DPS and a hub, and one connection may carry all of them.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from emulator.platform.amqp_conditions import PlannedFaults, condition_of, planned_text
from emulator.protocols.amqp.failures import ConnectionFailure
from emulator.services.dps.device_amqp import RegistrationNodes, registration_of
from emulator.services.iot_hub import cbs
from emulator.services.iot_hub.device_amqp import DeviceNodes, address_of, signed_device
from emulator.services.iot_hub.service_amqp import SERVICE, ServiceNodes

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.platform.context import Context
    from emulator.protocols.amqp.connection import Connection
    from emulator.protocols.amqp.links import Link, Service
    from emulator.services.dps.device_api import DeviceApi
    from emulator.services.iot_hub.state import IotHub

LOG = logging.getLogger(__name__)
_OF_A_POLICY: Final = re.compile(r"[^@]+@sas\.root\..+")
_OF_A_DEVICE: Final = re.compile(r"(.+)@sas\..+")
_UNAUTHORIZED: Final = 401


def server(context: Context, api: DeviceApi, hub: IotHub) -> Callable[[Connection], Service]:
    """Give what makes the service behind one connection at a hub's address."""
    return lambda connection: Client(context, hub, api, connection)


class Client:
    """One client."""

    def __init__(self, context: Context, hub: IotHub, api: DeviceApi, connection: Connection) -> None:
        self._connection = connection
        self._faults = PlannedFaults(context, SERVICE, connection)
        self._tokens = cbs.TokenNode(self._judge, self._faults)
        self._services = ServiceNodes(context, hub, self._faults)
        self._devices = DeviceNodes(context, hub, connection)
        self._registrations = RegistrationNodes(context, api, connection)
        self._registration_signature: str | None = None
        """What it came with to register: a signature by the key of a device."""

    # --- links.Service ---

    def signs_in(self, username: str, password: str) -> bool:
        """Take a shared access signature for a password, as clients without ``$cbs`` send it."""
        if registration_of(username) is not None:
            self._registration_signature = password  # it is told when it registers: SASL has no words for it
            return True
        if _OF_A_POLICY.fullmatch(username):
            return self._services.put_token(password) is None
        if _OF_A_DEVICE.fullmatch(username) and signed_device(password) is not None:
            return self._judge(password) == cbs.OK
        LOG.info("the user %r is not {policy}@sas.root.{hub name}, nor {device id}@sas.{hub name}", username)
        return False

    async def opened(self) -> None:
        """Let a planned fault happen."""
        rule = await self._faults.before("connect")
        if rule is not None and rule.status is not None:
            raise ConnectionFailure(condition_of(rule.status), planned_text(rule.status))
        self._faults.after(rule)

    async def attached(self, link: Link) -> None:
        """Take a link.

        Raises:
            LinkFailure: it leads nowhere, or the client is not let in there.
        """
        if link.address.lower().rpartition("/")[2] == cbs.NODE:
            self._tokens.attach(link)
        elif (registration := registration_of(link.address)) is not None:
            self._registrations.attach(link, registration, self._registration_signature)
        elif (address := address_of(link.address)) is not None:
            await self._devices.attach(link, address)
        else:
            self._services.attach(link)

    def detached(self, link: Link) -> None:
        """Forget a link."""
        self._tokens.detached(link)
        self._registrations.detached(link)
        self._devices.detached(link)
        self._services.detached(link)

    # --- tokens ---

    def _judge(self, token: str) -> tuple[int, str]:
        """Take a token, of a device or of a service; tells the status of ``$cbs`` and its description."""
        whose = signed_device(token)
        if whose is not None:
            return self._devices.put_token(whose, token)
        reason = self._services.put_token(token)
        return cbs.OK if reason is None else (_UNAUTHORIZED, reason)
