"""Renewals by themselves: from two thirds of a certificate's life, once, and with reminders until somebody acts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.contracts.devices import CertificateRenewal, renewal_request
from shared.contracts.messages import Queue
from shared.domain.groups import GroupState
from shared.domain.renewal import next_reminder, renewal_day, within_the_day
from shared.domain.words import DeviceState, RegisterBy
from shared.errors import AwaitsDevice, Deferred
from tests.unit.devices import COMPROMISE, DeviceScene, csr
from tests.unit.fakes import Killed, Trap, kill

DAY = timedelta(days=1)
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 27, tzinfo=UTC)  # 360 days


async def policy(scene: DeviceScene, *, on: bool = True) -> None:
    known = await scene.groups.get("line")
    assert known is not None
    await scene.groups.replace(known, known.record.changed(renew_automatically=on))


async def line(*, on: bool = True, **fields: Any) -> DeviceScene:
    """Give a scene with the device ``press``, in a group with the policy."""
    scene = await DeviceScene().set_up()
    await policy(scene, on=on)
    try:
        await scene.order(**fields)
    except AwaitsDevice:
        if "csr" in fields:
            scene.boot(await scene.certificate(1))
            await scene.deliver()
    return scene


async def end_of(scene: DeviceScene) -> datetime:
    certificate = (await scene.record()).certificate
    assert certificate is not None
    return certificate.not_after


async def sweep(scene: DeviceScene, at: datetime) -> None:
    scene.now = at
    await scene.sweep.run()


async def sweep_daily(scene: DeviceScene, until: datetime) -> None:
    """Run a sweep each day, up to and with a day."""
    while scene.now.date() < until.date():
        await sweep(scene, scene.now + DAY)


def asked(scene: DeviceScene) -> list[tuple[str, timedelta]]:
    """Give the ids of the renewals that were asked for, and how long each waits."""
    return [
        (body["data"]["requestId"], delay or timedelta(0))
        for queue, body, delay in scene.queues.sent
        if queue == Queue.RENEWAL_REQUESTS
    ]


async def carry_out(scene: DeviceScene) -> None:
    """Carry out the last renewal that was asked for, as its message does."""
    wanted = renewal_request(next(b["data"] for q, b, _ in reversed(scene.queues.sent) if q == Queue.RENEWAL_REQUESTS))
    assert isinstance(wanted, CertificateRenewal)
    try:
        await scene.renewals.carry_out(wanted)
    except Deferred:
        return


def told(scene: DeviceScene) -> list[tuple[str | None, str]]:
    """Give whose turn each event says it is, and its id."""
    return [
        (body["data"]["renewalNeeds"], body["id"])
        for queue, body, _ in scene.queues.sent
        if queue == Queue.PROVISIONING_EVENTS and body["type"].endswith(".CertificateExpiring")
    ]


async def missed(scene: DeviceScene) -> list[tuple[str, str]]:
    page, _ = await scene.missed.page("line", needs=None, size=10, continuation=None)
    return [(each.registration_id, each.needs) for each in page]


@pytest.mark.parametrize(
    ("serial_number", "day"),
    [
        (f"4000{'0' * 36}", "2026-08-29"),  # 240 of 360 days
        (f"40008{'0' * 35}", "2026-09-13"),  # half of the spread of 30 days later
        (f"4000{'f' * 36}", "2026-09-27"),  # just less than 270 days
    ],
)
def test_the_day_of_a_renewal_is_spread_by_the_serial_number(serial_number: str, day: str) -> None:
    """From two thirds to three quarters of the life; the first four digits are the device's and say nothing."""
    assert renewal_day(BEGIN, END, serial_number).isoformat() == day
    assert renewal_day(BEGIN, END, f"7fff{serial_number[4:]}").isoformat() == day


