"""Points in time out of RFC 3339 text."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime

from shared.errors import Rejected

_FORM = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_LEAP_SECOND = "60"
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def point_in_time(text: object, *, field: str) -> datetime:
    """Read a time with its offset, and give it in UTC, to the microsecond.

    What its offset takes beyond the years 1 and 9999 is the earliest or latest time there is. A leap second is the last
    moment of the second before.

    Raises:
        Rejected: it is not valid; the message says what one looks like.
    """
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if found is not None:
        with suppress(ValueError):  # the 30th of February
            return _read(*found.groups(default=""))
    shown = repr(text)[:80]
    raise Rejected.because(f"{shown} is not a time; give one as in '2026-01-31T12:00:00Z' (RFC 3339)", field=field)


def _read(day: str, minute: str, second: str, fraction: str, offset: str) -> datetime:
    if second == _LEAP_SECOND:
        second, fraction = "59", ".999999"
    at = datetime.fromisoformat(f"{day}T{minute}:{second}{fraction[:7]}{offset.upper()}")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return EARLIEST if at.year == 1 else LATEST
