"""OpenTelemetry: what carries spans, metrics and the log out of the process. Imported only when they are to go out.

To Application Insights they go by Microsoft's distribution (azure-monitor-opentelemetry), with the app's identity; to
any other receiver by OTLP over HTTP, as OpenTelemetry's own variables say (``OTEL_EXPORTER_OTLP_*``, ``OTEL_*``).
"""

from __future__ import annotations

import copy
import logging
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from azure.monitor.opentelemetry import configure_azure_monitor
from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import Deferred
from shared.log_lines import one_line
from shared.telemetry.metrics import Kind, send_to
from shared.telemetry.spans import SpanKind, trace_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from azure.core.credentials import TokenCredential
    from opentelemetry.metrics import CallbackOptions, Meter

    from shared.telemetry.metrics import Metric, Value

SCOPE = "device_identity_factory"
"""Name of the instrumentation scope."""

_ERROR_LIMIT = 300
_FRESH_SECONDS = 90
"""So long a gauge's value is sent: once or twice, at a minute between what is sent."""

_NANO = 1_000_000_000
_KINDS = {
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
    SpanKind.CLIENT: trace.SpanKind.CLIENT,
    SpanKind.PRODUCER: trace.SpanKind.PRODUCER,
    SpanKind.CONSUMER: trace.SpanKind.CONSUMER,
}
_DEFAULTS = {
    # As Microsoft's worker has it (azure_functions_runtime/otel.py): names the service after the function app.
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "azure_functions",
    # The distribution's own default keeps five traces a second, and would cut the trace of an order.
    "OTEL_TRACES_SAMPLER": "parentbased_always_on",
}
_LIBRARIES = (
    "azure_sdk", "django", "fastapi", "flask", "httpx", "httpx2", "psycopg2", "requests", "urllib", "urllib3",
)  # fmt: skip
"""What the distribution would instrument: the app has spans of its own, and each of these would tell URLs."""


@dataclass(frozen=True, slots=True)
class Exporting:
    """What carries out of the process; until it is closed."""

    traces: TracerProvider
    meters: MeterProvider
    logs: LoggerProvider
    handler: logging.Handler

    def flush(self) -> None:
        """Send what there is."""
        self.traces.force_flush()
        self.meters.force_flush()
        self.logs.force_flush()

    def close(self) -> None:
        """Send what there is, and nothing from then on."""
        trace_with(None)
        send_to(None)
        logging.getLogger().removeHandler(self.handler)
        self.traces.shutdown()
        self.meters.shutdown()
        self.logs.shutdown()


def start(*, connection_string: str | None, otlp: bool, credential: TokenCredential | None, name: str) -> Exporting:
    """Have spans, metrics and the log go out from now on.

    Args:
        connection_string: of Application Insights, ``None`` for none.
        otlp: whether to send by OTLP, to where OpenTelemetry's variables say.
        credential: the app's identity, for Application Insights.
        name: of the service, where neither the platform nor ``OTEL_SERVICE_NAME`` gives one.
    """
    for variable, value in _DEFAULTS.items():
        os.environ.setdefault(variable, value)
    resource = _resource(name)
    readers = [PeriodicExportingMetricReader(OTLPMetricExporter())] if otlp else []
    spans = [BatchSpanProcessor(OTLPSpanExporter())] if otlp else []
    records = [BatchLogRecordProcessor(OTLPLogExporter())] if otlp else []
    if connection_string is not None:
        exporting = _with_azure(
            resource,
            connection_string=connection_string,
            credential=credential,
            span_processors=spans,
            log_record_processors=records,
            metric_readers=readers,
        )
    else:
        exporting = _alone(resource, spans, records, readers)
    exporting.handler.addFilter(_harmless)
    trace_with(_Spans(exporting.traces.get_tracer(SCOPE)))
    send_to(_Metrics(exporting.meters.get_meter(SCOPE)))
    return exporting


def _resource(name: str) -> Resource:
    found = Resource.create()
    if str(found.attributes["service.name"]).startswith("unknown_service"):
        return found.merge(Resource({"service.name": name}))
    return found


def _alone(
    resource: Resource,
    spans: Sequence[BatchSpanProcessor],
    records: Sequence[BatchLogRecordProcessor],
    readers: Sequence[PeriodicExportingMetricReader],
) -> Exporting:
    traces, logs = TracerProvider(resource=resource), LoggerProvider(resource=resource)
    for each in spans:
        traces.add_span_processor(each)
    for record in records:
        logs.add_log_record_processor(record)
    handler = LoggingHandler(logger_provider=logs)
    logging.getLogger().addHandler(handler)
    return Exporting(traces, MeterProvider(readers, resource=resource), logs, handler)


