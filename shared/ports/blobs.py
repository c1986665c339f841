"""Blobs, as workflows need them: created once, or replaced as they were read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as read."""

    content: bytes
    metadata: Mapping[str, str]
    etag: str


@dataclass(frozen=True, slots=True)
class BlobDescription:
    """What can be known of a blob without reading it.

    Attributes:
        size: bytes.
        metadata: names in the case that the service gives them in, so write them in lower case.
    """

    size: int
    metadata: Mapping[str, str]
    etag: str


class Blobs(Protocol):
    """Block blobs in containers."""

    async def create(
        self, container: str, name: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        """Create a blob; ``False`` if it exists."""
        ...

    async def replace(self, container: str, name: str, blob: StoredBlob, *, content_type: str) -> bool:
        """Overwrite a blob as it was read (``blob.etag``); ``False`` if it has changed or gone since."""
        ...

    async def exchange(self, container: str, name: str, blob: StoredBlob, *, content_type: str) -> str | None:
        """Overwrite a blob as it was read (``blob.etag``), or create one (an empty ETag), and give its new ETag.

        ``None`` if it has changed or gone since, or exists.
        """
        ...

    async def write(self, container: str, name: str, parts: AsyncIterator[bytes], *, content_type: str) -> None:
        """Create or overwrite a blob with what comes part by part; never more than some parts are held."""
        ...

    async def get(self, container: str, name: str) -> StoredBlob | None:
        """Read a whole blob, ``None`` if it does not exist."""
        ...

    async def part(self, container: str, name: str, *, etag: str, start: int, length: int) -> bytes | None:
        """Read a part of a blob as it was when it had this ETag; ``None`` if it has changed or gone since."""
        ...

    async def names(self, container: str, prefix: str) -> list[str]:
        """List the names of blobs that begin with a prefix, in order."""
        ...

    async def page_of_names(
        self, container: str, *, size: int, continuation: str | None
    ) -> tuple[list[str], str | None]:
        """List one page of the names of all blobs, in order, and the continuation of the next page."""
        ...

    async def delete(self, container: str, name: str) -> None:
        """Delete a blob, if it exists."""
        ...

    async def describe(self, container: str, name: str) -> BlobDescription | None:
        """Describe a blob without reading it, ``None`` if it does not exist."""
        ...
