"""One record, one line of the log: whatever was logged, nothing in it begins a line, steers a terminal or is a secret.

What others send gets into messages, of this app, of the SDKs and of exceptions. So it is made harmless where every
record of the process is made, and not where each is written (CWE-117). What a record is about (trace, order, request,
device) is put there, too: as attributes of the record, and at the end of its line as ``name=value``.
"""

from __future__ import annotations

import logging
import re
import traceback
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from shared import tracing
from shared.redaction import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ABOUT = ("orderId", "requestId", "registrationId")
"""What a record may be about beside its trace, by the names that the contract has for it."""

_ABOUT_LIMIT = 128
_NOTHING: Mapping[str, str] = MappingProxyType({})
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=_NOTHING)

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters, among them line ends, ESC and NUL
    "\u2028\u2029"  # line ends of Unicode
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of a text
    "\ud800-\udfff]"  # halves of characters, which no stream takes
)
_FRAME = "  File "  # begins what a traceback says of a place in the code, which has line ends of its own


def one_line(text: str) -> str:
    r"""Escape what is not text on a line, as in ``\n`` and ``\x1b``, and put a mark in the place of each secret."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), without_secrets(text))


@contextmanager
def about(known: Mapping[str, Any]) -> Iterator[None]:
    """Say in each record that is made inside what it is about: of what is known, the texts named in :data:`ABOUT`."""
    texts = {name: known[name] for name in ABOUT if isinstance(known.get(name), str) and known[name]}
    token = _about.set({**_about.get(), **{name: one_line(text)[:_ABOUT_LIMIT] for name, text in texts.items()}})
    try:
        yield
    finally:
        _about.reset(token)


def what_about() -> Mapping[str, str]:
    """Give what the work under way is about, by the names in :data:`ABOUT`."""
    return _about.get()


def keep_to_lines() -> None:
    """Have every record that is made in this process from now on keep to its line; doing it again changes nothing."""
    present = logging.getLogRecordFactory()
    if not (isinstance(present, partial) and present.func is _record):
        logging.setLogRecordFactory(partial(_record, present))


def _record(make: Callable[..., logging.LogRecord], *args: Any, **kwargs: Any) -> logging.LogRecord:
    record = make(*args, **kwargs)
    traceparent = tracing.current()
    ids = {**({"traceparent": traceparent} if traceparent else {}), **_about.get()}
    record.msg, record.args = " ".join([one_line(record.getMessage()), *(f"{k}={v}" for k, v in ids.items())]), None
    record.__dict__.update(ids)
    if record.exc_info and record.exc_info[1] is not None:
        # A formatter takes this for the traceback (logging.Formatter.format).
        record.exc_text = "".join(map(_harmless, traceback.format_exception(record.exc_info[1]))).rstrip("\n")
    return record


def _harmless(part: str) -> str:
    """Leave the places of a traceback as they are, and keep the exception's own words to a line."""
    if part.startswith(_FRAME):
        return part
    words = part.strip("\n")
    begin = part.index(words)
    return part[:begin] + one_line(words) + part[begin + len(words) :]
