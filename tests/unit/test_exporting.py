"""Spans, metrics and the log as they leave the process: by OTLP to a receiver that checks the protocol."""

from __future__ import annotations

import gzip
import logging
import re
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from devstack import __main__ as devstack
from devstack.otlp_receiver import PROTOBUF, Receiver
from shared import tracing
from shared.errors import Deferred
from shared.log_lines import about, keep_to_lines
from shared.telemetry import exporting, metrics
from shared.telemetry.spans import SpanKind, past, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devstack.otlp_receiver import ReceivedSpan
    from shared.telemetry.exporting import Exporting

REPOSITORY = Path(__file__).parents[2]
TRACE, SENDER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening
        assert listening.received.refusals == []


@pytest.fixture
def exported(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exporting]:
    for name in ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "OTEL_TRACES_SAMPLER"):
        monkeypatch.setenv(name, exporting._DEFAULTS[name])  # noqa: SLF001 - it sets them, and monkeypatch takes them back
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    started = exporting.start(connection_string=None, otlp=True, credential=None, name="factory")
    yield started
    started.close()


def only(spans: list[ReceivedSpan], name: str) -> ReceivedSpan:
    [found] = [each for each in spans if each.name == name]
    return found


def test_a_span_goes_on_in_what_is_sent_inside(receiver: Receiver, exported: Exporting) -> None:
    """W3C Trace Context: the trace stays, and each step's parent is the one before."""
    with tracing.continued(f"00-{TRACE}-{SENDER}-01"), span("process", SpanKind.CONSUMER, {"a": 1}) as running:
        with span("send", SpanKind.PRODUCER):
            sent = tracing.current()
        past("POST dps", SpanKind.CLIENT, {"error.type": "503"}, seconds=0.25)
        running.set("b", "two")
    exported.flush()
    process, send, call = (only(receiver.received.spans, name) for name in ("process", "send", "POST dps"))
    assert {each.trace_id for each in (process, send, call)} == {TRACE}
    assert (process.parent_id, send.parent_id, call.parent_id) == (SENDER, process.span_id, process.span_id)
    assert sent == f"00-{TRACE}-{send.span_id}-01"
    assert (process.kind, send.kind, call.kind) == ("CONSUMER", "PRODUCER", "CLIENT")
    assert process.attributes == {"a": 1, "b": "two"}
    assert (process.failed, call.failed) == (False, True)
    assert call.end - call.begin == 250_000_000


def test_an_error_is_told_without_its_secrets_and_a_wait_is_no_error(receiver: Receiver, exported: Exporting) -> None:
    with tracing.continued(None):
        with pytest.raises(ValueError, match="PRIVATE"), span("fails"):
            raise ValueError(f"it holds {SECRET}")
        with pytest.raises(Deferred), span("waits"):
            raise Deferred("not yet", retry_after=timedelta(seconds=1))
    exported.flush()
    fails, waits = (only(receiver.received.spans, name) for name in ("fails", "waits"))
    assert (fails.failed, fails.attributes) == (True, {"error.type": "ValueError"})
    assert (waits.failed, waits.attributes) == (False, {})
    assert not any(b"MIGHAgEAMBMGByqGSM49" in raw for raw in receiver.received.raw)


@pytest.mark.parametrize("same", [True, False], ids=["of the same trace", "of another trace"])
def test_the_span_of_the_host_is_the_parent_or_is_linked(
    receiver: Receiver, exported: Exporting, *, same: bool
) -> None:
    """An HTTP request's is of the caller's trace. A queue's begins a trace, while the message has its own."""
    host = trace.SpanContext(int(TRACE, 16) if same else 7, 9, is_remote=True, trace_flags=trace.TraceFlags(1))
    with (
        trace.use_span(trace.NonRecordingSpan(host)),
        tracing.continued(f"00-{TRACE}-{SENDER}-01"),
        span("work"),
    ):
        pass
    exported.flush()
    work = only(receiver.received.spans, "work")
    assert work.trace_id == TRACE
    assert work.parent_id == (f"{9:016x}" if same else SENDER)
    assert work.links == (() if same else (f"{7:032x}",))


