"""What others make of the attestation of an entry in DPS is found in one pass, and mended only if it is gone then."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.attestations import admits_only, reference_attestation, x509_attestation
from shared.domain.authorities import AuthorityState
from shared.domain.devices import DeviceRecord
from shared.domain.findings import FindingState
from shared.domain.groups import CaReferences
from shared.domain.passes import ReconciliationRecord, ReconciliationState
from shared.domain.treatments import FindingKind, Policy
from shared.domain.words import DeviceState
from shared.errors import Conflict, Deferred, Overtaken
from shared.pki import names
from shared.workflows.reconciliation.answers import shown_pass
from shared.workflows.reconciliation.mending import Mending
from shared.workflows.reconciliation.walking import Walk
from tests.pki.hierarchy import hierarchy
from tests.world import acts
from tests.world.drift import (
    CA,
    CAN_BE_MENDED,
    STRANGER,
    asked_for,
    change_group,
    delete_entry,
    disabled_by_request,
    enable_at_hub,
    enable_entry,
    enroll,
    entry_of,
    fleet_of,
    make_group,
    newest,
    set_ca,
    take_over,
)
from tests.world.groups_world import authority
from tests.world.services import HUB, with_info
from tests.world.world import DEVICE, GROUP

if TYPE_CHECKING:
    from shared.workflows.reconciliation.groups import GroupLook
    from tests.world.drift import Fleet, Plant

BY_KEY: dict[str, Any] = {"type": "symmetricKey"}
"""As DPS shows it (recordings of the tests of azure-iot-deviceprovisioning, Azure/azure-sdk-for-python)."""
FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "symmetric key": (BY_KEY, "a symmetric key"),
    "TPM": ({"type": "tpm", "tpm": {"endorsementKey": "k"}}, "a TPM"),
    "none": ({"type": "none"}, "the attestation 'none'"),
    "CA by name": (reference_attestation("theirs"), "every certificate of the CA that DPS has as 'theirs'"),
    "newer": (
        {"type": "x509", "x509": {"policyReferences": {"primary": "p"}}},
        "an attestation that this app does not know: 'x509: policyReferences'",
    ),
}


# --- groups ---


@pytest.mark.parametrize("name", FOREIGN)
async def test_a_group_whose_attestation_others_have_changed_is_found_and_gets_its_ca_again(name: str) -> None:
    """Its status, its settings and its registrations stay; at mend it is written under what was read."""
    fleet = await fleet_of()
    before = fleet.world.provisioning.groups[GROUP]
    change_group(fleet, attestation=FOREIGN[name][0])
    [found] = await fleet.look()
    own = names.sha256_thumbprint(authority(CA).certificate)
    assert (found.kind, found.severity, found.subject) == (FindingKind.GROUP_CERTIFICATES, "critical", GROUP)
    assert (found.ledger, found.service) == (f"it accepts {own}", f"it accepts {FOREIGN[name][1]}")
    says = "^id: a finding of kind 'groupCertificates' can't be adopted by the app; mend it, or close the finding$"
    with pytest.raises(Conflict, match=says):
        await fleet.reconciler.act(found.finding_id, Policy.ADOPT)
    assert (await fleet.reconciler.act(found.finding_id, Policy.MEND)).state is FindingState.MENDED
    entry = fleet.world.provisioning.groups[GROUP]
    assert with_info(entry, None)["attestation"] == before["attestation"]
    assert {**entry, "etag": "", "attestation": ""} == {**before, "etag": "", "attestation": ""}
    assert await fleet.look() == []


async def test_a_group_by_name_gets_its_names_again() -> None:
    fleet = await fleet_of(groupCertificates=Policy.MEND)
    await make_group(fleet, "open", ca_references=CaReferences(primary="theirs"))
    groups = fleet.world.provisioning.groups
    groups["open"] = {**groups["open"], "attestation": BY_KEY, "etag": '"other"'}
    assert await fleet.look() == []
    assert groups["open"]["attestation"] == {"type": "x509", "x509": {"caReferences": {"primary": "theirs"}}}


async def test_a_revoked_ca_is_not_put_into_an_enabled_group_to_mend_it() -> None:
    """The group's own shutting is on its way. One that is disabled gets it: nobody comes in by it."""
    fleet = await fleet_of()
    change_group(fleet, attestation=BY_KEY)
    [found] = await fleet.look()
    await set_ca(fleet, AuthorityState.REVOKED)
    with pytest.raises(Conflict, match="'line-ca1', a CA of the enrollment group 'line', is revoked"):
        await fleet.reconciler.act(found.finding_id, Policy.MEND)
    assert fleet.world.provisioning.groups[GROUP]["attestation"] == BY_KEY


