"""Orders that somebody acts on: what is asked for, and what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.contracts.messages import Queue
from shared.contracts.orders import OrderAct
from shared.contracts.parsing import parse
from shared.domain.callers import Actor, CallerKind
from tests.world.world import DEVICE, GROUP, World, csr_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.domain.orders import OrderState

ADA = Actor(kind=CallerKind.USER, id="5b54", name="ada@example.com", role="Devices.Revoke")


DEVICES = [{"registrationId": DEVICE}, {"registrationId": "lathe"}]


WAITING = [{"registrationId": DEVICE, "csr": csr_of("own")}, {"registrationId": "lathe"}]


async def ordered(devices: list[dict[str, str]]) -> World:
    """The order is accepted, and the message of its lines lies in its queue."""
    world = await World().prepare()
    body = {"orderId": "order-1", "enrollmentGroup": GROUP, "devices": devices}
    world.ask("the order", Queue.DEVICE_ORDERS, body)
    await world.deliver("the order")
    return world


def ask(world: World, action: str, **further: str) -> None:
    body = {"requestId": f"{action}-1", "orderId": "order-1", "action": action, **further}
    world.ask(action, Queue.DEVICE_ORDERS, body)


async def call_to_cancel(world: World, issued: str) -> None:
    """Ada cancels the order over HTTP."""
    wanted = {"requestId": "cancel-1", "orderId": "order-1", "action": "cancel", "issued": issued}
    await world.call("cancel", Queue.DEVICE_ORDERS, parse(OrderAct, wanted), ADA, "wrong plant")


async def shown(world: World) -> Mapping[str, Any]:
    return (await world.services.order_answers.describe("order-1")).shown()


async def states(world: World) -> tuple[OrderState, list[str]]:
    order = await shown(world)
    return order["state"], [str(each["state"]) for each in order["devices"]]


async def request(world: World, action: str) -> Mapping[str, Any]:
    return (await world.services.following.describe(f"{action}-1", Queue.DEVICE_ORDERS)).shown()
