"""Whole numbers out of texts: parameters of URLs, and headers."""

from __future__ import annotations

import re

from shared.errors import Rejected

_DIGITS = re.compile(r"[0-9]{1,18}")  # fewer than int() refuses to read, and no digits of other scripts


def whole_number(text: str, low: int, high: int, *, field: str, what: str) -> int:
    """Read a number in decimal digits.

    Args:
        text: the digits.
        low: the least that is taken.
        high: the most that is taken, below 10**18.
        field: path of the text in the request.
        what: names it, as in ``page size``.

    Raises:
        Rejected: it is not valid, or out of range.
    """
    found = digits(text)
    if found is None or not low <= found <= high:
        raise Rejected.because(f"{text[:40]!r} is not a valid {what}; give {low} to {high}", field=field)
    return found


def digits(text: str) -> int | None:
    """Read up to 18 decimal digits, ``None`` if a text is anything else."""
    return int(text) if _DIGITS.fullmatch(text) else None
