"""Orders: taken apart into lines, fanned out to one message per device, and watched until the last line is done.

An order's message stays in its queue until the order is complete: each time it comes back, the workflow looks at what
the ledger says and does what is next. So an order can't be lost as long as its message is not.
"""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.contracts import (
    DeviceOrder,
    DeviceRegistration,
    DeviceState,
    EventType,
    Queue,
    device_request,
)
from shared.errors import Conflict, Deferred, NotFound, Rejected
from shared.json_text import read_json
from shared.ledger.orders import OPEN_STATES, OrderLine, OrderRecord, OrderState
from shared.reading.blob_names import blob_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.adapters.storage import Blobs
    from shared.contracts import DeviceRequest
    from shared.ledger.orders import Orders
    from shared.ledger.table import Versioned
    from shared.settings import Settings
    from shared.workflows.events import Clock, Outbox
    from shared.workflows.registrations import Registrations

ORDERS = "orders"
"""Container of device lists that are too long for a message."""

DEVICES_LIMIT = 100_000
_DEVICES_BYTES = 256 * 1024 * 1024
_SENDERS = 16
_WATCH_PER_LINE = timedelta(milliseconds=25)
_WATCH = (timedelta(seconds=1), timedelta(minutes=1))


@dataclass(frozen=True, slots=True)
class DeviceOrders:
    """Takes orders in and sees them through."""

    orders: Orders
    registrations: Registrations
    blobs: Blobs
    outbox: Outbox
    settings: Settings
    clock: Clock

    async def advance(self, order: DeviceOrder) -> None:
        """Do what is next for an order: accept, dispatch, or see whether it is complete.

        Raises:
            Rejected: the order as a whole can't be carried out.
            Deferred: some of its devices are still on their way.
        """
        known = await self.check_unchanged(order) or await self._accept(order)
        if known.record.state is OrderState.ACCEPTED:
            known = await self._dispatch(known, order)
        if known.record.state is OrderState.DISPATCHED:
            await self._complete(known)

    async def check_unchanged(self, order: DeviceOrder) -> Versioned[OrderRecord] | None:
        """Find an order by its id, ``None`` if it is new.

        Raises:
            Conflict: its id was used with other content.
        """
        known = await self.orders.get(order.order_id)
        if known is not None and known.record.fingerprint != order.fingerprint:
            raise Conflict.because(
                f"order {order.order_id!r} was accepted on {known.record.accepted_at:%Y-%m-%d} with other content; a "
                "changed order needs a new orderId",
                field="orderId",
            )
        return known

    # --- accepting ---

    async def _accept(self, order: DeviceOrder) -> Versioned[OrderRecord]:
        await self.registrations.usable_group(order.enrollment_group)
        record = OrderRecord(
            order_id=order.order_id,
            fingerprint=order.fingerprint,
            state=OrderState.ACCEPTED,
            enrollment_group=order.enrollment_group,
            register_by=order.register_by,
            validity_days=order.validity_days,
            device_count=len(await self._devices(order)),
            accepted_at=self.clock(),
        )
        known = await self.orders.insert(record) or await self.check_unchanged(order)
        if known is None:
            raise RuntimeError(f"order {order.order_id!r} was recorded a moment ago and is gone")
        return known

    def _lines(self, order: OrderRecord, devices: Sequence[Any]) -> list[OrderLine]:
        seen: dict[str, int] = {}
        return [self._line(order, index, device, seen) for index, device in enumerate(devices)]

    def _line(self, order: OrderRecord, index: int, device: Any, seen: dict[str, int]) -> OrderLine:
        requested = str(device.get("registrationId", "")) if isinstance(device, dict) else ""
        blank = OrderLine(
            order_id=order.order_id,
            line=index,
            state=DeviceState.ORDERED,
            requested_id=requested[:200],
            enrollment_group=order.enrollment_group,
            register_by=order.register_by,
            accepted_at=order.accepted_at,
            validity_days=order.validity_days,
        )
        try:
            wanted = _wanted(device, index, seen)
        except Rejected as rejection:
            return blank.changed(
                state=DeviceState.FAILED, reasons=rejection.documented(), finished_at=order.accepted_at
            )
        twin = wanted.initial_twin
        return blank.changed(
            registration_id=wanted.registration_id,
            csr=wanted.csr,
            key_algorithm=wanted.key_algorithm,
            tags={**((twin.tags if twin else None) or {}), **(wanted.tags or {})} or None,
            desired=(twin.desired if twin else None) or None,
        )

    async def _devices(self, order: DeviceOrder) -> Sequence[Any]:
        if order.devices is not None:
            return order.devices
        url = str(order.devices_url)
        name = blob_name(url, f"{self.settings.blob_service_url}/{ORDERS}")
        found = await self.blobs.describe(ORDERS, name)
        if found is None:
            raise NotFound.because(f"there is no blob {url!r}", field="devicesUrl")
        if found.size > _DEVICES_BYTES:
            raise Rejected.because(
                f"{url!r} has {found.size} bytes; at most {_DEVICES_BYTES} are read", field="devicesUrl"
            )
        stored = await self.blobs.get(ORDERS, name)
        return _device_list(stored.content if stored else b"", name)

    # --- dispatching ---

    async def _dispatch(self, known: Versioned[OrderRecord], request: DeviceOrder) -> Versioned[OrderRecord]:
        order = known.record
        await self.orders.insert_lines(self._lines(order, await self._devices(request)))
        gate = asyncio.Semaphore(_SENDERS)

        async def send(line: OrderLine) -> None:
            async with gate:
                if line.state is DeviceState.FAILED:
                    await self.registrations.announce_failed(line)
                elif line.state in OPEN_STATES:
                    message = DeviceRegistration(order_id=order.order_id, line=line.line)
                    await self.outbox.order(Queue.DEVICE_REGISTRATIONS, message)

        async with asyncio.TaskGroup() as group:
            async for line in self.orders.lines(order.order_id):
                group.create_task(send(line))
        await self.outbox.publish(
            EventType.ORDER_ACCEPTED,
            subject=order.order_id,
            correlation_id=order.order_id,
            data={
                "orderId": order.order_id,
                "enrollmentGroup": order.enrollment_group,
                "deviceCount": order.device_count,
            },
        )
        # Another worker may have come first: then what it wrote is looked at when the message comes back.
        return await self.orders.replace(known, order.changed(state=OrderState.DISPATCHED)) or known

    # --- completing ---

    async def _complete(self, known: Versioned[OrderRecord]) -> None:
        order = known.record
        remaining = await self.orders.open_lines(order.order_id)
        if remaining:
            low, high = _WATCH
            # Soon while devices pour in; the longer an order waits for a first boot, the rarer.
            pause = max(remaining * _WATCH_PER_LINE, (self.clock() - order.accepted_at) / 8)
            raise Deferred(
                f"order {order.order_id!r}: {remaining} of {order.device_count} devices are on their way",
                retry_after=min(max(low, pause), high),
            )
        lines = [line async for line in self.orders.lines(order.order_id)]
        await self.outbox.publish(
            EventType.ORDER_COMPLETED,
            subject=order.order_id,
            correlation_id=order.order_id,
            data={
                "orderId": order.order_id,
                "enrollmentGroup": order.enrollment_group,
                "progress": progress_of(lines),
                "failed": [
                    {"line": line.line, "registrationId": line.requested_id, "reason": line.reason}
                    for line in lines
                    if line.state is DeviceState.FAILED
                ][:100],
            },
        )
        await self.orders.replace(known, order.changed(state=OrderState.COMPLETED, completed_at=self.clock()))

    # --- reading ---

    async def describe(self, order_id: str) -> dict[str, Any]:
        """Show an order with its progress and every line.

        Raises:
            NotFound: there is no such order.
        """
        known = await self.orders.get(order_id)
        if known is None:
            raise NotFound.because(f"there is no order {order_id!r}", field="orderId")
        order = known.record
        lines = [line async for line in self.orders.lines(order_id)]
        return {
            "orderId": order.order_id,
            "enrollmentGroup": order.enrollment_group,
            "state": "completed" if order.state is OrderState.COMPLETED else "processing",
            "registerBy": order.register_by,
            "acceptedAt": order.accepted_at,
            "completedAt": order.completed_at,
            "progress": progress_of(lines),
            "devices": [_described(line) for line in lines],
        }


