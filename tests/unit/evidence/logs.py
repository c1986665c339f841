"""A log in memory, written by the app's own code: its head, its tiles, and a key that signs its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from shared.evidence.head import Head
from shared.evidence.notes import checkpoint_text, ecdsa_key, signature_line, signed_note
from shared.evidence.tiles import ENTRIES, Tile, read_from, tiles_for
from shared.evidence.trees import Span, consistency_path, inclusion_path, perfect_subtrees, span_hash
from shared.evidence.verify import LogKeys, Proof, Tree, leaf_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.evidence.verify import VerifierKey

ORIGIN = "example.com/log"


@cache
def signing_key(number: int = 1) -> ec.EllipticCurvePrivateKey:
    """Give a key of the log: the first, the second and so on."""
    return ec.derive_private_key(20_260_300 + number, ec.SECP256R1())


@dataclass
class Log:
    """A log in memory.

    Attributes:
        tiles: the full ones.
    """

    head: Head = field(default_factory=lambda: Head(origin=ORIGIN))
    tiles: dict[Tile, bytes] = field(default_factory=dict)

    @property
    def key(self) -> VerifierKey:
        return ecdsa_key(ORIGIN, signing_key().public_key())

    @property
    def keys(self) -> LogKeys:
        return LogKeys({self.key: None})

    def append(self, *entries: bytes) -> None:
        settled, tiles = self.head.settled()
        self.tiles |= tiles
        self.head = settled.appended(entries)

    def tile(self, tile: Tile) -> bytes:
        found = self.head.tile(tile)
        return self.tiles[tile.full][: tile.width * 32] if found is None else found

    def path(self, spans: Sequence[Span], size: int) -> tuple[bytes, ...]:
        needed = tiles_for([each for span in spans for each in perfect_subtrees(span)], size)
        tiles: Mapping[Tile, bytes] = {each: self.tile(each) for each in needed}
        return tuple(span_hash(span, lambda each: read_from(tiles, size, each)) for span in spans)

    def tree(self, size: int) -> Tree:
        return Tree(size, self.path([Span(0, size)], size)[0])

    def entry(self, index: int) -> bytes:
        found = self.head.entry(index)
        if found is None:
            bundle = self.tiles[Tile(ENTRIES, index // 256)]
            for _ in range(index % 256):
                bundle = bundle[2 + int.from_bytes(bundle[:2]) :]
            found = bundle[2 : 2 + int.from_bytes(bundle[:2])]
        return found

    def checkpoint(self, size: int | None = None) -> bytes:
        text = checkpoint_text(ORIGIN, self.tree(self.head.size if size is None else size))
        signature = signing_key().sign(text.encode(), ec.ECDSA(SHA256(), deterministic_signing=True))
        return signed_note(text, signature_line(self.key, signature))

    def inclusion(self, index: int, size: int | None = None) -> Proof:
        size = self.head.size if size is None else size
        return Proof(self.entry(index), index, self.path(inclusion_path(index, size), size), self.checkpoint(size))

    def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        return self.path(consistency_path(first, second), second)


def numbered(count: int, *, batch: int = 100) -> Log:
    """Give a log with the entries ``entry 0``, ``entry 1`` and so on, appended in batches."""
    made, entries = Log(), [b"entry %d" % number for number in range(count)]
    for start in range(0, count, batch):
        made.append(*entries[start : start + batch])
    return made


@cache
def large() -> Log:
    """Give the log of the vectors of :file:`sumdb.json`."""
    return numbered(70_000, batch=1000)


def leaves(log: Log) -> list[bytes]:
    return [leaf_hash(log.entry(index)) for index in range(log.head.size)]
