"""Differences about identities in hubs that are not those which the ledger has of its devices. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.domain.entries import place_of
from shared.domain.findings import Difference, FindingRecord, FindingState, SubjectKind
from shared.domain.hub_authentication import CERTIFICATE_AUTHORITY, NONE, SELF_SIGNED, lets_in
from shared.domain.identities_seen import IdentitySeen
from shared.domain.reconciliation import about
from shared.domain.treatments import FindingKind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from shared.domain.devices import DeviceRecord
    from shared.domain.own_certificates import Own
    from shared.ports.hubs import HubIdentity

_LEAVES_WITHIN = timedelta(minutes=10)
"""So long after it has assigned another hub DPS may still be taking the identity out of the hub before."""

NEVER = "no such device was ever ordered"


def identity_seen(identity: HubIdentity) -> IdentitySeen:
    """Give what a finding keeps of an identity."""
    return IdentitySeen(device_id=identity.device_id, thumbprints=_sorted(identity))


def is_home(record: DeviceRecord, hub: str, device_id: str) -> bool:
    """Tell whether an identity is the one that the ledger has of a device."""
    return (record.assigned_hub or "").lower() == hub.lower() and record.device_id == device_id


def lets_in_by_certificate(identity: HubIdentity) -> bool:
    """Tell whether an identity lets in who has a certificate."""
    return bool(identity.thumbprints) or identity.authentication == CERTIFICATE_AUTHORITY


def lets_anybody_in(identity: HubIdentity) -> bool:
    """Tell whether an identity lets in anybody at all."""
    return identity.authentication != NONE and (identity.authentication != SELF_SIGNED or bool(identity.thumbprints))


def assigned_to(registration: Mapping[str, Any] | None, hub: str, device_id: str) -> bool:
    """Tell whether DPS has assigned a device to an identity."""
    place = place_of(registration or {})
    return place is not None and (place[0].lower(), place[1]) == (hub.lower(), device_id)


def may_be_moving(registration: Mapping[str, Any] | None, now: datetime) -> bool:
    """Tell whether DPS is assigning a device, or may still be removing its identity from the hub before.

    Whatever the reprovision policy says of data, DPS takes the identity out of that hub (Microsoft: "IoT Hub device
    reprovisioning concepts").
    """
    if registration is None:
        return False
    if registration.get("status") == "assigning":
        return True
    at = registration.get("lastUpdatedDateTimeUtc")
    return bool(at) and datetime.fromisoformat(str(at)) > now - _LEAVES_WITHIN


def elsewhere(record: DeviceRecord, hub: str, identity: HubIdentity, own: Own) -> Difference:
    """Give the difference of an enabled identity that is a device's by its id, and not by its place.

    Args:
        record: of the device, which may come in.
        hub: that has the identity.
        identity: as it is there.
        own: what was ever issued to the device.
    """
    takes, kind = identity.thumbprints, FindingKind.IDENTITY_UNKNOWN
    held = _held(identity)
    if revoked := takes & own.revoked:
        kind, held = FindingKind.DOOR_OPEN, f"takes a certificate that is revoked: {', '.join(sorted(revoked))}"
    elif takes and own.all is not None and takes <= own.all:
        kind, held = FindingKind.IDENTITY_LEFT, "takes the device's own certificates"
    elif takes:
        held = f"{held}, which is not among the device's certificates"
    said = (
        f"the device is {record.state}, as {record.device_id or record.registration_id!r} in "
        f"{record.assigned_hub or 'no hub'}"
    )
    shown = f"this hub has the identity {identity.device_id!r}, which is enabled and {held}"
    return replace(about(record, kind, hub, said, shown), identity=identity_seen(identity))


def left_behind(record: DeviceRecord, hub: str, identity: HubIdentity) -> Difference:
    """Give the difference of a disabled identity of a deleted device, in another hub than its own.

    Args:
        record: of the device.
        hub: that has the identity.
        identity: as it is there.
    """
    shown = f"this hub has the identity {identity.device_id!r}, which is disabled"
    found = about(record, FindingKind.IDENTITY_LEFT, hub, f"the device is {record.state}", shown)
    return replace(found, identity=identity_seen(identity))


def unknown_identity(hub: str, identity: HubIdentity, registration: Mapping[str, Any] | None) -> Difference:
    """Give the difference of an identity that the ledger knows no device for.

    Args:
        hub: that has the identity.
        identity: as it is there; it lets in who has a certificate.
        registration: that DPS has under its id; ``None`` without one.
    """
    return Difference(
        kind=FindingKind.IDENTITY_UNKNOWN,
        subject_kind=SubjectKind.DEVICE,
        subject=identity.device_id,
        ledger=NEVER,
        service=f"its identity is enabled, and {_held(identity)}; {_registered(registration)}",
        where=hub,
        identity=identity_seen(identity),
    )


def named_before(difference: Difference, before: FindingRecord | None) -> Difference:
    """Give the difference of an unknown identity with whose certificates it takes, if that was seen before."""
    if before is None or before.state in FindingRecord.ENDED - {FindingState.CLOSED}:
        return difference
    if before.identity != difference.identity or before.ledger.partition("; ")[0] != difference.ledger:
        return difference
    return replace(
        difference,
        ledger=before.ledger,
        enrollment_group=before.enrollment_group,
        certificate_authority=before.certificate_authority,
    )


def lets_in_device(difference: Difference, record: DeviceRecord, taken: Collection[str], own: Own) -> Difference:
    """Give the difference of an unknown identity that takes certificates of a device of ours.

    Args:
        difference: of the identity.
        record: of the device.
        taken: thumbprints of its certificates that the identity takes.
        own: what was ever issued to the device.
    """
    revoked = own.revoked & frozenset(taken)
    is_open = bool(revoked) or record.shut_out or record.disabled
    state = "on hold" if record.on_hold else f"{record.state}, and disabled" if record.disabled else str(record.state)
    whose = f"{', '.join(sorted(revoked or taken))} is a certificate of the device {record.registration_id!r}"
    is_revoked = ", and is revoked" if revoked else ""
    return replace(
        difference,
        kind=FindingKind.DOOR_OPEN if is_open else difference.kind,
        ledger=f"{difference.ledger.partition('; ')[0]}; {whose}, which is {state}{is_revoked}",
        enrollment_group=record.enrollment_group,
        certificate_authority=record.certificate.issuer if record.certificate else None,
    )


def _registered(registration: Mapping[str, Any] | None) -> str:
    if registration is None:
        return "DPS does not have a registration under this id"
    return f"DPS has a registration under this id, in {registration.get('assignedHub') or 'no hub'}"


def _held(identity: HubIdentity) -> str:
    if identity.authentication == SELF_SIGNED:
        return f"takes the certificate {', '.join(_sorted(identity))}"
    return f"lets in {lets_in(identity.authentication)}"


def _sorted(identity: HubIdentity) -> tuple[str, ...]:
    return tuple(sorted(identity.thumbprints))
