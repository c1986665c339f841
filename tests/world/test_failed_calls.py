"""A call fails for its caller when its act is decided: the timer carries it out, and the audit log says so.

Each call has an entry that is written ahead of the deed, as :func:`triggers.auditing.carried_out` does.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.acting import acting
from shared.domain.audit_entries import AuditedAct, AuditEntry, AuditOutcome, SubjectKind
from shared.domain.authorities import AuthorityAction, AuthorityState
from shared.domain.callers import Actor, CallerKind
from shared.domain.requests import DELIVERY_LASTS
from shared.domain.upkeep import audited
from shared.errors import Rejected
from shared.ledger.audit_log import AuditFilters, AuditTable
from shared.workflows.intake.audit import Act, Audit
from tests.world.acts import CALLS, MESSAGES, SCENES
from tests.world.auditor import audit
from tests.world.authority_acts import CALLS as AUTHORITY_CALLS
from tests.world.authority_acts import SCENES as AUTHORITY_SCENES
from tests.world.conductor import AtOnce, Go
from tests.world.services import HUB
from tests.world.storage import Table
from tests.world.world import DEVICE, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.world.authority_world import AuthorityWorld

ADA = Actor(kind=CallerKind.USER, id="5b54", name="ada@example.com", role="Devices.Revoke")
FAILED = {AuditOutcome.FAILED, AuditOutcome.BEGUN, AuditOutcome.REFUSED}


def is_enabled_in_its_hub(world: World) -> bool:
    return next(each.enabled for (hub, _), each in world.hubs.identities.items() if hub == HUB)


def entry_status(world: World) -> str | None:
    entry = world.provisioning.enrollments.get(DEVICE)
    return None if entry is None else str(entry["provisioningStatus"])


IS_SO: dict[str, tuple[tuple[str, ...], Callable[[World], bool]]] = {
    "disable": ((), lambda world: not is_enabled_in_its_hub(world)),
    "enable": (("disable",), is_enabled_in_its_hub),
    "put the entry": ((), lambda world: entry_status(world) == "enabled"),
    "disable the entry": ((), lambda world: entry_status(world) == "disabled"),
    "delete the entry": (("put the entry",), lambda world: entry_status(world) is None),
}
"""Calls, with those that come before, and whether the services are as a call wants them."""


async def called(world: World, act: str, call: Callable[[World], Awaitable[None]] | None = None) -> None:
    """Have Ada call, as the app's route does."""
    with acting(ADA, "ticket 4711"):
        async with world.services.audit.carried_out(Act(action=act, kind=SubjectKind.DEVICE, subject=DEVICE)):
            await (call or CALLS[act])(world)


async def entries(world: World, **filters: Any) -> Sequence[AuditEntry]:
    found, _ = await world.services.audit.log.page(AuditFilters(**filters), size=100, continuation=None)
    return found


async def outcome(world: World, act: str) -> str:
    """Give what came of a call; who made it, and what she said to it, stays."""
    (found,) = await entries(world, action=act)
    assert (found.actor, found.comment, found.subject) == (ADA, "ticket 4711", DEVICE)
    return found.outcome


async def before(act: str) -> World:
    scene = await SCENES["registered"]()
    for each in IS_SO[act][0]:
        await CALLS[each](scene)
    assert not IS_SO[act][1](scene)
    assert not scene.unsettled
    return scene


async def swept(world: World) -> None:
    """Have the timer carry on what was left, when its worker is dead."""
    world.now += DELIVERY_LASTS
    await world.hosts[1].tick("convergence_sweep")


