"""What others change at DPS, at hubs and in the vault is found within one pass, told once, and mended as it should be."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ServiceRequestError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from shared.acting import acting
from shared.contracts.messages import Queue
from shared.domain.attestations import (
    admits_only,
    individual_enrollment,
    reference_attestation,
    x509_attestation,
)
from shared.domain.authorities import AuthorityRecord, AuthorityState, ProofOfPossession
from shared.domain.callers import Actor, CallerKind
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.findings import Difference, FindingRecord, FindingState
from shared.domain.groups import CaReferences
from shared.domain.held_certificates import HeldCertificate, Purpose
from shared.domain.passes import ReconciliationState
from shared.domain.requests import RequestState
from shared.domain.treatments import TREATMENTS, FindingKind, Policy
from shared.domain.upkeep import pinned, to_be_followed
from shared.domain.words import CertificateKind, DeviceState
from shared.errors import Conflict, Deferred, NotFound
from shared.ledger.authorities import Authorities
from shared.ledger.devices import partition_of
from shared.pki import names
from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import issue, new_serial_number, prepare
from shared.pki.profiles import root_profile
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.pki.subjects import Subject
from shared.ports.ca_certificates import UploadedAuthority
from shared.rules.etags import ANY_VERSION
from shared.workflows.authorities.possession import place_of
from shared.workflows.devices.bundles import BUNDLES, bundle_name, secret_name
from shared.workflows.devices.changes import change
from shared.workflows.reconciliation.answers import shown_finding
from shared.workflows.reconciliation.passes import Reconciler
from tests.pki.hierarchy import hierarchy
from tests.world import acts, groups_acts
from tests.world.auditor import audit
from tests.world.certificates import overwrite
from tests.world.groups_world import GroupWorld, authority
from tests.world.kept import kept
from tests.world.services import HUB, with_info
from tests.world.world import DEVICE, GROUP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    type Plant = Callable[[Fleet], Awaitable[None]]

CA, ROOT = "line-ca1", "root"
OTHERS = names.sha256_thumbprint(hierarchy().root.certificate)
HOUR = timedelta(hours=1)
STRAY = "5" * 40
"""A serial number that was never drawn."""


@dataclasses.dataclass
class Places:
    """Where possession of the CA is proved."""

    held: UploadedAuthority | None
    holder: str = "the DPS"
    further: dict[str, UploadedAuthority] = dataclasses.field(default_factory=dict)

    async def get(self, name: str) -> UploadedAuthority | None:
        return self.held if name == CA else self.further.get(name)


@dataclasses.dataclass
class Keys:
    """Keys of CAs, as the vault has them."""

    present: Any
    missing: str | None = None
    further: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def vault(self) -> Keys:
        return self

    async def problem(self, _key_id: str) -> str | None:
        return self.missing

    async def open(self, record: AuthorityRecord) -> Any:
        return self.further.get(record.name, self.present)


@dataclasses.dataclass
class AsRecorded:
    """CAs, as the ledger has them."""

    world: GroupWorld

    @property
    def rows(self) -> Authorities:
        return Authorities(self.world.storage.table("issuers"))

    async def get(self, name: str) -> AuthorityRecord:
        known = await self.rows.get(name)
        assert known is not None, name
        return known.record


@dataclasses.dataclass
class Fleet:
    """A group with a device in its hub, and what looks at them."""

    world: GroupWorld
    reconciler: Reconciler
    places: Places
    keys: Keys

    async def look(self) -> list[FindingRecord]:
        """Have one pass made, and give what is open."""
        self.world.now += HOUR
        begun = await self.reconciler.begin()
        for _ in range(20):
            await self.reconciler.carry_on(begun.reconciliation_id, until=self.world.now + HOUR)
            if (await self.reconciler.describe(begun.reconciliation_id)).state is ReconciliationState.DONE:
                return await self.open()
            self.world.now += timedelta(minutes=1)
        raise AssertionError("the pass does not end")

    async def timer(self) -> None:
        """Have the timer run that carries passes on, at a moment when none is due."""
        await self.reconciler.run(until=self.world.now)

    async def open(self) -> list[FindingRecord]:
        found, _ = await self.reconciler.findings.page({"state": "open"}, size=100, continuation=None)
        return list(found)

    async def finding(self, kind: FindingKind) -> FindingRecord:
        found, _ = await self.reconciler.findings.page({"kind": kind.value}, size=100, continuation=None)
        [only] = found
        return only

    def told(self, what: str) -> list[dict[str, Any]]:
        """Give the events of a type."""
        return [event["data"] for event in self.world.events() if event["type"].endswith(what)]


@kept
async def world_of(*requests: str) -> GroupWorld:
    world = await groups_acts.with_device()
    for name in requests:
        queue, body = acts.MESSAGES[name]
        world.ask(name, queue, body)
        await world.done()
    return world


async def fleet_of(*requests: str, **policies: Policy) -> Fleet:
    """Make a group with a device, have some things asked for, and give what compares it."""
    world = await world_of(*requests)
    issuer = authority(CA)
    await Authorities(world.storage.table("issuers")).try_insert(
        AuthorityRecord(
            name=CA,
            kind=CertificateKind.INTERMEDIATE,
            state=AuthorityState.ACTIVE,
            key_algorithm="EC-P256",
            fingerprint="f",
            cause="c",
            requested_at=world.now,
            key_id="https://vault/keys/line-ca1/1",
            certificate=names.pem(issuer.certificate),
            thumbprint=names.thumbprint(issuer.certificate),
            proof_of_possession=ProofOfPossession.VERIFIED,
        )
    )
    keys = Keys(issuer.signing_key)
    places = Places(UploadedAuthority(etag="1", verified=True, thumbprint=names.thumbprint(issuer.certificate)))
    return fleet_in(world, keys, places, **policies)


def fleet_in(world: GroupWorld, keys: Any, places: Any, **policies: Policy) -> Fleet:
    """Give what compares a world."""
    built = world.services.reconciler
    look = dataclasses.replace(built.walk.authorities, keys=keys, ca_certificates=[places])
    walk = dataclasses.replace(built.walk, authorities=look)
    chosen = {FindingKind(kind): policy for kind, policy in policies.items()}
    work = world.services.groups
    checks = dataclasses.replace(work.checks, authorities=AsRecorded(world))  # type: ignore[arg-type]
    groups = dataclasses.replace(built.mending.groups, converger=work.converger, checks=checks)
    mending = dataclasses.replace(built.mending, groups=groups)
    reconciler = dataclasses.replace(built, walk=walk, mending=mending, policies=chosen, pause=world.pause)
    return Fleet(world, reconciler, places, keys)


# --- a healthy fleet ---


@pytest.mark.parametrize(
    "requests",
    [
        (),
        ("renew",),
        ("hold",),
        ("hold", "reinstate"),
        ("revoke",),
        ("delete",),
        ("revoke", "delete"),
        ("order again",),
    ],
)
async def test_a_fleet_that_nobody_else_has_touched_gives_no_finding(requests: tuple[str, ...]) -> None:
    fleet = await fleet_of(*requests)
    assert await fleet.look() == []
    assert not fleet.told("DriftFound")


async def test_what_is_on_its_way_is_no_finding() -> None:
    """A revocation whose message has done nothing yet but the record."""
    fleet = await fleet_of()
    fleet.world.conductor.down.add("hub")
    fleet.world.ask("revoke", *acts.MESSAGES["revoke"])
    await fleet.world.deliver("revoke")
    fleet.world.conductor.down.clear()
    assert fleet.world.unsettled
    assert await fleet.look() == []


# --- what others do ---


async def enable_at_hub(fleet: Fleet) -> None:
    held = fleet.world.hubs.identities[HUB, DEVICE]
    fleet.world.hubs.enter(HUB, DEVICE, *held.thumbprints, enabled=True)


async def disable_at_hub(fleet: Fleet) -> None:
    held = fleet.world.hubs.identities[HUB, DEVICE]
    fleet.world.hubs.enter(HUB, DEVICE, *held.thumbprints, enabled=False, reason="maintenance")


async def leave_behind(fleet: Fleet) -> None:
    """DPS assigns the device to another hub, where its identity is enabled."""
    held = fleet.world.hubs.identities[HUB, DEVICE]
    fleet.world.hubs.enter("hub-2", DEVICE, *held.thumbprints)
    fleet.world.provisioning.registrations[DEVICE] = {
        **fleet.world.provisioning.registrations[DEVICE],
        "assignedHub": "hub-2",
    }


async def leave_behind_by_its_entry(fleet: Fleet) -> None:
    """The same, by the device's own entry: then it is in no group's list."""
    await leave_behind(fleet)
    registrations = fleet.world.provisioning.registrations
    registrations[DEVICE] = {**registrations[DEVICE], "enrollmentGroupId": None}


async def move(fleet: Fleet) -> None:
    """DPS assigns the device to another hub, and its identity goes with it."""
    await leave_behind(fleet)
    await delete_identity(fleet)


async def delete_identity(fleet: Fleet) -> None:
    del fleet.world.hubs.identities[HUB, DEVICE]


async def make_identity(fleet: Fleet) -> None:
    fleet.world.hubs.enter(HUB, DEVICE, OTHERS, enabled=False)


async def give_it_another_certificate(fleet: Fleet) -> None:
    fleet.world.hubs.enter(HUB, DEVICE, OTHERS)


async def change_authentication(fleet: Fleet, authentication: str, *thumbprints: str, enabled: bool = True) -> None:
    fleet.world.hubs.enter(HUB, DEVICE, *thumbprints, enabled=enabled, authentication=authentication)


async def give_it_keys_beside_its_certificate(fleet: Fleet) -> None:
    """Its own thumbprints are there as before, and do not count."""
    await change_authentication(fleet, "sas", *fleet.world.hubs.identities[HUB, DEVICE].thumbprints)


async def give_it_a_second_certificate(fleet: Fleet) -> None:
    """As the secondary one; its own stays."""
    fleet.world.hubs.enter(HUB, DEVICE, *fleet.world.hubs.identities[HUB, DEVICE].thumbprints, OTHERS)


async def give_it_a_former_certificate(fleet: Fleet) -> None:
    """After it was renewed, and has registered with its new certificate."""
    former = fleet.world.hubs.identities[HUB, DEVICE].thumbprints
    fleet.world.ask("renew", *acts.MESSAGES["renew"])
    await fleet.world.deliver("renew")
    await fleet.world.boot()
    await fleet.world.drain()
    assert fleet.world.hubs.identities[HUB, DEVICE].thumbprints != former
    fleet.world.hubs.enter(HUB, DEVICE, *former)


async def delete_entry(fleet: Fleet) -> None:
    await fleet.world.provisioning.delete_enrollment(DEVICE, etag=ANY_VERSION)


async def enable_entry(fleet: Fleet) -> None:
    entry = fleet.world.provisioning.enrollments[DEVICE]
    fleet.world.provisioning.enrollments[DEVICE] = {**entry, "provisioningStatus": "enabled"}


def entry_of(fleet: Fleet, status: str, certificate: Any) -> None:
    wanted = individual_enrollment(DEVICE, None, status, certificate)
    fleet.world.provisioning.enrollments[DEVICE] = {**with_info(wanted, None), "etag": '"theirs"'}


async def shut_by_entry(fleet: Fleet) -> None:
    record = fleet.world.record()
    assert record is not None
    known = await fleet.world.certificates.get(record.in_use[0])
    assert known is not None
    assert known.record.pem is not None
    entry_of(fleet, "disabled", x509.load_pem_x509_certificate(known.record.pem.encode()))


async def let_another_in(fleet: Fleet) -> None:
    entry_of(fleet, "enabled", hierarchy().root.certificate)


async def newest(fleet: Fleet) -> x509.Certificate:
    record = fleet.world.record()
    assert record is not None
    known = await fleet.world.certificates.get(record.in_use[-1])
    assert known is not None
    assert known.record.pem is not None
    return x509.load_pem_x509_certificate(known.record.pem.encode())


async def renewed(fleet: Fleet) -> x509.Certificate:
    """Have the device renewed, and register with its new certificate; give the former one."""
    former = await newest(fleet)
    fleet.world.ask("renew", *acts.MESSAGES["renew"])
    await fleet.world.deliver("renew")
    await fleet.world.boot()
    await fleet.world.drain()
    assert await newest(fleet) != former
    return former


async def revoke_former(fleet: Fleet) -> x509.Certificate:
    """Have the device renewed, and its former certificate revoked; give that."""
    former = await renewed(fleet)
    queue, body = acts.MESSAGES["revoke"]
    named = {"serialNumber": names.serial_text(former.serial_number), "requestId": "former"}
    fleet.world.ask("former", queue, {**{k: v for k, v in body.items() if k != "registrationId"}, **named})
    await fleet.world.done()
    return former


async def put_entry_back(fleet: Fleet) -> None:
    """DPS is put back to before a renewal: the entry takes the former certificate, and not the one in use."""
    entry_of(fleet, "enabled", await renewed(fleet))


async def register_a_stranger(fleet: Fleet) -> None:
    fleet.world.hubs.enter(HUB, "stranger", OTHERS)
    fleet.world.provisioning.registrations["stranger"] = {
        "registrationId": "stranger",
        "enrollmentGroupId": GROUP,
        "status": "assigned",
        "assignedHub": HUB,
        "deviceId": "stranger",
    }


def change_group(fleet: Fleet, **changes: Any) -> None:
    groups = fleet.world.provisioning.groups
    groups[GROUP] = {**groups[GROUP], **changes, "etag": '"other"'}


async def disable_group(fleet: Fleet) -> None:
    change_group(fleet, provisioningStatus="disabled")


async def change_policy(fleet: Fleet) -> None:
    change_group(fleet, allocationPolicy="static", iotHubs=["hub-9"])


async def change_signers(fleet: Fleet) -> None:
    root = names.pem(hierarchy().root.certificate)
    change_group(
        fleet,
        attestation={
            "type": "x509",
            "x509": {"signingCertificates": {"primary": {"certificate": root, "info": {"sha256Thumbprint": OTHERS}}}},
        },
    )


async def delete_group(fleet: Fleet) -> None:
    del fleet.world.provisioning.groups[GROUP]


async def lose_verification(fleet: Fleet) -> None:
    fleet.places.held = None


async def replace_ca(fleet: Fleet) -> None:
    fleet.places.held = UploadedAuthority(etag="1", verified=True, thumbprint="0" * 40)


async def lose_key(fleet: Fleet) -> None:
    fleet.keys.missing = "the vault does not have version 1 of the key 'line-ca1'"


async def swap_key(fleet: Fleet) -> None:
    fleet.keys.present = ec.generate_private_key(ec.SECP256R1())


async def reserve(fleet: Fleet) -> None:
    """A serial number is drawn for a renewal, and the worker is killed for good."""
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    serial_number = f"{partition_of(DEVICE)}{'0' * 36}"
    drawn_at = fleet.world.now - timedelta(days=1)
    drawn = HeldCertificate(
        serial_number=serial_number,
        state=CertificateState.RESERVED,
        issuer=CA,
        purpose=Purpose.RENEWAL,
        cause="never",
        recorded_at=drawn_at,
        public_key="f",
    )
    row = CertificateRecord(
        serial_number=serial_number,
        kind=CertificateKind.DEVICE,
        state=CertificateState.RESERVED,
        subject=DEVICE,
        issuer=CA,
        cause="never",
        recorded_at=drawn_at,
    )
    await fleet.world.devices.replace(known, known.record.changed(held=(*known.record.held, drawn)), reserved=row)


async def store_a_bundle(fleet: Fleet) -> None:
    """As of a certificate that the ledger has lost, or never had."""
    await fleet.world.blobs.create(
        BUNDLES, bundle_name(DEVICE, STRAY), await own_bundle(fleet), content_type="", metadata={}
    )


async def store_anything(fleet: Fleet) -> None:
    """Under a bundle's name, and not one of the app's."""
    await fleet.world.blobs.create(BUNDLES, bundle_name(DEVICE, STRAY), b"{}", content_type="", metadata={})


async def own_bundle(fleet: Fleet) -> bytes:
    [stored] = [each for (container, _), each in fleet.world.blobs.blobs.items() if container == BUNDLES]
    return stored.content


async def keep_a_password(fleet: Fleet) -> None:
    ends = fleet.world.now + HOUR
    await fleet.world.secrets.put(secret_name(STRAY), "sesame", tags={"registrationId": DEVICE}, ends=ends)


async def keep_the_password(fleet: Fleet) -> None:
    """Of a certificate that was revoked: somebody has recovered the secret that was deleted with the key."""
    record = fleet.world.record()
    assert record is not None
    name = secret_name(next(each.serial_number for each in record.held if each.issued))
    assert name not in fleet.world.secrets.secrets
    fleet.world.secrets.deleted.discard(name)
    await fleet.world.secrets.put(name, "sesame", tags={"registrationId": DEVICE}, ends=fleet.world.now + HOUR)


async def pin_and_forget(fleet: Fleet) -> None:
    """The device has an entry of its own, since another group had registered it; somebody deletes that."""
    pin = partial(pinned, group="other", at=fleet.world.now)
    await change(fleet.world.devices, DEVICE, pin, at=fleet.world.now)
    await fleet.world.drain()
    del fleet.world.provisioning.enrollments[DEVICE]


async def pin_and_change(fleet: Fleet, **changes: Any) -> None:
    """The device has an entry of its own, in which somebody changes something."""
    pin = partial(pinned, group="other", at=fleet.world.now)
    await change(fleet.world.devices, DEVICE, pin, at=fleet.world.now)
    await fleet.world.drain()
    change_entry(fleet, **changes)


def change_entry(fleet: Fleet, **changes: Any) -> None:
    entries = fleet.world.provisioning.enrollments
    entries[DEVICE] = {**entries[DEVICE], **changes, "etag": '"theirs"'}


def entry_with(**changes: Any) -> Plant:
    """Plant changes of an entry that the app has made to shut the device out."""

    async def plant(fleet: Fleet) -> None:
        change_entry(fleet, **changes)

    return plant


async def keep_deleted_group(fleet: Fleet) -> None:
    entry = dict(fleet.world.provisioning.groups[GROUP])
    fleet.world.ask("delete", Queue.ENROLLMENT_GROUP_REQUESTS, groups_acts.MESSAGES["delete the group"])
    await fleet.world.done()
    fleet.world.provisioning.groups[GROUP] = entry


async def make_group(fleet: Fleet, name: str, **fields: Any) -> None:
    """Have a second group in the ledger and in DPS."""
    group = fleet.world.group()
    assert group is not None
    await fleet.world.groups.insert(group.changed(enrollment_group=name, entry_settings=None, **fields))
    entry = {**fleet.world.provisioning.groups[GROUP], "enrollmentGroupId": name}
    if "ca_references" in fields:
        entry["attestation"] = reference_attestation("theirs")
    fleet.world.provisioning.groups[name] = entry


async def take_over(fleet: Fleet) -> None:
    await make_group(fleet, "other")
    registrations = fleet.world.provisioning.registrations
    registrations[DEVICE] = {**registrations[DEVICE], "enrollmentGroupId": "other"}


async def register_with_others(fleet: Fleet) -> None:
    """A group refers to CAs by name, so others may sign for it."""
    await make_group(fleet, "open", ca_references=CaReferences(primary="theirs"))
    await register_a_stranger(fleet)
    registrations = fleet.world.provisioning.registrations
    registrations["stranger"] = {**registrations["stranger"], "enrollmentGroupId": "open"}


async def make_an_identity(fleet: Fleet) -> None:
    """By hand, with a certificate that nobody here has signed."""
    fleet.world.hubs.enter(HUB, "zz-2", OTHERS)


async def stay_behind(fleet: Fleet) -> None:
    """In a hub that was not linked to the DPS when that gave the device another."""
    fleet.reconciler.walk.look.linked.named = [HUB, "hub-2"]
    fleet.world.hubs.enter("hub-2", DEVICE, *fleet.world.hubs.identities[HUB, DEVICE].thumbprints)


async def enroll_a_stranger(fleet: Fleet) -> None:
    wanted = individual_enrollment("zz-1", None, "enabled", hierarchy().root.certificate)
    fleet.world.provisioning.enrollments["zz-1"] = {**with_info(wanted, None), "etag": '"theirs"'}


async def make_a_group_of_ours(fleet: Fleet) -> None:
    """In DPS alone: it takes every certificate that the CA has signed."""
    groups = fleet.world.provisioning.groups
    made = {"enrollmentGroupId": "zz-line", "provisioningStatus": "enabled", "etag": '"theirs"'}
    groups["zz-line"] = {**groups[GROUP], **made}


PLANTED: dict[FindingKind, list[tuple[tuple[str, ...], Plant]]] = {
    FindingKind.IDENTITY_MISSING: [((), delete_identity)],
    FindingKind.IDENTITY_DISABLED: [((), disable_at_hub)],
    FindingKind.IDENTITY_AUTHENTICATION: [
        ((), partial(change_authentication, authentication="sas")),
        ((), partial(change_authentication, authentication="certificateAuthority")),
        ((), partial(change_authentication, authentication="none")),
        ((), give_it_keys_beside_its_certificate),
        (("renew",), partial(change_authentication, authentication="sas")),
    ],
    FindingKind.ROGUE_CERTIFICATE: [
        ((), give_it_another_certificate),
        ((), give_it_a_second_certificate),
        ((), register_a_stranger),
    ],
    FindingKind.IDENTITY_CERTIFICATE: [((), give_it_a_former_certificate)],
    FindingKind.IDENTITY_LEFT: [(("delete",), make_identity), ((), stay_behind)],
    FindingKind.IDENTITY_UNKNOWN: [((), make_an_identity)],
    FindingKind.HUB_CHANGED: [((), leave_behind), ((), move)],
    FindingKind.UNKNOWN_DEVICE: [((), register_with_others)],
    FindingKind.ENROLLMENT_MISSING: [((), pin_and_forget)],
    FindingKind.GROUP_LEFT: [((), keep_deleted_group)],
    FindingKind.ENROLLMENT_DISABLED: [((), shut_by_entry)],
    FindingKind.ENROLLMENT_FOREIGN: [((), let_another_in)],
    FindingKind.ENROLLMENT_UNKNOWN: [((), enroll_a_stranger)],
    FindingKind.ENROLLMENT_CERTIFICATE: [((), put_entry_back)],
    FindingKind.ENROLLMENT_SETTINGS: [
        ((), partial(pin_and_change, allocationPolicy="static", iotHubs=["hub-9"])),
        ((), partial(pin_and_change, initialTwin={"tags": {"plant": "elsewhere"}})),
        ((), partial(pin_and_change, reprovisionPolicy={"updateHubAssignment": False, "migrateDeviceData": False})),
        (("revoke",), entry_with(capabilities={"iotEdge": True})),
        (("hold",), entry_with(deviceId="another")),
    ],
    FindingKind.GROUP_UNKNOWN: [((), make_a_group_of_ours)],
    FindingKind.GROUP_STATUS: [((), disable_group)],
    FindingKind.GROUP_SETTINGS: [((), change_policy)],
    FindingKind.GROUP_CERTIFICATES: [((), change_signers)],
    FindingKind.GROUP_MISSING: [((), delete_group)],
    FindingKind.AUTHORITY_UNVERIFIED: [((), lose_verification)],
    FindingKind.AUTHORITY_REPLACED: [((), replace_ca)],
    FindingKind.KEY_UNUSABLE: [((), lose_key), ((), swap_key)],
    FindingKind.SERIAL_RESERVED: [((), reserve)],
    FindingKind.BUNDLE_WITHOUT_CERTIFICATE: [
        ((), store_a_bundle),
        ((), store_anything),
        ((), keep_a_password),
        (("revoke",), keep_the_password),
        (("delete",), keep_the_password),
    ],
}
REPORTED = [(kind, requests, plant) for kind, planted in PLANTED.items() for requests, plant in planted]


@pytest.mark.parametrize(("kind", "requests", "plant"), REPORTED)
async def test_each_kind_is_found_in_one_pass_and_told_once(
    kind: FindingKind, requests: tuple[str, ...], plant: Plant
) -> None:
    """By default it is reported, and nothing is changed; a second pass says the same again, and not to the queue."""
    fleet = await fleet_of(*requests)
    await plant(fleet)
    before = fleet.world.provisioning.writes, fleet.world.hubs.writes
    assert [each.kind for each in await fleet.look()] == [kind]
    first = await fleet.finding(kind)
    assert [each.kind for each in await fleet.look()] == [kind]
    assert (fleet.world.provisioning.writes, fleet.world.hubs.writes) == before
    assert (await fleet.finding(kind)).since == first.since
    assert [each["kind"] for each in fleet.told("DriftFound")] == [kind.value]


CAN_BE_MENDED = [each for each in REPORTED if TREATMENTS[each[0]].mending is not None]


@pytest.mark.parametrize(("kind", "requests", "plant"), CAN_BE_MENDED)
async def test_what_is_to_be_mended_is_mended_in_the_same_pass(
    kind: FindingKind, requests: tuple[str, ...], plant: Plant
) -> None:
    fleet = await fleet_of(*requests, **{kind.value: Policy.MEND})
    await plant(fleet)
    if kind is FindingKind.AUTHORITY_UNVERIFIED:

        async def prove(_record: AuthorityRecord, _now: datetime) -> None:
            fleet.places.held = UploadedAuthority(
                etag="2", verified=True, thumbprint=names.thumbprint(authority(CA).certificate)
            )

        possession: Any = SimpleNamespace(prove_again=prove)
        fleet.reconciler = dataclasses.replace(
            fleet.reconciler, mending=dataclasses.replace(fleet.reconciler.mending, possession=possession)
        )
    assert await fleet.look() == []
    assert (await fleet.finding(kind)).state is FindingState.MENDED
    assert [each["kind"] for each in fleet.told("DriftMended")] == [kind.value]
    await fleet.world.drain()
    assert await fleet.look() == []
    assert len(fleet.told("DriftFound")) == 1


async def test_of_a_bundle_without_a_certificate_nothing_stays_when_it_is_mended() -> None:
    fleet = await fleet_of(bundleWithoutCertificate=Policy.MEND)
    kept = dict(fleet.world.blobs.blobs), dict(fleet.world.secrets.secrets)
    await store_a_bundle(fleet)
    await keep_a_password(fleet)
    assert await fleet.look() == []
    assert (fleet.world.blobs.blobs, fleet.world.secrets.secrets) == kept


@pytest.mark.parametrize(("tags", "subject"), [({"registrationId": DEVICE}, DEVICE), ({}, "unknown")])
async def test_a_password_of_a_certificate_that_came_by_a_list_alone_names_its_device(
    tags: dict[str, str], subject: str
) -> None:
    """After storage was lost the ledger has its number, and not whose it was; the password's tag says so, if it has one."""
    fleet = await fleet_of(bundleWithoutCertificate=Policy.MEND)
    row = CertificateRecord(
        serial_number=STRAY,
        kind=CertificateKind.DEVICE,
        state=CertificateState.REVOKED,
        subject="",
        issuer=CA,
        cause="restoration",
        recorded_at=fleet.world.now,
    )
    await overwrite(fleet.world.certificates, row)
    await fleet.world.secrets.put(secret_name(STRAY), "sesame", tags=tags, ends=fleet.world.now + HOUR)
    kept = {name for name in fleet.world.secrets.secrets if name != secret_name(STRAY)}
    assert await fleet.look() == []
    found = await fleet.finding(FindingKind.BUNDLE_WITHOUT_CERTIFICATE)
    assert (found.subject, found.state) == (subject, FindingState.MENDED)
    assert set(fleet.world.secrets.secrets) == kept


