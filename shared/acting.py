"""Who the work under way is done for: what is written, told and asked for meanwhile says so."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.domain.callers import Actor

_current: ContextVar[Actor | None] = ContextVar("actor", default=None)


def current() -> Actor | None:
    """Give who asked for the work under way; ``None`` where nobody did."""
    return _current.get()


@contextmanager
def acting(actor: Actor | None) -> Iterator[None]:
    """Do what follows for somebody."""
    token = _current.set(actor)
    try:
        yield
    finally:
        _current.reset(token)
