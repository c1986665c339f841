"""The IoT Hub registry: device identities and twins (api-version 2021-04-12).

Microsoft's azure-iot-hub is synchronous, so every call runs in a thread of its hub. A hub that hangs holds its own
threads and nothing else. What shuts devices out has threads of its own: it never waits for what lets them in.
"""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import (
    AuthenticationMechanism,
    Device,
    ExportImportDevice,
    QuerySpecification,
    Twin,
    TwinProperties,
    X509Thumbprint,
)

from shared.adapters.breakers import Breaker
from shared.adapters.observed import telling
from shared.adapters.sdk_errors import translated
from shared.domain.hub_authentication import NONE, SELF_SIGNED
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed
from shared.ports.hubs import HubIdentity
from shared.rules.etags import ANY_VERSION
from shared.rules.hub_queries import DEVICES, queried
from shared.threads import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from azure.core.credentials import TokenCredential

BULK_LIMIT = 100
"""Identities that one call may change (Microsoft: "IoT Hub quotas and throttling")."""

_CALLS_AT_ONCE, _URGENT_CALLS_AT_ONCE = 16, 8
_ATTEMPTS = 3
_CONNECT_SECONDS, _READ_SECONDS = 5, 10


class _Hub:
    """One hub: its registry, the threads that call it, and the breaker that watches them.

    Args:
        name: its host name.
        address: the host, and port, where it is reached.
        credential: the app's identity.
    """

    def __init__(self, name: str, address: str, credential: TokenCredential) -> None:
        registry = IoTHubRegistryManager.from_token_credential(address, credential)
        config = registry.protocol.config
        config.hooks.append(telling("iot_hub"))
        # msrest waits 100 s, and asks three times more. Once more is enough for a connection that the hub has closed.
        config.connection.timeout = (_CONNECT_SECONDS, _READ_SECONDS)
        config.retry_policy.policy.read = 1
        self.registry, self._breaker = registry, Breaker(f"the IoT hub {name}", "iot_hub")
        self._threads = ThreadPool(f"hub-{name}", _CALLS_AT_ONCE)
        self._urgent_threads = ThreadPool(f"hub-{name}-urgent", _URGENT_CALLS_AT_ONCE)

    async def call[T](self, call: Callable[[IoTHubRegistryManager], T], *, urgent: bool = False) -> T:
        """Make a call in a thread; an urgent one does not wait for others."""

        def watched() -> T:
            with self._breaker.watching():
                return call(self.registry)

        return await (self._urgent_threads if urgent else self._threads).run(watched)

    def close(self) -> None:
        """Take no further calls."""
        self._threads.close()
        self._urgent_threads.close()


