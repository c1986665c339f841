"""What a step of a pass has seen, and where the next one goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.domain.findings import Difference
    from shared.domain.passes import ReconciliationRecord


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


def step_of(place: ReconciliationRecord, following: ReconciliationRecord, page: Iterable[str], looked: Looked) -> Step:
    """Give a step that looked at a page, or at a part of it."""
    if looked.left is None:
        return Step(place=following, looked_at=len(list(page)), differences=looked.differences, unread=looked.failed)
    done = sum(each < looked.left for each in page)
    return Step(
        place=place.changed(resume=looked.left), looked_at=done, differences=looked.differences, unread=looked.failed
    )
