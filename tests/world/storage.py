"""A storage account in memory: tables, blobs and queues with the semantics that the app relies on; each call is a step.

``tests/contract/in_memory/test_storage.py`` holds it against the app's adapters over Azurite.
"""

from __future__ import annotations

import base64
import operator
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError

from shared.contracts.messages import Queue
from shared.errors import Rejected
from shared.ports.blobs import BlobDescription, StoredBlob
from shared.ports.queues import TakenMessage
from shared.ports.rows import Delete, Insert, Merge, Put, Replace
from tests.world.conductor import AtOnce, Conductor
from tests.world.trace import Watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from shared.domain.record import Record
    from shared.ports.rows import Step

type Key = tuple[str, str]

TRANSACTION_LIMIT = 100
_COMPARISONS = {
    "eq": operator.eq,
    "ne": operator.ne,
    "le": operator.le,
    "lt": operator.lt,
    "ge": operator.ge,
    "gt": operator.gt,
}


class Columns(dict[str, Any]):
    """What a row holds, which nobody changes; the records in it are read once, whoever looks, since they are frozen."""

    __slots__ = ("as_read",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.as_read: dict[type[Record], Record] = {}


def read_once(values: Mapping[str, Any], kind: type[Record], read: Callable[[Mapping[str, Any]], Record]) -> Record:
    """Read a record out of a row, unless it has been read."""
    if not isinstance(values, Columns):
        return read(values)
    if kind not in values.as_read:
        values.as_read[kind] = read(values)
    return values.as_read[kind]


@dataclass(frozen=True)
class Row:
    values: Mapping[str, Any]
    etag: str

    def read[R: Record](self, kind: type[R]) -> R:
        """Give the record in it."""
        return kind.from_columns(self.values)


@dataclass
class Table:
    """A table: rows under ETags, transactions of one partition, filters of comparisons joined by ``and``.

    Attributes:
        writes: how often a row was written.
        careless: whether it takes no notice of ETags, as no table does: to see that the auditor sees it.
    """

    name: str = "table"
    conductor: Conductor = field(default_factory=Conductor)
    rows: dict[Key, Row] = field(default_factory=dict)
    writes: int = 0
    careless: bool = False
    seen_at_once: frozenset[str] = frozenset()
    """Partitions whose rows are read in no step: what is seen there holds for seconds, and others wait for the look."""

    async def get(self, partition: str, row: str) -> Row | None:
        conductor = AtOnce(self.conductor) if partition in self.seen_at_once else self.conductor
        async with conductor.step(f"{self.name}.get", "tables"):
            return self.rows.get((partition, row))

    async def insert(self, values: Mapping[str, Any]) -> str | None:
        async with self.conductor.step(f"{self.name}.insert", "tables"):
            return None if _key(values) in self.rows else self._written([values])[0]

    async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
        async with self.conductor.step(f"{self.name}.replace", "tables"):
            present = self.rows.get(_key(values))
            fits = present is not None and (self.careless or present.etag == etag)
            return self._written([values])[0] if fits else None

    async def put(self, values: Mapping[str, Any]) -> None:
        async with self.conductor.step(f"{self.name}.put", "tables"):
            self._written([values])

    async def delete(self, partition: str, row: str) -> None:
        async with self.conductor.step(f"{self.name}.delete", "tables"):
            self.rows.pop((partition, row), None)

    async def delete_unchanged(self, partition: str, row: str, etag: str) -> bool:
        async with self.conductor.step(f"{self.name}.delete", "tables"):
            present = self.rows.get((partition, row))
            if present is not None and present.etag != etag:
                return False
            self.rows.pop((partition, row), None)
            return True

    async def insert_together(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        return await self.write_together([Insert(row) for row in rows]) is not None

    async def write_together(self, steps: Sequence[Step]) -> list[str] | None:
        if len({_key(step.values)[0] for step in steps}) > 1:
            raise ValueError("a transaction has one partition")
        async with self.conductor.step(f"{self.name}.transaction", "tables"):
            if len({_key(step.values) for step in steps}) < len(steps) or len(steps) > TRANSACTION_LIMIT:
                raise HttpResponseError("a transaction has each row once, and at most 100")
            if not all(self._possible(step) for step in steps):
                return None
            for step in steps:
                if isinstance(step, Delete):
                    self.rows.pop(_key(step.values))
            etags = iter(self._written([self._values(step) for step in steps if not isinstance(step, Delete)]))
            return ["" if isinstance(step, Delete) else next(etags) for step in steps]

    def _possible(self, step: Step) -> bool:
        present = self.rows.get(_key(step.values))
        match step:
            case Insert():
                return present is None
            case Replace():
                return present is not None and (self.careless or present.etag == step.etag)
            case Merge() | Delete():
                return present is not None
            case Put():
                return True

    def _values(self, step: Step) -> Mapping[str, Any]:
        return {**self.rows[_key(step.values)].values, **step.values} if isinstance(step, Merge) else step.values

    async def query(
        self, condition: str, parameters: Mapping[str, Any], *, select: Iterable[str] | None = None
    ) -> AsyncIterator[Row]:
        columns = set(select) if select is not None else None
        async with self.conductor.step(f"{self.name}.query", "tables"):
            found = self._matching(condition, parameters)
        for row in found:
            yield row if columns is None else Row({key: row.values[key] for key in columns & row.values.keys()}, "")

    async def page(
        self, condition: str, parameters: Mapping[str, Any], *, size: int, continuation: str | None
    ) -> tuple[list[Row], str | None]:
        begin = _position(continuation) if continuation else ("", "")
        async with self.conductor.step(f"{self.name}.page", "tables"):
            found = [row for row in self._matching(condition, parameters) if _key(row.values) >= begin]
        return found[:size], "\n".join(_key(found[size].values)) if len(found) > size else None

    def _matching(self, condition: str, parameters: Mapping[str, Any]) -> list[Row]:
        terms = [term.split() for term in condition.split(" and ")] if condition else []
        return [
            row
            for row in self._below([parameters[given[1:]] for name, verb, given in terms if _is_partition(name, verb)])
            # A row without the column does not match, whatever the comparison.
            if all(
                name in row.values and _COMPARISONS[verb](row.values[name], parameters[given[1:]])
                for name, verb, given in terms
            )
        ]

    def _below(self, partitions: Sequence[str]) -> list[Row]:
        """Give the rows of a partition, or of all if none is named, in the order of their keys."""
        if isinstance(self.rows, Watched):
            return self.rows.below(*partitions[:1])
        return [self.rows[key] for key in sorted(self.rows) if not partitions or key[0] == partitions[0]]

    def _written(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Write rows at once, and give their ETags."""
        return [self._store(values) for values in rows]

    def _store(self, values: Mapping[str, Any]) -> str:
        self.writes += 1
        kept = Columns({name: value for name, value in values.items() if value is not None})
        self.rows[_key(values)] = Row(kept, f"v{self.writes}")
        return f"v{self.writes}"


def _key(values: Mapping[str, Any]) -> Key:
    return values["PartitionKey"], values["RowKey"]


def _is_partition(name: str, verb: str) -> bool:
    return (name, verb) == ("PartitionKey", "eq")


def _position(continuation: str) -> Key:
    partition, found, row = continuation.partition("\n")
    if not found or "\n" in row:
        raise Rejected.because(
            f"{continuation[:100]!r} is not a valid continuation; give the one of the previous page, unchanged",
            field="continuationToken",
        )
    return partition, row


@dataclass
class Tables:
    """The account's tables, each made when it is asked for."""

    conductor: Conductor = field(default_factory=Conductor)
    tables: dict[str, Table] = field(default_factory=dict)
    without_steps: frozenset[str] = frozenset()
    """Tables at which nobody is held: what is written there is a part of the step before."""

    seen_at_once: frozenset[str] = frozenset()

    def table(self, name: str) -> Table:
        if name not in self.tables:
            conductor = AtOnce(self.conductor) if name in self.without_steps else self.conductor
            rows: dict[Key, Row] = Watched(self.conductor.trace, name)
            self.tables[name] = Table(name, conductor, rows, seen_at_once=self.seen_at_once)
        return self.tables[name]

    async def check(self) -> None:
        async with self.conductor.step("check", "tables"):
            pass

    async def close(self) -> None:
        pass


@dataclass
class Blobs:
    """Block blobs under ETags, by container and name.

    Attributes:
        types: the media type that each was last written with.
        writes: how often a blob was written.
    """

    conductor: Conductor = field(default_factory=Conductor)
    blobs: dict[Key, StoredBlob] = field(default_factory=dict)
    types: dict[Key, str] = field(default_factory=dict)
    writes: int = 0

    async def create(
        self, container: str, name: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        async with self.conductor.step("blobs.create", "blobs"):
            if (container, name) in self.blobs:
                return False
            self._store(container, name, content, metadata, content_type)
            return True

    async def replace(self, container: str, name: str, blob: StoredBlob, *, content_type: str) -> bool:
        async with self.conductor.step("blobs.replace", "blobs"):
            present = self.blobs.get((container, name))
            if present is None or present.etag != blob.etag:
                return False
            self._store(container, name, blob.content, blob.metadata, content_type)
            return True

    async def exchange(self, container: str, name: str, blob: StoredBlob, *, content_type: str) -> str | None:
        async with self.conductor.step("blobs.exchange", "blobs"):
            present = self.blobs.get((container, name))
            if (present.etag if present else "") != blob.etag:
                return None
            self._store(container, name, blob.content, blob.metadata, content_type)
            return self.blobs[container, name].etag

    async def put(self, container: str, name: str, content: bytes, *, content_type: str) -> None:
        async with self.conductor.step("blobs.put", "blobs"):
            self._store(container, name, content, {}, content_type)

    async def write(self, container: str, name: str, parts: AsyncIterator[bytes], *, content_type: str) -> None:
        content = b"".join([part async for part in parts])
        async with self.conductor.step("blobs.write", "blobs"):
            self._store(container, name, content, {}, content_type)

    async def get(self, container: str, name: str) -> StoredBlob | None:
        async with self.conductor.step("blobs.get", "blobs"):
            return self.blobs.get((container, name))

    async def part(self, container: str, name: str, *, etag: str, start: int, length: int) -> bytes | None:
        async with self.conductor.step("blobs.part", "blobs"):
            stored = self.blobs.get((container, name))
            return stored.content[start : start + length] if stored and stored.etag == etag else None

    async def describe(self, container: str, name: str) -> BlobDescription | None:
        async with self.conductor.step("blobs.describe", "blobs"):
            stored = self.blobs.get((container, name))
            return BlobDescription(len(stored.content), stored.metadata, stored.etag) if stored else None

    async def names(self, container: str, prefix: str) -> list[str]:
        async with self.conductor.step("blobs.names", "blobs"):
            return sorted(name for place, name in self.blobs if place == container and name.startswith(prefix))

    async def page_of_names(
        self, container: str, *, size: int, continuation: str | None
    ) -> tuple[list[str], str | None]:
        async with self.conductor.step("blobs.page_of_names", "blobs"):
            found = sorted(name for place, name in self.blobs if place == container and name > (continuation or ""))
            return found[:size], found[size - 1] if len(found) > size else None

    async def delete(self, container: str, name: str) -> None:
        async with self.conductor.step("blobs.delete", "blobs"):
            self.blobs.pop((container, name), None)

    async def check(self) -> None:
        async with self.conductor.step("check", "blobs"):
            pass

    async def close(self) -> None:
        pass

    def _store(self, container: str, name: str, content: bytes, metadata: Mapping[str, str], content_type: str) -> None:
        assert re.fullmatch(r"[a-z]+/[a-z.+-]+", content_type), f"{content_type!r} is not a media type"
        self.types[container, name] = content_type
        self.writes += 1
        self.blobs[container, name] = StoredBlob(content, dict(metadata), f"v{self.writes}")


@dataclass(frozen=True)
class Queued:
    """A message in its queue.

    Attributes:
        number: the order in which it came.
        content: base64, as the app sends it.
        visible: from when on it can be taken.
        taken: how often it was taken.
        changes: how often it was taken or hidden, each of which gives a new receipt.
        receipt: proves who took it last.
    """

    number: int
    content: str
    inserted: datetime
    visible: datetime
    taken: int = 0
    changes: int = 0
    receipt: str = ""

    @property
    def message_id(self) -> str:
        return f"m{self.number}"

    @property
    def text(self) -> str:
        return base64.b64decode(self.content).decode()


@dataclass
class Queues:
    """Queues: a message that is taken is hidden for a while, and comes again unless who took it deletes it."""

    conductor: Conductor = field(default_factory=Conductor)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    queues: dict[str, list[Queued]] = field(default_factory=dict)
    count: int = 0

    async def send(self, queue: str, text: str, *, delay: timedelta | None = None) -> None:
        async with self.conductor.step(f"send {queue}", "queues"):
            self.put(queue, text, delay=delay)

    def put(self, queue: str, text: str, *, delay: timedelta | None = None) -> Queued:
        """Put a message, outside of all steps."""
        seconds = int(delay.total_seconds()) if delay else 0
        now = self.clock()
        content = base64.b64encode(text.encode()).decode()
        if queue == Queue.PROVISIONING_EVENTS:
            # Nobody here takes events, and whoever reads them reads all: in which order they came is all the same.
            self.conductor.trace.note("messages", queue, content, changed=True)
            number = len(self.queues.get(queue, ())) + 1
        else:
            self._note(queue, changed=True)
            number = self.count = self.count + 1
        message = Queued(number, content, now, now + timedelta(seconds=seconds))
        self.queues.setdefault(queue, []).append(message)
        return message

    async def take(self, queue: str, *, lease: timedelta) -> AsyncIterator[TakenMessage]:
        while True:
            async with self.conductor.step(f"take {queue}", "queues"):
                message = self.receive(queue, lease=lease)
            if message is None:
                return
            yield TakenMessage(message.message_id, message.content.encode(), message.inserted, message.receipt)

    def lying(self, queue: str) -> Sequence[Queued]:
        """Give what lies in a queue."""
        self._note(queue)
        return self.queues.get(queue, ())

    def receive(self, queue: str, *, lease: timedelta) -> Queued | None:
        """Take the first message that is visible, outside of all steps; ``None`` if there is none."""
        now = self.clock()
        found = next((message for message in self.lying(queue) if message.visible <= now), None)
        return self.lease(queue, found, lease=lease) if found is not None else None

    def lease(self, queue: str, message: Queued, *, lease: timedelta) -> Queued:
        """Take a message, outside of all steps."""
        return self._change(queue, message, visible=self.clock() + lease, taken=message.taken + 1)

    async def waiting_since(self, queue: str) -> datetime | None:
        async with self.conductor.step(f"look into {queue}", "queues"):
            now = self.clock()
            return next((each.inserted for each in self.lying(queue) if each.visible <= now), None)

    async def delete(self, queue: str, message_id: str, receipt: str) -> None:
        async with self.conductor.step(f"delete in {queue}", "queues"):
            self.remove(queue, message_id, receipt)

    def remove(self, queue: str, message_id: str, receipt: str) -> bool:
        """Delete a message that was taken, outside of all steps; ``False`` if it is gone.

        Raises:
            HttpResponseError: somebody else has taken it since.
        """
        present = self._find(queue, message_id)
        if present is None:
            return False
        if present.receipt != receipt:
            raise HttpResponseError("the pop receipt does not match")
        self.conductor.trace.note("messages", queue, message_id, changed=True)
        self.queues[queue].remove(present)
        return True

    def hide(self, queue: str, message: Queued, *, seconds: int) -> bool:
        """Have a message that was taken come again after so long; ``False`` if it is gone, or others have taken it."""
        present = self._find(queue, message.message_id)
        if present is None or present.receipt != message.receipt:
            return False
        self._change(queue, present, visible=self.clock() + timedelta(seconds=seconds))
        return True

    def _note(self, queue: str, *, changed: bool = False) -> None:
        """Note that somebody looks through a queue, or puts in what gets the next number; workers go by the numbers."""
        self.conductor.trace.note("messages", queue, changed=changed)
        if changed:
            self.conductor.trace.note("numbers", changed=True)

    def _find(self, queue: str, message_id: str) -> Queued | None:
        self.conductor.trace.note("messages", queue, message_id)
        return next((each for each in self.queues.get(queue, []) if each.message_id == message_id), None)

    def _change(self, queue: str, message: Queued, *, visible: datetime, taken: int | None = None) -> Queued:
        self.conductor.trace.note("messages", queue, message.message_id, changed=True)
        changed = replace(
            message,
            visible=visible,
            taken=message.taken if taken is None else taken,
            changes=message.changes + 1,
            receipt=f"r{message.number}, {message.changes + 1}",
        )
        lying = self.queues[queue]
        lying[lying.index(message)] = changed
        return changed

    async def check(self) -> None:
        async with self.conductor.step("check", "queues"):
            pass

    async def close(self) -> None:
        pass
