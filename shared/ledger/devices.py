"""Devices with their certificates, found by their registration id.

A device, its certificates and the claim on its device id stand in one partition, so that an act is one transaction. It
is guarded by the device's row: whoever changes anything of a device replaces that row as it was read.

A serial number begins with its partition, so that a certificate is found by it alone.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from shared import acting
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.devices import DeviceRecord
from shared.domain.listing import NOTE_COUNTS, NOTE_STAYS, listing_of, under_way
from shared.domain.record import Record
from shared.errors import Conflict
from shared.ledger.certificates import certificate_place, certificate_row
from shared.ledger.changes import ChangeNotes
from shared.ledger.rows import Rows
from shared.ledger.table import Stale, Versioned, keyed, spread
from shared.ports.rows import Insert, Merge, Replace, Table
from shared.telemetry.metrics import DEVICES, STATE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from shared.domain.held_certificates import HeldCertificate
    from shared.ledger.rows import Key
    from shared.ports.rows import Step

_PREFIX_BITS = 14


def partition_of(registration_id: str) -> str:
    """Give the partition of a device: four hexadecimal digits, which its serial numbers begin with.

    The first two bits are 01: so a serial number has 20 octets and is positive (RFC 5280 section 4.1.2.2).
    """
    digest = int.from_bytes(sha256(registration_id.encode()).digest()[:2])
    return f"{1 << _PREFIX_BITS | digest >> (16 - _PREFIX_BITS):04x}"


class DeviceIdClaim(Record):
    """Which device a device id belongs to."""

    device_id: str
    registration_id: str


@dataclass(frozen=True, slots=True)
class ClaimedDeviceId:
    """A device id that somebody has asked for.

    Attributes:
        claim: as it is now; it may be another device's.
        is_new: whether it was made just now.
    """

    claim: Versioned[DeviceIdClaim]
    is_new: bool


NOTES_NAMED = 8
"""So many acts a record names the notes of."""


class UnsettledRecord(Record):
    """A device whose record the services do not follow yet. Whoever enters an act has a note of their own.

    Attributes:
        generation: of the record that they are to follow.
        note: names it, as the record does when the act was entered.
        since: when it was written.
        of_entry: whether nothing but the device's individual enrollment has to follow.
        act: that it was written for, as the record has it; ``None`` where nothing is done when the services follow.
        request: key of the request's row that is done then.
        late: names a worker that may shut the device's hub after others have let it in, and sees to that itself. Nobody
            else goes on with it while that worker may be at work.
    """

    registration_id: str
    generation: int
    since: datetime
    note: str | None = None
    of_entry: bool = False
    act: str | None = None
    request: str | None = None
    late: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Its partition and row."""
        named = self.late or self.note
        further = f"|{named}" if named is not None else ""
        return spread(self.registration_id), f"{self.registration_id}|{self.generation:08d}{further}"

    def may_be_entered(self, record: DeviceRecord | None) -> bool:
        """Tell whether the act that it announces may still be entered into a record."""
        return record is None or record.generation < self.generation

    def was_overtaken(self, record: DeviceRecord) -> bool:
        """Tell whether another act was entered in its place: its own was never written."""
        is_recent = record.generation - self.generation < NOTES_NAMED
        return self.late is None and self.note is not None and is_recent and self.note not in record.notes


