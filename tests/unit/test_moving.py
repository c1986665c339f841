"""Devices that are to register again are told at a pace, are looked at by what DPS says, and are in the ledger then."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from shared.commands import ended
from shared.contracts.devices import RenewalRequest, RevocationRequest
from shared.contracts.groups import EnrollmentGroupRequest, IndividualEnrollmentDefinition
from shared.contracts.parsing import parse
from shared.domain.words import RevocationReason
from shared.errors import Deferred, NotFound, Rejected
from shared.moving import move
from shared.pki.names import serial_text
from shared.restoration import restoration_of
from shared.workflows.devices.linked_hubs import LinkedHubs
from shared.workflows.reconciliation.found_authorities import Brought
from shared.workflows.reconciliation.moving import Moving, Plan
from tests.unit.adopting import GROUP, Deployment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TOLD = {"registerAgain": {"idScope": "0ne-other"}}


async def nothing(_seconds: float) -> None:
    raise AssertionError("nobody waits")


def moving(subject: Deployment, pause: Callable[[float], Awaitable[None]] = nothing) -> Moving:
    return Moving(
        devices=subject.app.converger.devices,
        groups=subject.app.usable_groups.groups,
        provisioning=subject.provisioning,
        hubs=subject.hubs,
        converger=subject.app.converger,
        linked=LinkedHubs(resource=subject.places, named=(), clock=subject.app.clock),
        id_scope="0ne-other",
        clock=subject.app.clock,
        pause=pause,
    )


async def leaf(subject: Deployment, device: str) -> x509.Certificate:
    certificate = (await subject.device(device)).certificate
    assert certificate is not None
    known = await subject.app.converger.books.certificates.get(certificate.serial_number)
    assert known is not None
    return x509.load_pem_x509_certificate((known.record.pem or "").encode())


async def names(subject: Deployment, plan: Plan) -> set[str]:
    return {each.registration_id for each in await moving(subject).left(plan)}


def told(subject: Deployment) -> set[str]:
    return {name for (_, name), twin in subject.hubs.twins.items() if twin.get("desired") == TOLD}


async def test_those_are_left_that_dps_has_in_the_hub_that_is_to_be_retired() -> None:
    """One that has moved is not, and the ledger names its hub; one that is shut out comes back nowhere."""
    subject = await Deployment().begin("press", "drill", "saw")
    await subject.revoke("saw", RevocationReason.CESSATION_OF_OPERATION)
    subject.registrar.hub = "hub-2"
    subject.registrar.boot("drill", await leaf(subject, "drill"))
    assert await names(subject, Plan(enrollment_group=GROUP, hub="HUB-1")) == {"press"}
    assert (await subject.device("drill")).assigned_hub == "hub-2"


async def test_a_hub_that_does_not_exist_is_refused_by_name() -> None:
    """Nobody is left in a hub whose name is mistyped, and the next step of the runbook deletes a hub."""
    subject = await Deployment().begin("press", "drill")
    subject.registrar.hub = "hub-2"
    subject.registrar.boot("drill", await leaf(subject, "drill"))
    assert await names(subject, Plan(enrollment_group=GROUP, hub="hub-1")) == {"press"}
    with pytest.raises(Rejected) as refused:
        await names(subject, Plan(enrollment_group=GROUP, hub="hub-9"))
    assert str(refused.value) == (
        "hub: 'hub-9' is not linked to the DPS, and no device of the ledger is in it; the hubs are hub-1, hub-2"
    )
    subject.places.linked = ("hub-2",)  # the old one is not linked any more, and has a device
    assert await names(subject, Plan(enrollment_group=GROUP, hub="hub-1")) == {"press"}


async def test_those_are_left_whose_registration_is_gone_if_the_ledger_has_them_in_the_hub() -> None:
    """Its identity is there yet, and it would be lost with the hub."""
    subject = await Deployment().begin("press", "drill")
    del subject.provisioning.registrations["press"]
    assert await names(subject, Plan(enrollment_group=GROUP, hub="Hub-1")) == {"press", "drill"}
    subject.places.linked = ("hub-1", "hub-2")
    assert await names(subject, Plan(enrollment_group=GROUP, hub="hub-2")) == set()


@pytest.mark.parametrize(
    ("hub", "status", "said"),
    [
        ("hub-1", 1, "press hub-1\n"),
        ("hub-2", 0, ""),
        (
            "hub-9",
            2,
            "hub: 'hub-9' is not linked to the DPS, and no device of the ledger is in it; the hubs are hub-1, hub-2\n",
        ),
    ],
)
async def test_the_exit_status_says_whether_devices_are_left_or_the_hub_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hub: str, status: int, said: str
) -> None:
    subject = await Deployment().begin("press")
    subject.places.linked = ("hub-1", "hub-2")

    async def close() -> None:
        """Leave the services open."""

    app = SimpleNamespace(
        clients=SimpleNamespace(
            tables=subject, provisioning=subject.provisioning, hubs=subject.hubs, dps_authorities=subject.places
        ),
        converger=subject.app.converger,
        linked_hubs=subject.app.linked_hubs,
        clock=subject.app.clock,
        close=close,
    )
    monkeypatch.setattr("shared.moving.build", lambda _settings: app)
    settings: Any = SimpleNamespace(dps_id_scope="0ne", iot_hub_service_urls={})
    assert await ended(move(settings, Plan(enrollment_group=GROUP, hub=hub), look=True)) == status
    shown = capsys.readouterr()
    assert shown.err + shown.out == said


async def test_those_are_left_that_another_dps_does_not_know() -> None:
    """One that has an entry of its own stands in no group's list, and is asked for alone."""
    subject = await Deployment().begin("press", "drill")
    record = await subject.device("drill")
    known = await subject.app.converger.devices.get("drill")
    assert known is not None
    await subject.app.converger.devices.replace(known, record.changed(own_entry=True))
    before = dict(subject.provisioning.registrations)
    subject.provisioning.registrations.clear()
    assert await names(subject, Plan(enrollment_group=GROUP)) == {"press", "drill"}
    subject.provisioning.registrations["drill"] = {**before["drill"], "enrollmentGroupId": None}
    assert await names(subject, Plan(enrollment_group=GROUP)) == {"press"}
    assert await names(subject, Plan(enrollment_group=GROUP, hub="Hub-1")) == {"press", "drill"}


