"""What changes between a finding and what is done about it, and between a look and a write, wins: nothing good is lost."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.messages import Queue
from shared.domain.entry_wishes import EntryChange
from shared.domain.findings import Difference, FindingRecord, FindingState, SubjectKind
from shared.domain.passes import ReconciliationState
from shared.domain.treatments import FindingKind, Policy
from shared.domain.words import DeviceState
from shared.errors import Conflict, DeviceFactoryError, NotFound
from shared.ledger.authorities import Authorities
from shared.pki import names
from shared.workflows.devices.bundles import BUNDLES, bundle_name, secret_name
from shared.workflows.reconciliation import walking
from shared.workflows.reconciliation.budget import Budget
from shared.workflows.reconciliation.bundles import bundle_of
from shared.workflows.turns import Turns
from tests.world import acts, groups_acts
from tests.world.drift import (
    CA,
    HOUR,
    OTHERS,
    STRAY,
    Fleet,
    change_entry,
    change_group,
    change_policy,
    delete_group,
    disable_at_hub,
    disable_group,
    enable_at_hub,
    fleet_of,
    give_it_another_certificate,
    keep_deleted_group,
    keep_the_password,
    let_another_in,
    lose_verification,
    make_group,
    make_identity,
    newest,
    pin_and_change,
    register_with_others,
    shut_by_entry,
    store_a_bundle,
)
from tests.world.services import HUB
from tests.world.world import DEVICE, GROUP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.world.drift import Plant

STRANGER = "stranger"


async def found(plant: Plant, *requests: str) -> tuple[Fleet, FindingRecord]:
    """Give a fleet in which something differs, and the finding."""
    fleet = await fleet_of(*requests)
    await plant(fleet)
    [finding] = await fleet.look()
    return fleet, finding


async def outcome(fleet: Fleet, finding: FindingRecord, policy: Policy = Policy.MEND) -> str:
    """Do something about a finding; give what it is then, or why it was refused."""
    try:
        return (await fleet.reconciler.act(finding.finding_id, policy)).state.value
    except DeviceFactoryError as refusal:
        return str(refusal)


async def at_each_step(
    plant: Plant, policy: Policy, meanwhile: Callable[[Fleet], Awaitable[None]], *, of: str = ""
) -> AsyncIterator[tuple[int, Fleet, str]]:
    """Do something about a finding, and before each step of it in turn something else; give how it ended.

    Args:
        plant: makes the difference.
        policy: what is done about it.
        meanwhile: the other.
        of: what the labels of those steps begin with; after the last step it is done as well.
    """

    async def nothing(_fleet: Fleet) -> None:
        pass

    steps, _, _ = await _with_step(plant, policy, nothing, 0)
    for number, label in enumerate([*steps, of]):
        if label.startswith(of):
            _, fleet, said = await _with_step(plant, policy, meanwhile, number)
            yield number, fleet, said


async def _with_step(
    plant: Plant, policy: Policy, meanwhile: Callable[[Fleet], Awaitable[None]], number: int
) -> tuple[list[str], Fleet, str]:
    fleet, finding = await found(plant)
    said = list[str]()

    async def act() -> None:
        said.append(await outcome(fleet, finding, policy))

    # What was seen of the ledger's epochs holds for seconds, and whoever looks first is waited for.
    await fleet.reconciler.check_ledger()
    fleet.world.conductor.start("act", act())
    await fleet.world.conductor.advance("act", number)
    await meanwhile(fleet)
    await fleet.world.conductor.advance("act")
    await fleet.world.drain()
    return fleet.world.conductor.steps["act"], fleet, said[0]


# --- devices ---


async def know_the_stranger(fleet: Fleet) -> None:
    """The device was ordered after it was found as unknown."""
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    await fleet.world.devices.insert(known.record.changed(registration_id=STRANGER, device_id=STRANGER))


async def test_a_device_that_was_ordered_after_it_was_found_as_unknown_is_not_removed() -> None:
    """Whoever mends looks at an old page: the registration and the identity are those of a good device by now."""
    fleet, finding = await found(register_with_others)
    assert finding.kind is FindingKind.UNKNOWN_DEVICE
    await know_the_stranger(fleet)
    await outcome(fleet, finding)
    assert STRANGER in fleet.world.provisioning.registrations
    assert (HUB, STRANGER) in fleet.world.hubs.identities


async def test_an_unknown_device_that_went_by_itself_takes_nothing_with_it() -> None:
    fleet, finding = await found(register_with_others)
    del fleet.world.provisioning.registrations[STRANGER]
    writes = fleet.world.hubs.writes
    assert await outcome(fleet, finding) == "mended"
    assert fleet.world.hubs.writes == writes


async def test_of_an_unknown_device_that_is_in_no_hub_the_registration_goes() -> None:
    fleet, finding = await found(register_with_others)
    registration = fleet.world.provisioning.registrations[STRANGER]
    placeless = {name: value for name, value in registration.items() if name not in {"assignedHub", "deviceId"}}
    fleet.world.provisioning.registrations[STRANGER] = {**placeless, "status": "failed"}
    writes = fleet.world.hubs.writes
    assert await outcome(fleet, finding) == "mended"
    assert STRANGER not in fleet.world.provisioning.registrations
    assert fleet.world.hubs.writes == writes


async def test_the_identity_of_a_deleted_device_that_was_ordered_again_stays() -> None:
    fleet, finding = await found(make_identity, "delete")
    assert finding.kind is FindingKind.IDENTITY_LEFT
    fleet.world.ask("order again", *acts.MESSAGES["order again"])
    await fleet.world.done()
    record = fleet.world.record()
    assert record is not None
    assert record.state is DeviceState.REGISTERED
    before = fleet.world.hubs.identities[HUB, DEVICE]
    await outcome(fleet, finding)
    assert fleet.world.hubs.identities[HUB, DEVICE] == before
    assert [each.kind for each in await fleet.look()] == [FindingKind.IDENTITY_DISABLED]  # as others have made it


async def test_what_is_disabled_already_is_not_switched_by_adopting_it() -> None:
    """The operator's reason stays, and no act is added."""
    fleet, finding = await found(disable_at_hub)
    await fleet.world.services.identities.switch(DEVICE, enabled=False, reason="stolen")
    before = fleet.world.record()
    assert before is not None
    assert await outcome(fleet, finding, Policy.ADOPT) == "adopted"
    after = fleet.world.record()
    assert after is not None
    assert (after.switched_for, after.generation) == ("stolen", before.generation)


