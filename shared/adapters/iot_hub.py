"""The IoT Hub registry: device identities and twins (api-version 2021-04-12).

Microsoft's azure-iot-hub is synchronous, so every call runs in a thread of the registries' own.
"""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import (
    AuthenticationMechanism,
    ExportImportDevice,
    QuerySpecification,
    Twin,
    TwinProperties,
)

from shared.adapters.observed import telling
from shared.adapters.sdk_errors import translated
from shared.errors import Deferred, NotFound, PreconditionFailed
from shared.ports.hubs import HubIdentity
from shared.threads import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from azure.core.credentials import TokenCredential

ANY_VERSION = "*"
BULK_LIMIT = 100
"""Identities that one call may change (Microsoft: "IoT Hub quotas and throttling")."""

_CALLS_AT_ONCE = 16
_ATTEMPTS = 3


class IotHubRegistries:
    """The registries of all hubs that DPS assigns devices to, each found by the host name DPS answers.

    Args:
        service_urls: service URL by host name, for hubs not reached under ``https://<host name>``.
        credential: the app's identity.
    """

    def __init__(self, service_urls: Mapping[str, str], credential: TokenCredential) -> None:
        self._service_urls = service_urls
        self._credential = credential
        self._registries: dict[str, IoTHubRegistryManager] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPool("iot-hub", _CALLS_AT_ONCE)

    def _registry(self, hub: str) -> IoTHubRegistryManager:
        with self._lock:
            registry = self._registries.get(hub)
            if registry is None:
                host = self._service_urls.get(hub.lower(), f"https://{hub}").removeprefix("https://")
                registry = IoTHubRegistryManager.from_token_credential(host, self._credential)
                registry.protocol.config.hooks.append(telling("iot_hub"))
                self._registries[hub] = registry
            return registry

    async def get(self, hub: str, device_id: str) -> HubIdentity | None:
        """Read a device identity, ``None`` if it does not exist."""
        try:
            with translated(f"device {device_id!r} in {hub}"):
                device = await self._threads.run(lambda: self._registry(hub).get_device(device_id))
        except NotFound:
            return None
        return _identity(device)

    async def shut_out(self, hub: str, device_id: str, *, reason: str) -> HubIdentity | None:
        """Keep a device out and end its connection, whatever others write; ``None`` if the identity does not exist.

        It is written even if it is disabled already: whoever was about to let the device in has an outdated ETag then.
        """

        def change() -> Any:
            registry = self._registry(hub)
            device = registry.get_device(device_id)
            device.status, device.status_reason = "disabled", reason
            return registry.protocol.devices.create_or_update_identity(device_id, device, f'"{device.etag}"')

        for _ in range(_ATTEMPTS):
            try:
                with translated(f"device {device_id!r} in {hub}"):
                    return _identity(await self._threads.run(change))
            except NotFound:
                return None
            except PreconditionFailed:
                # By another writer, or by ourselves: the answer got lost, and the SDK tried again. The next look tells.
                continue
        raise Deferred(f"device {device_id!r} in {hub} is being changed by others", retry_after=timedelta(seconds=2))

    async def let_in(self, hub: str, seen: HubIdentity, *, reason: str) -> HubIdentity | None:
        """Let a device in, if its identity is as it was seen; ``None`` if it has changed or gone since."""

        def change() -> Any:
            registry = self._registry(hub)
            device = registry.get_device(seen.device_id)
            device.status, device.status_reason = "enabled", reason
            return registry.protocol.devices.create_or_update_identity(seen.device_id, device, f'"{seen.etag}"')

        try:
            with translated(f"device {seen.device_id!r} in {hub}"):
                return _identity(await self._threads.run(change))
        except (NotFound, PreconditionFailed):
            return None

    async def disable_many(self, hub: str, device_ids: Sequence[str], *, reason: str) -> int:
        """Keep devices out of a hub and end their connections: two calls for 100 of them.

        Each identity is changed as it was read; one that changes meanwhile stays as it is.

        Returns:
            How many were enabled, and are not any more.
        """
        disabled = 0
        for start in range(0, len(device_ids), BULK_LIMIT):
            batch = device_ids[start : start + BULK_LIMIT]
            with translated(f"{len(batch)} devices in {hub}"):
                disabled += await self._threads.run(_disable, self._registry(hub), batch, reason)
        return disabled

    async def delete(self, hub: str, device_id: str) -> None:
        """Delete a device identity, if it exists."""
        try:
            with translated(f"device {device_id!r} in {hub}"):
                await self._threads.run(lambda: self._registry(hub).delete_device(device_id, etag=ANY_VERSION))
        except NotFound:
            return

    async def merge_twin(
        self, hub: str, device_id: str, *, tags: Mapping[str, Any], desired: Mapping[str, Any]
    ) -> None:
        """Merge tags and desired properties into a device's twin."""
        twin = Twin(tags=dict(tags), properties=TwinProperties(desired=dict(desired)))
        with translated(f"twin of {device_id!r} in {hub}"):
            await self._threads.run(lambda: self._registry(hub).update_twin(device_id, twin, etag=ANY_VERSION))

    async def check(self, hub: str) -> None:
        """Raise unless the hub answers and lets this identity in."""
        await self.get(hub, "readiness-check")  # the hub's statistics would need a right of their own

    def close(self) -> None:
        """Take no further calls."""
        self._threads.close()


def _disable(registry: IoTHubRegistryManager, device_ids: Sequence[str], reason: str) -> int:
    listed = json.dumps(list(device_ids))  # the query language escapes as JSON does, and has no parameters
    condition = f"deviceId IN {listed} AND status = 'enabled'"
    query = QuerySpecification(query=f"SELECT * FROM devices WHERE {condition}")  # noqa: S608 - escaped above
    twins = registry.query_iot_hub(query, max_item_count=BULK_LIMIT).items
    if not twins:
        return 0
    outcome = registry.bulk_create_or_update_devices([_disabled(twin, reason) for twin in twins])
    return len(twins) - len(outcome.errors or [])


def _disabled(twin: Twin, reason: str) -> ExportImportDevice:
    """Give an identity back as it was read, but disabled: what a bulk change leaves out, it may clear."""
    return ExportImportDevice(
        id=twin.device_id,
        import_mode="updateIfMatchETag",
        e_tag=twin.device_etag,
        status="disabled",
        status_reason=reason,
        authentication=AuthenticationMechanism(type=twin.authentication_type, x509_thumbprint=twin.x509_thumbprint),
        capabilities=twin.capabilities,
        device_scope=twin.device_scope,
        parent_scopes=twin.parent_scopes,
    )


def _identity(device: Any) -> HubIdentity:
    held = device.authentication.x509_thumbprint if device.authentication else None
    found = (held.primary_thumbprint, held.secondary_thumbprint) if held else ()
    return HubIdentity(
        device_id=device.device_id,
        enabled=device.status == "enabled",
        thumbprints=frozenset(each.upper() for each in found if each),
        connected=device.connection_state == "Connected",
        etag=device.etag or "",
        reason=device.status_reason or None,
    )
