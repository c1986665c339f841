"""The queues of all storage accounts. A queue that others put messages into may have an account of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime, timedelta

    from shared.adapters.queues import Queues
    from shared.ports.queues import TakenMessage


class QueueAccounts:
    """Queues by name, each in its storage account. A poison queue is where its queue is.

    Args:
        shared: the account of all queues that have none of their own.
        own: the accounts of the others, by the name of the queue.
    """

    def __init__(self, *, shared: Queues, own: Mapping[str, Queues]) -> None:
        self._shared, self.own = shared, own

    def at(self, queue: str) -> Queues:
        """Give the account that a queue is in. The Functions host looks for ``<queue>-poison`` in the same one."""
        return self.own.get(queue.removesuffix("-poison"), self._shared)

    async def send(self, queue: str, text: str, *, delay: timedelta | None = None) -> None:
        """Put a message that never expires, visible after ``delay``."""
        await self.at(queue).send(queue, text, delay=delay)

    async def take(self, queue: str, *, lease: timedelta) -> AsyncIterator[TakenMessage]:
        """Take what is visible in a queue, message by message; what is not deleted comes back after the lease."""
        async for message in self.at(queue).take(queue, lease=lease):
            yield message

    async def waiting_since(self, queue: str) -> datetime | None:
        """Tell when the message was put there that is at the front of what is visible; ``None`` if nothing is."""
        return await self.at(queue).waiting_since(queue)

    async def delete(self, queue: str, message_id: str, receipt: str) -> None:
        """Delete a message that was taken, unless it is gone."""
        await self.at(queue).delete(queue, message_id, receipt)

    async def create(self, name: str) -> None:
        """Create a queue unless it exists."""
        await self.at(name).create(name)

    async def check(self, *names: str) -> None:
        """Raise unless the services answer, have these queues, and let the identities see them."""
        await asyncio.gather(*(self.at(name).check(name) for name in names))

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(each.close() for each in (self._shared, *self.own.values())))
