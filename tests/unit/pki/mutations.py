"""Damage to DER: to its octets, and to its structure with all lengths made right again; and signatures over it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from shared.pki import der as write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from shared.pki.signing_keys import PrivateKey
    from tests.unit.pki.picks import Picks

_CONSTRUCTED = 0x20
_OCTET_STRING, _BIT_STRING, _OBJECT_IDENTIFIER = 0x04, 0x03, 0x06
_SHORT = 128


@dataclass(slots=True)
class Node:
    """One element of DER: content, or elements in it, behind what stands before them (a bit string's first octet)."""

    tag: int
    content: bytes = b""
    prefix: bytes = b""
    children: list[Node] = field(default_factory=list)

    def encoded(self) -> bytes:
        content = self.prefix + (b"".join([child.encoded() for child in self.children]) or self.content)
        length = len(content)
        return bytes((self.tag, length)) + content if length < _SHORT else _long(self.tag, content)

    def leaves(self) -> Iterator[Node]:
        """Give all nodes that have content of their own."""
        return (each for each in self._all() if not each.children)

    def parents(self) -> Iterator[Node]:
        """Give all nodes that have children, itself included."""
        return (each for each in self._all() if each.children)

    def _all(self) -> Iterator[Node]:
        """Give this node and all below it, in the order of their octets."""
        waiting = [self]
        while waiting:
            each = waiting.pop()
            yield each
            waiting += reversed(each.children)


def _long(tag: int, content: bytes) -> bytes:
    length = len(content)
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def parsed(der: bytes) -> list[Node] | None:
    """Read elements one after the other; ``None`` where it is not DER. Looks into strings that hold elements, too."""
    nodes: list[Node] = []
    at, size = 0, len(der)
    while at < size:
        if at + 2 > size:
            return None
        tag, length, begin = der[at], der[at + 1], at + 2
        if length >= _SHORT:
            octets = length - _SHORT
            if not 0 < octets <= 4:
                return None
            length, begin = int.from_bytes(der[begin : begin + octets], "big"), begin + octets
        at = begin + length
        if at > size:
            return None
        nodes.append(_node(tag, der[begin:at]))
    return nodes


def _node(tag: int, content: bytes) -> Node:
    if tag & _CONSTRUCTED or tag in {_OCTET_STRING, _BIT_STRING}:
        prefix = 1 if tag == _BIT_STRING else 0
        children = parsed(content[prefix:]) if len(content) > prefix + 1 else None
        if children:
            return Node(tag, b"", content[:prefix], children)
    return Node(tag, content)


@cache
def _parts(other: bytes) -> list[Node]:
    """Give the nodes with children of a file that is spliced from, and stays as it is."""
    return [each for root in parsed(other) or () for each in root.parents()]


_ED25519 = write.sequence(write.object_identifier("1.3.101.112"))
_ECDSA_SHA256 = write.sequence(write.object_identifier("1.2.840.10045.4.3.2"))
_ECDSA_SHA384 = write.sequence(write.object_identifier("1.2.840.10045.4.3.3"))
_RSA_SHA256 = write.sequence(write.object_identifier("1.2.840.113549.1.1.11"), write.NULL)


def signed(content: bytes, key: PrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """Sign what a certificate or a request says, as it is: SEQUENCE { content, algorithm, signature }."""
    algorithm, signature = _signature(content, key)
    return write.sequence(content, algorithm, write.bit_string(signature))


def _signature(content: bytes, key: PrivateKey | ed25519.Ed25519PrivateKey) -> tuple[bytes, bytes]:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return _ED25519, key.sign(content)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return _RSA_SHA256, key.sign(content, PKCS1v15(), hashes.SHA256())
    if isinstance(key.curve, ec.SECP384R1):
        return _ECDSA_SHA384, key.sign(content, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))
    return _ECDSA_SHA256, key.sign(content, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


STRANGE_CONTENTS = (
    b"",
    b"\0",
    b"\xff",
    b"\x80" + b"\0" * 19,
    b"\xff" * 21,
    b"\x7f" + b"\xff" * 200,
    "pressé\u202e\U0001f525".encode(),
    b"\x00p\x00r",
    b"*.example.com",
    b"a\0b\r\n",
    b"x" * 65,
    b"x" * 5000,
    b"\xed\xa0\x80",
    b"99999999999999Z",
    b"260230240000Z",
    b"000101000000Z",
    b"00000101000000Z",
)
"""Ends of number ranges, overlong and forbidden text, dates that are none."""

type Edit = tuple[int, int, int]
"""Kind, place and value; places and values are taken modulo what is there."""


def _flip(der: bytes, place: int, value: int, _: bytes) -> bytes:
    damaged = bytearray(der)
    damaged[place % len(der)] ^= value % 255 + 1
    return bytes(damaged)


def _truncate(der: bytes, place: int, _: int, __: bytes) -> bytes:
    return der[: place % len(der) + 1]


def _insert(der: bytes, place: int, value: int, other: bytes) -> bytes:
    place %= len(der)
    return der[:place] + other[: value % 64] + der[place:]


def _splice(der: bytes, place: int, value: int, other: bytes) -> bytes:
    """Put a slice of another file over this one."""
    place, origin = place % len(der), value % len(other)
    piece = other[origin : origin + 40]
    return der[:place] + piece + der[place + len(piece) :]


def _length_field(der: bytes, place: int, value: int, _: bytes) -> bytes:
    """Change the length that an element near the place says it has."""
    starts = [at for at in range(len(der) - 1) if der[at] in {0x30, 0x31, 0x04, 0x03, 0x02, 0x0C, 0x13, 0xA3, 0xA0}]
    if not starts:
        return der
    damaged = bytearray(der)
    lengths = (0, 1, 0x7F, 0x80, 0x81, 0x84, 0x88, 0xFF)
    damaged[starts[place % len(starts)] + 1] = lengths[value % len(lengths)]
    return bytes(damaged)


def _structural(change: Callable[[Node, int, int, bytes], None]) -> Callable[[bytes, int, int, bytes], bytes]:
    def edit(der: bytes, place: int, value: int, other: bytes) -> bytes:
        nodes = parsed(der)
        parents = [parent for node in nodes or () for parent in node.parents()]
        if not nodes or not parents:
            return der
        parent = parents[place % len(parents)]
        change(parent, place // len(parents) % len(parent.children), value, other)
        return b"".join(node.encoded() for node in nodes)

    return edit


def _repeat(parent: Node, index: int, value: int, _: bytes) -> None:
    parent.children[index:index] = [parent.children[index]] * (1 + value % 3)


def _remove(parent: Node, index: int, _: int, __: bytes) -> None:
    del parent.children[index]


def _swap(parent: Node, index: int, value: int, _: bytes) -> None:
    other = value % len(parent.children)
    parent.children[index], parent.children[other] = parent.children[other], parent.children[index]


def _retag(parent: Node, index: int, value: int, _: bytes) -> None:
    child = parent.children[index]
    parent.children[index] = Node(value % 256, child.content, child.prefix, child.children)


def _fill(parent: Node, index: int, value: int, _: bytes) -> None:
    parent.children[index] = Node(parent.children[index].tag, STRANGE_CONTENTS[value % len(STRANGE_CONTENTS)])


def _graft(parent: Node, index: int, value: int, other: bytes) -> None:
    """Put an element of another file into this one."""
    donors = _parts(other)
    if donors:
        parent.children[index] = donors[value % len(donors)]


_NESTING = 60


def _nest(parent: Node, index: int, value: int, _: bytes) -> None:
    """Wrap an element many times."""
    child = parent.children[index]
    for _level in range(value % _NESTING):
        child = Node(0x30, children=[child])
    parent.children[index] = child


_OTHER_TEXTS = (
    b"press-001",
    b"Press-001",
    b"line",
    b"factory",
    b"deep",
    b"owned",
    b"bank.example",
    b"*.example.com",
    b"",
)
_OTHER_TIMES = (
    b"260301120000Z",
    b"260302120000Z",
    b"200101000000Z",
    b"600101000000Z",
    b"20260301120000Z",
    b"99991231235959Z",
)
OTHER_VALUES: Mapping[int, Sequence[bytes]] = {
    0x01: (b"\0", b"\xff", b"\1"),
    0x02: (b"\0", b"\1", b"\2", b"\x7f", b"\xff", b"\x7f" + b"\1" * 19, b"\1" * 21, b"\1" * 400),
    0x03: (b"\7\x80", b"\1\6", b"\2\4", b"\1\x02", b"\5\xa0", b"\0", b"\7\0"),
    0x06: tuple(
        write.object_identifier(dotted)[2:]
        for dotted in (
            *("2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.35", "2.5.29.37", "1.2.3.4"),
            *("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "2.5.29.37.0", "2.5.4.3", "2.5.4.10", "2.5.4.5"),
        )
    ),
    **dict.fromkeys((0x0C, 0x13, 0x16, 0x1E, 0x81, 0x82, 0x86), _OTHER_TEXTS),
    **dict.fromkeys((0x17, 0x18), _OTHER_TIMES),
}
"""Content that is well-formed and means something else, by the element's tag."""


def _vary(der: bytes, place: int, value: int, _: bytes) -> bytes:
    """Put another value for an element that has others; identifiers seldom, since their neighbours depend on them."""
    nodes = parsed(der) or []
    varied = [leaf for node in nodes for leaf in node.leaves() if leaf.tag in OTHER_VALUES]
    varied += [leaf for leaf in varied if leaf.tag != _OBJECT_IDENTIFIER] * 4
    if not varied:
        return der
    leaf = varied[place % len(varied)]
    others = OTHER_VALUES[leaf.tag]
    leaf.content = others[value % len(others)]
    return b"".join(node.encoded() for node in nodes)


def _exchange(der: bytes, place: int, _: int, other: bytes) -> bytes:
    """Put another file's value of the same kind: a leaf's basic constraints into a CA, a CA's into a request."""
    nodes = parsed(der) or []
    theirs = _named_parts(other)
    pairs = [(own, theirs.get(own.children[0].content)) for node in nodes for own in _named(node.parents())]
    differing = [(own, their[0]) for own, their in pairs if their is not None and their[1] != own.encoded()]
    if not differing:
        return der
    own, their = differing[place % len(differing)]
    own.children = their.children
    return b"".join(node.encoded() for node in nodes)


@cache
def _named_parts(other: bytes) -> Mapping[bytes, tuple[Node, bytes]]:
    """Give the elements that begin with an identifier, and their octets, by the identifier."""
    return {named.children[0].content: (named, named.encoded()) for named in _named(_parts(other))}


def _named(parents: Iterable[Node]) -> Iterator[Node]:
    """Choose the elements that begin with an identifier: extensions, attributes, algorithms."""
    return (each for each in parents if each.children[0].tag == _OBJECT_IDENTIFIER)


_OF_OCTETS = (_vary, _exchange, _flip, _truncate, _insert, _splice, _length_field)
_OF_STRUCTURE = (_repeat, _remove, _swap, _retag, _fill, _graft, _nest)
KINDS: Sequence[Callable[[bytes, int, int, bytes], bytes]] = (*_OF_OCTETS, *map(_structural, _OF_STRUCTURE))
ANY_KIND = range(len(KINDS))
MOSTLY_READABLE = (
    *[_OF_OCTETS.index(_vary)] * 9,
    *[_OF_OCTETS.index(_exchange)] * 4,
    _OF_OCTETS.index(_flip),
    *(len(_OF_OCTETS) + _OF_STRUCTURE.index(kind) for kind in (_repeat, _remove, _swap, _fill, _graft)),
)


def edits(picks: Picks, kinds: Sequence[int], most: int) -> list[Edit]:
    """Choose one edit or several."""
    return [(picks.one_of(kinds), picks.below(4096), picks.below(4096)) for _ in range(1 + picks.below(most))]


def mutated(der: bytes, changes: Sequence[Edit], other: bytes) -> bytes:
    """Apply edits in their order; ``other`` gives what is spliced in."""
    for kind, place, value in changes:
        if not der:
            break
        der = KINDS[kind](der, place, value, other)
    return der
