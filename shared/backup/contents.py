"""What is in an archive: rows and blobs, a line of JSON each, and a manifest with counts and digests at the end."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from shared.backup.sealing import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_DATE, _BINARY = "dateTime", "binary"


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row of a table."""

    table: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob of a container."""

    container: str
    name: str
    content: bytes
    metadata: Mapping[str, str]


@dataclass(slots=True)
class Part:
    """How much of a table or a container there is, and the digest of its lines."""

    count: int = 0
    digest: Any = field(default_factory=sha256)

    def add(self, line: bytes) -> None:
        """Count a line."""
        self.count += 1
        self.digest.update(line + b"\n")

    def shown(self) -> dict[str, Any]:
        """Give it as the manifest has it."""
        return {"count": self.count, "sha256": self.digest.hexdigest()}


@dataclass(slots=True)
class Manifest:
    """What an archive has.

    Attributes:
        epoch: of the ledger, when reading began.
        begun_at: when that was.
    """

    epoch: int
    begun_at: str
    parts: dict[str, Part] = field(default_factory=dict)

    def add(self, name: str, line: bytes) -> None:
        """Count a line of a table or a container."""
        self.parts.setdefault(name, Part()).add(line)

    def part(self, name: str) -> dict[str, Any]:
        """Give what is said of a table or a container; of one that has nothing as well."""
        return self.parts.get(name, Part()).shown()

    def line(self) -> bytes:
        """Write it."""
        parts = {name: part.shown() for name, part in sorted(self.parts.items())}
        return _json({"manifest": {"epoch": self.epoch, "begunAt": self.begun_at, "parts": parts}})

    def shown(self) -> str:
        """Say what is in it."""
        counts = ", ".join(f"{part.count} of {name}" for name, part in sorted(self.parts.items()))
        return f"epoch {self.epoch}, read from {self.begun_at}: {counts or 'nothing'}"


def line_of(what: StoredRow | StoredBlob) -> tuple[str, bytes]:
    """Write a row or a blob; give also which part it belongs to."""
    if isinstance(what, StoredRow):
        return what.table, _json({"row": what.table, "values": {k: _written(v) for k, v in what.values.items()}})
    content = {"name": what.name, "content": b64encode(what.content).decode(), "metadata": dict(what.metadata)}
    return f"{what.container}/", _json({"blob": what.container, **content})


def contents(lines: Iterable[bytes]) -> Iterator[StoredRow | StoredBlob | Manifest]:
    """Read lines; the manifest comes last, when everything was compared with it.

    Raises:
        ArchiveError: the manifest is missing, or is of something else.
    """
    seen, said = Manifest(0, ""), None
    for line in lines:
        if said is not None:
            raise ArchiveError("the archive goes on after its manifest")
        found = json.loads(line)
        if "manifest" in found:
            said = found["manifest"]
            continue
        if "row" in found:
            seen.add(found["row"], line)
            yield StoredRow(found["row"], {name: _read(value) for name, value in found["values"].items()})
        else:
            seen.add(f"{found['blob']}/", line)
            yield StoredBlob(found["blob"], found["name"], b64decode(found["content"]), found["metadata"])
    if said is None:
        raise ArchiveError("the archive has no manifest: it was not finished")
    if {name: part.shown() for name, part in seen.parts.items()} != said["parts"]:
        raise ArchiveError("the archive does not have what its manifest says")
    yield Manifest(said["epoch"], said["begunAt"], seen.parts)


def _written(value: Any) -> Any:
    """Write a column; one whose type JSON does not have, with its type."""
    if isinstance(value, datetime):
        return {"type": _DATE, "value": value.isoformat()}
    if isinstance(value, bytes):
        return {"type": _BINARY, "value": b64encode(value).decode()}
    if isinstance(value, tuple):  # a value and its type, as the SDK gives what Python has no type for
        kind = value[1]
        return {"type": str(getattr(kind, "value", kind)), "value": value[0]}
    return value


def _read(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value["type"] == _DATE:
        return datetime.fromisoformat(value["value"])
    if value["type"] == _BINARY:
        return b64decode(value["value"])
    return value["value"], value["type"]


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