async def test_they_are_told_at_a_pace_and_it_ends_when_none_is_left() -> None:
    """One a minute is told, by its twin; it looks each minute, and goes on though one takes its time."""
    subject = await Deployment().begin("press", "drill")
    subject.registrar.hub = "hub-2"
    waits = list[tuple[float, set[str]]]()

    async def minute(seconds: float) -> None:
        waits.append((seconds, told(subject)))
        for each in told(subject) if len(waits) > 1 else ():
            subject.registrar.boot(each, await leaf(subject, each))

    lines = [
        line async for line in moving(subject, minute).run(Plan(enrollment_group=GROUP, hub="hub-1", per_minute=1))
    ]
    assert [len(names) for _, names in waits] == [1, 2]
    assert {seconds for seconds, _ in waits} == {60.0}
    assert lines == [
        "2 devices of 'line' are still to register again: press, drill",
        "2 devices of 'line' are still to register again: press, drill",
        "all devices of 'line' have registered again",
    ]
    assert {(await subject.device(each)).assigned_hub for each in ("press", "drill")} == {"hub-2"}


async def revoke_earlier(subject: Deployment, device: str) -> None:
    """Have a device use another certificate, and its earlier one revoked: DPS gets an entry of its own for it."""
    former = await leaf(subject, device)
    request = RenewalRequest(request_id=f"renew-{device}", registration_id=device)
    with suppress(Deferred):
        await subject.app.renewals.carry_out(request)
    renewed = (await subject.device(device)).next_certificate
    if renewed is not None:
        known = await subject.app.converger.books.certificates.get(renewed.serial_number)
        assert known is not None
        subject.registrar.boot(device, x509.load_pem_x509_certificate((known.record.pem or "").encode()))
        await subject.app.renewals.carry_out(request)
    await subject.app.revocations.carry_out(
        RevocationRequest(
            request_id=f"revoke-{device}",
            serial_number=serial_text(former.serial_number),
            reason=RevocationReason.SUPERSEDED,
        )
    )


