"""Revocation: every certificate with a device's name is shut out, and a hold gives back what it took."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.contracts.devices import AuthorityRevocation, revocation_request
from shared.contracts.messages import Queue
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.doors import ClosedDoor
from shared.domain.groups import GroupState
from shared.domain.orders import LineState, OrderRecord, OrderState
from shared.domain.requests import DELIVERY_LASTS
from shared.domain.revocation import revoked
from shared.domain.revocation_plans import DPS_CALLS, HUB_CALLS, plan_for
from shared.domain.words import CertificateKind, DeviceState, RegisterBy, RevocationReason
from shared.errors import Conflict, Deferred, NotAuthentic, NotFound, Rejected, UnderWay
from shared.ports.registrar import RegistrationRefused
from shared.workflows.devices.members import Members
from shared.workflows.devices.revocations import revocable
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.devices import COMPROMISE, HOLD, HUB, ISSUER, DeviceScene, csr, pem, registered, renewing
from tests.unit.fakes import Killed, Trap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.domain.devices import DeviceRecord

ACTIVE, SUPERSEDED, REVOKED = CertificateState.ACTIVE, CertificateState.SUPERSEDED, CertificateState.REVOKED
CESSATION = RevocationReason.CESSATION_OF_OPERATION


async def test_every_certificate_of_a_device_is_revoked_with_it() -> None:
    """The one that waits for it and those that it had would be taken by its group, and be good to everybody else."""
    scene = await renewing()
    await scene.revoke(COMPROMISE)
    assert await scene.states() == [REVOKED, REVOKED, REVOKED]
    assert await scene.listed() == sorted(await scene.serials())
    assert scene.lists.published[-1] == ISSUER
    assert await scene.admitted() == []
    assert scene.entry() == "disabled"
    assert scene.identity() is False
    assert (await scene.record()).reason == "revoked: keyCompromise"
    assert scene.hubs.identities["hub-1", "press"].reason == "certificate revoked: keyCompromise"


async def test_what_has_expired_is_left_as_it_is() -> None:
    """A list need not name what nobody takes any more; the present certificate counts even so."""
    scene = await registered(validity_days=1)
    await scene.renewing()
    scene.boot(await scene.certificate(2))
    scene.now += timedelta(hours=20)
    await scene.renew()
    scene.now += timedelta(hours=20)
    await scene.sweep.run()
    await scene.revoke(COMPROMISE)
    assert await scene.states() == [SUPERSEDED, REVOKED]
    assert await scene.listed() == [(await scene.serials())[1]]


async def test_a_hold_gives_back_what_it_took() -> None:
    """Reinstated, each certificate is what it was before, and the device waits for its next one again."""
    scene = await renewing()
    await scene.revoke(HOLD)
    assert await scene.states() == [REVOKED, REVOKED, REVOKED]
    assert (await scene.record()).on_hold
    assert (await scene.admitted(), scene.identity()) == ([], False)
    await scene.reinstate()
    assert await scene.states() == [SUPERSEDED, ACTIVE, ACTIVE]
    assert await scene.state() is DeviceState.RENEWING
    assert await scene.listed() == []
    assert scene.entry() is None
    assert scene.identity() is True
    assert [event for event in scene.events() if event.startswith("DeviceRe")][-2:] == [
        "DeviceRevoked",
        "DeviceReinstated",
    ]


@pytest.mark.parametrize("state", [DeviceState.ISSUED, DeviceState.REGISTERED, DeviceState.RENEWING])
async def test_a_device_is_after_a_hold_what_it_was_before(state: DeviceState) -> None:
    """One that has never registered still waits for its first boot, though it was in a hub in an earlier life."""
    scene = await registered(validity_days=1)
    scene.now += timedelta(days=3)
    await scene.sweep.run()
    await scene.sweep.run()
    assert await scene.state() is DeviceState.EXPIRED
    with pytest.raises(Deferred):
        await scene.order("again", csr=csr())
    if state is not DeviceState.ISSUED:
        scene.boot(await scene.certificate(0))
        await scene.deliver("again")
    if state is DeviceState.RENEWING:
        await scene.renewing(csr=csr())
    assert await scene.state() is state
    await scene.revoke(HOLD)
    await scene.reinstate()
    assert await scene.state() is state


async def test_a_hold_that_becomes_final_says_so_and_stays() -> None:
    """The reason of the device is the last one, and neither a hold nor a reinstatement follows."""
    scene = await renewing()
    await scene.revoke(HOLD)
    await scene.revoke(COMPROMISE)
    assert (await scene.record()).reason == "revoked: keyCompromise"
    with pytest.raises(Conflict, match="'press' is revoked for good"):
        await scene.revoke(HOLD)
    with pytest.raises(Conflict, match="'press' is not on hold; only reason 'certificateHold' can be undone"):
        await scene.reinstate()
    assert await scene.states() == [REVOKED, REVOKED, REVOKED]
    assert await scene.admitted() == []


async def test_a_former_certificate_is_revoked_by_its_serial_number() -> None:
    """The device goes on with the others: DPS takes them and no other, since its group would take the former one."""
    scene = await renewing()
    former = (await scene.serials())[0]
    await scene.revoke(COMPROMISE, serial_number=former)
    assert await scene.states() == [REVOKED, ACTIVE, ACTIVE]
    assert await scene.admitted() == [2, 3]
    assert scene.entry() == "enabled"
    assert await scene.listed() == [former]
    assert scene.identity() is True
    assert await scene.state() is DeviceState.RENEWING
    told = scene.event("DeviceRevoked")["data"]
    assert (told["serialNumber"], told["state"]) == (former, "renewing")


async def test_a_device_whose_former_certificate_is_revoked_is_not_given_back_to_its_group() -> None:
    """After a hold DPS still takes the present certificates only."""
    scene = await renewing()
    await scene.revoke(COMPROMISE, serial_number=(await scene.serials())[0])
    await scene.revoke(HOLD)
    assert await scene.admitted() == []
    await scene.reinstate()
    assert await scene.states() == [REVOKED, ACTIVE, ACTIVE]
    assert await scene.admitted() == [2, 3]


async def test_a_former_certificate_may_be_held_and_given_back() -> None:
    """It is superseded again, and a second attempt finds nothing to undo."""
    scene = await renewing()
    former = (await scene.serials())[0]
    await scene.revoke(HOLD, serial_number=former)
    assert await scene.states() == [REVOKED, ACTIVE, ACTIVE]
    await scene.reinstate(serial_number=former)
    assert await scene.states() == [SUPERSEDED, ACTIVE, ACTIVE]
    assert await scene.listed() == []
    with pytest.raises(Conflict, match="is not on hold; only reason 'certificateHold' can be undone"):
        await scene.reinstate(serial_number=former)


async def test_the_certificate_that_waits_for_its_device_is_not_revoked_alone() -> None:
    """The renewal would go on with it; the answer says what can be done."""
    scene = await renewing()
    following = (await scene.serials())[2]
    with pytest.raises(
        Conflict, match=f"is being renewed with serial number {following}: revoke the device, with all its"
    ):
        await scene.revoke(COMPROMISE, serial_number=following)


async def test_a_renewal_waits_while_its_device_is_on_hold() -> None:
    """Its message is put back; once the revocation is final it is refused."""
    scene = await renewing()
    await scene.revoke(HOLD)
    with pytest.raises(Deferred, match="'press' is on hold; this goes on when it is reinstated"):
        await scene.renew("renewal-2")
    await scene.revoke(COMPROMISE)
    with pytest.raises(Conflict, match="'press' was revoked while it was renewed"):
        await scene.renew("renewal-2")
    assert await scene.states() == [REVOKED, REVOKED, REVOKED]


@pytest.mark.parametrize("reason", [COMPROMISE, HOLD])
async def test_a_device_that_is_shut_out_gets_no_new_certificate(reason: RevocationReason) -> None:
    """A renewal that was asked for before, or after: nothing is signed for it."""
    scene = await registered()
    await scene.revoke(reason)
    with pytest.raises((Conflict, Deferred)):
        await scene.renew()
    assert await scene.states() == [REVOKED]


@pytest.mark.parametrize("reason", [COMPROMISE, HOLD])
async def test_what_is_made_for_a_device_that_is_shut_out_meanwhile_is_never_its_own(reason: RevocationReason) -> None:
    """A renewal was about to commit when its device was revoked: the certificate is given up, and so is its bundle."""
    scene = await registered()
    create = scene.blobs.create

    async def meanwhile(*args: Any, **named: Any) -> bool:
        made = await create(*args, **named)
        await scene.revoke(reason)
        return made

    scene.blobs.create = meanwhile  # type: ignore[method-assign]
    with pytest.raises(Deferred):
        await scene.renew()
    scene.blobs.create = create  # type: ignore[method-assign]
    assert await scene.states() == [REVOKED, CertificateState.ABANDONED]
    assert len(scene.blobs.blobs) == 1
    assert await scene.admitted() == []
    if reason is COMPROMISE:
        with pytest.raises(Conflict, match="'press' was revoked while it was renewed"):
            await scene.renew()
        return
    await scene.reinstate()
    await scene.renewing()
    assert await scene.states() == [ACTIVE, CertificateState.ABANDONED, ACTIVE]


async def test_every_certificate_that_was_ever_issued_is_reached_by_a_revocation() -> None:
    """An order that failed after issuance, a new order, a key that got lost: both certificates are revoked and listed."""
    scene = await DeviceScene().set_up()
    scene.registrar.refusal = RegistrationRefused("DPS refuses the device", status=401)
    await scene.order("first")
    assert await scene.states() == [REVOKED], "nobody is to use what a failed order brought"
    assert (await scene.record()).held[0].reason is CESSATION
    scene.registrar.refusal = None
    await scene.order("second")
    assert await scene.state() is DeviceState.REGISTERED
    assert await scene.admitted() == [2]
    await scene.revoke(COMPROMISE)
    assert await scene.states() == [REVOKED, REVOKED]
    assert await scene.listed() == sorted(await scene.serials())
    assert await scene.admitted() == []


async def test_a_certificate_of_a_failed_order_opens_no_door() -> None:
    """DPS reads no list: the device is kept out until another order gives it a certificate."""
    scene = await DeviceScene().set_up()
    scene.hubs.refusal = Rejected.because("the twin is too large")
    await scene.order(tags={"plant": "A"})
    assert await scene.state() is DeviceState.FAILED
    assert (scene.entry(), await scene.admitted(), scene.identity()) == ("disabled", [], False)
    line = await scene.line()
    assert line.reasons == ({"field": "", "message": "the twin is too large"},)
    await scene.order("again")
    assert (scene.entry(), await scene.admitted(), scene.identity()) == ("enabled", [2], True)


async def test_a_hold_does_not_soften_what_is_revoked_for_good() -> None:
    """A failed order's certificate stays revoked, whatever is held and given back."""
    scene = await DeviceScene().set_up()
    scene.registrar.refusal = RegistrationRefused("no", status=401)
    await scene.order()
    with pytest.raises(Conflict, match="'press' is failed, and its certificates are revoked for good"):
        await scene.revoke(HOLD)
    assert await scene.states() == [REVOKED]
    assert (await scene.record()).held[0].reason is CESSATION
    assert await scene.admitted() == []


