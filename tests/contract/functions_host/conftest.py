"""The functions host with a small app, on real Azurite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.queue import QueueClient

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devstack.stack import Stack

REPOSITORY = Path(__file__).parents[3]
SAMPLE = Path(__file__).parent / "sample_app"
LEASE = 4
"""Seconds; a host that gets no processor for half of them loses the message to another delivery."""
OVERRIDES = {
    "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:00",
    "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.2",
}


@dataclass
class RunningHost:
    """A functions host, and what its functions noted."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    results: Path
    stack: Stack

    @property
    def url(self) -> str:
        return str(self.ready["functionsUrl"])

    @property
    def log(self) -> str:
        """What the host has said so far."""
        return (self.results.parent / "host.log").read_text(encoding="utf-8")

    def notes(self) -> list[dict[str, Any]]:
        if not self.results.exists():
            return []
        return [json.loads(line) for line in self.results.read_text(encoding="utf-8").splitlines()]

    def seen(self, body: str) -> list[dict[str, Any]]:
        """Every time that a function was called with this message."""
        return [note for note in self.notes() if note["body"] == body]

    def queue(self, name: str) -> QueueClient:
        endpoints = self.stack.endpoints
        return QueueClient.from_connection_string(
            endpoints.storage_connection_string, name, connection_verify=endpoints.tls_ca_file
        )


@contextmanager
def host_on(
    stack: Stack,
    folder: Path,
    *,
    queue: str = "work",
    poison: str = "nowhere-poison",
    lease: int = LEASE,
    settings: Mapping[str, str] | None = None,
) -> Iterator[RunningHost]:
    """Run a host of one's own on the sample app, which listens to ``queue`` and to ``poison``."""
    given = {**stack.settings(), **OVERRIDES, "AzureFunctionsWebHost__hostid": queue, **(settings or {})}
    path = folder / "local.settings.json"
    path.write_text(json.dumps({"Values": {**given, "WORK_QUEUE": queue, "POISON_QUEUE": poison}}), encoding="utf-8")
    results = folder / "results.jsonl"
    environment = {
        **os.environ,
        **stack.endpoints.environment(),
        "RESULTS": str(results),
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [
        *(sys.executable, "-m", "devstack.functions_host", "--app-dir", str(SAMPLE), "--settings", str(path)),
        *("--port", "0", "--keys-file", str(folder / "keys.json"), "--message-lease", str(lease)),
    ]
    with (
        (folder / "host.log").open("ab") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        line = process.stdout.readline() if process.stdout else ""
        assert line, (folder / "host.log").read_text()
        try:
            yield RunningHost(process, json.loads(line), results, stack)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()  # else the run would wait for ever
                    raise


@pytest.fixture(scope="session")
def host(cloud: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    """One host for all tests; each sends messages of its own."""
    with cloud_queue(cloud, "work"), host_on(cloud, tmp_path_factory.mktemp("host")) as running:
        yield running


@contextmanager
def cloud_queue(cloud: Stack, name: str) -> Iterator[None]:
    for each in (name, f"{name}-poison"):
        endpoints = cloud.endpoints
        with QueueClient.from_connection_string(
            endpoints.storage_connection_string, each, connection_verify=endpoints.tls_ca_file
        ) as queue:
            queue.create_queue()
    yield