async def test_a_password_that_is_about_to_be_deleted_is_no_finding() -> None:
    """The device is revoked, and the timer that deletes its key has not come yet."""
    fleet = await fleet_of()
    assert fleet.world.secrets.secrets
    fleet.world.ask("revoke", *acts.MESSAGES["revoke"])
    await fleet.world.deliver("revoke")
    assert not fleet.world.unsettled
    assert fleet.world.secrets.secrets
    assert await fleet.look() == []


@pytest.mark.parametrize(
    ("requests", "plant"),
    [
        (("revoke",), enable_at_hub),
        (("revoke",), partial(change_authentication, authentication="sas")),
        (("hold",), partial(change_authentication, authentication="sas")),
        (("hold",), partial(change_authentication, authentication="certificateAuthority")),
        (("delete",), partial(change_authentication, authentication="sas")),
        (("revoke",), leave_behind),
        (("revoke",), leave_behind_by_its_entry),
        (("revoke",), delete_entry),
        (("revoke",), enable_entry),
        (("hold",), enable_at_hub),
        (("hold",), delete_entry),
        (("delete",), delete_entry),
    ],
)
async def test_a_door_that_somebody_has_opened_is_shut_at_once_whatever_the_policy_says(
    requests: tuple[str, ...], plant: Plant
) -> None:
    fleet = await fleet_of(*requests)
    await plant(fleet)
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.DOOR_OPEN)).state is FindingState.MENDED
    assert not any(each.enabled for each in fleet.world.hubs.identities.values())
    assert fleet.world.provisioning.enrollments[DEVICE]["provisioningStatus"] == "disabled"


