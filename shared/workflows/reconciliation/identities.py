"""Looks at identities in hubs that are not those which the ledger has of its devices.

A hub lets in who has an identity, whatever DPS has of it: one that DPS has left behind, one whose entry is not there
any more, and one that was made by hand.

An identity of a device of ours comes after its record: the app enters a device, or who has a device id, before DPS lets
it in. So one whose id the ledger does not know after it was read is nobody's. What DPS has decided is read after the
identity as well, so that a device that it has moved there, or is moving, is seen to be.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.domain.findings import FindingState
from shared.domain.groups import STATUS
from shared.domain.reconciliation import DPS, open_elsewhere
from shared.domain.treatments import FindingKind
from shared.domain.unknown_identities import (
    assigned_to,
    elsewhere,
    identity_seen,
    is_home,
    left_behind,
    lets_anybody_in,
    lets_in_by_certificate,
    lets_in_device,
    may_be_moving,
    named_before,
    unknown_identity,
)
from shared.domain.words import DeviceState
from shared.errors import Rejected
from shared.rules.registration_ids import canonical_registration_id
from shared.workflows.devices.own_certificates import own_certificates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from shared.domain.devices import DeviceRecord
    from shared.domain.findings import Difference, FindingRecord
    from shared.ledger.devices import Devices
    from shared.ledger.findings import Findings
    from shared.ledger.groups import Groups
    from shared.ports.hubs import HubIdentity
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.budget import Budget
    from shared.workflows.reconciliation.looking import DeviceLook

CANDIDATES = 1000
"""So many unknown identities are compared with each device's certificates."""

