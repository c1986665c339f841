"""What the services say against what the ledger says: the comparing half of reconciliation.

Pure. A record that the services do not follow yet is left out: what it wants is on its way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from shared.domain.attestations import AttestationKind, attestation_of
from shared.domain.certificates import CertificateState
from shared.domain.devices import IN_ITS_HUB, IN_SERVICE
from shared.domain.entries import kept_settings, own_settings, place_of, settings_apart
from shared.domain.findings import Difference, SubjectKind
from shared.domain.given_settings import given_device_id, outdated
from shared.domain.group_signers import accepted
from shared.domain.groups import STATUS, GroupState
from shared.domain.hub_authentication import SELF_SIGNED, lets_in
from shared.domain.requests import DELIVERY_LASTS
from shared.domain.treatments import FindingKind
from shared.domain.wanted import revoked_before, wanted
from shared.domain.words import DeviceState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from shared.domain.attestations import Entry
    from shared.domain.devices import DeviceRecord
    from shared.domain.given_settings import Given
    from shared.domain.groups import GroupRecord
    from shared.domain.own_certificates import Own
    from shared.domain.wanted import Wanted
    from shared.ports.hubs import HubIdentity

DPS = "DPS"
"""``where`` of a difference that is in the DPS."""

RESERVED_FOR = timedelta(days=1)
"""So long a serial number may wait for its signature."""

_WRITTEN_WITHIN = DELIVERY_LASTS
"""So long an entry that an operator asks for may take: the host ends a call over HTTP by then as well."""


class Unread:
    """Stands for what was not read."""


UNREAD: Final = Unread()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of one device; a part that was not read is not compared.

    Attributes:
        entry: its individual enrollment; ``None`` without one.
        registration: its registration record; ``None`` without one.
        identity: at the hub that the ledger has; ``None`` without one.
        elsewhere: identities under its device id at other hubs, by host name.
    """

    entry: Entry | Unread | None = UNREAD
    registration: Mapping[str, Any] | Unread | None = UNREAD
    identity: HubIdentity | Unread | None = UNREAD
    elsewhere: Mapping[str, HubIdentity] | Unread = UNREAD


def device_differences(record: DeviceRecord, seen: Seen, own: Own, now: datetime) -> Iterator[Difference]:
    """Give what differs about a device that is settled.

    If not all of its thumbprints are known, a certificate that is not in use shows as a rogue one: look closer then.
    """
    if not record.settled:
        return
    if not isinstance(seen.entry, Unread):
        yield from _entry(record, seen.entry, own, now)
    registration = seen.registration if not isinstance(seen.registration, Unread) else None
    moved = list(_moved(record, registration or {}, own.given))
    # The identity of a device that DPS has moved has gone with it: making it again would open a door.
    if not isinstance(seen.identity, Unread) and not (moved and seen.identity is None):
        yield from _identity(record, seen.identity, own)
    yield from moved
    if not isinstance(seen.elsewhere, Unread):
        yield from open_elsewhere(record, seen.elsewhere)
    yield from _reserved(record, now)


def needs_entry(record: DeviceRecord, now: datetime) -> bool:
    """Tell whether a device must have an individual enrollment: DPS would let it in by its group."""
    want = wanted(record, now)
    return want.own_entry or (want.shut and _could_come_in(record, now))


def _could_come_in(record: DeviceRecord, now: datetime) -> bool:
    return record.unseen or any(each.issued and not each.expired(now) for each in record.held)


def about(record: DeviceRecord, kind: FindingKind, where: str, ledger: str, service: str) -> Difference:
    """Give a difference about a device: what the ledger says, and what a service does."""
    return Difference(
        kind=kind,
        subject_kind=SubjectKind.DEVICE,
        subject=record.registration_id,
        ledger=ledger,
        service=service,
        where=where,
        enrollment_group=record.enrollment_group,
        certificate_authority=record.certificate.issuer if record.certificate else None,
    )