@pytest.mark.parametrize(("plant", "where"), [(enable_at_hub, HUB), (enable_entry, "DPS"), (delete_entry, "DPS")])
async def test_a_door_that_a_pass_has_shut_again_is_closed_since_then(plant: Plant, where: str) -> None:
    fleet = await fleet_of("revoke")
    record = fleet.world.record()
    assert record is not None
    before = {each.where: each.since for each in record.closed}
    await plant(fleet)
    await fleet.look()
    record = fleet.world.record()
    assert record is not None
    since = {each.where: each.since for each in record.closed}
    assert since.pop(where) > before.pop(where)
    assert since == before


@pytest.mark.parametrize(
    ("authentication", "who"),
    [
        ("sas", "whoever has one of its symmetric keys"),
        ("certificateAuthority", "whoever has a certificate with its id from a CA that the hub has verified"),
        ("none", "nobody"),
        ("newKind", "whoever authenticates by 'newKind'"),
    ],
)
async def test_whom_the_hub_lets_in_instead_of_a_device_is_said_and_ends_when_it_is_mended(
    authentication: str, who: str
) -> None:
    fleet = await fleet_of()
    await change_authentication(fleet, authentication)
    [found] = await fleet.look()
    own = names.sha256_thumbprint(await newest(fleet))
    record = fleet.world.record()
    assert record is not None
    assert (found.kind, found.severity, found.where) == ("identityAuthentication", "high", HUB)
    assert found.ledger == f"the device is registered, and uses {record.in_use[0]}"
    assert found.service == f"its identity is of the type {authentication!r}: it lets in {who}"
    assert await audit(fleet.world) == [f"the identity is {authentication!r}: the hub lets in {who}"]
    mended = await fleet.reconciler.act(found.finding_id, Policy.MEND)
    identity = fleet.world.hubs.identities[HUB, DEVICE]
    assert mended.state is FindingState.MENDED
    assert (identity.authentication, identity.thumbprints) == ("selfSigned", frozenset({own}))
    await fleet.world.drain()
    assert await audit(fleet.world) == []


