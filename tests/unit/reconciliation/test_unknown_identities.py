"""An identity in any linked hub that is not where the ledger has a device is found in one pass, whatever DPS has of it.

A hub lets in who has an identity. DPS may have left it behind, or may have made it by an entry that is not there any more.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.findings import FindingState
from shared.domain.passes import Stage
from shared.domain.treatments import FindingKind, Policy
from shared.errors import Deferred, Overtaken
from shared.pki import names
from shared.workflows.reconciliation.identities import IdentityLook
from tests.world.drift import (
    CA,
    COPIED,
    HOUR,
    OTHER,
    OTHERS,
    SECOND,
    STRANGER,
    another_device,
    asked,
    enroll,
    leave_behind,
    own,
    register,
    register_with_others,
    revoke_former,
    signed_here,
    two_hubs,
)
from tests.world.services import HUB
from tests.world.world import DEVICE, GROUP

if TYPE_CHECKING:
    from shared.ports.hubs import HubIdentity
    from tests.world.drift import Fleet


def enabled(fleet: Fleet) -> set[tuple[str, str]]:
    return {place for place, identity in fleet.world.hubs.identities.items() if identity.enabled}


# --- of a device of ours, in another hub ---


@pytest.mark.parametrize("request_", ["revoke", "hold", "delete"])
@pytest.mark.parametrize("takes", ["its own", "another"])
async def test_a_second_identity_of_a_device_that_is_shut_out_is_shut_at_once(request_: str, takes: str) -> None:
    """It was let in there by a certificate that is revoked, or by another; nothing else of the device differs."""
    fleet = await two_hubs()
    thumbprint = await own(fleet)
    await asked(fleet, request_)
    fleet.world.hubs.enter(SECOND, DEVICE, thumbprint if takes == "its own" else OTHERS)
    assert await fleet.look() == []
    found = await fleet.finding(FindingKind.DOOR_OPEN)
    assert (found.subject, found.where, found.state) == (DEVICE, SECOND, FindingState.MENDED)
    assert found.service == "this hub has an identity for it that is enabled"
    assert enabled(fleet) == set()


@pytest.mark.parametrize("device_id", [DEVICE, "press-x"])
async def test_one_of_a_deleted_device_is_left_and_is_deleted_although_it_is_disabled(device_id: str) -> None:
    """The hub was put back to a time at which it was shut already."""
    fleet = await two_hubs()
    await fleet.world.devices.claim_device_id("press-x", DEVICE)
    await asked(fleet, "delete")
    fleet.world.hubs.enter(SECOND, device_id, OTHERS, enabled=False)
    fleet.world.hubs.enter(SECOND, "of-others", OTHERS, enabled=False)
    [found] = await fleet.look()
    assert (found.kind, found.subject, found.where) == (FindingKind.IDENTITY_LEFT, DEVICE, SECOND)
    assert found.service == f"this hub has the identity {device_id!r}, which is disabled"
    mended = await fleet.reconciler.act(found.finding_id, Policy.MEND)
    assert mended.state is FindingState.MENDED
    assert {place for place in fleet.world.hubs.identities if place[0] == SECOND} == {(SECOND, "of-others")}
    assert await fleet.look() == []


async def test_a_disabled_one_of_a_device_that_is_not_deleted_is_left_alone() -> None:
    for request in ((), ("revoke",), ("hold",)):
        fleet = await two_hubs()
        for each in request:
            await asked(fleet, each)
        fleet.world.hubs.enter(SECOND, DEVICE, OTHERS, enabled=False)
        assert await fleet.look() == []


async def test_one_of_a_device_in_service_with_its_own_certificate_was_left_behind() -> None:
    fleet = await two_hubs()
    fleet.world.hubs.enter(SECOND, DEVICE, await own(fleet))
    [found] = await fleet.look()
    assert (found.kind, found.subject, found.where) == (FindingKind.IDENTITY_LEFT, DEVICE, SECOND)
    assert found.ledger == f"the device is registered, as 'press' in {HUB}"
    assert found.service == (
        "this hub has the identity 'press', which is enabled and takes the device's own certificates"
    )
    assert (found.severity, found.enrollment_group) == ("low", GROUP)


async def test_what_dps_has_left_behind_is_found_when_the_ledger_has_the_device_in_its_new_hub() -> None:
    """In the same pass, which is told of the other hub by the registration."""
    fleet = await two_hubs(hubChanged=Policy.ADOPT)
    await leave_behind(fleet)
    [found] = await fleet.look()
    assert (found.kind, found.subject, found.where) == (FindingKind.IDENTITY_LEFT, DEVICE, HUB)
    assert found.ledger == f"the device is registered, as 'press' in {SECOND}"
    assert (await fleet.finding(FindingKind.HUB_CHANGED)).state is FindingState.ADOPTED


async def test_what_dps_may_still_take_away_is_not_told_of() -> None:
    """It has assigned the other hub nine minutes ago; after ten it is told."""
    fleet = await two_hubs(hubChanged=Policy.ADOPT)
    await leave_behind(fleet)
    registration = fleet.world.provisioning.registrations[DEVICE]
    begins = fleet.world.now + HOUR
    registration["lastUpdatedDateTimeUtc"] = (begins - timedelta(minutes=9)).isoformat()
    assert await fleet.look() == []
    registration["lastUpdatedDateTimeUtc"] = begins.isoformat()
    assert [each.kind for each in await fleet.look()] == [FindingKind.IDENTITY_LEFT]


async def test_what_was_left_behind_is_disabled_when_it_is_mended() -> None:
    fleet = await two_hubs(identityLeft=Policy.MEND)
    fleet.world.hubs.enter(SECOND, DEVICE, await own(fleet))
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.IDENTITY_LEFT)).state is FindingState.MENDED
    assert enabled(fleet) == {(HUB, DEVICE)}


async def test_one_with_a_former_certificate_that_is_revoked_is_an_open_door() -> None:
    """The device itself goes on with another one."""
    fleet = await two_hubs()
    former = names.sha256_thumbprint(await revoke_former(fleet))
    fleet.world.hubs.enter(SECOND, DEVICE, former)
    assert await fleet.look() == []
    found = await fleet.finding(FindingKind.DOOR_OPEN)
    assert (found.where, found.state) == (SECOND, FindingState.MENDED)
    assert found.service == (
        f"this hub has the identity 'press', which is enabled and takes a certificate that is revoked: {former}"
    )
    assert enabled(fleet) == {(HUB, DEVICE)}


async def test_one_whose_id_differs_by_case_is_another_identity() -> None:
    """Hubs know case, and the app gives out each id once."""
    fleet = await two_hubs("revoke")
    fleet.world.hubs.enter(HUB, "Press", OTHERS)
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.DOOR_OPEN)).state is FindingState.MENDED
    assert enabled(fleet) == set()


# --- of a device that the ledger does not know ---


async def test_an_identity_of_nobody_that_takes_a_certificate_is_named_and_left() -> None:
    """Whoever has made it: nothing says whether its certificate was signed with a copied key."""
    fleet = await two_hubs()
    fleet.world.hubs.enter(SECOND, STRANGER, COPIED)
    before = fleet.world.hubs.writes
    [found] = await fleet.look()
    assert (found.kind, found.subject, found.where) == (FindingKind.IDENTITY_UNKNOWN, STRANGER, SECOND)
    assert (found.severity, found.enrollment_group, found.certificate_authority) == ("high", None, None)
    assert found.ledger == "no such device was ever ordered"
    assert found.service == (
        f"its identity is enabled, and takes the certificate {COPIED}; DPS does not have a registration under this id"
    )
    assert fleet.world.hubs.writes == before
    assert [each.finding_id for each in await fleet.look()] == [found.finding_id]
    assert len(fleet.told("DriftFound")) == 1


@pytest.mark.parametrize("was", ["an entry that is disabled", "an entry that is deleted", "a group that is disabled"])
async def test_one_that_an_entry_has_made_which_does_not_let_in_any_more_is_found(was: str) -> None:
    """With the registration that DPS still has; it does not say which group has made it."""
    fleet, rogue = await two_hubs(), signed_here()
    register(fleet, rogue)
    if was == "an entry that is disabled":
        enroll(fleet, rogue, provisioningStatus="disabled")
    elif was == "a group that is disabled":
        for name, status in (("theirs", "disabled"), ("others", "enabled")):
            groups_of_others(fleet, name, status)
    [found] = await fleet.look()
    assert (found.kind, found.subject, found.where) == (FindingKind.IDENTITY_UNKNOWN, STRANGER, HUB)
    assert found.service == (
        f"its identity is enabled, and takes the certificate {names.sha256_thumbprint(rogue)}; DPS has a registration "
        f"under this id, in {HUB}"
    )


def groups_of_others(fleet: Fleet, name: str, status: str) -> None:
    groups = fleet.world.provisioning.groups
    attestation = {"type": "symmetricKey"}
    groups[name] = {
        **groups[GROUP],
        "enrollmentGroupId": name,
        "attestation": attestation,
        "provisioningStatus": status,
    }


async def test_one_that_an_entry_of_others_still_lets_in_is_not_told_beside_that_entry() -> None:
    """A group that refers to CAs of others, and a group of others alone, have devices in the same hubs."""
    fleet = await two_hubs()
    await register_with_others(fleet)
    assert [each.kind for each in await fleet.look()] == [FindingKind.UNKNOWN_DEVICE]
    fleet = await two_hubs()
    await register_with_others(fleet)
    del fleet.world.provisioning.registrations["stranger"]["enrollmentGroupId"]
    groups_of_others(fleet, "theirs", "enabled")
    assert await fleet.look() == []


async def test_one_that_takes_certificates_of_a_verified_ca_likewise() -> None:
    fleet = await two_hubs()
    fleet.world.hubs.enter(SECOND, STRANGER, authentication="certificateAuthority")
    [found] = await fleet.look()
    assert (found.kind, found.subject) == (FindingKind.IDENTITY_UNKNOWN, STRANGER)
    assert found.service == (
        "its identity is enabled, and lets in whoever has a certificate with its id from a CA that the hub has "
        "verified; DPS does not have a registration under this id"
    )


@pytest.mark.parametrize(
    ("thumbprints", "authentication", "is_enabled"),
    [
        ((), "selfSigned", True),
        ((), "sas", True),
        ((), "none", True),
        ((COPIED,), "selfSigned", False),
        ((), "certificateAuthority", False),
    ],
)
async def test_one_that_takes_no_certificate_or_is_disabled_is_no_finding(
    thumbprints: tuple[str, ...], authentication: str, *, is_enabled: bool
) -> None:
    """Others may share the hub."""
    fleet = await two_hubs()
    fleet.world.hubs.enter(SECOND, STRANGER, *thumbprints, authentication=authentication, enabled=is_enabled)
    assert await fleet.look() == []


@pytest.mark.parametrize(("authentication", "found"), [("sas", ["identityUnknown"]), ("none", [])])
async def test_one_under_the_id_of_a_device_of_ours_must_let_nobody_in_by_a_key(
    authentication: str, found: list[str]
) -> None:
    fleet = await two_hubs()
    fleet.world.hubs.enter(SECOND, DEVICE, authentication=authentication)
    assert [each.kind for each in await fleet.look()] == found


async def test_one_that_is_disabled_or_deleted_since_is_gone() -> None:
    fleet = await two_hubs()
    fleet.world.hubs.enter(SECOND, STRANGER, COPIED)
    await fleet.look()
    fleet.world.hubs.enter(SECOND, STRANGER, COPIED, enabled=False)
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.IDENTITY_UNKNOWN)).state is FindingState.GONE


async def test_mended_it_is_disabled_and_stays() -> None:
    """Under any id that a hub takes, also one that DPS does not take."""
    fleet = await two_hubs(identityUnknown=Policy.MEND)
    fleet.world.hubs.enter(SECOND, "Their$Own#1", COPIED)
    assert await fleet.look() == []
    found = await fleet.finding(FindingKind.IDENTITY_UNKNOWN)
    assert (found.subject, found.state) == ("Their$Own#1", FindingState.MENDED)
    assert fleet.world.hubs.identities[SECOND, "Their$Own#1"].enabled is False
    assert await fleet.look() == []


async def test_one_that_has_changed_since_it_was_looked_at_is_not_disabled() -> None:
    """DPS may have made it anew, for a device that was ordered meanwhile."""
    fleet = await two_hubs()
    fleet.world.hubs.enter(SECOND, STRANGER, COPIED)
    [found] = await fleet.look()
    look = IdentityLook.differences

    async def changed_meanwhile(self: IdentityLook, hub: str, device_id: str, budget: Any) -> Any:
        seen = await look(self, hub, device_id, budget)
        fleet.world.hubs.enter(hub, device_id, OTHERS)
        return seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IdentityLook, "differences", changed_meanwhile)
        with pytest.raises(Overtaken):
            await fleet.reconciler.act(found.finding_id, Policy.MEND)
    assert enabled(fleet) == {(HUB, DEVICE), (SECOND, STRANGER)}


# --- with a certificate of ours ---


async def test_one_that_takes_the_certificate_of_a_device_in_service_names_that_device() -> None:
    """The device had another device id for a while. In each pass it is the same finding, and says the same."""
    fleet = await two_hubs()
    thumbprint = await own(fleet)
    fleet.world.hubs.enter(HUB, STRANGER, thumbprint)
    for _ in range(2):
        [found] = await fleet.look()
        assert (found.kind, found.subject, found.where) == (FindingKind.IDENTITY_UNKNOWN, STRANGER, HUB)
        assert found.ledger == (
            f"no such device was ever ordered; {thumbprint} is a certificate of the device 'press', which is registered"
        )
        assert (found.severity, found.enrollment_group, found.certificate_authority) == ("high", GROUP, CA)
    assert [each["kind"] for each in fleet.told("DriftFound")] == ["identityUnknown"]


@pytest.mark.parametrize("first", ["the identity", "the revocation"])
async def test_one_that_takes_a_revoked_certificate_is_a_door_and_is_shut_at_once(first: str) -> None:
    """Also after it was found, and its finding was closed, when the device was in service."""
    fleet = await two_hubs()
    thumbprint = await own(fleet)
    fleet.world.hubs.enter(HUB, STRANGER, thumbprint)
    if first == "the identity":
        [found] = await fleet.look()
        await fleet.reconciler.close(found.finding_id, "under repair")
    await asked(fleet, "revoke")
    assert await fleet.look() == []
    door = await fleet.finding(FindingKind.DOOR_OPEN)
    assert (door.subject, door.where, door.state, door.severity) == (STRANGER, HUB, FindingState.MENDED, "critical")
    assert door.ledger == (
        f"no such device was ever ordered; {thumbprint} is a certificate of the device 'press', which is revoked, and "
        "is revoked"
    )
    assert enabled(fleet) == set()
    assert (await fleet.finding(FindingKind.IDENTITY_UNKNOWN)).state is FindingState.GONE
    assert await fleet.look() == []


async def test_the_identity_of_another_device_of_ours_in_another_hub_is_told_of_with_whom_it_lets_in() -> None:
    """An entry had that one's device id for a while. Its own identity, in its own hub, stays as it is."""
    fleet = await two_hubs()
    await another_device(fleet)
    thumbprint = await own(fleet)
    fleet.world.hubs.enter(SECOND, OTHER, thumbprint)
    [found] = await fleet.look()
    assert (found.kind, found.subject, found.where) == (FindingKind.IDENTITY_UNKNOWN, OTHER, SECOND)
    assert found.ledger == (
        f"the device is registered, as 'press-2' in {HUB}; {thumbprint} is a certificate of the device 'press', which is "
        "registered"
    )
    await asked(fleet, "revoke")
    assert await fleet.look() == []
    door = await fleet.finding(FindingKind.DOOR_OPEN)
    assert (door.subject, door.where, door.state) == (OTHER, SECOND, FindingState.MENDED)
    assert enabled(fleet) == {(HUB, OTHER)}


