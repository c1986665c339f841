"""Revoking devices and certificates, and undoing holds: acts on a device's record."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from shared.domain.announcements import Reinstated, Revoked
from shared.domain.certificates import CertificateState
from shared.domain.devices import OUT_OF_SERVICE, DeviceRecord, Doors, revoked_for
from shared.domain.held_certificates import HOLD, HeldCertificate
from shared.domain.words import DeviceState, RevocationReason
from shared.errors import Conflict, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from shared.domain.certificates import CertificateRecord


def revoked_certificate(each: HeldCertificate, reason: RevocationReason, at: datetime) -> HeldCertificate:
    """Revoke one certificate. The time of its first revocation stays; a hold may become final (RFC 5280 5.3.1)."""
    return each.changed(state=CertificateState.REVOKED, reason=reason, revoked_at=each.revoked_at or at, listed=True)


def _off_hold(each: HeldCertificate, at: datetime) -> HeldCertificate:
    state = CertificateState.SUPERSEDED if each.successor else CertificateState.ACTIVE
    if each.expired(at):
        state = CertificateState.EXPIRED
    return each.changed(state=state, reason=None, revoked_at=None)


def _concerned(record: DeviceRecord, at: datetime) -> Iterator[HeldCertificate]:
    """Give what a revocation of a device revokes: the certificates that it uses, and all that have not expired."""
    for each in record.held:
        if each.issued and (each.serial_number in record.in_use or not each.expired(at)):
            yield each


def revoked(
    record: DeviceRecord, *, act: str, reason: RevocationReason, at: datetime, correlation: str, occasion: str = ""
) -> DeviceRecord:
    """Revoke a device with every certificate of its that has not expired; ``occasion`` as events have it.

    Raises:
        Conflict: it has no certificate; or it is revoked for good, and is to be put on hold.
    """
    if act in record.acts:
        return record
    if not any(each.issued for each in record.held) and record.certificate is None and not record.unseen:
        raise Conflict.because(f"{record.registration_id!r} has no certificate yet, so there is nothing to revoke")
    check_not_final(record, reason)
    present = record.certificate.serial_number if record.certificate and reason is not HOLD else None
    concerned = [
        revoked_certificate(each, reason, at)
        for each in _concerned(record, at)
        if not each.final or each.serial_number == present
    ]
    deleted = record.state is DeviceState.DELETED
    state = DeviceState.DELETED if deleted else DeviceState.REVOKED
    final = reason is not HOLD
    entered = record.entered(
        state,
        at,
        reason.value,
        reason=record.reason if deleted else revoked_for(reason),
        revoked=reason,
        before_hold=record.before_hold if record.state in OUT_OF_SERVICE else record.state,
        pending=None,
        renewal=None if final else record.renewal,
        held=record.with_held(*record.abandoned(), *concerned),
        doors=Doors.SHUT,
        generation=record.generation + 1,
        acts=record.acted(act),
    )
    return entered.announcing(_revoked(entered, reason), correlation, occasion=occasion)


def is_revocable(record: DeviceRecord) -> bool:
    """Tell whether the revocation of a group or an order is about a device; one on hold may be revoked for good.

    That of a device without a certificate is not: there is nothing to revoke.
    """
    issued = record.unseen or any(each.issued for each in record.held)
    return issued and (record.on_hold or record.state not in {DeviceState.REVOKED, DeviceState.DELETED})


def is_ordered_since(record: DeviceRecord, at: datetime) -> bool:
    """Tell whether a device was ordered after a time; not if nobody can tell any more."""
    own = [each.recorded_at for each in record.held if (each.purpose, each.cause) == (record.purpose, record.order_id)]
    return bool(own) and min(own) > at


def check_not_final(record: DeviceRecord, reason: RevocationReason) -> None:
    """Refuse to make a hold of a final revocation.

    Raises:
        Conflict: it is revoked for good.
    """
    final = record.state is DeviceState.DELETED or (record.state is DeviceState.REVOKED and not record.on_hold)
    if reason is HOLD and final:
        raise _is_final(repr(record.registration_id), record.revoked)
    if reason is HOLD and not record.on_hold and record.shut_out:
        raise Conflict.because(
            f"{record.registration_id!r} is {record.state}, and its certificates are revoked for good: there is "
            "nothing to put on hold",
            field="reason",
        )


def reinstated(record: DeviceRecord, *, act: str, at: datetime, correlation: str) -> DeviceRecord:
    """Undo a hold, the only revocation that can be undone (RFC 5280 section 5.3.1).

    Raises:
        Conflict: the device is not on hold.
    """
    if act in record.acts:
        return record
    check_on_hold(record)
    back = [_off_hold(each, at) for each in record.held if each.on_hold]
    state = _before_hold(record, at)
    entered = record.entered(
        state,
        at,
        "reinstated",
        reason=None,
        revoked=None,
        held=record.with_held(*back),
        generation=record.generation + 1,
        acts=record.acted(act),
    )
    return entered.announcing(_reinstated(entered), correlation)


def check_on_hold(record: DeviceRecord) -> None:
    """Refuse to reinstate what is not on hold.

    Raises:
        Conflict: it is not.
    """
    if not record.on_hold:
        raise _not_on_hold(repr(record.registration_id))


def _before_hold(record: DeviceRecord, at: datetime) -> DeviceState:
    in_use = [each for each in (record.certificate, record.next_certificate) if each is not None]
    if record.before_hold in {DeviceState.FAILED, DeviceState.ORDERED}:
        return record.before_hold
    if in_use and all(each.not_after < at for each in in_use):
        return DeviceState.EXPIRED
    if record.next_certificate is not None:
        return DeviceState.RENEWING
    # It may be in a hub from an earlier life, and not have registered in this one.
    return DeviceState.ISSUED if record.before_hold is DeviceState.ISSUED else DeviceState.REGISTERED


def former_revoked(
    record: DeviceRecord,
    serial_number: str,
    *,
    act: str,
    reason: RevocationReason,
    at: datetime,
    correlation: str,
    occasion: str = "",
) -> DeviceRecord:
    """Revoke a certificate that a device does not use any more; the device goes on. ``occasion`` as events have it.

    Raises:
        Conflict: there is nothing to revoke; or the certificate is revoked for good, and is to be put on hold.
    """
    if act in record.acts:
        return record
    former = _former(record, serial_number)
    if former is None or former.expired(at):
        raise Conflict.because(
            f"serial number {serial_number} has expired or was never used, so there is nothing to revoke",
            field="serialNumber",
        )
    if reason is HOLD and former.final:
        raise _is_final(f"serial number {serial_number}", former.reason)
    entered = record.noted(
        at,
        f"certificate {serial_number}: {reason.value}",
        held=record.with_held(revoked_certificate(former, reason, at)),
        generation=record.generation + 1,
        acts=record.acted(act),
    )
    return entered.announcing(_revoked(entered, reason, serial_number), correlation, occasion=occasion)


def former_reinstated(
    record: DeviceRecord, serial_number: str, *, act: str, at: datetime, correlation: str
) -> DeviceRecord:
    """Undo the hold of a certificate that a device does not use any more.

    Raises:
        Conflict: it is not on hold.
    """
    if act in record.acts:
        return record
    former = _former(record, serial_number)
    if former is None or not former.on_hold:
        raise _not_on_hold(f"certificate {serial_number}")
    entered = record.noted(
        at,
        f"certificate {serial_number}: reinstated",
        held=record.with_held(_off_hold(former, at)),
        generation=record.generation + 1,
        acts=record.acted(act),
    )
    return entered.announcing(_reinstated(entered, serial_number), correlation)


def _former(record: DeviceRecord, serial_number: str) -> HeldCertificate | None:
    former = record.find(serial_number)
    return former if former is not None and former.issued else None


def deleted(record: DeviceRecord, *, act: str, at: datetime, correlation: str) -> DeviceRecord:
    """Take a device out of service for good: its certificates are revoked, and its doors stay shut."""
    if act in record.acts or record.state is DeviceState.DELETED:
        return record
    reason = RevocationReason.CESSATION_OF_OPERATION
    concerned = [revoked_certificate(each, reason, at) for each in _concerned(record, at) if not each.final]
    entered = record.entered(
        DeviceState.DELETED,
        at,
        "deleted",
        pending=None,
        renewal=None,
        revoked=record.revoked if record.revoked not in {None, HOLD} else reason,
        held=record.with_held(*record.abandoned(), *concerned),
        doors=Doors.SHUT,
        generation=record.generation + 1,
        acts=record.acted(act),
    )
    if not concerned:
        return entered
    return entered.announcing(_revoked(entered, reason), correlation)


def _revoked(record: DeviceRecord, reason: RevocationReason, former: str | None = None) -> Revoked:
    """Give what is told of a revocation: of the device, or of a certificate that it does not use any more."""
    return Revoked(
        registration_id=record.registration_id,
        serial_number=former or _present(record),
        assigned_hub=record.assigned_hub,
        reason=reason,
        state=record.state,
    )


def _reinstated(record: DeviceRecord, former: str | None = None) -> Reinstated:
    return Reinstated(
        registration_id=record.registration_id,
        serial_number=former or _present(record),
        assigned_hub=record.assigned_hub,
        state=record.state,
    )


def _present(record: DeviceRecord) -> str | None:
    return record.certificate.serial_number if record.certificate else None


class Falls(StrEnum):
    """What is revoked with the CA of a certificate."""

    DEVICE = "device"
    CERTIFICATE = "certificate"


def falls(device: DeviceRecord, certificate: CertificateRecord) -> Falls | None:
    """Tell what is revoked when the CA of a device's certificate is: the device, if it uses that one; else that alone.

    Nothing is, if the certificate is not signed, nobody will use it again, or the device is out of service.
    """
    if certificate.state is CertificateState.RESERVED or certificate.ended:
        return None
    if device.state in OUT_OF_SERVICE and not device.on_hold:
        return None
    return Falls.DEVICE if certificate.serial_number in device.in_use else Falls.CERTIFICATE


def is_unseen(device: DeviceRecord) -> bool:
    """Tell whether a device in service uses a certificate that nobody knows, which may be of any CA of its group."""
    return device.unseen and (device.on_hold or device.state not in OUT_OF_SERVICE)


def _is_final(what: str, reason: RevocationReason | None) -> Rejected:
    return Conflict.because(
        f"{what} is revoked for good ({reason}), so it can't be put on hold; give another reason, or leave it",
        field="reason",
    )


def _not_on_hold(what: str) -> Rejected:
    return Conflict.because(
        f"{what} is not on hold; only reason 'certificateHold' can be undone, any other revocation is final",
        field="action",
    )
