"""Measuring: works take turns, round by round, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

type Work = Callable[[int], float]
"""Does its work so many times, and gives the seconds that one time took."""


def timed(once: Callable[[], object]) -> Work:
    """Make a work of a function."""

    def run(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            once()
        return (time.perf_counter() - began) / times

    return run


def interleaved(works: Mapping[str, tuple[Work, int]], rounds: int) -> dict[str, list[float]]:
    """Measure works in turns.

    Args:
        works: by name, each with how often it is done in a round.
        rounds: after one that warms up and does not count.

    Returns:
        By name, the seconds of one time in each round.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        # To and fro, so that no work always comes behind the same other one, and finds what that left in the caches.
        for name, (work, times) in [*works.items()][:: -1 if turn % 2 else 1]:
            seconds = work(times if turn else max(1, times // 10))
            if turn:
                taken[name].append(seconds)
    return taken


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure has to reach.

    Attributes:
        at_least: whether more is better.
    """

    value: float
    at_least: bool = False

    def is_met(self, figure: float) -> bool:
        """Tell whether a figure reaches it."""
        return figure >= self.value if self.at_least else figure <= self.value

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        name: what was measured.
        value: the median.
        least: of all rounds.
        most: of all rounds.
        unit: ``x`` for ratios.
        bar: what is wanted, if anything is.
    """

    name: str
    value: float
    least: float
    most: float
    unit: str = "x"
    bar: Bar | None = None

    @classmethod
    def of(cls, name: str, values: Sequence[float], *, unit: str = "x", bar: Bar | None = None) -> Self:
        """Take the median of the rounds."""
        return cls(name, statistics.median(values), min(values), max(values), unit, bar)

    @classmethod
    def ratio(cls, name: str, above: Sequence[float], below: Sequence[float], *, bar: Bar | None = None) -> Self:
        """Divide round by round: what disturbed a round disturbed both."""
        return cls.of(name, [a / b for a, b in zip(above, below, strict=True)], bar=bar)

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.bar is None:
            return ""
        return "ok" if self.bar.is_met(self.value) else "MISSED"

    def __str__(self) -> str:
        spread = f"{self.least:.3g} to {self.most:.3g}" if self.least != self.most else ""
        wanted = f"{self.bar or ''}"
        return f"{self.name:<66} {self.value:>10.4g} {self.unit:<4} {spread:<20} {wanted:<9} {self.verdict}".rstrip()

    def documented(self) -> dict[str, object]:
        """Give it as JSON."""
        return {
            "name": self.name,
            "median": self.value,
            "least": self.least,
            "most": self.most,
            "unit": self.unit,
            "wanted": str(self.bar) if self.bar else None,
            "met": self.bar.is_met(self.value) if self.bar else None,
        }