async def test_a_door_that_could_not_be_shut_stays_open_until_it_is() -> None:
    """A pass over the group of the device that it lets in sees that it is still there."""
    fleet = await two_hubs()
    fleet.world.hubs.enter(HUB, STRANGER, await own(fleet))
    await asked(fleet, "revoke")

    async def refused(_hub: str, _seen: HubIdentity, *, reason: str) -> None:
        raise Deferred(reason, retry_after=timedelta(seconds=1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet.world.hubs, "disable", refused)
        assert [each.kind for each in await fleet.look()] == [FindingKind.DOOR_OPEN]
        begun = await fleet.reconciler.begin(enrollment_group=GROUP)
        await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + timedelta(minutes=1))
        assert [each.kind for each in await fleet.open()] == [FindingKind.DOOR_OPEN]
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.DOOR_OPEN)).state is FindingState.MENDED
    assert enabled(fleet) == set()


async def test_a_pass_over_the_device_alone_shuts_it_as_well() -> None:
    fleet = await two_hubs()
    fleet.world.hubs.enter(HUB, STRANGER, await own(fleet))
    await fleet.look()
    await asked(fleet, "revoke")
    begun = await fleet.reconciler.begin(registration_id=DEVICE)
    await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + timedelta(minutes=1))
    assert enabled(fleet) == set()