def _entry(record: DeviceRecord, entry: Entry | None, own: Own, now: datetime) -> Iterator[Difference]:
    asked_at = record.entry_asked_at
    if asked_at is not None and now - asked_at < _WRITTEN_WITHIN and not record.shut_out:
        return  # it is being written
    yield from _admission(record, entry, own, now)
    settings = own.given.settings
    if entry is None or settings is None or record.entry_settings is None:
        return
    behind = own.given.follows and record.entry_follows != own.given.digest
    # One that keeps its device out needs no settings, and one that is behind its group is brought along.
    if (behind and record.shut_out) or outdated(record, own.given, now):
        return
    if (apart := settings_apart(settings, own_settings(entry))) is not None:
        yield about(record, FindingKind.ENROLLMENT_SETTINGS, DPS, *apart)


def _admission(record: DeviceRecord, entry: Entry | None, own: Own, now: datetime) -> Iterator[Difference]:
    """Look at whom an individual enrollment lets in."""
    want = wanted(record, now)
    said = f"the device is {_state(record)}"
    disabled = entry is not None and entry.get(STATUS) == "disabled"
    if want.shut:
        if entry is not None and not disabled:  # whoever it lets in: with a key, a device needs no certificate of ours
            held = f"an individual enrollment lets it in, and accepts {attestation_of(entry).words}"
            yield about(record, FindingKind.DOOR_OPEN, DPS, said, held)
        elif entry is None and _could_come_in(record, now):
            yield about(record, FindingKind.DOOR_OPEN, DPS, said, "no individual enrollment keeps it out")
        return
    if want.own_entry and want.entry_disabled and not disabled:
        held = "its individual enrollment is enabled" if entry else "it does not have an individual enrollment"
        said = f"{said}, and its individual enrollment is disabled"
        yield about(record, FindingKind.DOOR_OPEN, DPS, said, held)
        return
    if entry is None:
        if want.own_entry and revoked_before(record, now):
            held = "no individual enrollment keeps out a certificate of it that is revoked"
            yield about(record, FindingKind.DOOR_OPEN, DPS, said, held)
        elif want.own_entry:
            yield about(
                record,
                FindingKind.ENROLLMENT_MISSING,
                DPS,
                f"{said}, and has an individual enrollment with its own certificates",
                "it does not have an individual enrollment",
            )
        return
    yield from _accepted_of(record, entry, want, own)


def _accepted_of(record: DeviceRecord, entry: Entry, want: Wanted, own: Own) -> Iterator[Difference]:
    """Look at what an individual enrollment accepts of a device that may come in."""
    said, disabled = f"the device is {_state(record)}", entry.get(STATUS) == "disabled"
    present = attestation_of(entry)
    admitted = frozenset(each.thumbprint for each in present.held)
    by_its_own = present.kind is AttestationKind.CLIENT_CERTIFICATES
    if not by_its_own or admitted - (own.in_use if own.all is None else own.all):
        what = "other certificates" if by_its_own else present.words
        yield about(record, FindingKind.ENROLLMENT_FOREIGN, DPS, said, f"its individual enrollment accepts {what}")
    elif disabled and not want.entry_disabled and record.state in IN_SERVICE:
        yield about(record, FindingKind.ENROLLMENT_DISABLED, DPS, said, "its individual enrollment is disabled")
    elif not disabled and (revoked := admitted & own.revoked):
        held = f"its individual enrollment accepts a certificate that is revoked: {_named(sorted(revoked))}"
        yield about(record, FindingKind.DOOR_OPEN, DPS, said, held)
    # What the ledger has never seen it can't put into an entry, which takes certificates whole.
    elif not disabled and record.in_use and admitted - own.unseen != own.in_use_at_dps - own.unseen:
        held = f"its individual enrollment accepts {_named(sorted(admitted), 'no certificate')}"
        uses = f"{said}, and uses {_named(sorted(own.in_use_at_dps))}"
        yield about(record, FindingKind.ENROLLMENT_CERTIFICATE, DPS, uses, held)


