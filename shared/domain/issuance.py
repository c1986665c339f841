"""What orders, requests and renewals do to a device: acts on its record, see :mod:`shared.domain.devices`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain import lifecycles
from shared.domain.announcements import Issued, Renewed
from shared.domain.certificates import CertificateState
from shared.domain.devices import IN_ITS_HUB, OPEN_STATES, REORDERABLE, DeviceRecord, Doors, on_hold
from shared.domain.held_certificates import HELD_LIMIT, CertificateSummary, HeldCertificate, Purpose
from shared.domain.history import HISTORY_LIMIT
from shared.domain.own_certificates import thumbprints_with
from shared.domain.revocation import revoked_certificate
from shared.domain.words import DeviceState, RevocationReason
from shared.errors import Conflict, Overtaken

if TYPE_CHECKING:
    from datetime import datetime


def overtaken(record: DeviceRecord) -> Overtaken:
    """Say that a device was changed in between."""
    return Overtaken(f"{record.registration_id!r} was changed while its certificate was made; it is {record.state} now")


def ordered(known: DeviceRecord | None, wanted: DeviceRecord, *, field: str) -> DeviceRecord:
    """Take a device for an order or a request.

    Args:
        known: the device, if it is known.
        wanted: as it is ordered.
        field: path of its id in the request, for messages.

    Raises:
        Conflict: it is in use through another order or request, or this one has failed.
    """
    if known is None:
        return wanted
    if (known.purpose, known.order_id) == (wanted.purpose, wanted.order_id):
        if known.state is DeviceState.FAILED:  # an attempt before this one has given it up
            raise Conflict.because(known.reason or f"{known.registration_id!r} could not be had")
        return known
    if known.state not in REORDERABLE:
        raise Conflict.because(
            f"{known.registration_id!r} is {known.state} through {known.purpose} {known.order_id!r}; renew it, or "
            "revoke and delete it before ordering it again",
            field=field,
        )
    return _anew(known, wanted)


def tried_again(known: DeviceRecord, wanted: DeviceRecord) -> DeviceRecord:
    """Take a device for an order that has failed with it, once more; one that others have by now stays theirs."""
    cause = (wanted.purpose, wanted.order_id)
    if (known.purpose, known.order_id) != cause or known.state is not DeviceState.FAILED:
        return known
    # What it was issued then is revoked, and is not what it is to get now.
    held = (
        each.changed(cause=_former(each.cause)) if (each.purpose, each.cause) == cause else each for each in known.held
    )
    return _anew(known.changed(held=tuple(held)), wanted)


def _former(cause: str) -> str:
    """Name what an order or a request has made before it failed and was tried again."""
    return f"{cause} before it failed"


def _anew(known: DeviceRecord, wanted: DeviceRecord) -> DeviceRecord:
    lifecycles.DEVICE.check(known.phase, wanted.phase)
    gone = known.state is DeviceState.DELETED
    return wanted.changed(
        history=(*known.history, *wanted.history)[-HISTORY_LIMIT:],
        held=known.with_held(*known.abandoned()),
        acts=known.acts,
        device_id=None if gone else known.device_id,
        assigned_hub=None if gone else known.assigned_hub,
        own_entry=known.own_entry,
        entry_disabled=known.entry_disabled and not gone,
        entry_settings=known.entry_settings,
        disabled=known.disabled and not gone,
        switched_for=None if gone else known.switched_for,
        generation=known.generation + 1,
        converged=known.converged,
        doors=known.doors,
        announcements=known.announcements,
        audited=known.audited,
    )


def reserved(record: DeviceRecord, certificate: HeldCertificate) -> DeviceRecord:
    """Enter the serial number of a certificate that is about to be signed; an attempt before it is given up.

    Raises:
        Conflict: the device is not to get it any more, or holds as many certificates as a record can name.
        Deferred: it is on hold.
    """
    if record.on_hold:
        raise on_hold(record)
    renewal = certificate.purpose is Purpose.RENEWAL
    if record.state not in (IN_ITS_HUB if renewal else {DeviceState.ORDERED}):
        raise Conflict.because(
            f"{record.registration_id!r} was {record.state} before its {certificate.purpose} was carried out"
        )
    held = tuple(each for each in record.with_held(*record.abandoned()) if each.kept(certificate.recorded_at))
    if sum(each.room for each in (*held, certificate)) > HELD_LIMIT:
        raise Conflict.because(
            f"{record.registration_id!r} has {len(held)} certificates that have not expired; it can get another one "
            "when some of them have expired",
            field="registrationId",
        )
    return record.changed(held=(*held, certificate), pending=certificate.serial_number)


@dataclass(frozen=True, slots=True)
class Committed:
    """A certificate that is signed and whose bundle is stored.

    Attributes:
        bundle: name of its blob; empty if there is none.
        sha256_thumbprint: of the certificate; ``summary`` has the SHA-1 one.
    """

    summary: CertificateSummary
    bundle: str
    sha256_thumbprint: str


def issued(record: DeviceRecord, made: Committed, at: datetime) -> DeviceRecord:
    """Commit the certificate that an order or a request asked for.

    Raises:
        Overtaken: another attempt has taken its place, or the device is not wanted any more.
    """
    certificate = _committed(record, made)
    if record.state is not DeviceState.ORDERED:
        raise overtaken(record)
    former = [
        each.changed(state=CertificateState.SUPERSEDED, successor=certificate.serial_number)
        for each in record.held
        if each.state is CertificateState.ACTIVE
    ]
    entered = record.entered(
        DeviceState.ISSUED,
        at,
        f"certificate {certificate.serial_number}",
        certificate=made.summary,
        next_certificate=None,
        bundle=made.bundle,
        sha256_thumbprints=(made.sha256_thumbprint,),
        pending=None,
        held=record.with_held(certificate, *former),
        # A device with a past may have been shut out: whoever follows this record lets it in.
        generation=record.generation + (1 if record.doors is not None or record.own_entry else 0),
    )
    told = Issued(
        name=record.registration_id,
        issuer=made.summary.issuer,
        serial_number=made.summary.serial_number,
        thumbprint=made.summary.thumbprint,
        not_before=made.summary.not_before,
        not_after=made.summary.not_after,
        certificate=made.summary,
        registration_id=record.registration_id,
        device_id=record.device_id,
        assigned_hub=record.assigned_hub,
        enrollment_group=record.enrollment_group,
        order_id=record.order_id,
        bundle=record.bundle_path,
    )
    is_second = any(each.cause == _former(record.order_id) for each in record.held)
    occasion = certificate.serial_number if is_second else ""
    return entered.announcing(told, record.order_id, occasion=occasion)


def _committed(record: DeviceRecord, made: Committed) -> HeldCertificate:
    pending = record.find(made.summary.serial_number)
    if record.pending != made.summary.serial_number or pending is None:
        raise overtaken(record)
    return pending.changed(state=CertificateState.ACTIVE, not_after=made.summary.not_after)


def registered(record: DeviceRecord, *, hub: str, device_id: str, at: datetime) -> DeviceRecord:
    """Enter that a device is in its hub.

    Raises:
        Overtaken: it is not wanted there any more.
    """
    if record.state is DeviceState.REGISTERED:
        return record
    if record.state is not DeviceState.ISSUED:
        raise overtaken(record)
    return record.entered(DeviceState.REGISTERED, at, f"assigned to {hub}", assigned_hub=hub, device_id=device_id)


def failed(record: DeviceRecord, ordered: DeviceRecord, reason: str, at: datetime) -> DeviceRecord:
    """Enter that a device can't be had by an order or request; another one may take it.

    An attempt that is late says nothing of one that was made since: an operator has had the line tried again.

    What was issued for it is revoked: nobody is to use it. A request is carried out when it was issued, so that nothing
    fails after that: who refuses it then comes too late.
    """
    purpose, order_id = ordered.purpose, ordered.order_id
    if (record.purpose, record.order_id) != (purpose, order_id) or record.state not in OPEN_STATES:
        return record
    if record.attempt > ordered.attempt:
        return record
    if purpose is Purpose.REQUEST and record.issuance(purpose, order_id) is not None:
        return record
    concerned = [
        revoked_certificate(each, RevocationReason.CESSATION_OF_OPERATION, at)
        for each in record.held
        if each.state is CertificateState.ACTIVE and (each.purpose, each.cause) == (purpose, order_id)
    ]
    return record.entered(
        DeviceState.FAILED,
        at,
        reason,
        reason=reason,
        pending=None,
        held=record.with_held(*record.abandoned(), *concerned),
        doors=Doors.SHUT if concerned else record.doors,
        generation=record.generation + (1 if concerned else 0),
    )


def renewal_act(request_id: str) -> str:
    """Name a renewal among a device's acts, whose other ids are those of revocations."""
    return f"renewal {request_id}"


