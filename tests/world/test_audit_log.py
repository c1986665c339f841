"""The audit log, broken off before each of its own steps: an act is in it once, with what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from shared.domain.audit_entries import AuditEntry, AuditOutcome
from shared.domain.callers import CallerKind
from shared.ledger.audit_log import AuditFilters
from tests.world.acts import MESSAGES
from tests.world.prover import Proof
from tests.world.world import DEVICE, GROUP, World, run

if TYPE_CHECKING:
    from collections.abc import Sequence


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
