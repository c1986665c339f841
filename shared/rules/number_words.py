"""Numbers of things, in words."""

from __future__ import annotations


def number_of(number: int, thing: str, *, more: bool = False) -> str:
    """Give a number of things, as in ``1 device``, ``12 devices`` or ``more than 1000 devices``.

    Args:
        number: of them.
        thing: its name, which gets an s for several.
        more: whether there are more than counted.
    """
    if more:
        return f"more than {number} {thing}s"
    return f"1 {thing}" if number == 1 else f"{number} {thing}s"
