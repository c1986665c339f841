"""The renewal of a group: every device once, at its pace, and whoever can't be renewed is named."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from shared.contracts.devices import CertificateRenewal, GroupRenewal, renewal_request
from shared.contracts.messages import Queue
from shared.domain.groups import GroupState
from shared.domain.words import DeviceState, RenewalNeeds
from shared.errors import AwaitsDevice, Conflict, Deferred, NotFound, UnderWay
from shared.workflows.intake.following import FollowedRequests
from tests.unit.devices import COMPROMISE, DeviceScene, csr
from tests.unit.fakes import Killed, Trap

PRESSES = [f"press-{number}" for number in range(5)]


def renewal(**fields: Any) -> GroupRenewal:
    return GroupRenewal(**{"request_id": "all", "enrollment_group": "line", **fields})


async def line(*devices: str) -> DeviceScene:
    """Give a scene whose devices are registered, some minutes before anything else."""
    scene = await DeviceScene().set_up()
    for device in devices:
        await scene.order(f"order-{device}", device)
    scene.now += timedelta(minutes=5)
    return scene


def queued(scene: DeviceScene) -> dict[str, dict[str, Any]]:
    """Give the requests for single devices by their ids."""
    sent = [body["data"] for queue, body, _ in scene.queues.sent if queue == Queue.RENEWAL_REQUESTS]
    return {data["requestId"]: data for data in sent}


async def shown(scene: DeviceScene) -> tuple[str, Any]:
    following = FollowedRequests(requests=scene.requests, orders=scene.orders, clock=scene.clock)
    described = await following.describe("all", Queue.RENEWAL_REQUESTS)
    return described.state, described.progress.shown() if described.progress else None


def progress(**counts: int) -> dict[str, int]:
    return {"queued": 0, "needCsr": 0, "skipped": 0, "done": 0, "failed": 0, "waiting": 0, **counts}


async def to_the_end(scene: DeviceScene, wanted: GroupRenewal) -> None:
    """Deliver the message until a renewal is queued for the last device."""
    for _ in range(100):
        try:
            await scene.group_renewals.carry_out(wanted)
        except UnderWay:
            return
        except Deferred as deferred:
            scene.now += deferred.retry_after
    raise AssertionError("the renewal did not come to its last device")


async def queue_all(scene: DeviceScene, **fields: Any) -> None:
    """Carry out a renewal of the group whose devices fit into one batch."""
    with pytest.raises(UnderWay):
        await scene.group_renewals.carry_out(renewal(**fields))


async def carry_out(scene: DeviceScene, message: dict[str, Any]) -> None:
    """Carry out the renewal of one device, as the host does."""
    single = renewal_request(message)
    assert isinstance(single, CertificateRenewal)
    with suppress(Deferred):
        await scene.renewals.carry_out(single)


async def test_a_group_is_renewed_so_many_devices_a_minute() -> None:
    """A message that comes too early does nothing; when the last one is queued, the request is under way."""
    scene = await line(*PRESSES)
    wanted = renewal(per_minute=2)
    for queued_by_then in (2, 4):
        with pytest.raises(Deferred) as deferred:
            await scene.group_renewals.carry_out(wanted)
        assert str(deferred.value) == f"its pace: {queued_by_then} renewals are queued, 2 a minute"
        assert deferred.value.retry_after == timedelta(minutes=1)
        scene.now += timedelta(seconds=59)
        with pytest.raises(Deferred):
            await scene.group_renewals.carry_out(wanted)
        assert len(queued(scene)) == queued_by_then
        assert await shown(scene) == ("waiting", progress(queued=queued_by_then))
        scene.now += timedelta(seconds=1)
    for _ in range(2):
        with pytest.raises(UnderWay, match="5 of 5 devices are under way"):
            await scene.group_renewals.carry_out(wanted)
        assert await shown(scene) == ("running", progress(queued=5))
    assert sorted(data["registrationId"] for data in queued(scene).values()) == PRESSES


async def test_a_renewal_of_a_group_is_done_when_its_devices_are_or_have_only_to_come_by() -> None:
    """Its counts say how many use their next certificate, how many have yet to fetch it, and how many were refused."""
    scene = await line("press", "late", "gone")
    await queue_all(scene)
    messages = {data["registrationId"]: data for data in queued(scene).values()}
    await carry_out(scene, messages["press"])
    scene.boot(await scene.certificate(2))
    await carry_out(scene, messages["press"])
    await carry_out(scene, messages["late"])
    with pytest.raises(UnderWay, match="1 of 3 devices are under way"):
        await scene.group_renewals.carry_out(renewal())
    assert await shown(scene) == ("running", progress(queued=3, done=1, waiting=1))
    await scene.revoke(COMPROMISE, registration_id="gone")
    with pytest.raises(Conflict):
        await carry_out(scene, messages["gone"])
    await scene.group_renewals.carry_out(renewal())
    assert await shown(scene) == ("done", progress(queued=3, done=1, waiting=1, failed=1))
    await carry_out(scene, messages["late"])
    assert await shown(scene) == ("done", progress(queued=3, done=1, waiting=1, failed=1)), "it has ended"


async def test_each_device_is_renewed_by_a_request_that_can_be_followed() -> None:
    """It has an id of its own, and ends as any renewal does."""
    scene = await line("press")
    await queue_all(scene)
    ((identifier, message),) = queued(scene).items()
    following = FollowedRequests(requests=scene.requests, orders=scene.orders, clock=scene.clock)
    assert (await following.describe(identifier, None)).state == "queued"
    single = renewal_request(message)
    assert isinstance(single, CertificateRenewal)
    with pytest.raises(Deferred):
        await scene.renewals.carry_out(single)
    scene.boot(await scene.certificate(2))
    await scene.renewals.carry_out(single)
    assert (await following.describe(identifier, None)).state == "done"
    assert await scene.state() is DeviceState.REGISTERED
    assert scene.event("CertificateRenewed")["correlationid"] == identifier


@pytest.mark.long
async def test_a_renewal_of_a_group_that_is_killed_anywhere_renews_each_device_once() -> None:
    """Whatever write it was killed after: the message comes again, and no device has two requests."""
    for after in range(1, 200):
        scene = await line(*PRESSES[:3])
        trap = Trap(after)
        table: Any = scene.requests._kept.table  # noqa: SLF001 - the writes of the requests' table are what is killed
        table.step = scene.queues.step = trap.step
        try:
            await to_the_end(scene, renewal(per_minute=2))
        except (Killed, BaseExceptionGroup):
            trap.after = None
            await to_the_end(scene, renewal(per_minute=2))
        else:
            assert after > 10, "it was killed nowhere"
            return
        assert sorted(data["registrationId"] for data in queued(scene).values()) == PRESSES[:3], f"killed after {after}"
        assert await shown(scene) == ("running", progress(queued=3))
    raise AssertionError("it has more steps than were tried")


async def test_only_the_certificates_of_one_ca_are_replaced() -> None:
    """After a roll: who has a certificate of the old CA, or waits to use one. Who moves to the new CA is left alone."""
    scene = await line("early", "moving", "stuck", "late")
    await scene.renewing("stuck-1", "stuck")
    await scene.group(GroupState.ENABLED, issuer="line-1-ca2")
    await scene.renewing("moving-1", "moving")
    await scene.order("order-new", "new")
    scene.now += timedelta(minutes=1)
    await to_the_end(scene, renewal(only_issuer="line-1-ca1"))
    assert sorted(data["registrationId"] for data in queued(scene).values()) == ["early", "late", "stuck"]
    assert await shown(scene) == ("running", progress(queued=3))


async def test_a_device_that_is_renewed_meanwhile_is_not_renewed_again() -> None:
    """By the same CA: its new certificate stands in the index that is read, and it is skipped."""
    scene = await line("press")
    await queue_all(scene, only_issuer="line-1-ca1", request_id="other")
    ((_, message),) = queued(scene).items()
    await scene.renewing("by-hand")
    single = renewal_request(message)
    assert isinstance(single, CertificateRenewal)
    await scene.renewals.carry_out(single)
    assert len(await scene.serials()) == 2
    assert (await scene.record()).renewal == "by-hand"
    scene.queues.sent.clear()
    await scene.group_renewals.carry_out(renewal())
    assert (queued(scene), await shown(scene)) == ({}, ("done", progress(skipped=1)))


async def test_a_device_that_made_its_own_key_is_named_until_it_brings_a_csr() -> None:
    """In its group's list and by an event, once; it leaves the list with its next certificate."""
    scene = await line()
    with pytest.raises(AwaitsDevice):
        await scene.order(csr=csr())
    scene.boot(await scene.certificate(1))
    await scene.deliver()
    scene.now += timedelta(minutes=5)
    await scene.group_renewals.carry_out(renewal())
    assert (queued(scene), await shown(scene)) == ({}, ("done", progress(needCsr=1)))
    listed, _ = await scene.missed.page("line", needs=RenewalNeeds.CSR, size=10, continuation=None)
    certificate = (await scene.record()).certificate
    assert certificate is not None
    assert [each.shown() for each in listed] == [
        {
            "registrationId": "press",
            "serialNumber": certificate.serial_number,
            "notAfter": certificate.not_after,
            "needs": "csr",
            "since": scene.now,
        }
    ]
    told = scene.event("CertificateExpiring")
    assert told["id"] == f"CertificateExpiring/press/all/{certificate.serial_number}"
    assert told["data"]["renewalNeeds"] == "csr"
    assert (await scene.missed.page("line", needs=RenewalNeeds.DEVICE, size=10, continuation=None))[0] == []
    following = csr()
    await scene.renewing("with-csr", csr=following)
    scene.boot(await scene.certificate(2))
    await scene.renew("with-csr", csr=following)
    assert (await scene.missed.page("line", needs=None, size=10, continuation=None))[0] == []


async def test_devices_that_can_not_be_renewed_are_skipped() -> None:
    """One that is out of service, and one that was never registered."""
    scene = await line("press", "gone")
    await scene.revoke(COMPROMISE, registration_id="gone")
    scene.now += timedelta(minutes=1)
    await queue_all(scene)
    assert await shown(scene) == ("running", progress(queued=1, skipped=1))


async def test_what_can_not_begin_is_refused() -> None:
    """A CA that is not there, a group that is not there, and one that is disabled."""
    scene = await line("press")
    with pytest.raises(NotFound) as refused:
        await scene.group_renewals.check(renewal(only_issuer="none"))
    assert str(refused.value) == "onlyIssuer: the certificate authority 'none' does not exist"
    with pytest.raises(NotFound, match="the enrollment group 'no' does not exist"):
        await scene.group_renewals.check(renewal(enrollment_group="no"))
    with pytest.raises(NotFound, match="the enrollment group 'no' does not exist"):
        await scene.missed.page("no", needs=None, size=10, continuation=None)
    await scene.group(GroupState.DISABLED)
    with pytest.raises(Conflict, match="the enrollment group 'line' is disabled"):
        await scene.group_renewals.carry_out(renewal())
    assert (await shown(scene))[0] == "rejected"
