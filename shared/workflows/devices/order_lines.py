"""What becomes of the devices of an order: lines, each checked by itself and against those before it."""

from __future__ import annotations

import itertools
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from shared.contracts.orders import DeviceRequest, device_request
from shared.contracts.parsing import parse
from shared.domain.orders import LineState, OrderLine
from shared.errors import Reason, Rejected
from shared.ledger.orders import PARTITION_LINES, fault_of
from shared.redaction import without_secrets
from shared.rules.registration_ids import canonical_registration_id
from shared.rules.twin_limits import TAGS_LIMIT, twin_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.domain.orders import OrderRecord
    from shared.workflows.devices.order_lists import Listed


class OrderLines:
    """The lines of an order, made as they are taken. It blocks, and belongs into a thread.

    Of the lines before it keeps a digest each: a million of them take 100 MB.

    Args:
        order: the order.
        devices: its devices, from the first one on.
    """

    def __init__(self, *, order: OrderRecord, devices: Iterator[Listed]) -> None:
        self._order = order
        self._devices = enumerate(devices)
        self._seen: dict[int, int] = {}

    def skip(self, count: int) -> None:
        """Go past lines that were made before."""
        for _, entry in itertools.islice(self._devices, count):
            self._first(entry)

    def take(self) -> list[OrderLine]:
        """Make the lines of the next partition; none at the end."""
        return [self._line(index, entry) for index, entry in itertools.islice(self._devices, PARTITION_LINES)]

    def _first(self, entry: Listed) -> int:
        """Give the number of the entry that orders this device first."""
        try:
            canonical = canonical_registration_id(_requested(entry.device))
        except Rejected:
            return entry.number
        digest = blake2b(canonical.encode(), digest_size=16).digest()
        return self._seen.setdefault(int.from_bytes(digest), entry.number)

    def _line(self, index: int, entry: Listed) -> OrderLine:
        order = self._order
        common: dict[str, Any] = {
            "order_id": order.order_id,
            "line": index,
            "place": entry.place,
            "requested_id": _requested(entry.device)[:200],
            "enrollment_group": order.enrollment_group,
            "register_by": order.register_by,
            "accepted_at": order.accepted_at,
            "validity_days": order.validity_days,
        }
        first = self._first(entry)
        try:
            return _ordered(common, _checked(entry, first))
        except Rejected as rejection:
            common["requested_id"] = without_secrets(_requested(entry.device)).strip()[:200]
            return OrderLine(
                **common,
                state=LineState.FAILED,
                reasons=rejection.documented(),
                finished_at=order.accepted_at,
            )


def refuse_if_all_wrong(devices: Sequence[Any]) -> None:
    """Refuse devices of which none can be had.

    Raises:
        Rejected: with the reasons of each.
    """
    reasons: list[Reason] = []
    for index, device in enumerate(devices):
        try:
            device_request(device, index=index)
        except Rejected as rejection:
            reasons += rejection.reasons
        else:
            return
    raise Rejected(*reasons)


def _checked(entry: Listed, first: int) -> DeviceRequest:
    """Check one device, by itself and against those before it."""
    if entry.fault is not None:
        raise entry.fault
    wanted = parse(DeviceRequest, entry.device, field=entry.place)
    if first != entry.number:
        raise Rejected.because(
            f"'{wanted.registration_id}' is ordered by {entry.place_of(first)} already; give each device once",
            field=f"{entry.place}.registrationId",
        )
    return wanted


def _requested(device: Any) -> str:
    return str(device.get("registrationId", "")) if isinstance(device, dict) else ""


def _ordered(common: dict[str, Any], wanted: DeviceRequest) -> OrderLine:
    twin = wanted.initial_twin
    line = OrderLine(
        **common,
        state=LineState.ORDERED,
        registration_id=wanted.registration_id,
        csr=wanted.csr,
        key_algorithm=wanted.key_algorithm,
        tags={**((twin.tags if twin else None) or {}), **(wanted.tags or {})} or None,
        desired=(twin.desired if twin else None) or None,
    )
    if twin is not None and twin.tags and wanted.tags:
        fault = twin_fault(line.tags or {}, TAGS_LIMIT)
        if fault is not None:
            raise Rejected.because(f"with those of initialTwin, {fault}", field=f"{line.place}.tags")
    fault = fault_of(line)
    if fault is not None:
        raise Rejected.because(fault, field=line.place)
    return line