class IotHubRegistries:
    """The registries of all hubs that DPS assigns devices to, each found by the host name DPS answers.

    Args:
        service_urls: service URL by host name, for hubs not reached under ``https://<host name>``.
        credential: the app's identity.
    """

    def __init__(self, service_urls: Mapping[str, str], credential: TokenCredential) -> None:
        self._service_urls = service_urls
        self._credential = credential
        self._hubs: dict[str, _Hub] = {}

    def _hub(self, name: str) -> _Hub:
        hub = self._hubs.get(name.lower())
        if hub is None:
            address = self._service_urls.get(name.lower(), f"https://{name}").removeprefix("https://")
            hub = self._hubs[name.lower()] = _Hub(name, address, self._credential)
        return hub

    async def get(self, hub: str, device_id: str) -> HubIdentity | None:
        """Read a device identity, ``None`` if it does not exist."""
        try:
            with translated(f"device {device_id!r} in {hub}"):
                device = await self._hub(hub).call(lambda registry: registry.get_device(device_id))
        except NotFound:
            return None
        return _identity(device)

    async def find(self, hub: str, device_ids: Sequence[str]) -> dict[str, HubIdentity]:
        """Read many identities of a hub: those that exist, by their ids. One query for each 8,000 characters."""
        found = dict[str, HubIdentity]()
        for batch in queried(device_ids):
            with translated(f"{len(batch)} devices in {hub}"):
                twins = await self._hub(hub).call(partial(_twins, device_ids=batch))
            found |= {twin.device_id: _identity_of(twin) for twin in twins}
        return found

    async def page(self, hub: str, *, size: int, continuation: str | None) -> tuple[list[HubIdentity], str | None]:
        """List one page of all device identities of a hub, and the continuation of the next page."""
        query = QuerySpecification(query="SELECT * FROM devices")
        with translated(f"the devices in {hub}"):
            page = await self._hub(hub).call(
                lambda registry: registry.query_iot_hub(query, continuation_token=continuation, max_item_count=size)
            )
        return [_identity_of(each) for each in page.items], page.continuation_token or None

    async def create(self, hub: str, device_id: str, thumbprints: Sequence[str], *, reason: str) -> HubIdentity | None:
        """Make an identity for one or two certificates (SHA-256) that lets nobody in yet; ``None`` if there is one."""
        primary, secondary = thumbprints[0], thumbprints[-1]  # as DPS enters one certificate: twice
        device = Device(
            device_id=device_id,
            status="disabled",
            status_reason=reason,
            authentication=AuthenticationMechanism(
                type=SELF_SIGNED,
                x509_thumbprint=X509Thumbprint(primary_thumbprint=primary, secondary_thumbprint=secondary),
            ),
        )
        try:
            with translated(f"device {device_id!r} in {hub}"):
                made = await self._hub(hub).call(
                    lambda registry: registry.protocol.devices.create_or_update_identity(device_id, device)
                )
        except (Conflict, PreconditionFailed):
            return None
        return _identity(made)

    async def set_thumbprints(
        self, hub: str, seen: HubIdentity, thumbprints: Sequence[str], *, reason: str
    ) -> HubIdentity | None:
        """Have an identity take these certificates alone, if it is as it was seen; ``None`` if it is not.

        The authentication is replaced as a whole, as by the SDK's ``update_device_with_x509``: no symmetric key stays.
        """
        held = X509Thumbprint(primary_thumbprint=thumbprints[0], secondary_thumbprint=thumbprints[-1])

        def edit(device: Any) -> None:
            device.authentication = AuthenticationMechanism(type=SELF_SIGNED, x509_thumbprint=held)
            device.status_reason = reason

        return await self._change_as_seen(hub, seen, edit)

    async def shut_out(self, hub: str, device_id: str, *, reason: str) -> HubIdentity | None:
        """Keep a device out and end its connection, whatever others write; ``None`` if the identity does not exist.

        It is written even if it is disabled already: whoever was about to let the device in has an outdated ETag then.
        """

        def change(registry: IoTHubRegistryManager) -> Any:
            device = registry.get_device(device_id)
            device.status, device.status_reason = "disabled", reason
            return registry.protocol.devices.create_or_update_identity(device_id, device, f'"{device.etag}"')

        for _ in range(_ATTEMPTS):
            try:
                with translated(f"device {device_id!r} in {hub}"):
                    return _identity(await self._hub(hub).call(change, urgent=True))
            except NotFound:
                return None
            except PreconditionFailed:
                # By another writer, or by ourselves: the answer got lost, and the SDK tried again. The next look tells.
                continue
        raise Deferred(f"device {device_id!r} in {hub} is being changed by others", retry_after=timedelta(seconds=2))

    async def let_in(self, hub: str, seen: HubIdentity, *, reason: str) -> HubIdentity | None:
        """Let a device in, if its identity is as it was seen; ``None`` if it has changed or gone since."""

        def edit(device: Any) -> None:
            device.status, device.status_reason = "enabled", reason

        return await self._change_as_seen(hub, seen, edit)

    async def disable(self, hub: str, seen: HubIdentity, *, reason: str) -> HubIdentity | None:
        """Keep a device out, if its identity is as it was seen; ``None`` if it has changed or gone since."""

        def edit(device: Any) -> None:
            device.status, device.status_reason = "disabled", reason

        return await self._change_as_seen(hub, seen, edit)

    async def _change_as_seen(self, hub: str, seen: HubIdentity, edit: Callable[[Any], None]) -> HubIdentity | None:
        """Write an identity under the ETag it was seen with; ``None`` if it has changed or gone since."""

        def change(registry: IoTHubRegistryManager) -> Any:
            device = registry.get_device(seen.device_id)
            edit(device)
            return registry.protocol.devices.create_or_update_identity(seen.device_id, device, f'"{seen.etag}"')

        try:
            with translated(f"device {seen.device_id!r} in {hub}"):
                return _identity(await self._hub(hub).call(change))
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
                disabled += await self._hub(hub).call(partial(_disable, device_ids=batch, reason=reason), urgent=True)
        return disabled

    async def delete_unchanged(self, hub: str, seen: HubIdentity) -> bool:
        """Delete an identity, if it is as it was seen; ``False`` if it has changed since, ``True`` if it is gone."""
        try:
            with translated(f"device {seen.device_id!r} in {hub}"):
                await self._hub(hub).call(
                    lambda registry: registry.delete_device(seen.device_id, etag=seen.etag), urgent=True
                )
        except NotFound:
            return True
        except PreconditionFailed:
            return False
        return True

    async def merge_twin(
        self, hub: str, device_id: str, *, tags: Mapping[str, Any], desired: Mapping[str, Any]
    ) -> None:
        """Merge tags and desired properties into a device's twin."""
        twin = Twin(tags=dict(tags), properties=TwinProperties(desired=dict(desired)))
        with translated(f"twin of {device_id!r} in {hub}"):
            # A patch: what it does not name stays, whatever version that is.
            await self._hub(hub).call(lambda registry: registry.update_twin(device_id, twin, etag=ANY_VERSION))

    async def check(self, hub: str) -> None:
        """Raise unless the hub answers and lets this identity in."""
        await self.get(hub, "readiness-check")  # the hub's statistics would need a right of their own

    def close(self) -> None:
        """Take no further calls."""
        for hub in self._hubs.values():
            hub.close()


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