STILL = "the finding is not mended yet: what was to be done about it is done, and it still differs. The ledger says: "


@pytest.mark.long
async def test_an_identity_that_others_change_while_it_is_mended_ends_with_the_devices_own_certificate() -> None:
    """Or the finding says that it has not: who changes it after that, and after it was looked at, makes a new one."""

    async def change_it(fleet: Fleet) -> None:
        fleet.world.hubs.enter(HUB, DEVICE, OTHERS, "A" * 64)

    ends, late = set[str](), None
    async for step, fleet, said in at_each_step(give_it_another_certificate, Policy.MEND, change_it, of="hub"):
        ends.add(said.partition("the device")[0])
        held = fleet.world.hubs.identities[HUB, DEVICE].thumbprints
        if OTHERS in held:  # it was mended before
            late = fleet
        else:
            assert held == {names.sha256_thumbprint(await newest(fleet))}, f"at step {step}"
            assert late is None, f"not mended at step {step}"
    assert ends == {"mended", STILL}
    assert late is not None
    assert [each.kind for each in await late.look()] == [FindingKind.ROGUE_CERTIFICATE], "it is found anew"


class Restless:
    """Hubs in which somebody else changes each identity before it is written."""

    def __init__(self, hubs: Any) -> None:
        self._hubs = hubs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hubs, name)

    async def set_thumbprints(self, *_of_it: Any, **_more: Any) -> None:
        return None


async def test_an_identity_that_others_keep_changing_is_given_up_for_now_and_the_finding_says_so() -> None:
    fleet, finding = await found(give_it_another_certificate)
    hubs: Any = Restless(fleet.world.hubs)
    mending = dataclasses.replace(fleet.reconciler.mending, hubs=hubs)
    fleet.reconciler = dataclasses.replace(fleet.reconciler, mending=mending)
    said = await outcome(fleet, finding)
    assert said == f"the identity of '{DEVICE}' is being changed by others"
    kept = await fleet.finding(finding.kind)
    assert (kept.state, kept.problem) == (FindingState.OPEN, said)


