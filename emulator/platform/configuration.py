"""What an emulator is told at its start: addresses, ports, folders and the names of its Azure resources."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEFAULT_ADDRESS = "127.0.0.1"
ID_SCOPE = "0ne00000001"
HTTPS_PORT = 443
"""Of Azure's services; some of Microsoft's clients know no other."""

KEYS_PATH = "/common/discovery/keys"
"""Where the keys are that tokens of whoever signs in are signed with."""

TENANT_ID = "7b9f36a2-5a0c-4c0e-9d58-3d1c6ef1b0a4"
SUBSCRIPTION_ID = "c1f0c9a8-4f5d-4d3b-8a8e-0a4f2a7d9e10"


class ConfigurationError(ValueError):
    """A setting that the emulator can't run with; the text names the value and the rule."""


def host_name_of(address: str) -> str:
    """Name by which clients reach a loopback ``address``: ``localhost``, or the address itself.

    Raises:
        ConfigurationError: it is not an IPv4 loopback address.
    """
    try:
        loopback = ipaddress.IPv4Address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigurationError(
            f"address {address!r} is not a loopback address: the emulator binds to 127.0.0.0/8 only, e.g. 127.0.0.1"
        )
    return "localhost" if address == DEFAULT_ADDRESS else address


@dataclass(frozen=True, slots=True)
class HubAddress:
    """One IoT hub.

    Attributes:
        host_name: what devices connect to, and what DPS answers as ``assignedHub``.
        authority: host name and HTTPS port, as a URL or a connection string has them.
        address: the loopback address its listeners bind to.
        resource_id: ARM id; its name is the host name with - for every dot.
    """

    host_name: str
    authority: str
    address: str
    resource_id: str

    @property
    def service_url(self) -> str:
        """Base URL of its registry API, without a slash at the end."""
        return f"https://{self.authority}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything that is settled before the emulator starts; a port of 0 stands for "any free one".

    Attributes:
        address: loopback address to bind.
        extra_hub_addresses: further loopback addresses, one more IoT hub on each.
        amqp_port: of the hubs' service side over AMQP; None for none. Service SDKs know only 5671.
        websocket_port: a further port for all that ``https_port`` has; None for none. Device SDKs know only 443.
        assigning_seconds: for so long a registration at DPS is ``assigning``.
        throttling: the documented rates hold, times this; None for no rates.
        variants: which behaviour holds where public sources differ; what is left out is the default.
        exchange_log: file to which what is asked and answered over HTTPS is appended; None for none.
        roles: file of what identities may do; None lets every identity do everything.
        event_queue: URL of a queue that gets the events of the topic; None for none.
    """

    state_dir: Path
    tls_dir: Path
    address: str = DEFAULT_ADDRESS
    https_port: int = 8443
    mqtt_port: int = 8883
    amqp_port: int | None = 5671
    identity_port: int = 8442
    admin_port: int = 8444
    id_scope: str = ID_SCOPE
    dps_name: str = "dps"
    tenant_id: str = TENANT_ID
    subscription_id: str = SUBSCRIPTION_ID
    resource_group: str = "local"
    extra_hub_addresses: Sequence[str] = ()
    websocket_port: int | None = None
    assigning_seconds: float = 0
    throttling: float | None = None
    variants: Mapping[str, str] = field(default_factory=dict)
    exchange_log: Path | None = None
    roles: Path | None = None
    event_queue: str | None = None

    def __post_init__(self) -> None:
        addresses = self.addresses
        for address in addresses:
            host_name_of(address)
        if len(set(addresses)) < len(addresses):
            raise ConfigurationError(
                f"addresses {', '.join(addresses)}: each hub needs an address of its own, and one is named twice"
            )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address to listen on, the main one first."""
        return (self.address, *self.extra_hub_addresses)

    @property
    def host_name(self) -> str:
        """Name by which clients reach the main address."""
        return host_name_of(self.address)

    @property
    def authority(self) -> str:
        """Host name and HTTPS port of the main address."""
        return self._authority(self.host_name)

    def _authority(self, host_name: str) -> str:
        """Leave 443 out, as Azure's names do: there are clients that take the whole for a host name."""
        return host_name if self.https_port == HTTPS_PORT else f"{host_name}:{self.https_port}"

    @property
    def https_url(self) -> str:
        """Base URL of the HTTPS services, without a slash at the end."""
        return f"https://{self.authority}"

    @property
    def hubs(self) -> tuple[HubAddress, ...]:
        """The IoT hubs; the first shares the name of the emulator itself."""
        return tuple(
            HubAddress(
                host_name=host_name_of(address),
                authority=self._authority(host_name_of(address)),
                address=address,
                resource_id=self._resource_id("IotHubs", host_name_of(address).replace(".", "-")),
            )
            for address in self.addresses
        )

    @property
    def dps_resource_id(self) -> str:
        """ARM id of the provisioning service."""
        return self._resource_id("provisioningServices", self.dps_name)

    @property
    def event_topic_id(self) -> str:
        """ARM id of the Event Grid topic."""
        return self._resource_id("topics", "events", provider="Microsoft.EventGrid")

    def _resource_id(self, kind: str, name: str, *, provider: str = "Microsoft.Devices") -> str:
        group = f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
        return f"{group}/providers/{provider}/{kind}/{name}"

    def on_ports(
        self, *, https: int, websocket: int | None, mqtt: int, amqp: int | None, identity: int, admin: int
    ) -> Self:
        """The same with the ports that were really bound."""
        return replace(
            self,
            https_port=https,
            websocket_port=websocket,
            mqtt_port=mqtt,
            amqp_port=amqp,
            identity_port=identity,
            admin_port=admin,
        )
