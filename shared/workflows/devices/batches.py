"""What comes one by one, taken several at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def in_batches[T](items: AsyncIterator[T], size: int) -> AsyncIterator[list[T]]:
    """Give items in lists of a size, of which the last may be shorter; none of nothing. As ``itertools.batched``."""
    batch: list[T] = []
    async for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