def renewing(record: DeviceRecord, request_id: str, *, brings_csr: bool) -> DeviceRecord:
    """Begin a renewal. One that is under way is overtaken by it.

    Raises:
        Conflict: the device can't be renewed in its state.
    """
    if record.renewal == request_id:
        return record
    if record.state not in IN_ITS_HUB:
        raise Conflict.because(
            f"{record.registration_id!r} is {record.state}; only a registered device can be renewed",
            field="registrationId",
        )
    if record.own_key and not brings_csr:
        raise Conflict.because(f"{record.registration_id!r} made its own key; its renewal needs a new csr", field="csr")
    return record.changed(
        renewal=request_id,
        pending=None,
        held=record.with_held(*record.abandoned()),
        acts=record.acted(renewal_act(request_id)),
    )


def successor_issued(record: DeviceRecord, made: Committed, *, own_key: bool, at: datetime) -> DeviceRecord:
    """Commit the certificate that a device is renewed with; one that an earlier renewal brought is revoked.

    Raises:
        Overtaken: another attempt has taken its place, or the device is not renewed any more.
    """
    certificate = _committed(record, made)
    if record.state not in IN_ITS_HUB:
        raise overtaken(record)
    before = record.find(record.next_certificate.serial_number) if record.next_certificate else None
    unused = [revoked_certificate(before, RevocationReason.SUPERSEDED, at)] if before else []
    return record.entered(
        DeviceState.RENEWING,
        at,
        f"certificate {certificate.serial_number} waits for the device",
        next_certificate=made.summary,
        bundle=made.bundle,
        own_key=own_key,
        sha256_thumbprints=thumbprints_with(record, made.sha256_thumbprint),
        pending=None,
        held=record.with_held(certificate, *unused),
        generation=record.generation + 1,
    )


