"""Where the log is: its head and its tiles."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.errors import Deferred, LogDamaged
from shared.evidence.head import Head, beginning
from shared.evidence.tiles import ENTRIES, WIDTH, Tile, read_from, split, tiles_for, unbundled
from shared.evidence.trees import Span, perfect_hash, perfect_subtrees, span_hash
from shared.evidence.verify import NotProved, Tree, leaf_hash
from shared.ports.blobs import StoredBlob

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.ports.blobs import Blobs

LOG = "log"
"""Container of the tiles. They are written once: it can have an immutability policy."""

LOG_HEAD = "loghead"
"""Container of the head, which is replaced with each batch of entries."""

HEAD_NAME = "head"
_TYPE = "application/octet-stream"
_BEGINS = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHead:
    """A head as read or written; one that does not exist yet has an empty ETag."""

    head: Head
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStorage:
    """Reads and writes the log's blobs.

    Attributes:
        origin: names the log; empty in a zone that does not begin it.
    """

    blobs: Blobs
    origin: str

    def is_other(self, origin: str) -> bool:
        """Tell whether a checkpoint is of the log that was there before this one, which another setting has begun."""
        return self.origin not in {"", origin}

    async def head(self) -> StoredHead:
        """Read the head.

        Raises:
            LogDamaged: it is gone, though there are tiles; or it was changed by hand.
        """
        stored = await self.blobs.get(LOG_HEAD, HEAD_NAME)
        if stored is None:
            if await self.blobs.describe(LOG, Tile(ENTRIES, 0).path) is not None:
                raise LogDamaged(f"the log has tiles, and its head (blob {HEAD_NAME!r} in {LOG_HEAD!r}) is gone")
            if not self.origin:
                raise Deferred("the log has not begun: the zone of issuing begins it", retry_after=_BEGINS)
            return StoredHead(head=Head(origin=self.origin), etag="")
        try:
            head = Head.from_bytes(stored.content)
        except NotProved as error:
            raise LogDamaged(str(error)) from None
        if self.origin not in {"", head.origin}:
            raise LogDamaged(f"the head is that of the log {head.origin!r}, and the settings name {self.origin!r}")
        return StoredHead(head=head, etag=stored.etag)

    async def replace(self, known: StoredHead, head: Head) -> StoredHead | None:
        """Replace the head as it was read; ``None`` if it has changed since."""
        blob = StoredBlob(head.to_bytes(), {}, known.etag)
        etag = await self.blobs.exchange(LOG_HEAD, HEAD_NAME, blob, content_type=_TYPE)
        return StoredHead(head=head, etag=etag) if etag else None

    async def write(self, tiles: Mapping[Tile, bytes]) -> None:
        """Write full tiles; those that are there must be the same.

        Raises:
            LogDamaged: another tile is in the place of one.
        """
        for tile, content in tiles.items():
            if await self.blobs.create(LOG, tile.path, content, content_type=_TYPE, metadata={}):
                continue
            present = await self.blobs.get(LOG, tile.path)
            if present is None or present.content != content:
                raise LogDamaged(
                    f"another tile is in the place of {tile.path!r}: the log was forked or changed by hand"
                )

    async def tile(self, head: Head, tile: Tile) -> bytes:
        """Read a tile of the log as a head has it.

        Raises:
            LogDamaged: it is gone.
        """
        found = head.tile(tile)
        if found is not None:
            return found
        stored = await self.blobs.get(LOG, tile.full.path)
        if stored is None:
            raise LogDamaged(f"the tile {tile.full.path!r} is gone")
        try:
            return beginning(stored.content, tile)
        except NotProved as error:
            raise LogDamaged(f"the tile {tile.full.path!r} was changed by hand: {error}") from None

    async def entries(self, head: Head, first: int, last: int) -> Sequence[bytes]:
        """Read entries from one place up to another, which is not among them."""
        found = list[bytes]()
        for number in range(first // WIDTH, -(-min(last, head.written) // WIDTH)):
            start = number * WIDTH
            bundle = unbundled(await self.tile(head, Tile(ENTRIES, number)))
            found += bundle[max(0, first - start) : last - start]
        return [*found, *head.entries[max(0, first - head.written) : max(0, last - head.written)]]

    async def hashes(self, head: Head, spans: Sequence[Span], size: int) -> list[bytes]:
        """Make hashes of spans of the tree with so many leaves.

        Raises:
            LogDamaged: a tile that is needed is gone, or too short.
        """
        needed = sorted(tiles_for([each for span in spans for each in perfect_subtrees(span)], size))
        contents = await asyncio.gather(*(self.tile(head, each) for each in needed))
        tiles = dict(zip(needed, contents, strict=True))
        try:
            return [span_hash(span, lambda each: read_from(tiles, size, each)) for span in spans]
        except NotProved as error:
            raise LogDamaged(str(error)) from None

    async def tree(self, head: Head, size: int) -> Tree:
        """Give the tree as it was when it had so many leaves."""
        if size == head.size:
            return head.tree
        return Tree(size, (await self.hashes(head, [Span(0, size)], size))[0])

    async def check_newest_tiles(self, head: Head) -> None:
        """See that the newest full tiles are those from which the head was made.

        Raises:
            LogDamaged: one is gone, or another one is in its place.
        """
        if not head.written:
            return
        number = head.written // WIDTH - 1
        hashes, entries = await asyncio.gather(self.tile(head, Tile(0, number)), self.tile(head, Tile(ENTRIES, number)))
        wanted = next((level[-1] for level in head.edge if level), None)
        level = next((place for place, each in enumerate(head.edge, start=1) if each), 1)
        try:
            if b"".join(map(leaf_hash, unbundled(entries))) != hashes:
                raise LogDamaged(
                    f"the entries of {Tile(ENTRIES, number).path!r} are not those of {Tile(0, number).path!r}"
                )
            if level == 1 and perfect_hash(split(hashes)) != wanted:
                raise LogDamaged(f"another tile is in the place of {Tile(0, number).path!r}")
        except NotProved as error:
            raise LogDamaged(f"the tile {Tile(0, number).path!r} was changed by hand: {error}") from None
