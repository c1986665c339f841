"""Deliveries of one message that break off at each of their steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.world.conductor import Go

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.world.world import World


async def broken_off(
    begun: Callable[[], World], faults: Callable[[World], Awaitable[list[str]]], *, by_turns: bool = False
) -> list[str]:
    """Kill a delivery before each of its steps, and lose the answer to each; give what is wrong when all is at rest.

    Args:
        begun: gives a world in which "a" stands before the first step of the delivery.
        faults: gives what is wrong in a world when nothing is on its way any more.
        by_turns: whether each step has one of the two alone.
    """
    found = list[str]()
    for step in range(await begun().conductor.advance("a")):
        for lost in (step % 2 == 1,) if by_turns else (False, True):
            world = begun()
            await world.conductor.advance("a", step)
            if lost:
                await world.conductor.advance("a", 1, go=Go.LOSE_ANSWER)
                await world.conductor.advance("a")
            else:
                await world.conductor.kill("a")
            what = "without the answer to" if lost else "killed before"
            found += [f"{what} step {step + 1}: {fault}" for fault in await faults(world)]
    return found
