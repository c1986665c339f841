"""What operators want of a device's individual enrollment: acts on its record.

The record has a change until DPS has it. There is one at a time: whoever comes next brings it about first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.domain.entries import device_id_of, new_enrollment, with_own_settings, with_values
from shared.domain.entry_wishes import EntryWish
from shared.domain.groups import STATUS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.domain.attestations import Entry
    from shared.domain.audit_entries import AuditedAct
    from shared.domain.devices import DeviceRecord
    from shared.domain.entry_wishes import EntryChange


def wish_of(record: DeviceRecord) -> EntryWish:
    """Give what is wanted of its individual enrollment."""
    return EntryWish(**{name: getattr(record, name) for name in EntryWish.model_fields})


def with_wish(record: DeviceRecord, wish: EntryWish) -> DeviceRecord:
    """Give a record with what is wanted of its individual enrollment."""
    return record.changed(**{name: getattr(wish, name) for name in EntryWish.model_fields})


def asked_for_of(record: DeviceRecord | None) -> Mapping[str, Any] | None:
    """Give what the individual enrollment of a device is to have beside certificates and status.

    Returns:
        ``None`` if that is not known, or not decided: DPS may still refuse what somebody asks for at this moment.
    """
    return record.entry_settings if record is not None and record.entry_asked_at is None else None


def decided(record: DeviceRecord, change: EntryChange, wish: EntryWish) -> DeviceRecord:
    """Enter what an operator wants; from now on it comes about, whoever sees to it."""
    generation = record.generation + 1
    entered = change.changed(generation=generation, before=wish_of(record))
    return with_wish(record, wish).changed(entry_change=entered, generation=generation)


def changed_entry(record: DeviceRecord, change: EntryChange, present: Entry | None) -> Entry | None:
    """Give an entry as a change wants it; what that does not name stays. A new one has what is wanted of it."""
    if change.gone:
        return None
    if present is None:
        made = {**new_enrollment(record.registration_id), "attestation": change.attestation}
        entry = with_values(with_own_settings(made, record.entry_settings or {}), change.values)
    else:
        entry = with_values(present, change.values)
        named = {"deviceId": change.device_id, "attestation": change.attestation}
        entry |= {name: value for name, value in named.items() if value is not None}
    return {**entry, STATUS: change.status} if change.status is not None else entry


def followed(record: DeviceRecord, settings: Mapping[str, Any] | None) -> DeviceRecord:
    """Enter that DPS has what is wanted.

    Args:
        record: as it was read.
        settings: what DPS has made of them; ``None`` if they are as they were asked for. Of an entry that follows its
            group, no more than a device id is asked for.
    """
    follows = record.entry_change.follows if record.entry_change is not None else None
    after = _without_change(record).changed(entry_asked_at=None, entry_follows=follows)
    if settings is None:
        return after
    return after.changed(entry_settings=settings if follows is None else device_id_of(settings))


def withdrawn(record: DeviceRecord, by: str) -> DeviceRecord:
    """Take a change back that DPS refuses, or whose entry is another one by now, as if nobody had asked for it."""
    change = record.entry_change
    if change is None or change.by != by or change.before is None:
        return record
    return with_wish(_without_change(record), change.before).changed(audited=_without_act(record, change))


def overtaken(record: DeviceRecord) -> DeviceRecord:
    """Drop a change of an entry that was written as something else wanted it; what is wanted of it otherwise stays."""
    change = record.entry_change
    if change is None:
        return record
    return record.changed(entry_change=None, entry_asked_at=None, audited=_without_act(record, change))


def _without_act(record: DeviceRecord, change: EntryChange) -> tuple[AuditedAct, ...]:
    return tuple(each for each in record.audited if each.entry_id != change.by)


def _without_change(record: DeviceRecord) -> DeviceRecord:
    """Take the change out. If nothing else was wanted since, and before, the services follow the record."""
    change = record.entry_change
    alone = change is not None and change.generation == record.generation == record.converged + 1
    return record.changed(entry_change=None, converged=record.generation if alone else record.converged)