@pytest.mark.parametrize("authentication", ["sas", "certificateAuthority"])
@pytest.mark.parametrize("own", [True, False])
async def test_a_hold_that_ends_lets_in_the_device_and_nobody_who_has_got_its_identity_meanwhile(
    authentication: str, *, own: bool
) -> None:
    """Disabled, the identity keeps everybody out; its keys and what else others gave it are gone when it is enabled."""
    fleet = await fleet_of("hold")
    thumbprints = fleet.world.hubs.identities[HUB, DEVICE].thumbprints
    await change_authentication(fleet, authentication, *(thumbprints if own else ()), enabled=False)
    assert await fleet.look() == []
    fleet.world.ask("reinstate", *acts.MESSAGES["reinstate"])
    await fleet.world.done()
    identity = fleet.world.hubs.identities[HUB, DEVICE]
    assert (identity.enabled, identity.authentication, identity.thumbprints) == (True, "selfSigned", thumbprints)
    assert await fleet.look() == []


async def test_a_hold_that_ends_lets_in_no_certificate_that_others_have_entered_meanwhile() -> None:
    fleet = await fleet_of("hold")
    thumbprints = fleet.world.hubs.identities[HUB, DEVICE].thumbprints
    fleet.world.hubs.enter(HUB, DEVICE, *thumbprints, OTHERS, enabled=False)
    fleet.world.ask("reinstate", *acts.MESSAGES["reinstate"])
    await fleet.world.done()
    identity = fleet.world.hubs.identities[HUB, DEVICE]
    assert (identity.enabled, identity.thumbprints) == (True, thumbprints)


async def test_a_renewal_takes_the_keys_away_that_others_have_given_an_identity() -> None:
    """It need not be opened for that; and what others have disabled stays so."""
    for enabled in (True, False):
        fleet = await fleet_of()
        own = names.sha256_thumbprint(await newest(fleet))
        await change_authentication(fleet, "sas", enabled=enabled)
        fleet.world.ask("renew", *acts.MESSAGES["renew"])
        await fleet.world.deliver("renew")
        identity = fleet.world.hubs.identities[HUB, DEVICE]
        assert (identity.enabled, identity.authentication) == (enabled, "selfSigned")
        assert identity.thumbprints == {own}


@pytest.mark.parametrize(
    "plant", [delete_identity, give_it_another_certificate, partial(change_authentication, authentication="sas")]
)
async def test_a_device_that_waits_to_be_renewed_is_not_taken_for_renewed_since_its_identity_was_mended(
    plant: Plant,
) -> None:
    """Its hub gets the certificate that the device has: the next one comes there with the device, and says so."""
    fleet = await fleet_of()
    own = names.sha256_thumbprint(await newest(fleet))
    fleet.world.ask("renew", *acts.MESSAGES["renew"])
    await fleet.world.deliver("renew")
    await plant(fleet)
    [found] = await fleet.look()
    mended = await fleet.reconciler.act(found.finding_id, Policy.MEND)
    assert mended.state is FindingState.MENDED
    assert fleet.world.hubs.identities[HUB, DEVICE].thumbprints == {own}
    await fleet.world.deliver("renew")
    record = fleet.world.record()
    assert record is not None
    assert record.state is DeviceState.RENEWING
    await fleet.world.boot()
    await fleet.world.done()
    record = fleet.world.record()
    assert record is not None
    assert (record.state, await fleet.look()) == (DeviceState.REGISTERED, [])


