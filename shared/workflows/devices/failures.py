"""Devices that can't be had: recorded, so that another order may take them, and told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.contracts.base import stated
from shared.contracts.events import RequestRejected
from shared.contracts.messages import Queue
from shared.domain import issuance
from shared.domain.rejections import RejectionKind
from shared.errors import Conflict, Rejected
from shared.ledger.table import Stale
from shared.workflows.devices.changes import change

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.domain.orders import OrderLine
    from shared.ledger.devices import Devices
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.intake.outbox import Clock, Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Records what can't be carried out for a device."""

    devices: Devices
    converger: DeviceConverger
    outbox: Outbox
    clock: Clock

    async def check(self) -> None:
        """See that what was refused can't be had: an older ledger may not know what is needed for it.

        Raises:
            LedgerBehind: it is an older one.
        """
        await self.converger.check_ledger()

    async def enter(self, ordered: DeviceRecord, rejection: Rejected) -> None:
        """Record that a device can't be had by an order or request, so that another one may take it.

        Args:
            ordered: the device as it was ordered.
            rejection: why it can't be had.

        Raises:
            LedgerBehind: the ledger is an older one.
        """
        await self.check()
        reason = str(rejection)[:2000]
        rid = ordered.registration_id
        if await self.devices.get(rid) is None:
            try:
                await self.devices.insert(issuance.failed(ordered, ordered, reason, self.clock()))
            except (Stale, Conflict):  # somebody else has it, or its device id
                if await self.devices.get(rid) is None:
                    return
            else:
                return
        at = self.clock()
        fail = partial(issuance.failed, ordered=ordered, reason=reason, at=at)
        device = await change(self.devices, rid, fail, at=at)
        if (device.record.purpose, device.record.order_id) == (ordered.purpose, ordered.order_id):
            await self.converger.converge(rid, entered=device.record)

    async def give_up(self, ordered: DeviceRecord, rejection: Rejected) -> None:
        """Record why a device can't be had, if it was taken: what was refused before that takes no device."""
        if await self.devices.get(ordered.registration_id) is not None:
            await self.enter(ordered, rejection)

    async def announce(self, line: OrderLine) -> None:
        """Tell that a device of an order could not be made, and why."""
        await self.outbox.publish(
            RequestRejected(
                queue=Queue.DEVICE_ORDERS,
                kind=RejectionKind.REJECTED,
                order_id=line.order_id,
                line=line.line,
                registration_id=line.requested_id,
                reasons=stated(line.reasons or ()),
            ),
            subject=line.registration_id or line.requested_id or line.order_id,
            correlation_id=line.order_id,
            occasion=f"{line.line} again {line.attempt}" if line.attempt else str(line.line),
        )
