"""A receiver of OTLP over HTTP, which checks what it gets: for tests, and to look at a trace.

It takes what the OpenTelemetry Protocol specification (section "OTLP/HTTP") has a client send, in binary Protobuf, and
refuses anything else with a status that says so: another path, method or content type, octets that are not a message of
OTLP, ids of the wrong length, a time that ends before it begins.
"""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

PROTOBUF = "application/x-protobuf"
_TRACE_OCTETS, _SPAN_OCTETS = 16, 8
_LONGEST = 64 * 1024 * 1024
_ENDS_WITHIN = 0.02
"""Seconds in which it ends when it is told to: so often it looks whether it was (half a second by default)."""


class Refused(Exception):
    """A request is not OTLP.

    Args:
        status: that answers it.
        message: what is wrong with it.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span.

    Attributes:
        trace_id, span_id, parent_id: lower-case hexadecimal; the parent's is empty for the first of a trace.
        kind: as OTLP names it, without its prefix: ``CONSUMER``.
        begin, end: nanoseconds since 1970.
        failed: whether its status says so.
        links: ids of traces that it refers to.
    """

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    begin: int
    end: int
    attributes: Mapping[str, Any]
    failed: bool
    links: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReceivedPoint:
    """A value of a metric.

    Attributes:
        kind: ``sum``, ``gauge`` or ``histogram``.
        value: of a histogram, the sum of what was recorded.
        count: how many values are in it.
        highest: of them; of a sum or a gauge, its value.
    """

    metric: str
    kind: str
    unit: str
    value: float
    count: int
    highest: float
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReceivedRecord:
    """A record of the log."""

    body: str
    severity: str
    trace_id: str
    attributes: Mapping[str, Any]


@dataclass(slots=True)
class Received:
    """All that came."""

    spans: list[ReceivedSpan] = field(default_factory=list)
    points: list[ReceivedPoint] = field(default_factory=list)
    records: list[ReceivedRecord] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def take(self, path: str, content_type: str, content: bytes) -> Message:
        """Take the content of a request, and give its answer.

        Raises:
            Refused: it is not OTLP.
        """
        if path not in _SIGNALS:
            raise Refused(HTTPStatus.NOT_FOUND, f"{path} is not a path of OTLP; {', '.join(_SIGNALS)} are")
        if content_type.partition(";")[0].strip() != PROTOBUF:
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"it is {content_type}; {PROTOBUF} is taken")
        request_type, answer = _SIGNALS[path]
        request: Any = request_type()
        try:
            request.ParseFromString(content)
        except DecodeError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"it is not {request_type.DESCRIPTOR.name}: {error}") from None
        if _unknown(request):
            raise Refused(HTTPStatus.BAD_REQUEST, f"it has fields that {request_type.DESCRIPTOR.name} does not have")
        if path == "/v1/traces":
            self.spans.extend(_spans(request))
        elif path == "/v1/metrics":
            self.points.extend(_points(request))
        else:
            self.records.extend(_records(request))
        self.raw.append(content)
        return answer()


_SIGNALS: Mapping[str, tuple[type[Any], type[Any]]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
}


def _unknown(message: Any) -> bool:
    """Tell whether a message has fields that its type does not have: Protobuf reads nearly any octets as some."""
    kept = type(message)()
    kept.CopyFrom(message)
    kept.DiscardUnknownFields()
    return bool(kept.ByteSize() != message.ByteSize())


def _spans(request: Any) -> Iterator[ReceivedSpan]:
    for resource in request.resource_spans:
        _check_resource(resource.resource)
        for scope in resource.scope_spans:
            for span in scope.spans:
                _check(len(span.trace_id) == _TRACE_OCTETS and any(span.trace_id), f"trace id of {span.name!r}")
                _check(len(span.span_id) == _SPAN_OCTETS and any(span.span_id), f"span id of {span.name!r}")
                _check(len(span.parent_span_id) in {0, _SPAN_OCTETS}, f"parent's id of {span.name!r}")
                _check(0 < span.start_time_unix_nano <= span.end_time_unix_nano, f"times of {span.name!r}")
                _check(bool(span.name), "name of a span")
                yield ReceivedSpan(
                    name=span.name,
                    kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    begin=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    links=tuple(link.trace_id.hex() for link in span.links),
                )


def _points(request: Any) -> Iterator[ReceivedPoint]:
    for resource in request.resource_metrics:
        _check_resource(resource.resource)
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                _check(kind in {"sum", "gauge", "histogram"}, f"kind of {metric.name!r}")
                for point in getattr(metric, kind).data_points:
                    if kind == "histogram":
                        _check(sum(point.bucket_counts) == point.count, f"buckets of {metric.name!r}")
                        _check(len(point.bucket_counts) == len(point.explicit_bounds) + 1, f"bounds of {metric.name!r}")
                        value, count, highest = point.sum, point.count, point.max
                    else:
                        value, count = getattr(point, point.WhichOneof("value")), 1
                        highest = value
                    attributes = _attributes(point.attributes)
                    yield ReceivedPoint(metric.name, kind, metric.unit, value, count, highest, attributes)


def _records(request: Any) -> Iterator[ReceivedRecord]:
    for resource in request.resource_logs:
        _check_resource(resource.resource)
        for scope in resource.scope_logs:
            for record in scope.log_records:
                _check(len(record.trace_id) in {0, _TRACE_OCTETS}, "trace id of a log record")
                _check(record.observed_time_unix_nano > 0, "time of a log record")
                yield ReceivedRecord(
                    body=record.body.string_value,
                    severity=record.severity_text,
                    trace_id=record.trace_id.hex(),
                    attributes=_attributes(record.attributes),
                )


def _check_resource(resource: Any) -> None:
    _check(bool(_attributes(resource.attributes).get("service.name")), "service.name of the resource")


def _check(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise Refused(HTTPStatus.BAD_REQUEST, f"{what} is missing or wrong")


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        try:
            answer = self.server.take(self.path, self.headers.get("Content-Type", ""), self._content())
        except Refused as refusal:
            self.server.received.refusals.append(str(refusal))
            self._answer(refusal.status, "text/plain", str(refusal).encode())
        else:
            self._answer(HTTPStatus.OK, PROTOBUF, answer.SerializeToString())

    def do_GET(self) -> None:
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"OTLP is sent by POST")

    def _content(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LONGEST:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, f"Content-Length is {length!r}")
        content = self.rfile.read(int(length))
        encoding = self.headers.get("Content-Encoding", "identity")
        if encoding == "identity":
            return content
        if encoding != "gzip":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Encoding is {encoding}; gzip is taken")
        try:
            return gzip.decompress(content)
        except (OSError, EOFError):
            raise Refused(HTTPStatus.BAD_REQUEST, "it is not gzip, as its Content-Encoding says") from None

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the standard library's
        """Stay silent: what came is what matters."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: str, received: Received) -> None:
        super().__init__((address, 0), _Handler)
        self.received = received
        self._lock = threading.Lock()

    def take(self, path: str, content_type: str, content: bytes) -> Message:
        with self._lock:
            return self.received.take(path, content_type, content)


class Receiver:
    """Listens on loopback, on a port of its own."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.received = Received()
        self._server = _Server(address, self.received)
        serve = partial(self._server.serve_forever, poll_interval=_ENDS_WITHIN)
        self._thread = threading.Thread(target=serve, name="otlp-receiver", daemon=True)

    @property
    def endpoint(self) -> str:
        """What ``OTEL_EXPORTER_OTLP_ENDPOINT`` is to be."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
