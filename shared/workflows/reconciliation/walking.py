"""Walks ledger, DPS and hubs in pages, and gives what differs.

Each page costs a call or two: a page of registrations, a page of individual enrollments, or one query for all devices
of a page of the ledger that are in the same hub. What looks different on a page is looked at alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.domain.authorities import AuthorityState, ProofOfPossession
from shared.domain.entries import kept_settings
from shared.domain.findings import Difference, FindingKind, SubjectKind
from shared.domain.groups import GroupState
from shared.domain.reconciliation import (
    Own,
    Seen,
    Stage,
    device_differences,
    group_differences,
    needs_entry,
    taken_over,
    unknown_device,
)
from shared.pki import names
from shared.pki.readable import load_certificates
from shared.pki.wrapped_keys import WrappedKeyError
from shared.workflows.authorities.records import all_certificates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from shared.domain.authorities import AuthorityRecord
    from shared.domain.devices import DeviceRecord
    from shared.domain.groups import GroupRecord
    from shared.domain.reconciliation import ReconciliationRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.ports.ca_certificates import CaCertificates
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.budget import Budget
    from shared.workflows.reconciliation.looking import DeviceLook

_log = logging.getLogger(__name__)
LEDGER_PAGE, SERVICE_PAGE = 250, 1000
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Step:
    """What one step has seen.

    Attributes:
        place: the record with the place where the next step goes on.
        looked_at: how much was compared.
        differences: what differs.
        unread: how many devices could not be compared, since their hub does not answer.
    """

    place: ReconciliationRecord
    looked_at: int = 0
    differences: tuple[Difference, ...] = ()
    unread: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Takes the steps of a pass."""

    devices: Devices
    groups: Groups
    records: Authorities
    keys: AuthorityKeys
    ca_certificates: Sequence[CaCertificates]
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    look: DeviceLook
    clock: Clock
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def step(self, place: ReconciliationRecord, budget: Budget) -> Step:
        """Compare what comes next in a pass; in the stage ``gone`` nothing is compared."""
        match place.stage:
            case Stage.AUTHORITIES:
                return await self._authorities(place)
            case Stage.GROUPS:
                return await self._groups(place, budget)
            case Stage.ENROLLMENTS:
                return await self._enrollments(place, budget)
            case Stage.REGISTRATIONS:
                return await self._registrations(place, budget)
            case Stage.DEVICES:
                return await self._devices(place, budget)
            case Stage.GONE:
                raise ValueError("nothing is compared in this stage")

    # --- CAs ---

    async def _authorities(self, place: ReconciliationRecord) -> Step:
        following = place.entered(Stage.GROUPS)
        known = [each async for each in self.records.list() if each.state is AuthorityState.ACTIVE]
        found = [difference for each in known for difference in await self.authority_differences(each)]
        return Step(following, len(known), tuple(found))

    async def authority_differences(self, record: AuthorityRecord) -> list[Difference]:
        """Give what differs about a CA that is in use."""

        def differs(kind: FindingKind, where: str, ledger: str, service: str) -> Difference:
            return Difference(
                kind=kind,
                subject_kind=SubjectKind.AUTHORITY,
                subject=record.name,
                ledger=ledger,
                service=service,
                where=where,
                enrollment_group=record.enrollment_group,
                certificate_authority=record.name,
            )

        found = list[Difference]()
        if problem := await self._key_problem(record):
            found.append(differs(FindingKind.KEY_UNUSABLE, "Key Vault", "the CA signs with its key", problem))
        if record.proof_of_possession is not ProofOfPossession.VERIFIED:
            return found
        for service in self.ca_certificates:
            held = await service.get(record.place or record.name)
            if held is not None and held.thumbprint not in {"", record.thumbprint}:
                said = f"the CA's certificate has the thumbprint {record.thumbprint}"
                holds = f"the one under its name has {held.thumbprint}"
                found.append(differs(FindingKind.AUTHORITY_REPLACED, service.holder, said, holds))
            elif held is None or not held.verified:
                holds = "it is not verified" if held else "the service does not have it"
                said = "possession of the CA's key was proved"
                found.append(differs(FindingKind.AUTHORITY_UNVERIFIED, service.holder, said, holds))
        return found

    async def _key_problem(self, record: AuthorityRecord) -> str | None:
        if record.key_id is not None and (problem := await self.keys.vault.problem(record.key_id)):
            return problem
        try:
            key = await self.keys.open(record)
        except WrappedKeyError as error:
            return str(error)
        if key.public_key() != next(all_certificates(record)).public_key():
            return "the key is not the one of the CA's certificate"
        return None

    # --- groups ---

    async def _groups(self, place: ReconciliationRecord, budget: Budget) -> Step:
        following = place.entered(Stage.REGISTRATIONS if place.enrollment_group else Stage.ENROLLMENTS)
        found, known = list[Difference](), await self._compared(place)
        for record in known:
            found += await self.group_differences(record.enrollment_group, budget)
        return Step(following, len(known), tuple(found))

    async def _compared(self, place: ReconciliationRecord) -> list[GroupRecord]:
        only = place.enrollment_group
        return [each async for each in self.groups.list() if only in {None, each.enrollment_group}]

    async def group_differences(self, group_id: str, budget: Budget) -> list[Difference]:
        """Give what differs about a group; nothing of one that changes at this moment."""
        budget.dps()
        known = await self.groups.get(group_id)
        if known is None:
            return []
        entry = await self.provisioning.get_group(group_id)
        found = list(group_differences(known.record, entry, await self._thumbprints(known.record)))
        again = await self.groups.get(group_id)
        if again is None or again.etag != known.etag:
            return []
        if entry is not None and known.record.settled and known.record.entry_settings is None:
            # A group from before this was noted: from now on what it has is what it is to have.
            await self.groups.try_replace(known, known.record.changed(entry_settings=kept_settings(entry)))
        return found

    async def _thumbprints(self, group: GroupRecord) -> dict[str, str]:
        known = [await self.records.get(name) for name in group.authorities]
        return {
            each.record.name: names.sha256_thumbprint(load_certificates(each.record.certificate.encode())[0])
            for each in known
            if each and each.record.certificate
        }

    # --- individual enrollments ---

    async def _enrollments(self, place: ReconciliationRecord, budget: Budget) -> Step:
        budget.dps()
        page, continuation = await self.provisioning.page_of_enrollments(
            size=SERVICE_PAGE, continuation=place.continuation
        )

        async def suspect(entry: dict[str, Any]) -> str | None:
            known = await self.devices.get(str(entry["registrationId"]).lower())
            return _suspect(known.record, Seen(entry=entry), self.clock) if known else None

        following = (
            place.entered(Stage.ENROLLMENTS, continuation=continuation)
            if continuation
            else place.entered(Stage.REGISTRATIONS)
        )
        found, failed = await self._closer(await self._each(suspect, page), budget)
        return Step(following, len(page), found, failed)

    # --- registrations ---

    async def _registrations(self, place: ReconciliationRecord, budget: Budget) -> Step:
        known = [each for each in await self._compared(place) if each.state is not GroupState.DELETED]
        ordered = sorted(known, key=lambda each: each.enrollment_group)
        group = next((each for each in ordered if place.at is None or each.enrollment_group >= place.at), None)
        if group is None:
            return Step(place.entered(Stage.DEVICES))
        budget.dps()
        page, continuation = await self.provisioning.page_of_registrations(
            group.enrollment_group, size=SERVICE_PAGE, continuation=place.continuation
        )

        async def compare(registration: dict[str, Any]) -> Difference | str | None:
            return await self._registration(group, registration, budget)

        seen = await self._each(compare, page)
        behind = [each.enrollment_group for each in ordered if each.enrollment_group > group.enrollment_group]
        following = place.entered(Stage.DEVICES)
        if continuation is not None:
            following = place.entered(Stage.REGISTRATIONS, group.enrollment_group, continuation)
        elif behind:
            following = place.entered(Stage.REGISTRATIONS, behind[0])
        told = tuple(each for each in seen if isinstance(each, Difference))
        closer, failed = await self._closer([each for each in seen if isinstance(each, str)], budget)
        return Step(following, len(page), (*told, *closer), failed)

    async def _registration(
        self, group: GroupRecord, registration: Mapping[str, Any], budget: Budget
    ) -> Difference | str | None:
        """Compare a registration; a device that looks different is given by its id."""
        registration_id = str(registration["registrationId"]).lower()
        known = await self.devices.get(registration_id)
        if known is None:
            return await self._unknown(group, registration_id, budget)
        if not known.record.settled:
            return None
        if (taken := taken_over(known.record, group)) is not None:
            return taken
        hub = str(registration.get("assignedHub") or "")
        if known.record.shut_out and hub and hub.lower() != (known.record.assigned_hub or "").lower():
            return registration_id
        return _suspect(known.record, Seen(registration=registration), self.clock)

    async def _unknown(self, group: GroupRecord, registration_id: str, budget: Budget) -> Difference | None:
        budget.dps()
        registration = await self.provisioning.get_registration(registration_id)
        if registration is None or await self.devices.get(registration_id) is not None:
            return None  # it was ordered, or deleted, meanwhile
        hub, device_id = registration.get("assignedHub"), registration.get("deviceId")
        identity = await self.look.identity(str(hub), str(device_id), budget) if hub and device_id else None
        # A group that refers to CAs by name takes devices that this ledger need not know.
        return unknown_device(group, registration, identity, rogue=group.ca_references is None)

    # --- devices ---

    async def _devices(self, place: ReconciliationRecord, budget: Budget) -> Step:
        page, continuation = await self.devices.page(
            enrollment_group=place.enrollment_group, size=LEDGER_PAGE, continuation=place.continuation
        )
        settled = [each for each in page if each.settled]
        by_hub: defaultdict[str, list[DeviceRecord]] = defaultdict(list)
        for record in settled:
            if record.assigned_hub and record.device_id:
                by_hub[record.assigned_hub].append(record)
        suspects, unread = list[str | None](), 0
        for hub, records in by_hub.items():
            budget.queries(hub)
            try:
                identities = await self.hubs.find(hub, [each.device_id or "" for each in records])
            except Exception:  # noqa: BLE001 - a hub that is down must not keep the others from being compared
                _log.exception("%s does not answer: %d devices are not compared", hub, len(records))
                unread += len(records)
                continue
            suspects += [
                _suspect(each, Seen(identity=identities.get(each.device_id or "")), self.clock) for each in records
            ]
        shut = [each for each in settled if needs_entry(each, self.clock())]

        async def without_entry(record: DeviceRecord) -> str | None:
            budget.dps()
            entry = await self.provisioning.get_enrollment(record.registration_id)
            return _suspect(record, Seen(entry=entry), self.clock)

        suspects += await self._each(without_entry, shut)
        suspects += [_suspect(each, Seen(), self.clock) for each in settled]
        following = (
            place.entered(Stage.DEVICES, continuation=continuation) if continuation else place.entered(Stage.GONE)
        )
        found, failed = await self._closer(suspects, budget)
        return Step(following, len(page) - unread, found, unread + failed)

    async def _closer(self, suspects: Sequence[str | None], budget: Budget) -> tuple[tuple[Difference, ...], int]:
        """Look at each device that looks different alone; give also how many could not be looked at."""
        ids = list(dict.fromkeys(each for each in suspects if each is not None))

        async def look(registration_id: str) -> list[Difference] | None:
            try:
                return await self.look.differences(registration_id, budget)
            except Exception:  # noqa: BLE001 - likewise
                _log.exception("%r can't be compared now", registration_id)
                return None

        seen = await self._each(look, ids)
        found = tuple(difference for each in seen if each is not None for difference in each)
        return found, sum(each is None for each in seen)

    async def _each[T, R](self, call: Callable[[T], Awaitable[R]], items: Sequence[T]) -> list[R]:
        async def one(item: T) -> R:
            async with self._gate:
                return await call(item)

        return list(await asyncio.gather(*map(one, items)))


def _suspect(record: DeviceRecord, seen: Seen, clock: Clock) -> str | None:
    """Give a device's id if it looks different, by the thumbprints that its record has."""
    held = {each.thumbprint for each in (record.certificate, record.next_certificate) if each is not None}
    # After a renewal that was repeated, one that is in use may not be among the last; then it is looked at alone.
    latest = record.sha256_thumbprints[-len(record.in_use) :] if record.in_use else ()
    own = Own(in_use=frozenset({*held, *latest}))
    found = next(device_differences(record, seen, own, clock()), None)
    return record.registration_id if found else None
