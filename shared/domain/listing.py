"""What the directory says of a device: what a list shows of it, and the places where it is found.

The directory is a projection of the device records, in a partition for each question. It is late by a while, so a
record that is about to change has a note; see :mod:`shared.ledger.changes`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from shared.domain.devices import IN_SERVICE, OPEN_STATES
from shared.domain.held_certificates import Purpose
from shared.domain.revocation import is_revocable
from shared.domain.words import DeviceState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from shared.domain.devices import DeviceRecord

BY_ID, BY_EXPIRY, BY_REGISTRATION, BY_RENEWAL = "id", "expires", "registered", "renewed"
BY_THUMBPRINT = "thumbprint"
NOTE_COUNTS = timedelta(minutes=30)
"""So long after its last change of state a device that is worked on is not noted again."""

NOTE_STAYS = timedelta(hours=1)
"""So long its note stays. The difference is for clocks that differ, and for workers that pause."""

TAGS_INDEXED = 20
"""Tags of a device by which it is found; it may have more."""

type Place = tuple[str, str]
"""Partition and row."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the directory has of a device.

    Attributes:
        columns: of each of its rows.
        places: where these rows are; that of its id is not among them.
        thumbprints: of its last certificates, SHA-1 and SHA-256. They name the device for ever.
        month: in which its certificate expires, as ``2027-05``; ``None`` if nobody waits for that.
    """

    registration_id: str
    columns: Mapping[str, Any]
    places: frozenset[Place]
    thumbprints: frozenset[str]
    month: str | None

    @property
    def state(self) -> str:
        """The state that it shows."""
        return str(self.columns["shownState"])

    @property
    def revocable_in(self) -> str | None:
        """The hub that it is in, or ``""``, if the revocation of its group is about it."""
        return revocable_in(self.columns)


def under_way(record: DeviceRecord, now: datetime, *, within: timedelta) -> bool:
    """Tell whether a device is being worked on, so that its record changes again soon.

    The note of the change that began this stays as long, and no further one is needed. What is under way for longer
    waits for something, perhaps for good, and counts as at rest.
    """
    if record.updated_at < now - within:
        return False
    if record.converged != record.generation or record.state is DeviceState.ORDERED:
        return True
    by_service = record.purpose is Purpose.ORDER and not record.registers_itself
    return record.state is DeviceState.ISSUED and by_service


def listing_of(record: DeviceRecord) -> Listing:
    """Give what the directory is to have of a device."""
    certificate = record.certificate
    state = record.shown_state
    registered_at = _registered_at(record)
    columns = {
        "registrationId": record.registration_id,
        "shownState": state.value,
        "enrollmentGroup": record.enrollment_group,
        "assignedHub": record.assigned_hub,
        "issuer": certificate.issuer if certificate else None,
        "orderId": record.order_id,
        "expiresAt": certificate.not_after if certificate else None,
        "registeredAt": registered_at,
        "renewedAt": certificate.not_before if certificate else None,
        "inService": True if certificate and state in IN_SERVICE else None,
        "revocable": is_revocable(record),
        "shown": json.dumps(shown(record), separators=(",", ":"), ensure_ascii=False),
    }
    held = (record.certificate, record.next_certificate)
    return Listing(
        registration_id=record.registration_id,
        columns={name: value for name, value in columns.items() if value is not None},
        places=frozenset(_places(record, registered_at)),
        thumbprints=frozenset((*(each.thumbprint for each in held if each), *record.sha256_thumbprints)),
        month=f"{certificate.not_after:%Y-%m}" if certificate and state in IN_SERVICE else None,
    )


def revocable_in(columns: Mapping[str, Any]) -> str | None:
    """Give the hub that a device is in, or ``""``, if the revocation of its group is about it; by a row's columns."""
    return str(columns.get("assignedHub") or "") if columns.get("revocable") else None


def group_place(name: str) -> str:
    """Give the partition of a group's devices."""
    return f"group|{name}"


def is_group_place(partition: str) -> bool:
    """Tell whether a partition is that of a group's devices."""
    return partition.startswith(group_place(""))


def state_place(state: DeviceState) -> str:
    """Give the partition of the devices in a state."""
    return f"state|{state.value}"


def hub_place(name: str) -> str:
    """Give the partition of a hub's devices."""
    return f"hub|{name}"


def authority_place(name: str) -> str:
    """Give the partition of the devices whose certificate a CA has signed."""
    return f"issuer|{name}"


def order_place(order_id: str) -> str:
    """Give the partition of an order's devices."""
    return f"order|{order_id}"


def tag_place(name: str, value: str) -> str:
    """Give the partition of the devices with a tag: by a hash, since a key can't have all characters that a tag can."""
    return f"tag|{sha256(f'{name}={value}'.encode()).hexdigest()[:40]}"


def time_row(at: datetime, registration_id: str = "") -> str:
    """Give the row of a device in a partition that is ordered by time; without a device, where the time begins."""
    return f"{at:%Y-%m-%dT%H:%M:%S}|{registration_id}"


def tags_of(tags: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Give the tags that are not objects, with a dot for each level; any other value as JSON has it."""
    for name, value in tags.items():
        if isinstance(value, dict):
            yield from tags_of(value, f"{above}{name}.")
        elif not isinstance(value, list):
            yield f"{above}{name}", value if isinstance(value, str) else json.dumps(value)


def _places(record: DeviceRecord, registered_at: datetime | None) -> Iterator[Place]:
    own, certificate, state = record.registration_id, record.certificate, record.shown_state
    yield state_place(state), own
    yield order_place(record.order_id), own
    if record.enrollment_group:
        yield group_place(record.enrollment_group), own
    if record.assigned_hub:
        yield hub_place(record.assigned_hub), own
    for name, value in sorted(tags_of(record.tags or {}))[:TAGS_INDEXED]:
        yield tag_place(name, value), own
    if registered_at is not None:
        yield BY_REGISTRATION, time_row(registered_at, own)
    if certificate is not None:
        yield authority_place(certificate.issuer), own
        if state in IN_SERVICE:
            yield BY_EXPIRY, time_row(certificate.not_after, own)
            yield BY_RENEWAL, time_row(certificate.not_before, own)


def _registered_at(record: DeviceRecord) -> datetime | None:
    """Give when its order or request had it registered; ``None`` if it is not, or that was too many changes ago."""
    before: DeviceState | None = None
    found = None
    for entry in record.history:
        if entry.state is DeviceState.REGISTERED and before in OPEN_STATES:
            found = entry.at
        elif entry.state is DeviceState.ORDERED:
            found = None
        before = entry.state
    return found


def shown(record: DeviceRecord) -> dict[str, Any]:
    """Give what is shown of a device, without its history: in lists, and wherever it is looked at alone."""
    held = (("certificate", record.certificate), ("nextCertificate", record.next_certificate))
    return {
        "registrationId": record.registration_id,
        "state": record.shown_state.value,
        "enrollmentGroup": record.enrollment_group,
        "orderId": record.order_id,
        "deviceId": record.device_id,
        "assignedHub": record.assigned_hub,
        **{name: each.model_dump(mode="json", by_alias=True) if each else None for name, each in held},
        "reason": record.reason,
        "updatedAt": record.updated_at.isoformat(),
    }