async def test_a_final_revocation_is_not_undone_by_whoever_changes_entries() -> None:
    """A new entry with any certificate, its deletion, the deletion of the identity: each is refused, the doors stay shut."""
    scene = await registered()
    await scene.revoke(COMPROMISE)
    other = pem(hierarchy().device("press"))
    for certificate in (other, pem(await scene.certificate(1))):
        with pytest.raises(Conflict, match="keeps out a device that is revoked"):
            await scene.enroll(certificate=certificate, provisioningStatus="enabled")
    with pytest.raises(Conflict, match="keeps out a device that is revoked"):
        await scene.enrollments.delete("press")
    with pytest.raises(Conflict, match="'press' is revoked, and its disabled identity keeps it out of hub-1"):
        await scene.identities.delete("press")
    with pytest.raises(Rejected, match="DPS refuses 'press'"):
        scene.boot(await scene.certificate(1))
    assert scene.identity() is False


async def test_a_deleted_device_stays_out() -> None:
    """Its identity and registration are gone, and its entry shuts it out whatever others want."""
    scene = await registered()
    await scene.delete()
    assert await scene.state() is DeviceState.DELETED
    assert (scene.identity(), scene.provisioning.registrations) == (None, {})
    assert (await scene.states(), await scene.admitted()) == ([REVOKED], [])
    for attempt in (
        scene.enroll(certificate=pem(hierarchy().device("press"))),
        scene.enrollments.delete("press"),
    ):
        with pytest.raises(Conflict, match="keeps out a device that is deleted"):
            await attempt
    with pytest.raises(Rejected, match="DPS refuses 'press'"):
        scene.boot(await scene.certificate(1))


