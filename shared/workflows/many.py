"""Many things: page after page, and some at once."""

from __future__ import annotations

import asyncio
from itertools import batched
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

PAGE = 1000
AT_ONCE = 16
"""Devices that are seen to at a time: a service's own limit is below what more would ask for."""

_PART = 10 * AT_ONCE


async def pages[T](
    page: Callable[..., Awaitable[tuple[Sequence[T], str | None]]], *, size: int = PAGE
) -> AsyncIterator[Sequence[T]]:
    """Give page after page of what is listed by pages.

    Args:
        page: gives one, and the continuation of the next, by the keywords ``size`` and ``continuation``.
        size: of a page, at most.
    """
    continuation: str | None = None
    while True:
        found, continuation = await page(size=size, continuation=continuation)
        yield found
        if continuation is None:
            return


async def gathered[T, R](call: Callable[[T], Awaitable[R]], items: Iterable[T], gate: asyncio.Semaphore) -> list[R]:
    """Do something about each item, as many at once as the gate lets through; give what came of it, in their order."""

    async def one(item: T) -> R:
        async with gate:
            return await call(item)

    return list(await asyncio.gather(*map(one, items)))


async def in_parts[T, R](
    call: Callable[[T], Awaitable[R]], items: Iterable[T], gate: asyncio.Semaphore
) -> AsyncIterator[R]:
    """Do something about each item, as many at once as the gate lets through; give what came of it, in their order.

    It is given part by part, so that whoever is told knows how far it is. Where one fails, its part is ended: what came
    of the others is given, and nothing goes on behind the back of who is told of the failure.
    """

    async def one(item: T) -> R:
        async with gate:
            return await call(item)

    for part in batched(items, _PART, strict=False):
        outcomes = await asyncio.gather(*map(one, part), return_exceptions=True)
        for outcome in outcomes:
            if not isinstance(outcome, BaseException):
                yield outcome
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