@pytest.mark.long
async def test_who_changes_a_group_while_it_is_mended_is_not_overwritten() -> None:
    """Before each step of the mending in turn."""
    for step in range(40):
        fleet = await fleet_of()
        change_group(fleet, attestation=BY_KEY)
        [found] = await fleet.look()
        await fleet.reconciler.check_ledger()  # what was seen of it holds for seconds, and is not a step of theirs
        fleet.world.conductor.start("mend", fleet.reconciler.act(found.finding_id, Policy.MEND))
        taken = await fleet.world.conductor.advance("mend", step)
        await disabled_by_request(fleet)
        await fleet.world.conductor.advance("mend")
        assert isinstance(fleet.world.conductor.outcome("mend"), Deferred | None), f"at step {step}"
        group = fleet.world.group()
        assert group is not None
        assert group.state == "disabled"
        assert fleet.world.provisioning.groups[GROUP]["provisioningStatus"] == "disabled", f"at step {step}"
        if taken < step:
            break
    else:
        raise AssertionError("it has more steps than were tried")
    assert step > 4


# --- devices of ours ---


def attest(fleet: Fleet, attestation: dict[str, Any], **changes: Any) -> None:
    """Change the attestation of a device's entry, or make an entry with it."""
    entries = fleet.world.provisioning.enrollments
    own = {"registrationId": DEVICE, "deviceId": DEVICE, "provisioningStatus": "enabled"}
    entries[DEVICE] = {**own, **entries.get(DEVICE, {}), "attestation": attestation, "etag": '"theirs"', **changes}


@pytest.mark.parametrize("status", ["enabled", "disabled"])
@pytest.mark.parametrize("name", FOREIGN)
async def test_an_entry_of_a_device_whose_attestation_others_have_changed_gets_its_certificates_again(
    name: str, status: str
) -> None:
    """One that others have disabled as well is enabled again: the device is in service."""
    fleet = await fleet_of()
    attest(fleet, FOREIGN[name][0], provisioningStatus=status)
    [found] = await fleet.look()
    assert (found.kind, found.severity) == (FindingKind.ENROLLMENT_FOREIGN, "critical")
    assert found.service == f"its individual enrollment accepts {FOREIGN[name][1]}"
    with pytest.raises(
        Conflict, match="'enrollmentForeign' can't be adopted by the app; mend it, or close the finding"
    ):
        await fleet.reconciler.act(found.finding_id, Policy.ADOPT)
    assert (await fleet.reconciler.act(found.finding_id, Policy.MEND)).state is FindingState.MENDED
    entry = fleet.world.provisioning.enrollments[DEVICE]
    assert admits_only(entry, [await newest(fleet)])
    assert entry["provisioningStatus"] == "enabled"
    assert await fleet.look() == []


@pytest.mark.parametrize("requests", [("revoke",), ("hold",), ("delete",)])
@pytest.mark.parametrize("name", FOREIGN)
async def test_an_enabled_entry_of_a_device_that_is_shut_out_is_disabled_at_once(
    name: str, requests: tuple[str, ...]
) -> None:
    fleet = await fleet_of(*requests)
    attest(fleet, FOREIGN[name][0], provisioningStatus="enabled")
    assert await fleet.look() == []
    found = await fleet.finding(FindingKind.DOOR_OPEN)
    assert (found.state, found.service) == (
        FindingState.MENDED,
        f"an individual enrollment lets it in, and accepts {FOREIGN[name][1]}",
    )
    entry = fleet.world.provisioning.enrollments[DEVICE]
    assert (entry["provisioningStatus"], entry["attestation"]["type"]) == ("disabled", "x509")


async def test_the_entry_of_a_device_that_is_shut_out_and_never_had_a_certificate_is_disabled_as_well() -> None:
    """Its converger writes no entry, since no group would let it in; the key that others have put there would."""
    fleet = await fleet_of("revoke")
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    bare = {"held": (), "certificate": None, "next_certificate": None, "sha256_thumbprints": ()}
    await fleet.world.devices.replace(known, known.record.changed(**bare))
    await delete_entry(fleet)
    assert await fleet.look() == []
    attest(fleet, BY_KEY)
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.DOOR_OPEN)).state is FindingState.MENDED
    entry = fleet.world.provisioning.enrollments[DEVICE]
    assert (entry["provisioningStatus"], entry["attestation"]["type"]) == ("disabled", "x509")


