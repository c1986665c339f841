"""IoT hubs, as workflows need them: device identities and twins, by the host name that DPS answers."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class HubIdentity:
    """A device identity as its hub holds it.

    Attributes:
        enabled: whether the hub lets the device in.
        thumbprints: of the certificates that it authenticates with, upper-case hexadecimal; none without one. DPS
            enters SHA-256, the primary repeated as the secondary (Azure/iotedge issue 2951, azure-docs issue 105553);
            others enter SHA-1.
        authentication: its type, as the hub names it (:mod:`shared.domain.hub_authentication`).
        connected: whether it is connected now.
        etag: its version.
        reason: why it has its status, if one was given.
    """

    device_id: str
    enabled: bool
    thumbprints: frozenset[str]
    connected: bool
    etag: str = ""
    reason: str | None = None
    _: KW_ONLY
    authentication: str


class IotHubRegistries(Protocol):
    """The identity registries of all hubs that DPS assigns devices to."""

    async def get(self, hub: str, device_id: str) -> HubIdentity | None:
        """Read a device identity, ``None`` if it does not exist."""
        ...

    async def find(self, hub: str, device_ids: Sequence[str]) -> dict[str, HubIdentity]:
        """Read many identities of a hub: those that exist, by their ids. One query for each 8,000 characters."""
        ...

    async def page(self, hub: str, *, size: int, continuation: str | None) -> tuple[list[HubIdentity], str | None]:
        """List one page of all device identities of a hub, and the continuation of the next page."""
        ...

    async def create(self, hub: str, device_id: str, thumbprints: Sequence[str], *, reason: str) -> HubIdentity | None:
        """Make an identity for one or two certificates (SHA-256) that lets nobody in yet; ``None`` if there is one."""
        ...

    async def set_thumbprints(
        self, hub: str, seen: HubIdentity, thumbprints: Sequence[str], *, reason: str
    ) -> HubIdentity | None:
        """Have an identity take these certificates alone, if it is as it was seen; ``None`` if it is not.

        Whatever it has authenticated with, its symmetric keys too, does not count any more.
        """
        ...

    async def shut_out(self, hub: str, device_id: str, *, reason: str) -> HubIdentity | None:
        """Keep a device out and end its connection, whatever others write; ``None`` if the identity does not exist."""
        ...

    async def let_in(self, hub: str, seen: HubIdentity, *, reason: str) -> HubIdentity | None:
        """Let a device in, if its identity is as it was seen; ``None`` if it has changed or gone since."""
        ...

    async def disable(self, hub: str, seen: HubIdentity, *, reason: str) -> HubIdentity | None:
        """Keep a device out, if its identity is as it was seen; ``None`` if it has changed or gone since."""
        ...

    async def disable_many(self, hub: str, device_ids: Sequence[str], *, reason: str) -> int:
        """Keep devices out of a hub and end their connections; give how many were enabled, and are not any more."""
        ...

    async def delete_unchanged(self, hub: str, seen: HubIdentity) -> bool:
        """Delete an identity, if it is as it was seen; ``False`` if it has changed since, ``True`` if it is gone."""
        ...

    async def merge_twin(
        self, hub: str, device_id: str, *, tags: Mapping[str, Any], desired: Mapping[str, Any]
    ) -> None:
        """Merge tags and desired properties into a device's twin."""
        ...
