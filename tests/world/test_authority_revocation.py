"""A revocation of a CA with its devices: for who has revoked it, at its pace, and wherever it is broken off."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.acting import acting
from shared.contracts.authorities import AuthorityAct
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.approvals import ApprovalAct, ApprovalRecord
from shared.domain.authorities import AuthorityRecord, AuthorityState
from shared.domain.callers import Actor, CallerKind
from shared.domain.devices import DeviceRecord
from shared.domain.words import DeviceState, RevocationReason
from shared.ledger.audit_log import AuditFilters
from shared.ledger.authorities import Authorities
from shared.pki import names
from shared.rules.request_ids import led_to
from tests.pki.hierarchy import NOW, hierarchy
from tests.records import authority_record
from tests.world.auditor import audit
from tests.world.deliveries import broken_off
from tests.world.host import LEASE
from tests.world.world import DEVICE, GROUP, ISSUER, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.services import Services

DEVICES = (DEVICE, "lathe")
KIND = Queue.REVOCATION_REQUESTS
ADA = Actor(kind=CallerKind.USER, id="5b54", name="ada@example.com", role="CertificateAuthorities.Manage")
BOB = Actor(kind=CallerKind.USER, id="77c0", name="bob@example.com", role="Approvals.Give")
REVOKE = {"requestId": "ca", "name": ISSUER, "action": "revoke", "reason": "keyCompromise"}


class Guarded(World):
    """A deployment where the revocation of a CA needs a second person."""

    def _build(self) -> Services:
        built = super()._build()
        deeds = replace(built.approvals.deeds, wanted={ApprovalAct.REVOKE_AUTHORITY: 0})
        built.requests.gate = replace(built.approvals, deeds=deeds)
        return built


async def in_service(*devices: str, kind: type[World] = World) -> World:
    """Give a world whose devices have certificates of a CA that the ledger has."""
    world = await kind().prepare()
    issuing = hierarchy().issuing.certificate
    with world.conductor.at_once():
        await Authorities(world.storage.table("issuers")).try_insert(
            authority_record(
                ISSUER,
                NOW,
                parent="dpsCa",
                serial_number=names.serial_text(issuing.serial_number),
                thumbprint=names.thumbprint(issuing),
                certificate=names.pem(issuing),
                not_after=issuing.not_valid_after_utc,
            )
        )
    order = {"orderId": "o", "enrollmentGroup": GROUP, "devices": [{"registrationId": each} for each in devices]}
    world.ask("order", Queue.DEVICE_ORDERS, order)
    await world.drain()
    return world


async def called(world: World, **fields: Any) -> None:
    """Have Ada call for the revocation of the CA; the message of it lies in its queue."""
    act = parse(AuthorityAct, {**REVOKE, **fields})
    await world.call("ca", Queue.ENROLLMENT_GROUP_REQUESTS, act, ADA, "ticket 4711")


async def asked(world: World, **fields: Any) -> World:
    """Have Ada revoke the CA, so that the request for its devices lies in its queue."""
    await called(world, **fields)
    await world.deliver("ca")
    return world


async def awaited(world: World) -> tuple[ApprovalRecord, str | None]:
    """Give the approval that is waited for, and the id of its request."""
    found, _ = await world.services.approvals.page({"state": "open"}, size=10, continuation=None)
    (approval,) = found
    return approval, approval.request_id


async def record_of(world: World) -> AuthorityRecord:
    known = await Authorities(world.storage.table("issuers")).get(ISSUER)
    assert known is not None
    return known.record


def records(world: World) -> Mapping[str, DeviceRecord]:
    rows = world.storage.table("identities").rows.items()
    found = [row.read(DeviceRecord) for (_, key), row in rows if key.startswith("d:")]
    return {each.registration_id: each for each in found}


def revoked_at(record: DeviceRecord) -> Any:
    return next(each for each in record.history if each.state is DeviceState.REVOKED and each.note == "keyCompromise")


async def delivered(world: World) -> None:
    """Deliver what is on its way when it is due; no timer runs, and no time goes by that nothing waits for."""
    for _ in range(40):
        due = [each.visible for each in world.queues.queues.get(KIND, ())]
        if not due:
            return
        world.now = max(world.now, min(due))
        await world.deliver_visible()
    raise AssertionError("there is no rest")


# --- who, and when ---


async def test_devices_are_revoked_for_who_has_revoked_their_ca() -> None:
    """Their histories, the audit log and the events name her, and what she said; not a queue."""
    world = await asked(await in_service(*DEVICES))
    await world.drain()
    for record in records(world).values():
        assert record.state is DeviceState.REVOKED
        entry = revoked_at(record)
        assert entry.actor is not None
        assert (entry.actor.kind, entry.actor.id, entry.comment) == (CallerKind.USER, "5b54", "ticket 4711")
    told = [each["data"]["actor"]["id"] for each in world.events() if each["type"].endswith(".DeviceRevoked")]
    assert told == ["5b54", "5b54"]
    for device in DEVICES:
        found, _ = await world.services.audit.log.page(AuditFilters(device=device), size=50, continuation=None)
        revoked = [each for each in found if each.action == "revoke"]
        assert [(each.actor.id, each.comment, each.outcome) for each in revoked] == [("5b54", "ticket 4711", "done")]


async def test_the_audit_log_tells_the_revocation_of_a_ca_from_what_it_asks_for_its_devices() -> None:
    """Both are hers. Whoever looks for revoked CAs finds each of them once."""
    world = await asked(await in_service(DEVICE))
    await world.drain()
    found, _ = await world.services.audit.log.page(AuditFilters(authority=ISSUER), size=50, continuation=None)
    told = [(each.action, each.reason, each.actor.id, each.comment, each.outcome) for each in found]
    hers = ("keyCompromise", "5b54", "ticket 4711", "done")
    assert sorted(told) == [("revoke", *hers), ("revokeDevices", *hers)]


async def test_the_ca_is_shut_out_at_once_and_its_devices_at_the_pace_that_was_asked_for() -> None:
    """One a minute. One that is on hold gets in nowhere, and comes last."""
    world = await in_service("anvil", *DEVICES)
    world.ask("hold", KIND, {"requestId": "h", "registrationId": "anvil", "reason": "certificateHold"})
    await world.drain()
    began = world.now
    await asked(world, perMinute=1)
    ca = await record_of(world)
    assert (ca.state, ca.change) == (AuthorityState.REVOKED, None)
    await delivered(world)
    at = {name: revoked_at(record).at - began for name, record in records(world).items()}
    assert max(at, key=lambda name: at[name]) == "anvil"
    assert sorted(at.values()) == [timedelta(0), timedelta(minutes=1), timedelta(minutes=2)]


async def test_who_knows_the_request_to_revoke_a_ca_cannot_take_the_id_of_what_it_asks_for_its_devices() -> None:
    """Such as one who sees it wait for a second person, and may put messages into the queue of revocations."""
    world = await in_service(*DEVICES)
    taken = {"requestId": led_to("revoked-ca", ISSUER, "ca"), "registrationId": DEVICE, "reason": "certificateHold"}
    world.ask("taken", KIND, taken)
    await world.drain()
    await asked(world)
    await world.drain()
    ca = await record_of(world)
    assert (ca.state, ca.change) == (AuthorityState.REVOKED, None)
    assert {each.revoked for each in records(world).values()} == {RevocationReason.KEY_COMPROMISE}


async def test_a_second_revocation_of_the_ca_hastens_the_first() -> None:
    """Whoever finds the pace too slow asks again, without one."""
    world = await asked(await in_service(*DEVICES), perMinute=1)
    began = world.now
    await world.deliver_visible()
    await asked(world, requestId="faster")
    await world.deliver_visible()
    await world.deliver_visible()
    assert {each.state for each in records(world).values()} == {DeviceState.REVOKED}
    assert world.now - began < timedelta(seconds=30)


async def test_another_pace_needs_a_second_person_as_the_first_one_did() -> None:
    """What was approved was to revoke the CA at that pace."""
    world = await asked(await in_service(DEVICE, kind=Guarded), perMinute=1)
    (wanted, _), state = await awaited(world), (await record_of(world)).state
    assert (wanted.what.rpartition("for ")[2], state) == ("keyCompromise, 1 device a minute", AuthorityState.ACTIVE)
    with acting(BOB):
        await world.services.approvals.approve(wanted.approval_id)
    await world.drain()
    assert (await record_of(world)).state is AuthorityState.REVOKED
    await asked(world, requestId="faster")
    wanted, request = await awaited(world)
    assert (wanted.what.rpartition("for ")[2], request) == ("keyCompromise", "faster")


# --- wherever it is broken off ---


async def faults(world: World) -> list[str]:
    """Give what is wrong when nothing is on its way any more."""
    await world.drain()
    found = [f"{each.registration_id} is {each.state}" for each in records(world).values() if each.state != "revoked"]
    told = {each["id"] for each in world.events() if each["type"].endswith(".DeviceRevoked")}
    if len(told) != 1:
        found.append(f"told were {sorted(told)}")
    return found + await audit(world) + [repr(bug) for bug in world.bugs]


@pytest.mark.parametrize("queue", [Queue.ENROLLMENT_GROUP_REQUESTS, KIND])
async def test_a_ca_is_revoked_with_its_device_wherever_a_message_is_broken_off(queue: Queue) -> None:
    """Killed before each step or with the answer to it lost, by turns: of the act, and of what it asks for devices."""
    scene = await in_service(DEVICE)
    await called(scene)
    if queue is KIND:
        await scene.deliver("ca")

    def begun() -> World:
        world = scene.copy()
        message = world.queues.lease(queue, world.queues.queues[queue][0], lease=LEASE)
        world.conductor.start("a", world.hosts[0].deliver(queue, message))
        return world

    assert await begun().conductor.advance("a") > 8
    assert await broken_off(begun, faults, by_turns=True) == []
