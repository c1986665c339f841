"""Says what is entered into a ledger that is put back, and then enters it.

In this order: a command that broke off once something was entered is run again, and finds it there: nothing to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import batched
from typing import TYPE_CHECKING

from shared.workflows.many import PAGE, in_parts

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from shared.domain.devices import DeviceRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What was found out about something.

    Attributes:
        line: what is said of it; ``None`` for nothing.
        enter: enters it; ``None`` if it is there.
    """

    line: str | None
    enter: Callable[[], Awaitable[object]] | None = None


def due_of(
    known: DeviceRecord, wanted: DeviceRecord, *, line: str, enter: Callable[[], Awaitable[object]]
) -> Due | None:
    """Give what is due about a device: nothing if it is as wanted. What no service has to follow is not said."""
    if wanted is known:
        return None
    return Due(line=line if wanted.generation != known.generation else None, enter=enter)


async def said_first[T](
    judge: Callable[[T], Awaitable[Due | None]], items: Iterable[T], gate: asyncio.Semaphore
) -> AsyncIterator[str]:
    """Judge items, say of each what is due, in their order, and then enter it; each of these as the gate lets through.

    Args:
        judge: gives what is due about an item, if anything.
        items: a page of them is said before it is entered.
        gate: how many at once.
    """
    for some in batched(items, PAGE, strict=False):
        found = [each async for each in in_parts(judge, some, gate) if each is not None]
        for each in found:
            if each.line is not None:
                yield each.line
        entering = [each.enter for each in found if each.enter is not None]
        async for _ in in_parts(_entered, entering, gate):
            pass


async def _entered(enter: Callable[[], Awaitable[object]]) -> None:
    await enter()