type Candidates = Mapping[str, Sequence[FindingRecord]]
"""Findings of unknown identities, by the thumbprints that these take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityLook:
    """Looks at them, one by one."""

    devices: Devices
    groups: Groups
    provisioning: ProvisioningService
    look: DeviceLook
    findings: Findings
    clock: Clock

    async def suspicious(self, hub: str, identity: HubIdentity) -> bool:
        """Tell whether an identity of a page is to be looked at alone. One that is disabled lets nobody in.

        Of a deleted device there is none, whatever its status.
        """
        owner, record = await self._owner(identity.device_id)
        if record is not None:
            counts = identity.enabled or record.state is DeviceState.DELETED
            return counts and record.settled and not is_home(record, hub, identity.device_id)
        return identity.enabled and owner is None and lets_in_by_certificate(identity)

    async def differences(self, hub: str, device_id: str, budget: Budget) -> Sequence[Difference]:
        """Give what is wrong with an identity that is not the one which the ledger has of a device."""
        identity = await self.look.identity(hub, device_id, budget)
        if identity is None:
            return ()
        owner, record = await self._owner(device_id)
        if record is not None:
            found = await self._of_known(record, hub, identity, budget)
            again = await self.devices.get(record.registration_id) if found is not None else None
            is_same = again is not None and again.record.stamp == record.stamp
            return (found,) if found is not None and is_same else ()
        if owner is not None or not identity.enabled or not lets_in_by_certificate(identity):
            return ()  # an operator has asked the app for its entry; or it is of others who share the hub
        found = await self._of_nobody(hub, identity, budget)
        if found is None or await self.devices.owner_of(device_id) is not None:
            return ()
        before = await self.findings.get(found.finding_id)
        return (named_before(found, before.record if before is not None else None),)

    async def has_it(self, hub: str, device_id: str) -> bool:
        """Tell whether an identity is the one that the ledger has of a device."""
        _, record = await self._owner(device_id)
        return record is not None and is_home(record, hub, device_id)

    async def _owner(self, device_id: str) -> tuple[str | None, DeviceRecord | None]:
        """Give whose a device id is, and the device; an entry that an operator has asked for need not have one."""
        owner = await self.devices.owner_of(device_id)
        known = await self.devices.get(owner) if owner is not None else None
        return owner, known.record if known is not None else None

    async def _of_known(
        self, record: DeviceRecord, hub: str, identity: HubIdentity, budget: Budget
    ) -> Difference | None:
        """Look at an identity that is a device's by its id."""
        if not record.settled or is_home(record, hub, identity.device_id):
            return None
        if record.state is DeviceState.DELETED and not identity.enabled:
            return left_behind(record, hub, identity)
        if record.shut_out or record.disabled:
            return self._open(record, hub, identity)
        if not identity.enabled or not lets_anybody_in(identity):
            return None
        budget.dps()
        registration = await self.provisioning.get_registration(record.registration_id)
        if assigned_to(registration, hub, identity.device_id):
            return None  # the ledger is about to follow; a difference of the registration says so
        own = await own_certificates(self.devices, record)
        found = elsewhere(record, hub, identity, own)
        moves = found.kind is FindingKind.IDENTITY_LEFT and may_be_moving(registration, self.clock())
        return None if moves else found

    def _open(self, record: DeviceRecord, hub: str, identity: HubIdentity) -> Difference | None:
        found = next(open_elsewhere(record, {hub: identity}), None)
        if found is None or identity.device_id == record.device_id:
            return found
        return replace(found, identity=identity_seen(identity))

    # --- of nobody ---

    async def _of_nobody(self, hub: str, identity: HubIdentity, budget: Budget) -> Difference | None:
        """Look at an identity whose id nobody has; what an entry explains that is there is told of that entry."""
        try:
            registration_id = canonical_registration_id(identity.device_id)
        except Rejected:  # hubs take ids that DPS does not
            return unknown_identity(hub, identity, None)
        budget.dps()
        registration = await self.provisioning.get_registration(registration_id)
        found = unknown_identity(hub, identity, registration)
        if not assigned_to(registration, hub, identity.device_id):
            return found
        return None if await self._is_let_in(registration_id, found, budget) else found

    async def _is_let_in(self, registration_id: str, found: Difference, budget: Budget) -> bool:
        """Tell whether an entry that is there lets a device in, or its registration is told of.

        DPS does not say by which group it has registered a device, and forgets the devices of a group that is deleted.
        So where no group of others is disabled, they let in who is not told of.
        """
        budget.dps()
        own = await self.provisioning.get_enrollment(registration_id)
        if own is not None:
            return own.get(STATUS) != "disabled"
        for kind in (FindingKind.UNKNOWN_DEVICE, FindingKind.ROGUE_CERTIFICATE):
            of_registration = replace(found, kind=kind, subject=registration_id, where=DPS, identity=None)
            told = await self.findings.get(of_registration.finding_id)
            if told is not None and told.record.state in {FindingState.OPEN, FindingState.CLOSED}:
                return True
        budget.dps()
        ours = {each.enrollment_group async for each in self.groups.list()}
        listed = [each async for each in self.provisioning.list_groups()]
        theirs = [each for each in listed if str(each["enrollmentGroupId"]).lower() not in ours]
        return bool(theirs) and all(each.get(STATUS) != "disabled" for each in theirs)

    # --- with a certificate of ours ---

    async def candidates(self) -> Candidates:
        """Give the unknown identities that were found, by the thumbprints that they take."""
        found: defaultdict[str, list[FindingRecord]] = defaultdict(list)
        for finding in await self.findings.of_kind(FindingKind.IDENTITY_UNKNOWN, limit=CANDIDATES):
            for thumbprint in finding.identity.thumbprints if finding.identity else ():
                found[thumbprint].append(finding)
        return found

    async def of_device(
        self, record: DeviceRecord, findings: Iterable[FindingRecord], budget: Budget
    ) -> Sequence[Difference]:
        """Look whether unknown identities let in certificates of a device, and say of those whose they are."""
        own = await own_certificates(self.devices, record)
        found: list[Difference] = []
        for finding in findings:
            seen, device_id = finding.difference, finding.identity.device_id if finding.identity else finding.subject
            if is_home(record, finding.where, device_id):
                await self.claim(record)
                continue
            identity = await self.look.identity(finding.where, device_id, budget)
            taken = (identity.thumbprints if identity and identity.enabled else frozenset()) & (own.all or own.in_use)
            if taken:
                found.append(lets_in_device(seen, record, taken, own))
        return found

    async def claim(self, record: DeviceRecord) -> None:
        """See that a device id which DPS, or an adoption, has given to a device is known to be its own."""
        device_id = record.device_id or record.registration_id
        if device_id.lower() != record.registration_id and await self.devices.owner_of(device_id) is None:
            await self.devices.claim_device_id(device_id, record.registration_id)


def marked_by(candidates: Candidates, records: Iterable[DeviceRecord]) -> dict[str, list[FindingRecord]]:
    """Give, by the devices, the unknown identities that take their certificates, as far as their records know these."""
    found: dict[str, list[FindingRecord]] = {}
    for each in records if candidates else ():
        used = [held.thumbprint for held in (each.certificate, each.next_certificate) if held is not None]
        taken = {one.finding_id: one for own in (*each.sha256_thumbprints, *used) for one in candidates.get(own, ())}
        if taken:
            found[each.registration_id] = list(taken.values())
    return found
