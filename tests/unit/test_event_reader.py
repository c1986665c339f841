"""The example of a reader of events: killed anywhere, in any order and twice, its table says what is so."""

from __future__ import annotations

import importlib.util
import json
from base64 import b64encode
from collections import deque
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.base import example_of
from shared.contracts.events import EVENTS, event
from shared.domain.words import EventType
from tests.pki.hierarchy import NOW
from tests.unit.fakes import Killed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from types import ModuleType

    type Opened = Callable[[], sqlite3.Connection]

SAMPLE = Path(__file__).parents[2] / "samples" / "consume_events.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("consume_events", SAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader = loaded()


@dataclass
class Message:
    content: str
    dequeue_count: int = 1


@dataclass
class Account:
    """A queue account in memory; a message that is not deleted comes again, as after its lease."""

    queues: dict[str, deque[Message]] = field(default_factory=dict)
    killed_at_deletion: bool = False

    def get_queue_client(self, name: str) -> Any:
        return Client(self, self.queues.setdefault(name, deque()))


@dataclass
class Client:
    account: Account
    messages: deque[Message]

    def create_queue(self) -> None:
        pass

    def send_message(self, content: str, **_: Any) -> None:
        self.messages.append(Message(content))

    def receive_messages(self, **_: Any) -> Iterator[Message]:
        yield from list(self.messages)

    def delete_message(self, message: Message) -> None:
        if self.account.killed_at_deletion:
            raise Killed
        self.messages.remove(message)


def told(kind: EventType, seconds: int = 0, **changes: Any) -> str:
    """Give an event as the app sends it, so many seconds later."""
    at = NOW.replace(second=seconds)
    body = EVENTS[kind].model_validate({**example_of(EVENTS[kind]), **changes})
    return event(body, subject="press-1", correlation_id="c", at=at, traceparent=None, occasion=str(seconds))


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Databases in memory, each a new one."""
    with ExitStack() as databases:
        yield lambda: databases.enter_context(closing(reader.opened(":memory:")))


def devices(database: sqlite3.Connection) -> list[tuple[str, ...]]:
    return database.execute("select id, state, hub from devices order by id").fetchall()


REGISTERED, REVOKED = EventType.DEVICE_REGISTERED, EventType.DEVICE_REVOKED


def test_an_event_that_comes_twice_changes_nothing(opened: Opened) -> None:
    """Also when the reader was killed after it was entered and before its message was deleted."""
    database, account = opened(), Account()
    client = account.get_queue_client("q")
    client.send_message(b64encode(told(REGISTERED).encode()).decode())
    account.killed_at_deletion = True
    with pytest.raises(Killed):
        reader.read(account, "q", database)
    assert devices(database) == [("press-1", "registered", "hub-1.azure-devices.net")]
    account.killed_at_deletion = False
    assert (reader.read(account, "q", database), len(client.messages)) == (0, 0)
    client.send_message(told(REGISTERED))
    assert reader.read(account, "q", database) == 0
    assert devices(database) == [("press-1", "registered", "hub-1.azure-devices.net")]


def test_the_later_event_counts_in_whatever_order_they_come(opened: Opened) -> None:
    """Even within a second, where one time has a fraction and the other has none."""
    for first, second in ((0, 1), (1, 0)):
        database = opened()
        both = [told(REGISTERED), told(REVOKED).replace(":00Z", ":00.5Z")]
        for text in (both[first], both[second]):
            assert reader.apply(database, json.loads(text))
        assert devices(database)[0][:2] == ("press-1", "revoked")


def test_the_certificate_in_use_is_kept_when_an_earlier_one_is_revoked(opened: Opened) -> None:
    """The device goes on; the event names a certificate that it does not use."""
    database = opened()
    reader.apply(database, json.loads(told(REGISTERED)))
    (serial,) = database.execute("select serial from devices").fetchone()
    assert serial == example_of(EVENTS[REGISTERED])["certificate"]["serialNumber"]
    reader.apply(database, json.loads(told(REVOKED, 9, serialNumber="9" * 40, state="registered")))
    assert database.execute("select state, serial from devices").fetchone() == ("registered", serial)


@pytest.mark.parametrize("kind", list(EVENTS))
def test_every_event_of_the_contract_can_be_read(kind: EventType, opened: Opened) -> None:
    """One that is not about a device is remembered, and nothing else."""
    database = opened()
    assert reader.apply(database, reader.decoded(told(kind)))
    assert database.execute("select count(*) from events").fetchone() == (1,)


def test_a_message_that_nobody_can_read_is_put_aside_at_last(
    capsys: pytest.CaptureFixture[str], opened: Opened
) -> None:
    """It does not come for ever, and is not lost."""
    database, account = opened(), Account()
    client = account.get_queue_client("q")
    client.send_message("not base64")
    reader.read(account, "q", database)
    assert (len(client.messages), "can't read a message of q" in capsys.readouterr().out) == (1, True)
    client.messages[0].dequeue_count = 5
    reader.read(account, "q", database)
    assert [each.content for each in account.queues["q-unreadable"]] == ["not base64"]
    assert not client.messages


def test_each_reader_gets_every_event(opened: Opened) -> None:
    """Two readers of their own queues do not take each other's; a copy that comes twice is one event to each."""
    account = Account()
    source = account.get_queue_client("provisioning-events")
    source.send_message(told(REGISTERED))
    account.killed_at_deletion = True
    with pytest.raises(Killed):
        reader.share(account, "provisioning-events", ["erp", "mes"])
    account.killed_at_deletion = False
    assert reader.share(account, "provisioning-events", ["erp", "mes"]) == 1
    for name in ("erp", "mes"):
        database = opened()
        assert (len(account.queues[name]), reader.read(account, name, database)) == (2, 1)
        assert len(devices(database)) == 1
    assert not source.messages


def test_a_queue_gets_only_the_types_of_events_that_it_wants() -> None:
    """What can't be read goes to everybody, so that somebody sees it."""
    account = Account()
    source = account.get_queue_client("provisioning-events")
    source.send_message(told(REGISTERED))
    source.send_message("not base64")
    wanted = ["all", "registered=OrderCompleted,DeviceRegistered", "completed=OrderCompleted"]
    assert reader.share(account, "provisioning-events", wanted) == 2
    assert {name: len(queue) for name, queue in account.queues.items() if name != "provisioning-events"} == {
        "all": 2,
        "registered": 2,
        "completed": 1,
    }