async def test_the_entry_that_others_have_made_for_a_device_without_a_certificate_is_deleted() -> None:
    """Its group decides then, which lets nobody in whose certificate was not issued."""
    fleet = await fleet_of()
    ordered = DeviceRecord(
        registration_id=STRANGER,
        order_id="o",
        enrollment_group=GROUP,
        updated_at=fleet.world.now,
        state=DeviceState.ORDERED,
    )
    await fleet.world.devices.insert(ordered)
    enroll(fleet, hierarchy().root.certificate, attestation=BY_KEY)
    [found] = await fleet.look()
    assert found.kind is FindingKind.ENROLLMENT_FOREIGN
    assert (await fleet.reconciler.act(found.finding_id, Policy.MEND)).state is FindingState.MENDED
    assert STRANGER not in fleet.world.provisioning.enrollments
    assert await fleet.look() == []


# --- devices that the ledger does not know ---


async def test_an_entry_that_an_operator_has_asked_for_and_others_have_given_a_key_is_found() -> None:
    """The app writes certificates alone, so a key is not what was asked for."""
    fleet = await fleet_of(enrollmentUnknown=Policy.MEND)
    await asked_for(fleet)
    assert await fleet.look() == []
    entries = fleet.world.provisioning.enrollments
    entries[STRANGER] = {**entries[STRANGER], "attestation": BY_KEY, "etag": '"theirs"'}
    assert await fleet.look() == []
    found = await fleet.finding(FindingKind.ENROLLMENT_UNKNOWN)
    assert found.state is FindingState.MENDED
    assert found.ledger == "it was asked for with certificates of its device"
    assert found.service == "its individual enrollment is enabled, and accepts a symmetric key; the device is in no hub"
    assert entries[STRANGER]["provisioningStatus"] == "disabled"
    assert entries[STRANGER]["attestation"]["type"] == "x509"


async def test_an_unknown_group_that_accepts_a_ca_of_ours_and_something_new_is_found() -> None:
    fleet = await fleet_of()
    groups = fleet.world.provisioning.groups
    attestation = x509_attestation(authority(CA).certificate)
    attestation["x509"]["policyReferences"] = {"primary": "p"}
    made = {"enrollmentGroupId": "zz-line", "attestation": attestation, "etag": '"theirs"'}
    groups["zz-line"] = {**groups[GROUP], **made}
    assert [(each.kind, each.subject) for each in await fleet.look()] == [(FindingKind.GROUP_UNKNOWN, "zz-line")]


# --- what a key has left behind in a hub ---


def registered_by_key(fleet: Fleet, registration_id: str) -> None:
    """Have whoever has the key register with the entry: DPS makes an identity of its keys, without a thumbprint."""
    fleet.world.hubs.enter(HUB, DEVICE, authentication="sas")
    registration = {"registrationId": registration_id, "status": "assigned", "assignedHub": HUB, "deviceId": DEVICE}
    fleet.world.provisioning.registrations[registration_id] = registration


async def test_a_device_that_was_registered_by_the_key_of_its_entry_gets_its_certificates_in_its_hub_as_well() -> None:
    """Both are found. To mend the entry is to mend the identity."""
    fleet = await fleet_of()
    attest(fleet, BY_KEY)
    registered_by_key(fleet, DEVICE)
    found = {each.kind: each for each in await fleet.look()}
    assert found.keys() == {FindingKind.ENROLLMENT_FOREIGN, FindingKind.IDENTITY_AUTHENTICATION}
    mended = await fleet.reconciler.act(found[FindingKind.ENROLLMENT_FOREIGN].finding_id, Policy.MEND)
    assert mended.state is FindingState.MENDED
    own = await newest(fleet)
    identity = fleet.world.hubs.identities[HUB, DEVICE]
    assert admits_only(fleet.world.provisioning.enrollments[DEVICE], [own])
    assert (identity.authentication, identity.thumbprints) == ("selfSigned", frozenset({names.sha256_thumbprint(own)}))
    assert await fleet.look() == []


