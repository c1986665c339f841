"""Spans: what the app did, when, and as part of which trace. Without a tracer a span is nothing but its block.

A span begins as the child of :func:`shared.tracing.current` and is what is current inside, so that it goes on in every
message that is sent there.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Concatenate, Protocol

from shared import tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from contextlib import AbstractContextManager

    from shared.telemetry.metrics import Value


class SpanKind(StrEnum):
    """How a span stands to others (OpenTelemetry: SpanKind)."""

    INTERNAL = "internal"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span(Protocol):
    """A span under way."""

    @property
    def traceparent(self) -> str:
        """How others refer to it."""
        ...

    def set(self, name: str, value: Value) -> None:
        """Set an attribute."""
        ...


class Tracer(Protocol):
    """Makes spans."""

    def span(
        self, name: str, kind: SpanKind, attributes: Mapping[str, Value], parent: str | None
    ) -> AbstractContextManager[Span]:
        """Make a span that lasts as long as its block; it notes the error that leaves the block."""
        ...

    def past(
        self, name: str, kind: SpanKind, attributes: Mapping[str, Value], parent: str | None, *, seconds: float
    ) -> None:
        """Make a span of what has just ended and took so many seconds; ``error.type`` tells that it failed."""
        ...


class _Nothing:
    """A span that nobody sees."""

    traceparent = ""

    def set(self, name: str, value: Value) -> None:
        """Forget an attribute."""


_NOTHING = _Nothing()
_tracer: Tracer | None = None


def trace_with(tracer: Tracer | None) -> Tracer | None:
    """Have a tracer make the spans from now on, ``None`` for nobody; give the one before."""
    global _tracer
    before, _tracer = _tracer, tracer
    return before


@contextmanager
def span(
    name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: Mapping[str, Value] | None = None
) -> Iterator[Span]:
    """Make what happens inside a span of the trace under way."""
    if _tracer is None:
        yield _NOTHING
        return
    with (
        _tracer.span(name, kind, attributes or {}, tracing.current()) as running,
        tracing.continued(running.traceparent),
    ):
        yield running


type _Method[S, **P, T] = Callable[Concatenate[S, str, P], Coroutine[Any, Any, T]]


def step[S, **P, T](name: str, attribute: str) -> Callable[[_Method[S, P, T]], _Method[S, P, T]]:
    """Make each call of a method a span, whose attribute is what the method is called about."""

    def stepped(work: _Method[S, P, T]) -> _Method[S, P, T]:
        @functools.wraps(work)
        async def made(own: S, about: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
            with span(name, attributes={attribute: about}):
                return await work(own, about, *args, **kwargs)

        return made

    return stepped


def past(name: str, kind: SpanKind, attributes: Mapping[str, Value], *, seconds: float) -> None:
    """Make a span of what has just ended; see :meth:`Tracer.past`."""
    if _tracer is not None:
        _tracer.past(name, kind, attributes, tracing.current(), seconds=seconds)
