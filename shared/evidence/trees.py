"""Roots and proofs of Merkle trees from the hashes of their perfect subtrees (RFC 9162 section 2.1).

A subtree is perfect if it has 2^height leaves and begins at a multiple of that. Every tree, and every hash in a proof,
is made of perfect subtrees that get smaller from left to right. Tiles have those.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from shared.evidence.verify import NotProved, Tree, node_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

EMPTY_ROOT = sha256(b"").digest()
"""Root of a tree without leaves (RFC 9162 section 2.1.1)."""


class Perfect(NamedTuple):
    """A perfect subtree: of 2^height leaves; its number tells which of its height it is from the left, from 0."""

    height: int
    number: int


class Span(NamedTuple):
    """The leaves from ``start`` up to ``end``, which is the first that is not among them."""

    start: int
    end: int


def perfect_subtrees(span: Span) -> list[Perfect]:
    """Give the perfect subtrees of a span, from left to right: of a whole tree, or of a hash in a proof."""
    found, start = list[Perfect](), span.start
    while start < span.end:
        height = (span.end - start).bit_length() - 1
        found.append(Perfect(height, start >> height))
        start += 1 << height
    return found


def span_hash(span: Span, read: Callable[[Perfect], bytes]) -> bytes:
    """Hash a span from its perfect subtrees."""
    return joined([read(each) for each in perfect_subtrees(span)])


def joined(hashes: Sequence[bytes]) -> bytes:
    """Hash subtrees together that get smaller from left to right."""
    if not hashes:
        return EMPTY_ROOT
    found = hashes[-1]
    for each in reversed(hashes[:-1]):
        found = node_hash(each, found)
    return found


def perfect_hash(hashes: Sequence[bytes]) -> bytes:
    """Hash 2^n subtrees of one height together."""
    level = list(hashes)
    while len(level) > 1:
        level = [node_hash(level[at], level[at + 1]) for at in range(0, len(level), 2)]
    return level[0]


def inclusion_path(index: int, size: int) -> list[Span]:
    """Give the spans whose hashes prove a leaf, from its neighbour up (RFC 9162 section 2.1.3.1)."""
    if not 0 <= index < size:
        raise ValueError(f"a tree with {size} leaves does not have leaf {index}")
    return list(_inclusion(index, Span(0, size)))


def _inclusion(index: int, span: Span) -> Iterator[Span]:
    if span.end - span.start == 1:
        return
    middle = _middle(span)
    if index < middle:
        yield from _inclusion(index, Span(span.start, middle))
        yield Span(middle, span.end)
    else:
        yield from _inclusion(index, Span(middle, span.end))
        yield Span(span.start, middle)


def consistency_path(first: int, second: int) -> list[Span]:
    """Give the spans whose hashes prove that a tree begins with another (RFC 9162 section 2.1.4.1)."""
    if not 0 <= first <= second:
        raise ValueError(f"a tree with {second} leaves does not begin with one with {first}")
    if first in {0, second}:
        return []
    return list(_consistency(first, Span(0, second), whole=True))


def _consistency(first: int, span: Span, *, whole: bool) -> Iterator[Span]:
    if first == span.end:
        if not whole:
            yield span
        return
    middle = _middle(span)
    if first <= middle:
        yield from _consistency(first, Span(span.start, middle), whole=whole)
        yield Span(middle, span.end)
    else:
        yield from _consistency(first, Span(middle, span.end), whole=False)
        yield Span(span.start, middle)


def _middle(span: Span) -> int:
    """Give where a span is divided: at the largest power of two below its length."""
    return span.start + (1 << (span.end - span.start - 1).bit_length() - 1)


def check_consistency(first: Tree, second: Tree, path: Sequence[bytes]) -> None:
    """See that a tree begins with all of another one (RFC 9162 section 2.1.4.2).

    Raises:
        NotProved: the path does not show it.
    """
    if first.size > second.size:
        raise NotProved(f"a log does not get shorter: it had {first.size} entries, and has {second.size}")
    if first.size in {0, second.size}:
        if first.root != (second.root if first.size else EMPTY_ROOT) or path:
            raise NotProved(f"these are two logs with {first.size} entries each, and other ones")
        return
    hashes = [first.root, *path] if first.size & (first.size - 1) == 0 else list(path)
    if not path or _from_path(first.size - 1, second.size - 1, hashes) != (first.root, second.root):
        raise NotProved(f"the log with {second.size} entries does not begin with the one with {first.size}")


def _from_path(place: int, last: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Give the roots that a path leads to, of both trees; ``None`` if it is too long or too short."""
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = hashes[0]
    for each in hashes[1:]:
        if last == 0:
            return None
        if place & 1 or place == last:
            before, after = node_hash(each, before), node_hash(each, after)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, each)
        place, last = place >> 1, last >> 1
    return (before, after) if last == 0 else None


class GrowingTree:
    """The root of a tree whose leaves come one after the other; it keeps one hash for each of its perfect subtrees."""

    def __init__(self) -> None:
        self.size = 0
        self._edge = list[tuple[int, bytes]]()

    def copy(self) -> GrowingTree:
        """Give a tree that grows by itself."""
        made = GrowingTree()
        made.size, made._edge = self.size, list(self._edge)
        return made

    def append(self, leaf: bytes) -> None:
        """Append a leaf by its hash."""
        self.append_perfect(0, leaf)

    def append_perfect(self, height: int, root: bytes) -> None:
        """Append a perfect subtree by its root. Nothing smaller may be at the end."""
        if self.size & ((1 << height) - 1):
            raise ValueError(f"a tree with {self.size} leaves can't go on with a subtree of height {height}")
        self.size += 1 << height
        while self._edge and self._edge[-1][0] == height:
            root, height = node_hash(self._edge.pop()[1], root), height + 1
        self._edge.append((height, root))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaves by their hashes."""
        for each in leaves:
            self.append(each)

    @property
    def tree(self) -> Tree:
        """The tree as it is."""
        return Tree(self.size, joined([root for _, root in self._edge]))