async def test_an_identity_of_ours_that_an_unknown_device_has_taken_by_its_key_is_found_and_given_back() -> None:
    """Its entry names the device id of a device of ours. To mend the entry is to shut it, and the identity stays."""
    fleet = await fleet_of(enrollmentUnknown=Policy.MEND)
    enroll(fleet, hierarchy().root.certificate, attestation=BY_KEY, deviceId=DEVICE)
    registered_by_key(fleet, STRANGER)
    await fleet.look()
    assert (await fleet.finding(FindingKind.ENROLLMENT_UNKNOWN)).state is FindingState.MENDED
    assert fleet.world.provisioning.enrollments[STRANGER]["provisioningStatus"] == "disabled"
    [left] = await fleet.look()
    assert (left.kind, left.subject) == (FindingKind.IDENTITY_AUTHENTICATION, DEVICE)
    assert (await fleet.reconciler.act(left.finding_id, Policy.MEND)).state is FindingState.MENDED
    identity = fleet.world.hubs.identities[HUB, DEVICE]
    assert (identity.authentication, identity.thumbprints) == (
        "selfSigned",
        frozenset({names.sha256_thumbprint(await newest(fleet))}),
    )
    assert await fleet.look() == []


async def test_a_device_that_a_group_has_registered_by_its_key_is_found_and_no_ca_is_said_to_have_signed_for_it() -> (
    None
):
    """The group is found as well. It can be mended before, and then nothing but the hub tells of the key."""
    fleet = await fleet_of(groupCertificates=Policy.MEND)
    change_group(fleet, attestation=BY_KEY)
    fleet.world.hubs.enter(HUB, STRANGER, authentication="sas")
    registration = {"registrationId": STRANGER, "status": "assigned", "assignedHub": HUB, "deviceId": STRANGER}
    fleet.world.provisioning.registrations[STRANGER] = {**registration, "enrollmentGroupId": GROUP}
    [found] = await fleet.look()
    assert (found.kind, found.severity, found.subject) == (FindingKind.UNKNOWN_DEVICE, "high", STRANGER)
    assert found.service == f"it is registered by the enrollment group 'line', in {HUB}, with a symmetric key"
    assert (await fleet.reconciler.act(found.finding_id, Policy.MEND)).state is FindingState.MENDED
    assert STRANGER not in fleet.world.provisioning.registrations
    assert (HUB, STRANGER) not in fleet.world.hubs.identities
    assert await fleet.look() == []


# --- done is what is gone ---


class Idle(Mending):
    """Says that everything is done, and does nothing."""

    async def carry_out(self, finding: Any, policy: Any) -> None:
        pass


def idle(fleet: Fleet) -> None:
    mending = fleet.reconciler.mending
    fields = {each.name: getattr(mending, each.name) for each in dataclasses.fields(mending)}
    fleet.reconciler = dataclasses.replace(fleet.reconciler, mending=Idle(**fields))


OPENED: list[tuple[FindingKind, tuple[str, ...], Plant]] = [
    (FindingKind.DOOR_OPEN, ("revoke",), enable_at_hub),
    (FindingKind.DOOR_OPEN, ("revoke",), enable_entry),
    (FindingKind.DOOR_OPEN, ("hold",), delete_entry),
]


@pytest.mark.parametrize(("kind", "requests", "plant"), [*CAN_BE_MENDED, *OPENED])
async def test_what_still_differs_when_it_was_mended_is_not_said_to_be_mended(
    kind: FindingKind, requests: tuple[str, ...], plant: Plant
) -> None:
    """Whatever the kind: the finding stays open and says what differs, and nothing is told."""
    fleet = await fleet_of(*requests)
    idle(fleet)
    await plant(fleet)
    [found] = await fleet.look()
    assert found.kind is kind
    with pytest.raises(
        Deferred, match=r"^the finding is not mended yet: what was to be done about it is done, and it still differs"
    ):
        await fleet.reconciler.act(found.finding_id, Policy.MEND)
    kept = await fleet.finding(kind)
    assert (kept.state, kept.claim) == (FindingState.OPEN, None)
    assert f"{kept.where}: {kept.service}. The next pass looks at it again" in (kept.problem or "")
    assert fleet.told("DriftMended") == []


async def test_what_still_differs_when_it_was_adopted_is_not_said_to_be_adopted() -> None:
    fleet = await fleet_of()
    idle(fleet)
    change_group(fleet, allocationPolicy="static", iotHubs=["hub-9"])
    [found] = await fleet.look()
    with pytest.raises(Deferred, match=r"^the finding is not adopted yet: "):
        await fleet.reconciler.act(found.finding_id, Policy.ADOPT)
    assert (await fleet.finding(FindingKind.GROUP_SETTINGS)).state is FindingState.OPEN