async def test_a_device_that_left_its_hub_is_followed_when_its_certificate_is_mended() -> None:
    """Its identity is gone since it was found: there is nothing to set, and no identity is made of it."""
    fleet, finding = await found(give_it_another_certificate)
    del fleet.world.hubs.identities[HUB, DEVICE]
    await outcome(fleet, finding)
    assert (HUB, DEVICE) not in fleet.world.hubs.identities


# --- individual enrollments ---


async def change_allocation(fleet: Fleet) -> None:
    await pin_and_change(fleet, allocationPolicy="static", iotHubs=["hub-9"])


@pytest.mark.parametrize("policy", [Policy.MEND, Policy.ADOPT])
async def test_an_entry_that_is_gone_since_is_not_made_of_its_settings(policy: Policy) -> None:
    """It is a finding of its own; and what nobody can see is not taken over."""
    fleet, finding = await found(change_allocation)
    assert finding.kind is FindingKind.ENROLLMENT_SETTINGS
    del fleet.world.provisioning.enrollments[DEVICE]
    before = fleet.world.record()
    await outcome(fleet, finding, policy)
    assert DEVICE not in fleet.world.provisioning.enrollments
    assert fleet.world.record() == before


async def test_settings_are_not_adopted_while_somebody_asks_for_others() -> None:
    """The entry has not got yet what was asked for, and the record would lose it."""
    fleet, finding = await found(change_allocation)
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    asked = known.record.changed(entry_change=EntryChange(by="act"))
    await fleet.world.devices.replace(known, asked)
    said = await outcome(fleet, finding, Policy.ADOPT)
    assert said == f"the individual enrollment '{DEVICE}' is being changed by others"
    record = fleet.world.record()
    assert record is not None
    assert (record.entry_settings, record.entry_change) == (asked.entry_settings, asked.entry_change)


@pytest.mark.long
async def test_an_entry_that_others_change_while_its_settings_are_written_is_not_overwritten() -> None:
    async def disable(fleet: Fleet) -> None:
        change_entry(fleet, provisioningStatus="disabled")
        fleet.world.provisioning.enrollments[DEVICE]["etag"] = '"of the one who disables it"'

    ends = set[str]()
    async for step, fleet, said in at_each_step(change_allocation, Policy.MEND, disable, of="dps"):
        ends.add(said)
        assert fleet.world.provisioning.enrollments[DEVICE]["provisioningStatus"] == "disabled", f"at step {step}"
    assert ends == {"mended", f"the individual enrollment '{DEVICE}' is being changed by others"}


@pytest.mark.long
async def test_adopting_the_settings_of_an_entry_meets_a_revocation_at_every_step_and_the_door_stays_shut() -> None:
    async def revoke(fleet: Fleet) -> None:
        fleet.world.ask("revoke", *acts.MESSAGES["revoke"])
        await fleet.world.deliver("revoke")

    ends = set[str]()
    async for step, fleet, said in at_each_step(change_allocation, Policy.ADOPT, revoke):
        ends.add(said)
        record = fleet.world.record()
        assert record is not None
        assert record.state is DeviceState.REVOKED, f"at step {step}"
        assert fleet.world.provisioning.enrollments[DEVICE]["provisioningStatus"] == "disabled", f"at step {step}"
    assert ends == {"adopted", f"'{DEVICE}' is being changed by others"}


# --- identities that are disabled ---


async def test_a_device_whose_identity_was_enabled_since_stays_in_service_when_that_it_was_disabled_is_adopted() -> (
    None
):
    """The finding is of the last pass: what the hub has now counts."""
    fleet, finding = await found(disable_at_hub)
    await enable_at_hub(fleet)
    assert await outcome(fleet, finding, Policy.ADOPT) == "adopted"
    record = fleet.world.record()
    assert record is not None
    assert (record.disabled, fleet.world.hubs.identities[HUB, DEVICE].enabled) == (False, True)