def _identity(record: DeviceRecord, identity: HubIdentity | None, own: Own) -> Iterator[Difference]:
    hub = record.assigned_hub or ""
    said = f"the device is {_state(record)}"
    if identity is None:
        if record.state in IN_ITS_HUB:
            yield about(record, FindingKind.IDENTITY_MISSING, hub, said, "the hub has no identity for it")
        return
    if record.shut_out or record.disabled:
        if identity.enabled:
            yield about(record, FindingKind.DOOR_OPEN, hub, said, "its identity is enabled")
        elif record.state is DeviceState.DELETED:
            yield about(record, FindingKind.IDENTITY_LEFT, hub, said, "the hub has an identity for it")
        return
    if record.state not in IN_ITS_HUB:
        return
    if not identity.enabled:
        why = f": {identity.reason}" if identity.reason else ""
        yield about(record, FindingKind.IDENTITY_DISABLED, hub, said, f"its identity is disabled{why}")
    yield from _taken(record, identity, own)


def _taken(record: DeviceRecord, identity: HubIdentity, own: Own) -> Iterator[Difference]:
    """Look at what a hub takes from a device."""
    unknown, hub = identity.thumbprints - own.in_use, record.assigned_hub or ""
    shown = _named(sorted(unknown))
    said = f"the device is {_state(record)}, and uses {_named(record.in_use, 'a certificate that was not seen')}"
    if identity.authentication != SELF_SIGNED:
        held = f"its identity is of the type {identity.authentication!r}: it lets in {lets_in(identity.authentication)}"
        yield about(record, FindingKind.IDENTITY_AUTHENTICATION, hub, said, held)
    elif not unknown:
        return
    elif own.all is None or unknown - own.all:
        held = f"its identity takes a certificate that was never issued here: {shown}"
        yield about(record, FindingKind.ROGUE_CERTIFICATE, hub, said, held)
    elif unknown & own.revoked:
        held = f"its identity takes a certificate that is revoked: {shown}"
        yield about(record, FindingKind.DOOR_OPEN, hub, said, held)
    else:
        held = f"its identity takes a certificate that it does not use any more: {shown}"
        yield about(record, FindingKind.IDENTITY_CERTIFICATE, hub, said, held)


def _moved(record: DeviceRecord, registration: Mapping[str, Any], given: Given) -> Iterator[Difference]:
    """Look where DPS has registered a device: the identity there lets it in, under whatever id."""
    place = place_of(registration)
    if registration.get("status") != "assigned" or place is None or record.state not in IN_ITS_HUB:
        return
    said, (hub, device_id) = f"the device is in {record.assigned_hub or 'no hub'}", place
    if device_id != record.device_id and device_id != given_device_id(record.registration_id, given):
        ours = f"{said} as {record.device_id!r}" if record.device_id else said
        yield about(record, FindingKind.HUB_CHANGED, DPS, ours, registered_otherwise(hub, device_id))
    elif hub.lower() != (record.assigned_hub or "").lower() or device_id != record.device_id:
        under = f" as {device_id!r}" if device_id != record.device_id else ""
        yield about(record, FindingKind.HUB_CHANGED, DPS, said, f"it is assigned to {hub}{under}")


def registered_otherwise(hub: str, device_id: str) -> str:
    """Say of a device that DPS has registered it under an id that nothing gives it."""
    return f"it is registered as {device_id!r} in {hub}, and has to register again"


def open_elsewhere(record: DeviceRecord, identities: Mapping[str, HubIdentity]) -> Iterator[Difference]:
    """Give the doors that are open to a device in other hubs than its own: it may have left its identity behind."""
    for hub, identity in identities.items():
        if identity.enabled and (record.shut_out or record.disabled):
            said = f"the device is {_state(record)}, and was in {record.assigned_hub or 'no hub'} last"
            yield about(record, FindingKind.DOOR_OPEN, hub, said, "this hub has an identity for it that is enabled")


def _reserved(record: DeviceRecord, now: datetime) -> Iterator[Difference]:
    for each in record.held:
        if each.state is CertificateState.RESERVED and each.recorded_at < now - RESERVED_FOR:
            said = f"serial number {each.serial_number} is reserved since {each.recorded_at:%Y-%m-%d %H:%M} UTC"
            yield about(record, FindingKind.SERIAL_RESERVED, "ledger", said, "no certificate was committed with it")


def _state(record: DeviceRecord) -> str:
    if record.on_hold:
        return "on hold"
    return f"{record.state}, and disabled" if record.disabled and not record.shut_out else str(record.state)


# --- registrations of a group ---


