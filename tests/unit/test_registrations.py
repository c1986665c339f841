"""A device on its way into its hub: found there by its certificate, waited for, and announced once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.domain.certificates import CertificateState
from shared.domain.groups import GroupState
from shared.domain.orders import LineState, OrderLine
from shared.domain.words import DeviceState, RegisterBy
from shared.errors import Conflict, Deferred
from shared.pki import names
from shared.ports.registrar import AssignmentFailed, RegistrationRefused
from tests.unit.devices import COMPROMISE, HUB, DeviceScene, csr, registered

if TYPE_CHECKING:
    from shared.ledger.table import Versioned

WAITING = "'press' has not registered with its certificate yet"


async def waiting(**fields: Any) -> DeviceScene:
    """Give a device that has its certificate, and has not registered."""
    scene = await DeviceScene().set_up()
    with pytest.raises(Deferred, match=WAITING):
        await scene.order(register_by=RegisterBy.DEVICE, **fields)
    return scene


@pytest.mark.parametrize("group", [GroupState.ENABLED, GroupState.DISABLED])
async def test_a_disabled_group_does_not_end_the_wait_for_a_device(group: GroupState) -> None:
    """While its group is disabled DPS refuses the device; its order goes on waiting, for the group may come back."""
    scene = await waiting()
    await scene.group(group)
    with pytest.raises(Deferred, match=WAITING):
        await scene.deliver()
    line = await scene.line()
    assert line.state is LineState.ISSUED
    assert line.reasons == ({"field": "", "message": WAITING},)


async def test_an_order_shows_a_certificate_that_is_there_though_a_service_fails() -> None:
    """Whatever keeps a device from its hub: its line says issued, as the device does, with the serial number and why."""
    scene = await DeviceScene().set_up()

    async def failing(*_args: Any) -> Any:
        raise ConnectionError("no route")

    scene.registrar.register = failing  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectionError):
        await scene.order()
    line = await scene.line()
    assert (line.state, line.serial_number) == (LineState.ISSUED, (await scene.serials())[0])
    assert line.reasons == ({"field": "", "message": "tried again: no route"},)


@pytest.mark.parametrize(
    ("waited", "pause"),
    [(timedelta(), 2), (timedelta(minutes=1), 7.5), (timedelta(hours=1), 450), (timedelta(days=9), 600)],
)
async def test_the_longer_a_device_is_waited_for_the_rarer_it_is_asked_for(waited: timedelta, pause: float) -> None:
    """The pause grows with the wait, from two seconds to ten minutes."""
    scene = await waiting()
    scene.now += waited
    with pytest.raises(Deferred) as caught:
        await scene.deliver()
    assert caught.value.retry_after == timedelta(seconds=pause)


@pytest.mark.parametrize("thumbprint", [names.thumbprint, names.sha256_thumbprint])
@pytest.mark.parametrize("place", ["alone", "beside another"])
async def test_a_device_is_noticed_by_whatever_thumbprint_its_hub_has(thumbprint: Any, place: str) -> None:
    """SHA-1 or SHA-256, primary or secondary; with the thumbprint of another certificate it has not come yet."""
    scene = await waiting(csr=csr())
    certificate = await scene.certificate(1)
    scene.boot(certificate)
    scene.hubs.enter(HUB, "press", "A" * 64)
    with pytest.raises(Deferred, match=WAITING):
        await scene.deliver()
    others = ("B" * 64,) if place == "beside another" else ()
    scene.hubs.enter(HUB, "press", thumbprint(certificate), *others)
    await scene.deliver()
    assert await scene.state() is DeviceState.REGISTERED
    assert (await scene.line()).state is LineState.REGISTERED


async def test_where_the_hub_names_no_certificate_a_registration_since_then_counts() -> None:
    """One from before the certificate was issued does not."""
    scene = await waiting(csr=csr())
    scene.boot(await scene.certificate(1))
    scene.hubs.enter(HUB, "press")
    registration = scene.provisioning.registrations["press"]
    registration["lastUpdatedDateTimeUtc"] = (scene.now - timedelta(seconds=1)).isoformat()
    with pytest.raises(Deferred, match=WAITING):
        await scene.deliver()
    registration["lastUpdatedDateTimeUtc"] = scene.now.isoformat()
    await scene.deliver()
    assert await scene.state() is DeviceState.REGISTERED


async def test_each_step_is_told_of_once() -> None:
    """However often the message comes: one event for the certificate, one for the registration."""
    scene = await waiting(csr=csr())
    for _ in range(3):
        with pytest.raises(Deferred):
            await scene.deliver()
    scene.boot(await scene.certificate(1))
    await scene.deliver()
    await scene.deliver()
    assert scene.events() == ["CertificateIssued", "DeviceRegistered"]
    assert (await scene.record()).announcements == ()
    sent = [body["type"] for _, body, _ in scene.queues.sent]
    assert len(sent) == 2, "nothing is sent again on every delivery of a message that waits for long"


async def test_a_line_whose_device_went_on_before_it_was_closed_is_registered() -> None:
    """The worker ended after the device was entered; by the next delivery the device is being renewed."""
    scene = await DeviceScene().set_up()
    replace = scene.orders.replace_line

    async def killed(known: Versioned[OrderLine], line: OrderLine) -> Versioned[OrderLine]:
        if line.state is LineState.REGISTERED:
            raise ConnectionError("killed")
        return await replace(known, line)

    scene.orders.replace_line = killed  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await scene.order()
    scene.orders.replace_line = replace  # type: ignore[method-assign]
    await scene.renewing()
    await scene.deliver()
    line = await scene.line()
    assert (line.state, line.assigned_hub, line.reasons) == (LineState.REGISTERED, HUB, None)
    assert "RequestRejected" not in scene.events()


async def test_a_failed_line_keeps_its_reason() -> None:
    """DPS is down when the device is to be shut out: the next delivery closes the line with the reason of the first."""
    scene = await DeviceScene().set_up()
    scene.registrar.refusal = RegistrationRefused("the allocation webhook refuses the device", status=401)
    scene.provisioning.down = True
    with pytest.raises(ServiceRequestError):
        await scene.order()
    assert (await scene.line()).state is not LineState.FAILED
    scene.provisioning.down = False
    await scene.deliver()
    line = await scene.line()
    assert line.state is LineState.FAILED
    assert line.reasons == ({"field": "", "message": "the allocation webhook refuses the device"},)
    assert scene.event("RequestRejected")["data"]["reasons"] == [
        {"field": "", "message": "the allocation webhook refuses the device"}
    ]
    assert await scene.states() == [CertificateState.REVOKED]
    assert await scene.admitted() == []


async def test_a_line_without_an_id_is_told_under_its_order() -> None:
    """An event's subject is never empty (CloudEvents 1.0, subject), also where the device has no registration id."""
    scene = await DeviceScene().set_up()
    await scene.order()
    line = (await scene.line()).changed(registration_id=None, requested_id="", reasons=())
    await scene.failures.announce(line)
    told = scene.event("RequestRejected")
    assert (told["subject"], told["data"]["orderId"], told["data"]["registrationId"]) == ("order", "order", "")


