"""The expiry sweep: what is due and not done, once, whenever it runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.expiry import DueNotice, Notice
from shared.domain.words import CertificateKind, DeviceState, RegisterBy, RevocationReason
from shared.errors import Deferred, Gone, LedgerBehind
from tests.unit.devices import COMPROMISE, HOLD, DeviceScene, registered, renewing
from tests.world.certificates import overwrite

if TYPE_CHECKING:
    from datetime import datetime

    from shared.domain.devices import DeviceRecord

ACTIVE, EXPIRED, SUPERSEDED = CertificateState.ACTIVE, CertificateState.EXPIRED, CertificateState.SUPERSEDED


async def end_of(scene: DeviceScene) -> datetime:
    """Give the end of the certificate in use."""
    certificate = (await scene.record()).certificate
    assert certificate is not None
    return certificate.not_after


async def sweep(scene: DeviceScene, at: datetime) -> list[str]:
    """Run a sweep, and give the types of the events it sent."""
    scene.now = at
    scene.queues.sent.clear()
    await scene.sweep.run()
    return scene.events()


async def test_each_notice_is_given_once_and_in_its_time() -> None:
    """Nothing before it is due; then expiring, once; and expired the day after notAfter, once."""
    scene = await registered()
    end = await end_of(scene)
    assert await sweep(scene, end - timedelta(days=31)) == []
    assert await sweep(scene, end - timedelta(days=30)) == ["CertificateExpiring"]
    assert await sweep(scene, end - timedelta(days=29)) == []
    assert await sweep(scene, end) == []
    assert await sweep(scene, end + timedelta(days=1)) == ["CertificateExpired"]
    assert await sweep(scene, end + timedelta(days=2)) == []
    assert await scene.state() is DeviceState.EXPIRED
    assert await scene.states() == [EXPIRED]


async def test_a_sweep_that_was_missed_for_months_makes_up_for_it() -> None:
    """What was due long ago is given by the next sweep, however late it comes."""
    scene = await registered()
    late = await end_of(scene) + timedelta(days=100)
    assert await sweep(scene, late) == ["CertificateExpiring"]
    assert await sweep(scene, late) == ["CertificateExpired"]


async def test_a_certificate_out_of_use_is_not_reported() -> None:
    """The end of a revoked or superseded certificate concerns nobody."""
    scene = await registered()
    await scene.revoke(COMPROMISE)
    assert await sweep(scene, await end_of(scene) + timedelta(days=1)) == []
    scene = await renewing()
    serial = (await scene.serials())[0]
    scene.now += timedelta(days=400)
    scene.queues.sent.clear()
    await scene.sweep.run()
    assert serial not in [body["data"]["serialNumber"] for _, body, _ in scene.queues.sent]


async def test_the_end_of_a_certificate_on_hold_is_reported_when_it_is_given_back() -> None:
    """Until then it is not decided whether it concerns anybody, and the notice is kept."""
    scene = await registered()
    end = await end_of(scene)
    await scene.revoke(HOLD)
    assert await sweep(scene, end - timedelta(days=30)) == []
    await scene.reinstate()
    assert await sweep(scene, end - timedelta(days=29)) == ["CertificateExpiring"]


async def test_the_notice_of_a_certificate_that_is_being_made_is_kept() -> None:
    """A sweep that runs between the notice and the commit leaves it, for a day; one that was never committed goes."""
    scene = await registered(validity_days=20)
    known = await scene.certificates.get((await scene.serials())[0])
    assert known is not None
    await overwrite(scene.certificates, known.record.model_copy(update={"state": CertificateState.RESERVED}))
    assert await sweep(scene, scene.now) == []
    await overwrite(scene.certificates, known.record)
    assert await sweep(scene, scene.now) == ["CertificateExpiring"]
    scene = await registered(validity_days=20)
    known = await scene.certificates.get((await scene.serials())[0])
    assert known is not None
    await overwrite(scene.certificates, known.record.model_copy(update={"state": CertificateState.RESERVED}))
    assert await sweep(scene, scene.now + timedelta(days=2)) == []
    await overwrite(scene.certificates, known.record)
    assert await sweep(scene, scene.now) == []


async def test_a_write_by_others_does_not_lose_an_end() -> None:
    """The device is changed while it is entered as expired: it is expired all the same, and told of once."""
    scene = await registered()
    end = await end_of(scene)
    await sweep(scene, end)
    replace, others = scene.devices.replace, 0

    async def overtaken(known: Any, record: DeviceRecord, **named: Any) -> Any:
        nonlocal others
        if record.state is DeviceState.EXPIRED and others < 3:
            others += 1
            present = await scene.known()
            await replace(present, present.record.noted(scene.now, f"others {others}"))
        return await replace(known, record, **named)

    scene.devices.replace = overtaken  # type: ignore[method-assign]
    assert await sweep(scene, end + timedelta(days=1)) == ["CertificateExpired"]
    assert await scene.state() is DeviceState.EXPIRED
    assert await scene.states() == [EXPIRED]
    assert others == 3


async def test_a_device_whose_renewal_is_under_way_stays_renewing_when_its_old_certificate_ends() -> None:
    """It has another one to use, takes that when it comes, and its record tells both."""
    scene = await registered(register_by=RegisterBy.SERVICE)
    end = await end_of(scene)
    scene.now = end - timedelta(days=10)
    await scene.renewing()
    await sweep(scene, end + timedelta(days=1))
    assert await sweep(scene, end + timedelta(days=1)) == ["CertificateExpired"]
    assert await scene.state() is DeviceState.RENEWING
    assert await scene.states() == [EXPIRED, ACTIVE]
    handed_out = await scene.directory.hand_out("press", wanted="pem", caller="erp")
    assert handed_out.serial_number == (await scene.serials())[1]
    scene.boot(await scene.certificate(2))
    await scene.renew()
    assert await scene.state() is DeviceState.REGISTERED
    assert await scene.states() == [SUPERSEDED, ACTIVE]


async def test_a_device_that_has_let_both_its_certificates_end_is_ordered_anew() -> None:
    """It is expired only when nothing is left to use; its renewal is over, and a new order takes it."""
    scene = await registered(validity_days=40)
    scene.now = await end_of(scene) - timedelta(days=10)
    await scene.renewing()
    following = (await scene.record()).next_certificate
    assert following is not None
    for _ in range(2):
        await sweep(scene, following.not_after + timedelta(days=1))
    assert await scene.state() is DeviceState.EXPIRED
    await scene.order("again")
    assert await scene.state() is DeviceState.REGISTERED
    await scene.renew("renewal")  # which is over, and does nothing more
    assert await scene.state() is DeviceState.REGISTERED


async def test_a_ca_is_entered_as_expired_once() -> None:
    """A certificate that is not a device's has no device to be entered in."""
    scene = await DeviceScene().set_up()
    record = CertificateRecord(
        serial_number="4" * 40,
        kind=CertificateKind.INTERMEDIATE,
        state=ACTIVE,
        subject="line-1-ca1",
        issuer="dpsCa",
        cause="make-it",
        recorded_at=scene.now,
        not_after=scene.now,
    )
    await scene.certificates.reserve(record)
    await scene.expiry.put(
        DueNotice.on(
            scene.now.date(), Notice.EXPIRED, serial_number="4" * 40, subject="line-1-ca1", not_after=scene.now
        )
    )
    assert await sweep(scene, scene.now) == ["CertificateExpired"]
    known = await scene.certificates.get("4" * 40)
    assert known is not None
    assert known.record.state is EXPIRED