class Devices:
    """The table of devices and certificates, and the index of devices that the services do not follow yet.

    A device is written with its certificates, which :class:`Rows` can't do: it writes one row at a time. So
    :meth:`insert` and :meth:`replace` compose transactions. As there, a write that is not the latest raises ``Stale``.

    A record that is at rest is noted before it changes, so that the directory follows; one that is not has its note.
    """

    @classmethod
    def of(cls, table: Callable[[str], Table], *, clock: Callable[[], datetime]) -> Devices:
        """Give those of the ledger whose tables these are, by name."""
        changes = ChangeNotes(table("directory"), clock=clock)
        return cls(identities=table("identities"), unsettled=table("unsettled"), changes=changes)

    def __init__(self, *, identities: Table, unsettled: Table, changes: ChangeNotes) -> None:
        self._table = identities
        self._devices = Rows(identities, DeviceRecord, key=lambda each: _place(each.registration_id))
        self._certificates = Rows(identities, CertificateRecord, key=lambda each: certificate_place(each.serial_number))
        self._claims = Rows(identities, DeviceIdClaim, key=lambda claim: _claimed(claim.device_id))
        self._unsettled_rows = unsettled
        self._unsettled = Rows(unsettled, UnsettledRecord, key=lambda each: each.key)
        self.changes = changes

    async def get(self, registration_id: str) -> Versioned[DeviceRecord] | None:
        """Find a device by its registration id."""
        return await self._devices.get(*_place(registration_id))

    async def group_of(self, registration_id: str) -> str | None:
        """Give the enrollment group of a device; ``None`` if it has none, or does not exist."""
        known = await self.get(registration_id)
        return known.record.enrollment_group if known else None

    async def insert(
        self, record: DeviceRecord, *, reserved: CertificateRecord | None = None
    ) -> Versioned[DeviceRecord]:
        """Record a device, and that its device id is its own.

        Args:
            record: the device.
            reserved: the certificate that is about to be made for it.

        Raises:
            Stale: it is known.
            Conflict: its id is the device id of another registration id.
        """
        stamped = _asked(None, record).changed(stamp=uuid.uuid4().hex)
        own = record.registration_id
        await self.changes.enter(own, None)
        with_it = [Insert(certificate_row(reserved))] if reserved is not None else []
        claim = Insert(keyed(*_claimed(own), DeviceIdClaim(device_id=own, registration_id=own)))
        try:
            return _counted(None, await self._write(stamped, [Insert(_row(stamped)), *with_it, claim]))
        except Stale:
            owner = await self.owner_of(own)
            if owner is None or await self.get(own) is not None:
                raise
        if owner != own:
            raise Conflict.because(
                f"the device id {own!r} belongs to the individual enrollment {owner!r}; delete that, which frees the "
                "device id unless a device has registered with it, or order under another registration id",
                field="registrationId",
            )
        # It had an individual enrollment before it was a device: what that has beside is not known here.
        stamped = stamped.changed(entry_settings=None)
        return _counted(None, await self._write(stamped, [Insert(_row(stamped)), *with_it]))

    async def replace(
        self,
        known: Versioned[DeviceRecord],
        record: DeviceRecord,
        *,
        reserved: CertificateRecord | None = None,
        signed: CertificateRecord | None = None,
    ) -> Versioned[DeviceRecord]:
        """Replace a device as it was read, and enter into its certificates what has changed of them.

        Args:
            known: as it was read.
            record: as it is wanted.
            reserved: a certificate that is about to be made for it.
            signed: a certificate that was made for it, with what is known of it now.

        Raises:
            Stale: it has changed since.
        """
        before = known.record
        if record.generation != before.generation and before.converged == before.generation:
            record = record.changed(followed_state=before.state)
        stamped = _asked(before, record).changed(stamp=uuid.uuid4().hex)
        await self._note(before, stamped)
        partition = partition_of(record.registration_id)
        steps: list[Step] = [Replace(_row(stamped), known.etag)]
        if reserved is not None:
            steps.append(Insert(certificate_row(reserved)))
        if signed is not None:
            steps.append(Merge(certificate_row(signed)))
        elsewhere = {each.serial_number for each in (reserved, signed) if each is not None}
        steps += [
            Merge({"PartitionKey": partition, "RowKey": f"c:{each.serial_number}", **_changed_columns(each)})
            for each in _changed(known.record, stamped)
            if each.serial_number not in elsewhere
        ]
        return _counted(before, await self._write(stamped, steps))

    async def _note(self, before: DeviceRecord, after: DeviceRecord) -> None:
        """Note a change that the directory is to follow, unless it belongs to one that is noted."""
        now = self.changes.clock()
        if under_way(before, now, within=NOTE_COUNTS):
            return
        if under_way(after, now, within=NOTE_STAYS) or listing_of(before) != listing_of(after):
            await self.changes.enter(before.registration_id, before.stamp)

    async def _write(self, stamped: DeviceRecord, steps: Sequence[Step]) -> Versioned[DeviceRecord]:
        etags = await self._table.write_together(steps)
        if etags is not None:
            return Versioned(stamped, etags[0])
        present = await self.get(stamped.registration_id)
        if present is not None and present.record.stamp == stamped.stamp:
            return present  # our own write: its answer got lost, and the SDK tried again
        raise Stale(stamped.registration_id)

    async def page(
        self, *, enrollment_group: str | None, size: int, continuation: str | None, unseen: bool = False
    ) -> tuple[Sequence[DeviceRecord], str | None]:
        """Read the table itself, which takes time and misses nothing: some devices, and the continuation.

        Whoever lists devices asks the directory.

        Args:
            enrollment_group: that they are in; ``None`` for any.
            size: of a page, at most.
            continuation: where it begins.
            unseen: whether those alone are meant that use a certificate which the ledger has never seen.
        """
        condition = "RowKey ge @first and RowKey lt @last"
        parameters: dict[str, str | bool] = {"first": "d:", "last": "d;"}
        if enrollment_group is not None:
            condition, parameters["group"] = f"{condition} and enrollmentGroup eq @group", enrollment_group
        if unseen:
            condition, parameters["unseen"] = f"{condition} and unseen eq @unseen", True
        return await self._devices.page(condition, parameters, size=size, continuation=continuation)

    async def certificates_of(self, registration_id: str) -> list[CertificateRecord]:
        """List every certificate that was ever recorded for a device."""
        found = self._certificates.list(
            "PartitionKey eq @partition and RowKey ge @first and RowKey lt @last and subject eq @subject",
            {"partition": partition_of(registration_id), "first": "c:", "last": "c;", "subject": registration_id},
        )
        return [each async for each in found]

    # --- what is to be done ---

    async def enter_unsettled(self, record: UnsettledRecord) -> None:
        """Note, before an act is written, that the services will have to follow it: so it can't be forgotten."""
        await self._unsettled.put(record)

    async def is_noted(self, record: UnsettledRecord) -> bool:
        """Tell whether a note is still there."""
        return await self._unsettled.get(*record.key) is not None

    async def leave_unsettled(self, record: UnsettledRecord) -> None:
        """Delete the note of an act that the services follow, or that was not entered."""
        await self._unsettled_rows.delete(*record.key)

    def unsettled(self) -> AsyncIterator[UnsettledRecord]:
        """List what the services may not follow yet."""
        return self._unsettled.list("", {})

    # --- device ids ---

    async def owner_of(self, device_id: str) -> str | None:
        """Tell which registration id a device id belongs to; hubs know case, and here none differs by it alone."""
        claim = await self._claims.get(*_claimed(device_id.lower()))
        return claim.record.registration_id if claim else None

    async def claim_device_id(self, device_id: str, registration_id: str) -> ClaimedDeviceId:
        """Give a device id to a registration id, unless it has an owner.

        One that is its own is written once more: whoever is about to give it back finds that it has changed.

        Raises:
            Stale: others are changing who has it.
        """
        claim = DeviceIdClaim(device_id=device_id.lower(), registration_id=registration_id)
        made = await self._claims.try_insert(claim)
        if made is not None:
            return ClaimedDeviceId(made, is_new=True)
        present = await self._claims.get(*_claimed(claim.device_id))
        if present is None:
            raise Stale(device_id)
        if present.record.registration_id == registration_id:
            present = await self._claims.replace(present, claim)
        return ClaimedDeviceId(present, is_new=False)

    async def give_back_device_id(self, claim: Versioned[DeviceIdClaim]) -> None:
        """Free a device id, unless it was claimed once more since."""
        # One that has changed was claimed once more, or released and taken by whoever wants it now.
        _ = await self._table.delete_unchanged(*_claimed(claim.record.device_id), claim.etag)

    async def claim_of(self, device_id: str, registration_id: str) -> Versioned[DeviceIdClaim] | None:
        """Find the claim of a registration id to a device id; ``None`` if it has none."""
        claim = await self._claims.get(*_claimed(device_id.lower()))
        return claim if claim is not None and claim.record.registration_id == registration_id else None


