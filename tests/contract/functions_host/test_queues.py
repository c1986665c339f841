"""Queue triggers: the semantics of Microsoft's queue extension."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from datetime import timedelta
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


def test_a_poison_message_that_fails_again_stays_hidden_for_its_lease_and_ends_after_five_tries(
    cloud: Stack, tmp_path: Path
) -> None:
    """It is not given back at once; after the fifth try no function sees it, and it is in no other queue."""
    with cloud_queue(cloud, "twice"), host_on(cloud, tmp_path, queue="twice", poison="twice-poison", lease=1) as host:
        send(host, "fail always", queue="twice-poison")
        until("the first try", lambda: host.seen("poison fail always"), bool)
        assert waiting_in(host, "twice-poison") == []
        until("the fifth try", lambda: host.seen("poison fail always"), lambda seen: len(seen) == 5, seconds=60)
        # A message that comes three leases later is the clock: the host has taken the other one a sixth time by then.
        with host.queue("twice") as queue:
            queue.send_message(b64encode(b"later").decode(), visibility_timeout=3)
        until("later", lambda: host.seen("later"), bool, seconds=60)
        assert [note["tries"] for note in host.seen("poison fail always")] == [1, 2, 3, 4, 5]
        assert count_of(host, "twice-poison") == 1


def test_a_poison_copy_lives_as_long_as_the_service_lets_it(cloud: Stack, tmp_path: Path) -> None:
    """Seven days, since the host names no time to live."""
    with cloud_queue(cloud, "short"), host_on(cloud, tmp_path, queue="short") as host:
        send(host, "no base64!", plain=True, queue="short")
        with host.queue("short-poison") as queue:
            (message,) = until("poison", lambda: list(queue.peek_messages(1)), bool)
    assert message.expires_on is not None
    assert message.inserted_on is not None
    assert message.expires_on - message.inserted_on == timedelta(days=7)


def test_a_function_that_takes_too_long_costs_its_neighbours_their_worker(cloud: Stack, tmp_path: Path) -> None:
    """After functionTimeout the worker starts anew; what it was doing has failed, and is tried again."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    neighbour = f"wait for {gate}"
    limit = {"AzureFunctionsJobHost__functionTimeout": "00:00:03"}
    with cloud_queue(cloud, "slow"), host_on(cloud, tmp_path, queue="slow", settings=limit) as host:
        send(host, "hang", queue="slow")
        send(host, neighbour, queue="slow")
        until("begun again", lambda: host.seen("hang"), lambda seen: len(seen) == 2, seconds=60)
        gate.write_text("go on", encoding="utf-8")
        until("waited", lambda: host.seen("waited"), bool)
        until("deleted", lambda: count_of(host, "slow"), lambda count: count == 0)
        assert [note["tries"] for note in host.seen("hang")] == [1, 2]
        assert [note["tries"] for note in host.seen(neighbour)] == [1, 2]
        assert host.process.poll() is None


def test_a_host_that_may_not_read_its_queue_ends_and_is_started_again(cloud: Stack, tmp_path: Path) -> None:
    """A 403 is not waited for: the host says so and ends, again and again, until the role is there."""
    account = dict(part.split("=", 1) for part in cloud.endpoints.storage_connection_string.split(";") if part)
    account["AccountKey"] = b64encode(b"another key").decode()
    wrong = ";".join(f"{name}={value}" for name, value in account.items())
    with host_on(cloud, tmp_path, queue="closed", settings={"DeviceFactoryStorage": wrong}) as host:
        said = "an unhandled error has occurred, and the host ends: ClientAuthenticationError"
        until("two ends", lambda: host.log.count(said), lambda count: count >= 2, seconds=60)
        assert host.process.poll() is None


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
