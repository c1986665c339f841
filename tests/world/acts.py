"""What can be asked for of a device, and the states that it can be asked for in."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.contracts.devices import RevocationAction
from shared.domain.words import RegisterBy, RevocationReason
from tests.world.world import DEVICE, World, csr_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    type Act = Callable[[World], Coroutine[None, None, None]]

HOLD, COMPROMISE = RevocationReason.CERTIFICATE_HOLD, RevocationReason.KEY_COMPROMISE

MESSAGES: dict[str, Act] = {
    "order": lambda world: world.order("o1"),
    "order again": lambda world: world.order("o2"),
    "renew": lambda world: world.renew("r1"),
    "renew again": lambda world: world.renew("r2"),
    "revoke": lambda world: world.revoke("v1", COMPROMISE),
    "hold": lambda world: world.revoke("h1", HOLD),
    "reinstate": lambda world: world.act("i1", RevocationAction.REINSTATE),
    "delete": lambda world: world.act("d1", RevocationAction.DELETE),
}
"""Acts that come by a queue: they are delivered until they are done."""


async def _expire(world: World) -> None:
    """A year goes by, and the sweep runs on two days."""
    world.now += timedelta(days=370)
    await world.expiry_sweep.run()
    await world.expiry_sweep.run()


async def _hand_out(world: World) -> None:
    await world.directory.hand_out(DEVICE, wanted="pem", caller="installer")
    await world.directory.confirm(DEVICE, caller="installer")


async def _disable_entry(world: World) -> None:
    await world.enrollments.disable(DEVICE, if_match=None)


async def _delete_entry(world: World) -> None:
    await world.enrollments.delete(DEVICE, if_match=None)


CALLS: dict[str, Act] = {
    "disable": lambda world: world.switch(enabled=False),
    "enable": lambda world: world.switch(enabled=True),
    "boot": World.boot,
    "expire": _expire,
    "hand out": _hand_out,
    "disable the entry": _disable_entry,
    "delete the entry": _delete_entry,
}
"""Acts that somebody waits for: if they are broken off, nobody repeats them."""


async def ordered(*, csr: bool = False, register_by: RegisterBy = RegisterBy.SERVICE) -> World:
    """Two orders are accepted, and nothing was done for them."""
    world = World()
    await world.prepare()
    await world.line("o1", csr=csr_of("o1") if csr else None, register_by=register_by)
    await world.line("o2", csr=csr_of("o2") if csr else None, register_by=register_by)
    return world


async def _after(world: World, *names: str) -> World:
    for name in names:
        act = {**MESSAGES, **CALLS}[name]
        if name in CALLS:
            await act(world)
            continue
        message = world.post(name, lambda act=act: act(world))  # type: ignore[misc]
        await world.drain(2)
        if not message.done and message.deferred is None:
            raise AssertionError(f"{name} was not carried out")
    world.messages.clear()
    return world


async def registered() -> World:
    return await _after(await ordered(), "order")


async def waiting() -> World:
    """The device has its certificate, and has not booted."""
    return await _after(await ordered(csr=True), "order")


async def renewing() -> World:
    return await _after(await registered(), "renew")


async def renewed() -> World:
    return await _after(await registered(), "renew", "boot", "renew")


async def held() -> World:
    return await _after(await registered(), "hold")


async def revoked() -> World:
    return await _after(await registered(), "revoke")


async def deleted() -> World:
    return await _after(await registered(), "delete")


SCENES: dict[str, Callable[[], Awaitable[World]]] = {
    "ordered": ordered,
    "waiting": waiting,
    "registered": registered,
    "renewing": renewing,
    "renewed": renewed,
    "held": held,
    "revoked": revoked,
    "deleted": deleted,
}
