"""Stand-ins of a few lines, for what the ledger and the workflows are given."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.adapters.storage import StoredBlob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from datetime import timedelta


@dataclass(frozen=True)
class FakeRow:
    values: Mapping[str, Any]
    etag: str


@dataclass
class FakeTable:
    """A table in memory. Of OData it knows what the queries of the test's subject need: a comparison of partitions."""

    rows: dict[tuple[str, str], FakeRow] = field(default_factory=dict)
    writes: int = 0

    def _store(self, values: Mapping[str, Any]) -> str:
        self.writes += 1
        etag = f"v{self.writes}"
        self.rows[values["PartitionKey"], values["RowKey"]] = FakeRow(dict(values), etag)
        return etag

    async def get(self, partition: str, row: str) -> FakeRow | None:
        return self.rows.get((partition, row))

    async def insert(self, values: Mapping[str, Any]) -> str | None:
        return None if (values["PartitionKey"], values["RowKey"]) in self.rows else self._store(values)

    async def insert_together(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        if any((row["PartitionKey"], row["RowKey"]) in self.rows for row in rows):
            return False
        for row in rows:
            self._store(row)
        return True

    async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
        present = self.rows.get((values["PartitionKey"], values["RowKey"]))
        return self._store(values) if present is not None and present.etag == etag else None

    async def put(self, values: Mapping[str, Any]) -> None:
        self._store(values)

    async def delete(self, partition: str, row: str) -> None:
        self.rows.pop((partition, row), None)

    async def query(
        self, condition: str, parameters: Mapping[str, Any], *, select: Iterable[str] | None = None
    ) -> AsyncIterator[FakeRow]:
        del select
        name, operator, parameter = condition.split()
        value = str(parameters[parameter.removeprefix("@")])
        compare: Callable[[str, str], bool] = {"eq": str.__eq__, "le": str.__le__}[operator]
        for row in sorted(self.rows.values(), key=lambda row: (row.values["PartitionKey"], row.values["RowKey"])):
            if compare(row.values[name], value):
                yield row

    async def page(
        self, condition: str, parameters: Mapping[str, Any], *, size: int, continuation: str | None
    ) -> tuple[list[FakeRow], str | None]:
        del condition, parameters, size, continuation
        return list(self.rows.values()), None


@dataclass
class FakeBlobs:
    """Blobs in memory; ``lose_answer`` makes a create succeed and look as if the blob had been there."""

    blobs: dict[str, StoredBlob] = field(default_factory=dict)
    lose_answer: bool = False

    async def create(
        self, container: str, name: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        del container, content_type
        if name in self.blobs:
            return False
        self.blobs[name] = StoredBlob(content, metadata, "v1")
        return not self.lose_answer

    async def get(self, container: str, name: str) -> StoredBlob | None:
        del container
        return self.blobs.get(name)

    async def replace(self, container: str, name: str, blob: StoredBlob, *, content_type: str) -> bool:
        del container, content_type
        if self.blobs[name].etag != blob.etag:
            return False
        self.blobs[name] = StoredBlob(blob.content, blob.metadata, blob.etag + "+")
        return True

    async def names(self, container: str, prefix: str) -> list[str]:
        del container
        return sorted(name for name in self.blobs if name.startswith(prefix))

    async def delete(self, container: str, name: str) -> None:
        del container
        self.blobs.pop(name, None)


@dataclass
class FakeQueues:
    """Remembers what was sent."""

    sent: list[tuple[str, dict[str, Any], timedelta | None]] = field(default_factory=list)

    async def send(self, queue: str, text: str, *, delay: timedelta | None = None) -> None:
        self.sent.append((queue, json.loads(text), delay))
