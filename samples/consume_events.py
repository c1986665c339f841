"""Keep a table of devices from the app's events: an example of a reader that may be killed at any time.

    python samples/consume_events.py read  --queue events-erp --database erp.db
    python samples/consume_events.py share --queue provisioning-events --to events-erp --to events-mes=OrderCompleted

A queue gives each message to one reader. Two copies of one program may read the same queue, and share its messages.
Two programs need a queue each, or they take each other's events away. With ``EVENT_TOPIC_URL`` Event Grid fills the
queues: one subscription of the topic for each, with the queue as its endpoint. Without it, ``share`` fills them; a
queue gets all events, or those of the types behind ``=``, with a comma between them.

Events come at least once and in any order. So the id of each event is written down together with what follows from it,
in one transaction, and a device keeps what the latest event says. A message is deleted after that: whoever is killed
in between gets it again, and knows its id.

The queues are those of the account ``QUEUE_SERVICE_URL``, with the identity that ``az login`` or Azure has given, or of
``AZURE_STORAGE_CONNECTION_STRING``.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
from base64 import b64decode
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceExistsError
from azure.identity import DefaultAzureCredential
from azure.storage.queue import QueueServiceClient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from azure.storage.queue import QueueClient

LEASE = 60
"""Seconds in which what was received has to be done; then the message comes again."""

TRIES = 5
"""How often a message that can't be read is looked at before it is put aside."""

STATES = {
    "CertificateIssued": "issued",
    "DeviceRegistered": "registered",
    "DeviceReinstated": None,
    "DeviceRevoked": None,
    "CertificateRenewed": "registered",
}
"""Events about one device, and its state after each; ``None`` where the event says it (``state``)."""

TABLES = """
create table if not exists events (id text primary key);
create table if not exists devices (id text primary key, state text, hub text, serial text, at text);
"""


def apply(database: sqlite3.Connection, event: dict[str, Any]) -> bool:
    """Enter an event, once; tell whether it was new."""
    with database:  # one transaction: both are written, or nothing is
        if database.execute("insert or ignore into events values (?)", (event["id"],)).rowcount == 0:
            return False
        kind, data = event["type"].removeprefix("DeviceProvisioning."), event["data"]
        device = data.get("registrationId")
        if kind not in STATES or device is None:
            return True
        uses = {**(data.get("certificate") or {}), **data} if STATES[kind] else {}  # others may name an earlier one
        database.execute(
            """
            insert into devices values (:id, :state, :hub, :serial, :at)
            on conflict (id) do update set
                state = excluded.state, hub = coalesce(excluded.hub, hub), serial = coalesce(excluded.serial, serial),
                at = excluded.at
            where excluded.at > at
            """,
            {
                "id": device,
                "state": STATES[kind] or data["state"],
                "hub": data.get("assignedHub"),
                "serial": uses.get("serialNumber"),
                "at": datetime.fromisoformat(event["time"]).astimezone(UTC).isoformat(timespec="microseconds"),
            },
        )
    return True


def decoded(text: str) -> dict[str, Any]:
    """Read a message: a CloudEvent in JSON, in base64 or as it is.

    Raises:
        ValueError: it is neither.
    """
    content = text if text.lstrip().startswith("{") else b64decode(text, validate=True).decode()
    event: dict[str, Any] = json.loads(content)
    if not {"id", "type", "time", "data"} <= event.keys():
        raise ValueError("it is not a CloudEvent of this app")
    return event


def read(queues: QueueServiceClient, name: str, database: sqlite3.Connection) -> int:
    """Take everything out of a queue, and tell how many events were new."""
    queue, new = queues.get_queue_client(name), 0
    for message in queue.receive_messages(visibility_timeout=LEASE):
        try:
            event = decoded(message.content)
        except ValueError as error:
            if (message.dequeue_count or 0) >= TRIES:
                put_aside(queues, f"{name}-unreadable", message.content)
                queue.delete_message(message)
            print(f"can't read a message of {name}: {error}")
            continue
        new += apply(database, event)
        queue.delete_message(message)  # last: whoever is killed before it gets the message again
    return new


def put_aside(queues: QueueServiceClient, name: str, content: str) -> None:
    """Keep a message that nobody can read, so that it does not come for ever."""
    created(queues, name).send_message(content)


def share(queues: QueueServiceClient, name: str, targets: Iterable[str]) -> int:
    """Put each event of a queue into those that want it, and tell how many there were. A copy may come twice.

    Args:
        queues: of the account.
        name: of the queue.
        targets: names of queues; behind ``=`` the types that one wants, as in ``events-mes=OrderCompleted``.
    """
    wanted = [
        (created(queues, target), set(filter(None, types.split(",")))) for target, _, types in map(_parted, targets)
    ]
    queue, shared = queues.get_queue_client(name), 0
    for message in queue.receive_messages(visibility_timeout=LEASE):
        kind = kind_of(message.content)
        for copy, types in wanted:
            if not types or kind is None or kind in types:  # what can't be read is for everybody to see
                copy.send_message(message.content, time_to_live=-1)  # until it is read, and not for seven days
        queue.delete_message(message)
        shared += 1
    return shared


def _parted(target: str) -> tuple[str, str, str]:
    return target.partition("=")


def kind_of(text: str) -> str | None:
    """Give the type of an event, without what all types begin with; ``None`` if it can't be read."""
    try:
        return str(decoded(text)["type"]).removeprefix("DeviceProvisioning.")
    except ValueError:
        return None


def created(queues: QueueServiceClient, name: str) -> QueueClient:
    """Give a queue, and create it if it does not exist."""
    queue = queues.get_queue_client(name)
    with suppress(ResourceExistsError):
        queue.create_queue()
    return queue


def opened(path: str) -> sqlite3.Connection:
    """Open a database, and create its tables if they do not exist."""
    database = sqlite3.connect(path)
    database.executescript(TABLES)
    return database


def connected() -> QueueServiceClient:
    """Connect to the account."""
    connection = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if connection:
        return QueueServiceClient.from_connection_string(connection)
    return QueueServiceClient(os.environ["QUEUE_SERVICE_URL"], credential=DefaultAzureCredential())


def main() -> None:
    """Do what the arguments say, until the queue is empty."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["read", "share"])
    parser.add_argument("--queue", required=True)
    parser.add_argument("--database", default="devices.db", help="of 'read': SQLite")
    parser.add_argument(
        "--to", action="append", default=[], help="of 'share': a queue, or queue=Type,Type; one for each reader"
    )
    given = parser.parse_args()
    with connected() as queues:
        if given.what == "share":
            print(f"{share(queues, given.queue, given.to)} events shared")
        else:
            with closing(opened(given.database)) as database:
                print(f"{read(queues, given.queue, database)} new events")


if __name__ == "__main__":
    main()
