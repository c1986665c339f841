"""Who the work under way is done for, and why: what is written, told and asked for meanwhile says so."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.domain.audit_entries import AuditedAct
    from shared.domain.callers import Actor

_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)
_comment: ContextVar[str | None] = ContextVar("comment", default=None)
_audited: ContextVar[AuditedAct | None] = ContextVar("audited", default=None)


def actor() -> Actor | None:
    """Give who asked for the work under way; ``None`` where nobody did."""
    return _actor.get()


def comment() -> str | None:
    """Give what they said to it."""
    return _comment.get()


def audited() -> AuditedAct | None:
    """Give the entry of the audit log that the work under way has, if somebody waits for its end."""
    return _audited.get()


@contextmanager
def auditing(entry: AuditedAct) -> Iterator[None]:
    """Do what follows as what an entry of the audit log says."""
    before = _audited.set(entry)
    try:
        yield
    finally:
        _audited.reset(before)


@contextmanager
def acting(who: Actor | None, said: str | None = None) -> Iterator[None]:
    """Do what follows for somebody."""
    before = _actor.set(who), _comment.set(said)
    try:
        yield
    finally:
        _actor.reset(before[0])
        _comment.reset(before[1])
