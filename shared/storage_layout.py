"""Queues, tables and containers of the app, and the set-up that creates them.

Run ``python -m shared.storage_layout`` once, with the app's settings and an identity that may create them in each
storage account (Storage Queue, Table and Blob Data Contributor). The app itself then needs no right to create anything,
and no message that turns poison finds its queue missing.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from shared.adapters.blobs import Blobs
from shared.adapters.identity import Identity
from shared.adapters.queue_accounts import QueueAccounts
from shared.adapters.queues import Queues
from shared.adapters.tables import Tables
from shared.commands import run
from shared.contracts.messages import ALL_QUEUES
from shared.workflows.devices.bundles import BUNDLES
from shared.workflows.devices.order_blobs import ORDERS
from shared.workflows.devices.order_results import RESULTS
from shared.workflows.evidence.storage import LOG, LOG_HEAD
from shared.workflows.status.revocation_lists import CRLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.settings import Settings

TABLES: Sequence[str] = (
    "actrequests",
    "actstolog",
    "approvals",
    "audit",
    "checkpoints",
    "directory",
    "expiry",
    "findings",
    "groups",
    "identities",
    "inforce",
    "inhand",
    "issuers",
    "orderlines",
    "orders",
    "publickeys",
    "rejections",
    "requests",
    "responders",
    "revocations",
    "unsettled",
)
CONTAINERS: Sequence[str] = (BUNDLES, CRLS, LOG, LOG_HEAD, ORDERS, RESULTS)


async def create(settings: Settings) -> None:
    """Create what does not exist yet; what exists stays as it is."""
    identity = Identity.managed(settings.managed_identity_client_id)
    of_queues = {queue: Identity.managed(each.client_id) for queue, each in settings.queue_accounts.items()}
    queues = QueueAccounts(
        shared=Queues(settings.queue_service_url, identity.asynchronous),
        own={queue: Queues(each.url, of_queues[queue].asynchronous) for queue, each in settings.queue_accounts.items()},
    )
    tables = Tables(settings.table_service_url, identity.asynchronous)
    blobs = Blobs(settings.blob_service_url, identity.asynchronous)
    try:
        async with asyncio.TaskGroup() as group:
            for name in ALL_QUEUES:
                group.create_task(queues.create(name))
            for name in TABLES:
                group.create_task(tables.create(name))
            for name in CONTAINERS:
                group.create_task(blobs.create_container(name))
    finally:
        identities = (identity, *of_queues.values())
        await asyncio.gather(queues.close(), tables.close(), blobs.close(), *(each.close() for each in identities))


def main() -> int:
    """Create everything in the accounts that the environment names."""
    return run(_created)


async def _created(settings: Settings) -> int:
    await create(settings)
    sys.stdout.write(f"{len(ALL_QUEUES)} queues, {len(TABLES)} tables and {len(CONTAINERS)} containers are there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
