"""What each trigger tells of its work: a span, a duration, what came of it, and in the log what it is about."""

from __future__ import annotations

import functools
import time
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from shared.acting import acting
from shared.domain.callers import Actor, CallerKind
from shared.errors import Deferred
from shared.log_lines import about, what_about
from shared.telemetry import metrics
from shared.telemetry.spans import Span, SpanKind, span
from triggers import time_limits, whole
from triggers.worker import log, services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    import azure.functions as func

    from shared.contracts.messages import Queue
    from shared.telemetry.metrics import Value
    from shared.workflows.intake.rejections import ReceivedMessage

_IDS = {
    "orderId": "device_factory.order_id",
    "requestId": "device_factory.request_id",
    "registrationId": "device_factory.registration_id",
}
"""Attributes of spans, by the names in the contract; never of metrics."""


class Outcome(StrEnum):
    """What came of a try to carry out a message."""

    DONE = "done"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    OUTAGE = "outage"
    ROLE_MISSING = "role_missing"
    FAILED = "failed"


@dataclass(slots=True)
class Try:
    """A try to carry out a message.

    Attributes:
        outcome: what came of it.
    """

    queue: Queue
    _span: Span
    outcome: Outcome = Outcome.FAILED

    def waits(self, outcome: Outcome, cause: BaseException) -> None:
        """Tell that the message was put back, and why."""
        self.outcome = outcome
        metrics.WAITS.record(1, {metrics.QUEUE: self.queue.value, metrics.CAUSE: outcome.value})
        if not isinstance(cause, Deferred):
            self._span.set(metrics.ERROR, type(cause).__name__)


@contextmanager
def processing(received: ReceivedMessage, data: Any) -> Iterator[Try]:
    """Make a try to carry out a message a span (semantic conventions: process), and tell how long it took."""
    queue = received.queue
    measured: dict[str, Value] = {
        "messaging.system": metrics.SYSTEM,
        "messaging.operation.name": "process",
        metrics.QUEUE: queue.value,
    }
    described: dict[str, Value] = {
        **measured,
        "messaging.operation.type": "process",
        "messaging.message.id": received.message_id,
        "messaging.message.body.size": len(received.body),
    }
    error: dict[str, Value] = {}
    began = time.perf_counter()
    with (
        about(data if isinstance(data, dict) else {}),
        span(f"process {queue.value}", SpanKind.CONSUMER, {**described, **ids()}) as running,
    ):
        trying = Try(queue, running)
        try:
            yield trying
        except BaseException as failure:
            error = {metrics.ERROR: type(failure).__name__}
            raise
        finally:
            running.set(metrics.OUTCOME, trying.outcome.value)
            metrics.PROCESS_DURATION.record(
                time.perf_counter() - began, {**measured, metrics.OUTCOME: trying.outcome.value, **error}
            )


@contextmanager
def answering(request: func.HttpRequest, route: str) -> Iterator[Span]:
    """Make the answer to an HTTP request a span. The host's own is the server's, so this is one inside it."""
    attributes: dict[str, Value] = {"http.request.method": request.method or "", "http.route": f"/api/{route}"}
    with (
        about(dict(request.route_params)),
        span(f"{request.method} /api/{route}", SpanKind.INTERNAL, {**attributes, **ids()}) as running,
    ):
        yield running


def ids() -> Mapping[str, Value]:
    """Give what the work under way is about, as attributes of a span."""
    return {_IDS[name]: value for name, value in what_about().items()}


async def measured(measure: Callable[[], Awaitable[None]]) -> None:
    """Measure, if anybody wants to know; what can't be measured now holds up nothing."""
    if not metrics.wanted():
        return
    try:
        await measure()
    except Exception as error:  # noqa: BLE001 - the work that comes next matters more
        log.warning("could not be measured: %s: %s", type(error).__name__, error)


def sweep[**P](work: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    """Make each run of a timer's function a span, tell how long it took, and break it off when it takes too long.

    While the ledger is being restored nothing is done: what is due is done when the timer runs next.

    Raises:
        TimeoutError: it was broken off; what it left is done when the timer runs next.
    """
    name = work.__name__

    @functools.wraps(work)
    async def observed(*args: P.args, **kwargs: P.kwargs) -> None:
        error: dict[str, Value] = {}
        began = time.perf_counter()
        try:
            with span(name), acting(Actor(kind=CallerKind.TIMER, id=name)):
                async with time_limits.within(time_limits.SWEEP, name):
                    restored = await whole.unfinished(services())
                    if restored is None:
                        await work(*args, **kwargs)
                    else:
                        log.critical("%s did nothing: %s", name, restored)
        except BaseException as failure:
            error = {metrics.ERROR: type(failure).__name__}
            raise
        finally:
            metrics.SWEEP_DURATION.record(time.perf_counter() - began, {metrics.SWEEP: name, **error})

    return observed