async def test_the_devices_are_compared_with_some_of_the_unknown_identities_that_are_there() -> None:
    """Those whose findings are closed among them, and none that is over."""
    fleet = await two_hubs()
    for number in range(4):
        fleet.world.hubs.enter(SECOND, f"{STRANGER}-{number}", COPIED)
    found = await fleet.look()
    await fleet.reconciler.close(found[0].finding_id, "theirs")
    await fleet.reconciler.end(found[1].finding_id, FindingState.GONE)
    listed = partial(fleet.reconciler.findings.of_kind, FindingKind.IDENTITY_UNKNOWN)
    there = {each.finding_id for each in found} - {found[1].finding_id}
    assert {each.finding_id for each in await listed(limit=1000)} == there
    assert len(await listed(limit=2)) == 2


# --- pages ---


async def test_many_are_looked_at_over_some_minutes_each_once() -> None:
    """Each takes a read of its hub, which has 10 a minute for reconciliation: the pass goes on amid the page."""
    fleet = await two_hubs()
    for number in range(25):
        fleet.world.hubs.enter(SECOND, f"{STRANGER}-{number:02}", COPIED)
    began = fleet.world.now
    found = await fleet.look()
    assert [each.kind for each in found] == [FindingKind.IDENTITY_UNKNOWN] * 25
    assert fleet.world.now - began >= timedelta(hours=1, minutes=2)
    [done] = await fleet.reconciler.passes.all()
    assert (done.looked_at["identities"], done.found) == (26, {"identityUnknown": 25})


