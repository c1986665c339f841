"""What operators ask of orders that are under way, brought to the orders' lines: cancelled, closed, tried again.

The order's record says what is wanted. Whoever sees to the order brings its lines there, as often as it takes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.acting import acting
from shared.contracts.devices import RevocationRequest
from shared.contracts.messages import Queue
from shared.domain import issuance
from shared.domain.devices import IN_ITS_HUB, OUT_OF_SERVICE
from shared.domain.held_certificates import Purpose
from shared.domain.order_acts import given_up, left_lying, line_cancelled, line_closed, retry_sent, revoked_until
from shared.domain.order_acts import tried_again as line_tried_again
from shared.domain.orders import Ending, LineState
from shared.domain.requests import RequestRecord
from shared.domain.words import IssuedDevices, RevocationReason
from shared.errors import Rejected
from shared.ledger.orders import PARTITION_LINES
from shared.workflows.devices.batches import in_batches
from shared.workflows.devices.changes import change
from shared.workflows.devices.order_dispatch import messages
from shared.workflows.devices.ordered_devices import ordered_device
from shared.workflows.intake.requests import led_to_by, submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.domain.callers import Actor
    from shared.domain.order_acts import LineChange
    from shared.domain.orders import OrderLine, OrderRecord
    from shared.ledger.devices import Devices
    from shared.ledger.orders import Orders
    from shared.ledger.requests import Requests
    from shared.ledger.table import Versioned
    from shared.workflows.devices.failures import Failures
    from shared.workflows.intake.outbox import Clock, Outbox

_WITH_CERTIFICATE = frozenset({LineState.ISSUED, LineState.REGISTERED})


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEndings:
    """Has the lines of orders follow what operators want of the orders."""

    orders: Orders
    requests: Requests
    devices: Devices
    failures: Failures
    outbox: Outbox
    clock: Clock

    async def follow(self, known: Versioned[OrderRecord]) -> Versioned[OrderRecord]:
        """Bring an order's lines to what is wanted of the order."""
        order = known.record
        if order.retrying:
            await self._try_again(order)
            known = await self.orders.change(known, retry_sent)
        if order.is_cancelled:
            await self._end(order, line_cancelled(self.clock(), order.issued), LineState.ORDERED, LineState.ISSUED)
            await self._give_up(order)
        elif order.ending is Ending.CLOSE:
            await self._end(order, line_closed(self.clock()), LineState.ISSUED)
        return known

    async def _end(self, order: OrderRecord, ended: LineChange, *states: LineState) -> None:
        for state in states:
            async for batch in self._batches(order, state):
                await self.orders.change_lines(batch, ended)

    async def _give_up(self, order: OrderRecord) -> None:
        """End the lines of a cancelled order that were begun, and that nobody is at work on."""
        at, why = self.clock(), Rejected.because(f"order {order.order_id!r} was cancelled")
        async for batch in self._batches(order, LineState.ORDERED):
            for known in batch:
                if not left_lying(known.record, at):
                    continue
                wanted = ordered_device(known.record, at)
                await self.failures.give_up(wanted, why)
                device = await self.devices.get(wanted.registration_id)
                # Somebody was at work on it, after all, and writes what became of it.
                if device is None or device.record.order_id != order.order_id or device.record.state not in IN_ITS_HUB:
                    await self.orders.change_lines([known], given_up(at))

    def _batches(self, order: OrderRecord, state: LineState) -> AsyncIterator[list[Versioned[OrderLine]]]:
        return in_batches(self.orders.lines_in(order.order_id, state), PARTITION_LINES)

    # --- tried again ---

    async def _try_again(self, order: OrderRecord) -> None:
        """Have the failed lines begin anew. Of an attempt that broke off, the messages are sent again."""
        async for batch in self._batches(order, LineState.ORDERED):
            await self._send([known.record for known in batch if known.record.attempt == order.retries])
        async for batch in self._batches(order, LineState.FAILED):
            mendable = [known for known in batch if known.record.registration_id is not None]
            for known in mendable:
                await self._free(known.record, order.retries)
            again = await self.orders.change_lines(mendable, line_tried_again(order.retries))
            await self._send([known.record for known in again])

    async def _free(self, line: OrderLine, attempt: int) -> None:
        """Have a device that its order has failed with be ordered again, if nobody else has it."""
        at = self.clock()
        wanted = ordered_device(line, at).changed(attempt=attempt)
        if await self.devices.get(wanted.registration_id) is not None:
            await change(self.devices, wanted.registration_id, partial(issuance.tried_again, wanted=wanted), at=at)

    async def _send(self, lines: list[OrderLine]) -> None:
        for message in messages([line for line in lines if line.state is LineState.ORDERED]):
            await self.outbox.send(Queue.DEVICE_REGISTRATIONS, message)

    # --- revoked ---

    async def revoke(self, known: Versioned[OrderRecord]) -> Versioned[OrderRecord]:
        """Have the devices of a cancelled order revoked that have their certificate, if that is wanted."""
        order = known.record
        if not order.is_cancelled or order.issued is not IssuedDevices.REVOKE:
            return known
        cancelled = await self._cancelled(order)
        # Whoever sees to the order now, its devices are revoked for who has cancelled it.
        with acting(cancelled.actor, cancelled.comment):
            async for batch in in_batches(self.orders.lines(order.order_id, start=order.revoked), PARTITION_LINES):
                known = await self._revoke(known, cancelled, batch)
        return known

    async def by_whom(self, order: OrderRecord) -> tuple[Actor | None, str | None]:
        """Tell who wanted what an order comes to, and what they said to it: who has cancelled it, or ordered.

        Whichever message finds that it has come to that.
        """
        if not order.is_cancelled:
            return order.actor, order.comment
        cancelled = await self._cancelled(order)
        return cancelled.actor, cancelled.comment

    async def _cancelled(self, order: OrderRecord) -> RequestRecord:
        """Find the request that has cancelled an order.

        If it is not kept any more, another stands for it: a device that is asked for twice is revoked once.
        """
        kind, by = Queue.DEVICE_ORDERS, order.ended_by or order.order_id
        known = await self.requests.find(kind, by)
        if known is not None:
            return known.record
        return RequestRecord(kind=kind, request_id=by, fingerprint="", received_at=self.clock())

    async def _revoke(
        self, known: Versioned[OrderRecord], cancelled: RequestRecord, lines: list[OrderLine]
    ) -> Versioned[OrderRecord]:
        async with asyncio.TaskGroup() as group:
            for line in lines:
                if line.state in _WITH_CERTIFICATE and line.registration_id is not None:
                    group.create_task(self._revoke_device(cancelled, line.order_id, line.registration_id))
        return await self.orders.change(known, revoked_until(lines[-1].line + 1))

    async def _revoke_device(self, cancelled: RequestRecord, order_id: str, registration_id: str) -> None:
        device = await self.devices.get(registration_id)
        if device is None or (device.record.purpose, device.record.order_id) != (Purpose.ORDER, order_id):
            return
        if device.record.on_hold or device.record.state not in OUT_OF_SERVICE:
            request = RevocationRequest(
                request_id=led_to_by(cancelled, "cancelled", registration_id),
                registration_id=registration_id,
                reason=RevocationReason.CESSATION_OF_OPERATION,
            )
            await submit(self.requests, self.outbox, Queue.REVOCATION_REQUESTS, request, self.clock)
