"""Choices made by octets: one draw for a whole input costs a tenth of many, and libFuzzer can change each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OCTETS = 96
_RARELY = 10


class Picks:
    """Makes choices, two octets for each; when they are used up, the first choice every time."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def below(self, bound: int) -> int:
        """Choose a number from 0 on."""
        self._at += 2
        return int.from_bytes(self._octets[self._at - 2 : self._at], "big") % bound

    def one_of[T](self, options: Sequence[T]) -> T:
        """Choose one of several."""
        return options[self.below(len(options))]

    def mostly[T](self, right: T, *others: T) -> T:
        """Choose what is right, and one time in ten something else."""
        return self.one_of(others) if self.below(_RARELY) == _RARELY - 1 else right

    def flip(self) -> bool:
        """Choose between two."""
        return self.below(2) == 1


any_picks: st.SearchStrategy[Picks] = st.builds(Picks, st.binary(min_size=_OCTETS, max_size=_OCTETS))


def picked[T](build: Callable[[Picks], T]) -> st.SearchStrategy[T]:
    """Draw what is built by choices; in this form a failure is printed as the call that makes its input again."""
    return st.builds(build, any_picks)


def overwritten(content: bytes, most: int, picks: Picks) -> bytes:
    """Put other octets for one of a file's or several."""
    octets = bytearray(content)
    for _ in range(1 + picks.below(most)):
        octets[picks.below(len(octets))] = picks.below(256)
    return bytes(octets)
