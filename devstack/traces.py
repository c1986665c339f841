"""``python -m devstack trace``: carry out one order on a stack of its own, and print its trace as a tree."""

from __future__ import annotations

import shutil
import sys
import time
from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING

from devstack.otlp_receiver import Receiver
from devstack.outside import World, until
from devstack.stack import REPOSITORY, Stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from devstack.otlp_receiver import ReceivedSpan

STATE = REPOSITORY / ".devstack" / "trace"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SENDER = "00f067aa0ba902b7"
"""Ids of the trace and of the span that send the order's message: those of W3C Trace Context's own example."""

DEVICE = {"registrationId": "press-1", "initialTwin": {"tags": {"site": "plant-1"}}}
"""With a tag, so that the hub is called for it."""

_MILLION = 1_000_000
SETTINGS = {"OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_BLRP_SCHEDULE_DELAY": "200"}
"""OpenTelemetry's variables, in milliseconds, so that nobody waits for what is sent."""

_SHOWN = ("device_factory.registration_id", "device_factory.ca", "cloudevents.event_type", "url.path")


def tree(spans: Iterable[ReceivedSpan]) -> Iterator[str]:
    """Give the lines of a trace as a tree: when each span began after the first, how long it took, and what it is."""
    known = {span.span_id: span for span in spans}
    children: dict[str, list[ReceivedSpan]] = defaultdict(list)
    for span in sorted(known.values(), key=lambda each: each.begin):
        children[span.parent_id if span.parent_id in known else ""].append(span)
    first = min((span.begin for span in known.values()), default=0)
    yield from _branch(children, "", "", first)


def _branch(children: dict[str, list[ReceivedSpan]], parent: str, indent: str, first: int) -> Iterator[str]:
    below = children.get(parent, [])
    for index, span in enumerate(below):
        last = index == len(below) - 1
        joint, further = ("", "") if not parent else ("└─ ", "   ") if last else ("├─ ", "│  ")
        told = [str(span.attributes[name]) for name in _SHOWN if name in span.attributes]
        if status := span.attributes.get("http.response.status_code"):
            told.append(str(status))
        begin, took = (span.begin - first) / _MILLION, (span.end - span.begin) / _MILLION
        failed = " FAILED" if span.failed else ""
        yield f"{begin:7.0f} ms {took:6.0f} ms  {indent}{joint}{span.name}  {' '.join(told)}{failed}".rstrip()
        yield from _branch(children, span.span_id, indent + further, first)


def order_traced(receiver: Receiver, world: World) -> list[ReceivedSpan]:
    """Have one order carried out, and give the spans of its trace, once it has the last event's and each parent."""
    world.open_group("line-1")
    world.post_message(
        "device-orders",
        {
            "specversion": "1.0",
            "id": "order-1",
            "source": "/erp",
            "type": "Erp.DeviceOrder",
            "traceparent": f"00-{TRACE_ID}-{SENDER}-01",
            "data": {"orderId": "order-1", "enrollmentGroup": "line-1", "devices": [DEVICE]},
        },
    )
    return until(
        "the order's last event is traced",
        lambda: [span for span in receiver.received.spans if span.trace_id == TRACE_ID],
        _is_whole,
    )


def _is_whole(spans: Sequence[ReceivedSpan]) -> bool:
    known = {SENDER, *(span.span_id for span in spans)}
    ended = any("OrderCompleted" in str(span.attributes.get("cloudevents.event_type")) for span in spans)
    return ended and all(span.parent_id in known for span in spans)


def main(_argv: Sequence[str] = ()) -> int:
    """Run it."""
    shutil.rmtree(STATE, ignore_errors=True)
    print("starting a stack that sends its telemetry here ...", flush=True)
    began = time.perf_counter()
    with Receiver() as receiver:
        settings = {**SETTINGS, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        with (
            Stack.free(STATE, settings=settings) as stack,
            closing(World(stack.endpoints, STATE / "devices")) as world,
        ):
            spans = order_traced(receiver, world)
    print(f"trace {TRACE_ID} of one order with one device ({time.perf_counter() - began:.0f} s with the stack):\n")
    print("  began     took")
    print("\n".join(tree(spans)))
    if receiver.received.refusals:
        print(f"the receiver refused: {receiver.received.refusals}", file=sys.stderr)
        return 1
    return 0
