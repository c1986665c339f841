"""What readiness asks: the services that a trust zone uses, each by its name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from shared.contracts.messages import ALL_QUEUES, Queue
from shared.domain.checkpoints import is_log_key
from shared.errors import LedgerBehind
from shared.rules.zones import SIGNING, Zone
from shared.workflows.devices.bundles import BUNDLES
from shared.workflows.devices.order_blobs import ORDERS
from shared.workflows.devices.order_results import RESULTS
from shared.workflows.status.responders import WRAPPING_KEY as RESPONDER_KEY
from shared.workflows.status.revocation_lists import CRLS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from shared.clients import Clients
    from shared.settings import Settings
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.epochs import Epochs
    from shared.workflows.evidence.reading import LogReader
    from shared.workflows.intake.webhooks import Webhooks
    from shared.workflows.status.responders import KeptResponders, ResponderUpkeep
    from shared.workflows.status.revocation_lists import RevocationLists

_QUEUES: Mapping[Zone, Sequence[str]] = {
    Zone.ALL: ALL_QUEUES,
    Zone.INTAKE: (Queue.CERTIFICATE_REQUESTS, Queue.DEVICE_ORDERS, Queue.RENEWAL_REQUESTS),
    Zone.ISSUING: ALL_QUEUES,
    Zone.REVOCATION: (Queue.REVOCATION_REQUESTS, Queue.REVOCATION_REQUESTS.poison, Queue.PROVISIONING_EVENTS),
    Zone.STATUS: (),
}
_CONTAINERS: Mapping[Zone, Sequence[str]] = {
    Zone.ALL: (BUNDLES, CRLS),
    Zone.INTAKE: (),
    Zone.ISSUING: (BUNDLES, CRLS),
    Zone.REVOCATION: (CRLS,),
    Zone.STATUS: (CRLS,),
}


def checks(
    *,
    settings: Settings,
    clients: Clients,
    authorities: CertificateAuthorities,
    webhooks: Webhooks,
    responders: KeptResponders,
    upkeep: ResponderUpkeep,
    log: LogReader | None,
    epochs: Epochs,
    lists: RevocationLists,
) -> dict[str, Callable[[], Awaitable[None]]]:
    """Give what readiness asks: the services that the zone uses, and no others."""
    zone = settings.zone
    asked: dict[str, Callable[[], Awaitable[None]]] = {"tables": partial(clients.tables.check, "issuers")}
    asked |= _of_ledger(settings, clients, authorities, epochs, lists)
    asked |= _of_queues(settings, clients)
    if _CONTAINERS[zone]:
        asked["blobs"] = partial(clients.blobs.check, *_CONTAINERS[zone])
    if zone in {Zone.ALL, Zone.ISSUING}:
        asked["orderLists"] = partial(clients.order_lists.check, ORDERS, RESULTS)
        asked["passwordVault"] = clients.secrets.check
    if zone is Zone.INTAKE and settings.order_lists_url:
        asked["orderLists"] = partial(clients.order_lists.check, ORDERS)
    if zone in SIGNING:
        asked["keyVault"] = clients.keys.check
        asked["certificateAuthorities"] = authorities.check
        asked["provisioningService"] = clients.provisioning.check
        asked |= {f"caCertificates of {each.holder}": each.check for each in clients.ca_certificates}
        if zone is Zone.REVOCATION and clients.dps_authorities is not None:
            asked["linkedHubs"] = clients.dps_authorities.check_links
        asked |= {f"iotHub {host}": partial(clients.hubs.check, host) for host in settings.iot_hub_service_urls}
    if settings.webhook_secret_name and settings.zone is not Zone.INTAKE:
        asked["webhookSecret"] = webhooks.check
    if zone is Zone.ISSUING:
        asked["statusVault"] = upkeep.check
    if log is not None and zone is not Zone.STATUS:
        asked["log"] = log.check
    if zone is Zone.STATUS:
        asked["responders"] = partial(responders.check, authorities)
    return asked


def _of_queues(settings: Settings, clients: Clients) -> dict[str, Callable[[], Awaitable[None]]]:
    """Give what tells whether the queues of the zone are there: of those in an account of their own, one for each."""
    names = _QUEUES[settings.zone]
    if not names:
        return {}
    elsewhere = {
        queue: [name for name in names if name.removesuffix("-poison") == queue] for queue in settings.queue_accounts
    }
    apart = {name for several in elsewhere.values() for name in several}
    return {
        "queues": partial(clients.queues.check, *(name for name in names if name not in apart)),
        **{f"queue {queue}": partial(clients.queues.check, *several) for queue, several in elsewhere.items()},
    }


def _of_ledger(
    settings: Settings, clients: Clients, authorities: CertificateAuthorities, epochs: Epochs, lists: RevocationLists
) -> dict[str, Callable[[], Awaitable[None]]]:
    """Give what tells whether the ledger is the present one, as far as the zone can see it."""
    match settings.zone:
        case Zone.ALL | Zone.ISSUING:
            return {"ledger": partial(_check_ledger_and_lists, epochs, authorities, clients, settings, lists)}
        case _:
            return {"ledger": epochs.check_now}


async def _check_ledger_and_lists(
    epochs: Epochs,
    authorities: CertificateAuthorities,
    clients: Clients,
    settings: Settings,
    lists: RevocationLists,
) -> None:
    await check_ledger(epochs, authorities, clients, settings.evidence_key)
    ahead = await lists.ahead()
    if ahead is not None:
        raise LedgerBehind(
            f"the ledger is older than it was: {ahead}; run python -m shared.restoration (docs/recover.md)"
        )


def is_of_ca(name: str, epochs: Epochs, log_key: str) -> bool:
    """Tell whether one of the deployment's keys in the vault is a CA's, by its name."""
    return name.lower() not in {epochs.mark.lower(), RESPONDER_KEY} and not is_log_key(name, log_key)


async def check_ledger(epochs: Epochs, authorities: CertificateAuthorities, clients: Clients, log_key: str) -> None:
    """See that the ledger is the present one, and not empty beside a vault that has keys of its CAs.

    Raises:
        LedgerBehind: it is not.
    """
    await epochs.check_now()
    if [record async for record in authorities.list()]:
        return
    names = [name for name in await clients.keys.own_names() if is_of_ca(name, epochs, log_key)]
    if not names:
        return
    groups = [group async for group in clients.provisioning.list_groups()]
    raise LedgerBehind(
        f"the ledger is empty, and the vault has {len(names)} keys of CAs of this deployment ({', '.join(names[:3])}), "
        f"and DPS has {len(groups)} enrollment groups: put the ledger back (docs/recover.md)"
    )