def _twins(registry: IoTHubRegistryManager, device_ids: Sequence[str]) -> list[Twin]:
    listed = json.dumps(list(device_ids))  # the query language escapes as JSON does, and has no parameters
    query = QuerySpecification(query=f"SELECT * FROM devices WHERE deviceId IN {listed}")  # noqa: S608 - escaped above
    found, continuation = list[Twin](), None
    while True:
        page = registry.query_iot_hub(query, continuation_token=continuation, max_item_count=DEVICES)
        found += page.items
        continuation = page.continuation_token
        if not continuation:
            return found


def _identity_of(twin: Twin) -> HubIdentity:
    authentication = twin.authentication_type or NONE
    return HubIdentity(
        device_id=twin.device_id,
        enabled=twin.status == "enabled",
        authentication=authentication,
        thumbprints=_thumbprints(authentication, twin.x509_thumbprint),
        connected=twin.connection_state == "Connected",
        etag=twin.device_etag or "",
        reason=twin.status_reason or None,
    )


def _thumbprints(authentication: str, held: Any) -> frozenset[str]:
    """Give those that count: only an identity of one type authenticates by them."""
    found = (held.primary_thumbprint, held.secondary_thumbprint) if held and authentication == SELF_SIGNED else ()
    return frozenset(each.upper() for each in found if each)


def _identity(device: Any) -> HubIdentity:
    held = device.authentication
    authentication = (held.type if held else None) or NONE
    return HubIdentity(
        device_id=device.device_id,
        enabled=device.status == "enabled",
        authentication=authentication,
        thumbprints=_thumbprints(authentication, held.x509_thumbprint if held else None),
        connected=device.connection_state == "Connected",
        etag=device.etag or "",
        reason=device.status_reason or None,
    )