async def test_a_deleted_device_that_is_ordered_anew_gets_in_with_its_new_certificate_alone() -> None:
    """The disabled entry of its earlier life admits the new certificate and no other."""
    scene = await registered()
    await scene.delete()
    await scene.order("again")
    assert await scene.state() is DeviceState.REGISTERED
    assert (scene.entry(), await scene.admitted(), scene.identity()) == ("enabled", [2], True)
    assert (await scene.line("again")).state is LineState.REGISTERED


async def test_a_deleted_device_whose_new_order_comes_to_nothing_stays_out() -> None:
    """The order fails before it has a certificate: the group must not let the old one in."""
    scene = await registered()
    await scene.revoke(COMPROMISE)
    await scene.delete()

    async def broken(*_args: Any, **_named: Any) -> Any:
        raise ConnectionError("the blob service is down")

    scene.blobs.create = broken  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await scene.order("again")
    assert await scene.state() is DeviceState.ORDERED
    scene.now += timedelta(minutes=5)
    await scene.converger.sweep(older_than=timedelta(minutes=1))
    assert (scene.entry(), await scene.admitted()) == ("disabled", [])
    await scene.group(GroupState.DISABLED)
    await scene.deliver("again")
    assert await scene.state() is DeviceState.FAILED
    assert (scene.entry(), await scene.admitted()) == ("disabled", [])


async def test_a_deleted_device_whose_new_order_was_interrupted_gets_in_at_last() -> None:
    """The sweep kept it out while it had no certificate; whoever goes on with the order lets it in."""
    scene = await registered()
    await scene.delete()
    create = scene.blobs.create

    async def broken(*_args: Any, **_named: Any) -> Any:
        raise ConnectionError("the blob service is down")

    scene.blobs.create = broken  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await scene.order("again")
    scene.now += timedelta(minutes=5)
    await scene.converger.sweep(older_than=timedelta(minutes=1))
    assert scene.entry() == "disabled"
    scene.blobs.create = create  # type: ignore[method-assign]
    await scene.deliver("again")
    assert await scene.state() is DeviceState.REGISTERED
    assert (scene.entry(), scene.identity()) == ("enabled", True)


async def test_a_hub_is_closed_although_dps_is_down() -> None:
    """Each door is shut whatever the others answer; the revocation is told of when all are."""
    scene = await registered()
    scene.provisioning.down = True
    with pytest.raises(ServiceRequestError, match="dps can't be reached"):
        await scene.revoke(COMPROMISE)
    assert scene.identity() is False
    assert await scene.listed() == await scene.serials()
    assert "DeviceRevoked" not in scene.events()
    assert (await scene.directory.describe("press")).state == "registered", "it is not shown before it is so"
    scene.provisioning.down = False
    scene.now += timedelta(minutes=2)
    assert await scene.converger.sweep(older_than=timedelta(minutes=1)) == 1
    assert (scene.entry(), await scene.admitted()) == ("disabled", [])
    assert "DeviceRevoked" in scene.events()
    assert (await scene.directory.describe("press")).state == "revoked"
    assert scene.unsettled_rows.rows == {}


async def test_dps_is_closed_although_a_hub_is_down() -> None:
    """The other way round."""
    scene = await registered()
    scene.hubs.down = {"hub-1"}
    with pytest.raises(ConnectionError, match="hub-1 is down"):
        await scene.revoke(COMPROMISE)
    assert (scene.entry(), await scene.admitted()) == ("disabled", [])
    assert "DeviceRevoked" not in scene.events()


async def test_a_hold_that_shut_some_doors_only_is_undone_in_full() -> None:
    """DPS was down while it was held: the hub that was shut then lets the device in again."""
    scene = await registered()
    scene.provisioning.down = True
    with pytest.raises(ServiceRequestError):
        await scene.revoke(HOLD)
    assert scene.identity() is False
    scene.provisioning.down = False
    await scene.reinstate()
    assert (scene.identity(), await scene.admitted(), await scene.listed()) == (True, [1], [])
    assert scene.events()[-2:] == ["DeviceRevoked", "DeviceReinstated"]


