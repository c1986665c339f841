"""The clients of all services, each opened once; in a trust zone, those that the zone has rights for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from shared.adapters.blobs import Blobs
from shared.adapters.dps_device import DeviceRegistrar
from shared.adapters.dps_management import ProvisioningServiceAuthorities
from shared.adapters.dps_service import ProvisioningService
from shared.adapters.event_topic import EventTopic
from shared.adapters.identity import Identity
from shared.adapters.iot_hub import IotHubRegistries
from shared.adapters.iot_hub_management import IotHubAuthorities
from shared.adapters.queue_accounts import QueueAccounts
from shared.adapters.queues import Queues
from shared.adapters.tables import Tables
from shared.adapters.vault import Ownership, VaultKeys
from shared.adapters.vault_secrets import VaultSecrets
from shared.errors import Misconfigured
from shared.rules.zones import Zone

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.ports.ca_certificates import CaCertificates
    from shared.settings import Settings


class _Absent:
    """Stands where a zone has no client: whatever is asked of it is refused by name."""

    def __init__(self, what: str, zone: str) -> None:
        self._refusal = (
            f"the trust zone {zone!r} does not reach {what}; infra/zones.json says which zone this call belongs to"
        )

    def __getattr__(self, name: str) -> Any:
        raise Misconfigured(self._refusal)


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of all services. Which of them a zone has, follows from the addresses that it is told.

    Attributes:
        order_lists: the blobs in which others list devices.
        responder_keys: the vault with the key that wraps those of OCSP responders.
        event_topic: where events go; ``None`` if they go into a queue.
        proves_possession: whether the app uploads CAs, and proves that it has their keys; one zone only reads the DPS.
        queue_identities: those that storage accounts of single queues are reached with.
    """

    identity: Identity
    queues: QueueAccounts
    tables: Tables
    blobs: Blobs
    order_lists: Blobs
    keys: VaultKeys
    secrets: VaultSecrets
    responder_keys: VaultKeys
    provisioning: ProvisioningService
    dps_authorities: ProvisioningServiceAuthorities | None
    hub_authorities: tuple[IotHubAuthorities, ...]
    registrar: DeviceRegistrar
    hubs: IotHubRegistries
    event_topic: EventTopic | None = None
    proves_possession: bool = True
    queue_identities: tuple[Identity, ...] = ()

    @classmethod
    def open(cls, settings: Settings) -> Clients:
        """Open all clients; none connects before its first call."""
        identity = Identity.managed(settings.managed_identity_client_id)
        queue_identities = {
            client_id: Identity.managed(client_id)
            for client_id in {each.client_id for each in settings.queue_accounts.values()}
        }
        verify = settings.key_vault_verify_challenge
        ownership = Ownership(settings.deployment_name, settings.adopted_vault_names)

        def at[T](url: str, what: str, opened: Callable[[str], T]) -> T:
            return opened(url) if url else cast("T", _Absent(what, settings.zone.value))

        def blobs(url: str) -> Blobs:
            return Blobs(url, identity.asynchronous)

        def queues(url: str) -> QueueAccounts:
            own = {
                queue: Queues(each.url, queue_identities[each.client_id].asynchronous, name=f"the queue {queue}")
                for queue, each in settings.queue_accounts.items()
            }
            return QueueAccounts(shared=Queues(url, identity.asynchronous), own=own)

        def keys(url: str) -> VaultKeys:
            in_hsm = settings.ca_keys_in_hsm
            return VaultKeys(url, identity.synchronous, ownership, verify_challenge=verify, in_hsm=in_hsm)

        return cls(
            identity=identity,
            queues=at(settings.queue_service_url, "queues", queues),
            tables=Tables(settings.table_service_url, identity.asynchronous),
            blobs=at(settings.blob_service_url, "blobs", blobs),
            order_lists=at(settings.order_lists_url, "lists of devices", blobs),
            keys=at(settings.key_vault_url, "the keys of CAs", keys),
            secrets=at(
                settings.password_vault_url,
                "bundle passwords",
                lambda url: VaultSecrets(url, identity.asynchronous, ownership, verify_challenge=verify),
            ),
            responder_keys=at(settings.status_vault_url, "the keys of OCSP responders", keys),
            provisioning=at(
                settings.dps_service_url, "DPS", lambda url: ProvisioningService(url, identity.asynchronous)
            ),
            dps_authorities=ProvisioningServiceAuthorities(
                settings.dps_resource, identity.asynchronous, settings.resource_manager_url
            )
            if settings.dps_resource
            else None,
            hub_authorities=tuple(
                IotHubAuthorities(resource, identity.asynchronous, settings.resource_manager_url)
                for resource in settings.hub_resources
            ),
            registrar=at(
                settings.dps_id_scope,
                "the registration of devices",
                lambda scope: DeviceRegistrar(settings.dps_device_host, scope, timeout=settings.registration_timeout),
            ),
            hubs=at(
                settings.dps_service_url,
                "IoT hubs",
                lambda _: IotHubRegistries(settings.iot_hub_service_urls, identity.synchronous),
            ),
            event_topic=EventTopic(settings.event_topic_url, identity.asynchronous)
            if settings.event_topic_url
            else None,
            proves_possession=settings.zone is not Zone.REVOCATION,
            queue_identities=tuple(queue_identities.values()),
        )

    @property
    def ca_certificates(self) -> tuple[CaCertificates, ...]:
        """Where possession of a root is proved by the app; nowhere when that is done by hand."""
        if self.dps_authorities is None or not self.proves_possession:
            return ()
        return (self.dps_authorities, *self.hub_authorities)

    async def close(self) -> None:
        """Close all connections."""
        asynchronous = (
            self.queues,
            self.tables,
            self.blobs,
            self.order_lists,
            self.keys,
            self.secrets,
            self.responder_keys,
            self.provisioning,
            self.dps_authorities,
            *self.hub_authorities,
            self.event_topic,
        )
        await asyncio.gather(*(each.close() for each in asynchronous if _is_open(each)))  # type: ignore[union-attr]
        if _is_open(self.hubs):
            self.hubs.close()
        await asyncio.gather(*(each.close() for each in (self.identity, *self.queue_identities)))


def _is_open(client: object) -> bool:
    return client is not None and not isinstance(client, _Absent)