async def test_keys_that_were_handed_out_are_deleted_after_a_while() -> None:
    """An hour after the hand-out the key is gone, and not before."""
    scene = await DeviceScene().set_up()
    with pytest.raises(Deferred):
        await scene.order(register_by=RegisterBy.DEVICE)
    await scene.directory.hand_out("press", wanted="pem", caller="erp")
    scene.now += timedelta(minutes=59)
    assert await scene.sweep.delete_keys() == 0
    assert b"PRIVATE KEY" in scene.bundle()
    scene.now += timedelta(minutes=1)
    assert await scene.sweep.delete_keys() == 1
    assert b"PRIVATE KEY" not in scene.bundle()
    assert await scene.sweep.delete_keys() == 0


async def unfetched() -> DeviceScene:
    """A device whose bundle, with a key that was made here, waits to be fetched."""
    scene = await DeviceScene().set_up()
    with pytest.raises(Deferred):
        await scene.order(register_by=RegisterBy.DEVICE)
    assert b"PRIVATE KEY" in scene.bundle()
    assert list(scene.secrets.secrets) == [f"bundle-{(await scene.serials())[0]}"]
    return scene


async def test_a_key_and_its_password_end_together_when_the_bundle_was_handed_out() -> None:
    """Whether the receipt is confirmed, or the hour is over."""
    scene = await unfetched()
    await scene.directory.hand_out("press", wanted="pem", caller="erp")
    await scene.directory.confirm("press", caller="erp")
    assert (b"PRIVATE KEY" in scene.bundle(), scene.secrets.secrets) == (False, {})
    scene = await unfetched()
    await scene.directory.hand_out("press", wanted="pem", caller="erp")
    scene.now += timedelta(minutes=60)
    await scene.sweep.delete_keys()
    assert (b"PRIVATE KEY" in scene.bundle(), scene.secrets.secrets) == (False, {})