def _with_azure(resource: Resource, **options: Any) -> Exporting:
    configure_azure_monitor(
        resource=resource,
        instrumentation_options={library: {"enabled": False} for library in _LIBRARIES},
        enable_live_metrics=False,
        enable_performance_counters=False,
        **options,
    )
    handler = next(each for each in logging.getLogger().handlers if isinstance(each, LoggingHandler))
    traces, meters, logs = trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()
    if not (
        isinstance(traces, TracerProvider) and isinstance(meters, MeterProvider) and isinstance(logs, LoggerProvider)
    ):
        raise TypeError("azure-monitor-opentelemetry has not set OpenTelemetry up, though it was told to")
    return Exporting(traces, meters, logs, handler)


def _harmless(record: logging.LogRecord) -> logging.LogRecord | bool:
    """Give a record to be sent, whose exception has no secret in it: the handler would take it from ``exc_info``.

    What is logged while something is being sent is not sent itself, since that would never end.
    """
    if not is_instrumentation_enabled():
        return False
    if not record.exc_info or record.exc_info[1] is None:
        return record
    sent, error = copy.copy(record), record.exc_info[1]
    sent.exc_info = None
    sent.__dict__.update(
        {
            "exception.type": type(error).__name__,
            "exception.message": one_line(str(error)),
            "exception.stacktrace": record.exc_text or "",
        }
    )
    return sent


@dataclass(frozen=True, slots=True)
class _Running:
    """A span under way."""

    _span: trace.Span

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def set(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, value)


@dataclass(frozen=True, slots=True)
class _Spans:
    """Makes OpenTelemetry's spans."""

    tracer: trace.Tracer

    @contextmanager
    def span(
        self, name: str, kind: SpanKind, attributes: Mapping[str, Value], parent: str | None
    ) -> Iterator[_Running]:
        context, links = _parent(parent)
        with self.tracer.start_as_current_span(
            name,
            context,
            _KINDS[kind],
            attributes,
            links,
            record_exception=False,  # the words of an exception may hold a secret
            set_status_on_exception=False,
        ) as made:
            try:
                yield _Running(made)
            except Deferred:
                raise  # not yet: that is not an error
            except Exception as error:
                made.set_attribute("error.type", type(error).__name__)
                made.set_status(Status(StatusCode.ERROR, one_line(str(error))[:_ERROR_LIMIT]))
                raise

    def past(
        self, name: str, kind: SpanKind, attributes: Mapping[str, Value], parent: str | None, *, seconds: float
    ) -> None:
        end = time.time_ns()
        context, links = _parent(parent)
        made = self.tracer.start_span(
            name, context, _KINDS[kind], attributes, links, start_time=end - int(seconds * _NANO)
        )
        if "error.type" in attributes:
            made.set_status(Status(StatusCode.ERROR))
        made.end(end)


def _parent(traceparent: str | None) -> tuple[Any, Sequence[Link]]:
    """Give the context in which a span begins, and its links.

    The host's own span of an invocation is current when it begins. It is the parent if it is of the same trace, as that
    of an HTTP request is. It is linked if the message has a trace of its own.
    """
    present = trace.get_current_span().get_span_context()
    if traceparent is None:
        return None, ()
    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    said = trace.get_current_span(context).get_span_context()
    if not present.is_valid:
        return context, ()
    if present.trace_id == said.trace_id:
        return None, ()
    return context, (Link(present),)


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest values of a gauge, for as long as they say something.

    OpenTelemetry's own gauge would go on sending the last value for as long as its worker lives, though another
    worker's timer has found another value since. An alert would never end.
    """

    _values: dict[tuple[tuple[str, Value], ...], tuple[float, float]] = field(default_factory=dict)

    def take(self, value: float, attributes: Mapping[str, Value]) -> None:
        self._values[tuple(sorted(attributes.items()))] = (value, time.monotonic())

    def observed(self, _options: CallbackOptions) -> Iterator[Observation]:
        for attributes, (value, taken) in list(self._values.items()):
            if time.monotonic() - taken < _FRESH_SECONDS:
                yield Observation(value, dict(attributes))


@dataclass(frozen=True, slots=True)
class _Metrics:
    """Records into OpenTelemetry's instruments; an attribute that a metric does not declare stays here."""

    meter: Meter
    _instruments: dict[str, Callable[[float, dict[str, Value]], None]] = field(default_factory=dict)

    def record(self, metric: Metric, value: float, attributes: Mapping[str, Value]) -> None:
        instrument = self._instruments.get(metric.name)
        if instrument is None:
            instrument = self._instruments[metric.name] = self._made(metric)
        instrument(value, {name: attributes[name] for name in metric.attributes if name in attributes})

    def _made(self, metric: Metric) -> Callable[[float, dict[str, Value]], None]:
        described = {"unit": metric.unit, "description": metric.description}
        match metric.kind:
            case Kind.COUNTER:
                return self.meter.create_counter(metric.name, **described).add
            case Kind.GAUGE:
                newest = _Newest()
                self.meter.create_observable_gauge(metric.name, [newest.observed], **described)
                return newest.take
            case Kind.HISTOGRAM:
                return self.meter.create_histogram(
                    metric.name, **described, explicit_bucket_boundaries_advisory=metric.bounds
                ).record