def _wanted(device: Any, index: int, seen: dict[str, int]) -> DeviceRequest:
    """Check one device, by itself and against those before it (``seen``: index by registration id)."""
    wanted = device_request(device, index=index)
    first = seen.setdefault(wanted.registration_id, index)
    if first != index:
        raise Rejected.because(
            f"'{wanted.registration_id}' is ordered by devices[{first}] already; give each device once",
            field=f"devices[{index}].registrationId",
        )
    return wanted


def progress_of(lines: Sequence[OrderLine]) -> dict[str, int]:
    """Count an order's lines by state."""
    counts = {"total": len(lines)}
    for state in (DeviceState.ORDERED, DeviceState.ISSUED, DeviceState.REGISTERED, DeviceState.FAILED):
        counts[state.value] = sum(line.state is state for line in lines)
    return counts


def _described(line: OrderLine) -> Mapping[str, Any]:
    shown = {
        "registrationId": line.registration_id or line.requested_id,
        "requestedAs": line.requested_id if line.requested_id != line.registration_id else None,
        "state": line.state,
        "deviceId": line.device_id,
        "assignedHub": line.assigned_hub,
        "serialNumber": line.serial_number,
        "bundle": f"/api/devices/{line.registration_id}/bundle" if line.serial_number else None,
        "reason": line.reason if line.state is DeviceState.FAILED else None,
        "finishedAt": line.finished_at,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _device_list(content: bytes, name: str) -> list[Any]:
    """Read a list of devices: a JSON array of devices, or CSV with a header of the same field names."""
    try:
        text = content.decode("utf-8-sig")
        devices = list(csv.DictReader(io.StringIO(text, newline=""))) if name.endswith(".csv") else read_json(text)
    except (ValueError, csv.Error) as error:
        raise Rejected.because(f"{name!r} is neither a JSON array nor CSV: {error}", field="devicesUrl") from None
    if not isinstance(devices, list) or not 0 < len(devices) <= DEVICES_LIMIT:
        raise Rejected.because(f"{name!r} must hold a list of 1 to {DEVICES_LIMIT} devices", field="devicesUrl")
    return [{key: value for key, value in device.items() if value != ""} if isinstance(device, dict) else device
            for device in devices]  # fmt: skip
