"""The list of an order that names a blob: read as it was when the order was accepted, part by part, in threads."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.errors import Deferred, NotFound, Rejected
from shared.reading.blob_names import blob_name
from shared.workflows.devices.order_lists import FIELD, read_list

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from shared.domain.orders import OrderRecord
    from shared.ports.blobs import BlobDescription, Blobs
    from shared.settings import Settings
    from shared.threads import ThreadPool
    from shared.workflows.devices.order_lists import Listed

ORDERS = "orders"
"""Container of device lists that are too long for a message."""

_LIST_BYTES = 1024 * 1024 * 1024
_PART = 1024 * 1024
_PART_TIME = 120.0
_LARGE = 1024 * 1024
_STEP = 5000
_BUSY = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderBlobs:
    """Reads the lists of orders."""

    blobs: Blobs
    settings: Settings
    threads: ThreadPool
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a large list is checked: one at a time."""

    async def check(self, url: str) -> None:
        """Refuse a list that can be seen not to be there.

        Raises:
            NotFound: the blob does not exist.
            Rejected: it is too large, or the URL is not of the app's own container.
        """
        await self._described(url)

    async def _described(self, url: str) -> tuple[str, BlobDescription]:
        name = blob_name(url, f"{self.settings.order_lists_url}/{ORDERS}")
        found = await self.blobs.describe(ORDERS, name)
        if found is None:
            raise NotFound.because(f"the blob {url!r} does not exist", field=FIELD)
        if found.size > _LIST_BYTES:
            raise Rejected.because(f"{name!r} has {found.size} bytes; at most {_LIST_BYTES} are read", field=FIELD)
        return name, found

    async def noted(self, record: OrderRecord, url: str) -> OrderRecord:
        """Note an order's list as it is now, and read it through: what can't be read is refused before the deed."""
        name, found = await self._described(url)
        record = record.changed(list_name=name, list_etag=found.etag, list_size=found.size)
        async with turn(self.checking, record):
            devices, count = self.listed(record), 0
            while passed := await self.threads.run(_passed, devices):
                count += passed
        return record.changed(device_count=count)

    def listed(self, order: OrderRecord) -> Iterator[Listed]:
        """Read an order's list as it was accepted; it blocks, and belongs into a thread."""
        loop = asyncio.get_running_loop()
        name, etag = order.list_name or "", order.list_etag or ""

        def parts() -> Iterator[bytes]:
            for start in range(0, order.list_size, _PART):
                length = min(_PART, order.list_size - start)
                reading = self.blobs.part(ORDERS, name, etag=etag, start=start, length=length)
                waiting = asyncio.run_coroutine_threadsafe(reading, loop)
                try:
                    part = waiting.result(_PART_TIME)
                except TimeoutError:
                    waiting.cancel()
                    raise Deferred(f"{name!r} can't be read at the moment", retry_after=_BUSY) from None
                if part is None:
                    raise Rejected.because(
                        f"{name!r} was changed or deleted since the order came; order what is missing again, with a "
                        "list that stays as it is",
                        field=FIELD,
                    )
                yield part

        return read_list(parts(), name)


@asynccontextmanager
async def turn(lock: asyncio.Lock, order: OrderRecord) -> AsyncIterator[None]:
    """Let one large list be read at a time.

    Raises:
        Deferred: another one is being read.
    """
    if order.list_size <= _LARGE:
        yield
        return
    if lock.locked():
        raise Deferred(f"order {order.order_id!r} waits: another large list is being read", retry_after=_BUSY)
    async with lock:
        yield


def _passed(devices: Iterator[Listed]) -> int:
    """Go past some devices of a list; give how many, none at the end."""
    return sum(1 for _, _ in zip(range(_STEP), devices, strict=False))