async def test_a_hold_that_is_late_does_not_bring_back_what_was_undone() -> None:
    """Its list entry comes after the reinstatement, which had nothing to take off the list: it stays off."""
    scene = await registered()
    enter = scene.certificates.enter_revocation

    async def meanwhile(record: Any) -> None:
        scene.certificates.enter_revocation = enter  # type: ignore[method-assign]
        await scene.reinstate()
        await enter(record)

    scene.certificates.enter_revocation = meanwhile  # type: ignore[method-assign]
    await scene.revoke(HOLD)
    assert await scene.state() is DeviceState.REGISTERED
    assert await scene.states() == [ACTIVE]
    assert (await scene.listed(), scene.identity(), await scene.admitted()) == ([], True, [1])


async def test_a_revoked_certificate_that_no_list_can_name_is_not_told_as_listed() -> None:
    """A list needs the end of each certificate. Where a record lacks it, the device does not settle."""
    scene = await registered()
    known = await scene.devices.get("press")
    assert known is not None
    [held] = revoked(known.record, act="a", reason=COMPROMISE, at=scene.now, correlation="a").held
    damaged = known.record.changed(held=(held.changed(not_after=None),), generation=known.record.generation + 1)
    await scene.devices.replace(known, damaged)
    with pytest.raises(RuntimeError, match="has no end of it"):
        await scene.converger.converge("press")
    assert not (await scene.record()).settled


async def _carry_out(scene: DeviceScene, act: str) -> None:
    if act == "reinstate":
        await scene.reinstate()
    elif act == "delete":
        await scene.delete()
    else:
        await scene.revoke(HOLD if act == "hold" else COMPROMISE)


@pytest.mark.parametrize("act", ["hold", "revoke", "delete", "reinstate"])
async def test_an_act_that_is_killed_after_any_step_is_finished_by_the_sweep(act: str) -> None:
    """Nobody repeats it: what its record wants is brought about, and told of, once."""
    for steps in range(1, 40):
        scene, trap = await registered(), Trap()
        if act == "reinstate":
            await scene.revoke(HOLD)
        for each in (scene.rows, scene.provisioning, scene.hubs, scene.queues, scene.unsettled_rows):
            each.step = trap.step
        trap.after = steps
        before = await scene.record()
        try:
            await _carry_out(scene, act)
        except Killed:
            pass
        else:
            assert steps > 5, "it was killed several times"
            return
        trap.after = None
        scene.now += timedelta(minutes=2)
        await scene.converger.sweep(older_than=timedelta(minutes=1))
        record = await scene.record()
        if record.generation == before.generation:
            continue  # killed before anything was decided
        assert record.settled
        shut = act != "reinstate"
        assert await scene.admitted() == ([] if shut else [1])
        assert bool(scene.identity()) is not shut
        assert await scene.listed() == (await scene.serials() if shut else [])
        assert scene.events()[-1] == ("DeviceRevoked" if shut else "DeviceReinstated")
        assert scene.unsettled_rows.rows == {}
    raise AssertionError("it never came to an end")


async def test_the_same_request_twice_changes_nothing_twice() -> None:
    """One that was interrupted and comes again, after the device was given back meanwhile, does not hold it again."""
    scene = await registered()
    request = scene.revocation(reason=HOLD)
    scene.provisioning.down = True
    with pytest.raises(ServiceRequestError):
        await scene.revocations.carry_out(request)
    scene.provisioning.down = False
    await scene.reinstate()
    await scene.revocations.carry_out(request)
    assert await scene.state() is DeviceState.REGISTERED
    assert (scene.identity(), await scene.admitted()) == (True, [1])


async def test_a_final_revocation_wins_against_a_reinstatement_that_is_late() -> None:
    """It comes when the reinstatement has looked at the doors: none is opened on what was seen before."""
    scene = await registered()
    await scene.revoke(HOLD)
    look = scene.provisioning.get_enrollment

    async def meanwhile(registration_id: str) -> Any:
        seen = await look(registration_id)
        scene.provisioning.get_enrollment = look  # type: ignore[method-assign]
        await scene.revoke(COMPROMISE)
        return seen

    scene.provisioning.get_enrollment = meanwhile  # type: ignore[method-assign]
    await scene.reinstate()
    assert await scene.state() is DeviceState.REVOKED
    assert (scene.identity(), await scene.admitted(), await scene.listed()) == (False, [], await scene.serials())


async def test_what_cannot_be_is_refused_at_once() -> None:
    """Unknown devices, certificates and groups, and reinstating what is not on hold."""
    scene = await registered()
    for fields, message in (
        ({"registration_id": "nobody"}, "the device 'nobody' does not exist"),
        ({"serial_number": "4" * 40}, "a certificate with serial number 4{40} does not exist"),
        ({"enrollment_group": "nowhere"}, "the enrollment group 'nowhere' does not exist"),
    ):
        with pytest.raises(NotFound, match=message):
            await scene.revocations.check(scene.revocation(reason=COMPROMISE, **fields))
    with pytest.raises(Conflict, match="'press' is not on hold"):
        await scene.revocations.check(scene.revocation(action="reinstate"))
    with pytest.raises(NotFound, match="the enrollment group 'nowhere' does not exist"):
        await scene.revoke(enrollment_group="nowhere")
    assert await scene.states() == [ACTIVE]


async def test_an_order_waits_while_its_device_is_on_hold() -> None:
    """Its line says so; reinstated, the device is registered."""
    scene = await DeviceScene().set_up()
    with pytest.raises(Deferred):
        await scene.order(csr=csr(), register_by=RegisterBy.DEVICE)
    await scene.revoke(HOLD)
    with pytest.raises(Deferred, match="'press' is on hold; this goes on when it is reinstated"):
        await scene.deliver()
    line = await scene.line()
    assert line.state is LineState.ISSUED
    assert line.reasons == ({"field": "", "message": "'press' is on hold; this goes on when it is reinstated"},)
    await scene.reinstate()
    assert await scene.state() is DeviceState.ISSUED
    scene.boot(await scene.certificate(1))
    await scene.deliver()
    assert await scene.state() is DeviceState.REGISTERED