def test_the_renewals_of_a_day_do_not_begin_at_once() -> None:
    """Within an hour, by other digits; within an eighth of what is left of a short life."""
    half = f"{'0' * 12}8{'0' * 27}"
    assert within_the_day(END, half, BEGIN) == timedelta(minutes=30)
    assert within_the_day(BEGIN + timedelta(hours=4), half, BEGIN) == timedelta(minutes=15)
    assert within_the_day(BEGIN, half, END) == timedelta(0)


@pytest.mark.parametrize(
    ("today", "following"),
    [("2026-11-26", "2026-11-27"), ("2026-11-27", "2026-12-20"), ("2026-12-25", "2026-12-26"), ("2026-12-26", None)],
)
def test_reminders_come_30_7_and_1_days_before_the_end(today: str, following: str | None) -> None:
    found = next_reminder(END, datetime.fromisoformat(today).date())
    assert (found and found.isoformat()) == following


async def test_a_device_is_renewed_by_itself_once() -> None:
    """Not before two thirds of its certificate's life, not later than three quarters, and not again by any later sweep."""
    scene = await line()
    begin, serial = scene.now, (await scene.serials())[0]
    await sweep_daily(scene, begin + 243 * DAY)
    assert asked(scene) == []
    await sweep_daily(scene, begin + 275 * DAY)
    ((identifier, delay),) = asked(scene)
    assert identifier == f"renewal-{serial}"
    assert timedelta(0) <= delay <= timedelta(hours=1)
    await carry_out(scene)
    assert await scene.state() is DeviceState.RENEWING
    scene.boot(await scene.certificate(2))
    await carry_out(scene)
    assert await scene.state() is DeviceState.REGISTERED
    await sweep_daily(scene, begin + 400 * DAY)
    assert asked(scene) == [(identifier, delay)]
    assert (told(scene), await missed(scene)) == ([], [])


async def test_without_the_policy_nothing_changes() -> None:
    """The end of the certificate is told, as it always was, and nothing is renewed or listed."""
    scene = await line(on=False)
    await sweep_daily(scene, await end_of(scene))
    serial = (await scene.serials())[0]
    assert (asked(scene), await missed(scene)) == ([], [])
    assert told(scene) == [(None, f"CertificateExpiring/press/order/{serial}/30")]


async def test_a_policy_that_comes_late_counts_from_the_next_occasion() -> None:
    """Two thirds are over when it is set: the device is renewed when its certificate is reported as expiring."""
    scene = await line(on=False)
    await sweep_daily(scene, scene.now + 300 * DAY)
    await policy(scene)
    await sweep(scene, await end_of(scene) - 31 * DAY)
    assert asked(scene) == []
    await sweep(scene, await end_of(scene) - 30 * DAY)
    assert len(asked(scene)) == 1
    assert await missed(scene) == []


async def test_a_device_that_does_not_boot_is_listed_and_told_again_until_it_does() -> None:
    """30, 7 and 1 days before the end, each once; it leaves the list with its next certificate."""
    scene = await line()
    serial = (await scene.serials())[0]
    end = await end_of(scene)
    await sweep_daily(scene, end - 60 * DAY)
    await carry_out(scene)
    assert await missed(scene) == []
    await sweep_daily(scene, end - 2 * DAY)
    reminders = [each for each in told(scene) if each[0] is not None]
    assert reminders == [
        ("device", f"CertificateExpiring/press/order/{serial}/reminder-{(end - days * DAY).date()}/device")
        for days in (30, 7)
    ]
    assert await missed(scene) == [("press", "device")]
    await sweep(scene, end - DAY)
    await sweep(scene, end - DAY)
    assert len([each for each in told(scene) if each[0] is not None]) == 3
    scene.boot(await scene.certificate(2))
    await carry_out(scene)
    assert await missed(scene) == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_device_is_listed_until_the_ledger_says_that_it_was_renewed(when: str) -> None:
    """The worker is killed when it enters that: before it has, the device is listed; after it, the timer goes on."""
    scene = await line()
    end = await end_of(scene)
    await sweep_daily(scene, end - 60 * DAY)
    await carry_out(scene)
    await sweep_daily(scene, end - 2 * DAY)
    scene.boot(await scene.certificate(2))
    kill(scene.devices, "replace", when=when)
    with pytest.raises(Killed):
        await carry_out(scene)
    is_renewed = (await scene.record()).next_certificate is None
    assert (is_renewed, await missed(scene)) == (when == "after", [("press", "device")])
    await scene.converger.sweep(older_than=timedelta())
    if when == "before":
        assert await missed(scene) == [("press", "device")]
        await carry_out(scene)
    assert await missed(scene) == []
    assert await scene.state() is DeviceState.REGISTERED


