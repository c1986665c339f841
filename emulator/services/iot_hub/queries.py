"""Queries over twins: ``SELECT ... FROM devices``, in the query language of IoT Hub."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.platform import query_language
from emulator.platform.query_language import QueryRefused
from emulator.services.iot_hub import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emulator.platform.query_language import Query

    Twins = Callable[[str], Iterator[dict[str, Any]]]
    """Gives all twins whose device ids come after this one, in their order."""

_FORM = "SELECT ... FROM devices [WHERE condition] [GROUP BY path, ...]"
_MISSING = ("devices.modules", "devices.jobs")


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a query's rows.

    Attributes:
        kind: ``x-ms-item-type``: ``Twin`` for whole twins, else ``raw``.
        continuation: to be sent for the next page; None after the last one.
    """

    rows: list[dict[str, Any]]
    kind: str
    continuation: str | None


def parse(text: Any) -> Query:
    """Read a query.

    Raises:
        HubError: 400, it can't be read; 501, it asks for what the emulator lacks.
    """
    try:
        query = query_language.parse(text, _FORM)
    except QueryRefused as refused:
        raise errors.bad_argument(str(refused)) from None
    if query.source in _MISSING:
        raise errors.not_offered(f"queries FROM {query.source}: devices only")
    if query.source != "devices":
        raise errors.bad_argument(f"The collection {query.source!r} does not exist; there is 'devices'.")
    return query


def find(query: Query, twins: Twins, continuation: str, size: int) -> Page:
    """Find a page of rows.

    Args:
        query: what is asked for.
        twins: where to look.
        continuation: as the page before gave it; empty for the first page.
        size: so many rows at most.

    Raises:
        HubError: 400, the continuation is not one that was given.
    """
    sent, after = _read(continuation)
    left = size if query.top is None else min(size, query.top - sent)
    found = (twin for twin in twins("" if query.is_grouped else after) if query.matches(twin))
    if query.is_grouped:
        rows = list(itertools.islice(query.grouped(found), sent, sent + left + 1))
        last = ""
    else:
        some = list(itertools.islice(found, left + 1))
        rows = [query.row(twin) for twin in some]
        last = some[left - 1]["deviceId"] if len(some) > left > 0 else ""
    more = len(rows) > left and (query.top is None or sent + left < query.top)
    kind = "Twin" if query.columns is None else "raw"
    return Page(rows[:left], kind, _written(sent + left, last) if more else None)


def _written(sent: int, after: str) -> str:
    return base64.b64encode(json.dumps([sent, after]).encode()).decode()


def _read(continuation: str) -> tuple[int, str]:
    """Give how many rows were sent, and the device id after which to go on."""
    if not continuation:
        return 0, ""
    try:
        sent, after = json.loads(base64.b64decode(continuation, validate=True))
    except (binascii.Error, ValueError, TypeError):
        sent, after = None, None
    if not isinstance(sent, int) or not isinstance(after, str) or sent < 0:
        raise errors.bad_argument(f"x-ms-continuation {continuation!r} was not given by this hub.")
    return sent, after