async def give_hubs(subject: Deployment, *hubs: str) -> None:
    """Have the group get hubs, as the runbook does first."""
    subject.places.linked = ("hub-1", "hub-2")
    update = {"requestId": f"to-{hubs[0]}", "enrollmentGroup": GROUP, "action": "update", "iotHubs": list(hubs)}
    await subject.app.groups.requests.carry_out(parse(EnrollmentGroupRequest, update))


async def test_a_device_with_an_entry_of_its_own_goes_to_the_other_hub_and_the_retirement_ends() -> None:
    """DPS places it by its entry, which has what the group has now before the device is told."""
    subject = await Deployment().begin("press")
    await give_hubs(subject, "hub-1")
    await revoke_earlier(subject, "press")
    assert subject.provisioning.enrollments["press"]["iotHubs"] == ["hub-1"]
    await give_hubs(subject, "hub-2")

    async def minute(_seconds: float) -> None:
        assert told(subject) == {"press"}
        [subject.registrar.hub] = subject.provisioning.enrollments["press"]["iotHubs"]
        subject.registrar.boot("press", await leaf(subject, "press"))

    lines = [line async for line in moving(subject, minute).run(Plan(enrollment_group=GROUP, hub="hub-1"))]
    assert lines[-1] == "all devices of 'line' have registered again"
    assert (await subject.device("press")).assigned_hub == "hub-2"


async def test_an_entry_that_an_operator_keeps_in_the_old_hub_is_named() -> None:
    """It would be told again and again, and come back to where it is."""
    subject = await Deployment().begin("press")
    subject.places.linked = ("hub-1", "hub-2")
    definition = parse(IndividualEnrollmentDefinition, {"iotHubs": ["hub-1"]})
    await subject.app.individual_enrollments.put("press", definition)
    await give_hubs(subject, "hub-2")

    async def minute(_seconds: float) -> None:
        subject.registrar.hub = "hub-2"
        subject.registrar.boot("press", await leaf(subject, "press"))

    lines = [line async for line in moving(subject, minute).run(Plan(enrollment_group=GROUP, hub="hub-1"))]
    assert lines[1] == (
        "press: its individual enrollment has that hub and no other, by an operator: give it another by PUT "
        "/api/enrollments/press"
    )
    assert told(subject) == set()


async def test_one_that_cannot_be_told_is_named_and_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = await Deployment().begin("press", "drill")
    merge = subject.hubs.merge_twin

    async def refusing(hub: str, device_id: str, **parts: object) -> None:
        if device_id == "press":
            raise NotFound.because("twin of 'press' in hub-1 does not exist")
        await merge(hub, device_id, **parts)  # type: ignore[arg-type]

    monkeypatch.setattr(subject.hubs, "merge_twin", refusing)

    async def minute(_seconds: float) -> None:
        subject.registrar.hub = "hub-2"
        for each in ("press", "drill"):
            subject.registrar.boot(each, await leaf(subject, each))

    lines = [line async for line in moving(subject, minute).run(Plan(enrollment_group=GROUP, hub="hub-1"))]
    assert lines[1].startswith("press: it has to be told in another way: ")
    assert told(subject) == {"drill"}


async def test_nobody_is_sent_to_a_dps_that_does_not_have_the_group() -> None:
    """It would refuse them; so that is said first."""
    subject = await Deployment().begin("press")
    del subject.provisioning.groups[GROUP]
    with pytest.raises(NotFound, match="does not have the enrollment group 'line', and would refuse its devices"):
        await moving(subject).left(Plan(enrollment_group=GROUP))


async def test_a_group_that_never_was_is_said_to_not_exist() -> None:
    subject = await Deployment().begin("press")
    with pytest.raises(NotFound, match=r"^enrollmentGroup: the enrollment group 'nope' does not exist$"):
        await moving(subject).left(Plan(enrollment_group="nope"))


async def test_the_hubs_that_are_linked_to_the_dps_are_asked_for_by_one_and_kept_for_all() -> None:
    """Reconciliation, the restoration of a ledger and moving: each would ask for itself."""
    app = (await Deployment().begin()).app
    assert restoration_of(app, Brought()).adoption.devices.identities.linked is app.linked_hubs  # type: ignore[union-attr]
    assert app.reconciler.walk.look.linked is app.linked_hubs