def renewal_of(record: DeviceRecord) -> str | None:
    """Give the id of the request that has brought the certificate that a device is renewed with."""
    following = record.next_certificate
    held = record.find(following.serial_number) if following is not None else None
    return held.cause if held is not None and record.state is DeviceState.RENEWING else None


def renewed(record: DeviceRecord, request_id: str, *, hub: str, device_id: str, at: datetime) -> DeviceRecord:
    """Enter that a device uses the certificate that it was renewed with; a later renewal goes on.

    Raises:
        Overtaken: it is not renewed with what this request has brought any more.
    """
    following = record.next_certificate
    if following is None or renewal_of(record) != request_id:
        raise overtaken(record)
    present = record.certificate.serial_number if record.certificate else None
    former = record.find(present) if present else None
    ended = (
        [former.changed(state=CertificateState.SUPERSEDED, successor=following.serial_number)]
        if former and former.state in {CertificateState.ACTIVE, CertificateState.EXPIRED}
        else []
    )
    entered = record.entered(
        DeviceState.REGISTERED,
        at,
        f"renewed with certificate {following.serial_number}",
        certificate=following,
        next_certificate=None,
        unseen=False,
        renewal=None if record.renewal == request_id else record.renewal,
        assigned_hub=hub,
        device_id=device_id,
        held=record.with_held(*ended),
        generation=record.generation + 1,
    )
    told = Renewed(
        registration_id=record.registration_id,
        serial_number=following.serial_number,
        previous_serial_number=present,
        not_after=following.not_after,
        assigned_hub=hub,
    )
    return entered.announcing(told, request_id)