def test_an_attribute_that_a_metric_does_not_declare_stays_in_the_process(
    receiver: Receiver, exported: Exporting
) -> None:
    """So the id of a device gets into no metric, whoever writes it there."""
    metrics.DEVICES.record(2, {"device_factory.state": "issued", "registrationId": "press-1"})
    metrics.QUEUE_AGE.record(7.5, {"messaging.destination.name": "device-orders"})
    metrics.REGISTRATION_DURATION.record(70, {"device_factory.register_by": "service"})
    exported.flush()
    points = {each.metric: each for each in receiver.received.points}
    devices, age, took = (
        points[f"device_factory.{name}"] for name in ("device.transitions", "queue.age", "registration.duration")
    )
    assert (devices.kind, devices.unit, devices.value) == ("sum", "{device}", 2)
    assert devices.attributes == {"device_factory.state": "issued"}
    assert (age.kind, age.unit, age.value) == ("gauge", "s", 7.5)
    assert (took.kind, took.unit, took.count, took.highest) == ("histogram", "s", 1, 70)
    assert not any(b"press-1" in raw for raw in receiver.received.raw)


def test_a_gauge_that_nobody_records_any_more_is_sent_no_more(
    receiver: Receiver, exported: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker's timer may have found another value: who holds an old one must not go on telling it."""
    metrics.UNSETTLED_AGE.record(400)
    exported.flush()
    assert [each.value for each in receiver.received.points] == [400]
    later = time.monotonic() + 90
    monkeypatch.setattr(time, "monotonic", lambda: later)
    exported.flush()
    assert [each.value for each in receiver.received.points] == [400]


def test_a_record_of_the_log_says_what_it_is_about(receiver: Receiver, exported: Exporting) -> None:
    """Trace, order, request and device, on its line and as attributes; an exception's words are without secrets."""
    log, factory = logging.getLogger("device_identity_factory"), logging.getLogRecordFactory()
    keep_to_lines()
    try:
        with tracing.continued(f"00-{TRACE}-{SENDER}-01"), span("work"), about({"orderId": "o-1", "deviceCount": 3}):
            with about({"registrationId": "press-1"}):
                log.warning("a line %s", "of the log")
            try:
                int(SECRET)
            except ValueError:
                log.exception("it failed")
    finally:
        logging.setLogRecordFactory(factory)
    exported.flush()
    line, failure = receiver.received.records
    assert line.body.startswith("a line of the log traceparent=00-")
    assert line.body.endswith(" orderId=o-1 registrationId=press-1")
    assert (line.severity, line.trace_id) == ("WARN", TRACE)
    assert (line.attributes["orderId"], line.attributes["registrationId"]) == ("o-1", "press-1")
    assert "registrationId" not in failure.attributes
    assert failure.attributes["exception.type"] == "ValueError"
    assert failure.attributes["exception.message"] == (
        "invalid literal for int() with base 10: '[a private key was here, and is not kept]'"
    )
    assert "test_exporting.py" in failure.attributes["exception.stacktrace"]
    assert not any(b"MIGHAgEAMBMGByqGSM49" in raw for raw in receiver.received.raw)


# --- the receiver ---

SPAN = {"trace_id": bytes(15) + b"1", "span_id": bytes(7) + b"1", "name": "a"}


def request(**changes: Any) -> bytes:
    """Give a request with one span."""
    made = ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = changes.pop("service", "factory")
    resource.scope_spans.add().spans.add(**{**SPAN, "start_time_unix_nano": 1, "end_time_unix_nano": 2, **changes})
    return bytes(made.SerializeToString())


def post(receiver: Receiver, content: bytes, path: str = "/v1/traces", **headers: str) -> tuple[int, str]:
    given = {"Content-Type": PROTOBUF, **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = requests.post(receiver.endpoint + path, data=content, headers=given, timeout=10)
    return answer.status_code, answer.text


def test_the_receiver_takes_what_is_otlp() -> None:
    with Receiver() as receiver:
        assert post(receiver, request()) == (200, "")
        assert post(receiver, gzip.compress(request(name="b")), Content_Encoding="gzip") == (200, "")
        assert [each.name for each in receiver.received.spans] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "sent", "status", "said"),
    [
        (request(), {"path": "/v1/spans"}, 404, "/v1/spans is not a path of OTLP"),
        (request(), {"Content_Type": "application/json"}, 415, "it is application/json"),
        (request(), {"Content_Encoding": "br"}, 415, "Content-Encoding is br"),
        (request(), {"Content_Encoding": "gzip"}, 400, "it is not gzip"),
        (b"\xff\xff\xff", {}, 400, "it is not ExportTraceServiceRequest"),
        (b"\xa2\x06\x03abc", {}, 400, "it has fields that ExportTraceServiceRequest does not have"),
        (request(trace_id=b"1"), {}, 400, "trace id of 'a' is missing or wrong"),
        (request(trace_id=bytes(16)), {}, 400, "trace id of 'a'"),
        (request(span_id=b""), {}, 400, "span id of 'a'"),
        (request(parent_span_id=b"1"), {}, 400, "parent's id of 'a'"),
        (request(end_time_unix_nano=0), {}, 400, "times of 'a'"),
        (request(service=""), {}, 400, "service.name of the resource"),
    ],
)
def test_the_receiver_refuses_what_is_not_otlp(content: bytes, sent: dict[str, str], status: int, said: str) -> None:
    with Receiver() as receiver:
        found, text = post(receiver, content, **sent)
        assert found == status
        assert text.startswith(said)
        assert receiver.received.spans == []
        assert requests.get(f"{receiver.endpoint}/v1/traces", timeout=10).status_code == 405


