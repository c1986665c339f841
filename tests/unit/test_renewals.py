"""Renewals: the device takes its next certificate when it comes with it, and until then has both."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.contracts.devices import RenewalRequest
from shared.domain.certificates import CertificateState
from shared.domain.groups import GroupState
from shared.domain.words import DeviceState
from shared.errors import Conflict, Deferred, NotFound, Rejected
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from tests.unit.devices import COMPROMISE, HOLD, HUB, DeviceScene, csr, registered, renewed_from, renewing

ACTIVE, SUPERSEDED, REVOKED = CertificateState.ACTIVE, CertificateState.SUPERSEDED, CertificateState.REVOKED


async def test_a_device_is_renewed_when_it_registers_with_its_next_certificate() -> None:
    """Until then both are in use; then the former one is superseded by it, and its successor is named."""
    scene = await registered()
    await scene.renewing()
    assert await scene.state() is DeviceState.RENEWING
    assert await scene.states() == [ACTIVE, ACTIVE]
    with pytest.raises(Deferred):
        await scene.renew()
    scene.boot(await scene.certificate(2))
    await scene.renew()
    record = await scene.record()
    assert (record.state, record.renewal, record.next_certificate) == (DeviceState.REGISTERED, None, None)
    assert await scene.states() == [SUPERSEDED, ACTIVE]
    former, present = await scene.serials()
    known = await scene.certificates.get(former)
    assert known is not None
    assert known.record.successor == present
    told = scene.event("CertificateRenewed")["data"]
    assert (told["previousSerialNumber"], told["serialNumber"]) == (former, present)
    await scene.renew()
    assert scene.events().count("CertificateRenewed") == 1


async def test_a_renewal_keeps_the_life_that_was_ordered() -> None:
    """A device of one day is renewed for one day."""
    scene = await registered(validity_days=1)
    await scene.renewing()
    first, second = await scene.certificate(1), await scene.certificate(2)
    life = second.not_valid_after_utc - second.not_valid_before_utc
    assert timedelta(days=1) <= life < timedelta(days=1, hours=1)
    assert life == first.not_valid_after_utc - first.not_valid_before_utc


async def test_a_renewal_with_the_id_of_the_order_is_a_renewal() -> None:
    """It makes a certificate of its own, and does not take the one in use for its successor."""
    scene = await registered(order_id="order")
    await scene.renewing("order")
    assert await scene.states() == [ACTIVE, ACTIVE]
    scene.boot(await scene.certificate(2))
    await scene.renew("order")
    assert await scene.states() == [SUPERSEDED, ACTIVE]
    record = await scene.record()
    assert record.certificate is not None
    assert record.certificate.serial_number == (await scene.serials())[1]


async def test_a_second_renewal_overtakes_the_first() -> None:
    """What the first one brought is revoked as superseded, and DPS does not take it; the first one is over."""
    scene = await registered()
    await scene.renewing("first")
    await scene.renewing("second")
    assert await scene.states() == [ACTIVE, REVOKED, ACTIVE]
    assert (await scene.record()).held[1].reason == "superseded"
    assert await scene.listed() == [(await scene.serials())[1]]
    assert await scene.admitted() == [1, 3]
    await scene.renew("first")
    assert (await scene.record()).renewal == "second"
    scene.boot(await scene.certificate(3))
    await scene.renew("second")
    assert await scene.states() == [SUPERSEDED, REVOKED, ACTIVE]
    assert await scene.admitted() == [3]


async def test_a_second_renewal_leaves_the_device_what_it_has_come_with() -> None:
    """The first one is done then, though it has not looked since, and the second one brings the successor of that."""
    scene = await registered()
    await scene.renewing("first")
    scene.boot(await scene.certificate(2))
    await scene.renewing("second")
    assert await scene.states() == [SUPERSEDED, ACTIVE, ACTIVE]
    assert scene.events().count("CertificateRenewed") == 1
    told, serials = scene.event("CertificateRenewed"), await scene.serials()
    assert (told["correlationid"], told["data"]["serialNumber"]) == ("first", serials[1])
    await scene.renew("first")
    record = await scene.record()
    assert (record.state, record.renewal, record.in_use) == (DeviceState.RENEWING, "second", tuple(serials[1:]))
    scene.boot(await scene.certificate(3))
    await scene.renew("second")
    assert await scene.states() == [SUPERSEDED, SUPERSEDED, ACTIVE]
    assert scene.events().count("CertificateRenewed") == 2


async def test_two_renewals_at_once_leave_one_certificate_waiting() -> None:
    """The second begins while the first one's certificate is signed: that is given up, with its bundle."""
    scene = await registered()
    create = scene.blobs.create

    async def overtaken(*args: object, **named: object) -> bool:
        scene.blobs.create = create  # type: ignore[method-assign]
        made = await create(*args, **named)  # type: ignore[arg-type]
        await scene.renewing("second")
        return made

    scene.blobs.create = overtaken  # type: ignore[method-assign]
    with pytest.raises(Deferred):
        await scene.renew("first")
    assert await scene.states() == [ACTIVE, CertificateState.ABANDONED, ACTIVE]
    await scene.renew("first")
    assert await scene.states() == [ACTIVE, CertificateState.ABANDONED, ACTIVE]
    assert (await scene.record()).renewal == "second"
    assert len(scene.blobs.blobs) == 2