async def test_that_an_identity_is_disabled_is_not_adopted_of_a_device_that_is_enabled_at_any_step_of_that() -> None:
    """An operator who enables it meanwhile finds it enabled."""

    async def enable(fleet: Fleet) -> None:
        await acts.ALL_CALLS["enable"](fleet.world)

    ends = set[str]()
    async for step, fleet, said in at_each_step(disable_at_hub, Policy.ADOPT, enable):
        ends.add(said)
        record = fleet.world.record()
        assert record is not None
        assert (record.disabled, fleet.world.hubs.identities[HUB, DEVICE].enabled) == (False, True), f"at step {step}"
    assert ends >= {"adopted", f"'{DEVICE}' is being changed by others"}


# --- groups and CAs ---


async def ask_group(fleet: Fleet, name: str) -> None:
    fleet.world.ask(name, *(groups_acts.message(fleet.world, name) or ()))
    await fleet.world.deliver(name)


@pytest.mark.long
@pytest.mark.parametrize("policy", [Policy.MEND, Policy.ADOPT])
async def test_what_is_done_about_settings_meets_a_request_that_disables_the_group_and_it_is_disabled(
    policy: Policy,
) -> None:
    async def disable(fleet: Fleet) -> None:
        await ask_group(fleet, "disable the group")

    ends = set[str]()
    async for step, fleet, said in at_each_step(change_policy, policy, disable):
        ends.add(said)
        group = fleet.world.group()
        assert group is not None
        assert (group.state, group.settled) == ("disabled", True), f"at step {step}"
        assert fleet.world.provisioning.groups[GROUP]["provisioningStatus"] == "disabled", f"at step {step}"
    assert f"the enrollment group '{GROUP}' is being changed by someone else" in ends
    assert ends - {f"the enrollment group '{GROUP}' is being changed by someone else"} <= {"mended", "adopted"}


async def test_a_group_that_is_made_again_since_is_not_deleted() -> None:
    fleet, finding = await found(keep_deleted_group)
    assert finding.kind is FindingKind.GROUP_LEFT
    del fleet.world.provisioning.groups[GROUP]
    fleet.world.ask("create", *(groups_acts.message(fleet.world, "create") or ()))
    await fleet.world.done()
    await outcome(fleet, finding)
    assert GROUP in fleet.world.provisioning.groups


async def test_a_group_that_takes_over_what_dps_has_left_of_a_deleted_one_keeps_it_though_that_is_mended() -> None:
    """Nothing of the entry has to change for it; who is about to delete the entry has read the group as deleted."""

    async def create(fleet: Fleet) -> None:
        issuer = (fleet.world.group() or pytest.fail("it is deleted")).issuer
        wanted = {"requestId": "gm", "enrollmentGroup": GROUP, "action": "create", "issuer": issuer}
        fleet.world.ask("gm", Queue.ENROLLMENT_GROUP_REQUESTS, wanted)
        await fleet.world.deliver("gm")

    ends = set[str]()
    async for step, fleet, said in at_each_step(keep_deleted_group, Policy.MEND, create):
        ends.add(said)
        group = fleet.world.group()
        assert group is not None
        assert (group.state, group.settled) == ("enabled", True), f"at step {step}"
        assert GROUP in fleet.world.provisioning.groups, f"at step {step}"
    busy = f"the enrollment group '{GROUP}' is being changed by someone else"
    assert ends == {"mended", busy}


async def test_what_is_left_of_a_deleted_group_and_is_changed_by_others_meanwhile_is_left_for_now() -> None:
    async def change(fleet: Fleet) -> None:
        if GROUP in fleet.world.provisioning.groups:
            await change_policy(fleet)

    ends = set[str]()
    async for step, fleet, said in at_each_step(keep_deleted_group, Policy.MEND, change):
        ends.add(said)
        assert (GROUP in fleet.world.provisioning.groups) == (said != "mended"), f"at step {step}"
    assert ends == {"mended", f"the enrollment group '{GROUP}' is being changed by someone else"}


async def test_a_group_that_dps_has_again_is_not_taken_as_deleted() -> None:
    """The devices of a group that is there would be those of nobody."""
    fleet, finding = await found(delete_group)
    entry = (await fleet_of()).world.provisioning.groups[GROUP]
    fleet.world.provisioning.groups[GROUP] = entry
    with pytest.raises(Conflict, match=f"^id: DPS has the enrollment group '{GROUP}' again$"):
        await fleet.reconciler.act(finding.finding_id, Policy.ADOPT)
    group = fleet.world.group()
    assert group is not None
    assert group.state == "enabled"


