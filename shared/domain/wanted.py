"""What a device's record wants of DPS and the hubs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.certificates import CertificateState
from shared.domain.devices import OUT_OF_SERVICE, DeviceRecord, Doors
from shared.domain.words import DeviceState

if TYPE_CHECKING:
    from datetime import datetime

    from shared.domain.held_certificates import HeldCertificate


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a device's record wants of DPS and the hubs.

    Attributes:
        shut: whether every door is shut.
        deleted: whether its identity and its registration are to be gone as well.
        identity_enabled: whether its hub lets it in.
        own_entry: whether DPS must take the certificates in use and no other, by an individual enrollment.
        entry_disabled: whether an individual enrollment is disabled even so.
        in_use: serial numbers of the certificates that it uses.
        listed: certificates whose entry in the issuer's list may have to change.
        reason: why its hub lets it in or keeps it out.
        doors: how its doors are when all of that is so.
    """

    shut: bool
    deleted: bool
    identity_enabled: bool
    own_entry: bool
    entry_disabled: bool
    in_use: tuple[str, ...]
    listed: tuple[HeldCertificate, ...]
    reason: str
    doors: Doors


def wanted(record: DeviceRecord, now: datetime) -> Wanted:
    """Give what a record wants of the services.

    A group lets in every certificate of its CA that has not expired. So when one of a device's is revoked and the
    device goes on, an individual enrollment, which DPS matches before any group, must say which certificates it uses.
    """
    shut = record.shut_out
    ungrouped = record.enrollment_group is None and record.doors is Doors.SHUT
    return Wanted(
        shut=shut,
        deleted=record.state is DeviceState.DELETED,
        identity_enabled=not shut and not record.disabled,
        own_entry=not shut and bool(record.in_use) and (revoked_before(record, now) or record.own_entry or ungrouped),
        entry_disabled=record.entry_disabled,
        in_use=record.in_use,
        listed=tuple(each for each in record.held if each.listed and each.changed_in > record.converged),
        reason=_reason_of(record),
        doors=Doors.SHUT if shut else Doors.HUB_SHUT if record.disabled else Doors.OPEN,
    )


def revoked_before(record: DeviceRecord, now: datetime) -> bool:
    """Tell whether a certificate that the device does not use is revoked, and would be let in by its group."""
    return bool(_revoked_before(record, now))


def may_take_revoked(record: DeviceRecord, now: datetime) -> bool:
    """Tell whether the hub of a device may have got one of these: DPS has let the device in with it until now.

    That is so if it was revoked since the services followed the record, or if a door may not be as it was left.
    """
    revoked = _revoked_before(record, now)
    return bool(revoked) and (
        record.doors is not Doors.OPEN or any(each.changed_in > record.converged for each in revoked)
    )


def _revoked_before(record: DeviceRecord, now: datetime) -> list[HeldCertificate]:
    return [
        each
        for each in record.held
        if each.state is CertificateState.REVOKED and each.serial_number not in record.in_use and not each.expired(now)
    ]


def _reason_of(record: DeviceRecord) -> str:
    if record.state in OUT_OF_SERVICE and record.revoked:
        return f"certificate revoked: {record.revoked.value}"
    if record.doors is Doors.SHUT and not record.disabled:
        return "reinstated"
    return record.switched_for or "as its certificate says"
