"""Messages of ordered devices: some lines of an order each, worked on side by side.

What one line ends with is written for that line alone. Lines that are done are written together, and before anything is
raised: so a message that comes again finds the lines that are left.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import acting
from shared.contracts.messages import Queue
from shared.contracts.orders import DeviceRegistration
from shared.domain.order_acts import begun, line_cancelled
from shared.domain.orders import OrderLine, OrderRecord
from shared.errors import Deferred, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.ledger.orders import Orders
    from shared.ledger.table import Versioned
    from shared.workflows.devices.drawn_numbers import DrawnNumbers
    from shared.workflows.devices.ordered_devices import Decide, OrderedDevices
    from shared.workflows.devices.places import Places
    from shared.workflows.devices.usable_groups import UsableGroups
    from shared.workflows.intake.outbox import Clock, Outbox

_log = logging.getLogger(__name__)

_CLOSING = 5.0
"""Seconds that lines which are done wait for others of their message, to be written with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrations:
    """Carries out the messages of ordered devices."""

    orders: Orders
    groups: UsableGroups
    ordered_devices: OrderedDevices
    outbox: Outbox
    places: Places
    clock: Clock

    async def register(self, message: DeviceRegistration) -> None:
        """Do what is still to be done for the lines of a message.

        Lines that end differently part: each that is left gets a message of its own, with deliveries of its own.

        Raises:
            Deferred: DPS is throttling, or the devices have not registered themselves yet.
        """
        lines = await self.orders.get_lines(message.order_id, message.line, message.lines)
        if not lines:
            raise NotFound.because(f"order {message.order_id!r} has no line {message.line}")
        to_do, order = await self._begin(
            [known for known in lines if known.record.is_open and known.record.registration_id]
        )
        acting_for = acting.acting(order.actor, order.comment) if order else nullcontext()
        with acting_for, self.ordered_devices.at_work([known.record for known in to_do]):
            left = await self._bring(to_do)
        waits = [error for error in left.values() if isinstance(error, Deferred)]
        if waits and len(waits) == len(left):
            raise min(waits, key=lambda error: error.retry_after)
        if left and len(left) == len(to_do) and not waits:
            raise next(iter(left.values()))  # what fails for all of them is not the fault of one line
        for line, error in left.items():
            _log.warning("line %d of order %r gets a message of its own: %s", line, message.order_id, error)
            own = DeviceRegistration(order_id=message.order_id, line=line)
            delay = error.retry_after if isinstance(error, Deferred) else None
            await self.outbox.send(Queue.DEVICE_REGISTRATIONS, own, delay=delay)

    async def _begin(
        self, lines: Sequence[Versioned[OrderLine]]
    ) -> tuple[list[Versioned[OrderLine]], OrderRecord | None]:
        """Enter that lines are at work, unless their order was cancelled.

        Gives those that something is to be done for, and their order.

        The order is read after its lines are: who cancels it changes the lines that are there after it has changed.
        """
        if not lines:
            return [], None
        now, order = self.clock(), await self.orders.get(lines[0].record.order_id)
        is_cancelled = order is not None and order.record.is_cancelled
        change = line_cancelled(now, order.record.issued) if order is not None and is_cancelled else begun(now)
        to_do = [known for known in await self.orders.change_lines(lines, change) if known.record.is_open]
        return to_do, order.record if order else None

    async def _bring(self, lines: Sequence[Versioned[OrderLine]]) -> dict[int, Exception]:
        """Work on lines side by side, and write those that are done; give what was raised, by the others' numbers."""
        decide = self.groups.shared()
        drawn = await self.ordered_devices.prepare([each.record for each in lines], decide)
        known = {each.record.line: each for each in lines}
        left: dict[int, Exception] = {}
        at_work = {asyncio.create_task(self._outcome(each, decide, drawn)) for each in lines}
        try:
            while at_work:
                done, at_work = await asyncio.wait(at_work, timeout=_CLOSING)
                outcomes = [task.result() for task in done]
                closed = [outcome for outcome in outcomes if isinstance(outcome, OrderLine)]
                await self.orders.close_lines([(known[line.line], line) for line in closed])
                left |= dict(outcome for outcome in outcomes if not isinstance(outcome, OrderLine))
        finally:
            for task in at_work:
                task.cancel()
            await asyncio.gather(*at_work, return_exceptions=True)
        await self.ordered_devices.give_back(drawn)
        return dict(sorted(left.items()))

    async def _outcome(
        self, known: Versioned[OrderLine], decide: Decide, drawn: DrawnNumbers
    ) -> OrderLine | tuple[int, Exception]:
        async with self.places.line():
            try:
                return await self.ordered_devices.bring(known, decide, drawn)
            except Exception as error:  # noqa: BLE001 - one line's failure ends no other's work
                return known.record.line, error