@pytest.mark.parametrize("act", IS_SO)
async def test_a_call_that_breaks_off_anywhere_is_done_in_the_log_if_and_only_if_it_took_effect(act: str) -> None:
    """Killed before each step, or with the answer to it lost: of the ledger, of DPS and of the hub."""
    scene, carried_on = await before(act), 0

    def begun() -> World:
        world = scene.copy()
        world.conductor.start("a", called(world, act))
        return world

    for step in range(1, await begun().conductor.advance("a")):
        for lost in (False, True):
            world, where = begun(), f"{'the answer is lost of' if lost else 'killed before'} step {step + 1}"
            await world.conductor.advance("a", step)
            if lost:
                await world.conductor.advance("a", 1, go=Go.LOSE_ANSWER)
                await world.conductor.advance("a")
            await world.conductor.kill("a")
            failed = await outcome(world, act) in FAILED
            await swept(world)
            so = IS_SO[act][1](world)
            assert (await outcome(world, act) == AuditOutcome.DONE) is so, where
            assert not world.unsettled, where
            carried_on += failed and so
            await world.drain()
            assert await audit(world) == [], where
    assert carried_on > 2


@pytest.mark.parametrize(
    ("first", "second"),
    [("disable", "disable"), ("disable the entry", "put the entry"), ("put the entry", "put the entry")],
)
async def test_of_two_calls_at_once_each_is_done_that_was_told_so_and_nothing_is_left(first: str, second: str) -> None:
    """One pauses before each of its steps while the other one runs to its end."""
    scene = await before(first)

    def begun() -> World:
        world = scene.copy()
        world.conductor.start("a", called(world, first))
        return world

    for step in range(await begun().conductor.advance("a")):
        world = begun()
        await world.conductor.advance("a", step)
        world.now += timedelta(seconds=1)
        world.conductor.start("b", called(world, second))
        await world.conductor.advance("b")
        await world.conductor.advance("a")
        await swept(world)
        was_told = [world.conductor.outcome(each) is None for each in "ba"]
        latest_first = [each.outcome == AuditOutcome.DONE for each in await entries(world, device=DEVICE)]
        assert all(done for done, told in zip(latest_first, was_told, strict=True) if told), step
        assert any(was_told), step
        record = world.record()
        assert record is not None
        assert (record.settled, record.audited, world.unsettled) == (True, (), False), step


async def failed(world: World, act: str, service: str) -> None:
    """Have Ada call while a service can't be reached, which is found when the act is decided."""
    world.conductor.start("a", called(world, act))
    while not world.unsettled:
        assert await world.conductor.advance("a", 1) == 1
    await world.conductor.advance("a", 1)  # the note is there, and now the act is
    world.conductor.down.add(service)
    await world.conductor.advance("a")
    assert isinstance(world.conductor.outcome("a"), ServiceRequestError)
    world.conductor.down.clear()
    assert await outcome(world, act) == AuditOutcome.FAILED


@pytest.mark.parametrize(("act", "service"), [("disable", "hub"), ("put the entry", "dps")])
async def test_a_call_that_comes_again_when_the_service_is_back_ends_the_first_one_too(act: str, service: str) -> None:
    """The first one was decided. Each has an entry of its own."""
    world = await before(act)
    await failed(world, act, service)
    world.now += timedelta(seconds=10)
    await called(world, act)
    assert [each.outcome for each in await entries(world, action=act)] == [AuditOutcome.DONE] * 2
    assert IS_SO[act][1](world)


async def test_a_call_about_dps_does_not_fail_for_what_a_hub_still_lacks() -> None:
    """An earlier call failed since the hub was down, and it still is. DPS does what it is to do."""
    world = await before("disable")
    await failed(world, "disable", "hub")
    world.conductor.down.add("hub")
    await called(world, "put the entry")
    assert (await outcome(world, "put the entry"), await outcome(world, "disable")) == ("done", "failed")
    assert IS_SO["put the entry"][1](world)
    world.conductor.down.clear()
    await swept(world)
    assert (await outcome(world, "disable"), world.unsettled) == ("done", False)


@pytest.mark.parametrize(("act", "then"), [("disable", "enable"), ("enable", "disable")])
async def test_what_the_opposite_call_has_overtaken_stays_failed(act: str, then: str) -> None:
    """The hub could not be reached until the opposite was wanted."""
    world = await before(act)
    await failed(world, act, "hub")
    await called(world, then)
    await swept(world)
    assert (await outcome(world, act), await outcome(world, then)) == (AuditOutcome.FAILED, AuditOutcome.DONE)


