"""What an older ledger takes back of its devices: acts on a device's record, see :mod:`shared.domain.devices`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.devices import IN_ITS_HUB, OUT_OF_SERVICE, REORDERABLE, DeviceRecord
from shared.domain.history import HISTORY_LIMIT, HistoryEntry
from shared.domain.own_certificates import thumbprints_with
from shared.domain.revocation import former_revoked, revoked, revoked_certificate
from shared.domain.wanted import revoked_before, wanted
from shared.domain.words import CertificateKind, DeviceState, RevocationReason

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from shared.domain.attestations import Entry
    from shared.domain.certificates import RevocationRecord
    from shared.domain.held_certificates import HeldCertificate
    from shared.domain.issuance import Committed

JUMP = 1000
"""So far the numbers of CRLs jump: nobody has seen a list between (RFC 5280 section 5.2.3 wants them to grow)."""

CAUSE = "restoration"
"""What a CA, a group or a certificate was made for, where nobody knows that any more."""

_TAKEN_BACK = "taken back after the ledger was put back"
_TAKEN_OVER = "taken over from the services after the ledger was lost"
_ACT = "restoration"


def adopted(
    registration_id: str,
    certificate: HeldCertificate,
    made: Committed,
    *,
    group: str | None,
    place: tuple[str, str] | None,
    own_key: bool,
    at: datetime,
) -> DeviceRecord:
    """Give the record of a device that the ledger does not know.

    Args:
        registration_id: of the device.
        certificate: that it has.
        made: the same, as it was stored.
        group: whose CA has signed it.
        place: its hub and its device id there; ``None`` if it is in none.
        own_key: whether the device made its key itself.
        at: the present time.
    """
    hub, device_id = place or (None, None)
    state = DeviceState.REGISTERED if place else DeviceState.ISSUED
    note = f"{_TAKEN_BACK}: certificate {certificate.serial_number}"
    return DeviceRecord(
        registration_id=registration_id,
        state=state,
        order_id=certificate.cause,
        purpose=certificate.purpose,
        updated_at=at,
        enrollment_group=group,
        device_id=device_id,
        assigned_hub=hub,
        certificate=made.summary,
        bundle=made.bundle or None,
        own_key=own_key,
        sha256_thumbprints=(made.sha256_thumbprint,),
        held=(certificate,),
        history=(HistoryEntry(at=at, state=state, note=note),),
    )


def taken_over(
    registration_id: str,
    *,
    group: str | None,
    place: tuple[str, str] | None,
    thumbprints: Collection[str],
    at: datetime,
) -> DeviceRecord:
    """Give the record of a device that the services have, and whose certificate nobody has.

    Args:
        registration_id: of the device.
        group: that DPS has registered it by, or that has the CA of its certificate; ``None`` if that is not known.
        place: its hub and its device id there; ``None`` if DPS has not assigned it to one.
        thumbprints: of the certificates that its hub lets in, or else its entry, as these have them.
        at: the present time.
    """
    hub, device_id = place or (None, None)
    state = DeviceState.REGISTERED if place else DeviceState.ISSUED
    shown = ", ".join(sorted(thumbprints)) or "unknown"
    note = f"{_TAKEN_OVER}: its certificate was not seen, its thumbprint is {shown}"
    return DeviceRecord(
        registration_id=registration_id,
        state=state,
        order_id=_ACT,
        updated_at=at,
        enrollment_group=group,
        device_id=device_id,
        assigned_hub=hub,
        unseen=True,
        sha256_thumbprints=tuple(sorted(thumbprints)),
        history=(HistoryEntry(at=at, state=state, note=note),),
    )


def ordered_meanwhile(record: DeviceRecord, again: DeviceRecord) -> DeviceRecord:
    """Give the record of a device that its order has got meanwhile; whatever it had before is over.

    Args:
        record: of the device, as it was then.
        again: the device as it is known again.
    """
    return again.changed(
        history=(*record.history, *again.history)[-HISTORY_LIMIT:],
        held=(*record.with_held(*record.abandoned()), *again.held),
        acts=record.acts,
        own_entry=record.own_entry,
        entry_settings=record.entry_settings,
        generation=record.generation + 1,
        converged=record.converged,
        doors=record.doors,
        announcements=record.announcements,
        audited=record.audited,
    )


def placed(record: DeviceRecord, place: tuple[str, str], *, at: datetime) -> DeviceRecord:
    """Enter the hub that a device has an identity in, where DPS does not say that any more.

    Args:
        record: of the device.
        place: its hub and its device id there.
        at: the present time.
    """
    if record.assigned_hub is not None:
        return record
    hub, device_id = place
    where: dict[str, object] = {"assigned_hub": hub, "device_id": device_id}
    note = f"{_TAKEN_OVER}: {hub} has its identity"
    if record.state is DeviceState.ISSUED:
        return record.entered(DeviceState.REGISTERED, at, note, **where)
    return record.noted(at, note, **where, generation=record.generation + record.shut_out)


def with_own_entry(record: DeviceRecord, settings: Entry) -> DeviceRecord:
    """Enter that a device has an individual enrollment: it may be there to keep out what its group would let in.

    Args:
        record: of the device.
        settings: what the entry has beside certificates and status.
    """
    if record.own_entry:
        return record
    return record.changed(own_entry=True, entry_settings=settings)


def kept_out(record: DeviceRecord, reason: RevocationReason, *, at: datetime) -> DeviceRecord:
    """Keep a device out that DPS keeps out: as a list says, or else on hold, which can be undone.

    Args:
        record: of the device.
        reason: that a list gives for a certificate of its entry; a hold if no list has it.
        at: when a list says that it was revoked, or else the present time.
    """
    if record.shut_out and not (record.on_hold and reason is not RevocationReason.CERTIFICATE_HOLD):
        return record
    occasion = f"{reason}-{at:%Y%m%dT%H%M%SZ}"
    return revoked(record, act=f"{_ACT} {occasion}", reason=reason, at=at, correlation=_ACT, occasion=occasion)


def keeps_out(record: DeviceRecord, now: datetime) -> bool:
    """Tell whether a record keeps out a device, or one of its certificates: so a door of it has to be shut."""
    if record.shut_out or record.disabled:
        return True
    return wanted(record, now).own_entry and (record.entry_disabled or revoked_before(record, now))


def shut_again(record: DeviceRecord, *, where: str, at: datetime) -> DeviceRecord:
    """Have the doors of a device shut once more: one of them was found open, and the ledger keeps it out."""
    if not record.settled:
        return record
    return record.noted(at, f"{where} let it in when the ledger was put back", generation=record.generation + 1)


def knows_disabled(record: DeviceRecord, entry: Entry) -> bool:
    """Tell whether a record says why an individual enrollment is disabled: an operator wants that, or has seen it."""
    change = record.entry_change
    return record.entry_disabled or (change is not None and change.etag == entry.get("etag"))


def could_be_ordered(record: DeviceRecord, at: datetime) -> bool:
    """Tell whether a device may have got a certificate at a time by being ordered anew, and by nothing else.

    Args:
        record: as the ledger has it. Of what was done to it since it was put back it knows as well.
        at: when the certificate was made.
    """
    if record.state in OUT_OF_SERVICE:  # it was deleted, if it was not before, and ordered then
        return not record.on_hold and record.updated_at <= at
    return record.state in REORDERABLE


def renewed_meanwhile(
    record: DeviceRecord, certificate: HeldCertificate, made: Committed, *, is_used: bool, at: datetime
) -> DeviceRecord:
    """Enter a certificate that a device has got meanwhile. What is out of service has it revoked like all others.

    Args:
        record: of the device.
        certificate: that it has got.
        made: the same, as it was stored.
        is_used: whether its hub lets it in with this one alone.
        at: the present time.
    """
    note = f"{_TAKEN_BACK}: certificate {certificate.serial_number}"
    common: dict[str, object] = {
        "bundle": made.bundle or record.bundle,
        "sha256_thumbprints": thumbprints_with(record, made.sha256_thumbprint),
        "pending": None,
    }
    if record.state in OUT_OF_SERVICE:
        reason = record.revoked or RevocationReason.CESSATION_OF_OPERATION
        ended = revoked_certificate(certificate, reason, record.updated_at)
        certificate = ended.changed(changed_in=record.generation + 1)
        common["generation"] = record.generation + 1
        if not record.on_hold:
            return record.noted(at, note, held=(*record.held, certificate), **common)
    if is_used or not (record.state in IN_ITS_HUB or record.on_hold):
        former = [
            each.changed(
                state=CertificateState.SUPERSEDED if each.state is CertificateState.ACTIVE else each.state,
                successor=certificate.serial_number,
            )
            for each in record.held
            if each.state is CertificateState.ACTIVE or (each.on_hold and not each.successor)
        ]
        common |= {
            "certificate": made.summary,
            "next_certificate": None,
            "renewal": None,
            "unseen": False,
            "held": (*record.with_held(*former), certificate),
        }
        if record.state is DeviceState.RENEWING:
            return record.entered(DeviceState.REGISTERED, at, note, **common)
        return record.noted(at, note, **common)
    # One that waited before was revoked, as lists say, or used since, and then nobody uses it any more.
    before = record.find(record.next_certificate.serial_number) if record.next_certificate else None
    replaced = (
        [before.changed(state=CertificateState.SUPERSEDED, successor=certificate.serial_number)] if before else []
    )
    common |= {
        "next_certificate": made.summary,
        "renewal": certificate.cause,
        "held": (*record.with_held(*replaced), certificate),
        "generation": record.generation + bool(replaced),
    }
    if record.on_hold:
        return record.noted(at, note, **common)
    return record.entered(DeviceState.RENEWING, at, note, **common)


def found_revoked(record: DeviceRecord, serial_number: str, reason: RevocationReason, at: datetime) -> DeviceRecord:
    """Revoke what a published list names: the device if it uses the certificate, otherwise the certificate alone."""
    held = record.find(serial_number)
    if held is None or held.final or (held.on_hold and reason is RevocationReason.CERTIFICATE_HOLD):
        return record
    occasion = f"{serial_number}-{reason}-{at:%Y%m%dT%H%M%SZ}"
    act = f"{_ACT} {occasion}"
    if serial_number in record.in_use:
        return revoked(record, act=act, reason=reason, at=at, correlation=_ACT, occasion=occasion)
    return former_revoked(record, serial_number, act=act, reason=reason, at=at, correlation=_ACT, occasion=occasion)


def of_nobody(revocation: RevocationRecord) -> CertificateRecord:
    """Give the row of a certificate of which its revocation alone is known: OCSP answers by rows."""
    return CertificateRecord(
        serial_number=revocation.serial_number,
        kind=CertificateKind.DEVICE,
        state=CertificateState.REVOKED,
        subject="",
        issuer=revocation.issuer,
        cause=_ACT,
        recorded_at=revocation.revoked_at,
        not_after=revocation.not_after,
        revoked_at=revocation.revoked_at,
        revocation_reason=revocation.reason,
    )