async def test_a_hub_that_does_not_answer_keeps_no_other_from_being_looked_at() -> None:
    fleet = await two_hubs()
    fleet.world.hubs.enter(SECOND, STRANGER, COPIED)
    listed = fleet.world.hubs.page

    async def page(hub: str, **paging: Any) -> Any:
        if hub == HUB:
            raise ConnectionError(hub)
        return await listed(hub, **paging)

    fleet.world.hubs.page = page  # type: ignore[method-assign]
    assert [each.subject for each in await fleet.look()] == [STRANGER]
    [done] = await fleet.reconciler.passes.all()
    assert done.unread == 1


async def test_a_hub_that_is_not_linked_any_more_is_passed_over_amid_its_pages() -> None:
    """What another hub has said of its next page means nothing to the one that comes then."""
    fleet = await two_hubs()
    fleet.world.hubs.enter(SECOND, STRANGER, COPIED)
    begun = await fleet.reconciler.begin()
    known = await fleet.reconciler.passes.get(begun.reconciliation_id)
    assert known is not None
    amid = known.record.entered(Stage.IDENTITIES, "hub-11", "1000")
    await fleet.reconciler.passes.try_replace(known, amid)
    await fleet.reconciler.carry_on(begun.reconciliation_id, until=fleet.world.now + timedelta(minutes=9))
    assert [each.subject for each in await fleet.open()] == [STRANGER]


async def test_a_device_id_that_dps_has_given_is_the_devices_own_from_then_on() -> None:
    """Its entry had named it behind the app's back, and the ledger has followed; nobody has claimed it yet."""
    fleet = await two_hubs()
    own_thumbprint, known = await own(fleet), await fleet.world.devices.get(DEVICE)
    assert known is not None
    await fleet.world.devices.replace(known, known.record.changed(device_id="Press-A"))
    fleet.world.hubs.enter(HUB, "Press-A", own_thumbprint)
    del fleet.world.hubs.identities[HUB, DEVICE]
    registrations = fleet.world.provisioning.registrations
    registrations[DEVICE] = {**registrations[DEVICE], "deviceId": "Press-A"}
    assert await fleet.look() == []
    assert await fleet.world.devices.owner_of("Press-A") == DEVICE