async def test_a_device_that_reached_its_hub_when_it_was_revoked_is_shut_out_of_it() -> None:
    """Its registration was under way; whoever revoked it could not know of the hub."""
    scene = await DeviceScene().set_up()
    register = scene.registrar.register

    async def meanwhile(registration_id: str, credentials: Any) -> Any:
        assignment = await register(registration_id, credentials)
        scene.provisioning.registrations.clear()  # not shown yet
        await scene.revoke(COMPROMISE)
        return assignment

    scene.registrar.register = meanwhile  # type: ignore[method-assign]
    await scene.order()
    assert await scene.state() is DeviceState.REVOKED
    assert (scene.identity(), await scene.admitted()) == (False, [])
    reasons = (await scene.line()).reasons
    assert reasons == ({"field": "", "message": "'press' was shut out while it was registered"},)


async def test_a_device_that_is_in_use_is_not_ordered_again() -> None:
    """The line says through what it is in use, and nothing becomes of the device."""
    scene = await registered()
    await scene.order("again")
    reasons = (await scene.line("again")).reasons
    assert reasons == (
        {
            "field": "devices[0].registrationId",
            "message": "'press' is registered through order 'order'; renew it, or revoke and delete it before ordering "
            "it again",
        },
    )
    assert await scene.state() is DeviceState.REGISTERED
    assert await scene.states() == [CertificateState.ACTIVE]