async def test_a_device_leaves_the_list_of_what_it_has_come_with_where_the_worker_is_killed() -> None:
    """It was late, so that what it was renewed with was listed; the timer goes on."""
    scene = await line()
    end = await end_of(scene)
    await sweep_daily(scene, end - 60 * DAY)
    await carry_out(scene)
    waiting = (await scene.record()).next_certificate
    assert waiting is not None
    await sweep_daily(scene, waiting.not_after - 2 * DAY)
    assert await missed(scene) == [("press", "device")]
    scene.boot(await scene.certificate(2))
    kill(scene.devices, "replace", when="after")
    with pytest.raises(Killed):
        await carry_out(scene)
    await scene.converger.sweep(older_than=timedelta())
    assert (await scene.state(), await missed(scene)) == (DeviceState.REGISTERED, [])


async def test_a_device_stays_listed_when_a_former_certificate_is_revoked() -> None:
    """What it uses now is to be renewed still."""
    scene, another = await line(csr=csr()), csr()
    await scene.renewing("first", csr=another)
    scene.boot(await scene.certificate(2))
    await scene.renew("first", csr=another)
    await sweep_daily(scene, scene.now + 275 * DAY)
    assert await missed(scene) == [("press", "csr")]
    await scene.revoke(COMPROMISE, serial_number=(await scene.serials())[0])
    assert await missed(scene) == [("press", "csr")]


async def test_a_device_is_named_for_one_certificate_at_a_time() -> None:
    """It has let the first one end and has not fetched the second: that one's end is told next, and it is listed once."""
    scene = await line()
    begin, end = scene.now, await end_of(scene)
    await sweep_daily(scene, end - 60 * DAY)
    await carry_out(scene)
    waiting = (await scene.record()).next_certificate
    assert waiting is not None
    while scene.now.date() < waiting.not_after.date():
        await sweep(scene, scene.now + DAY)
        assert len(await missed(scene)) <= 1, scene.now - begin
    days = [identifier.split("/")[4] for needs, identifier in told(scene) if needs == "device"]
    ends = (end, waiting.not_after)
    assert days == [f"reminder-{(each - left * DAY).date()}" for each in ends for left in (30, 7, 1)]
    assert await missed(scene) == [("press", "device")]


async def test_two_certificates_that_end_together_name_their_device_once() -> None:
    """It was renewed on the day of its order."""
    scene = await line()
    await scene.renewing()
    await sweep_daily(scene, await end_of(scene) - 7 * DAY)
    assert len([needs for needs, _ in told(scene) if needs == "device"]) == 2
    assert await missed(scene) == [("press", "device")]


async def test_a_device_that_never_booted_is_told_of() -> None:
    """It can't be renewed before it has registered for the first time."""
    scene = await line(register_by=RegisterBy.DEVICE)
    await sweep_daily(scene, await end_of(scene) - 30 * DAY)
    assert (asked(scene), await missed(scene)) == ([], [("press", "device")])


async def test_a_device_with_its_own_key_is_asked_for_a_csr_at_two_thirds() -> None:
    """A third of its certificate's life is left to bring one; what it brings by itself ends the reminders."""
    scene = await line(csr=csr())
    begin = scene.now
    await sweep_daily(scene, begin + 275 * DAY)
    assert asked(scene) == []
    assert [needs for needs, _ in told(scene)] == ["csr"]
    assert await missed(scene) == [("press", "csr")]
    following = csr()
    await scene.renewing("with-csr", csr=following)
    scene.boot(await scene.certificate(2))
    await scene.renew("with-csr", csr=following)
    assert await missed(scene) == []
    await sweep_daily(scene, begin + 370 * DAY)
    assert len([needs for needs, _ in told(scene) if needs]) == 1


