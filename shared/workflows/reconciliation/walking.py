"""Walks ledger, DPS, hubs, bundles and the vault in pages, and gives what differs.

Each page costs a call or two: a page of registrations, of individual enrollments or of a hub's identities, or one
query for as many devices of a hub as it takes. What looks different on a page is looked at alone. A step ends where the
budget does, also amid a page; the next one reads the page again, and goes on with what comes next on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.domain.entries import place_of
from shared.domain.findings import Difference, SubjectKind
from shared.domain.groups import GroupState
from shared.domain.passes import Stage
from shared.domain.reconciliation import (
    Seen,
    needs_entry,
    taken_over,
)
from shared.domain.treatments import FindingKind
from shared.domain.unknown_devices import unknown_device
from shared.rules.hub_queries import CHARACTERS, characters
from shared.workflows.many import AT_ONCE, PAGE, gathered
from shared.workflows.reconciliation.budget import LOOK
from shared.workflows.reconciliation.bundles import bundle_of
from shared.workflows.reconciliation.identities import marked_by
from shared.workflows.reconciliation.steps import Looked, Step, look_at, looked_after, step_of, turn_of, why

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from shared.domain.devices import DeviceRecord
    from shared.domain.findings import FindingRecord
    from shared.domain.groups import GroupRecord
    from shared.domain.passes import ReconciliationRecord
    from shared.ledger.devices import Devices
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.devices.linked_hubs import LinkedHubs
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.authorities import AuthorityLook
    from shared.workflows.reconciliation.budget import Budget
    from shared.workflows.reconciliation.bundles import BundleLook
    from shared.workflows.reconciliation.enrollments import EnrollmentLook
    from shared.workflows.reconciliation.groups import GroupLook
    from shared.workflows.reconciliation.identities import IdentityLook
    from shared.workflows.reconciliation.identity_pages import IdentityPages
    from shared.workflows.reconciliation.looking import DeviceLook
    from shared.workflows.reconciliation.steps import Look

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Takes the steps of a pass."""

    devices: Devices
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    linked: LinkedHubs
    look: DeviceLook
    authorities: AuthorityLook
    groups: GroupLook
    enrollments: EnrollmentLook
    identities: IdentityLook
    identity_pages: IdentityPages
    bundles: BundleLook
    clock: Clock
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def step(self, place: ReconciliationRecord, budget: Budget) -> Step:
        """Compare what comes next in a pass, in each stage but ``gone``."""
        steps: dict[Stage, Callable[[ReconciliationRecord, Budget], Awaitable[Step]]] = {
            Stage.AUTHORITIES: self._authorities,
            Stage.GROUPS: self._groups,
            Stage.ENROLLMENTS: self._enrollments,
            Stage.REGISTRATIONS: self._registrations,
            Stage.IDENTITIES: self.identity_pages.step,
            Stage.DEVICES: self._devices,
            Stage.BUNDLES: self._bundles,
            Stage.PASSWORDS: self._passwords,
        }
        return await steps[place.stage](place, budget)

    async def look_at(self, looks: Mapping[str, Look], room: Callable[[], float]) -> Looked:
        """Look at things alone, as :func:`look_at` does."""
        return await look_at(looks, room, self._gate)

    async def again(self, difference: Difference, budget: Budget) -> Sequence[Difference]:
        """Look once more at what a difference is about."""
        match difference.subject_kind:
            case SubjectKind.GROUP:
                return await self.groups.differences(difference.subject, budget)
            case SubjectKind.AUTHORITY:
                return await self.authorities.differences(difference.subject)
            case SubjectKind.DEVICE if difference.kind is FindingKind.BUNDLE_WITHOUT_CERTIFICATE:
                return await self.bundles.differences(*bundle_of(difference), budget)
            case SubjectKind.DEVICE if difference.identity is not None:
                return await self._identity_again(difference, difference.identity.device_id, budget)
            case SubjectKind.DEVICE:
                return await self._device_again(difference, budget)

    async def _identity_again(self, difference: Difference, device_id: str, budget: Budget) -> Sequence[Difference]:
        found = await self.identities.differences(difference.where, device_id, budget)
        is_unknown = any(each.kind is FindingKind.IDENTITY_UNKNOWN for each in found)
        # Whose certificates it takes shows when the devices are compared, and not here.
        return (difference,) if is_unknown and difference.kind is FindingKind.DOOR_OPEN else found

    async def _device_again(self, difference: Difference, budget: Budget) -> Sequence[Difference]:
        if await self.devices.get(difference.subject) is not None:
            return await self.look.differences(difference.subject, budget)
        found = await self.enrollments.differences(difference.subject, budget)
        if found or difference.kind is FindingKind.ENROLLMENT_UNKNOWN:
            return found
        budget.dps()
        registration = await self.provisioning.get_registration(difference.subject)
        return (difference,) if registration is not None else ()

    # --- CAs ---

    async def _authorities(self, place: ReconciliationRecord, _budget: Budget) -> Step:
        known = await self.authorities.in_use()
        looked = await self.look_at(
            {each.name: partial(self.authorities.differences, each.name) for each in known}, lambda: AT_ONCE
        )
        return Step(
            place=place.entered(Stage.GROUPS),
            looked_at=len(known),
            differences=looked.differences,
            unread=looked.unread,
        )

    # --- groups ---

    async def _groups(self, place: ReconciliationRecord, budget: Budget) -> Step:
        following = place.entered(Stage.ENROLLMENTS)
        here = [each.enrollment_group for each in await self._compared(place)]
        here += [] if place.enrollment_group else await self.groups.unknown(budget)
        looks = {each: partial(self.groups.differences, each, budget) for each in here if place.comes(each)}
        looked = await self.look_at(looks, lambda: budget.operations)
        return step_of(place, following, looks, looked)

    async def _compared(self, place: ReconciliationRecord) -> list[GroupRecord]:
        only = place.enrollment_group
        return [each async for each in self.groups.known() if only in {None, each.enrollment_group}]

    # --- individual enrollments ---

    async def _enrollments(self, place: ReconciliationRecord, budget: Budget) -> Step:
        budget.dps()
        page, continuation = await self.provisioning.page_of_enrollments(size=PAGE, continuation=place.continuation)
        following = place.entered(Stage.REGISTRATIONS)
        if continuation:
            following = place.entered(Stage.ENROLLMENTS, continuation=continuation)
        entries = {identifier: each for each in page if place.comes(identifier := _id_of(each))}
        if place.enrollment_group:
            entries = await self._of_group(place.enrollment_group, entries)

        async def compare(identifier: str) -> Look | Difference | None:
            known, entry = await self.devices.get(identifier), entries[identifier]
            if known is None:
                unknown = await self.enrollments.judged(entry)
                told = await self.enrollments.told(unknown) if unknown else None
                return told or (partial(self.enrollments.differences, identifier, budget) if unknown else None)
            await self.look.note_settings(known, entry)
            await self.identities.claim(known.record)
            # A device that was registered by an entry of its own is in no group's list: its entry tells where it is.
            registration = _registered_by(entry)
            seen = Seen(entry=entry, registration=registration) if registration else Seen(entry=entry)
            suspect = _let_in_elsewhere(known.record, registration) or await self.look.suspect(known.record, seen)
            return partial(self.look.differences, identifier, budget) if suspect else None

        def room(looks: Iterable[str]) -> float:
            return self.looks(budget, _hubs_of(_registered_by(entries[each]) for each in looks))

        looked = await looked_after(entries, compare, room, self._gate)
        return step_of(place, following, entries, looked)

    async def _of_group[E](self, group: str, entries: Mapping[str, E]) -> dict[str, E]:
        """Give the entries of devices that belong to a group. DPS lists them without one."""
        known = zip(entries, await gathered(self.devices.get, list(entries), self._gate), strict=True)
        return {each: entries[each] for each, device in known if device and device.record.enrollment_group == group}

    # --- registrations ---

    async def _registrations(self, place: ReconciliationRecord, budget: Budget) -> Step:
        compared = await self._compared(place)
        groups = {each.enrollment_group: each for each in compared if each.state is not GroupState.DELETED}
        after = Stage.DEVICES if place.enrollment_group else Stage.IDENTITIES
        group_id, here, following = turn_of(groups, place, after)
        if group_id is None:
            return Step(place=following)
        page, continuation = await self._page_of_registrations(group_id, here.continuation, budget)
        if continuation is not None:
            following = place.entered(Stage.REGISTRATIONS, group_id, continuation)
        registrations = {identifier: each for each in page if here.comes(identifier := _id_of(each))}
        compare = partial(self._registration, groups[group_id], registrations, budget)

        def room(looks: Iterable[str]) -> float:
            return self.looks(budget, _hubs_of(registrations[each] for each in looks))

        looked = await looked_after(registrations, compare, room, self._gate)
        return step_of(here, following, registrations, looked)

    async def _page_of_registrations(
        self, group: str, continuation: str | None, budget: Budget
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Read a page of registration records. A group that is gone in DPS has none, which is a finding of its own."""
        budget.dps()
        return await self.provisioning.page_of_registrations(group, size=PAGE, continuation=continuation)

    async def _registration(
        self, group: GroupRecord, registrations: Mapping[str, Mapping[str, Any]], budget: Budget, identifier: str
    ) -> Look | Difference | None:
        """Compare a registration; give how to look closer at one that looks different."""
        registration, known = registrations[identifier], await self.devices.get(identifier)
        if known is None:
            return partial(self._unknown, group, identifier, budget)
        if not known.record.settled:
            return None
        await self.identities.claim(known.record)
        if (taken := taken_over(known.record, group)) is not None:
            return taken
        seen = Seen(registration=registration)
        if _let_in_elsewhere(known.record, registration) or await self.look.suspect(known.record, seen):
            return partial(self.look.differences, identifier, budget)
        return None

    async def _unknown(self, group: GroupRecord, registration_id: str, budget: Budget) -> Sequence[Difference]:
        budget.dps()
        registration = await self.provisioning.get_registration(registration_id)
        if registration is None or await self.devices.get(registration_id) is not None:
            return ()  # it was ordered, or deleted, meanwhile
        place = place_of(registration)
        identity = await self.look.identity(*place, budget) if place else None
        # A group that refers to CAs by name takes devices that this ledger need not know.
        return (unknown_device(group, registration, identity, rogue=group.ca_references is None),)

    # --- devices ---

    async def device(self, registration_id: str, budget: Budget) -> Sequence[Difference]:
        """Look at one device, and at what unknown identities take of its certificates."""
        known = await self.devices.get(registration_id)
        marked = marked_by(await self.identities.candidates(), [known.record] if known else [])
        return await self._look_closer(marked, budget, registration_id)

    async def _look_closer(
        self, marked: Mapping[str, Sequence[FindingRecord]], budget: Budget, registration_id: str
    ) -> Sequence[Difference]:
        found = await self.look.differences(registration_id, budget)
        known = await self.devices.get(registration_id) if registration_id in marked else None
        if known is None:
            return found
        return [*found, *await self.identities.of_device(known.record, marked[registration_id], budget)]

    async def _devices(self, place: ReconciliationRecord, budget: Budget) -> Step:
        page, continuation = await self.devices.page(
            enrollment_group=place.enrollment_group, size=PAGE, continuation=place.continuation
        )
        following = place.entered(Stage.GONE if place.enrollment_group else Stage.BUNDLES)
        if continuation:
            following = place.entered(Stage.DEVICES, continuation=continuation)
        known = {each.registration_id: each for each in page if place.comes(each.registration_id)}
        todo = [known[each] for each in sorted(known) if known[each].settled]
        marked = marked_by(await self.identities.candidates(), known.values())
        differences, unread, left = list[Difference](), dict[str, str](), None
        while left is None and (part := self._affordable(todo, budget)):
            todo = todo[len(part) :]
            suspects, unanswered = await self._compare(part, budget)
            suspects = sorted({*suspects, *(each.registration_id for each in part if each.registration_id in marked)})
            hubs = {hub for each in suspects if (hub := known[each].assigned_hub)}
            hubs |= {finding.where for each in suspects for finding in marked.get(each, ())}
            looked = await self._closer(suspects, marked, budget, hubs)
            differences, unread = [*differences, *looked.differences], {**unread, **unanswered, **looked.unread}
            left = looked.left
        left = left or (todo[0].registration_id if todo else None)
        return step_of(place, following, known, Looked(differences=tuple(differences), unread=unread, left=left))

    def _affordable(self, records: Sequence[DeviceRecord], budget: Budget) -> Sequence[DeviceRecord]:
        """Give the first devices, as many as one query of each hub takes, and as DPS may be asked about.

        Of what DPS may be asked, enough is left to look at each of them alone: a step that only compared would begin
        with the same device again, for ever.
        """
        taken, asked, length = 0, 0, Counter[str]()
        for record in records:
            asked += needs_entry(record, self.clock())
            hub = record.assigned_hub if record.device_id else None
            if hub is not None:
                length[hub] += characters(record.device_id or "")
            full = hub and (length[hub] > CHARACTERS or not budget.can_query(hub))
            if full or asked * (1 + LOOK) > budget.operations:
                break
            taken += 1
        return records[:taken]

    async def _compare(self, records: Sequence[DeviceRecord], budget: Budget) -> tuple[list[str], dict[str, str]]:
        """Compare devices with hubs and DPS; give those that look different, and why no hub has told about others."""
        by_hub: defaultdict[str, list[DeviceRecord]] = defaultdict(list)
        for record in records:
            if record.assigned_hub and record.device_id:
                by_hub[record.assigned_hub].append(record)
        seen, unread = {each.registration_id: Seen() for each in records}, dict[str, str]()
        for hub, here in by_hub.items():
            budget.queries(hub)
            try:
                identities = await self.hubs.find(hub, [each.device_id or "" for each in here])
            except Exception as error:  # noqa: BLE001 - a hub that is down must not keep the others from being compared
                _log.exception("%s does not answer: %d devices are not compared", hub, len(here))
                unread |= {each.registration_id: f"{hub} does not answer: {why(error)}" for each in here}
                continue
            seen |= {each.registration_id: Seen(identity=identities.get(each.device_id or "")) for each in here}
        shut = [each.registration_id for each in records if needs_entry(each, self.clock())]
        budget.dps(len(shut))
        entries = dict(zip(shut, await gathered(self.provisioning.get_enrollment, shut, self._gate), strict=True))
        seen |= {each: Seen(entry=entry, identity=seen[each].identity) for each, entry in entries.items()}
        found = [each.registration_id for each in records if await self.look.suspect(each, seen[each.registration_id])]
        return found, unread

    async def _closer(
        self,
        suspects: Iterable[str],
        marked: Mapping[str, Sequence[FindingRecord]],
        budget: Budget,
        hubs: Iterable[str] = (),
    ) -> Looked:
        """Look at each device alone that looks different, or whose certificates an unknown identity takes."""
        looks = {each: partial(self._look_closer, marked, budget, each) for each in suspects}
        return await self.look_at(looks, lambda: self.looks(budget, hubs))

    def looks(self, budget: Budget, hubs: Iterable[str] = ()) -> float:
        """Tell how many devices may be looked at alone that are in these hubs."""
        return budget.looks({*hubs, *self.linked.known})

    # --- bundles ---

    async def _bundles(self, place: ReconciliationRecord, budget: Budget) -> Step:
        page, continuation = await self.bundles.page_of_bundles(place.continuation)
        following = place.entered(Stage.PASSWORDS)
        if continuation:
            following = place.entered(Stage.BUNDLES, continuation=continuation)

        return await self._of_bundles(place, following, page, self.bundles.is_unknown, budget)

    async def _passwords(self, place: ReconciliationRecord, budget: Budget) -> Step:
        page, continuation = await self.bundles.page_of_passwords(place.continuation, budget)
        following = place.entered(Stage.GONE)
        if continuation:
            following = place.entered(Stage.PASSWORDS, continuation=continuation)
        return await self._of_bundles(place, following, page, self.bundles.is_unknown_or_over, budget)

    async def _of_bundles(
        self,
        place: ReconciliationRecord,
        following: ReconciliationRecord,
        page: Mapping[str, str],
        suspect: Callable[[str], Awaitable[bool]],
        budget: Budget,
    ) -> Step:
        here = sorted(filter(place.comes, page))
        found = zip(here, await gathered(suspect, here, self._gate), strict=True)
        looks = {each: partial(self.bundles.differences, page[each], each, budget) for each, is_one in found if is_one}
        return step_of(place, following, here, await self.look_at(looks, lambda: budget.transactions))


def _registered_by(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give how an individual enrollment's device is registered, as DPS tells it; empty if it is not."""
    registration: Mapping[str, Any] = entry.get("registrationState") or {}
    return registration


def _hubs_of(registrations: Iterable[Mapping[str, Any]]) -> set[str]:
    return {str(each.get("assignedHub") or "") for each in registrations} - {""}


def _let_in_elsewhere(record: DeviceRecord, registration: Mapping[str, Any]) -> bool:
    """Tell whether DPS has put a device that is shut out into another hub than the ledger has."""
    hub = str(registration.get("assignedHub") or "")
    return record.shut_out and bool(hub) and hub.lower() != (record.assigned_hub or "").lower()


def _id_of(body: Mapping[str, Any]) -> str:
    return str(body["registrationId"]).lower()
