"""Queue triggers: the semantics of Microsoft's queue extension."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

from devstack.outside import until
from tests.contract.functions_host.conftest import LEASE, cloud_queue, host_on

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.stack import Stack
    from tests.contract.functions_host.conftest import RunningHost


def send(host: RunningHost, body: str, *, plain: bool = False, queue: str = "work") -> str:
    with host.queue(queue) as client:
        return str(client.send_message(body if plain else b64encode(body.encode()).decode()).id)


def waiting_in(host: RunningHost, queue: str) -> list[str]:
    with host.queue(queue) as client:
        return [_decoded(message.content) for message in client.peek_messages(32)]


def _decoded(content: str) -> str:
    try:
        return b64decode(content, validate=True).decode()
    except ValueError:
        return f"raw: {content}"


def count_of(host: RunningHost, queue: str) -> int:
    with host.queue(queue) as client:
        return int(client.get_queue_properties().approximate_message_count or 0)


def test_a_message_is_handled_once_and_deleted(host: RunningHost) -> None:
    """A function that succeeds sees its message once, with its id and count, and the message is gone."""
    identifier = send(host, "ok-1")
    until("handled", lambda: host.seen("ok-1"), bool)
    assert host.seen("ok-1") == [{"body": "ok-1", "tries": 1, "id": identifier}]
    until("deleted", lambda: count_of(host, "work"), lambda count: count == 0)


def test_a_message_that_fails_is_tried_five_times_and_then_poison(host: RunningHost) -> None:
    """A function that fails sees its message maxDequeueCount times; then the message is in the poison queue, whole."""
    send(host, "fail-ä")
    until("poison", lambda: waiting_in(host, "work-poison"), lambda found: "fail-ä" in found)
    assert [note["tries"] for note in host.seen("fail-ä")] == [1, 2, 3, 4, 5]


def test_a_message_that_is_no_base64_is_poison_at_once(host: RunningHost) -> None:
    """What can't be decoded goes to the poison queue as it is, and the function never sees it."""
    send(host, "no base64!", plain=True)
    until("poison", lambda: waiting_in(host, "work-poison"), lambda found: "raw: no base64!" in found)
    assert host.seen("no base64!") == []


def test_a_lease_is_renewed_while_the_function_works(host: RunningHost, tmp_path: Path) -> None:
    """A function may take longer than the lease: its message does not come to another in the meantime."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    body = f"wait for {gate}"
    send(host, body)
    until("begun", lambda: host.seen(body), bool)
    # Messages that come and go one after the other are the clock: the lease has run out twice by then.
    with host.queue("work") as queue:
        hidden = queue.send_message(b64encode(b"later").decode(), visibility_timeout=2 * LEASE + 1)
    assert hidden.id
    until("later", lambda: host.seen("later"), bool)
    assert len(host.seen(body)) == 1
    gate.write_text("go on", encoding="utf-8")
    until("waited", lambda: host.seen("waited"), bool)
    until("deleted", lambda: count_of(host, "work"), lambda count: count == 0)
    assert len(host.seen(body)) == 1


def test_a_message_of_a_killed_host_comes_back(cloud: Stack, tmp_path: Path) -> None:
    """When the host dies in the middle, the message is delivered again as soon as its lease has ended."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    body = f"wait for {gate}"
    with cloud_queue(cloud, "own"):
        with host_on(cloud, tmp_path, queue="own") as host:
            send(host, body, queue="own")
            until("begun", lambda: host.seen(body), bool)
            host.process.kill()
        with host_on(cloud, tmp_path, queue="own") as host:
            gate.write_text("go on", encoding="utf-8")
            until("waited", lambda: host.seen("waited"), bool)
            assert [note["tries"] for note in host.seen(body)] == [1, 2]
