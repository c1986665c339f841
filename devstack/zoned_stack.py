"""The local cloud with the app in four trust zones: a host and an identity for each, held to its roles."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devstack import zones
from devstack.stack import Stack, free_ports, write_owner_only
from emulator.platform.identity.roles import DECISIONS
from shared.reading.queue_settings import CONNECTIONS
from shared.settings import STORAGE_CONNECTION, described_settings

if TYPE_CHECKING:
    from pathlib import Path

    from shared.rules.zones import Zone

_STORAGE = ("blob", "queue", "table")


def host_of(zone: Zone) -> str:
    """Name the functions host of a zone, as :attr:`Stack.hosts` does."""
    return f"functions_host_{zone.value}"


@dataclass
class ZonedStack(Stack):
    """As :class:`Stack`, but with a functions host for each zone, and a gate before them and before Azurite.

    Attributes:
        roles: what each zone's identity may do; ``None`` for what infra/zones.json says.
    """

    roles: dict[str, Any] | None = None
    _inner: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        """Start everything; see :meth:`Stack.start`."""
        names = (*_STORAGE, *zones.ZONES)
        outer = {self.options.functions_port, *self.options.azurite_ports}
        free = free_ports(self.options.address, len(names) + len(outer))  # they may be some that are chosen already
        self._inner = dict(zip(names, (port for port in free if port not in outer), strict=False))
        write_owner_only(
            self.roles_file,
            self.roles or zones.roles(zones.read_zones(), queue_accounts=self.options.queue_accounts),
        )
        super().start()

    @property
    def roles_file(self) -> Path:
        """What each zone's identity may do; the decisions are in a file beside it."""
        return self.options.state_dir / "roles" / "roles.json"

    @property
    def decisions_file(self) -> Path:
        """Which assignment decided what, a line of JSON each."""
        return self.roles_file.parent / DECISIONS

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of the functions hosts, one for each zone."""
        return tuple(host_of(zone) for zone in zones.ZONES)

    def _azurite_ports(self) -> tuple[int, int, int]:
        blob, queue, table = (self._inner[service] for service in _STORAGE)
        return blob, queue, table

    def _emulator_options(self) -> list[str]:
        return [*super()._emulator_options(), "--roles", str(self.roles_file)]

    def _open_storage(self) -> None:
        options, tls = self.options, self._tls
        settings = options.state_dir / "gate.json"
        write_owner_only(
            settings,
            {
                "address": options.address,
                "port": options.functions_port,
                "prefix": "api",
                "roles": str(self.roles_file),
                "tlsCaFile": str(tls.ca_file),
                "certificateFile": str(tls.certificate_file),
                "keyFile": str(tls.key_file),
                "storage": {
                    service: {"port": port, "target": f"https://{options.address}:{self._inner[service]}"}
                    for service, port in zip(_STORAGE, options.azurite_ports, strict=True)
                },
                "zones": {zone.value: self._url_of(zone) for zone in zones.ZONES},
            },
        )
        self._spawn_until_ready("gate", [sys.executable, "-m", "devstack.gate", str(settings)], os.environ)

    def _url_of(self, zone: Zone) -> str:
        return f"http://{self.options.address}:{self._inner[zone.value]}"

    def start_functions_host(self) -> None:
        """Start a functions host for each zone, on the settings that the zone uses."""
        self._written("local.settings.json", self.settings())  # for `devstack audit`, which reads all zones
        for zone in zones.ZONES:
            ready = self._start_zone(zone)
        self._host = {
            **ready,
            "functionsUrl": f"http://{self.options.address}:{self.options.functions_port}",
            "zones": {zone.value: self._url_of(zone) for zone in zones.ZONES},
        }

    def _start_zone(self, zone: Zone) -> dict[str, Any]:
        name = host_of(zone)
        settings = self._written(f"{name}.settings.json", self.settings_of(zone))
        return self._spawn_host(name, settings, self._inner[zone.value])

    def settings_of(self, zone: Zone) -> dict[str, str]:
        """Give the settings that a zone uses, and who it is."""
        settings = self.settings()
        used = {each.name: zone in each.zones for each in described_settings().values()}
        own = {
            "ZONE": zone.value,
            f"{STORAGE_CONNECTION}__clientId": zones.client_id(zone),
            "AzureWebJobsStorage__clientId": zones.client_id(zone),
            **{f"{CONNECTIONS[queue]}__clientId": zones.client_id(zone) for queue in self.options.queue_accounts},
            "STATUS_VAULT_URL": self._emulator["keyVaultUrl"],
            "ORDER_LISTS_URL": settings[f"{STORAGE_CONNECTION}__blobServiceUri"],
        }
        return {name: value for name, value in {**settings, **own}.items() if used.get(name, True)}