@pytest.mark.parametrize("lost", [True, False])
async def test_a_pass_completes_a_renewal_whose_device_has_come_and_whose_message_nobody_has(*, lost: bool) -> None:
    """The ledger was put back to a time in which the renewal waited, and the queue was not."""
    fleet = await fleet_of()
    fleet.world.ask("renew", *acts.MESSAGES["renew"])
    await fleet.world.deliver("renew")
    if lost:
        fleet.world.queues.queues[Queue.RENEWAL_REQUESTS].clear()
    assert await fleet.look() == []
    record = fleet.world.record()
    assert record is not None
    assert record.state is DeviceState.RENEWING
    await fleet.world.boot()
    assert await fleet.look() == []
    record = fleet.world.record()
    assert record is not None
    assert (record.state, record.next_certificate, record.renewal) == (DeviceState.REGISTERED, None, None)
    assert len(fleet.told("CertificateRenewed")) == 1
    request = await fleet.world.requests.find(Queue.RENEWAL_REQUESTS, "r1")
    assert request is not None
    assert request.record.state is RequestState.DONE
    if not lost:
        await fleet.world.done()
        assert len(fleet.told("CertificateRenewed")) == 1


async def test_a_device_that_has_come_with_its_next_certificate_keeps_it_when_its_identity_is_mended() -> None:
    """Nobody may have looked since."""
    fleet = await fleet_of()
    fleet.world.ask("renew", *acts.MESSAGES["renew"])
    await fleet.world.deliver("renew")
    await fleet.world.boot()
    coming = names.sha256_thumbprint(await newest(fleet))
    fleet.world.hubs.enter(HUB, DEVICE, coming, OTHERS)
    [found] = await fleet.look()
    await fleet.reconciler.act(found.finding_id, Policy.MEND)
    thumbprints = fleet.world.hubs.identities[HUB, DEVICE].thumbprints
    assert coming in thumbprints
    assert OTHERS not in thumbprints


async def test_an_identity_is_not_opened_to_whoever_has_a_key_if_no_certificate_of_its_device_is_known() -> None:
    """It was taken over from the services. That can't be mended, and the finding says so."""
    fleet = await fleet_of()
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    nothing = {"certificate": None, "next_certificate": None, "sha256_thumbprints": (), "held": (), "unseen": True}
    await fleet.world.devices.replace(known, known.record.changed(**nothing))
    await change_authentication(fleet, "sas")
    [found] = await fleet.look()
    assert found.ledger == "the device is registered, and uses a certificate that was not seen"
    with pytest.raises(Conflict, match="does not have a certificate of 'press' that its identity in hub-1 could take"):
        await fleet.reconciler.act(found.finding_id, Policy.MEND)
    await change_authentication(fleet, "sas", enabled=False)
    await change(fleet.world.devices, DEVICE, to_be_followed, at=fleet.world.now)
    await fleet.world.services.converger.converge(DEVICE)
    identity = fleet.world.hubs.identities[HUB, DEVICE]
    assert (identity.enabled, identity.authentication) == (False, "sas")


async def test_what_a_pass_finds_is_counted_though_a_call_and_the_timer_carry_it_on_at_once() -> None:
    """Of two that take the same step, the one finds and mends, and the other finds nothing and may be first to write."""
    fleet = await fleet_of("revoke")
    await enable_at_hub(fleet)
    begun = await fleet.reconciler.begin(registration_id=DEVICE)
    until = fleet.world.now + HOUR

    async def carry_on() -> None:
        await fleet.reconciler.carry_on(begun.reconciliation_id, until=until)

    keep, meanwhile = Reconciler.keep, list[asyncio.Task[None]]()

    async def kept(self: Reconciler, difference: Difference, reconciliation_id: str) -> None:
        await keep(self, difference, reconciliation_id)
        if not meanwhile:  # the timer comes to it when the door is mended, and before that is counted
            meanwhile.append(asyncio.create_task(carry_on()))
            for _ in range(1000):
                await asyncio.sleep(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reconciler, "keep", kept)
        await carry_on()
        await meanwhile[0]
    done = await fleet.reconciler.describe(begun.reconciliation_id)
    assert (done.state, done.found) == (ReconciliationState.DONE, {"doorOpen": 1})


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_certificate_that_is_revoked_is_not_taken_again_by_a_dps_that_was_put_back(*, is_there: bool) -> None:
    """Whatever the policy says: its holder would be let in, though the device itself goes on with another one.

    The entry takes it, or is not there any more, so that the group does.
    """
    fleet = await fleet_of()
    former = await revoke_former(fleet)
    if is_there:
        entry_of(fleet, "enabled", former)
    else:
        await delete_entry(fleet)
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.DOOR_OPEN)).state is FindingState.MENDED
    assert admits_only(fleet.world.provisioning.enrollments[DEVICE], [await newest(fleet)])


async def test_a_certificate_that_is_revoked_is_not_taken_again_by_a_hub_that_was_put_back() -> None:
    """Likewise."""
    fleet = await fleet_of()
    former, own = await revoke_former(fleet), await newest(fleet)
    fleet.world.hubs.enter(HUB, DEVICE, names.sha256_thumbprint(former))
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.DOOR_OPEN)).state is FindingState.MENDED
    identity = fleet.world.hubs.identities[HUB, DEVICE]
    assert (identity.enabled, identity.thumbprints) == (True, frozenset({names.sha256_thumbprint(own)}))


async def test_a_device_that_another_group_has_registered_is_given_back_at_once() -> None:
    """DPS and the hub take its own certificates alone from then on."""
    fleet = await fleet_of()
    await take_over(fleet)
    await give_it_another_certificate(fleet)
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.TAKEN_OVER)).state is FindingState.MENDED
    assert DEVICE not in fleet.world.provisioning.registrations
    assert OTHERS not in fleet.world.hubs.identities[HUB, DEVICE].thumbprints
    assert fleet.world.provisioning.enrollments[DEVICE]["provisioningStatus"] == "enabled"


def test_every_kind_is_planted() -> None:
    assert {*PLANTED, FindingKind.DOOR_OPEN, FindingKind.TAKEN_OVER} == set(FindingKind)


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        (FindingKind.IDENTITY_DISABLED, disable_at_hub),
        (FindingKind.HUB_CHANGED, move),
        (FindingKind.ENROLLMENT_SETTINGS, partial(pin_and_change, allocationPolicy="static", iotHubs=["hub-9"])),
        (FindingKind.GROUP_STATUS, disable_group),
        (FindingKind.GROUP_SETTINGS, change_policy),
        (FindingKind.GROUP_MISSING, delete_group),
    ],
)
async def test_what_is_to_be_adopted_is_what_the_ledger_says_from_then_on(kind: FindingKind, plant: Plant) -> None:
    fleet = await fleet_of(**{kind.value: Policy.ADOPT})
    await plant(fleet)
    assert await fleet.look() == []
    assert (await fleet.finding(kind)).state is FindingState.ADOPTED
    assert await fleet.look() == []


async def disabled_by_request(fleet: Fleet) -> None:
    fleet.world.ask("disable", Queue.ENROLLMENT_GROUP_REQUESTS, groups_acts.MESSAGES["disable the group"])
    await fleet.world.done()


async def enable_and_change_group(fleet: Fleet) -> None:
    """The ledger has it as disabled; somebody enables it in DPS, and changes its settings as well."""
    await disabled_by_request(fleet)
    change_group(fleet, provisioningStatus="enabled", allocationPolicy="static", iotHubs=["hub-9"])


async def set_ca(fleet: Fleet, state: AuthorityState) -> None:
    rows = AsRecorded(fleet.world).rows
    known = await rows.get(CA)
    assert known is not None
    await rows.replace(known, known.record.model_copy(update={"state": state}))


@pytest.mark.parametrize("policy", [Policy.MEND, Policy.ADOPT])
@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (FindingKind.GROUP_SETTINGS, FindingKind.GROUP_STATUS),
        (FindingKind.GROUP_STATUS, FindingKind.GROUP_SETTINGS),
    ],
)
async def test_what_is_done_about_a_group_is_what_its_finding_is_about_and_nothing_else(
    kind: FindingKind, other: FindingKind, policy: Policy
) -> None:
    """Status and settings differ: who takes over the one, or puts it right, has not decided about the other."""
    fleet = await fleet_of(**{kind.value: policy})
    await enable_and_change_group(fleet)
    assert [each.kind for each in await fleet.look()] == [other]
    group, entry = fleet.world.group(), fleet.world.provisioning.groups[GROUP]
    assert group is not None
    settings = ("hashed" if (kind, policy) == (FindingKind.GROUP_SETTINGS, Policy.MEND) else "static",)
    status = "disabled" if (kind, policy) == (FindingKind.GROUP_STATUS, Policy.MEND) else "enabled"
    assert ((entry.get("allocationPolicy") or "hashed",), entry["provisioningStatus"]) == (settings, status)
    assert group.state == ("enabled" if (kind, policy) == (FindingKind.GROUP_STATUS, Policy.ADOPT) else "disabled")
    taken = (group.entry_settings or {}).get("allocationPolicy") == "static"
    assert taken == ((kind, policy) == (FindingKind.GROUP_SETTINGS, Policy.ADOPT))
    assert [each.kind for each in await fleet.look()] == [other]