@pytest.mark.parametrize(("act", "service"), [("enable", "hub"), ("put the entry", "dps")])
async def test_a_device_that_is_revoked_before_a_call_took_effect_was_not_let_in_by_it(act: str, service: str) -> None:
    """What the call wanted is overtaken, and its entry stays as it was."""
    world = await before(act)
    await failed(world, act, service)
    world.ask("revoke", *MESSAGES["revoke"])
    await world.drain()
    await swept(world)
    record = world.record()
    assert record is not None
    assert (record.shut_out, record.settled, record.audited) == (True, True, ())
    assert await outcome(world, act) == AuditOutcome.FAILED
    assert not IS_SO[act][1](world)


async def test_a_row_has_room_for_the_last_hundred_calls_that_failed() -> None:
    """Somebody may call again and again while a service is down."""
    world = await before("disable")
    record = world.record()
    assert record is not None
    for number in range(120):
        record = audited(record, AuditedAct(entry_id=f"{number:032x}", at=world.now), enabled=False)
    assert [int(each.entry_id, 16) for each in record.audited] == list(range(20, 120))
    assert len(str(record.columns()["audited"])) < 32_000, "characters that a column holds (Azure Tables: 64 KiB)"


async def delete_identity(world: World) -> None:
    await world.services.identities.delete(DEVICE)


def has_identity(world: World) -> bool:
    return any(hub == HUB for hub, _ in world.hubs.identities)


@pytest.mark.parametrize("lost", [False, True])
async def test_an_identity_that_a_call_could_not_delete_stays_and_its_entry_says_failed(*, lost: bool) -> None:
    """Nobody deletes it later: the device may have registered again by then. A lost answer is looked up."""
    scene, ends = await SCENES["registered"](), set[str]()
    for step in range(1, 100):
        world = scene.copy()
        world.conductor.start("a", called(world, "deleteIdentity", delete_identity))
        if await world.conductor.advance("a", step) < step:
            break
        if lost:
            await world.conductor.advance("a", 1, go=Go.LOSE_ANSWER)
        else:
            world.conductor.down.add("hub")
        await world.conductor.advance("a")
        world.conductor.down.clear()
        await swept(world)
        await world.drain()
        what_came = await outcome(world, "deleteIdentity")
        assert (what_came == AuditOutcome.DONE) is not has_identity(world), step
        ends.add(what_came)
    assert ends == {AuditOutcome.FAILED, AuditOutcome.DONE}


# --- CAs ---

BROUGHT = {"import": ("empty", "corporate"), "install": ("awaiting", "elsewhere")}
"""Calls that bring a CA or its certificate along, with the scene and the name of the CA."""


async def group_of(_name: str) -> None:
    return None


def audited_twin(scene: AuthorityWorld) -> AuthorityWorld:
    """Give a world of its own in the same state, with an audit log."""
    world = scene.copy()
    log = AuditTable(Table("audit", AtOnce(world.conductor)))
    world.requests.trail = Audit(log=log, clock=world.clock, devices=group_of, authorities=group_of)
    return world


async def brought(world: AuthorityWorld, act: str) -> None:
    """Have Ada bring a CA along, as the app's route does."""
    trail = world.requests.trail
    assert isinstance(trail, Audit)
    with acting(ADA, "ticket 4711"):
        async with trail.carried_out(Act(action=act, kind=SubjectKind.AUTHORITY, subject=BROUGHT[act][1])):
            await AUTHORITY_CALLS[act](world)


async def outcomes_of_ca(world: AuthorityWorld, act: str) -> list[str]:
    trail = world.requests.trail
    assert isinstance(trail, Audit)
    found, _ = await trail.log.page(AuditFilters(authority=BROUGHT[act][1], action=act), size=100, continuation=None)
    assert {each.actor for each in found} == {ADA}
    return [each.outcome for each in found]


