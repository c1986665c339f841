"""Requests of operators about orders: cancel, close, try again. Each is done when the order is there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.contracts.messages import Queue
from shared.contracts.orders import OrderAct, OrderAction
from shared.domain.order_acts import cancelled_by, closed_by, retried_by
from shared.domain.orders import COMPLETED, UNDER_WAY
from shared.domain.words import IssuedDevices
from shared.errors import Conflict, Deferred
from shared.workflows.devices.unknown import unknown_order
from shared.workflows.intake.deliveries import once

if TYPE_CHECKING:
    from datetime import datetime

    from shared.domain.order_acts import OrderChange
    from shared.domain.orders import OrderRecord
    from shared.ledger.orders import Orders
    from shared.ledger.requests import Requests
    from shared.ledger.table import Versioned
    from shared.workflows.devices.orders import DeviceOrders
    from shared.workflows.intake.outbox import Clock

_LOOK_AGAIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequests:
    """Carries out what operators ask of orders."""

    requests: Requests
    orders: Orders
    device_orders: DeviceOrders
    clock: Clock

    async def check(self, act: OrderAct) -> None:
        """Refuse what can be seen not to succeed.

        Raises:
            NotFound: the order does not exist.
            Conflict: its state does not allow it, or the request's id is an order's.
            Deferred: failed lines are being sent at this moment.
        """
        await self._check_id(act)
        self._change(act)((await self._order(act)).record)

    async def _check_id(self, act: OrderAct) -> None:
        if await self.orders.get(act.request_id) is not None:
            raise Conflict.because(
                f"{act.request_id!r} is the id of an order; a request about an order needs an id of its own",
                field="requestId",
            )

    async def carry_out(self, act: OrderAct, *, asked_at: datetime) -> None:
        """Enter in the order what is wanted, and have its lines follow.

        Raises:
            NotFound, Conflict: as :meth:`check`.
            Deferred: lines are still at work.
        """
        async with once(self.requests, Queue.DEVICE_ORDERS, act, self.clock, asked_at=asked_at) as request:
            if request is not None:
                await self._check_id(act)
                await self._bring(act)

    async def _bring(self, act: OrderAct) -> None:
        known = await self._order(act)
        if act.action is OrderAction.CLOSE and known.record.state in COMPLETED:
            return
        changed = await self.orders.change(known, self._change(act))
        is_followed = changed.etag == known.etag and self.device_orders.is_watched(changed.record)
        if not is_followed or changed.record.retrying:
            await self.device_orders.see_to_ending(changed)
        order = (await self._order(act)).record
        is_left = order.retrying if act.action is OrderAction.RETRY else order.state in UNDER_WAY
        if is_left:
            raise Deferred(f"devices of order {order.order_id!r} are still at work", retry_after=_LOOK_AGAIN)

    async def _order(self, act: OrderAct) -> Versioned[OrderRecord]:
        known = await self.orders.get(act.order_id)
        if known is None:
            raise unknown_order(act.order_id)
        return known

    def _change(self, act: OrderAct) -> OrderChange:
        match act.action:
            case OrderAction.CANCEL:
                return cancelled_by(act.request_id, act.issued or IssuedDevices.KEEP)
            case OrderAction.CLOSE:
                return closed_by(act.request_id)
            case OrderAction.RETRY:
                return retried_by(act.request_id, self.clock())
