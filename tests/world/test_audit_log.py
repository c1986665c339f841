"""The audit log, broken off before each of its own steps: an act is in it once, with what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from shared.acting import acting
from shared.contracts.devices import revocation_request
from shared.contracts.messages import Queue
from shared.contracts.orders import DeviceOrder
from shared.contracts.parsing import parse
from shared.domain.audit_entries import AuditEntry, AuditOutcome
from shared.domain.callers import Actor, CallerKind
from shared.domain.words import DeviceState
from shared.ledger.audit_log import AuditFilters
from tests.world.acts import MESSAGES
from tests.world.prover import Proof
from tests.world.world import DEVICE, GROUP, World, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.domain.history import HistoryEntry


class Audited(World):
    """A world in which each write of the audit log is a step of its own."""

    without_steps: ClassVar[frozenset[str]] = frozenset()


class AuditProof(Proof[Audited]):
    """What was tried in such worlds."""

    of = "of the audit log: "


async def registered() -> Audited:
    world = Audited()
    await world.prepare()
    await world.line("o1", csr=None)
    queue, body = MESSAGES["order"]
    world.ask("order", queue, body)
    await world.deliver("order")
    world.asked.clear()
    return world


async def entries(world: World, **filters: Any) -> Sequence[AuditEntry]:
    found, _ = await world.services.audit.log.page(AuditFilters(**filters), size=100, continuation=None)
    return found


@pytest.mark.parametrize("name", ["renew", "hold", "delete"])
def test_an_act_that_is_broken_off_anywhere_is_written_down_once(name: str) -> None:
    """Also before, between and after the log's own writes, and where their answers get lost."""

    async def prove() -> list[str]:
        proof = AuditProof()
        await proof.break_off(await registered(), name)
        assert proof.runs > 30
        return proof.faults

    assert run(prove()) == []


def test_an_act_that_comes_twice_at_once_is_written_down_once() -> None:
    """Two workers carry it out side by side, at whatever point the other stands."""

    async def prove() -> list[str]:
        proof = AuditProof()
        await proof.interleave(await registered(), "hold", "hold")
        assert proof.runs > 15
        return proof.faults

    assert run(prove()) == []


def test_the_world_s_log_says_who_did_what() -> None:
    """By the device and by its group; what came by a queue says which one."""

    async def told() -> Sequence[AuditEntry]:
        world = await registered()
        world.ask("hold", *MESSAGES["hold"])
        await world.drain()
        assert list(await entries(world, device=DEVICE)) == list(await entries(world, group=GROUP))
        return await entries(world, device=DEVICE)

    [entry] = run(told())
    assert (entry.action, entry.outcome, entry.reason, entry.request_id) == (
        "revoke",
        AuditOutcome.DONE,
        "certificateHold",
        "h1",
    )
    assert (entry.actor.kind, entry.actor.id) == (CallerKind.QUEUE, "revocation-requests")
    assert (entry.actor.account, entry.actor.name, entry.actor.source) == ("queues", None, None)


ADA = Actor(kind=CallerKind.USER, id="5b54", name="ada@example.com", role="Devices.Revoke", address="192.0.2.7")


async def asked_over_http(world: World) -> None:
    """Ada asks over HTTP to have the device put on hold; the message of it lies in its queue."""
    queue, body = MESSAGES["hold"]
    await world.call("hold", queue, revocation_request(body), ADA, "found on a dump")


def told_of(world: World) -> tuple[Any, Any, Any]:
    """Give who is named by the device's history and by its event, and what was said."""
    entry, [event] = revocation_of(world)
    return entry.actor, event["data"]["actor"], entry.comment


def revocation_of(world: World) -> tuple[HistoryEntry, list[dict[str, Any]]]:
    """Give what the device's history has of its revocation, and each event of it that was sent."""
    record = world.record()
    assert record is not None
    entry = next(each for each in record.history if each.state is DeviceState.REVOKED)
    return entry, [each for each in world.events() if each["type"].endswith(".DeviceRevoked")]


def test_the_history_and_the_event_name_who_asked() -> None:
    """Not who put the message into the queue, which may be anybody with the right to."""

    async def told() -> tuple[Any, Any, Any]:
        world = await registered()
        await asked_over_http(world)
        await world.drain()
        return told_of(world)

    kept, event, comment = run(told())
    assert kept == ADA.changed(request_id="h1")
    assert event == {
        "kind": "user",
        "id": "5b54",
        "name": "ada@example.com",
        "role": "Devices.Revoke",
        "requestId": "h1",
        "address": "192.0.2.7",
        "account": None,
        "source": None,
    }
    assert comment == "found on a dump"


def test_the_event_names_who_asked_also_if_somebody_else_brings_it_about() -> None:
    """The worker dies at each step, and a timer or another delivery goes on; one that has told it tells it again."""

    async def told() -> list[tuple[str | None, set[str]]]:
        scene = await registered()
        await asked_over_http(scene)
        found: list[tuple[str | None, set[str]]] = []
        whole = scene.copy()
        whole.conductor.start("a", whole.deliver("hold"))
        for step in range(await whole.conductor.advance("a")):
            world = scene.copy()
            world.conductor.start("a", world.deliver("hold"))
            await world.conductor.advance("a", step)
            await world.conductor.kill("a")
            await world.hosts[1].tick("convergence_sweep")
            await world.drain()
            entry, events = revocation_of(world)
            assert len({each["id"] for each in events}) == 1
            found.append((entry.actor.id if entry.actor else None, {each["data"]["actor"]["id"] for each in events}))
        return found

    found = run(told())
    assert found
    assert all(each == ("5b54", {"5b54"}) for each in found)


def test_the_device_s_history_names_who_ordered_it() -> None:
    """The order's own messages carry the order out, for whoever ordered."""

    async def told() -> list[str | None]:
        world = await Audited().prepare()
        order = {"orderId": "o", "enrollmentGroup": GROUP, "devices": [{"registrationId": DEVICE}]}
        parsed = parse(DeviceOrder, order)
        with acting(ADA):
            sent = world.services.outbox.send(Queue.DEVICE_ORDERS, parsed)
            await world.services.following.order_accepted("o", parsed.fingerprint, sent)
        await world.drain()
        record = world.record()
        assert record is not None
        [entry] = await entries(world, actor="5b54")
        assert (entry.action, entry.subject, entry.enrollment_group) == ("order", "o", GROUP)
        return [each.actor.id if each.actor else None for each in record.history]

    assert set(run(told())) == {"5b54"}