async def test_a_line_that_was_refused_and_told_is_told_with_the_same_reason_again() -> None:
    """The worker ended before the line was closed, and the device went on meanwhile: one event id says one thing."""
    scene = await registered()
    close = scene.orders.close_lines

    async def killed(*_args: Any) -> Any:
        raise ConnectionError("killed")

    scene.orders.close_lines = killed  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectionError):
        await scene.order("again")
    scene.orders.close_lines = close  # type: ignore[method-assign]
    await scene.renewing()
    await scene.deliver("again")
    told = [
        (body["id"], body["data"]["reasons"])
        for _, body, _ in scene.queues.sent
        if body["type"] == "DeviceProvisioning.RequestRejected"
    ]
    assert len(told) == 2
    assert told[0] == told[1]
    line = await scene.line("again")
    assert (line.state, list(line.reasons or ())) == (LineState.FAILED, told[0][1])


async def test_a_device_that_fails_again_and_again_fits_its_row() -> None:
    """Long reasons and many orders: the record's columns stay within 32 K characters."""
    scene = await DeviceScene().set_up()
    scene.registrar.refusal = RegistrationRefused("x" * 1500, status=401)
    for number in range(30):
        await scene.order(f"order-{number}")
    columns = (await scene.record()).columns()
    assert max(len(value) for value in columns.values() if isinstance(value, str)) < 32_768
    assert (await scene.record()).reason == "x" * 1500


async def test_a_line_waits_for_its_ca_to_be_enabled_and_fails_if_that_is_retired() -> None:
    """Nothing is signed meanwhile; when the CA is enabled the line goes on as if nothing had been."""
    scene = await DeviceScene().set_up()
    scene.authorities.refusal = Deferred("the CA is disabled", retry_after=timedelta(minutes=10))
    with pytest.raises(Deferred, match="the CA is disabled"):
        await scene.order()
    assert await scene.devices.get("press") is None
    scene.authorities.refusal = None
    await scene.deliver()
    assert await scene.state() is DeviceState.REGISTERED
    scene.authorities.refusal = Conflict.because("the CA is retired", field="issuer")
    await scene.order("order-2", "drill")
    (line,) = [each.record async for each in scene.orders.lines_in("order-2", LineState.FAILED)]
    assert line.reason == "issuer: the CA is retired"


@pytest.mark.parametrize(
    ("registration", "why"),
    [
        (
            {"errorCode": 400207, "errorMessage": "Custom allocation failed."},
            "400207, Custom allocation failed.",
        ),
        ({}, "no error code, no message"),
        (None, "no error code, no message"),
    ],
)
async def test_why_dps_has_found_no_hub_is_said_as_its_record_has_it(
    monkeypatch: pytest.MonkeyPatch, registration: dict[str, Any] | None, why: str
) -> None:
    """DPS does not tell the device; without it, nobody would look at the webhook of the allocation."""
    scene = await DeviceScene().set_up()

    async def register(registration_id: str, _credentials: Any) -> Any:
        if registration is not None:
            scene.provisioning.registrations[registration_id] = registration
        raise AssignmentFailed(f"DPS found no hub for {registration_id!r}")

    monkeypatch.setattr(scene.registrar, "register", register)
    with pytest.raises(AssignmentFailed) as failed:
        await scene.order()
    assert str(failed.value) == (
        f"DPS found no hub for 'press': {why}; see to the group's allocation policy, its webhook and its hubs"
    )
