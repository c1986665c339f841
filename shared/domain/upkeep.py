"""What happens to a device by itself, what operators do, and what its converger enters: acts on its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.domain.audit_entries import with_act
from shared.domain.certificates import CertificateState
from shared.domain.devices import (
    IN_SERVICE,
    DeviceRecord,
    Doors,
)
from shared.domain.doors import Door
from shared.domain.entry_changes import overtaken
from shared.domain.words import DeviceState
from shared.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from shared.domain.announcements import Announcement
    from shared.domain.audit_entries import AuditedAct
    from shared.domain.doors import ClosedDoor


TAKEN_OVER = "registered by the enrollment group"
"""How the note of a device begins that another group has registered."""


def expired(record: DeviceRecord, serial_number: str, at: datetime) -> DeviceRecord:
    """Enter that a certificate has ended by time. A device that has another one to use goes on."""
    ended = record.find(serial_number)
    held = (
        record.with_held(ended.changed(state=CertificateState.EXPIRED))
        if ended and ended.state is CertificateState.ACTIVE
        else record.held
    )
    usable = any(
        each.not_after >= at and each.serial_number != serial_number
        for each in (record.certificate, record.next_certificate)
        if each is not None
    )
    if serial_number not in record.in_use or record.state not in IN_SERVICE or usable:
        return record if held == record.held else record.noted(at, f"certificate {serial_number} expired", held=held)
    return record.entered(DeviceState.EXPIRED, at, f"certificate {serial_number}", renewal=None, held=held)


def switched(record: DeviceRecord, *, enabled: bool, reason: str, at: datetime) -> DeviceRecord:
    """Let a device in at its hub, or keep it out there.

    Raises:
        Conflict: every door is shut to it, and it is to be let in.
    """
    if enabled and record.shut_out:
        raise Conflict.because(
            f"{record.registration_id!r} is {record.state}, so its identity stays disabled; a hold is undone by "
            "reinstating the device",
            field="registrationId",
        )
    note = f"identity {'enabled' if enabled else 'disabled'}: {reason}"
    # Others may have shut the hub: whoever asks for it to be opened has it opened.
    doors = record.doors if record.doors is Doors.SHUT else Doors.HUB_SHUT
    return record.noted(
        at,
        note,
        disabled=not enabled,
        switched_for=reason,
        doors=doors,
        # The opposite, if no service has followed that so far, does not take effect any more.
        audited=tuple(each for each in record.audited if each.enabled in {None, enabled}),
        generation=record.generation + 1,
    )


def settings_noted(record: DeviceRecord, settings: Mapping[str, Any]) -> DeviceRecord:
    """Enter what the individual enrollment of a device has, where that was not known."""
    return record.changed(entry_settings=settings) if record.entry_settings is None else record


def pinned(record: DeviceRecord, *, group: str, at: datetime) -> DeviceRecord:
    """Have DPS take the device's own certificates alone, since another group has registered it.

    What an operator wants of the entry comes about first, unless it is that there is none.
    """
    note = f"{TAKEN_OVER} {group}, which is not its own: it has to register again"
    # What somebody else has put into its entry is not what it is to have.
    settings, asked = record.entry_settings or {}, record.entry_change
    if asked is not None and asked.before is not None and not asked.gone:
        record = record.changed(entry_change=asked.changed(before=asked.before.changed(own_entry=True)))
    else:
        record = overtaken(record)
    return record.noted(
        at, note, own_entry=True, entry_settings=settings, entry_follows=None, generation=record.generation + 1
    )


def moved(record: DeviceRecord, *, hub: str, device_id: str, at: datetime) -> DeviceRecord:
    """Enter where DPS has a device now."""
    if hub.lower() == (record.assigned_hub or "").lower() and device_id == record.device_id:
        return record
    note = f"DPS has it in {hub} now, not in {record.assigned_hub or 'no hub'}"
    return record.noted(at, note, assigned_hub=hub, device_id=device_id)


def given_up(record: DeviceRecord, *, before: datetime, at: datetime) -> DeviceRecord:
    """Give up the serial numbers that were reserved before a time, and that no certificate came of."""
    stale = [each for each in record.held if each.state is CertificateState.RESERVED and each.recorded_at < before]
    if not stale:
        return record
    serials = {each.serial_number for each in stale}
    held = record.with_held(*(each.changed(state=CertificateState.ABANDONED) for each in stale))
    pending = None if record.pending in serials else record.pending
    return record.noted(at, "a serial number that was never signed is given up", held=held, pending=pending)


def told(
    record: DeviceRecord, announcements: Iterable[Announcement], audited: Iterable[AuditedAct] = ()
) -> DeviceRecord:
    """Enter what was told, and of which acts the audit log says that they took effect."""
    done, written = {each.name for each in announcements}, {each.entry_id for each in audited}
    return record.changed(
        announcements=tuple(each for each in record.announcements if each.name not in done),
        audited=tuple(each for each in record.audited if each.entry_id not in written),
    )


def audited(record: DeviceRecord, act: AuditedAct | None, *, enabled: bool | None = None) -> DeviceRecord:
    """Enter which entry of the audit log is about an act that was just entered, if one is."""
    if act is None:
        return record
    return record.changed(audited=with_act(record.audited, act.changed(enabled=enabled)))


def in_effect(record: DeviceRecord) -> tuple[AuditedAct, ...]:
    """Give the acts that took effect when the services follow a record.

    A change of an entry that the record still has did not, nor is a device let in that is shut out since.
    """
    change = record.entry_change
    return tuple(
        each
        for each in record.audited
        if not (each.enabled and record.shut_out) and (change is None or change.by != each.entry_id)
    )


def reached(record: DeviceRecord, *, hub: str, device_id: str, at: datetime) -> DeviceRecord:
    """Enter that a device has got into a hub while it was shut out: that door is still to be shut."""
    if not record.shut_out:
        return record
    note = f"got into {hub} while it was {record.state}"
    return record.noted(at, note, assigned_hub=hub, device_id=device_id, generation=record.generation + 1)


def opened_again(record: DeviceRecord, doors: Iterable[ClosedDoor], at: datetime) -> DeviceRecord:
    """Enter that others have opened doors of a device that is shut out: they are closed since they are shut anew."""
    opened = {(each.door, each.where) for each in doors}
    closed = tuple(each for each in record.closed if (each.door, each.where) not in opened)
    if closed == record.closed:
        return record
    return record.noted(at, f"{', '.join(sorted(where for _, where in opened))} let it in again", closed=closed)


def to_be_followed(record: DeviceRecord) -> DeviceRecord:
    """Have the services follow the record once more: somebody who was late may have shut a door, or opened one."""
    return record.changed(generation=record.generation + 1, doors=Doors.SHUT)


def brought_along(record: DeviceRecord) -> DeviceRecord:
    """Have DPS give the device's own entry what its group has by now; no door is opened that somebody has shut."""
    return record.changed(generation=record.generation + 1)


def converged(
    record: DeviceRecord, generation: int, doors: Doors | None, closed: Iterable[ClosedDoor] = ()
) -> DeviceRecord:
    """Enter that the services follow a generation of the record, and how its doors are now.

    Args:
        record: as it was read.
        generation: that they follow.
        doors: what may be shut of them; ``None`` if they were not looked at.
        closed: those of a device that is shut out. One that was closed before is so since then.
    """
    if doors is None:
        return record.changed(converged=max(record.converged, generation))
    before = {(each.door, each.where): each.since for each in record.closed}
    now = {
        (each.door, each.where): each.changed(since=before.get((each.door, each.where), each.since)) for each in closed
    }
    # A list that named the certificate before names it still: what has not changed is not published anew.
    kept = [each for each in record.closed if each.door in _LASTING and (each.door, each.where) not in now]
    return record.changed(
        converged=max(record.converged, generation),
        doors=doors,
        closed=(*kept, *now.values()) if doors is Doors.SHUT else (),
    )


_LASTING = frozenset({Door.CRL, Door.OCSP})
