"""Text that people will read: in it is nothing that a terminal or a page would obey in the place of showing it."""

from __future__ import annotations

_CONTROLS = {*range(0x20), *range(0x7F, 0xA0)} - set(map(ord, "\t\r\n"))
"""CWE-150: escape sequences can hide what stands before them."""

_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
"""CVE-2021-42574: they have text read in another order than it is written."""

_HIDDEN = frozenset(map(chr, _CONTROLS | _DIRECTIONS))
_REPLACED = dict.fromkeys(_CONTROLS | _DIRECTIONS, "\N{REPLACEMENT CHARACTER}")
_ESCAPED = {code: f"\\u{code:04x}" for code in {*_CONTROLS, *_DIRECTIONS, 0x2028, 0x2029}}


def hidden_in(text: str) -> str | None:
    """Name the first character that would be obeyed, as in ``U+001B``; ``None`` if there is none.

    Tabs and line ends are left out.
    """
    found = next((each for each in text if each in _HIDDEN), None)
    return None if found is None else f"U+{ord(found):04X}"


def as_shown(text: str) -> str:
    """Put U+FFFD into the place of what would be obeyed."""
    return text.translate(_REPLACED)


def escaped(json_text: str) -> str:
    """Escape what would be obeyed in JSON, in which no control character below U+0020 stands unescaped (RFC 8259).

    Line separators as well: some readers of lines end a line there.
    """
    return json_text.translate(_ESCAPED)
