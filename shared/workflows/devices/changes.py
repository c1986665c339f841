"""Changes devices: each act reads the record, decides, and writes under the ETag that it read."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from shared.errors import Overtaken
from shared.ledger.devices import NOTES_NAMED, UnsettledRecord
from shared.ledger.table import Stale
from shared.workflows.devices.unknown import unknown_device

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.domain.certificates import CertificateRecord
    from shared.domain.devices import DeviceRecord
    from shared.domain.requests import RequestRecord
    from shared.ledger.devices import Devices
    from shared.ledger.table import Versioned

_ATTEMPTS = 8
_LETTERS = 8
"""Of the name of a note: it differs from those of the same device and generation."""


def unsettled(record: DeviceRecord, at: datetime) -> UnsettledRecord:
    """Give the note that the services do not follow a record yet."""
    change = record.entry_change
    return UnsettledRecord(
        registration_id=record.registration_id,
        generation=record.generation,
        since=at,
        note=record.note,
        of_entry=change is not None and change.generation == record.generation,
    )


async def enter(
    devices: Devices,
    known: Versioned[DeviceRecord],
    wanted: DeviceRecord,
    *,
    at: datetime,
    request: RequestRecord | None = None,
    reserved: CertificateRecord | None = None,
    signed: CertificateRecord | None = None,
) -> Versioned[DeviceRecord]:
    """Write what an act wants of a device, after a note of it: so it is not forgotten.

    Args:
        devices: all devices.
        known: the device as it was read.
        wanted: the device as it is wanted.
        at: the present time.
        request: as with :func:`change`.
        reserved: as with :meth:`Devices.replace`.
        signed: likewise.

    Raises:
        Stale: it has changed since it was read.
    """
    if wanted.generation == known.record.generation:
        return await devices.replace(known, wanted, reserved=reserved, signed=signed)
    # One that is ordered anew has a record that is new: its former acts may still have workers.
    noted = wanted.changed(notes=(*known.record.notes, uuid.uuid4().hex[:_LETTERS])[-NOTES_NAMED:])
    asked = {} if request is None else {"request": request.key, "act": wanted.acts[-1]}
    note = unsettled(noted, at).changed(**asked)
    await devices.enter_unsettled(note)
    try:
        return await devices.replace(known, noted, reserved=reserved, signed=signed)
    except Stale:
        await _withdraw(devices, note)
        raise


async def _withdraw(devices: Devices, note: UnsettledRecord) -> None:
    """Delete the note of an act that others were ahead of.

    Else the timer would have the services follow a device in which nothing is to change, and open what somebody has
    shut past the app. If the act was entered after all, and the answer got lost, the note is needed.
    """
    present = await devices.get(note.registration_id)
    if present is None or present.record.note != note.note or present.record.settled:
        await devices.leave_unsettled(note)


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
        try:
            return await enter(devices, known, wanted, at=at, request=request)
        except Stale:
            continue
    raise Overtaken(f"{registration_id!r} is being changed by others")