async def test_a_status_that_is_adopted_is_told_as_if_it_had_been_asked_for() -> None:
    fleet = await fleet_of(groupStatus=Policy.ADOPT)
    await disable_group(fleet)
    assert await fleet.look() == []
    told = fleet.told("EnrollmentGroupChanged")[-1]
    assert (told["action"], told["state"]) == ("disable", "disabled")


REVOKED = r"'line-ca1', a CA of the enrollment group 'line', is revoked; roll the group to another CA"


async def test_what_a_call_to_enable_a_group_refuses_is_refused_when_its_status_is_adopted_or_mended() -> None:
    """The CA is revoked after the finding was made. The finding says why nothing was done."""
    fleet = await fleet_of()
    await disabled_by_request(fleet)
    change_group(fleet, provisioningStatus="enabled")
    [found] = await fleet.look()
    assert found.kind is FindingKind.GROUP_STATUS
    await set_ca(fleet, AuthorityState.REVOKED)
    group = fleet.world.group()
    assert group is not None
    with pytest.raises(Conflict, match=REVOKED) as called:
        await fleet.reconciler.mending.groups.checks.enable(group)
    with pytest.raises(Conflict, match=REVOKED) as adopted:
        await fleet.reconciler.act(found.finding_id, Policy.ADOPT)
    assert adopted.value.reasons == called.value.reasons
    by_itself = dataclasses.replace(fleet.reconciler, policies={FindingKind.GROUP_STATUS: Policy.ADOPT})
    await by_itself.keep(found.difference, "by-itself")
    kept = await fleet.finding(FindingKind.GROUP_STATUS)
    assert (kept.state, kept.problem) == (FindingState.OPEN, str(called.value))
    group = fleet.world.group()
    assert group is not None
    assert group.state == "disabled"


async def test_settings_of_an_entry_that_name_another_devices_id_are_not_adopted() -> None:
    """A call that asks for them is refused likewise: the device would take over the other one's identity."""
    fleet = await fleet_of()
    await fleet.world.devices.claim_device_id("another", "someone")
    await pin_and_change(fleet, deviceId="another")
    [found] = await fleet.look()
    assert found.kind is FindingKind.ENROLLMENT_SETTINGS
    with pytest.raises(Conflict, match="the device id 'another' belongs to 'someone'"):
        await fleet.reconciler.act(found.finding_id, Policy.ADOPT)
    record = fleet.world.record()
    assert record is not None
    assert (record.entry_settings or {}).get("deviceId") != "another"


async def test_a_group_that_was_disabled_in_dps_is_not_opened_by_mending_when_its_ca_is_revoked() -> None:
    """The revocation has not come to the group yet."""
    fleet = await fleet_of()
    await disable_group(fleet)
    [found] = await fleet.look()
    await set_ca(fleet, AuthorityState.REVOKED)
    with pytest.raises(Conflict, match=REVOKED):
        await fleet.reconciler.act(found.finding_id, Policy.MEND)
    assert fleet.world.provisioning.groups[GROUP]["provisioningStatus"] == "disabled"


@pytest.mark.parametrize("policy", [Policy.REPORT, Policy.ADOPT])
async def test_a_group_of_a_revoked_ca_that_somebody_enables_in_dps_is_shut_at_once(policy: Policy) -> None:
    """Whoever has the CA's key could sign for any device: whatever the policy for a group's status says."""
    fleet = await fleet_of(groupStatus=policy)
    await disabled_by_request(fleet)
    await set_ca(fleet, AuthorityState.REVOKED)
    assert await fleet.look() == []
    change_group(fleet, provisioningStatus="enabled")
    assert await fleet.look() == []
    found = await fleet.finding(FindingKind.DOOR_OPEN)
    assert (found.state, found.subject, found.certificate_authority) == (FindingState.MENDED, GROUP, CA)
    assert (found.severity, found.service) == ("critical", "the group is enabled, and accepts it")
    assert fleet.world.provisioning.groups[GROUP]["provisioningStatus"] == "disabled"
    assert [each["kind"] for each in (*fleet.told("DriftFound"), *fleet.told("DriftMended"))] == ["doorOpen"] * 2


async def test_a_deleted_group_of_a_revoked_ca_that_somebody_makes_again_in_dps_is_deleted_at_once() -> None:
    fleet = await fleet_of()
    await keep_deleted_group(fleet)
    await set_ca(fleet, AuthorityState.REVOKED)
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.DOOR_OPEN)).state is FindingState.MENDED
    assert GROUP not in fleet.world.provisioning.groups


@pytest.mark.parametrize("beside", [True, False])
async def test_a_revoked_ca_that_somebody_puts_into_a_group_again_is_taken_out_at_once(*, beside: bool) -> None:
    """After the group was rolled to another CA: beside that one, or instead of it. The group's devices go on."""
    fleet, old = await fleet_of(), authority("old-ca").certificate
    known = await AsRecorded(fleet.world).get(CA)
    revoked = {"name": "old-ca", "certificate": names.pem(old), "state": AuthorityState.REVOKED}
    await AsRecorded(fleet.world).rows.try_insert(known.model_copy(update=revoked))
    before = fleet.world.provisioning.groups[GROUP]["attestation"]
    held = (authority(CA).certificate, old) if beside else (old,)
    change_group(fleet, attestation=x509_attestation(*held))
    fleet.world.provisioning.groups[GROUP] = with_info(fleet.world.provisioning.groups[GROUP], None)
    assert await fleet.look() == []
    found = await fleet.finding(FindingKind.DOOR_OPEN)
    assert (found.state, found.subject, found.certificate_authority) == (FindingState.MENDED, GROUP, "old-ca")
    entry = fleet.world.provisioning.groups[GROUP]
    assert (entry["attestation"], entry["provisioningStatus"]) == (before, "enabled")
    assert await fleet.look() == []


async def test_a_group_that_nobody_has_asked_for_is_shut_at_once_if_its_ca_is_revoked() -> None:
    fleet = await fleet_of()
    await disabled_by_request(fleet)
    await make_a_group_of_ours(fleet)
    await set_ca(fleet, AuthorityState.REVOKED)
    assert await fleet.look() == []
    found = await fleet.finding(FindingKind.DOOR_OPEN)
    assert (found.state, found.subject, found.certificate_authority) == (FindingState.MENDED, "zz-line", CA)
    assert fleet.world.provisioning.groups["zz-line"]["provisioningStatus"] == "disabled"


async def test_groups_of_others_in_the_same_dps_are_left() -> None:
    """By their own CA, by a name, or by a symmetric key; and one of ours that is disabled lets nobody in."""
    fleet = await fleet_of()
    groups = fleet.world.provisioning.groups
    theirs = {"signingCertificates": {"primary": {"info": {"sha256Thumbprint": OTHERS}}}}
    for name, attestation in (
        ("own-ca", {"type": "x509", "x509": theirs}),
        ("by-name", reference_attestation("theirs")),
        ("by-key", {"type": "symmetricKey"}),
    ):
        groups[name] = {**groups[GROUP], "enrollmentGroupId": name, "attestation": attestation}
    groups["shut"] = {**groups[GROUP], "enrollmentGroupId": "shut", "provisioningStatus": "disabled"}
    assert await fleet.look() == []
    groups["by-name"] = {**groups["by-name"], "attestation": reference_attestation(CA)}
    assert [(each.kind, each.subject) for each in await fleet.look()] == [(FindingKind.GROUP_UNKNOWN, "by-name")]


@pytest.mark.parametrize("stopped", ["request", "pass"])
async def test_a_group_that_the_app_is_making_is_none_that_nobody_has_asked_for(stopped: str) -> None:
    """A pass looks before each step of the request in turn, and the request comes before each step of a pass."""
    for step in range(90):
        fleet, made = await fleet_of(), authority("line-2-ca1").certificate
        known = await AsRecorded(fleet.world).get(CA)
        own = {"name": "line-2-ca1", "certificate": names.pem(made), "thumbprint": names.thumbprint(made)}
        await AsRecorded(fleet.world).rows.try_insert(known.model_copy(update=own))
        wanted = {**groups_acts.MESSAGES["create"], "enrollmentGroup": "line-2", "requestId": "second"}
        fleet.world.ask("second", Queue.ENROLLMENT_GROUP_REQUESTS, wanted)
        begun = await fleet.reconciler.begin()
        until = fleet.world.now + timedelta(minutes=1)
        work = {
            "request": fleet.world.deliver("second"),
            "pass": fleet.reconciler.carry_on(begun.reconciliation_id, until=until),
        }
        fleet.world.conductor.start(stopped, work.pop(stopped))
        taken = await fleet.world.conductor.advance(stopped, step)
        await work.popitem()[1]
        await fleet.world.conductor.advance(stopped)
        assert [each for each in fleet.told("DriftFound") if each["subjectKind"] == "group"] == [], f"at step {step}"
        if taken < step:
            assert "line-2" in fleet.world.provisioning.groups
            return
    raise AssertionError("it has more steps than were tried")


