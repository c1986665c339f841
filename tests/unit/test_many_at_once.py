"""Many things are done some at a time: what came of each is given in their order, and a failure leaves nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from shared.workflows.many import AT_ONCE, in_parts

PART = 10 * AT_ONCE


class Work:
    """Takes longer for what comes first; fails for some."""

    def __init__(self, *fails: int) -> None:
        self.fails = fails
        self.begun, self.now, self.most = list[int](), 0, 0

    async def __call__(self, number: int) -> int:
        self.begun.append(number)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(40 - number % 40):
                await asyncio.sleep(0)
            if number in self.fails:
                raise ConnectionError(f"no answer for {number}")
            return number
        finally:
            self.now -= 1


async def test_what_came_of_each_is_given_in_their_order_and_so_many_are_under_way_and_no_more() -> None:
    work = Work()
    found = [each async for each in in_parts(work, range(PART + 50), asyncio.Semaphore(AT_ONCE))]
    assert (found, work.most) == (list(range(PART + 50)), 16)


async def test_of_a_part_in_which_one_fails_the_others_are_done_and_given_and_nothing_after_it_is_begun() -> None:
    work, found = Work(3, 7), list[int]()

    async def gather() -> None:
        async for each in in_parts(work, range(PART + 50), asyncio.Semaphore(AT_ONCE)):
            found.append(each)

    with pytest.raises(ConnectionError, match=r"^no answer for 3$"):
        await gather()
    assert found == [each for each in range(PART) if each not in {3, 7}]
    assert (sorted(work.begun), work.now) == (list(range(PART)), 0)
