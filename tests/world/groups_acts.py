"""What can be asked for of a group, and the states that it can be asked for in."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.contracts.messages import Queue
from shared.workflows.groups.rollovers import SETTLING
from tests.world.acts import MESSAGES as DEVICE_MESSAGES
from tests.world.acts import message as device_message
from tests.world.groups_world import GroupWorld
from tests.world.kept import kept
from tests.world.world import GROUP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    type Body = dict[str, Any]
    type Call = Callable[[GroupWorld], Coroutine[None, None, None]]


def _request(action: str, request_id: str, **fields: Any) -> Body:
    return {"requestId": request_id, "enrollmentGroup": GROUP, "action": action, **fields}


MESSAGES: Mapping[str, Body] = {
    "create": _request("create", "gc"),
    "put": _request("put", "gp", allocationPolicy="static"),
    "update": _request("update", "gu", iotEdge=True),
    "disable the group": _request("disable", "gd"),
    "enable the group": _request("enable", "ge"),
    "delete the group": _request("delete", "gx"),
    "roll": _request("roll", "gr"),
    "roll again": _request("roll", "gs"),
}
"""Acts that come by the queue of groups: they are delivered until they are done."""

ON_DEVICES = ("order", "renew", "revoke")


async def _sweep(world: GroupWorld) -> None:
    world.now += timedelta(minutes=1)
    await world.worker.tick("group_sweep")


async def _retire(world: GroupWorld) -> None:
    world.now += SETTLING
    await world.worker.tick("rollover_sweep")


CALLS: Mapping[str, Call] = {"sweep the groups": _sweep, "retire": _retire}
"""Acts of timers: if they are broken off, the next tick repeats them."""

ACTS = (*MESSAGES, *CALLS)


def message(world: GroupWorld, name: str) -> tuple[Queue, Mapping[str, Any]] | None:
    """Give what a message of a name asks for in a world; ``None`` if there is nothing that it could be about."""
    return (Queue.ENROLLMENT_GROUP_REQUESTS, MESSAGES[name]) if name in MESSAGES else device_message(world, name)


async def _asked(world: GroupWorld, *acts: str) -> GroupWorld:
    for act in acts:
        world.now += timedelta(minutes=1)
        queue, body = message(world, act) or (Queue.ENROLLMENT_GROUP_REQUESTS, {})
        fresh = {**body, "requestId": f"{act.replace(' ', '-')}-before"} if act in MESSAGES else body
        world.ask(act, queue, fresh)
        await world.done()
    return world


async def absent() -> GroupWorld:
    return GroupWorld()


@kept
async def enabled() -> GroupWorld:
    return await _asked(await absent(), "create")


@kept
async def disabled() -> GroupWorld:
    return await _asked(await enabled(), "disable the group")


@kept
async def deleted() -> GroupWorld:
    return await _asked(await enabled(), "delete the group")


@kept
async def rolling() -> GroupWorld:
    """The next CA signs, and the former one may go as soon as nobody can be signing with it."""
    return await _asked(await enabled(), "roll")


@kept
async def with_lines() -> GroupWorld:
    """Two orders are accepted, and nothing was done for them."""
    world = await enabled()
    for order_id in ("o1", "o2"):
        await world.line(order_id, csr=None)
    return world


@kept
async def with_device() -> GroupWorld:
    """A device of the group is in its hub."""
    return await _asked(await with_lines(), "order")


@kept
async def rolling_with_device() -> GroupWorld:
    """The next CA signs, and a device uses a certificate of the former one."""
    return await _asked(await with_device(), "roll")


SCENES: Mapping[str, Callable[[], Awaitable[GroupWorld]]] = {
    "absent": absent,
    "enabled": enabled,
    "disabled": disabled,
    "deleted": deleted,
    "rolling": rolling,
}
WITH_DEVICES: Mapping[str, Callable[[], Awaitable[GroupWorld]]] = {
    "with lines": with_lines,
    "with a device": with_device,
    "rolling with a device": rolling_with_device,
}
assert set(ON_DEVICES) <= set(DEVICE_MESSAGES)