# --- off ---

SETTINGS = {
    "DeviceFactoryStorage__queueServiceUri": "https://queues",
    "DeviceFactoryStorage__blobServiceUri": "https://blobs",
    "DeviceFactoryStorage__tableServiceUri": "https://tables",
    "KEY_VAULT_URL": "https://vault",
    "DPS_SERVICE_URL": "https://dps",
    "DPS_ID_SCOPE": "0ne00000000",
}
LOADED = """
import importlib, os, sys, function_app

def loaded():
    return sorted(name for name in sys.modules if name.partition(".")[0] == "opentelemetry" or ".monitor" in name)[:3]

print(loaded())
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
function_app.worker.settings.cache_clear()
importlib.reload(function_app)
print(loaded())
"""


@pytest.mark.long
def test_without_a_setting_nothing_of_it_is_imported() -> None:
    """And with one it is, when the app starts anew."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin", **SETTINGS},
        capture_output=True,
        text=True,
        check=True,
    )
    without, with_it = done.stdout.splitlines()
    assert without == "[]"
    assert re.match(r"\['azure.monitor', ", with_it)


@pytest.mark.parametrize("way", ["option", "environment"])
def test_the_local_stack_sends_to_the_endpoint_that_it_is_given(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """`make run` with the variable in its environment, or with the option."""
    endpoint = "http://127.0.0.1:4318"
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert devstack._options(devstack._arguments(["run"])).settings == {}  # noqa: SLF001
    if way == "environment":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    given = ["run", *(["--otlp-endpoint", endpoint] if way == "option" else [])]
    assert devstack._options(devstack._arguments(given)).settings == {  # noqa: SLF001
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint
    }


def test_a_step_that_is_over_begins_a_trace_of_its_own_and_has_not_failed(
    receiver: Receiver, exported: Exporting
) -> None:
    """Nothing has set it off that anybody could follow."""
    with tracing.continued(None):
        past("tick", SpanKind.INTERNAL, {"a": 1}, seconds=0.5)
    exported.flush()
    tick = only(receiver.received.spans, "tick")
    assert (tick.failed, tick.attributes, tick.end - tick.begin) == (False, {"a": 1}, 500_000_000)


def test_what_is_logged_while_something_is_sent_is_not_sent(receiver: Receiver, exported: Exporting) -> None:
    """It would be sent in turn, and never end."""
    with suppress_instrumentation():
        logging.getLogger("sender").warning("it is slow")
    logging.getLogger("sender").warning("it is fast")
    exported.flush()
    assert [each.body for each in receiver.received.records if "it is" in each.body] == ["it is fast"]


def test_the_service_has_the_name_that_the_platform_gives_or_else_the_deployments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two apps of one name would be one in what an operator looks at."""
    name_of = exporting._resource  # noqa: SLF001 - what it gives is sent with everything
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "otel")
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert name_of("factory").attributes["service.name"] == "factory"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
    assert name_of("factory").attributes["service.name"] == "theirs"
