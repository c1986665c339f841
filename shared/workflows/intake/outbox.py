"""What leaves a workflow: events for the outside, and commands for the app's own queues."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import acting, tracing
from shared.contracts.events import event
from shared.contracts.messages import MESSAGE_LIMIT, Queue, command
from shared.contracts.parsing import refuse_private_keys
from shared.errors import Rejected
from shared.telemetry import metrics
from shared.telemetry.metrics import SYSTEM
from shared.telemetry.spans import SpanKind, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime, timedelta

    from shared.contracts.base import Contract, Told
    from shared.ports.event_topic import EventTopic
    from shared.ports.queues import Queues

type Clock = Callable[[], datetime]
"""Gives the present time, in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """Sends messages, each with the trace of the work under way.

    Attributes:
        topic: where events go; without it they go into the queue of events.
    """

    queues: Queues
    clock: Clock
    topic: EventTopic | None = None

    async def publish(self, told: Told, *, subject: str, correlation_id: str, occasion: str = "") -> None:
        """Publish an event: :func:`shared.contracts.events.event`. Its actor is who the work under way is done for."""
        system = SYSTEM if self.topic is None else "eventgrid"
        with _sending(Queue.PROVISIONING_EVENTS, system, {"cloudevents.event_type": told.event_type.value}):
            text = event(
                told,
                subject=subject,
                correlation_id=correlation_id,
                at=self.clock(),
                traceparent=tracing.current(),
                occasion=occasion,
                actor=acting.actor(),
            )
            if self.topic is None:
                await self.queues.send(Queue.PROVISIONING_EVENTS, text)
            else:
                await self.topic.send(text)

    async def send(self, queue: Queue, body: Contract, *, delay: timedelta | None = None) -> None:
        """Send a command to one of the app's own queues.

        Raises:
            Rejected: there is a private key in it, or it is too large for a queue, though what it was made of was not:
                characters may take six bytes.
        """
        refuse_private_keys(body.model_dump(mode="json", by_alias=True, exclude_none=True))
        with _sending(queue):
            text = command(queue, body, at=self.clock(), traceparent=tracing.current())
            if len(text) > MESSAGE_LIMIT:
                way_out = (
                    ": put the devices into a blob and name it in devicesUrl" if queue is Queue.DEVICE_ORDERS else ""
                )
                raise Rejected.because(
                    f"as a message it has {len(text)} bytes; at most {MESSAGE_LIMIT} fit a queue{way_out}"
                )
            await self.queues.send(queue, text, delay=delay)

    async def send_again(self, queue: str, text: str, *, delay: timedelta | None = None) -> None:
        """Send a message that came before, as it was, with the trace that it has."""
        await self.queues.send(queue, text, delay=delay)


@contextmanager
def _sending(queue: Queue, system: str = SYSTEM, further: Mapping[str, str] | None = None) -> Iterator[None]:
    """Make what is sent inside a step of the trace, which the message carries on (semantic conventions: send)."""
    attributes = {"messaging.system": system, "messaging.operation.name": "send", metrics.QUEUE: queue.value}
    kind = {"messaging.operation.type": "send"}
    with span(f"send {queue.value}", SpanKind.PRODUCER, {**attributes, **kind, **(further or {})}):
        yield
    metrics.SENT_MESSAGES.record(1, attributes)
