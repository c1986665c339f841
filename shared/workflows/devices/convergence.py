"""Brings DPS, the hubs, the lists and the events to what a device's record wants.

It can be started by anybody, any number of times, at any moment; what is to be done follows from the record alone.

**A door that is to be shut is shut without a condition**, each one whatever the others answer, and it is written even
if it looks shut. **A door that is to be opened is opened only under the ETag of what was read before the record was.**
So a converger that is late can't open a door that somebody else shuts. Who shuts writes the record first and the door
after it: either the record that was read says shut already, or the ETag has changed, or the shutting write is still to
come. At last the record is replaced as it was read, which tells that it wanted nothing else meanwhile. Who shut a
door and finds that it was late says so in the record, so that the door is opened again.

**An older ledger opens nothing.** It may not know who was revoked since, and a shut door may be all that tells.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.acting import acting
from shared.contracts.events import EVENTS
from shared.domain.doors import ClosedDoor, Door
from shared.domain.entries import place_of
from shared.domain.entry_changes import overtaken as entry_overtaken
from shared.domain.given_settings import Given, outdated
from shared.domain.requests import DELIVERY_LASTS
from shared.domain.upkeep import brought_along, converged, opened_again, to_be_followed, told
from shared.domain.wanted import may_take_revoked, wanted
from shared.errors import Conflict, LedgerBehind, Overtaken, PreconditionFailed
from shared.ledger.table import Stale
from shared.telemetry import metrics
from shared.telemetry.spans import step
from shared.workflows.devices.changes import change, device_of, unsettled
from shared.workflows.devices.hub_doors import own_place
from shared.workflows.devices.own_entries import Made
from shared.workflows.devices.reopened import reopened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
    from datetime import datetime, timedelta

    from shared.domain.devices import DeviceRecord
    from shared.domain.wanted import Wanted
    from shared.ledger.devices import Devices, UnsettledRecord
    from shared.ledger.table import Versioned
    from shared.ports.hubs import HubIdentity
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.devices.books import Books
    from shared.workflows.devices.entry_changes import EntryChanges
    from shared.workflows.devices.hub_doors import HubDoors, Place
    from shared.workflows.devices.hub_openings import HubOpenings
    from shared.workflows.devices.leaves import Leaves
    from shared.workflows.devices.left_requests import LeftRequests
    from shared.workflows.devices.own_entries import OwnEntries
    from shared.workflows.devices.whereabouts import Whereabouts
    from shared.workflows.intake.outbox import Clock, Outbox

_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was read of the services before the record was."""

    entry: dict[str, Any] | None
    identity: HubIdentity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What was done: the doors that were seen closed, and which settings of its group the device's own entry has."""

    closed: Sequence[ClosedDoor] = ()
    follows: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConverger:
    """Makes what a device's record wants true at the services.

    Attributes:
        check_ledger: sees that the ledger is not an older one, before a door is opened; raises ``LedgerBehind``.
    """

    devices: Devices
    books: Books
    provisioning: ProvisioningService
    entries: EntryChanges
    own_entries: OwnEntries
    leaves: Leaves
    left: LeftRequests
    whereabouts: Whereabouts
    hub_doors: HubDoors
    hub_openings: HubOpenings
    outbox: Outbox
    check_ledger: Callable[[], Awaitable[None]]
    clock: Clock

    @step("converge device", "device_factory.registration_id")
    async def converge(
        self, registration_id: str, *, entered: DeviceRecord | None = None, noted: bool = False
    ) -> Versioned[DeviceRecord]:
        """Have the services follow a device's record, and tell what was announced.

        Args:
            registration_id: the device.
            entered: as its caller has entered it: its note goes even if others have followed a later act.
            noted: whether the notes stay.

        Returns:
            The device, which the services follow.

        Raises:
            NotFound: the device does not exist.
            Deferred: a service is throttling, or others keep changing the device.
            LedgerBehind: a door is to be opened, and the ledger is an older one.
        """
        late, own, made = False, [each for each in (entered,) if each is not None and not each.settled], Made()
        for _ in range(_ROUNDS):
            known = await device_of(self.devices, registration_id)
            await self.own_entries.take_back(known.record, made)
            if known.record.entry_change is not None and not known.record.shut_out:
                if known.record.disabled:  # whatever DPS says
                    await self.hub_doors.shut(known.record, wanted(known.record, self.clock()).reason)
                if known.record.entry_change.opens:
                    await self.check_ledger()
                with suppress(Stale):  # somebody else is at it
                    await self.entries.bring_about(registration_id)
                own.append(known.record)
                continue
            if late and known.record.settled:
                # Somebody else has settled it; and what was written here may have come after that.
                known = await change(self.devices, registration_id, to_be_followed, at=self.clock())
                own.append(known.record)
            if known.record.settled:
                if not noted:
                    await self.forget(*own)
                return known
            try:
                known, done = await self._follow_record(known, made, late=late)
                await self.tell(known.record)
                await self.left.write_down(known.record)
                settled = await self._enter(known, done)
            except (Stale, Conflict, PreconditionFailed, Overtaken):
                late = True  # somebody else was here in between: what they wanted is looked at
                continue
            if not noted:
                await self.forget(*own, settled.record)
            return settled
        raise Overtaken(f"{registration_id!r} is being changed by others")

    async def bring_along(self, registration_id: str) -> Given:
        """Have a device's own entry have what its group has by now; give that. Errors are those of :meth:`converge`."""
        record = (await device_of(self.devices, registration_id)).record
        wants = await self.own_entries.given(record)
        if record.settled and outdated(record, wants, self.clock()):
            changed = await change(self.devices, registration_id, brought_along, at=self.clock())
            await self.converge(registration_id, entered=changed.record)
        return wants

    async def forget(self, *records: DeviceRecord) -> None:
        """Delete the notes of what this worker has entered, or has brought about."""
        notes = [unsettled(each, self.clock()) for each in records]
        for note in {each.key: each for each in notes}.values():
            await self.devices.leave_unsettled(note)

    async def tell(self, record: DeviceRecord) -> None:
        """Publish what is announced; the same event has the same id, however often it is sent."""
        for each in record.announcements:
            with acting(each.actor):  # whoever brings it about
                await self.outbox.publish(
                    EVENTS[each.kind].model_validate(each.data),
                    subject=record.registration_id,
                    correlation_id=each.correlation,
                    occasion=each.occasion,
                )

    async def _enter(self, known: Versioned[DeviceRecord], done: _Done) -> Versioned[DeviceRecord]:
        record = known.record
        followed = record.converged != record.generation
        doors = wanted(record, self.clock()).doors if followed else None
        # The entry of a device that is shut out was written as that wants it.
        after = entry_overtaken(record) if record.shut_out else record
        if followed:
            known_settings = {} if done.follows else record.entry_settings
            after = after.changed(
                entry_follows=done.follows,
                entry_settings=known_settings if record.entry_settings is None else record.entry_settings,
            )
        settled = await self.devices.replace(
            known, told(converged(after, record.generation, doors, done.closed), record.announcements, record.audited)
        )
        if followed and record.shut_out and record.history:
            since = record.history[-1].at
            metrics.REVOCATION_DURATION.record((self.clock() - since).total_seconds())
        return settled

    async def sweep(self, *, older_than: timedelta) -> int:
        """Go on with what was left lying: its worker was killed, or a service was down.

        Args:
            older_than: younger ones are somebody's work.

        Returns:
            How many devices the services follow now.

        Raises:
            ExceptionGroup: some can't be brought about yet; each one was tried.
        """
        noted, now = [each async for each in self.devices.unsettled()], self.clock()
        due = [each for each in noted if each.since <= now - (DELIVERY_LASTS if each.late else older_than)]
        to_come = [each for each in due if each.may_be_entered(await self._record(each))]
        _tell([each for each in noted if each.late is None and each not in to_come], now)
        failures, done = list[Exception](), 0
        for each in due:
            try:
                if not await self.devices.is_noted(each):
                    continue  # its worker was here since it was listed
                record = await self._record(each)
                if each.since > now - DELIVERY_LASTS and each.may_be_entered(record):
                    continue  # its worker may still be about to write the act
                done += await self._go_on(record, each)
                await self.left.end(each)
                await self.devices.leave_unsettled(each)
            except Exception as error:  # noqa: BLE001 - one that can't be brought about must not hold up the others
                failures.append(error)
        if failures:
            raise ExceptionGroup(f"{len(failures)} of {len(due)} devices can't be brought about yet", failures)
        return done

    async def _record(self, note: UnsettledRecord) -> DeviceRecord | None:
        known = await self.devices.get(note.registration_id)
        return known.record if known is not None else None

    async def _go_on(self, record: DeviceRecord | None, note: UnsettledRecord) -> int:
        """Converge a device whose note was left. If it is settled, its worker may have come late and broken off."""
        if record is None or note.may_be_entered(record) or note.was_overtaken(record):
            return 0  # the act that it announced was not written
        if record.settled and (note.of_entry or (note.late is not None and record.shut_out)):
            return 0  # its worker has taken back what came late, or that was wanted
        if record.settled:
            await change(self.devices, note.registration_id, to_be_followed, at=self.clock())
        await self.converge(note.registration_id)
        return 1

    async def _follow_record(
        self, known: Versioned[DeviceRecord], made: Made, *, late: bool
    ) -> tuple[Versioned[DeviceRecord], _Done]:
        """Bring the services to what a record wants; give it as it is then, and what was done."""
        if known.record.converged == known.record.generation:
            return known, _Done()
        if known.record.shut_out:
            return await self._shut(known)
        if known.record.disabled:
            await self.hub_doors.shut(known.record, wanted(known.record, self.clock()).reason)
        generation = known.record.generation
        located = (await self.whereabouts.follow(known)).record
        seen = await self._look(located)
        known = await device_of(self.devices, located.registration_id)  # after its doors were looked at
        if known.record.generation != generation or _whereabouts(known.record) != _whereabouts(located):
            raise Stale(located.registration_id)
        if late and known.record.converged == generation:
            raise Stale(located.registration_id)  # who has settled it meanwhile did not see what was shut here
        follows = await self._open(known.record, wanted(known.record, self.clock()), seen, made)
        return known, _Done(follows=follows)

    # --- shutting ---

    async def _shut(self, known: Versioned[DeviceRecord]) -> tuple[Versioned[DeviceRecord], _Done]:
        """Shut every door that answers, raise what the others said, and see that all are closed."""
        known = await self._note_reopened(known)
        want = wanted(known.record, self.clock())
        try:
            given, entered = await self._shut_known_doors(known.record, want)
            known, places = await self._shut_where_it_is(known, want)
        except Stale:
            raise
        except Exception:
            with suppress(Exception):  # what failed before tells why it is not done
                await self.hub_doors.shut_others(known.record, want.reason)
            raise
        others = await self.hub_doors.shut_others(known.record, want.reason, *places, delete=want.deleted)
        listed = dict.fromkeys(each.issuer for each in want.listed)
        follows, closed = await self._check_shut(known.record, given, entered=entered)
        return known, _Done(closed=[*closed, *others, *self._told_by(listed)], follows=follows)

    async def _note_reopened(self, known: Versioned[DeviceRecord]) -> Versioned[DeviceRecord]:
        """Note which doors others have opened, before they are shut and look as if they had been closed all along."""
        opened = await reopened(known.record, self.provisioning, self.hub_doors)
        noted = opened_again(known.record, opened, self.clock())
        # As it was read: another worker may have shut those doors since, and have told that they are closed.
        return known if noted is known.record else await self.devices.replace(known, noted)

    async def _shut_known_doors(self, record: DeviceRecord, want: Wanted) -> tuple[Given | None, bool]:
        """Shut DPS and the hub that the ledger has; give what the entry is to have, and whether there is one."""
        leaf = await self.leaves.newest(record)
        doors: list[Awaitable[Any]] = [self.hub_doors.shut(record, want.reason), self.books.enter(record, want)]
        doors += [self.own_entries.shut(record, leaf)] if leaf is not None else []
        outcomes = await asyncio.gather(*doors, return_exceptions=True)
        failures = [each for each in outcomes if isinstance(each, BaseException)]
        for failure in sorted(failures, key=lambda each: isinstance(each, LedgerBehind)):
            raise failure  # above all one of a door: a list that may not be made yet hides nothing
        return next((each for each in outcomes if isinstance(each, Given)), None), leaf is not None

    async def _shut_where_it_is(
        self, known: Versioned[DeviceRecord], want: Wanted
    ) -> tuple[Versioned[DeviceRecord], list[Place]]:
        """See where DPS has a device that it keeps out by now, and shut it out there; give where it has been."""
        before, registration = known.record, await self.whereabouts.registration(known.record)
        known = await self.whereabouts.enter(known, registration)
        if known.record.generation != before.generation:
            raise Stale(before.registration_id)
        if own_place(known.record) != own_place(before):
            await self.hub_doors.shut(known.record, want.reason)
        if want.deleted:
            await self.hub_doors.remove(known.record)
            if registration is not None:  # as it was before that has looked at the record again
                name, etag = known.record.registration_id, registration.get("etag")
                await self.provisioning.delete_registration(name, etag=etag)
        return known, [each for each in (own_place(before), place_of(registration or {})) if each is not None]

    def _told_by(self, authorities: Iterable[str]) -> Iterator[ClosedDoor]:
        """Give the lists and answers that name a certificate: OCSP answers by its row, and the list is published."""
        for authority in authorities:
            yield self._closed(Door.OCSP, authority)
            yield self._closed(Door.CRL, authority)

    def _closed(self, door: Door, where: str) -> ClosedDoor:
        now = self.clock()
        return ClosedDoor(door=door, where=where, since=now, checked_at=now)

    async def _check_shut(
        self, record: DeviceRecord, wants: Given | None, *, entered: bool
    ) -> tuple[str | None, list[ClosedDoor]]:
        """Read back that the doors are closed, and give them after what its entry follows: acknowledged is not done."""
        closed, follows = list[ClosedDoor](), None
        if entered:
            enrollment = await self.provisioning.get_enrollment(record.registration_id)
            if enrollment is None or enrollment.get("provisioningStatus") != "disabled":
                raise Overtaken(f"DPS does not shut out {record.registration_id!r}: its enrollment is not disabled")
            closed.append(self._closed(Door.DPS, "DPS"))
            follows = await self.own_entries.followed_by(record, enrollment, wants)
        return follows, [*closed, *await self.hub_doors.check_shut(record)]

    # --- opening ---

    async def _look(self, record: DeviceRecord) -> _Seen:
        entry = await self.provisioning.get_enrollment(record.registration_id)
        identity = None
        if record.assigned_hub and record.device_id:
            identity = await self.hub_doors.identity(record.assigned_hub, record.device_id)
        return _Seen(entry=entry, identity=identity)

    async def _open(self, record: DeviceRecord, want: Wanted, seen: _Seen, made: Made) -> str | None:
        """Let a device in with the certificates that it uses; tell which settings of its group its own entry has.

        Raises:
            Conflict, PreconditionFailed, Stale: something is not as it was seen any more.
        """
        if not want.identity_enabled:
            await self.hub_doors.shut(record, want.reason)
        await self.check_ledger()
        await self.books.enter(record, want)
        leaves = await self.leaves.in_use(want, seen.entry)
        follows = await self.own_entries.open(record, want, seen.entry, leaves, made)
        if want.identity_enabled and seen.identity is not None:
            await self.hub_openings.open(record, seen.identity, want.reason)
        if want.identity_enabled and may_take_revoked(record, self.clock()):
            await self.hub_openings.take_no_revoked(record, want.reason)
        return follows

    async def follow(self, known: Versioned[DeviceRecord]) -> Versioned[DeviceRecord]:
        """See where DPS has a device now, and enter it if that is another hub than the ledger has.

        One that is kept out is kept out there as well.

        Raises:
            Deferred: DPS is assigning a hub to it at this moment.
        """
        followed = await self.whereabouts.follow(known)
        is_out = followed.record.disabled or followed.record.shut_out
        if not is_out or own_place(followed.record) == own_place(known.record):
            return followed
        changed = await change(self.devices, known.record.registration_id, brought_along, at=self.clock())
        return await self.converge(known.record.registration_id, entered=changed.record)


def _tell(noted: Sequence[UnsettledRecord], now: datetime) -> None:
    oldest = min((each.since for each in noted), default=now)
    metrics.UNSETTLED_AGE.record(max(0, (now - oldest).total_seconds()))
    metrics.UNSETTLED_DEVICES.record(len(noted))


def _whereabouts(record: DeviceRecord) -> tuple[object, ...]:
    """Give what must not have changed since the doors were looked at."""
    return record.generation, record.assigned_hub, record.device_id
