"""How far an order is, told to who asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contracts.events_orders import OrderProgressed
from shared.domain.orders import OrderState, progress_told, progressed
from shared.workflows.devices.order_answers import progress_of

if TYPE_CHECKING:
    from shared.domain.orders import LineCounts, OrderRecord
    from shared.ledger.orders import Orders
    from shared.ledger.table import Versioned
    from shared.workflows.intake.outbox import Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderProgressEvents:
    """Tells the progress of orders that want it told."""

    orders: Orders
    outbox: Outbox

    async def tell(self, known: Versioned[OrderRecord], counts: LineCounts) -> Versioned[OrderRecord]:
        """Tell an order's progress, if enough lines are done.

        It is written down first: whoever is killed in between, or counts at the same time, tells the same.
        """
        known = await self.orders.change(known, progressed(counts))
        told = known.record.progress
        if told is None or told.is_told:
            return known
        assert told.state is OrderState.PROCESSING or told.state is OrderState.WAITING  # noqa: S101
        order = known.record
        await self.outbox.publish(
            OrderProgressed(
                order_id=order.order_id,
                enrollment_group=order.enrollment_group,
                state=told.state,
                finished=told.finished,
                progress=progress_of(told.counts, order),
            ),
            subject=order.order_id,
            correlation_id=order.order_id,
            occasion=f"again {order.retries} {told.finished}" if order.retries else str(told.finished),
        )
        return await self.orders.change(known, progress_told(told))
