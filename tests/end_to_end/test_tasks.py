"""What docs/tasks.md tells people to call is taken as it stands there, one task after the other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest
from azure.data.tables import TableClient

from devstack.outside import until
from shared.domain.approvals import ApprovalAct, ApprovalRecord
from shared.domain.audit_entries import SubjectKind
from shared.domain.callers import Actor, CallerKind
from shared.ledger.table import keyed, spread
from tests.tasks import REPOSITORY, TEXT, Task, tasks

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.outside import World
    from devstack.stack import Stack

OWN = {
    "dpsCa": "tasksCa",
    "line-1": "tasks-1",
    "press-": "tasks-press-",
    "PRESS-": "TASKS-PRESS-",
    "erp-2026-000042": "tasks-order",
}
"""Names in the page, and those that this test has instead, since the stack is shared."""

SIGNED = {
    *("Put a device on hold", "Undo a hold", "Revoke a device", "Take a device out of service"),
    "Revoke all devices of a group",
    "Revoke a CA",
    "Cancel an order",
}
"""Tasks that are refused without a signature where a secret is set, as it is here; other tests sign."""

FIRST_BOOTS = {"Order devices that register by themselves", "Renew a certificate"}
"""Tasks that wait for a device to register."""

EXPLAINED = {
    "See why a device does not connect": ("inService", True),
    "Explain a chain": ("inService", True),
    "Explain lines of a device's log": ("hubNotAuthorized", False),
}
"""Of a device in service: every service was reached with the rights of the zone, and says that all is well."""

A_REJECTION = "2026-05-01-6f1ed002ab5595859014"
AN_APPROVAL = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"


def own(text: str) -> str:
    for name, other in OWN.items():
        text = text.replace(name, other)
    return text


@pytest.mark.skipif(not all(map(shutil.which, ("curl", "jq"))), reason="the page's commands need curl and jq")
def test_each_task_of_the_page_is_carried_out(stack_and_world: tuple[Stack, World], tmp_path: Path) -> None:
    """With curl, from a folder with the page's files in it. What is queued is followed to its end."""
    stack, world = stack_and_world
    order = (REPOSITORY / "samples" / "device-order.json").read_text(encoding="utf-8")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "device-order.json").write_text(own(order), encoding="utf-8")
    functions = re.findall(r"^api\(\) .+$", TEXT, re.MULTILINE)
    environment = {"url": stack.endpoints.functions_url, "key": stack.endpoints.function_key}
    for task in tasks():
        line = own(task.line)
        if task.title == "Check a chain":
            (tmp_path / "chain.pem").write_text(chain_of(world), encoding="utf-8")
        if task.title == "Close a rejection":
            line = line.replace(A_REJECTION, refused(world))
        if AN_APPROVAL in line:
            line = line.replace(AN_APPROVAL, awaiting(stack))
        ran = subprocess.run(
            ["/bin/bash", "-euc", "\n".join([*functions, line])],
            cwd=tmp_path,
            env={**os.environ, **environment},
            check=True,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert not ran.stderr, task.title
        check(world, task, tmp_path, ran.stdout)


def check(world: World, task: Task, folder: Path, answer: str) -> None:
    if task.curl.file:
        assert (folder / own(task.curl.file)).stat().st_size > 100, task.title
        return
    said: dict[str, Any] = json.loads(answer) if answer.strip() else {}
    if task.title in SIGNED:
        assert said["status"] == 401, task.title
        return
    assert "errors" not in said, (task.title, said)
    if task.title in EXPLAINED:
        assert (said["cause"]["code"], said["asItShouldBe"]) == EXPLAINED[task.title], said
    if "location" in said:
        path = said["location"].removeprefix("/api/")
        expected = "waiting" if task.title in FIRST_BOOTS else "done"
        until(task.title, lambda: world.get(path), lambda found: found["state"] == expected)


def chain_of(world: World) -> str:
    """Give a device's chain, as a device sends it: its bundle without the key."""
    bundle = world.request("GET", f"devices/{own('press-002')}/bundle?format=pem").text
    return "".join(re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", bundle, re.DOTALL))


def awaiting(stack: Stack) -> str:
    """Enter an approval that somebody else asks for, as if an act waited for it, and give its id.

    No act waits on the stack that all tests share; the demo shows one that does.
    """
    identifier, now = token_hex(16), datetime.now(UTC)
    record = ApprovalRecord(
        approval_id=identifier,
        act=ApprovalAct.DELETE_GROUP,
        what="delete the enrollment group 'tasks-2'",
        subject_kind=SubjectKind.GROUP,
        subject="tasks-2",
        fingerprint="0" * 64,
        asked_by=Actor(kind=CallerKind.USER, id="ada"),
        asked_at=now,
        expires_at=now + timedelta(hours=1),
    )
    connection = stack.endpoints.storage_connection_string
    with TableClient.from_connection_string(connection, "approvals") as table:
        table.create_entity(keyed(spread(identifier), identifier, record))
    return identifier


def refused(world: World) -> str:
    """Have a message refused, and give the id of its rejection."""
    world.post_message("device-orders", {"orderId": "tasks-refused"})

    def found() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = world.get("rejections?queue=device-orders")["items"]
        return [each for each in items if "tasks-refused" in json.dumps(each)]

    return str(until("the refusal", found, bool)[0]["id"])
