"""What can be asked for while a ledger is being restored, and what it may have lost."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.contracts.authorities import AuthorityAct
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.authorities import AuthorityAction
from shared.domain.treatments import Policy
from shared.errors import Deferred, DeviceFactoryError
from tests.world import acts, groups_acts
from tests.world.kept import kept
from tests.world.restored_world import RESTORE, RestoredWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    type Call = Callable[[RestoredWorld], Coroutine[None, None, None]]


async def _restore(world: RestoredWorld) -> None:
    await world.restore()


def _tick(timer: str) -> Call:
    async def tick(world: RestoredWorld) -> None:
        await world.worker.tick(timer)

    return tick


async def _compare(world: RestoredWorld) -> None:
    """Somebody asks for a comparison, and does not wait for the timer."""
    with suppress(DeviceFactoryError):
        await world.services.reconciler.begin_at_once(
            enrollment_group=None, registration_id=None, lasting=timedelta(seconds=20)
        )


def _see_to_findings(policy: Policy) -> Call:
    async def see_to(world: RestoredWorld) -> None:
        found, _ = await world.services.reconciler.findings.page({"state": "open"}, size=100, continuation=None)
        for each in found:
            try:
                await world.services.reconciler.act(each.finding_id, policy)
            except DeviceFactoryError:
                continue

    return see_to


SPARE, LATER = "spare", "later"
"""A root that no group has, and a CA below it whose key is wrapped."""


def _act_on(name: str, action: AuthorityAction) -> Call:
    async def act(world: RestoredWorld) -> None:
        """Carry out an act on a CA, as its message does that came over HTTP."""
        body = {"requestId": f"{action}-{name}-{world.now:%j-%H%M%S}", "name": name, "action": action.value}
        reason = {"reason": "keyCompromise"} if action is AuthorityAction.REVOKE else {}
        await world.services.authority_workflows.acts.carry_out(parse(AuthorityAct, {**body, **reason}))

    return act


AUTHORITY_ACTS: Mapping[str, Call] = {
    f"{action} the {what}": _act_on(name, action)
    for what, name in (("root", SPARE), ("CA", LATER))
    for action in AuthorityAction
    if action is not AuthorityAction.CROSS_SIGN
}
CALLS: Mapping[str, Call] = {
    **AUTHORITY_ACTS,
    RESTORE: _restore,
    "compare": _compare,
    "mend": _see_to_findings(Policy.MEND),
    "adopt": _see_to_findings(Policy.ADOPT),
    "ask OCSP": RestoredWorld.ask_ocsp,
    "publish the lists": _tick("crl_publication"),
    "raise the epoch": _tick("epoch_upkeep"),
    "reconciliation": _tick("reconciliation"),
    "convergence": _tick("convergence_sweep"),
    "sweep of groups": _tick("group_sweep"),
    "sweep of CAs": _tick("authority_sweep"),
    "retire": _tick("rollover_sweep"),
}
DEVICE_ACTS = (
    "order",
    "order again",
    "renew",
    "revoke",
    "hold",
    "reinstate",
    "delete",
    "disable",
    "enable",
    "boot",
    "expire",
    "hand out",
    "put the entry",
    "disable the entry",
    "delete the entry",
)
GROUP_ACTS = ("put", "update", "disable the group", "enable the group", "roll")
MADE_AUTHORITIES: Mapping[str, tuple[Queue, Mapping[str, Any]]] = {
    "make the root": (Queue.CERTIFICATE_REQUESTS, {"requestId": "c1", "kind": "root", "name": SPARE}),
    "make the CA": (
        Queue.CERTIFICATE_REQUESTS,
        {
            "requestId": "c2",
            "kind": "intermediate",
            "name": LATER,
            "issuer": SPARE,
            "pathLength": 0,
            "custody": "wrapped",
        },
    ),
    "ask for a certificate": (
        Queue.CERTIFICATE_REQUESTS,
        {"requestId": "c3", "kind": "intermediate", "name": "elsewhere", "externallySigned": True},
    ),
}
"""Acts that make CAs, which come by a queue."""

OTHERS = (
    RESTORE,
    "compare",
    "ask OCSP",
    "publish the lists",
    "raise the epoch",
    "reconciliation",
    "convergence",
    "sweep of groups",
)
ACTS = (*DEVICE_ACTS, *GROUP_ACTS, *OTHERS)


def call(world: RestoredWorld, name: str) -> Coroutine[None, None, None] | None:
    """Give an act that comes by no queue."""
    found: Any = CALLS.get(name) or acts.ALL_CALLS.get(name)
    made: Coroutine[None, None, None] | None = found(world) if found is not None else None
    return made


def message(world: RestoredWorld, name: str) -> tuple[Queue, Mapping[str, Any]] | None:
    """Give what a message of a name asks for; ``None`` if there is nothing that it could be about."""
    if name in MADE_AUTHORITIES:
        return MADE_AUTHORITIES[name]
    if name in groups_acts.MESSAGES:
        return Queue.ENROLLMENT_GROUP_REQUESTS, groups_acts.MESSAGES[name]
    return acts.message(world, name)


async def _done(world: RestoredWorld, names: tuple[str, ...], *, when: str) -> None:
    """Have acts carried out one after the other; what waits for the device stays in its queue."""
    for name in names:
        world.now += timedelta(minutes=1)
        coroutine = call(world, name)
        if coroutine is not None:
            await coroutine
            continue
        asked = message(world, name)
        assert asked is not None, name
        queue, body = asked
        if name not in world.asked:
            request_id = f"{name.replace(' ', '-')}-{when}"
            world.ask(name, queue, {**body, "requestId": request_id} if "requestId" in body else body)
        await world.deliver(name)
    await world.done()


async def asked_once(world: RestoredWorld, name: str) -> None:
    """Have an act tried once, whatever comes of it."""
    asked = call(world, name)
    if asked is not None:
        with suppress(Deferred):
            await asked
        return
    queue, body = message(world, name) or (Queue.REVOCATION_REQUESTS, {})
    world.ask(name, queue, body)
    await world.deliver(name)


@kept
async def put_back(
    *before: str, lost: tuple[str, ...], unfinished: str | None = None, keeps_log: bool = True
) -> RestoredWorld:
    """Give a world whose ledger was put back to the moment before some acts.

    Args:
        before: what was done before the copy was made.
        lost: what was done after it.
        unfinished: what was under way when the copy was made: its message had only been carried out in the ledger.
        keeps_log: whether there is a log that can be read.
    """
    world = await RestoredWorld().prepare()
    world.keeps_log = keeps_log
    for order_id in ("o1", "o2"):
        await world.line(order_id, csr=None)
    await _done(world, before, when="before")
    if unfinished is not None:
        await _begun(world, unfinished)
    ledger = world.copied()
    if unfinished is not None:
        await world.done()
    world.now += timedelta(hours=1)
    await world.services.epochs.advance()
    await _done(world, lost, when="lost")
    world.put_back(ledger)
    return world


async def _begun(world: RestoredWorld, name: str) -> None:
    """Have a worker killed when an act is in the ledger, and no service follows it yet."""
    coroutine = call(world, name)
    asked = message(world, name) if coroutine is None else None
    is_begun = _of_authority if name in {*AUTHORITY_ACTS, *MADE_AUTHORITIES} else RestoredWorld.record
    if asked is not None:
        world.ask(name, *asked)
        taken = world.take(name)
        assert taken is not None
        coroutine = world.hosts[0].deliver(*taken)
    assert coroutine is not None
    before = is_begun(world)
    world.conductor.start("first", coroutine)
    while is_begun(world) == before:
        assert await world.conductor.advance("first", 1), f"{name} was refused"
    await world.conductor.kill("first")


def _of_authority(world: RestoredWorld) -> Any:
    """Give what an act on the root has led to: its certificate, and what has still to follow."""
    record = world.authority(SPARE)
    return (record.certificate, record.change) if record is not None and record.certificate is not None else None


SCENES: Mapping[str, Callable[[], Coroutine[None, None, RestoredWorld]]] = {
    "revoked": lambda: put_back("order", lost=("revoke",)),
    "held": lambda: put_back("order", lost=("hold",)),
    "reinstated": lambda: put_back("order", "hold", lost=("reinstate",)),
    "made final": lambda: put_back("order", "hold", lost=("revoke",)),
    "ordered": lambda: put_back(lost=("order",)),
    "renewed": lambda: put_back("order", lost=("renew", "boot", "renew")),
    "renewing": lambda: put_back("order", lost=("renew",)),
    "renewed and revoked": lambda: put_back("order", lost=("renew", "boot", "renew", "revoke")),
    "former revoked": lambda: put_back("order", lost=("renew", "boot", "renew", acts.FORMER)),
    "deleted": lambda: put_back("order", lost=("delete",)),
    "ordered again": lambda: put_back("order", lost=("delete", "order again")),
    "disabled": lambda: put_back("order", lost=("disable",)),
    "enabled": lambda: put_back("order", "disable", lost=("enable",)),
    "entry disabled": lambda: put_back("order", "put the entry", lost=("disable the entry",)),
    "entry deleted": lambda: put_back("order", "put the entry", lost=("delete the entry",)),
    "group disabled": lambda: put_back("order", lost=("disable the group",)),
    "group enabled": lambda: put_back("order", "disable the group", lost=("enable the group",)),
    "rolled": lambda: put_back("order", lost=("roll",)),
    "reinstating, then revoked": lambda: put_back("order", "hold", unfinished="reinstate", lost=("revoke",)),
    "reinstating, then disabled": lambda: put_back("order", "hold", unfinished="reinstate", lost=("disable",)),
    "enabling, then disabled": lambda: put_back("order", "disable", unfinished="enable", lost=("disable",)),
    "revoking": lambda: put_back("order", unfinished="revoke", lost=()),
    "renewed, without a log": lambda: put_back("order", lost=("renew", "boot", "renew"), keeps_log=False),
    "ordered again, without a log": lambda: put_back("order", lost=("delete", "order again"), keeps_log=False),
}

AUTHORITY_SCENES: Mapping[str, Callable[[], Coroutine[None, None, RestoredWorld]]] = {
    "CA as it was": lambda: put_back("make the root", "make the CA", lost=()),
    "CA not made": lambda: put_back("make the root", lost=("make the CA",)),
    "CA disabled, then revoked": lambda: put_back(
        "make the root", "make the CA", "disable the CA", lost=("revoke the CA",)
    ),
    "CA disabled, then enabled": lambda: put_back(
        "make the root", "make the CA", "disable the CA", lost=("enable the CA",)
    ),
    "root being proved, then revoked": lambda: put_back(unfinished="make the root", lost=("revoke the root",)),
    "root being renewed, then revoked": lambda: put_back(
        "make the root", unfinished="renew the root", lost=("revoke the root",)
    ),
}
"""Worlds in which something has become of CAs since the copy."""