async def test_what_a_group_s_revocation_does_carries_the_caller_s_id_and_comes_of_it_alone() -> None:
    """Each device gets a message of its own under the request's id, which a message made by others does not pass for."""
    scene = await renewing()
    with pytest.raises(UnderWay):
        await scene.revoke(COMPROMISE, request_id="all", enrollment_group="line")
    body = next(body for queue, body, _ in reversed(scene.queues.sent) if queue == "revocation-requests")["data"]
    assert (body["requestId"], body["registrationId"], body["reason"]) == ("all", "press", "keyCompromise")
    before = await scene.record()
    with pytest.raises(NotAuthentic):
        await scene.revocations.carry_out(revocation_request({**body, "part": "0" * 64}))
    assert (await scene.record(), before.settled) == (before, False)
    await scene.revocations.carry_out(revocation_request(body))
    assert await scene.states() == [REVOKED, REVOKED, REVOKED]
    assert scene.event("DeviceRevoked")["correlationid"] == "all"


async def test_a_device_is_held_and_given_back_by_the_serial_number_of_its_certificate() -> None:
    """The certificate that it uses stands for the device; an earlier one stands for itself."""
    scene = await registered()
    [serial] = await scene.serials()
    await scene.revoke(HOLD, serial_number=serial)
    assert (await scene.state(), await scene.admitted()) == (DeviceState.REVOKED, [])
    await scene.reinstate(serial_number=serial)
    assert (await scene.state(), await scene.admitted()) == (DeviceState.REGISTERED, [1])


async def test_a_ca_is_not_revoked_as_a_device() -> None:
    """Its serial number is known, and what revokes its devices is said."""
    scene = await DeviceScene().set_up()
    await scene.certificates.reserve(
        CertificateRecord(
            serial_number="4" * 40,
            kind=CertificateKind.INTERMEDIATE,
            state=ACTIVE,
            subject=ISSUER,
            issuer="root",
            cause="ca",
            recorded_at=scene.now,
        )
    )
    with pytest.raises(Rejected) as refused:
        await scene.revoke(serial_number="4" * 40)
    assert str(refused.value) == (
        f"serialNumber: serial number {'4' * 40} is that of a certificate of kind 'intermediate'; this request revokes "
        "devices: name the enrollmentGroup to revoke all devices of an issuing CA"
    )