@pytest.mark.parametrize("reason", [COMPROMISE, HOLD])
async def test_a_key_and_its_password_end_when_the_device_is_revoked_for_good(reason: RevocationReason) -> None:
    """Nobody fetched them, and nobody may any more. A device on hold may be given back, with its bundle."""
    scene = await unfetched()
    await scene.revoke(reason)
    await scene.sweep.delete_keys()
    kept = reason is HOLD
    assert (b"PRIVATE KEY" in scene.bundle(), bool(scene.secrets.secrets)) == (kept, kept)


async def test_a_key_that_nobody_fetches_is_deleted_after_the_deployments_time_and_the_certificate_goes_on() -> None:
    """A day before it is there; then it is gone with its password, and the end of the certificate is told in its time."""
    scene = await unfetched()
    end = await end_of(scene)
    issued = scene.now
    assert await sweep(scene, issued + timedelta(days=89)) == []
    assert b"PRIVATE KEY" in scene.bundle()
    assert await sweep(scene, issued + timedelta(days=90)) == []
    assert (b"PRIVATE KEY" in scene.bundle(), scene.secrets.secrets) == (False, {})
    with pytest.raises(Gone, match="handed out before, or not fetched in time, and its private key is deleted; renew"):
        await scene.directory.hand_out("press", wanted="pem", caller="erp")
    assert await sweep(scene, end - timedelta(days=30)) == ["CertificateExpiring"]


async def test_an_older_ledger_gives_no_notice_and_leaves_the_keys_of_what_it_has_forgotten() -> None:
    """A certificate that was signed after the copy is, in the copy, one that was never signed."""
    scene = await unfetched()
    known = await scene.certificates.get((await scene.serials())[0])
    assert known is not None
    await overwrite(scene.certificates, known.record.model_copy(update={"state": CertificateState.RESERVED}))
    scene.now += timedelta(days=91)

    async def behind() -> None:
        raise LedgerBehind("the ledger is older than it was")

    with pytest.raises(LedgerBehind):
        await replace(scene.sweep, check_ledger=behind).run()
    assert b"PRIVATE KEY" in scene.bundle()
    await scene.sweep.run()
    assert b"PRIVATE KEY" not in scene.bundle()


async def test_a_worker_that_is_gone_between_key_and_password_leaves_neither() -> None:
    """The notice stays until both are gone."""
    scene = await unfetched()
    await scene.revoke(COMPROMISE)
    delete = scene.secrets.delete

    async def down(name: str) -> None:
        del name
        raise ConnectionError("no answer")

    scene.secrets.delete = down  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await scene.sweep.delete_keys()
    assert b"PRIVATE KEY" not in scene.bundle()
    scene.secrets.delete = delete  # type: ignore[method-assign]
    await scene.sweep.delete_keys()
    assert scene.secrets.secrets == {}


# --- warnings ---


def warned(scene: DeviceScene) -> list[int]:
    """Give the warning times of the events that were sent, in days."""
    return [body["data"]["warningDays"] for _, body, _ in scene.queues.sent]


async def test_each_warning_time_is_told_once() -> None:
    """Thirty days, a week and a day before its end, and not between."""
    scene = await registered()
    scene.settings.device_warnings = (30, 7, 1)
    end, found = await end_of(scene), list[tuple[int, int]]()
    for left in (31, 30, 30, 29, 8, 7, 7, 6, 2, 1, 1, 0):
        await sweep(scene, end - timedelta(days=left))
        found += [(left, each) for each in warned(scene)]
    assert found == [(30, 30), (7, 7), (1, 1)]


async def test_an_app_that_slept_over_warnings_tells_the_one_that_counts_and_goes_on() -> None:
    """It wakes five days before the end: of thirty and seven days, it tells the seven, and then the one."""
    scene = await registered()
    scene.settings.device_warnings = (30, 7, 1)
    end = await end_of(scene)
    await sweep(scene, end - timedelta(days=5))
    assert warned(scene) == [7]
    await sweep(scene, end - timedelta(days=4))
    assert warned(scene) == []
    await sweep(scene, end - timedelta(days=1))
    assert warned(scene) == [1]