async def test_of_what_is_being_changed_nothing_is_said_to_be_mended() -> None:
    """It is not compared then. The next pass sees what has become of it."""
    fleet = await fleet_of()
    entry_of(fleet, "enabled", hierarchy().root.certificate)
    [found] = await fleet.look()
    idle(fleet)
    fleet.world.conductor.down.add("hub")
    fleet.world.ask("revoke", *acts.MESSAGES["revoke"])
    await fleet.world.deliver("revoke")
    fleet.world.conductor.down.clear()
    with pytest.raises(Overtaken, match=r"^'press' is being changed by others; the next pass looks at it again$"):
        await fleet.reconciler.act(found.finding_id, Policy.MEND)
    assert (await fleet.finding(FindingKind.ENROLLMENT_FOREIGN)).state is FindingState.OPEN


async def test_a_registration_that_another_group_has_made_and_that_stays_is_not_mended() -> None:
    """No look at the device alone tells it: so it is read back when it was deleted."""
    fleet = await fleet_of()
    await take_over(fleet)
    fleet.world.provisioning.delete_registration = partial(nothing)  # type: ignore[method-assign]
    assert [each.kind for each in await fleet.look()] == [FindingKind.TAKEN_OVER]
    kept = await fleet.finding(FindingKind.TAKEN_OVER)
    assert (kept.state, kept.problem) == (
        FindingState.OPEN,
        "DPS still has the registration of 'press' that another group has made",
    )


async def nothing(_registration_id: str, **_: Any) -> None:
    pass


# --- what could not be looked at ---


async def test_a_pass_names_what_it_could_not_look_at_and_why() -> None:
    """Whatever has failed, a service or the app itself: nothing else is said of it, so it must not look as if all is well."""
    fleet = await fleet_of()

    async def fail(_group_id: str, _budget: Any) -> list[Any]:
        raise KeyError("x509")

    walk = dataclasses.replace(fleet.reconciler.walk, groups=Failing(fleet.reconciler.walk.groups, fail))  # type: ignore[arg-type]
    fleet.reconciler = dataclasses.replace(fleet.reconciler, walk=walk)
    assert await fleet.look() == []
    [done] = await fleet.reconciler.passes.all()
    shown = shown_pass(done, fleet.reconciler.share)
    assert shown.unread == 1
    assert [each.shown() for each in shown.unread_subjects] == [
        {"subject": GROUP, "why": "KeyError; the log says more"}
    ]


async def test_a_pass_names_twenty_of_what_it_could_not_look_at() -> None:
    fleet = await fleet_of()
    before = ReconciliationRecord(
        reconciliation_id="r",
        began_at=fleet.world.now,
        unread=20,
        unread_subjects={f"press-{number:03}": "down" for number in range(20)},
    )
    await fleet.reconciler.passes.try_insert(before)
    fleet.world.conductor.down.add("hub")
    for _ in range(20):
        await fleet.reconciler.carry_on("r", until=fleet.world.now + timedelta(hours=1))
        fleet.world.now += timedelta(minutes=1)
    done = await fleet.reconciler.describe("r")
    assert done.unread > 20
    assert done.unread_subjects == before.unread_subjects


async def test_a_pass_over_a_device_that_can_not_be_looked_at_holds_up_no_other_and_ends_and_says_so() -> None:
    """It is tried again for a quarter of an hour, beside the others."""
    fleet = await fleet_of()
    begun, whole = await fleet.reconciler.begin(registration_id=DEVICE), await fleet.reconciler.begin()

    async def fail(_registration_id: str, _budget: Any) -> list[Any]:
        raise KeyError("x509")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Walk, "device", lambda _self, *given: fail(*given))
        with pytest.RaisesGroup(KeyError):
            await fleet.reconciler.run(until=fleet.world.now + timedelta(hours=1))
        assert (await fleet.reconciler.describe(whole.reconciliation_id)).state is ReconciliationState.DONE
        assert (await fleet.reconciler.describe(begun.reconciliation_id)).state is ReconciliationState.RUNNING
        fleet.world.now += timedelta(minutes=15)
        await fleet.reconciler.run(until=fleet.world.now + timedelta(minutes=1))
    done = await fleet.reconciler.describe(begun.reconciliation_id)
    assert (done.state, done.unread) == (ReconciliationState.DONE, 1)
    assert done.unread_subjects == {DEVICE: "KeyError; the log says more"}


class Failing:
    """Looks at groups, and fails at each."""

    def __init__(self, looks: GroupLook, differences: Any) -> None:
        self._looks = looks
        self.differences = differences

    def __getattr__(self, name: str) -> Any:
        return getattr(self._looks, name)