def _asked(before: DeviceRecord | None, record: DeviceRecord) -> DeviceRecord:
    """Say of what is new who the work under way is done for."""
    actor = acting.actor()
    return record if actor is None else record.asked_by(before, actor, acting.comment())


def _counted(before: DeviceRecord | None, known: Versioned[DeviceRecord]) -> Versioned[DeviceRecord]:
    """Count a device that shows another state than before."""
    shown = known.record.shown_state
    if before is None or before.shown_state is not shown:
        DEVICES.record(1, {STATE: shown.value})
    return known


def _row(record: DeviceRecord) -> dict[str, object]:
    return keyed(*_place(record.registration_id), record)


def _place(registration_id: str) -> Key:
    return partition_of(registration_id), f"d:{registration_id}"


def _claimed(device_id: str) -> Key:
    # A device id may have characters that a key may not.
    return partition_of(device_id), f"i:{sha256(device_id.encode()).hexdigest()[:40]}"


def _changed(before: DeviceRecord, after: DeviceRecord) -> list[HeldCertificate]:
    known = {each.serial_number: each for each in before.held}
    gone = [each for each in before.held if after.find(each.serial_number) is None]
    # What a record need not know any more was given up, or has expired: its row keeps what it was last.
    given_up = [each.changed(state=CertificateState.ABANDONED) for each in gone if not each.issued]
    changed = [each for each in after.held if each != known.get(each.serial_number)]
    return [*changed, *given_up]


def _changed_columns(each: HeldCertificate) -> dict[str, object]:
    columns = {
        "state": each.state.value,
        "revokedAt": each.revoked_at,
        "revocationReason": each.reason and each.reason.value,
        "successor": each.successor,
    }
    return {name: value for name, value in columns.items() if value is not None}