async def test_a_group_is_revoked_page_by_page_and_given_back_as_far_as_it_is_on_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each device gets one message, whatever page it is on; a reinstatement asks nothing of who is not on hold."""
    monkeypatch.setattr("shared.workflows.devices.revocations.BATCH", 1)
    scene = await registered()
    await scene.order("second", "lathe")
    await scene.order("third", "drill")
    await scene.revoke(HOLD, registration_id="lathe")
    with pytest.raises(UnderWay):
        await scene.revoke(HOLD, enrollment_group="line")
    assert asked(scene) == ["drill", "lathe", "press"]
    scene.queues.sent.clear()
    await scene.revoke(COMPROMISE, registration_id="drill")
    with pytest.raises(UnderWay):
        await scene.reinstate(enrollment_group="line")
    assert asked(scene) == ["lathe", "press"]


@pytest.mark.parametrize(("given", "taken"), [(None, False), (2, False), (3, True), (4, False)])
async def test_who_revokes_a_large_group_repeats_how_many_devices_it_has(given: int | None, *, taken: bool) -> None:
    """Seen at once and again when it is carried out; devices that are revoked already do not count."""
    scene = await registered()
    scene.unrepeated = 2
    for number, device in enumerate(("lathe", "drill", "saw")):
        await scene.order(f"order-{number}", device)
    await scene.revoke(registration_id="saw")
    await scene.directory_upkeep.run()
    wanted = scene.revocation(reason=COMPROMISE, enrollment_group="line", devices=given)
    if taken:
        await scene.revocations.check(wanted)
        with pytest.raises(UnderWay):
            await scene.revocations.carry_out(wanted)
        assert asked(scene) == ["drill", "lathe", "press"]
        return
    said = "devices is not given" if given is None else f"devices is {given}"
    for act in (scene.revocations.check, scene.revocations.carry_out):
        with pytest.raises(Conflict, match=f"the enrollment group 'line' has 3 devices.*{said}.*devices 3"):
            await act(wanted)
    assert asked(scene) == []


async def test_a_plan_counts_the_devices_that_are_revoked_then_by_whatever_they_are_named() -> None:
    """One on hold may be revoked for good; one that is revoked for good is left out."""
    scene = await registered()
    for number, device in enumerate(("lathe", "drill", "saw", "mill")):
        await scene.order(f"order-{number}", device)
    await scene.revoke(HOLD, registration_id="lathe")
    await scene.revoke(COMPROMISE, registration_id="saw")
    await scene.directory_upkeep.run()
    names = ("press", "lathe", "drill", "saw", "mill")
    for wanted in (
        scene.revocation(reason=COMPROMISE, registration_ids=names),
        scene.revocation(reason=COMPROMISE, enrollment_group="line"),
    ):
        assert (await scene.revocations.foresee(wanted)).devices == 4
    assert await revocable(scene.revocations.members.directory, "line") == 4
    with pytest.raises(UnderWay):
        await scene.revocations.carry_out(wanted)
    assert asked(scene) == ["drill", "lathe", "mill", "press"]


async def test_a_groups_revocation_that_was_killed_goes_on_although_fewer_devices_are_left_by_then() -> None:
    """Its number was right when it began; what it began is finished, and not compared with what is left of it."""
    scene, trap = await registered(), Trap()
    scene.unrepeated = 2
    for number, device in enumerate(("lathe", "drill", "saw")):
        await scene.order(f"order-{number}", device)
    await scene.directory_upkeep.run()
    wanted = scene.revocation(reason=COMPROMISE, enrollment_group="line", devices=4)
    scene.queues.step, trap.after = trap.step, 2
    with pytest.raises(Killed):
        await scene.revocations.carry_out(wanted)
    trap.after = None
    first, *_ = asked(scene)
    await scene.revoke(registration_id=first)
    await scene.directory_upkeep.run()
    scene.now += DELIVERY_LASTS
    with pytest.raises(UnderWay):
        await scene.revocations.carry_out(wanted)
    assert set(asked(scene)) == {"drill", "lathe", "press", "saw"}


def asked(scene: DeviceScene) -> list[str]:
    """Tell whose revocation was asked for."""
    return sorted(
        body["data"]["registrationId"] for queue, body, _ in scene.queues.sent if queue == "revocation-requests"
    )


# --- many devices: of an order, and by their names ---


async def several() -> DeviceScene:
    """Give four devices that are registered; the first was ordered in an order that the ledger has."""
    scene = await registered()
    for device in ("lathe", "drill", "saw"):
        await scene.order(f"order-{device}", device)
    await scene.directory_upkeep.run()
    return scene


async def enter_order(scene: DeviceScene, order_id: str) -> None:
    await scene.orders.insert(
        OrderRecord(
            order_id=order_id,
            fingerprint="f",
            state=OrderState.COMPLETED,
            enrollment_group="line",
            register_by=RegisterBy.SERVICE,
            device_count=1,
            accepted_at=scene.now,
        )
    )


async def test_the_devices_that_are_named_are_revoked_and_no_others() -> None:
    """Each once, however often it is named."""
    scene = await several()
    with pytest.raises(UnderWay):
        await scene.revoke(COMPROMISE, registration_ids=("saw", "Press", "saw"))
    assert asked(scene) == ["press", "saw"]


async def test_the_devices_of_an_order_are_revoked_and_no_others() -> None:
    scene = await several()
    await enter_order(scene, "order-lathe")
    with pytest.raises(UnderWay):
        await scene.revoke(COMPROMISE, order_id="order-lathe")
    assert asked(scene) == ["lathe"]


async def test_a_device_that_was_ordered_again_is_not_its_former_orders() -> None:
    scene = await several()
    await enter_order(scene, "order-lathe")
    await scene.revoke(registration_id="lathe")
    await scene.order("order-again", "lathe")
    await scene.revoke(COMPROMISE, order_id="order-lathe")
    assert asked(scene) == []


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ({"order_id": "nowhere"}, r"^orderId: the order 'nowhere' does not exist$"),
        ({"registration_ids": ("saw", "swa")}, r"^registrationIds: these devices do not exist: 'swa'$"),
        (
            {"registration_ids": tuple(f"x-{number}" for number in range(7))},
            r"^registrationIds: these devices do not exist: 'x-0', 'x-1', 'x-2', 'x-3', 'x-4', and 2 more$",
        ),
    ],
)
async def test_what_does_not_exist_is_not_revoked_in_part(target: dict[str, Any], says: str) -> None:
    """Misspelt, a device would stay let in. So nothing is done, and nothing is foreseen, before the list is right."""
    scene = await several()
    wanted = scene.revocation(reason=COMPROMISE, **target)
    for act in (scene.revocations.check, scene.revocations.carry_out, scene.revocations.foresee):
        with pytest.raises(NotFound, match=says):
            await act(wanted)
    assert asked(scene) == []


async def test_who_names_more_devices_than_are_let_through_repeats_how_many() -> None:
    scene = await several()
    scene.unrepeated = 2
    named = ("saw", "press", "drill")
    with pytest.raises(Conflict, match=r"registrationIds names 3 devices.*devices is not given.*devices 3"):
        await scene.revoke(COMPROMISE, registration_ids=named)
    with pytest.raises(UnderWay):
        await scene.revoke(COMPROMISE, registration_ids=named, devices=3)
    assert asked(scene) == ["drill", "press", "saw"]


async def test_a_paced_revocation_asks_for_so_many_devices_a_minute() -> None:
    """The message is put back until the next ones are due; what was asked for is not asked for again."""
    scene = await several()
    wanted = scene.revocation(reason=COMPROMISE, enrollment_group="line", per_minute=2)
    with pytest.raises(Deferred, match="its pace: 2 devices are asked for, 2 a minute") as put_back:
        await scene.revocations.carry_out(wanted)
    assert put_back.value.retry_after == timedelta(minutes=1)
    assert len(asked(scene)) == 2
    scene.now += timedelta(seconds=59)
    with pytest.raises(Deferred, match="its pace"):
        await scene.revocations.carry_out(wanted)
    assert len(asked(scene)) == 2
    scene.now += timedelta(seconds=1)
    with pytest.raises(UnderWay):
        await scene.revocations.carry_out(wanted)
    assert asked(scene) == ["drill", "lathe", "press", "saw"]


async def test_what_a_group_gets_while_its_devices_are_revoked_is_not_meant() -> None:
    """Its compromised devices are replaced meanwhile; one of them that gets another certificate is still one of them."""
    scene = await several()
    wanted = scene.revocation(reason=COMPROMISE, enrollment_group="line", per_minute=2)
    with pytest.raises(Deferred, match="its pace: 2 devices are asked for, 2 a minute"):
        await scene.revocations.carry_out(wanted)
    [renewed, _] = {"drill", "lathe", "press", "saw"} - set(asked(scene))
    scene.now += timedelta(seconds=30)
    with suppress(Deferred):
        await scene.renew("renewal", renewed)
    for n in range(6):
        await scene.order(f"order-new-{n}", f"new-{n}")
    for _ in range(5):
        scene.now += timedelta(minutes=1)
        with suppress(Deferred):
            await scene.revocations.carry_out(wanted)
    assert set(asked(scene)) == {"drill", "lathe", "press", "saw"}
    known = await scene.requests.get(Queue.REVOCATION_REQUESTS, wanted.request_id)
    assert known is not None
    assert known.record.progress is not None
    assert known.record.progress.queued == 4
    assert known.record.progress.skipped, "some of the new ones were gone through"


async def test_two_deliveries_of_a_paced_revocation_keep_its_pace_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its call died between sending its message and writing that down, and sent it again. One goes on from the other."""
    scene = await several()
    wanted = scene.revocation(reason=COMPROMISE, enrollment_group="line", per_minute=2)
    read, others = Members.page, list[str]()

    async def page(*args: Any, **named: Any) -> Any:
        if not others:
            others.append("begun")
            with pytest.raises(Deferred, match="its pace"):
                await scene.revocations.carry_out(wanted)
            for queue, body, _ in list(scene.queues.sent):
                if queue == "revocation-requests":
                    await scene.revocations.carry_out(revocation_request(body["data"]))
        return await read(*args, **named)

    monkeypatch.setattr(Members, "page", page)
    with pytest.raises(Deferred, match="its pace: 2 devices are asked for, 2 a minute"):
        await scene.revocations.carry_out(wanted)
    assert len(asked(scene)) == 2
    scene.now += timedelta(minutes=1)
    with pytest.raises(UnderWay):
        await scene.revocations.carry_out(wanted)
    assert asked(scene) == ["drill", "lathe", "press", "saw"]


