"""Tables, as the ledger needs them: rows under ETags, and writes of which several make a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Insert:
    """A row that must not exist yet."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replace:
    """A row that must be as it was read."""

    values: Mapping[str, Any]
    etag: str


@dataclass(frozen=True, slots=True)
class Merge:
    """Columns of a row that exists; the others stay."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Put:
    """A row that is created or replaced, whatever it was."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delete:
    """A row that exists, to be deleted; its two keys are enough."""

    values: Mapping[str, Any]


type Step = Insert | Replace | Merge | Put | Delete
"""One write of a transaction (Azure Tables: entity group transactions)."""


class Row(Protocol):
    """A row as read, with the ETag that guards its replacement."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Its columns."""
        ...

    @property
    def etag(self) -> str:
        """Its version."""
        ...


class Table(Protocol):
    """One table."""

    async def get(self, partition: str, row: str) -> Row | None:
        """Read one row, ``None`` if it does not exist, or none can have its key."""
        ...

    async def insert(self, values: Mapping[str, Any]) -> str | None:
        """Create a row and give its ETag; ``None`` if it exists."""
        ...

    async def insert_together(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Create rows of one partition, all or none; ``False`` if one exists."""
        ...

    async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
        """Replace a row as it was read and give its new ETag; ``None`` if it has changed or gone since."""
        ...

    async def put(self, values: Mapping[str, Any]) -> None:
        """Create or replace a row."""
        ...

    async def write_together(self, steps: Sequence[Step]) -> Sequence[str] | None:
        """Write rows of one partition, all or none, and give their ETags; ``None`` if a step met another state.

        A row that is deleted has an empty ETag.
        """
        ...

    async def delete(self, partition: str, row: str) -> None:
        """Delete a row, if it exists."""
        ...

    async def delete_unchanged(self, partition: str, row: str, etag: str) -> bool:
        """Delete a row as it was read; ``False`` if it has changed since. One that is gone is deleted."""
        ...

    def query(
        self, condition: str, parameters: Mapping[str, Any], *, select: Iterable[str] | None = None
    ) -> AsyncIterator[Row]:
        """List rows in the order of their keys."""
        ...

    async def page(
        self, condition: str, parameters: Mapping[str, Any], *, size: int, continuation: str | None
    ) -> tuple[Sequence[Row], str | None]:
        """List one page, and the continuation of the next."""
        ...