@pytest.mark.parametrize("state", [GroupState.DISABLED, GroupState.DELETED])
async def test_a_renewal_that_waits_survives_what_happens_to_its_group(state: GroupState) -> None:
    """The device comes with its next certificate, which it has: the renewal is completed, whatever the group is by then."""
    scene = await registered()
    await scene.renewing()
    await scene.group(state)
    with pytest.raises(Deferred, match="has not registered with its certificate yet"):
        await scene.renew()
    scene.boot(await scene.certificate(2))
    await scene.renew()
    assert await scene.states() == [SUPERSEDED, ACTIVE]


async def test_a_renewal_in_a_disabled_group_is_refused_before_anything_is_made() -> None:
    """The device stays what it is, and may be renewed when the group is back."""
    scene = await registered()
    await scene.group(GroupState.DISABLED)
    with pytest.raises(Rejected, match="the enrollment group 'line' is disabled"):
        await scene.renew()
    assert await scene.state() is DeviceState.REGISTERED
    await scene.group(GroupState.ENABLED)
    await scene.renewing("later")
    assert await scene.states() == [ACTIVE, ACTIVE]


async def test_a_renewal_is_signed_by_the_ca_that_its_group_has_now() -> None:
    """After a rollover the next certificate is the next CA's, and each stands in its own CA's index."""
    scene = await registered()
    await scene.group(GroupState.ENABLED, issuer="line-1-ca2")
    await scene.renewing()
    assert [issuer for issuer, _ in scene.in_force.rows] == ["line-1-ca1", "line-1-ca2"]
    scene.boot(await scene.certificate(2))
    await scene.renew()
    assert [issuer for issuer, _ in scene.in_force.rows] == ["line-1-ca2"]


async def test_who_cannot_be_renewed_is_told_why() -> None:
    """Nobody, one that has not registered, and one that made its own key and brings no new one."""
    scene = await DeviceScene().set_up()
    with pytest.raises(NotFound, match="the device 'press' does not exist"):
        await scene.renew()
    with pytest.raises(Deferred):
        await scene.order(csr=csr())
    with pytest.raises(Conflict, match="'press' is issued; only a registered device can be renewed"):
        await scene.renew()
    scene.boot(await scene.certificate(1))
    await scene.deliver()
    with pytest.raises(Conflict, match="'press' made its own key; its renewal needs a new csr"):
        await scene.renew()


