"""The head of a log: all of it that does not stand in full tiles yet, in one piece that is replaced as it was read.

Everything else follows from it. Tiles are written after the head that filled them, and before the next one: so they are
never ahead of it, and whoever comes next writes those that a worker left when it died.
"""

from __future__ import annotations

import json
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Self

from shared.evidence.tiles import ENTRIES, ENTRY_LIMIT, HASH_SIZE, HEIGHT, WIDTH, Tile, bundled, split, unbundled
from shared.evidence.trees import GrowingTree, perfect_hash
from shared.evidence.verify import NotProved, Tree, leaf_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A log's end.

    Attributes:
        origin: names the log.
        entries: those that stand in no full tile that was written.
        edge: from level 1 up, the hashes that stand in no full tile yet.
        written: how many entries stand in full tiles: a multiple of 256.
        projected: ids of what the last projection put into the log: see :mod:`shared.workflows.evidence`.
        turns: how many batches were appended, by which a worker sees how often others write.
        tree: all entries, with those here.
    """

    origin: str
    entries: tuple[bytes, ...] = ()
    edge: tuple[tuple[bytes, ...], ...] = ()
    written: int = 0
    projected: tuple[str, ...] = ()
    turns: int = 0
    tree: Tree = field(init=False)
    _growing: GrowingTree = field(init=False, repr=False, compare=False)
    grown: InitVar[GrowingTree | None] = None
    """The tree, where it is known already."""

    def __post_init__(self, grown: GrowingTree | None) -> None:
        growing = grown or self._grow()
        object.__setattr__(self, "_growing", growing)
        object.__setattr__(self, "tree", growing.tree)

    def _grow(self) -> GrowingTree:
        growing = GrowingTree()
        for level in range(len(self.edge), 0, -1):
            for each in self.edge[level - 1]:
                growing.append_perfect(level * HEIGHT, each)
        if growing.size != self.written:
            raise NotProved(
                f"the head of the log has hashes of {growing.size} entries, and {self.written} were written"
            )
        growing.extend(map(leaf_hash, self.entries))
        return growing

    @property
    def size(self) -> int:
        """How many entries the log has."""
        return self.tree.size

    def appended(self, entries: Sequence[bytes], *, projected: tuple[str, ...] | None = None) -> Head:
        """Give the head after entries were appended; full tiles must have been written before."""
        for each in entries:
            if not 0 < len(each) <= ENTRY_LIMIT:
                raise ValueError(f"an entry of the log has {len(each)} bytes; from 1 to {ENTRY_LIMIT} are possible")
        growing = self._growing.copy()
        growing.extend(map(leaf_hash, entries))
        return Head(
            origin=self.origin,
            entries=(*self.entries, *entries),
            edge=self.edge,
            written=self.written,
            projected=self.projected if projected is None else projected,
            turns=self.turns + 1,
            grown=growing,
        )

    def settled(self) -> tuple[Head, Mapping[Tile, bytes]]:
        """Give the head when its full tiles are written, and those tiles."""
        if len(self.entries) < WIDTH:
            return self, {}
        tiles, entries, written = dict[Tile, bytes](), self.entries, self.written
        edge = [list(each) for each in self.edge]
        while len(entries) >= WIDTH:
            full, entries = entries[:WIDTH], entries[WIDTH:]
            tiles[Tile(ENTRIES, written // WIDTH)] = bundled(full)
            _lay(tiles, edge, 0, written // WIDTH, [leaf_hash(each) for each in full])
            written += WIDTH
        settled = Head(
            origin=self.origin,
            entries=entries,
            edge=tuple(map(tuple, edge)),
            written=written,
            projected=self.projected,
            turns=self.turns,
            grown=self._growing,
        )
        return settled, tiles

    def tile(self, tile: Tile) -> bytes | None:
        """Give a tile that is not in full tiles that were written before; ``None`` if it is."""
        settled, tiles = self.settled()
        full = tiles.get(tile.full)
        if full is not None:
            return beginning(full, tile)
        if tile.number != settled.written >> HEIGHT * (max(tile.level, 0) + 1):
            return None
        if tile.level == ENTRIES:
            return bundled(settled.entries[: tile.width])
        hashes = list(map(leaf_hash, settled.entries)) if tile.level == 0 else settled.edge[tile.level - 1]
        return b"".join(hashes[: tile.width])

    def entry(self, index: int) -> bytes | None:
        """Give an entry that is here, by its place in the log; ``None`` if it is not."""
        at = index - self.written
        return self.entries[at] if 0 <= at < len(self.entries) else None

    def to_bytes(self) -> bytes:
        """Write the head: a line of JSON, then hashes, then entries."""
        line = {
            "schema": _SCHEMA,
            "origin": self.origin,
            "size": self.size,
            "root": self.tree.root.hex(),
            "written": self.written,
            "edge": [len(each) for each in self.edge],
            "projected": self.projected,
            "turns": self.turns,
        }
        hashes = b"".join(each for level in self.edge for each in level)
        return json.dumps(line).encode() + b"\n" + hashes + bundled(self.entries)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a head.

        Raises:
            NotProved: it was changed by hand, or is not whole.
        """
        line, _, rest = content.partition(b"\n")
        try:
            said = json.loads(line)
            schema = int(said["schema"])
            lengths = [int(each) for each in said["edge"]]
            edge, at = list[tuple[bytes, ...]](), 0
            for length in lengths:
                edge.append(tuple(split(rest[at : at + length * HASH_SIZE])))
                at += length * HASH_SIZE
            found = cls(
                origin=said["origin"],
                entries=tuple(unbundled(rest[at:])),
                edge=tuple(edge),
                written=said["written"],
                projected=tuple(said["projected"]),
                turns=int(said.get("turns", 0)),  # heads of before do not count them
            )
            whole = (found.size, found.tree.root.hex()) == (said["size"], said["root"])
        except KeyError as missing:
            raise NotProved(f"the head of the log can't be read: it does not have the field {missing}") from None
        except (ValueError, TypeError) as error:
            raise NotProved(f"the head of the log can't be read: {error}") from None
        if schema > _SCHEMA:
            raise NotProved(f"the head of the log is of version {schema}, and this app reads {_SCHEMA}: upgrade it")
        if not whole:
            raise NotProved(f"the head of the log does not have the {said['size']} entries and the root that it names")
        return found


def _lay(tiles: dict[Tile, bytes], edge: list[list[bytes]], level: int, number: int, hashes: Sequence[bytes]) -> None:
    """Lay a full tile, and its hash into the tile above, which may be full by that."""
    tiles[Tile(level, number)] = b"".join(hashes)
    if len(edge) == level:
        edge.append([])
    above = edge[level]
    above.append(perfect_hash(hashes))
    if len(above) == WIDTH:
        _lay(tiles, edge, level + 1, number // WIDTH, list(above))
        above.clear()


def beginning(content: bytes, tile: Tile) -> bytes:
    """Give the beginning of a full tile that another one is."""
    if tile.width == WIDTH:
        return content
    if tile.level == ENTRIES:
        return bundled(unbundled(content)[: tile.width])
    return content[: tile.width * HASH_SIZE]