async def test_a_ca_is_warned_of_by_its_own_times() -> None:
    """A year before its end, and so on; devices have other times."""
    scene = await DeviceScene().set_up()
    end = scene.now + timedelta(days=400)
    record = CertificateRecord(
        serial_number="4" * 40,
        kind=CertificateKind.ROOT,
        state=ACTIVE,
        subject="dpsCa",
        issuer="dpsCa",
        cause="make-it",
        recorded_at=scene.now,
        not_after=end,
    )
    await scene.certificates.reserve(record)
    due = DueNotice.on(
        (end - timedelta(days=365)).date(), Notice.EXPIRING, serial_number="4" * 40, subject="dpsCa", not_after=end
    )
    await scene.expiry.put(due)
    found = list[tuple[int, int]]()
    for left in (366, 365, 181, 180, 90, 31, 30, 29, 1):
        await sweep(scene, end - timedelta(days=left))
        found += [(left, each) for each in warned(scene)]
    assert found == [(365, 365), (180, 180), (90, 90), (30, 30)]


async def test_a_notice_that_can_not_be_given_does_not_hold_up_the_others() -> None:
    """The sweep says that one failed, gives the rest, and tries that one again the next time."""
    scene = await registered()
    await scene.order("order-2", "drill")
    day, get = await end_of(scene) - timedelta(days=30), scene.certificates.get
    broken = (await scene.serials("press"))[0]

    async def failing(serial_number: str) -> Any:
        if serial_number == broken:
            raise ValueError("its row can't be read")
        return await get(serial_number)

    scene.certificates.get = failing  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup, match="1 notices could not be given"):
        await sweep(scene, day)
    assert [body["subject"] for _, body, _ in scene.queues.sent] == ["drill"]
    scene.certificates.get = get  # type: ignore[method-assign]
    await sweep(scene, day)
    assert [body["subject"] for _, body, _ in scene.queues.sent] == ["press"]


async def test_a_sweep_ends_when_nothing_can_be_given() -> None:
    """A service is down: the notices are left for the next sweep, and not tried one after the other."""
    scene = await registered()
    for number in range(30):
        await scene.order(f"order-{number}", f"press-{number}")
    day, tried = await end_of(scene) - timedelta(days=30), 0

    async def down(serial_number: str) -> Any:
        del serial_number
        nonlocal tried
        tried += 1
        raise ConnectionError("tables are down")

    scene.certificates.get = down  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup, match="20 notices could not be given"):
        await sweep(scene, day)
    assert tried == 20


async def test_a_certificate_whose_device_is_gone_does_not_hold_up_the_others() -> None:
    scene = await registered()
    await scene.order("order-drill", "drill")
    end = await end_of(scene)
    rows = scene.rows.rows
    del rows[next(each for each in rows if each[1] == "d:press")]
    await sweep(scene, end)
    await sweep(scene, end + timedelta(days=1))
    assert await scene.state("drill") is DeviceState.EXPIRED
    assert await sweep(scene, end + timedelta(days=2)) == []


@pytest.mark.parametrize(("others", "becomes"), [(CertificateState.ACTIVE, EXPIRED), (SUPERSEDED, SUPERSEDED)])
async def test_the_end_of_a_ca_s_certificate_takes_nothing_away_from_what_others_enter(
    others: CertificateState, becomes: CertificateState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others write its row between the read and the write: what they have made of it counts."""
    scene = await DeviceScene().set_up()
    row = CertificateRecord(
        serial_number="4a" * 20,
        kind=CertificateKind.INTERMEDIATE,
        state=ACTIVE,
        subject="line-1-ca1",
        issuer="root",
        cause="c",
        recorded_at=scene.now,
        not_before=scene.now,
        not_after=scene.now + timedelta(days=40),
    )
    await overwrite(scene.certificates, row)
    assert row.not_after is not None
    await scene.expiry.put(
        DueNotice.on(
            row.not_after, Notice.EXPIRED, serial_number=row.serial_number, subject=row.subject, not_after=row.not_after
        )
    )
    certificates = scene.services.lifetimes.expiry_sweep.certificates
    replace = certificates.try_replace

    async def late(known: Any, record: Any) -> Any:
        monkeypatch.undo()
        await overwrite(scene.certificates, row.changed(state=others, successor="4b" * 20))
        return await replace(known, record)

    monkeypatch.setattr(certificates, "try_replace", late)
    await sweep(scene, row.not_after + timedelta(days=1))
    known = await scene.certificates.get(row.serial_number)
    assert known is not None
    assert (known.record.state, known.record.successor) == (becomes, "4b" * 20)