# --- many devices: of a CA ---


async def of_issuer(scene: DeviceScene, request_id: str = "of-ca") -> AuthorityRevocation:
    """Ask for the devices of the CA as its revocation does, and go through them once."""
    wanted = AuthorityRevocation(request_id=request_id, issuer=ISSUER, reason=COMPROMISE)
    with suppress(UnderWay):
        await scene.revocations.carry_out(wanted)
    return wanted


async def test_a_certificate_of_a_revoked_ca_that_its_device_does_not_use_is_revoked_alone() -> None:
    """Its device goes on, and its hub does not shut it out; the request is done when that certificate is revoked."""
    scene = await registered()
    known = await scene.known()
    await scene.devices.replace(known, known.record.changed(certificate=None))
    wanted = await of_issuer(scene)
    (message,) = [body["data"] for queue, body, _ in scene.queues.sent if queue == "revocation-requests"]
    assert message["serialNumber"] == (await scene.serials())[0]
    assert scene.identity() is True
    await scene.revocations.carry_out(revocation_request(message))
    assert (await scene.states(), await scene.state()) == ([REVOKED], DeviceState.REGISTERED)
    await scene.revocations.carry_out(wanted)
    done = await scene.requests.get("revocation-requests", "of-ca")
    assert done is not None
    assert done.record.progress is not None
    assert (done.record.state, done.record.progress.queued, done.record.progress.done) == ("done", 1, 1)


async def test_what_a_device_falls_with_is_asked_for_once() -> None:
    """Though it has two certificates of the CA: the one that it uses, and the one that it is renewed with."""
    scene = await renewing()
    await of_issuer(scene)
    assert asked(scene) == ["press"]


# --- what it takes ---


async def test_what_a_revocation_takes_is_said_before_anything_is_done() -> None:
    """The hubs of many are shut by two calls for a hundred devices; then each device takes its own calls."""
    scene = await several()
    scene.unrepeated = 2
    await scene.revoke(registration_id="saw")
    await scene.directory_upkeep.run()
    await enter_order(scene, "order-lathe")

    async def foresee(**target: Any) -> dict[str, Any]:
        return (await scene.revocations.foresee(scene.revocation(reason=COMPROMISE, **target))).shown()

    assert await foresee(enrollment_group="line") == {
        "action": "revoke",
        "target": "enrollmentGroup",
        "devices": 3,
        "hubs": {"hub-1": 3},
        "repeatDevices": True,
        "dpsCalls": 12,
        "hubCalls": 11,
        "hubsShutAfterMinutes": 0.02,
        "doneAfterMinutes": 0.11,
        "perMinute": None,
    }
    paced = await foresee(enrollment_group="line", per_minute=1)
    assert (paced["doneAfterMinutes"], paced["perMinute"]) == (2.04, 1), "the last one is asked for after two minutes"
    named = await foresee(registration_ids=("lathe", "press", "saw"))
    assert (named["devices"], named["target"]) == (2, "registrationIds")
    of_order = await foresee(order_id="order-lathe")
    assert (of_order["devices"], of_order["target"]) == (1, "orderId")
    assert ((await foresee())["hubs"], (await foresee())["target"]) == ({"hub-1": 1}, "registrationId")
    whole = await scene.revocations.foresee_authorities([ISSUER])
    assert (whole.devices, whole.hub_calls, whole.hubs_shut_after_minutes) == (3, 11, 0.02)
    slow = await scene.revocations.foresee_authorities([ISSUER], per_minute=1)
    assert slow.per_minute == 1
    assert (slow.hubs_shut_after_minutes, slow.done_after_minutes) == (2.01, 2.04)
    assert await scene.state() is DeviceState.REGISTERED
    with pytest.raises(NotFound):
        await foresee(enrollment_group="nowhere")