async def test_a_renewal_that_was_refused_is_told_to_an_operator_and_asked_for_again() -> None:
    """Its group was disabled while it waited: the next reminder after it is enabled makes the request anew."""
    scene = await line()
    end = await end_of(scene)
    await sweep_daily(scene, end - 60 * DAY)
    await scene.group(GroupState.DISABLED)
    await sweep_daily(scene, end - 29 * DAY)
    assert await missed(scene) == [("press", "operator")]
    assert len(asked(scene)) == 1
    await scene.group(GroupState.ENABLED)
    wanted = renewal_request(next(b["data"] for q, b, _ in scene.queues.sent if q == Queue.RENEWAL_REQUESTS))
    assert isinstance(wanted, CertificateRenewal)
    await scene.requests.enter(
        (await scene.requests.claim(_record(scene, wanted))).record,
        lambda request: request.changed(state="rejected"),
    )
    await sweep_daily(scene, end - 7 * DAY)
    assert len(asked(scene)) == 2
    await carry_out(scene)
    assert await scene.state() is DeviceState.RENEWING


def _record(scene: DeviceScene, wanted: CertificateRenewal) -> Any:
    """Give any record with a request's id: what is claimed is the one that is there."""
    from shared.domain.requests import RequestRecord  # noqa: PLC0415

    return RequestRecord(
        kind=Queue.RENEWAL_REQUESTS, request_id=wanted.request_id, fingerprint=wanted.fingerprint, received_at=scene.now
    )


async def test_a_device_that_is_revoked_leaves_the_list_at_its_next_notice() -> None:
    """Nobody has to act for it any more."""
    scene = await line(csr=csr())
    await sweep_daily(scene, scene.now + 275 * DAY)
    assert await missed(scene) == [("press", "csr")]
    await scene.revoke(COMPROMISE)
    await sweep(scene, await end_of(scene) - 30 * DAY)
    assert await missed(scene) == []


async def test_a_short_life_is_not_renewed_before_two_thirds_of_it() -> None:
    """Its end is reported from the first day, since it is within the days of warning; that is no reason to renew."""
    scene = await line(validity_days=18)
    begin = scene.now
    await sweep_daily(scene, begin + 11 * DAY)
    assert (asked(scene), len(told(scene))) == ([], 1)
    await sweep_daily(scene, begin + 15 * DAY)
    assert len(asked(scene)) == 1


async def test_a_sweep_that_comes_after_the_end_does_not_renew() -> None:
    """Only a registered device can be renewed, and this one is about to be entered as expired."""
    scene = await line()
    await sweep(scene, await end_of(scene) + 10 * DAY)
    await sweep(scene, scene.now)
    assert (asked(scene), await scene.state()) == ([], DeviceState.EXPIRED)


async def test_a_sweep_that_is_killed_anywhere_renews_once_and_loses_no_reminder() -> None:
    """Whatever write it was killed after, the next sweep makes up for it."""
    for after in range(1, 60):
        scene = await line()
        begin, end, trap = scene.now, await end_of(scene), Trap(after)
        rows: Any = (scene.requests._kept.table, scene.expiry._table)  # noqa: SLF001 - their writes are what is killed
        for table in rows:
            table.step = trap.step
        scene.queues.step = trap.step
        killed = False
        while scene.now.date() < (end - DAY).date():
            try:
                await sweep(scene, scene.now + DAY)
            except Killed:
                killed = True
                await scene.sweep.run()
        assert {identifier for identifier, _ in asked(scene)} == {f"renewal-{(await scene.serials())[0]}"}, after
        assert begin < scene.now
        assert len({identifier for needs, identifier in told(scene) if needs == "operator"}) == 3, after
        if not killed:
            assert after > 10
            return
    raise AssertionError("it has more steps than were tried")