def state_of_ca(world: AuthorityWorld, act: str) -> AuthorityState | None:
    return next((each.state for each in world.known() if each.name == BROUGHT[act][1]), None)


@pytest.mark.parametrize("act", BROUGHT)
async def test_a_ca_that_is_brought_along_is_done_in_the_log_if_and_only_if_it_is_open_at_last(act: str) -> None:
    """Killed before each step, or with the answer to it lost: the sweep opens it, or gives its name back."""
    scene, carried_on = await AUTHORITY_SCENES[BROUGHT[act][0]](), 0

    def begun() -> AuthorityWorld:
        world = audited_twin(scene)
        world.conductor.start("a", brought(world, act))
        return world

    for step in range(await begun().conductor.advance("a")):
        world, lost = begun(), step % 2 == 1
        await world.conductor.advance("a", step)
        if lost:
            await world.conductor.advance("a", 1, go=Go.LOSE_ANSWER)
            await world.conductor.advance("a")
        await world.conductor.kill("a")
        (first,) = await outcomes_of_ca(world, act)
        await world.drain()
        (last,) = await outcomes_of_ca(world, act)
        is_open = state_of_ca(world, act) is AuthorityState.ACTIVE
        where = f"{'the answer is lost of' if lost else 'killed before'} step {step + 1}"
        assert (last == AuditOutcome.DONE) is is_open, where
        assert all(each.audited == () for each in world.known()), where
        carried_on += first in FAILED and is_open
    assert carried_on > 5


async def unproved(world: AuthorityWorld) -> None:
    """Have Ada bring a CA along that the DPS can't be shown any more, when its row has it."""
    world.conductor.start("a", brought(world, "import"))
    while state_of_ca(world, "import") is not AuthorityState.SIGNED:
        assert await world.conductor.advance("a", 1) == 1
    world.conductor.down.add("the DPS")
    await world.conductor.advance("a")
    assert isinstance(world.conductor.outcome("a"), ServiceRequestError)
    assert await outcomes_of_ca(world, "import") == [AuditOutcome.FAILED]


async def test_each_call_that_failed_before_a_ca_could_be_opened_is_done_when_it_is() -> None:
    """Whoever calls again has the same CA, and an entry beside the first."""
    world = audited_twin(await AUTHORITY_SCENES["empty"]())
    await unproved(world)
    world.now += timedelta(seconds=10)
    with pytest.raises(ServiceRequestError):
        await brought(world, "import")
    assert await outcomes_of_ca(world, "import") == [AuditOutcome.FAILED] * 2
    world.conductor.down.clear()
    await world.drain()
    assert await outcomes_of_ca(world, "import") == [AuditOutcome.DONE] * 2


async def test_a_ca_that_the_dps_had_no_place_for_is_done_when_it_has_one() -> None:
    """The last place went to others when the name was taken. Nobody has to call again."""
    world = audited_twin(await AUTHORITY_SCENES["empty"]())
    world.conductor.start("a", brought(world, "import"))
    while state_of_ca(world, "import") is not AuthorityState.SIGNED:
        assert await world.conductor.advance("a", 1) == 1
    world.services[0].limit = 0
    await world.conductor.advance("a")
    assert isinstance(world.conductor.outcome("a"), Rejected)
    assert await outcomes_of_ca(world, "import") == [AuditOutcome.REFUSED]
    world.services[0].limit = 1
    await world.drain()
    assert await outcomes_of_ca(world, "import") == [AuditOutcome.DONE]


async def test_a_ca_that_is_deleted_before_it_was_open_was_not_brought_along() -> None:
    """Its entry stays as it was, and nothing is left in its row."""
    world = audited_twin(await AUTHORITY_SCENES["empty"]())
    await unproved(world)
    world.conductor.down.clear()
    await world.act("corporate", AuthorityAction.DELETE)
    await world.drain()
    assert await outcomes_of_ca(world, "import") == [AuditOutcome.FAILED]
    assert [(each.state, each.audited) for each in world.known()] == [(AuthorityState.DELETED, ())]
