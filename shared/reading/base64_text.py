"""Octets out of base64 (RFC 4648 section 4): with line ends or without, in the standard alphabet, with its padding."""

from __future__ import annotations

import re
from base64 import b64decode

from shared.errors import Rejected
from shared.reading.text import without_mark

_FOREIGN = re.compile(r"[^A-Za-z0-9+/=]")
_GROUP = 4


def octets(field: str, text: str, *, what: str = "it") -> bytes:
    """Read base64. Line ends and blanks count for nothing: MIME and PEM break lines (RFC 2045 section 6.8).

    Args:
        field: path of the text in the request.
        text: the base64.
        what: names it, for messages.

    Raises:
        Rejected: it is not valid; the message says where, and what would be right.
    """
    joined = "".join(without_mark(text).split())
    foreign = _FOREIGN.search(joined)
    if foreign is not None:
        raise Rejected.because(_foreign(joined, foreign.start(), what), field=field)
    try:
        return b64decode(joined, validate=True)
    except ValueError:
        raise Rejected.because(_incomplete(joined, what), field=field) from None


def _foreign(text: str, position: int, what: str) -> str:
    character = text[position]
    if character in "-_":
        return (
            f"{what} is base64url: {character!r} at position {position}; use the standard alphabet, with '+' and '/' "
            "(RFC 4648 section 4)"
        )
    return (
        f"{what} is not base64: {character!r} at position {position}; use letters, digits, '+', '/' and '=' at the end"
    )


def _incomplete(text: str, what: str) -> str:
    if "=" in text.rstrip("="):
        return f"{what} is not base64: '=' at position {text.index('=')} stands before the end"
    whole = len(text) + -len(text) % _GROUP
    return f"{what} is not whole base64: it has {len(text)} characters; with '=' at its end it must have {whole}"
