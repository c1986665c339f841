"""Storage alone: the operations of the main job, sent straight to Azurite.

``python -m benchmarks.bare_storage DEVICES '{"GET table": 400, ...}'`` prints the seconds it took. A program of its
own, because trust in the local CA comes from the environment, at start.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from typing import TYPE_CHECKING

from shared.adapters.blobs import Blobs
from shared.adapters.identity import Identity
from shared.adapters.queues import Queues
from shared.adapters.tables import Tables
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

CLIENTS = 24
"""As many as the functions host works on at once: batchSize + newBatchThreshold."""


async def bare_storage(settings: Settings, mix: Mapping[str, int], devices: int) -> float:
    """Send the operations of all devices, spread evenly over them, and give the seconds it took.

    Args:
        settings: name the storage account.
        mix: how many operations there are of each kind.
        devices: how many devices.
    """
    identity = Identity.managed(None)
    queues = Queues(settings.queue_service_url, identity.asynchronous)
    tables = Tables(settings.table_service_url, identity.asynchronous)
    blobs = Blobs(settings.blob_service_url, identity.asynchronous)
    await asyncio.gather(queues.create("bare"), tables.create("bare"), blobs.create_container("bare"))
    table = tables.table("bare")
    value = "x" * 1000

    async def table_read() -> object:
        return await table.get("none", "none")

    async def table_write() -> object:
        name = uuid.uuid4().hex
        return await table.insert({"PartitionKey": name[:2], "RowKey": name, "value": value})

    async def transaction() -> object:
        name = uuid.uuid4().hex
        rows = [{"PartitionKey": name[:2], "RowKey": f"{name}-{each}", "value": value} for each in range(2)]
        return await table.insert_together(rows)

    async def queue_write() -> None:
        await queues.send("bare", value)

    async def blob_write() -> object:
        name = uuid.uuid4().hex
        return await blobs.create("bare", name, b"x" * 6000, content_type="application/json", metadata={})

    kinds: dict[str, Callable[[], Awaitable[object]]] = {
        "GET table": table_read,
        "POST table": table_write,
        "PUT table": table_write,
        "POST transaction": transaction,
        "POST queue": queue_write,
        "DELETE queue": queue_write,
        "GET queue": queue_write,
        "PUT blob": blob_write,
    }

    def calls_of(device: int) -> list[Callable[[], Awaitable[object]]]:
        """Give the calls of one device; where a kind has fewer than one for each, those of some devices."""
        number = {
            kind: mix.get(kind, 0) * (device + 1) // devices - mix.get(kind, 0) * device // devices for kind in kinds
        }
        return [call for kind, call in kinds.items() for _ in range(number[kind])]

    gate = asyncio.Semaphore(CLIENTS)

    async def one_device(calls: list[Callable[[], Awaitable[object]]]) -> None:
        async with gate:
            for call in calls:
                await call()

    began = time.perf_counter()
    await asyncio.gather(*(one_device(calls_of(device)) for device in range(devices)))
    seconds = time.perf_counter() - began
    await asyncio.gather(queues.close(), tables.close(), blobs.close(), identity.close())
    return seconds


if __name__ == "__main__":
    took = bare_storage(Settings.from_environment(os.environ), json.loads(sys.argv[2]), int(sys.argv[1]))
    sys.stdout.write(f"{asyncio.run(took)}\n")
