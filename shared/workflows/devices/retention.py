"""What is kept for a while after its end, and then deleted: requests, rejections, and the app's own lists of orders.

What is open is never deleted. Each sweep deletes a bounded number, and the next one goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.workflows.devices.order_blobs import ORDERS

if TYPE_CHECKING:
    from shared.ledger.orders import Orders
    from shared.ledger.rejections import Rejections
    from shared.ledger.requests import Requests
    from shared.ports.blobs import Blobs
    from shared.settings import Settings
    from shared.workflows.intake.outbox import Clock

AT_ONCE = 1000
"""Rows of each kind that a sweep deletes at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Deletes what has ended and was kept for as long as the settings say."""

    requests: Requests
    rejections: Rejections
    orders: Orders
    lists: Blobs
    settings: Settings
    clock: Clock

    async def sweep(self) -> dict[str, int]:
        """Delete what is due, and tell how much that was."""
        return {
            "requests": await self._forget_requests(),
            "rejections": await self._forget_rejections(),
            "lists": await self._forget_lists(),
        }

    async def _forget_requests(self) -> int:
        before, removed = self.clock() - self.settings.retain_requests, 0
        async for entry in self.requests.ended(before):
            removed += await self.requests.forget(entry, before, limit=AT_ONCE - removed)
            if removed >= AT_ONCE:
                break
        return removed

    async def _forget_rejections(self) -> int:
        removed = 0
        async for record in self.rejections.ended(self.clock() - self.settings.retain_rejections):
            await self.rejections.forget(record)
            removed += 1
            if removed >= AT_ONCE:
                break
        return removed

    async def _forget_lists(self) -> int:
        removed = 0
        async for entry in self.orders.with_lists(self.clock() - self.settings.retain_order_lists):
            if entry.list_name is not None:
                await self.lists.delete(ORDERS, entry.list_name)
                await self.orders.forget_list(entry)
            removed += 1
            if removed >= AT_ONCE:
                break
        return removed
