"""What a step of a pass has seen, and where the next one goes on."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.findings import Difference
from shared.workflows.many import gathered

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from shared.domain.passes import ReconciliationRecord

    type Look = Callable[[], Awaitable[Sequence[Difference]]]

_log = logging.getLogger(__name__)
PAGE = 1000
"""Devices, entries, registrations or identities of a page."""

AT_ONCE = 16
_COMPARED = 4 * AT_ONCE
"""Things of a page that are compared before the first of them is looked at alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step has seen.

    Attributes:
        place: the record with the place where the next step goes on.
        looked_at: how much was compared.
        differences: what differs.
        unread: how much could not be compared, since its service does not answer.
    """

    place: ReconciliationRecord
    looked_at: int = 0
    differences: tuple[Difference, ...] = ()
    unread: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was looked at alone, in the order of ids.

    Attributes:
        differences: what differs.
        failed: how much could not be looked at.
        left: the first that the budget did not suffice for; ``None`` if it did.
    """

    differences: tuple[Difference, ...] = ()
    failed: int = 0
    left: str | None = None


async def look_at(looks: Mapping[str, Look], room: Callable[[], float], gate: asyncio.Semaphore) -> Looked:
    """Look at things alone, in the order of their ids, as far as the budget goes.

    Args:
        looks: at each, by its id.
        room: tells how many more may be looked at.
        gate: for those that are looked at at once.
    """
    found: list[Difference] = []
    failed, todo = 0, sorted(looks)

    async def one(identifier: str) -> Sequence[Difference] | None:
        try:
            return await looks[identifier]()
        except Exception:  # noqa: BLE001 - what can't be looked at must not keep the rest from being compared
            _log.exception("%r can't be compared now", identifier)
            return None

    while todo:
        count = int(min(AT_ONCE, room()))
        if count < 1:
            return Looked(differences=tuple(found), failed=failed, left=todo[0])
        now, todo = todo[:count], todo[count:]
        for each in await gathered(one, now, gate):
            failed += each is None
            found += each or ()
    return Looked(differences=tuple(found), failed=failed)


async def looked_after(
    page: Iterable[str],
    compare: Callable[[str], Awaitable[Look | Difference | None]],
    room: Callable[[Iterable[str]], float],
    gate: asyncio.Semaphore,
) -> Looked:
    """Compare what is on a page, a part at a time, and look at what looks different, as far as the budget goes.

    What comes after that is not compared: the step that reads the page again would do it a second time.

    Args:
        page: ids of what is on it.
        compare: gives how to look closer at one that looks different, or what is known to differ.
        room: tells how many more of some may be looked at.
        gate: for those that are compared, or looked at, at once.
    """
    found: list[Difference] = []
    failed, todo = 0, sorted(page)
    while todo:
        part, todo = todo[:_COMPARED], todo[_COMPARED:]
        compared = dict(zip(part, await gathered(compare, part, gate), strict=True))
        looks = {each: look for each, look in compared.items() if look and not isinstance(look, Difference)}
        looked = await look_at(looks, partial(room, looks), gate)
        done = [each for each in part if looked.left is None or each < looked.left]
        found += [known for each in done if isinstance(known := compared[each], Difference)]
        found, failed = [*found, *looked.differences], failed + looked.failed
        if looked.left is not None:
            return Looked(differences=tuple(found), failed=failed, left=looked.left)
    return Looked(differences=tuple(found), failed=failed)


def step_of(place: ReconciliationRecord, following: ReconciliationRecord, page: Iterable[str], looked: Looked) -> Step:
    """Give a step that looked at a page, or at a part of it."""
    if looked.left is None:
        return Step(place=following, looked_at=len(list(page)), differences=looked.differences, unread=looked.failed)
    done = sum(each < looked.left for each in page)
    return Step(
        place=place.changed(resume=looked.left), looked_at=done, differences=looked.differences, unread=looked.failed
    )
