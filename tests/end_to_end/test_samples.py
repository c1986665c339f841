"""The programs in samples/, against a running stack."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from devstack.outside import REPOSITORY, until
from tests.end_to_end.conftest import GROUP

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.outside import World
    from devstack.stack import Stack

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def run(stack: Stack, *arguments: str) -> str:
    """Run the reader of events, and give what it says."""
    done = subprocess.run(
        [sys.executable, "samples/consume_events.py", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "AZURE_STORAGE_CONNECTION_STRING": stack.endpoints.storage_connection_string},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_two_readers_get_every_event_and_enter_it_once(stack_and_world: tuple[Stack, World], tmp_path: Path) -> None:
    """Each has a queue of its own, and ends with the same table of devices; what is read again is not new."""
    stack, world = stack_and_world
    databases = {name: tmp_path / f"{name}.db" for name in ("events-erp", "events-mes")}

    def read() -> list[list[tuple[str, str]]]:
        run(stack, "share", "--queue", "provisioning-events", *(f"--to={name}" for name in databases))
        found = []
        for name, path in databases.items():
            run(stack, "read", "--queue", name, "--database", str(path))
            with closing(sqlite3.connect(path)) as database:
                query = "select id, state from devices where id like 'reader-%' order by id"
                found.append(database.execute(query).fetchall())
        return found

    devices = [{"registrationId": each} for each in ("reader-1", "reader-2")]
    world.post("device-orders", {"orderId": "readers", "enrollmentGroup": GROUP, "devices": devices})
    expected = [("reader-1", "registered"), ("reader-2", "registered")]
    until("both readers know both devices", read, lambda found: found == [expected, expected])
    world.post("devices/reader-2/revoke", {"reason": "keyCompromise"})
    expected[1] = ("reader-2", "revoked")
    until("both readers know the revocation", read, lambda found: found == [expected, expected])
