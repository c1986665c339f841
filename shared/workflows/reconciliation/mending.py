"""Makes the services follow the ledger where they differ, or the ledger follow the services.

Mending is what the convergers do: the record is entered once more as it is wanted, and they bring it about. What they
have no way for (an identity that is gone, or takes another certificate) is put right before, under what was read before
the record was, so that a revocation that comes in between wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.attestations import attestation_of, leaf_attestation
from shared.domain.devices import IN_ITS_HUB
from shared.domain.entries import own_settings, place_of, with_own_settings
from shared.domain.findings import SubjectKind
from shared.domain.given_settings import given_device_id
from shared.domain.groups import STATUS
from shared.domain.hub_authentication import takes_only
from shared.domain.reconciliation import DPS, RESERVED_FOR, registered_otherwise
from shared.domain.treatments import FindingKind, Policy
from shared.domain.upkeep import given_up, pinned, switched, to_be_followed
from shared.domain.words import DeviceState
from shared.errors import Conflict, NotFound, Overtaken
from shared.ledger.table import Stale
from shared.pki import names
from shared.pki.stand_ins import stand_in
from shared.workflows.devices.bundles import bundle_name
from shared.workflows.devices.changes import change, device_of
from shared.workflows.devices.entry_changes import named
from shared.workflows.devices.own_certificates import own_certificates
from shared.workflows.reconciliation.as_read import as_read
from shared.workflows.reconciliation.budget import Budget
from shared.workflows.reconciliation.bundles import bundle_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from shared.domain.attestations import Entry
    from shared.domain.devices import DeviceRecord
    from shared.domain.findings import FindingRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.devices import Devices
    from shared.ports.hubs import HubIdentity, IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.devices.bundles import Bundles
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.entry_checks import EntryChecks
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.bundles import BundleLook
    from shared.workflows.reconciliation.identities import IdentityLook
    from shared.workflows.reconciliation.looking import DeviceLook
    from shared.workflows.reconciliation.mending_groups import GroupMending

    type Act = Callable[[FindingRecord], Awaitable[str | None]]

_ATTEMPTS = 4
_BY_RECONCILIATION = "put right by reconciliation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mending:
    """Sees to findings, one at a time."""

    devices: Devices
    groups: GroupMending
    records: Authorities
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    converger: DeviceConverger
    entry_checks: EntryChecks
    possession: Possession
    bundles: Bundles
    look: DeviceLook
    identities: IdentityLook
    bundle_look: BundleLook
    clock: Clock

    async def carry_out(self, finding: FindingRecord, policy: Policy) -> str | None:
        """Mend a finding, or adopt it; give in words what is left for others to do.

        Raises:
            Conflict: that can't be done about a finding of its kind.
            NotFound: what it is about is not there any more.
            Rejected: the service refuses.
            Deferred: a service is throttling, or others keep changing what it is about.
        """
        acts = {Policy.MEND: self._mending, Policy.ADOPT: self._adopting}[policy]
        act = acts.get(finding.kind)
        if act is None:
            done = {Policy.MEND: "mended", Policy.ADOPT: "adopted"}[policy]
            instead = (
                "mend it" if policy is Policy.ADOPT and finding.treatment.mending else "put it right at the service"
            )
            raise Conflict.because(
                f"a finding of kind {finding.kind.value!r} can't be {done} by the app; {instead}, or close the finding",
                field="id",
            )
        return await act(finding)

    @property
    def _mending(self) -> Mapping[FindingKind, Act]:
        return {
            FindingKind.DOOR_OPEN: self._shut,
            FindingKind.ROGUE_CERTIFICATE: self._pin,
            FindingKind.UNKNOWN_DEVICE: self._remove,
            FindingKind.TAKEN_OVER: self._give_back,
            FindingKind.IDENTITY_MISSING: self._make_identity,
            FindingKind.IDENTITY_DISABLED: self._follow,
            FindingKind.IDENTITY_CERTIFICATE: self._set_certificates,
            FindingKind.IDENTITY_AUTHENTICATION: self._set_certificates,
            FindingKind.IDENTITY_LEFT: self._delete_identity,
            FindingKind.IDENTITY_UNKNOWN: self._disable_identity,
            FindingKind.ENROLLMENT_MISSING: self._follow,
            FindingKind.ENROLLMENT_DISABLED: self._follow,
            FindingKind.ENROLLMENT_FOREIGN: self._pin,
            FindingKind.ENROLLMENT_UNKNOWN: self._remove,
            FindingKind.ENROLLMENT_CERTIFICATE: self._follow,
            FindingKind.ENROLLMENT_SETTINGS: self._restore_settings,
            FindingKind.GROUP_MISSING: self.groups.restore,
            FindingKind.GROUP_LEFT: self.groups.delete,
            FindingKind.GROUP_UNKNOWN: self.groups.disable,
            FindingKind.GROUP_STATUS: self.groups.restore,
            FindingKind.GROUP_CERTIFICATES: self.groups.put_signers,
            FindingKind.GROUP_SETTINGS: self.groups.restore,
            FindingKind.AUTHORITY_UNVERIFIED: self._prove,
            FindingKind.SERIAL_RESERVED: self._give_up,
            FindingKind.BUNDLE_WITHOUT_CERTIFICATE: self._delete_bundle,
        }

    @property
    def _adopting(self) -> Mapping[FindingKind, Act]:
        return {
            FindingKind.IDENTITY_DISABLED: self._take_as_disabled,
            FindingKind.HUB_CHANGED: self._take_hub,
            FindingKind.ENROLLMENT_SETTINGS: self._take_settings,
            FindingKind.GROUP_MISSING: self.groups.take_as_deleted,
            FindingKind.GROUP_STATUS: self.groups.take_status,
            FindingKind.GROUP_SETTINGS: self.groups.take_settings,
        }

    # --- doors ---

    async def _follow(self, finding: FindingRecord) -> None:
        entered = await change(self.devices, finding.subject, to_be_followed, at=self.clock())
        await self.converger.converge(finding.subject, entered=entered.record)

    async def _shut(self, finding: FindingRecord) -> None:
        """Shut the doors that the converger knows, and that of a hub where the device was left behind.

        A device that is in service is let in with the certificates that it uses, and no others.
        """
        if finding.subject_kind is SubjectKind.GROUP:
            await self.groups.shut(finding)
            return
        if finding.identity is not None:
            await self._disable_identity(finding)
            return
        record = (await device_of(self.devices, finding.subject)).record
        hub = finding.where
        elsewhere = hub not in {DPS, record.assigned_hub} and record.device_id is not None
        if elsewhere and record.disabled and not record.shut_out:
            await self.hubs.shut_out(hub, record.device_id or "", reason=f"{record.state}: {_BY_RECONCILIATION}")
        if record.shut_out or record.disabled or hub != record.assigned_hub:
            await self._follow(finding)
            await self._disable_entry(finding)
        else:
            await self._set_certificates(finding)

    async def _disable_entry(self, finding: FindingRecord) -> None:
        """Disable the entry of a device that is shut out and never had a certificate: its converger writes none."""
        entry = await self.provisioning.get_enrollment(finding.subject)
        record = (await device_of(self.devices, finding.subject)).record  # after the entry was looked at
        if entry is not None and record.shut_out:
            await self._disable(entry)

    async def _disable(self, entry: Entry) -> None:
        """Disable an entry as it was read; one with a key, or a TPM, gets a certificate instead that nobody has.

        DPS does not show an entry's keys (by design: Azure/azure-iot-sdk-csharp issue 1183), so it can't be written
        with them; and whoever enables it again lets nobody in.
        """
        if entry.get(STATUS) == "disabled":
            return
        disabled = {**entry, STATUS: "disabled"}
        if not attestation_of(entry).by_certificates:
            leaf = stand_in(str(entry["registrationId"]), self.clock())
            disabled["attestation"] = leaf_attestation(names.pem(leaf))
        with as_read(named(str(entry["registrationId"]))):
            await self.provisioning.put_enrollment(disabled, etag=entry["etag"])

    # --- certificates ---

    async def _pin(self, finding: FindingRecord) -> None:
        """Have DPS and the hub take a device's own certificates alone; a device that is not ours is removed."""
        if await self.devices.get(finding.subject) is None:
            await self._remove(finding)
            return
        await self._delete_foreign(finding)
        pin = partial(pinned, group=finding.enrollment_group or "", at=self.clock())
        entered = await change(self.devices, finding.subject, pin, at=self.clock())
        await self.converger.converge(finding.subject, entered=entered.record)
        await self._set_certificates(finding)

    async def _delete_foreign(self, finding: FindingRecord) -> None:
        """Delete the entry of a device that has no certificate yet: it could accept nothing else instead."""
        entry = await self.provisioning.get_enrollment(finding.subject)
        record = (await device_of(self.devices, finding.subject)).record  # after the entry was looked at
        if entry is None or record.in_use or record.unseen or record.shut_out:
            return
        with as_read(named(finding.subject)):
            await self.provisioning.delete_enrollment(finding.subject, etag=entry["etag"])

    async def _give_back(self, finding: FindingRecord) -> None:
        """Have DPS and the hub take a device's own certificates alone, and forget who has registered it."""
        before = await self.provisioning.get_registration(finding.subject)
        await self._pin(finding)  # who registers after this is the device itself
        if before is None:
            return
        with as_read(f"the registration of {finding.subject!r}"):
            await self.provisioning.delete_registration(finding.subject, etag=before.get("etag"))
        if await self.provisioning.get_registration(finding.subject) == before:
            raise Overtaken(f"DPS still has the registration of {finding.subject!r} that another group has made")

    async def _set_certificates(self, finding: FindingRecord) -> None:
        for _ in range(_ATTEMPTS):
            before = (await device_of(self.devices, finding.subject)).record
            hub, device_id = before.assigned_hub, before.device_id
            seen = await self.hubs.get(hub, device_id) if hub and device_id else None
            record = (await device_of(self.devices, finding.subject)).record  # after the identity was looked at
            if seen is None or record.assigned_hub != hub or record.shut_out:
                break
            own = await own_certificates(self.devices, record)
            if takes_only(seen, own.taken_by(seen)):
                break
            if not own.taken_by(seen):
                raise Conflict.because(
                    f"the ledger does not have a certificate of {finding.subject!r} that its identity in {hub} could "
                    "take; delete the device, and order it anew",
                    field="id",
                )
            written = own.written_to(seen)
            if await self.hubs.set_thumbprints(hub or "", seen, written, reason=_BY_RECONCILIATION) is not None:
                break
        else:
            raise Overtaken(f"the identity of {finding.subject!r} is being changed by others")
        await self._follow(finding)

    async def _remove(self, finding: FindingRecord) -> None:
        """Remove a device that the ledger does not know; its entry stays, disabled: a group might let it in again.

        Whoever orders it meanwhile enters it first: then it is theirs, and is left. What was read before is not as it
        was any more once it has registered.
        """
        entry = await self.provisioning.get_enrollment(finding.subject)
        registration = await self.provisioning.get_registration(finding.subject)
        place = place_of(registration or {})
        seen = await self.hubs.get(*place) if place is not None else None
        if await self.devices.get(finding.subject) is not None:
            return
        if entry is not None:
            await self._disable(entry)
        # An entry may name the device id of a device of ours: that one's identity stays, and is compared with it.
        if place and seen is not None and await self.devices.owner_of(place[1]) in {None, finding.subject}:
            await self._delete_as_seen(place[0], seen)
        if registration is not None:  # by which the identity is found again, so it goes last
            with as_read(f"the registration of {finding.subject!r}"):
                await self.provisioning.delete_registration(finding.subject, etag=registration.get("etag"))

    async def _delete_as_seen(self, hub: str, seen: HubIdentity) -> None:
        if not await self.hubs.delete_unchanged(hub, seen):
            raise Overtaken(f"the identity {seen.device_id!r} in {hub} is being changed by others")

    # --- identities ---

    async def _make_identity(self, finding: FindingRecord) -> None:
        record, earlier = (await device_of(self.devices, finding.subject)).record, []
        thumbprints = (await own_certificates(self.devices, record)).written_to(None)
        if record.state in IN_ITS_HUB and record.assigned_hub and record.device_id and thumbprints:
            # If this breaks off when it has made the identity, the sweep opens it: there is a note from here on.
            earlier.append((await change(self.devices, finding.subject, to_be_followed, at=self.clock())).record)
            await self.hubs.create(record.assigned_hub, record.device_id, thumbprints, reason=_BY_RECONCILIATION)
        await self._follow(finding)  # it is opened as the record wants it by then
        await self.converger.forget(*earlier)

    async def _disable_identity(self, finding: FindingRecord) -> None:
        """Disable an identity that is not where the ledger has a device, as it was before that was looked at again."""
        device_id = finding.identity.device_id if finding.identity else finding.subject
        for _ in range(_ATTEMPTS):
            seen = await self.hubs.get(finding.where, device_id)
            if seen is None or not seen.enabled or not await self._lets_in_still(finding, seen):
                return
            if await self.hubs.disable(finding.where, seen, reason=_BY_RECONCILIATION) is not None:
                return
        raise Overtaken(f"the identity {device_id!r} in {finding.where} is being changed by others")

    async def _lets_in_still(self, finding: FindingRecord, seen: HubIdentity) -> bool:
        """Tell whether an identity is what was found. An open door is shut, whatever DPS has made of it since."""
        if finding.kind is FindingKind.DOOR_OPEN and finding.identity is not None:
            is_same = bool(seen.thumbprints & {*finding.identity.thumbprints}) or not finding.identity.thumbprints
            return is_same and not await self.identities.has_it(finding.where, seen.device_id)
        return bool(await self.identities.differences(finding.where, seen.device_id, Budget()))

    async def _delete_identity(self, finding: FindingRecord) -> None:
        known = (await device_of(self.devices, finding.subject)).record
        device_id = finding.identity.device_id if finding.identity else known.device_id
        seen = await self.hubs.get(finding.where, device_id) if device_id else None
        record = (await device_of(self.devices, finding.subject)).record  # after the identity was looked at
        if record.state is DeviceState.DELETED and seen is not None:
            await self._delete_as_seen(finding.where, seen)
        elif finding.identity is not None:
            await self._disable_identity(finding)

    async def _give_up(self, finding: FindingRecord) -> None:
        stale = partial(given_up, before=self.clock() - RESERVED_FOR, at=self.clock())
        await change(self.devices, finding.subject, stale, at=self.clock())

    async def _take_as_disabled(self, finding: FindingRecord) -> None:
        before = (await device_of(self.devices, finding.subject)).record
        seen = await self.hubs.get(finding.where, before.device_id) if before.device_id else None
        if seen is None or seen.enabled:
            return

        def disabled(record: DeviceRecord) -> DeviceRecord:
            if record.disabled or record.shut_out:
                return record
            if record.generation != before.generation:  # who has asked for something meanwhile is to have it
                raise Overtaken(f"{finding.subject!r} is being changed by others")
            return switched(record, enabled=False, reason="found disabled in its hub", at=self.clock())

        entered = await change(self.devices, finding.subject, disabled, at=self.clock())
        await self.converger.converge(finding.subject, entered=entered.record)

    async def _take_hub(self, finding: FindingRecord) -> None:
        known = await device_of(self.devices, finding.subject)
        left = await self._to_register_again(known.record)
        if left is not None:  # what the identity is called there may be the id of another device
            raise Conflict.because(left, field="id")
        await self.converger.follow(known)

    async def _to_register_again(self, record: DeviceRecord) -> str | None:
        """Say of a device that it has to register again, if DPS has registered it under an id that it is not given."""
        registration = await self.provisioning.get_registration(record.registration_id) or {}
        hub, device_id = place_of(registration) or ("", record.device_id)
        wanted = given_device_id(record.registration_id, await self.look.given(record))
        if registration.get("status") != "assigned" or device_id in {record.device_id, wanted, None}:
            return None
        return f"{record.registration_id}: {registered_otherwise(hub, device_id or '')}: it is to be {wanted!r}"

    # --- settings of individual enrollments ---

    async def _restore_settings(self, finding: FindingRecord) -> str | None:
        """Write the settings anew. Whom the entry lets in stays: who changes that meanwhile has another ETag.

        DPS goes by the entry when the device registers, so what it has registered under another id stays until then.
        """
        entry = await self.provisioning.get_enrollment(finding.subject)
        record = (await device_of(self.devices, finding.subject)).record  # after the entry was looked at
        settings = (await self.look.given(record)).settings
        if entry is None or record.entry_settings is None or settings is None:
            return None
        with as_read(named(finding.subject)):
            await self.provisioning.put_enrollment(with_own_settings(entry, settings), etag=entry["etag"])
        return await self._to_register_again(record)

    async def _take_settings(self, finding: FindingRecord) -> None:
        known = await device_of(self.devices, finding.subject)
        if known.record.entry_change is not None:
            raise Overtaken(f"{named(finding.subject)} is being changed by others")
        entry = await self.provisioning.get_enrollment(finding.subject)
        if entry is None:
            return
        await self.entry_checks.claim_device_id(finding.subject, entry)  # others' is refused, as over HTTP
        try:  # as it was before the entry was looked at: who has asked for something meanwhile is to have it
            await self.devices.replace(known, known.record.changed(entry_settings=own_settings(entry)))
        except Stale as changed:
            raise Overtaken(f"{finding.subject!r} is being changed by others") from changed

    # --- CAs ---

    async def _prove(self, finding: FindingRecord) -> None:
        known = await self.records.get(finding.subject)
        if known is None:
            raise NotFound.because(f"the certificate authority {finding.subject!r} does not exist")
        await self.possession.prove_again(known.record, self.clock())

    # --- bundles ---

    async def _delete_bundle(self, finding: FindingRecord) -> None:
        registration_id, serial_number = bundle_of(finding.difference)
        if not await self.bundle_look.differences(registration_id, serial_number, Budget()):
            return
        name = bundle_name(registration_id, serial_number)
        if await self.bundle_look.is_unknown(serial_number):
            # Whatever is in it: it may not be a bundle of the app's at all.
            await self.bundles.erase(name)
        else:
            await self.bundles.delete_key(name)