def taken_over(record: DeviceRecord, group: GroupRecord) -> Difference | None:
    """Give the difference of a device that another group has registered than its own; ``None`` if it is its own."""
    own = record.enrollment_group
    if own is None or own == group.enrollment_group or not record.in_use or record.shut_out:
        return None
    return about(
        record,
        FindingKind.TAKEN_OVER,
        DPS,
        f"it belongs to the enrollment group {own!r}",
        f"it was registered by the enrollment group {group.enrollment_group!r}",
    )


# --- groups ---


def group_differences(
    record: GroupRecord, entry: Entry | None, thumbprints: Mapping[str, str], over: Collection[str] = ()
) -> Iterator[Difference]:
    """Give what differs about a group that is settled.

    Args:
        record: as the ledger has it.
        entry: as DPS has it; ``None`` if it does not.
        thumbprints: SHA-256 of the group's CAs, by their names.
        over: names of those of its CAs that are revoked, and of revoked ones that others have put into its entry.
    """
    differs = partial(
        Difference,
        subject_kind=SubjectKind.GROUP,
        subject=record.enrollment_group,
        where=DPS,
        enrollment_group=record.enrollment_group,
        certificate_authority=record.issuer,
    )
    if not record.settled or record.state is GroupState.REQUESTED:
        return
    # One that the ledger has as enabled is being disabled since its own CA was revoked.
    on_its_way = record.authorities if record.state is GroupState.ENABLED else frozenset[str]()
    open_by = sorted(_lets_in(entry, thumbprints, over) - on_its_way)
    if open_by:
        yield differs(
            kind=FindingKind.DOOR_OPEN,
            certificate_authority=open_by[0],
            ledger=f"the group is {record.state}, and the CA {_named(open_by)} is revoked",
            service="the group is enabled, and accepts it",
        )
    if record.state is GroupState.DELETED:
        if entry is not None and not open_by:
            yield differs(kind=FindingKind.GROUP_LEFT, ledger="the group is deleted", service="the group is there")
        return
    if entry is None:
        yield differs(
            kind=FindingKind.GROUP_MISSING, ledger=f"the group is {record.state}", service="the group is not there"
        )
        return
    if entry.get(STATUS) != record.state and not open_by:
        yield differs(
            kind=FindingKind.GROUP_STATUS,
            ledger=f"the group is {record.state}",
            service=f"the group is {entry.get(STATUS)}",
        )
    expected, held = accepted(record, entry, thumbprints)
    if expected != held and not open_by:
        yield differs(
            kind=FindingKind.GROUP_CERTIFICATES, ledger=f"it accepts {expected}", service=f"it accepts {held}"
        )
    noted = record.entry_settings
    if noted is not None and (apart := settings_apart(noted, kept_settings(entry))) is not None:
        yield differs(kind=FindingKind.GROUP_SETTINGS, ledger=apart[0], service=apart[1])


def unknown_group(entry: Entry, authorities: Collection[str], over: Collection[str]) -> Difference:
    """Give the difference of a group that the ledger does not know, and that lets devices in by CAs of ours.

    Args:
        entry: as DPS has it.
        authorities: names of those CAs.
        over: of those among them that are revoked.
    """
    named = sorted(over or authorities)
    return Difference(
        kind=FindingKind.DOOR_OPEN if over else FindingKind.GROUP_UNKNOWN,
        subject_kind=SubjectKind.GROUP,
        subject=str(entry["enrollmentGroupId"]).lower(),
        ledger=f"no such group was ever asked for{f', and the CA {_named(named)} is revoked' if over else ''}",
        service=f"the group is enabled, and lets devices in by the CA {_named(named)}",
        where=DPS,
        certificate_authority=named[0],
    )


def _lets_in(entry: Entry | None, thumbprints: Mapping[str, str], authorities: Collection[str]) -> frozenset[str]:
    """Name those of some CAs by which an entry lets devices in."""
    if entry is None or entry.get(STATUS) == "disabled":
        return frozenset()
    held = {each.thumbprint for each in attestation_of(entry).held}
    return frozenset(each for each in authorities if thumbprints.get(each) in held)


def _named(values: Iterable[str], none: str = "no CA") -> str:
    return ", ".join(values) or none