@pytest.mark.parametrize("state", [AuthorityState.DISABLED, AuthorityState.RETIRED])
async def test_a_group_of_a_ca_that_signs_no_more_is_no_open_door(state: AuthorityState) -> None:
    """Its devices keep their certificates, so its groups stay as they are: a status that differs is reported."""
    fleet = await fleet_of()
    await disabled_by_request(fleet)
    await set_ca(fleet, state)
    change_group(fleet, provisioningStatus="enabled")
    assert [each.kind for each in await fleet.look()] == [FindingKind.GROUP_STATUS]


async def test_a_hub_that_is_down_keeps_nobody_from_comparing_the_rest() -> None:
    """It and its devices are counted as unread, and what was found of them before stays found."""
    fleet = await fleet_of()
    await disable_at_hub(fleet)
    [before] = await fleet.look()
    fleet.world.conductor.down.add("hub")
    await disable_group(fleet)
    assert {each.kind for each in await fleet.look()} == {before.kind, FindingKind.GROUP_STATUS}
    assert max(await fleet.reconciler.passes.all(), key=lambda each: each.began_at).unread == 2


# --- findings ---


async def test_a_finding_that_is_not_there_any_more_is_gone_and_found_anew_it_is_told_again() -> None:
    fleet = await fleet_of()
    await disable_at_hub(fleet)
    await fleet.look()
    await enable_at_hub(fleet)
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.IDENTITY_DISABLED)).state is FindingState.GONE
    await disable_at_hub(fleet)
    [again] = await fleet.look()
    assert again.occurrence == 2
    assert len(fleet.told("DriftFound")) == 2


async def test_a_finding_that_was_closed_stays_closed_while_it_lasts() -> None:
    fleet = await fleet_of(identityDisabled=Policy.MEND)
    fleet.reconciler = dataclasses.replace(fleet.reconciler, policies={})
    await disable_at_hub(fleet)
    [found] = await fleet.look()
    await fleet.reconciler.close(found.finding_id, "under repair")
    assert await fleet.look() == []
    closed = await fleet.finding(FindingKind.IDENTITY_DISABLED)
    assert (closed.state, closed.comment) == (FindingState.CLOSED, "under repair")


async def test_a_finding_that_is_gone_can_not_be_mended_adopted_or_closed() -> None:
    """Whoever asks for it looks at an old page; nothing is written."""
    fleet = await fleet_of()
    await disable_at_hub(fleet)
    [found] = await fleet.look()
    await enable_at_hub(fleet)
    assert await fleet.look() == []
    writes, says = (
        fleet.world.hubs.writes,
        r"^id: the finding is over since 2026-03-01 1\d:\d\d UTC: what differed does not",
    )
    for policy in (Policy.MEND, Policy.ADOPT):
        with pytest.raises(Conflict, match=says):
            await fleet.reconciler.act(found.finding_id, policy)
    with pytest.raises(Conflict, match=says):
        await fleet.reconciler.close(found.finding_id, "it may stay")
    assert fleet.world.hubs.writes == writes


async def test_what_was_done_about_a_finding_may_be_asked_for_again_and_nothing_else() -> None:
    fleet = await fleet_of()
    await disable_at_hub(fleet)
    [found] = await fleet.look()
    closed = await fleet.reconciler.close(found.finding_id, "under repair")
    assert await fleet.reconciler.close(found.finding_id, "under repair, still") == closed
    mended = await fleet.reconciler.act(found.finding_id, Policy.MEND)  # a closed one may still be mended
    assert mended.state is FindingState.MENDED
    assert await fleet.reconciler.act(found.finding_id, Policy.MEND) == mended
    assert len(fleet.told("DriftMended")) == 1
    with pytest.raises(Conflict, match="it was mended, so nothing is left to do about it"):
        await fleet.reconciler.act(found.finding_id, Policy.ADOPT)


async def test_a_finding_is_mended_or_adopted_and_never_both_whoever_comes_in_between() -> None:
    """One call begins at each step of the other: what was done is what its state says, and the later one is told so."""
    for first, second in ((Policy.MEND, Policy.ADOPT), (Policy.ADOPT, Policy.MEND)):
        for step in range(60):
            fleet = await fleet_of()
            await disable_at_hub(fleet)
            [found] = await fleet.look()
            await fleet.reconciler.check_ledger()  # what was seen of it holds for seconds, and is not a step of theirs
            conductor = fleet.world.conductor
            conductor.start("first", fleet.reconciler.act(found.finding_id, first))
            taken = await conductor.advance("first", step)
            conductor.start("second", fleet.reconciler.act(found.finding_id, second))
            await conductor.advance("second")
            await conductor.advance("first")
            outcomes = [conductor.outcome(each) for each in ("first", "second")]
            assert len([each for each in outcomes if each is None]) == 1, f"at step {step}: {outcomes}"
            assert isinstance(next(filter(None, outcomes)), (Deferred, Conflict))
            done, record = await fleet.finding(FindingKind.IDENTITY_DISABLED), fleet.world.record()
            assert record is not None
            is_mended = done.state is FindingState.MENDED
            assert (is_mended, record.disabled) in {(True, False), (False, True)}
            assert fleet.world.hubs.identities[HUB, DEVICE].enabled == is_mended, f"at step {step}"
            assert done.claim is None
            if taken < step:
                break
        else:
            raise AssertionError("it has more steps than were tried")


async def test_who_is_about_a_finding_is_told_and_a_killed_worker_does_not_hold_it_for_ever() -> None:
    fleet = await fleet_of()
    await disable_at_hub(fleet)
    [found] = await fleet.look()
    conductor, ops = fleet.world.conductor, Actor(kind=CallerKind.USER, id="u", name="ops@example.com")
    with acting(ops):
        conductor.start("killed", fleet.reconciler.act(found.finding_id, Policy.ADOPT))
    while shown_finding(await fleet.finding(found.kind)).under_way is None:
        await conductor.advance("killed", 1)
    await conductor.kill("killed")
    shown = shown_finding(await fleet.finding(found.kind)).under_way
    assert shown is not None
    assert (shown.act, shown.until - shown.since) == ("adopt", timedelta(minutes=10))
    assert shown.actor is not None
    assert shown.actor.name == "ops@example.com"
    says = r"^the finding is being adopted since 2026-03-01 13:\d\d:00 UTC by ops@example.com; look at it when that is done"
    for refused in (
        partial(fleet.reconciler.act, found.finding_id, Policy.MEND),
        partial(fleet.reconciler.act, found.finding_id, Policy.ADOPT),
        partial(fleet.reconciler.close, found.finding_id, "it may stay"),
    ):
        with pytest.raises(Deferred, match=says):
            await refused()
    fleet.world.now += timedelta(minutes=10)
    assert (await fleet.reconciler.act(found.finding_id, Policy.MEND)).state is FindingState.MENDED


async def test_a_pass_leaves_a_finding_to_who_is_about_it() -> None:
    """What differed does not any more, since it was mended a moment ago: then it is mended, and not just gone."""
    fleet = await fleet_of()
    await disable_at_hub(fleet)
    [found] = await fleet.look()
    conductor = fleet.world.conductor
    conductor.start("mend", fleet.reconciler.act(found.finding_id, Policy.MEND))
    while not fleet.world.hubs.identities[HUB, DEVICE].enabled:
        await conductor.advance("mend", 1)
    begun = await fleet.reconciler.begin(registration_id=DEVICE)
    await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + HOUR)
    assert (await fleet.finding(found.kind)).state is FindingState.OPEN
    await conductor.advance("mend")
    assert conductor.outcome("mend") is None
    assert (await fleet.finding(found.kind)).state is FindingState.MENDED
    assert len(fleet.told("DriftMended")) == 1


async def test_a_service_that_fails_amid_an_act_leaves_the_finding_to_the_next_one() -> None:
    fleet = await fleet_of()
    await disable_at_hub(fleet)
    [found] = await fleet.look()
    fleet.world.conductor.down.add("hub")
    with pytest.raises(ServiceRequestError):
        await fleet.reconciler.act(found.finding_id, Policy.MEND)
    fleet.world.conductor.down.clear()
    assert (await fleet.finding(found.kind)).claim is None
    assert (await fleet.reconciler.act(found.finding_id, Policy.MEND)).state is FindingState.MENDED