@pytest.mark.parametrize(
    ("devices", "per_minute", "minutes"),
    [
        (6, 12, 0.18),  # all are asked for at once
        (12, 6, 1.18),  # the second half a minute later
        (1000, 100, 30.2),  # the hub's quota takes longer
        (1000, 10, 99.3),  # of which the last ten begin after 99 minutes
        (1000, 600, 30.2),  # in batches of 200
    ],
)
def test_a_pace_is_planned_as_it_is_kept(devices: int, per_minute: int, minutes: float) -> None:
    """So many are asked for, then nothing until the next ones are due."""
    plan = plan_for({"hub-1": devices}, together=True, hub_units=1, per_minute=per_minute)
    assert plan.done == pytest.approx(minutes, abs=0.03)


def test_a_thousand_devices_are_shut_out_of_their_hub_within_a_minute() -> None:
    """And done in half an hour, by one S1 unit's quota of 100 registry operations a minute; 10 units take a tenth."""
    plan = plan_for({"hub-1": 1000}, together=True, hub_units=1)
    assert (plan.dps_calls, plan.hub_calls) == (4000, 3020)
    assert (plan.hubs_shut, plan.done) == (0.2, 30.2)
    assert plan_for({"hub-1": 1000}, together=True, hub_units=10).done == 4.0  # DPS's quota of 1,000 a minute


def test_hubs_are_asked_beside_each_other_so_the_fullest_decides() -> None:
    """Devices that are in none take their calls of DPS alone."""
    plan = plan_for({"hub-1": 300, "hub-2": 600, "": 100}, together=True, hub_units=1)
    assert (plan.devices, dict(plan.hubs)) == (1000, {"hub-1": 300, "hub-2": 600})
    assert (plan.dps_calls, plan.hub_calls) == (4000, 2718)
    assert (plan.hubs_shut, plan.done) == (0.12, 18.12)
    assert plan_for({}, together=True, hub_units=1).done == 0


async def test_a_device_takes_as_many_calls_as_are_reckoned_with() -> None:
    scene = await registered()
    calls = Counter[str]()

    @asynccontextmanager
    async def counted(_label: str, service: str = "") -> AsyncIterator[None]:
        calls[service] += 1
        yield

    scene.provisioning.conductor.step = scene.hubs.conductor.step = counted  # type: ignore[method-assign,assignment]
    await scene.revoke(COMPROMISE)
    assert (calls["dps"], calls["hub"]) == (DPS_CALLS, HUB_CALLS)


# --- doors ---


def doors(record: DeviceRecord) -> dict[tuple[str, str], str]:
    return {(each.door.value, each.where): f"{each.since:%H:%M}" for each in record.closed}


async def test_a_device_shows_its_doors_and_since_when_each_is_closed() -> None:
    """Read back at the services; another act on it changes nothing of when they were closed."""
    scene = await registered()
    assert (await scene.record()).closed == ()
    scene.now = NOW.replace(hour=13, minute=0)
    await scene.revoke(HOLD)
    closed = {("dps", "DPS"): "13:00", ("hub", "hub-1"): "13:00", ("ocsp", ISSUER): "13:00", ("crl", ISSUER): "13:00"}
    assert doors(await scene.record()) == closed
    scene.now = NOW.replace(hour=14, minute=0)
    await scene.revoke(COMPROMISE)
    assert doors(await scene.record()) == closed
    assert {f"{each.checked_at:%H:%M}" for each in (await scene.record()).closed} == {"14:00"}
    shown = await scene.directory.describe("press")
    assert [each.door for each in shown.closed_doors] == ["dps", "hub", "ocsp", "crl"]


@pytest.mark.parametrize(
    ("opened", "where"), [("enabled entry", "DPS"), ("no entry", "DPS"), ("identity", "hub-1"), ("both", "DPS, hub-1")]
)
async def test_a_door_that_others_have_opened_is_closed_since_it_was_shut_again(opened: str, where: str) -> None:
    scene = await registered()
    await scene.revoke(COMPROMISE)
    scene.now = NOW.replace(hour=15, minute=0)
    if opened in {"enabled entry", "both"}:
        entry = scene.provisioning.enrollments["press"]
        scene.provisioning.enrollments["press"] = {**entry, "provisioningStatus": "enabled"}
    if opened == "no entry":
        del scene.provisioning.enrollments["press"]
    if opened in {"identity", "both"}:
        scene.hubs.enter(HUB, "press", *scene.hubs.identities[HUB, "press"].thumbprints)
    await scene.revoke(COMPROMISE, request_id="again")
    record = await scene.record()
    closed = {each.where for each in record.closed if f"{each.since:%H:%M}" == "15:00"}
    assert closed == set(where.split(", "))
    assert [each.note for each in record.history if "again" in each.note] == [f"{where} let it in again"]
    assert (scene.entry(), scene.hubs.identities[HUB, "press"].enabled) == ("disabled", False)


async def test_doors_are_shown_whatever_a_later_app_has_written_of_them() -> None:
    """While the app is upgraded, both versions read the rows of both."""
    scene = await registered()
    await scene.revoke(COMPROMISE)
    known = await scene.devices.get("press")
    assert known is not None
    later = tuple(ClosedDoor.model_validate({**each.model_dump(), "seenBy": "w"}) for each in known.record.closed)
    await scene.devices.replace(known, known.record.changed(closed=later))
    shown = await scene.services.devices.describe("press")
    assert [each.door for each in shown.closed_doors] == ["dps", "hub", "ocsp", "crl"]


async def test_a_device_that_is_let_in_again_has_no_closed_doors() -> None:
    scene = await registered()
    await scene.revoke(HOLD)
    await scene.reinstate()
    assert (await scene.record()).closed == ()


async def test_a_door_that_is_not_closed_yet_is_not_shown_as_closed() -> None:
    """The hub does not answer: the device is not shut out until it does."""
    scene = await registered()
    scene.hubs.conductor.down.add("hub")
    with pytest.raises(ServiceRequestError):
        await scene.revoke(COMPROMISE)
    assert (await scene.record()).closed == ()
