"""A fleet in which others change something: what can differ, and what looks at it."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from shared.contracts.groups import IndividualEnrollmentDefinition
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.attestations import (
    individual_enrollment,
    reference_attestation,
)
from shared.domain.authorities import AuthorityRecord, AuthorityState, ProofOfPossession
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.groups import CaReferences
from shared.domain.held_certificates import Purpose
from shared.domain.passes import ReconciliationState
from shared.domain.treatments import TREATMENTS, FindingKind, Policy
from shared.domain.upkeep import pinned
from shared.domain.words import CertificateKind
from shared.ledger.authorities import Authorities
from shared.ledger.devices import partition_of
from shared.pki import names
from shared.ports.ca_certificates import UploadedAuthority
from shared.rules.etags import ANY_VERSION
from shared.workflows.devices.bundles import BUNDLES, bundle_name, secret_name
from shared.workflows.devices.changes import change
from tests.pki.hierarchy import Hierarchy, hierarchy
from tests.records import authority_record, held_certificate
from tests.world import acts, groups_acts
from tests.world.groups_world import GroupWorld, authority
from tests.world.kept import kept
from tests.world.services import HUB, with_info
from tests.world.world import DEVICE, GROUP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.domain.findings import FindingRecord
    from shared.workflows.reconciliation.passes import Reconciler

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
        authority_record(
            CA,
            world.now,
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
        "etag": '"theirs"',
    }


def change_group(fleet: Fleet, **changes: Any) -> None:
    groups = fleet.world.provisioning.groups
    groups[GROUP] = {**groups[GROUP], **changes, "etag": '"other"'}


async def disable_group(fleet: Fleet) -> None:
    change_group(fleet, provisioningStatus="disabled")


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
    drawn = held_certificate(
        serial_number, drawn_at, state=CertificateState.RESERVED, issuer=CA, purpose=Purpose.RENEWAL, cause="never"
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
        BUNDLES, bundle_name(DEVICE, STRAY), await own_bundle(fleet), content_type="application/json", metadata={}
    )


async def store_anything(fleet: Fleet) -> None:
    """Under a bundle's name, and not one of the app's."""
    await fleet.world.blobs.create(
        BUNDLES, bundle_name(DEVICE, STRAY), b"{}", content_type="application/json", metadata={}
    )


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
CAN_BE_MENDED = [each for each in REPORTED if TREATMENTS[each[0]].mending is not None]

# --- devices that the ledger does not know ---

STRANGER = "zz-2"


def signed_here(name: str = STRANGER) -> x509.Certificate:
    """Sign with the key of the group's CA, and enter nothing."""
    return Hierarchy(hierarchy().root, authority(CA)).device(name)


def enroll(fleet: Fleet, certificate: x509.Certificate, *, shown: bool = True, **changes: Any) -> None:
    """Put an individual enrollment into DPS; of its certificate that shows all, or ``info`` alone."""
    entry = with_info(individual_enrollment(STRANGER, None, "enabled", certificate), None)
    if not shown:
        del entry["attestation"]["x509"]["clientCertificates"]["primary"]["certificate"]
    fleet.world.provisioning.enrollments[STRANGER] = {**entry, "etag": '"theirs"', **changes}


def register(fleet: Fleet, certificate: x509.Certificate, *, device_id: str = STRANGER) -> None:
    """Have DPS let the device in by its entry: no group has its registration."""
    fleet.world.hubs.enter(HUB, device_id, names.sha256_thumbprint(certificate))
    fleet.world.provisioning.registrations[STRANGER] = {
        "registrationId": STRANGER,
        "status": "assigned",
        "assignedHub": HUB,
        "deviceId": device_id,
        "etag": '"theirs"',
    }


async def asked_for(fleet: Fleet, **wanted: Any) -> None:
    certificate = Hierarchy(hierarchy().root, authority("theirs")).device(STRANGER)
    definition = IndividualEnrollmentDefinition.model_validate({"certificate": names.pem(certificate), **wanted})
    await fleet.world.services.individual_enrollments.put(STRANGER, definition)


async def one_pass(fleet: Fleet) -> None:
    begun = await fleet.reconciler.begin()
    await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + timedelta(minutes=1))


# --- two hubs ---

SECOND, OTHER, COPIED = "hub-2", "press-2", "AC" * 32
"""Another linked hub, another device of ours, and the thumbprint of a certificate by a copied key."""


async def two_hubs(*requests: str, **policies: Policy) -> Fleet:
    """Make a fleet whose DPS has two hubs."""
    fleet = await fleet_of(*requests, **policies)
    fleet.reconciler.walk.look.linked.named = [HUB, SECOND]
    return fleet


async def own(fleet: Fleet) -> str:
    return names.sha256_thumbprint(await newest(fleet))


async def asked(fleet: Fleet, request: str) -> None:
    fleet.world.ask(request, *acts.MESSAGES[request])
    await fleet.world.done()


async def another_device(fleet: Fleet) -> None:
    """A second device of ours, in the first hub with a certificate of its own."""
    record = fleet.world.record()
    assert record is not None
    named = {"registration_id": OTHER, "device_id": OTHER, "held": (), "certificate": None, "next_certificate": None}
    await fleet.world.devices.insert(record.changed(**named, unseen=True, sha256_thumbprints=(OTHERS,)))
    fleet.world.hubs.enter(HUB, OTHER, OTHERS)
    registrations = fleet.world.provisioning.registrations
    registrations[OTHER] = {**registrations[DEVICE], "registrationId": OTHER, "deviceId": OTHER}


def told_of_identities(fleet: Fleet) -> list[str]:
    ours = {FindingKind.IDENTITY_UNKNOWN, FindingKind.IDENTITY_LEFT, FindingKind.DOOR_OPEN}
    return [each["kind"] for each in fleet.told("DriftFound") if each["kind"] in ours]


# --- entries of an operator's ---


async def put(fleet: Fleet, **body: Any) -> None:
    """Ask for an individual enrollment, as ``PUT /api/enrollments/{id}`` does."""
    definition = parse(IndividualEnrollmentDefinition, body)
    await fleet.world.services.individual_enrollments.put(DEVICE, definition)


def entry(fleet: Fleet) -> dict[str, Any]:
    return fleet.world.provisioning.enrollments[DEVICE]


def of_entry(fleet: Fleet, *names: str) -> dict[str, Any]:
    return {name: entry(fleet).get(name) for name in names}


async def ask(fleet: Fleet, *names: str) -> None:
    for name in names:
        fleet.world.ask(name, *acts.MESSAGES[name])
        await fleet.world.done()


async def disabled_by_hand(fleet: Fleet) -> None:
    await fleet.world.services.individual_enrollments.disable(DEVICE)


async def enabled_by_hand(fleet: Fleet) -> None:
    await disabled_by_hand(fleet)
    await put(fleet, provisioningStatus="enabled")