async def test_an_open_door_is_shut_though_somebody_was_killed_at_it() -> None:
    fleet = await fleet_of("revoke")
    await enable_at_hub(fleet)
    conductor = fleet.world.conductor
    begun = await fleet.reconciler.begin()
    conductor.start(
        "pass", fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + timedelta(minutes=1))
    )
    while not [each for each in await fleet.open() if each.claim is not None]:
        await conductor.advance("pass", 1)
    await conductor.kill("pass")
    begun = await fleet.reconciler.begin()
    await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + timedelta(minutes=1))
    assert (await fleet.finding(FindingKind.DOOR_OPEN)).state is FindingState.MENDED
    assert not fleet.world.hubs.identities[HUB, DEVICE].enabled


async def test_what_the_app_has_no_way_for_is_refused_in_words() -> None:
    fleet = await fleet_of()
    await replace_ca(fleet)
    [found] = await fleet.look()
    with pytest.raises(Conflict, match="a finding of kind 'authorityReplaced' can't be mended by the app"):
        await fleet.reconciler.act(found.finding_id, Policy.MEND)


@dataclasses.dataclass
class Renewed:
    """A root of which there are two certificates, each in its place at the DPS.

    Attributes:
        former: the first one, under the CA's name.
        present: the one that it was renewed with.
        place: of that one.
    """

    former: x509.Certificate
    present: x509.Certificate
    place: str


async def renew_root(fleet: Fleet) -> Renewed:
    key = generate_key(KeyAlgorithm.EC_P256)
    former, present = (
        issue(
            prepare(
                root_profile(),
                subject=Subject(ROOT, "Example", "US"),
                public_key=key.public_key(),
                issuer=None,
                signing_key=key,
                serial_number=new_serial_number(),
                now=fleet.world.now - age,
                urls=DistributionPoints(),
            ),
            None,
        )
        for age in (timedelta(days=300), timedelta(days=1))
    )
    renewed = Renewed(former, present, place_of(ROOT, present))
    rows = Authorities(fleet.world.storage.table("issuers"))
    known = await rows.get(CA)
    assert known is not None
    made = {"certificate": names.pem(present), "further_certificates": names.pem(former), "place": renewed.place}
    root = known.record.model_copy(update={"name": ROOT, "kind": CertificateKind.ROOT, "key_id": None, **made})
    await rows.try_insert(root.changed(thumbprint=names.thumbprint(present)))
    fleet.keys.further[ROOT] = key
    fleet.places.further |= {ROOT: uploaded(former), renewed.place: uploaded(present)}
    return renewed


def uploaded(certificate: x509.Certificate, *, verified: bool = True) -> UploadedAuthority:
    return UploadedAuthority(etag="1", verified=verified, thumbprint=names.thumbprint(certificate))


async def test_a_root_that_was_renewed_is_in_two_places() -> None:
    fleet = await fleet_of()
    await renew_root(fleet)
    assert await fleet.look() == []


async def test_each_place_of_a_root_that_was_renewed_is_compared() -> None:
    """In the order: the new certificate is gone, the former is gone, is not verified, and is another one."""
    fleet = await fleet_of()
    root, unverified = await renew_root(fleet), FindingKind.AUTHORITY_UNVERIFIED
    former_place = f"the DPS, under '{ROOT}'"
    del fleet.places.further[root.place]
    assert [(each.kind, each.where) for each in await fleet.look()] == [(unverified, "the DPS")]
    fleet.places.further[root.place] = uploaded(root.present)
    del fleet.places.further[ROOT]
    assert [(each.kind, each.where) for each in await fleet.look()] == [(unverified, former_place)]
    fleet.places.further[ROOT] = uploaded(root.former, verified=False)
    assert [(each.kind, each.where) for each in await fleet.look()] == [(unverified, former_place)]
    fleet.places.further[ROOT] = uploaded(hierarchy().root.certificate)
    found = await fleet.look()
    assert [(each.kind, each.where) for each in found] == [(FindingKind.AUTHORITY_REPLACED, former_place)]


async def test_the_place_of_a_former_certificate_that_has_ended_may_be_empty() -> None:
    fleet = await fleet_of()
    root = await renew_root(fleet)
    del fleet.places.further[ROOT]
    fleet.world.now = root.former.not_valid_after_utc + timedelta(seconds=1)
    assert [each.kind for each in await fleet.look() if each.subject == ROOT] == []


async def test_a_mend_meets_a_revocation_at_every_step_and_the_door_stays_shut() -> None:
    """The identity was deleted by somebody; while it is made again, the device is revoked, before each step in turn."""
    for step in range(40):
        fleet = await fleet_of()
        await delete_identity(fleet)
        [found] = await fleet.look()
        fleet.world.ask("revoke", *acts.MESSAGES["revoke"])
        await fleet.reconciler.check_ledger()  # what was seen of it holds for seconds, and is not a step of theirs
        fleet.world.conductor.start("mend", fleet.reconciler.act(found.finding_id, Policy.MEND))
        taken = await fleet.world.conductor.advance("mend", step)
        await fleet.world.deliver("revoke")
        await fleet.world.conductor.advance("mend")
        await fleet.world.drain()
        record = fleet.world.record()
        assert record is not None
        assert record.state is DeviceState.REVOKED
        assert not any(each.enabled for each in fleet.world.hubs.identities.values()), f"at step {step}"
        if taken < step:
            break
    else:
        raise AssertionError("it has more steps than were tried")
    assert step > 8


@pytest.mark.parametrize(
    ("scope", "says"),
    [
        ({"enrollment_group": "lien-1"}, r"^enrollmentGroup: the enrollment group 'lien-1' does not exist$"),
        ({"registration_id": "prses"}, r"^registrationId: the device 'prses' does not exist$"),
    ],
)
async def test_a_pass_over_what_does_not_exist_is_refused(scope: dict[str, str], says: str) -> None:
    """Misspelt, it would find nothing, and say that all is well."""
    fleet = await fleet_of()
    with pytest.raises(NotFound, match=says):
        await fleet.reconciler.begin(**scope)
    assert await fleet.reconciler.passes.all() == []


async def test_a_pass_over_a_group_or_a_device_is_begun() -> None:
    fleet = await fleet_of()
    group, device = (
        await fleet.reconciler.begin(enrollment_group=GROUP),
        await fleet.reconciler.begin(registration_id=DEVICE),
    )
    assert [each.enrollment_group for each in (group, device)] == [GROUP, None]
    assert [each.registration_id for each in (group, device)] == [None, DEVICE]


async def test_a_pass_that_a_call_has_begun_goes_on_though_a_service_does_not_answer() -> None:
    """What the call asked for is done: it is told so, and its entry in the audit log says so. The timer carries it on."""
    fleet = await fleet_of()
    fleet.world.conductor.down.add("dps")
    begun = await fleet.reconciler.begin_at_once(enrollment_group=None, registration_id=DEVICE, lasting=HOUR)
    fleet.world.conductor.down.clear()
    assert (await fleet.reconciler.describe(begun.reconciliation_id)).state is ReconciliationState.RUNNING
    await fleet.reconciler.run(until=fleet.world.now + HOUR)
    assert (await fleet.reconciler.describe(begun.reconciliation_id)).state is ReconciliationState.DONE


async def test_a_pass_that_can_not_be_begun_is_not_told_as_begun() -> None:
    fleet = await fleet_of()
    fleet.world.conductor.down.add("tables")
    with pytest.raises(ServiceRequestError):
        await fleet.reconciler.begin_at_once(enrollment_group=None, registration_id=None, lasting=HOUR)


# --- the share of the quotas ---


async def test_a_pass_uses_its_share_and_goes_on_when_it_has_some_again() -> None:
    """1 % of DPS's 1,000 operations a minute are 10, and of a hub's 20 queries a fifth: one in five minutes.

    One gives its identities, and one names its device.
    """
    fleet = await fleet_of()
    share = dataclasses.replace(fleet.reconciler.share, percent=1)
    fleet.reconciler = dataclasses.replace(fleet.reconciler, share=share)
    begun = await fleet.reconciler.begin()
    began, done = fleet.world.now, None
    for _ in range(60):
        await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + HOUR)
        done = (await fleet.reconciler.describe(begun.reconciliation_id)).ended_at
        if done is not None:
            break
        fleet.world.now += timedelta(minutes=1)
    assert done is not None
    calls = (await fleet.reconciler.describe(begun.reconciliation_id)).calls
    assert calls[f"queries {HUB}"] == 2
    assert timedelta(minutes=9) <= done - began <= timedelta(minutes=11)