@pytest.mark.parametrize("plant", [change_policy, disable_group])
async def test_a_group_that_is_gone_since_can_not_be_adopted_as_it_was(plant: Plant) -> None:
    fleet, finding = await found(plant)
    del fleet.world.provisioning.groups[GROUP]
    before = fleet.world.group()
    said = await outcome(fleet, finding, Policy.ADOPT)
    assert said == f"enrollmentGroup: the enrollment group '{GROUP}' is gone from the DPS; create it anew"
    assert fleet.world.group() == before


async def test_a_status_that_is_as_it_should_be_by_now_is_adopted_without_an_act() -> None:
    fleet, finding = await found(disable_group)
    change_group(fleet, provisioningStatus="enabled")
    before = fleet.world.group()
    assert await outcome(fleet, finding, Policy.ADOPT) == "adopted"
    assert fleet.world.group() == before


async def test_what_is_asked_of_a_group_comes_before_what_differs_about_it() -> None:
    """DPS was down when the group was asked to be disabled: what DPS has is on its way, and is not taken over."""
    for plant, policy in ((change_policy, Policy.ADOPT), (disable_group, Policy.ADOPT), (change_policy, Policy.MEND)):
        fleet, finding = await found(plant)
        fleet.world.conductor.down.add("dps")
        await ask_group(fleet, "disable the group")
        fleet.world.conductor.down.clear()
        asked = fleet.world.group()
        assert asked is not None
        assert not asked.settled
        said = await outcome(fleet, finding, policy)
        group = fleet.world.group()
        assert group is not None
        if policy is Policy.ADOPT:
            assert said == f"the enrollment group '{GROUP}' is being changed by someone else"
            assert group == asked
        else:
            assert said.startswith(STILL), "the request is carried out, and the settings differ still"
            assert (group.settled, group.last_request) == (True, "gd")
            assert await outcome(fleet, finding, policy) == "mended"
            assert fleet.world.provisioning.groups[GROUP]["provisioningStatus"] == "disabled"


async def test_what_was_about_a_group_or_a_ca_that_the_ledger_has_lost_is_refused() -> None:
    fleet, finding = await found(change_policy)
    fleet.world.storage.table("groups").rows.clear()
    assert await outcome(fleet, finding) == f"enrollmentGroup: the enrollment group '{GROUP}' does not exist"
    fleet, finding = await found(lose_verification)
    fleet.world.storage.table("issuers").rows.clear()
    assert await outcome(fleet, finding) == f"the certificate authority '{CA}' does not exist"
    assert await Authorities(fleet.world.storage.table("issuers")).get(CA) is None


# --- bundles ---


async def test_a_bundle_that_went_by_itself_is_mended_without_a_deed() -> None:
    fleet, finding = await found(store_a_bundle)
    del fleet.world.blobs.blobs[BUNDLES, bundle_name(DEVICE, STRAY)]
    kept = dict(fleet.world.blobs.blobs), dict(fleet.world.secrets.secrets)
    assert await outcome(fleet, finding) == "mended"
    assert (dict(fleet.world.blobs.blobs), dict(fleet.world.secrets.secrets)) == kept


async def test_a_bundle_whose_certificate_the_ledger_has_again_is_not_deleted() -> None:
    """Such as by a restoration: nothing else has the certificate's chain, and its key."""
    fleet = await fleet_of()
    record = fleet.world.record()
    assert record is not None
    assert record.certificate is not None
    serial_number = record.certificate.serial_number
    difference = Difference(
        kind=FindingKind.BUNDLE_WITHOUT_CERTIFICATE,
        subject_kind=SubjectKind.DEVICE,
        subject=DEVICE,
        ledger="the ledger does not have its certificate",
        service="the bundle is stored",
        where=f"bundle {serial_number}",
    )
    await fleet.reconciler.keep(difference, "a-pass-before")
    [finding] = await fleet.open()
    kept = dict(fleet.world.blobs.blobs), dict(fleet.world.secrets.secrets)
    assert (BUNDLES, bundle_name(DEVICE, serial_number)) in kept[0]
    assert await outcome(fleet, finding) == "mended"
    assert (dict(fleet.world.blobs.blobs), dict(fleet.world.secrets.secrets)) == kept


