"""Application Insights gets spans, metrics and the log, sent with the app's identity: by Microsoft's own exporter."""

from __future__ import annotations

import gzip
import json
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from devstack.otlp_receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
TRACE = "0af7651916cd43dd8448eb211c80319c"
PROGRAM = f"""
import logging, sys, time
from azure.core.credentials import AccessToken
from shared import tracing
from shared.telemetry import exporting, metrics
from shared.telemetry.spans import SpanKind, span

class Identity:
    def get_token(self, *scopes, **_):
        return AccessToken("token-for-" + scopes[0], int(time.time()) + 3600)

logging.getLogger().setLevel(logging.INFO)
started = exporting.start(connection_string=sys.argv[1], otlp=True, credential=Identity(), name="factory")
with tracing.continued("00-{TRACE}-b7ad6b7169203331-01"), span("process device-orders", SpanKind.CONSUMER):
    logging.getLogger("device_identity_factory").warning("a line of the log")
metrics.CA_REMAINING.record(12.5, {{"device_factory.ca": "line-1-ca1"}})
started.flush()
started.close()
"""


class Ingestion(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        items = json.loads(content)
        self.server.came.append((self.path, self.headers.get("Authorization", ""), items))  # type: ignore[attr-defined]
        answer = json.dumps({"itemsReceived": len(items), "itemsAccepted": len(items), "errors": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - the name is the standard library's


@pytest.fixture
def ingestion(tmp_path: Path) -> Iterator[tuple[str, Path, list[tuple[str, str, list[dict[str, Any]]]]]]:
    """Give its URL, the CA to trust, and what came: path, authorization, and the items of each request."""
    authority, came = trustme.CA(), list[tuple[str, str, list[dict[str, Any]]]]()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ingestion)
    server.came = came  # type: ignore[attr-defined]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/", tmp_path / "ca.pem", came
    server.shutdown()
    server.server_close()


def test_what_is_sent_comes_with_the_identity_s_token_and_by_otlp_as_well(
    ingestion: tuple[str, Path, list[tuple[str, str, list[dict[str, Any]]]]], tmp_path: Path
) -> None:
    url, trusted, came = ingestion
    with Receiver() as receiver:
        done = subprocess.run(
            [
                *(sys.executable, "-c", PROGRAM),
                f"InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint={url}",
            ],
            cwd=REPOSITORY,
            env={
                "PATH": "/usr/bin",
                "TMPDIR": str(tmp_path),
                "REQUESTS_CA_BUNDLE": str(trusted),
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                # What the exporter tells Microsoft of itself, and asks of it.
                "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
                "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
                "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert [each.name for each in receiver.received.spans] == ["process device-orders"]
        assert {each.metric for each in receiver.received.points} == {"device_factory.ca.remaining"}
    assert {path for path, _, _ in came} == {"/v2.1/track"}
    assert {said for _, said, _ in came} == {"Bearer token-for-https://monitor.azure.com//.default"}
    items = {item["data"]["baseType"]: item for _, _, sent in came for item in sent}
    assert set(items) == {"RequestData", "MetricData", "MessageData"}
    assert items["RequestData"]["tags"]["ai.operation.id"] == TRACE
    assert items["MessageData"]["tags"]["ai.operation.id"] == TRACE
    assert items["MessageData"]["tags"]["ai.cloud.role"] == "factory"
    [value] = items["MetricData"]["data"]["baseData"]["metrics"]
    assert (value["name"], value["value"]) == ("device_factory.ca.remaining", 12.5)
    assert items["MetricData"]["data"]["baseData"]["properties"] == {"device_factory.ca": "line-1-ca1"}
