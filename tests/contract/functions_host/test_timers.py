"""Timer triggers: one host at a time, and what was missed is made up for at the start."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import requests
from azure.storage.blob import BlobLeaseClient, BlobServiceClient

from devstack.functions_host.timer_listener import CONTAINER, Status
from devstack.outside import until
from tests.contract.functions_host.conftest import host_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from azure.storage.blob import ContainerClient

    from devstack.stack import Stack

LATE, BY_HAND = {"body": "tick", "late": True}, {"body": "tick", "late": False}


@contextmanager
def missed_tick(cloud: Stack, host_id: str) -> Iterator[ContainerClient]:
    """A timer of these hosts ran last two years ago, and it runs each year."""
    with BlobServiceClient.from_connection_string(
        cloud.endpoints.storage_connection_string, connection_verify=cloud.endpoints.tls_ca_file
    ) as service:
        container = service.get_container_client(CONTAINER)
        if not container.exists():
            container.create_container()
        now = datetime.now(UTC)
        status = Status(now.replace(year=now.year - 2), now.replace(year=now.year - 1), now.replace(year=now.year - 2))
        container.upload_blob(f"timers/{host_id}/Host.Functions.tick/status", status.to_json())
        yield container


def test_a_timer_that_is_past_due_runs_at_the_start_and_once(cloud: Stack, tmp_path: Path) -> None:
    """The first host makes up for it and notes that; the next one has nothing to make up for."""
    with missed_tick(cloud, "late") as container:
        with host_on(cloud, tmp_path, queue="late") as host:
            until("the tick", lambda: host.seen("tick"), bool)
            blob = container.get_blob_client("timers/late/Host.Functions.tick/status")
            until("noted", lambda: Status.of_json(blob.download_blob().readall()).last, lambda last: last is not None)
        with host_on(cloud, tmp_path, queue="late") as host:
            start(host.url, host.ready["masterKey"])
            until("by hand", lambda: host.seen("tick"), lambda ticks: BY_HAND in ticks)
            assert host.seen("tick") == [LATE, BY_HAND]


def test_a_timer_does_not_run_where_another_host_has_its_lock(cloud: Stack, tmp_path: Path) -> None:
    """Past due as it is, it waits; by hand it runs anywhere."""
    with missed_tick(cloud, "locked") as container:
        lock = container.upload_blob("locks/locked/tick.Listener", b"")
        BlobLeaseClient(lock).acquire(60)
        with host_on(cloud, tmp_path, queue="locked") as host:
            start(host.url, host.ready["masterKey"])
            until("by hand", lambda: host.seen("tick"), bool)
            assert host.seen("tick") == [BY_HAND]


def start(url: str, master_key: str) -> None:
    answer = requests.post(f"{url}/admin/functions/tick", json={}, headers={"x-functions-key": master_key}, timeout=10)
    assert answer.status_code == 202
