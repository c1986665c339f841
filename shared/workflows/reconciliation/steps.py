"""What a step of a pass has seen, and where the next one goes on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.findings import Difference
from shared.errors import DeviceFactoryError
from shared.workflows.many import AT_ONCE, gathered

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from shared.domain.passes import ReconciliationRecord, Stage

    type Look = Callable[[], Awaitable[Sequence[Difference]]]

_log = logging.getLogger(__name__)
_WHY = 300
"""Characters, at the most, of why something could not be looked at."""

_COMPARED = 4 * AT_ONCE
"""Things of a page that are compared before the first of them is looked at alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step has seen.

    Attributes:
        place: the record with the place where the next step goes on.
        looked_at: how much was compared.
        differences: what differs.
        unread: what could not be compared, and why, by its id.
    """

    place: ReconciliationRecord
    looked_at: int = 0
    differences: tuple[Difference, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was looked at alone, in the order of ids.

    Attributes:
        differences: what differs.
        unread: what could not be looked at, and why, by its id.
        left: the first that the budget did not suffice for; ``None`` if it did.
    """

    differences: tuple[Difference, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)
    left: str | None = None


async def look_at(looks: Mapping[str, Look], room: Callable[[], float], gate: asyncio.Semaphore) -> Looked:
    """Look at things alone, in the order of their ids, as far as the budget goes.

    Args:
        looks: at each, by its id.
        room: tells how many more may be looked at.
        gate: for those that are looked at at once.
    """
    found: list[Difference] = []
    todo, unread = sorted(looks), dict[str, str]()

    async def one(identifier: str) -> Sequence[Difference]:
        try:
            return await looks[identifier]()
        except Exception as error:  # noqa: BLE001 - what can't be looked at must not keep the rest from being compared
            _log.exception("%r can't be compared now", identifier)
            unread[identifier] = why(error)
            return ()

    while todo:
        count = int(min(AT_ONCE, room()))
        if count < 1:
            return Looked(differences=tuple(found), unread=unread, left=todo[0])
        now, todo = todo[:count], todo[count:]
        for each in await gathered(one, now, gate):
            found += each
    return Looked(differences=tuple(found), unread=unread)


def why(error: Exception) -> str:
    """Say why something could not be looked at. What another library says of its error is in the log."""
    return str(error)[:_WHY] if isinstance(error, DeviceFactoryError) else f"{type(error).__name__}; the log says more"


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
    todo, unread = sorted(page), dict[str, str]()
    while todo:
        part, todo = todo[:_COMPARED], todo[_COMPARED:]
        compared = dict(zip(part, await gathered(compare, part, gate), strict=True))
        looks = {each: look for each, look in compared.items() if look and not isinstance(look, Difference)}
        looked = await look_at(looks, partial(room, looks), gate)
        done = [each for each in part if looked.left is None or each < looked.left]
        found += [known for each in done if isinstance(known := compared[each], Difference)]
        found, unread = [*found, *looked.differences], {**unread, **looked.unread}
        if looked.left is not None:
            return Looked(differences=tuple(found), unread=unread, left=looked.left)
    return Looked(differences=tuple(found), unread=unread)


def turn_of(
    names: Iterable[str], place: ReconciliationRecord, after: Stage
) -> tuple[str | None, ReconciliationRecord, ReconciliationRecord]:
    """Give which of some things, whose pages are walked one after the other, a pass is at.

    What it was at may be gone since: then the next one begins with its own first page.

    Args:
        names: of the things.
        place: in their stage.
        after: the stage behind the last of them.

    Returns:
        The name, or ``None`` behind the last one; the place there; and the place behind all of its pages.
    """
    ordered = sorted(names)
    at = next((each for each in ordered if place.at is None or each >= place.at), None)
    if at is None:
        return None, place, place.entered(after)
    here = place if place.at == at else place.entered(place.stage, at)
    behind = next((each for each in ordered if each > at), None)
    return at, here, place.entered(after) if behind is None else place.entered(place.stage, behind)


def step_of(place: ReconciliationRecord, following: ReconciliationRecord, page: Iterable[str], looked: Looked) -> Step:
    """Give a step that looked at a page, or at a part of it."""
    if looked.left is None:
        return Step(place=following, looked_at=len(list(page)), differences=looked.differences, unread=looked.unread)
    done = sum(each < looked.left for each in page)
    return Step(
        place=place.changed(resume=looked.left), looked_at=done, differences=looked.differences, unread=looked.unread
    )