async def test_a_password_that_went_by_itself_is_no_finding_any_more() -> None:
    fleet, finding = await found(keep_the_password, "revoke")
    _, serial_number = bundle_of(finding.difference)
    fleet.world.secrets.secrets.pop(secret_name(serial_number))
    assert await fleet.reconciler.walk.bundles.differences(DEVICE, serial_number, Budget()) == []


def test_what_names_no_bundle_is_not_taken_for_one() -> None:
    difference = Difference(
        kind=FindingKind.BUNDLE_WITHOUT_CERTIFICATE,
        subject_kind=SubjectKind.DEVICE,
        subject=DEVICE,
        ledger="l",
        service="s",
        where="hub-1",
    )
    with pytest.raises(ValueError, match=r"^'hub-1' does not name a bundle$"):
        bundle_of(difference)


# --- pages ---


async def test_everything_is_compared_however_many_pages_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is left out would keep a door open unseen."""
    monkeypatch.setattr(walking, "PAGE", 1)
    fleet = await fleet_of("hold")
    entries, registrations = fleet.world.provisioning.enrollments, fleet.world.provisioning.registrations
    for name in ("a-first", "z-last"):
        entries[name] = {**entries[DEVICE], "registrationId": name}
        registrations[name] = {**registrations[DEVICE], "registrationId": name, "deviceId": name}
    entries[DEVICE] = {**entries.pop(DEVICE), "provisioningStatus": "enabled"}
    begun = await fleet.reconciler.begin()
    await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + HOUR)
    done = await fleet.reconciler.describe(begun.reconciliation_id)
    assert (done.looked_at["enrollments"], done.looked_at["registrations"]) == (3, 3)
    assert {(each.kind, each.subject) for each in await fleet.open()} == {
        (FindingKind.ROGUE_CERTIFICATE, "a-first"),
        (FindingKind.ROGUE_CERTIFICATE, "z-last"),
    }, "the entries of others are theirs; and the door of the device was shut at once"
    assert entries[DEVICE]["provisioningStatus"] == "disabled"


async def test_a_device_that_is_ordered_while_a_pass_looks_at_it_is_not_unknown() -> None:
    """The page was read before its order was carried out."""

    async def passed(steps: int | None) -> tuple[list[str], list[FindingKind]]:
        fleet = await fleet_of()
        await register_with_others(fleet)
        begun = await fleet.reconciler.begin()
        until = fleet.world.now + HOUR
        fleet.world.conductor.start("pass", fleet.reconciler.carry_on(begun.reconciliation_id, until=until))
        if steps is not None:
            await fleet.world.conductor.advance("pass", steps)
            await know_the_stranger(fleet)
        await fleet.world.conductor.advance("pass")
        about = [each.kind for each in await fleet.open() if each.subject == STRANGER]
        return fleet.world.conductor.steps["pass"], about

    steps, about = await passed(None)
    assert about == [FindingKind.UNKNOWN_DEVICE]
    _, about = await passed(steps.index("dps.get_registration"))
    assert FindingKind.UNKNOWN_DEVICE not in about


# --- what is over ---


async def delete_stray(fleet: Fleet) -> None:
    del fleet.world.blobs.blobs[BUNDLES, bundle_name(DEVICE, STRAY)]


async def enable_group(fleet: Fleet) -> None:
    change_group(fleet, provisioningStatus="enabled")


@pytest.mark.parametrize(("plant", "undo"), [(disable_group, enable_group), (store_a_bundle, delete_stray)])
async def test_what_does_not_differ_any_more_is_over_whatever_it_was_about(plant: Plant, undo: Plant) -> None:
    fleet, finding = await found(plant)
    await undo(fleet)
    assert await fleet.look() == []
    assert (await fleet.finding(finding.kind)).state is FindingState.GONE


async def test_an_unknown_device_that_no_page_lists_stays_a_finding_while_it_is_registered() -> None:
    """Its group was deleted in DPS and in the ledger, so its page is not read; the device can come in all the same."""
    fleet, finding = await found(register_with_others)
    registrations = fleet.world.provisioning.registrations
    registrations[STRANGER] = {**registrations[STRANGER], "enrollmentGroupId": "elsewhere"}
    assert [each.kind for each in await fleet.look()] == [FindingKind.UNKNOWN_DEVICE]
    del registrations[STRANGER]
    assert [each.kind for each in await fleet.look()] == [FindingKind.IDENTITY_UNKNOWN]  # its hub has it still
    assert (await fleet.finding(finding.kind)).state is FindingState.GONE


async def test_a_pass_over_one_device_or_group_does_not_end_what_it_has_not_looked_at() -> None:
    """A finding of another device is as open as before."""
    fleet = await fleet_of()
    await disable_at_hub(fleet)
    await lose_verification(fleet)
    assert {each.kind for each in await fleet.look()} == {
        FindingKind.IDENTITY_DISABLED,
        FindingKind.AUTHORITY_UNVERIFIED,
    }
    await enable_at_hub(fleet)
    fleet.places.held = (await fleet_of()).places.held
    await know_the_stranger(fleet)
    scopes: list[dict[str, str]] = [{"registration_id": STRANGER}, {"registration_id": DEVICE}]
    for scope, left in zip(scopes, (2, 1), strict=True):
        fleet.world.now += HOUR
        begun = await fleet.reconciler.begin(**scope)
        await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + HOUR)
        assert (await fleet.reconciler.describe(begun.reconciliation_id)).state is ReconciliationState.DONE
        still = [each for each in await fleet.open() if each.subject != STRANGER]
        assert len(still) == left, scope
    assert [each.kind for each in still] == [FindingKind.AUTHORITY_UNVERIFIED]


async def test_a_pass_over_a_group_ends_what_it_has_looked_at_alone() -> None:
    """The CA of the group is not looked at: what differs about it stays open."""
    fleet = await fleet_of()
    await disable_group(fleet)
    await lose_verification(fleet)
    assert len(await fleet.look()) == 2
    await enable_group(fleet)
    fleet.places.held = (await fleet_of()).places.held
    fleet.world.now += HOUR
    begun = await fleet.reconciler.begin(enrollment_group=GROUP)
    await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + HOUR)
    assert [each.kind for each in await fleet.open()] == [FindingKind.AUTHORITY_UNVERIFIED]


@pytest.mark.parametrize("kind", [FindingKind.ENROLLMENT_FOREIGN, FindingKind.ENROLLMENT_DISABLED])
async def test_a_pass_over_a_group_looks_at_the_individual_enrollments_of_its_devices(kind: FindingKind) -> None:
    """Also at those that others have made; one over another group does not look at them."""
    fleet = await fleet_of()
    await make_group(fleet, "other")
    await (let_another_in if kind is FindingKind.ENROLLMENT_FOREIGN else shut_by_entry)(fleet)
    for group, found, looked_at in (("other", [], 0), (GROUP, [kind], 1)):
        begun = await fleet.reconciler.begin(enrollment_group=group)
        await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + HOUR)
        ended = await fleet.reconciler.describe(begun.reconciliation_id)
        assert (ended.state, ended.looked_at.get("enrollments", 0)) == (ReconciliationState.DONE, looked_at)
        assert [each.kind for each in await fleet.open() if each.subject == DEVICE] == found


# --- passes ---


async def test_what_does_not_exist_is_said_to_not_exist() -> None:
    fleet = await fleet_of()
    with pytest.raises(NotFound, match=r"^id: the reconciliation 'r' does not exist$"):
        await fleet.reconciler.describe("r")
    with pytest.raises(NotFound, match=r"^id: the finding 'f' does not exist$"):
        await fleet.reconciler.describe_finding("f")


async def test_a_pass_takes_no_step_when_its_time_is_up() -> None:
    """The host ends a function that goes on for too long."""
    fleet = await fleet_of()
    begun = await fleet.reconciler.begin()
    assert await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now) == 0
    assert (await fleet.reconciler.describe(begun.reconciliation_id)) == begun


async def test_of_two_workers_that_take_the_same_step_one_goes_on() -> None:
    """Each would count what both have found; the one that comes late leaves the pass to the other."""
    fleet = await fleet_of()
    await disable_at_hub(fleet)
    fleet.world.now += HOUR
    begun = await fleet.reconciler.begin()
    other = dataclasses.replace(fleet.reconciler, _turns=Turns())
    until = fleet.world.now + HOUR
    taken = list[int]()

    async def late() -> None:
        taken.append(await fleet.reconciler.carry_on(begun.reconciliation_id, until=until))

    fleet.world.conductor.start("late", late())
    await fleet.world.conductor.advance("late", 4)
    await other.carry_on(begun.reconciliation_id, until=until)
    done = await fleet.reconciler.describe(begun.reconciliation_id)
    assert (done.state, done.found) == (ReconciliationState.DONE, {"identityDisabled": 1})
    await fleet.world.conductor.advance("late")
    assert await fleet.reconciler.describe(begun.reconciliation_id) == done
    assert taken == [0]


async def test_passes_are_begun_at_their_interval_one_at_a_time_and_forgotten_after_a_month() -> None:
    fleet = await fleet_of()
    fleet.reconciler = dataclasses.replace(fleet.reconciler, interval=timedelta(days=1))
    passes = fleet.reconciler.passes
    await fleet.reconciler.run(until=fleet.world.now)
    await fleet.reconciler.run(until=fleet.world.now)
    [first] = await passes.all()
    assert first.state is ReconciliationState.RUNNING, "it is carried on, and no second one is begun"
    await fleet.reconciler.run(until=fleet.world.now + HOUR)
    fleet.world.now += timedelta(hours=23)
    await fleet.reconciler.run(until=fleet.world.now + HOUR)
    assert [each.reconciliation_id for each in await passes.all()] == [first.reconciliation_id]
    fleet.world.now += timedelta(days=30)
    await fleet.reconciler.run(until=fleet.world.now + HOUR)
    assert first.reconciliation_id not in {each.reconciliation_id for each in await passes.all()}
    assert len(await passes.all()) == 1


async def test_without_an_interval_no_pass_begins_by_itself() -> None:
    fleet = await fleet_of()
    fleet.reconciler = dataclasses.replace(fleet.reconciler, interval=None)
    assert await fleet.reconciler.run(until=fleet.world.now + HOUR) == 0
    assert await fleet.reconciler.passes.all() == []


@pytest.mark.long
async def test_two_passes_that_see_the_same_at_once_make_one_finding_of_it_and_tell_it_once() -> None:
    for step in range(60):
        fleet = await fleet_of()
        await disable_at_hub(fleet)
        [difference] = await fleet.reconciler.walk.look.differences(DEVICE, Budget())
        fleet.world.conductor.start("one", fleet.reconciler.keep(difference, "one"))
        taken = await fleet.world.conductor.advance("one", step)
        await fleet.reconciler.keep(difference, "two")
        await fleet.world.conductor.advance("one")
        assert len(await fleet.open()) == 1
        told = {event["id"] for event in fleet.world.events() if event["type"].endswith("DriftFound")}
        assert len(told) == 1, f"at step {step}"
        if taken < step:
            break
    assert step > 3


@pytest.mark.long
async def test_a_finding_that_is_mended_while_it_is_closed_is_over_and_says_which() -> None:
    """Of two that end it at once, what the finding says is what was done."""
    ends = set[tuple[str, str]]()
    for step in range(60):
        fleet, finding = await found(disable_at_hub)
        said = list[str]()

        async def close(fleet: Fleet = fleet, finding: FindingRecord = finding, said: list[str] = said) -> None:
            try:
                said.append((await fleet.reconciler.close(finding.finding_id, "under repair")).state.value)
            except Conflict as refusal:
                said.append(str(refusal))

        fleet.world.conductor.start("close", close())
        taken = await fleet.world.conductor.advance("close", step)
        await fleet.reconciler.act(finding.finding_id, Policy.MEND)
        await fleet.world.conductor.advance("close")
        kept = await fleet.finding(finding.kind)
        ends.add((kept.state.value, said[0].partition(" since ")[0]))
        if taken < step:
            break
    assert ends == {
        ("mended", "id: the finding is over"),
        ("mended", "mended"),
        ("mended", "closed"),
    }
