"""Who the work under way is done for, and why: what is written, told and asked for meanwhile says so."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.domain.callers import Actor

_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)
_comment: ContextVar[str | None] = ContextVar("comment", default=None)


def actor() -> Actor | None:
    """Give who asked for the work under way; ``None`` where nobody did."""
    return _actor.get()


def comment() -> str | None:
    """Give what they said to it."""
    return _comment.get()


@contextmanager
def acting(who: Actor | None, said: str | None = None) -> Iterator[None]:
    """Do what follows for somebody."""
    before = _actor.set(who), _comment.set(said)
    try:
        yield
    finally:
        _actor.reset(before[0])
        _comment.reset(before[1])
