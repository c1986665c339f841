"""Changes devices: each act reads the record, decides, and writes under the ETag that it read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import Overtaken
from shared.ledger.devices import UnsettledRecord
from shared.ledger.table import Stale
from shared.workflows.devices.unknown import unknown_device

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.domain.devices import DeviceRecord
    from shared.domain.requests import RequestRecord
    from shared.ledger.devices import Devices
    from shared.ledger.table import Versioned

_ATTEMPTS = 8


def unsettled(record: DeviceRecord, at: datetime) -> UnsettledRecord:
    """Give the note that the services do not follow a record yet."""
    change = record.entry_change
    return UnsettledRecord(
        registration_id=record.registration_id,
        generation=record.generation,
        since=at,
        of_entry=change is not None and change.generation == record.generation,
    )


async def note(
    devices: Devices, before: DeviceRecord, wanted: DeviceRecord, *, at: datetime, request: RequestRecord | None = None
) -> None:
    """See to it, before an act is written, that what it wants of the services is not forgotten."""
    if wanted.generation != before.generation:
        asked = {} if request is None else {"request": request.key, "act": wanted.acts[-1]}
        await devices.enter_unsettled(unsettled(wanted, at).changed(**asked))


async def device_of(devices: Devices, registration_id: str) -> Versioned[DeviceRecord]:
    """Find a device.

    Raises:
        NotFound: it does not exist.
    """
    known = await devices.get(registration_id)
    if known is None:
        raise unknown_device(registration_id)
    return known


async def change(
    devices: Devices,
    registration_id: str,
    decide: Callable[[DeviceRecord], DeviceRecord],
    *,
    at: datetime,
    request: RequestRecord | None = None,
) -> Versioned[DeviceRecord]:
    """Carry out an act on a device that is known.

    Args:
        devices: all devices.
        registration_id: the device.
        decide: gives the record as it is wanted, the same one if nothing is to change, or raises why not. It is asked
            again if somebody else changed the device meanwhile.
        at: the present time.
        request: that is done when the services follow; the act is the last of the record's.

    Returns:
        The device as it is from now on.

    Raises:
        NotFound: the device does not exist.
        Overtaken: others kept changing it.
    """
    for _ in range(_ATTEMPTS):
        known = await device_of(devices, registration_id)
        wanted = decide(known.record)
        if wanted is known.record:
            return known
        await note(devices, known.record, wanted, at=at, request=request)
        try:
            return await devices.replace(known, wanted)
        except Stale:
            continue
    raise Overtaken(f"{registration_id!r} is being changed by others")
