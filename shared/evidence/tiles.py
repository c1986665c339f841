"""Tiles: 256 hashes side by side, or the entries under them, each a file (C2SP tlog-tiles).

A tile of level 0 has the hashes of leaves; one of level n has the roots of full tiles of level n - 1. A tile is written
once, when it is full. One that is not full yet is the beginning of that, and made when it is asked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from shared.evidence.trees import Perfect, perfect_hash
from shared.evidence.verify import NotProved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH = 256
"""Hashes, or entries, of a full tile."""

HEIGHT = 8
"""The height of the subtree that a full tile spans."""

HASH_SIZE = 32
ENTRY_LIMIT = 65_535
"""Bytes of an entry: its length is written as a uint16."""

ENTRIES = -1
"""Stands for the level of bundles of entries."""

_PATH = re.compile(r"tile/(entries|0|[1-9]\d?)/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)
_LEVELS = 64


class Tile(NamedTuple):
    """One tile: its level, its number in the level from 0, and how many hashes or entries it has."""

    level: int
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Its path below the log's prefix."""
        digits = f"{self.number:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        *before, last = (digits[at : at + 3] for at in range(0, len(digits), 3))
        level = "entries" if self.level == ENTRIES else str(self.level)
        part = f".p/{self.width}" if self.width < WIDTH else ""
        return f"tile/{level}/{''.join(f'x{each}/' for each in before)}{last}{part}"

    @classmethod
    def read(cls, path: str) -> Tile | None:
        """Read a path; ``None`` if it is not one of a tile."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        level = ENTRIES if match[1] == "entries" else int(match[1])
        found = cls(level, int(re.sub(r"[x/]", "", match[2])), int(match[3] or WIDTH))
        return found if found.path == path and level < _LEVELS else None

    def exists_in(self, size: int) -> bool:
        """Tell whether a tree of so many leaves has the tile: all of its hashes."""
        return self.number * WIDTH + self.width <= size >> HEIGHT * max(self.level, 0)

    @property
    def full(self) -> Tile:
        """The tile of which this one is the beginning."""
        return self._replace(width=WIDTH)


def tile_of(subtree: Perfect, size: int) -> Tile:
    """Give the tile, of a tree with so many leaves, from whose hashes a subtree's is made."""
    level, above = divmod(subtree.height, HEIGHT)
    number = (subtree.number << above) >> HEIGHT
    return Tile(level, number, min(WIDTH, (size >> HEIGHT * level) - number * WIDTH))


def hash_in(content: bytes, subtree: Perfect) -> bytes:
    """Make a subtree's hash from its tile."""
    above = subtree.height % HEIGHT
    first = (subtree.number << above) % WIDTH
    hashes = split(content)
    found = hashes[first : first + (1 << above)]
    if len(found) < 1 << above:
        raise NotProved(f"a tile has {len(hashes)} hashes, and {first + (1 << above)} are needed")
    return perfect_hash(found)


def split(content: bytes) -> list[bytes]:
    """Give the hashes of a tile."""
    if len(content) % HASH_SIZE or len(content) > WIDTH * HASH_SIZE:
        raise NotProved(f"a tile has {len(content)} bytes, which is not a number of hashes up to {WIDTH}")
    return [content[at : at + HASH_SIZE] for at in range(0, len(content), HASH_SIZE)]


def tiles_for(subtrees: Iterable[Perfect], size: int) -> set[Tile]:
    """Give the tiles that the hashes of subtrees are made from."""
    return {tile_of(each, size) for each in subtrees}


def read_from(tiles: Mapping[Tile, bytes], size: int, subtree: Perfect) -> bytes:
    """Make a subtree's hash from tiles that were read."""
    return hash_in(tiles[tile_of(subtree, size)], subtree)


def bundled(entries: Iterable[bytes]) -> bytes:
    """Write entries as a bundle: each after its length."""
    return b"".join(len(each).to_bytes(2) + each for each in entries)


def unbundled(content: bytes) -> Sequence[bytes]:
    """Read the entries of a bundle.

    Raises:
        NotProved: it ends within an entry.
    """
    found, at = list[bytes](), 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 2])
        entry = content[at + 2 : at + 2 + length]
        if at + 2 > len(content) or len(entry) != length:
            raise NotProved("a bundle of entries ends within an entry")
        found.append(entry)
        at += 2 + length
    return found
