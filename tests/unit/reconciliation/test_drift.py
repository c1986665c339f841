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

from shared.acting import acting
from shared.contracts.messages import Queue
from shared.domain.attestations import (
    admits_only,
    reference_attestation,
    x509_attestation,
)
from shared.domain.authorities import AuthorityRecord, AuthorityState
from shared.domain.callers import Actor, CallerKind
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.findings import Difference, FindingState
from shared.domain.passes import ReconciliationState
from shared.domain.requests import RequestState
from shared.domain.treatments import FindingKind, Policy
from shared.domain.upkeep import to_be_followed
from shared.domain.words import CertificateKind, DeviceState
from shared.errors import Conflict, Deferred, NotFound
from shared.ledger.authorities import Authorities
from shared.pki import names
from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import issue, new_serial_number, prepare
from shared.pki.profiles import root_profile
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.pki.subjects import Subject
from shared.ports.ca_certificates import UploadedAuthority
from shared.workflows.authorities.possession import place_of
from shared.workflows.devices.bundles import secret_name
from shared.workflows.devices.changes import change
from shared.workflows.reconciliation.answers import shown_finding
from shared.workflows.reconciliation.passes import Reconciler
from tests.pki.hierarchy import hierarchy
from tests.world import acts
from tests.world.auditor import audit
from tests.world.certificates import overwrite
from tests.world.drift import (
    CA,
    CAN_BE_MENDED,
    HOUR,
    OTHERS,
    PLANTED,
    REPORTED,
    ROOT,
    STRAY,
    AsRecorded,
    Fleet,
    change_authentication,
    change_group,
    change_policy,
    delete_entry,
    delete_group,
    delete_identity,
    disable_at_hub,
    disable_group,
    disabled_by_request,
    enable_and_change_group,
    enable_at_hub,
    enable_entry,
    entry_of,
    fleet_of,
    give_it_another_certificate,
    keep_a_password,
    keep_deleted_group,
    leave_behind,
    leave_behind_by_its_entry,
    make_a_group_of_ours,
    move,
    newest,
    pin_and_change,
    replace_ca,
    revoke_former,
    set_ca,
    store_a_bundle,
    take_over,
)
from tests.world.groups_world import authority
from tests.world.services import HUB, with_info
from tests.world.world import DEVICE, GROUP

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from tests.world.drift import Plant


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


async def test_a_device_that_is_adopted_as_disabled_says_who_has_not_disabled_it() -> None:
    """No operator of the app's gave a reason; whoever looks at the device later reads where it came from."""
    fleet = await fleet_of(identityDisabled=Policy.ADOPT)
    await disable_at_hub(fleet)
    assert await fleet.look() == []
    record = fleet.world.record()
    assert record is not None
    assert (record.disabled, record.switched_for) == (True, "found disabled in its hub")
    assert "identity disabled: found disabled in its hub" in [each.note for each in record.history]


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


@pytest.mark.parametrize(
    ("asked", "other", "waits"),
    [("whole", "device", True), ("whole", "group", True), ("device", "whole", False), ("device", "group", False)],
)
async def test_a_pass_over_everything_leaves_to_the_others_what_they_have_used_and_they_wait_for_nobody(
    asked: str, other: str, *, waits: bool
) -> None:
    """Whoever asks about one device wants to know now; the pass over everything has all day."""
    fleet = await fleet_of()
    passes, now = fleet.reconciler.passes, fleet.world.now
    over: dict[str, dict[str, str]] = {
        "whole": {},
        "device": {"registration_id": DEVICE},
        "group": {"enrollment_group": GROUP},
    }
    carried, known = [
        await passes.get((await fleet.reconciler.begin(**over[each])).reconciliation_id) for each in (asked, other)
    ]
    assert carried is not None
    assert known is not None
    spent = fleet.reconciler.share.spent({}, {"dps": 1_000}, now)
    assert await passes.try_replace(known, known.record.changed(spent=spent)) is not None
    steps = await fleet.reconciler.carry_on(carried.record.reconciliation_id, until=now + timedelta(seconds=1))
    assert (steps == 0) == waits


async def test_a_pass_over_one_device_does_not_wait_for_another_that_waits_for_its_share() -> None:
    """In one worker: each pass has a turn of its own."""
    fleet = await fleet_of()
    whole, one = await fleet.reconciler.begin(), await fleet.reconciler.begin(registration_id=DEVICE)
    known = await fleet.reconciler.passes.get(whole.reconciliation_id)
    assert known is not None
    spent = fleet.reconciler.share.spent({}, {"dps": 1_000}, fleet.world.now)
    assert await fleet.reconciler.passes.try_replace(known, known.record.changed(spent=spent)) is not None
    states = list[ReconciliationState]()

    async def pause(seconds: float) -> None:
        async with asyncio.timeout(5):  # it would wait for the pass that waits here
            await fleet.reconciler.carry_on(one.reconciliation_id, until=fleet.world.now + HOUR)
        states.append((await fleet.reconciler.describe(one.reconciliation_id)).state)
        fleet.world.now += timedelta(seconds=seconds)

    fleet.reconciler = dataclasses.replace(fleet.reconciler, pause=pause)
    await fleet.reconciler.carry_on(whole.reconciliation_id, until=fleet.world.now + HOUR)
    assert states[0] is ReconciliationState.DONE
