"""Individual enrollments: one device's own entry in DPS, which decides before any group.

An enabled one lets a single device in, with its own certificate; a disabled one shuts out a device whose group would
let it in (Microsoft: "How to disenroll or revoke a device").
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from shared import acting
from shared.contracts.answers_groups import Enrollment
from shared.domain.attestations import leaf_attestation
from shared.domain.entries import (
    device_id_of,
    new_enrollment,
    own_settings,
    values_of,
    whole,
    with_named,
    with_own_settings,
)
from shared.domain.entry_changes import asked_for_of, decided, wish_of, with_wish, withdrawn
from shared.domain.entry_wishes import EntryWish
from shared.domain.given_settings import UNKNOWN
from shared.domain.upkeep import audited
from shared.domain.wanted import wanted
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed
from shared.ledger.table import Stale
from shared.workflows.devices.changes import change, enter, unsettled
from shared.workflows.devices.entry_acts import Act, change_to
from shared.workflows.devices.entry_changes import busy, named
from shared.workflows.entry_certificates import leaves_of
from shared.workflows.groups.entries import check_hubs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from shared.contracts.groups import IndividualEnrollmentDefinition
    from shared.domain.attestations import Entry
    from shared.domain.devices import DeviceRecord
    from shared.domain.given_settings import Given
    from shared.ledger.devices import ClaimedDeviceId, Devices
    from shared.ledger.table import Versioned
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.entry_changes import EntryChanges
    from shared.workflows.devices.entry_checks import EntryChecks
    from shared.workflows.devices.own_entries import OwnEntries
    from shared.workflows.intake.outbox import Clock

_ATTEMPTS = 8

type Expectation = Callable[[str | None], None]
"""Sees that an entry has an ETag with which an operator wants it changed; ``None`` is that of one that does not exist.