async def test_the_bundle_of_the_next_certificate_is_the_one_that_is_handed_out() -> None:
    """The device needs it to come with it."""
    scene = await renewing()
    handed_out = await scene.directory.hand_out("press", wanted="pem", caller="erp")
    assert handed_out.serial_number == (await scene.serials())[2]


async def test_a_csr_that_can_not_be_used_is_refused_at_once() -> None:
    """It is none, it is another device's, or so is its key: the caller hears it before anything is queued."""
    scene = await registered()
    key = generate_key(KeyAlgorithm.EC_P256)
    with pytest.raises(Deferred):
        await scene.order("other", "lathe", csr=csr("lathe", key=key))
    for given, message in (
        ("-----BEGIN", "csr: the CSR is not PEM"),
        (csr("lathe"), "csr: .*'lathe'"),
        (csr(key=key), "csr: .* is that of device 'lathe'; each device needs a key of its own"),
    ):
        request = RenewalRequest(request_id="r", registration_id="press", csr=given)
        with pytest.raises(Rejected, match=message):
            await scene.renewals.check(request)
    await scene.renewals.check(RenewalRequest(request_id="r", registration_id="press", csr=csr()))
    assert await scene.states() == [ACTIVE]


async def test_a_renewal_is_checked_as_the_device_is_now() -> None:
    """One that can't be renewed is refused at once; one on hold is not, since its renewal waits until it is back."""
    scene = await DeviceScene().set_up()
    with pytest.raises(Deferred):
        await scene.order(csr=csr())
    request = RenewalRequest(request_id="r", registration_id="press", csr=csr())
    with pytest.raises(Conflict, match="'press' is issued; only a registered device can be renewed"):
        await scene.renewals.check(request)
    scene.boot(await scene.certificate(1))
    await scene.deliver()
    await scene.revoke(HOLD)
    await scene.renewals.check(request)
    await scene.revoke(COMPROMISE)
    with pytest.raises(Conflict, match="'press' is revoked; only a registered device can be renewed"):
        await scene.renewals.check(request)


async def test_a_device_does_not_get_back_the_key_that_was_taken_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record says at once that a key is compromised, before the table of keys does."""
    key = generate_key(KeyAlgorithm.EC_P256)
    scene = await renewed_from(key)

    async def down(_record: object) -> None:
        raise ConnectionError("the table is down")

    monkeypatch.setattr(scene.public_keys, "condemn", down)
    with pytest.raises(ConnectionError):
        await scene.revoke(COMPROMISE, serial_number=(await scene.serials())[0])
    with pytest.raises(Rejected, match="is compromised: a certificate with it was revoked for keyCompromise; make a"):
        await scene.renewals.check(RenewalRequest(request_id="r", registration_id="press", csr=csr(key=key)))


async def test_a_renewed_device_is_in_the_hub_where_it_came_with_its_new_certificate() -> None:
    """Its record says so from the same moment on, and its history has no surprise about it."""
    scene = await registered()
    await scene.renewing()
    scene.boot(await scene.certificate(2))
    await scene.renew()
    record = await scene.record()
    assert (record.assigned_hub, record.device_id) == (HUB, "press")
    assert [each.note for each in record.history if each.note and "DPS has it in" in each.note] == []


@pytest.mark.parametrize("second", [False, True])
async def test_a_device_whose_identity_others_change_to_keys_is_not_taken_for_renewed(*, second: bool) -> None:
    """It has registered with its former certificate again meanwhile. By an identity with keys nobody can tell."""
    scene = await registered()
    await scene.renewing("first")
    scene.boot(await scene.certificate(1))
    scene.now += timedelta(minutes=1)
    scene.provisioning.registrations["press"]["lastUpdatedDateTimeUtc"] = scene.now.isoformat()
    scene.hubs.enter("hub-1", "press", authentication="sas")
    await scene.renewing("second" if second else "first")
    assert (await scene.record()).in_use[0] == (await scene.serials())[0]
    assert "CertificateRenewed" not in scene.events()
