"""W3C trace context: one ``traceparent`` from the order that came in to every event and log line that follows."""

from __future__ import annotations

import re
import secrets
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def current() -> str | None:
    """Give the traceparent of the work under way."""
    return _current.get()


def trace_id() -> str | None:
    """Give the id of the trace of the work under way: 32 hexadecimal digits."""
    value = _current.get()
    return value[3:35] if value else None


@contextmanager
def continued(traceparent: str | None) -> Iterator[str]:
    """Carry on a sender's trace; begin one if it is missing or malformed (W3C Trace Context section 3.2)."""
    given = traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else None
    value = given or f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    token = _current.set(value)
    try:
        yield value
    finally:
        _current.reset(token)