It raises ``PreconditionFailed`` if not.
"""


def as_it_is(_etag: str | None) -> None:
    """Have an entry be changed whatever it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndividualEnrollments:
    """Reads and changes individual enrollments, and keeps those that shut out revoked devices."""

    devices: Devices
    checks: EntryChecks
    changes: EntryChanges
    own_entries: OwnEntries
    converger: DeviceConverger
    provisioning: ProvisioningService
    resource: DpsCaCertificates | None
    clock: Clock

    async def get(self, registration_id: str) -> Enrollment:
        """Read an enrollment, as it is shown.

        Raises:
            NotFound: it does not exist.
        """
        entry = await self.find(registration_id)
        if entry is None:
            raise NotFound.because(
                f"{registration_id!r} has no individual enrollment; if it belongs to a group, that decides about it",
                field="registrationId",
            )
        return Enrollment.model_validate(entry)

    async def find(self, registration_id: str) -> Entry | None:
        """Read an enrollment as DPS holds it, ``None`` if it does not exist."""
        return await self.provisioning.get_enrollment(registration_id)

    async def put(
        self,
        registration_id: str,
        definition: IndividualEnrollmentDefinition,
        *,
        expects: Expectation = as_it_is,
    ) -> tuple[Enrollment, bool]:
        """Create an enrollment, or change what the definition names of the one that is there.

        Args:
            registration_id: the device.
            definition: what is wanted.
            expects: sees that it is as it was read.

        Returns:
            The enrollment as it is now, and whether it was created.

        Raises:
            Rejected: a certificate is unfit, or a hub is not linked.
            Conflict: it would let a revoked certificate in.
            PreconditionFailed: it is not as expected.
            Deferred: somebody else is changing it, or the ledger is an older one.
        """
        await self.converger.check_ledger()
        await check_hubs(self.resource, definition)
        claims: list[ClaimedDeviceId] = []
        put = partial(self._put, registration_id, definition, claims)
        try:
            written, present = await self._carry_out(registration_id, expects, put)
        except Exception:
            if any(each.is_new for each in claims):
                with suppress(Exception):  # why the entry is not changed is what its operator wants to know
                    await self.changes.give_back(claims[-1].claim)
            raise
        if written is None:  # others have deleted it since
            raise busy(registration_id)
        return Enrollment.model_validate(written), present is None

    async def _put(
        self,
        registration_id: str,
        definition: IndividualEnrollmentDefinition,
        claims: list[ClaimedDeviceId],
        present: Entry | None,
        device: DeviceRecord | None,
    ) -> Act:
        _check_not_shut(device)
        leaves = leaves_of(definition)
        await self.checks.check_device_id(registration_id, definition, present)
        wants = await self._given(device, present)
        entry = with_named(present or _made(registration_id, wants), definition, definition.device_id)
        if definition.provisioning_status is not None:
            entry["provisioningStatus"] = definition.provisioning_status
        attests = present is None or definition.model_fields_set & {"certificate", "secondary_certificate"}
        if attests:
            entry["attestation"] = await self.checks.attestation(entry, definition, leaves, device)
        await self.checks.check_certificates(entry)
        for field, leaf in leaves.items():
            await self.checks.claim_key(registration_id, leaf, field, device)
        claims.append(await self.checks.claim_device_id(registration_id, entry))
        values, settings, follows = values_of(definition), own_settings(entry), None
        if (present is not None and asked_for_of(device) is not None) or wants.follows:
            # What it does not name is not taken over from the entry: others may have put it there.
            before = with_own_settings({"registrationId": registration_id}, wants.settings or {})
            settings = own_settings(with_named(before, definition, definition.device_id))
        if wants.follows and device is not None and device.entry_follows != wants.digest:
            values = whole(settings, present)  # the entry has, or a new one would have, other settings than the group
        if wants.follows and not values_of(definition):
            settings, follows = device_id_of(settings), wants.digest
        return Act(
            wish=self._wish(settings, disabled=entry.get("provisioningStatus") == "disabled"),
            change=change_to(
                present,
                values=values,
                follows=follows,
                device_id=definition.device_id,
                status=definition.provisioning_status,
                attestation=entry["attestation"] if attests else None,
                freed=_device_id(present) if present and _device_id(present) != _device_id(entry) else None,
            ),
            entry=entry,
        )

    async def disable(self, registration_id: str, *, expects: Expectation = as_it_is) -> Enrollment:
        """Shut a device out of DPS: disable its enrollment, or make a disabled one for a device of a group.

        Raises:
            NotFound: it has no enrollment, and this app did not issue its certificate.
            Conflict: it is shut out already, which is not changed by others.
            PreconditionFailed: the enrollment is not as expected.
            Deferred: somebody else is changing it.
        """
        written, _ = await self._carry_out(registration_id, expects, partial(self._disable, registration_id))
        if written is None:  # others have deleted it since
            raise busy(registration_id)
        return Enrollment.model_validate(written)

    async def _disable(self, registration_id: str, present: Entry | None, device: DeviceRecord | None) -> Act:
        asked_for, wants = asked_for_of(device), await self._given(device, present)
        entry = dict(present) if present else _made(registration_id, wants)
        if present is None:
            entry["attestation"] = leaf_attestation(*await self.checks.present_certificates(registration_id, device))
        is_known = present is not None and asked_for is not None
        settings = device_id_of(asked_for or {}) if wants.follows else asked_for if is_known else own_settings(entry)
        wish = self._wish(settings, disabled=True)
        change = change_to(
            present,
            status="disabled",
            attestation=entry["attestation"] if present is None else None,
            values=whole(own_settings(entry), None) if present is None and wants.follows else {},
            follows=device.entry_follows if present is not None and device is not None else wants.digest,
        )
        return Act(wish=wish, change=change, entry={**entry, "provisioningStatus": "disabled"})

    async def delete(self, registration_id: str, *, expects: Expectation = as_it_is) -> None:
        """Delete an enrollment, if there is one: a group decides about the device again.

        Raises:
            Conflict: it shuts out a revoked certificate, which a group would let in.
            PreconditionFailed: it is not as expected.
        """
        await self.converger.check_ledger()
        await self._carry_out(registration_id, expects, self._delete)

    async def _delete(self, present: Entry | None, device: DeviceRecord | None) -> Act | None:
        if present is None and (device is None or not device.own_entry):
            return None
        _check_not_shut(device)
        if device is not None:
            self._check_not_needed(device)
        freed = _device_id(present) if present else None
        return Act(wish=self._wish(None, disabled=False), change=change_to(present, gone=True, freed=freed), entry=None)

    async def _given(self, device: DeviceRecord | None, present: Entry | None) -> Given:
        if device is None or (present is not None and device.entry_settings is None):
            return UNKNOWN  # it is as others have made it
        return await self.own_entries.given(device)

    def _wish(self, settings: Mapping[str, Any] | None, *, disabled: bool) -> EntryWish:
        """Say what is wanted: an entry with these settings, or none."""
        return EntryWish(
            own_entry=settings is not None,
            entry_disabled=disabled,
            entry_settings=dict(settings or {}),
            entry_asked_at=self.clock(),
        )

    # --- carried out ---

    async def _carry_out(
        self,
        registration_id: str,
        expects: Expectation,
        decide: Callable[[Entry | None, DeviceRecord | None], Awaitable[Act | None]],
    ) -> tuple[Entry | None, Entry | None]:
        """Enter what an operator wants into the device's record, if there is one, and have DPS follow.

        Returns:
            The entry as DPS has it now, and as it was before.

        Raises:
            PreconditionFailed: the entry is not as the operator expects it.
        """
        before, has_written = None, False
        for _ in range(_ATTEMPTS):
            # Read before the device is: who shuts it out writes the device first and the entry after it.
            present = await self.provisioning.get_enrollment(registration_id)
            if not has_written:
                expects(present["etag"] if present is not None else None)
                before = present
            known = await self.devices.get(registration_id)
            if known is not None and known.record.entry_change is not None:
                await self.converger.converge(registration_id)  # what was decided before comes first
                continue
            act = await decide(present, known.record if known else None)
            if act is None:
                return present, before
            try:
                entered = await self._enter(known, act) if known is not None else None
            except Stale:
                continue  # others have changed the device since it was looked at
            if entered is not None and entered.entry_change is not None:
                return await self._see_through(entered, act.change.by), before
            written, has_written = await self._write(act, registration_id, present), True
            if known is not None or await self.devices.get(registration_id) is None:
                return written, before
            # It was ordered meanwhile, and its record does not say yet what is wanted of the entry.
        raise busy(registration_id)

    async def _enter(self, known: Versioned[DeviceRecord], act: Act) -> DeviceRecord:
        """Enter what is wanted of the entry of a device that is known, and what is to be changed in it for that.

        That of a device that is shut out stays as it is, so there is nothing to change.

        Raises:
            Stale: the device has changed since it was looked at.
        """
        record = known.record
        if record.shut_out:
            after = with_wish(record, act.wish.changed(entry_asked_at=None))
            return (await self.devices.replace(known, after)).record
        after = audited(decided(record, act.change, act.wish), acting.audited())
        return (await enter(self.devices, known, after, at=self.clock())).record

    async def _see_through(self, entered: DeviceRecord, by: str) -> Entry | None:
        """Have DPS follow what was entered, and give its entry then; what it does not take is not wanted any more."""
        registration_id, hindered = entered.registration_id, busy(entered.registration_id)
        for _ in range(_ATTEMPTS):
            try:
                outcome = await self.changes.bring_about(registration_id)
            except Stale:
                continue
            except Deferred as throttled:
                hindered = throttled
                break
            record = outcome.device.record
            if record.settled:
                await self.devices.leave_unsettled(unsettled(entered, self.clock()))
            elif record.converged == record.generation and not record.announcements:
                await self.converger.converge(registration_id)  # the services follow; only the audit log is to say so
            if outcome.refusal is not None:
                raise outcome.refusal
            if outcome.by == by:
                return outcome.entry
            _check_not_shut(record)
            if wish_of(record).changed(entry_asked_at=entered.entry_asked_at) == wish_of(entered):
                return await self.find(registration_id)  # somebody else has brought it about
            raise hindered
        await change(self.devices, registration_id, partial(withdrawn, by=by), at=self.clock())
        raise hindered

    async def _write(self, act: Act, registration_id: str, present: Entry | None) -> Entry | None:
        """Write the entry of a device that the ledger does not know: nobody else is to follow."""
        if act.entry == present:
            return present
        written = None
        freed = await self.changes.claimed(registration_id, act.change.freed)
        try:
            if act.entry is not None:
                etag = present["etag"] if present is not None else None
                written = await self.provisioning.put_enrollment(act.entry, etag=etag)
            elif present is not None:
                await self.provisioning.delete_enrollment(registration_id, etag=present["etag"])
        except PreconditionFailed as changed:
            raise busy(registration_id) from changed
        except Conflict as made:
            if present is None:
                raise busy(registration_id) from made
            raise
        if freed is not None:
            await self.changes.give_back(freed)
        return written

    def _check_not_needed(self, device: DeviceRecord) -> None:
        """See that an earlier, revoked certificate of a device does not get back in by its group."""
        if wanted(device.changed(own_entry=False, entry_disabled=False), self.clock()).own_entry:
            raise Conflict.because(
                f"{named(device.registration_id)} admits the device's present certificate and no other: an earlier "
                "one was revoked, and its group would let that in; disable the enrollment, or delete the device",
                field="registrationId",
            )


def _made(registration_id: str, wants: Given) -> Entry:
    """Give a new entry with what it is to have, or for which nothing was asked."""
    entry = new_enrollment(registration_id)
    return with_own_settings(entry, wants.settings) if wants.settings else entry


def _device_id(entry: Entry) -> str:
    return str(entry.get("deviceId") or entry["registrationId"])


def _check_not_shut(device: DeviceRecord | None) -> None:
    """See that an entry does not shut its device out.

    Raises:
        Conflict: it does.
    """
    if device is not None and device.shut_out:
        reason = device.revoked or device.state
        raise Conflict.because(
            f"{named(device.registration_id)} keeps out a device that is {device.state} ({reason}), and is not "
            "changed by others; a hold is undone by reinstating the device, any other revocation is final",
            field="registrationId",
        )
