"""The types of AMQP 1.0 and their encodings (OASIS AMQP 1.0, part 1).

A value is one of Python's own types where there is one (None, bool, int for long, float for double, str, bytes,
``uuid.UUID``, list, dict), else one of the classes here. Decimals are not read; nobody here sends them.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Any, Final

DEPTH_LIMIT = 32
"""So deep may values stand in each other; no message needs more than six."""

_SMALL = 0x100
_HIGHEST_CHARACTER = 0x10FFFF


class Malformed(Exception):
    """Octets that are not AMQP 1.0; the text says what is wrong with them."""


class UByte(int):
    """0 to 255."""


class UShort(int):
    """0 to 65,535."""


class UInt(int):
    """0 to 2**32-1."""


class ULong(int):
    """0 to 2**64-1."""


class Byte(int):
    """-128 to 127."""


class Short(int):
    """-32,768 to 32,767."""


class Int(int):
    """-2**31 to 2**31-1."""


class Timestamp(int):
    """Milliseconds since 1970-01-01T00:00:00Z."""


class Float(float):
    """32 bits of it."""


class Char(str):
    """One Unicode character."""

    __slots__ = ()


class Symbol(str):
    """A name out of ASCII characters."""

    __slots__ = ()


class Array(list[Any]):
    """Values of one type."""


@dataclass(frozen=True, slots=True)
class Described:
    """A value with what says its meaning: the code of a type that AMQP defines, as a rule (section 1.3)."""

    descriptor: Any
    value: Any


_NUMBERS: Final[dict[int, tuple[type[int | float], str]]] = {
    0x50: (UByte, ">B"),
    0x51: (Byte, ">b"),
    0x52: (UInt, ">B"),
    0x53: (ULong, ">B"),
    0x54: (Int, ">b"),
    0x55: (int, ">b"),
    0x60: (UShort, ">H"),
    0x61: (Short, ">h"),
    0x70: (UInt, ">I"),
    0x71: (Int, ">i"),
    0x72: (Float, ">f"),
    0x80: (ULong, ">Q"),
    0x81: (int, ">q"),
    0x82: (float, ">d"),
    0x83: (Timestamp, ">q"),
}
"""Fixed widths by constructor (section 1.6); the later of two for the same type is the wide one."""

_WIDE: Final = {kind: (code, form) for code, (kind, form) in _NUMBERS.items()}
_NULL = 0x40
_EMPTY: Final[dict[int, Any]] = {_NULL: None, 0x41: True, 0x42: False, 0x43: UInt(0), 0x44: ULong(0)}
_DESCRIBED, _CHAR, _BOOLEAN, _UUID, _LIST0 = 0x00, 0x73, 0x56, 0x98, 0x45
_BINARY, _STRING, _SYMBOL, _LIST, _MAP, _ARRAY = 0xB0, 0xB1, 0xB3, 0xD0, 0xD1, 0xF0
_SIZED: Final = {_BINARY, _STRING, _SYMBOL, _LIST, _MAP, _ARRAY}
_WIDER = 0x10
"""This bit tells four octets of size and count from one."""

_UUID_SIZE = 16


# --- writing ---


def encode(value: Any) -> bytes:
    """Write a value, in the wide encoding of its type; only small codes of descriptors get the short one.

    Raises:
        TypeError: AMQP has no such type.
        struct.error, UnicodeEncodeError: the value is outside its type's range.
    """
    if isinstance(value, Described):
        return bytes((_DESCRIBED,)) + encode(value.descriptor) + encode(value.value)
    if isinstance(value, ULong) and value < _SMALL:
        return bytes((0x53, value))
    code, octets = _parts(value)
    return bytes((code,)) + octets


def _parts(value: Any) -> tuple[int, bytes]:
    """Give the constructor and what follows it."""
    if type(value) in _WIDE:
        code, form = _WIDE[type(value)]
        return code, struct.pack(form, value)
    if isinstance(value, str | bytes):
        return _text(value)
    if isinstance(value, list | dict):
        return _collection(value)
    return _fixed(value)


def _fixed(value: Any) -> tuple[int, bytes]:
    if value is None:
        return _NULL, b""
    if isinstance(value, bool):
        return _BOOLEAN, bytes((value,))
    if isinstance(value, uuid.UUID):
        return _UUID, value.bytes
    raise TypeError(f"AMQP has no type for {type(value).__name__}")


def _text(value: str | bytes) -> tuple[int, bytes]:
    if isinstance(value, bytes):
        return _BINARY, _with_size(value)
    if isinstance(value, Char):
        return _CHAR, ord(value).to_bytes(4, "big")
    if isinstance(value, Symbol):
        return _SYMBOL, _with_size(value.encode("ascii"))
    return _STRING, _with_size(value.encode())


def _collection(value: list[Any] | dict[Any, Any]) -> tuple[int, bytes]:
    if isinstance(value, Array):
        return _ARRAY, _array(value)
    if isinstance(value, list):
        return _LIST, _with_size(_count(len(value)) + b"".join(map(encode, value)))
    items = b"".join(encode(name) + encode(item) for name, item in value.items())
    return _MAP, _with_size(_count(2 * len(value)) + items)


def _array(values: Array) -> bytes:
    """Write what follows an array's constructor; a descriptor that all items share stands before their own."""
    described = bool(values) and isinstance(values[0], Described)
    head = bytes((_DESCRIBED,)) + encode(values[0].descriptor) if described else b""
    parts = [_parts(value.value if described else value) for value in values] or [_parts(None)]
    if len({code for code, _ in parts}) > 1:
        raise TypeError("an array holds values of one type")
    items = b"".join(octets for _, octets in parts)
    return _with_size(_count(len(values)) + head + bytes((parts[0][0],)) + items)


def _count(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _with_size(octets: bytes) -> bytes:
    return _count(len(octets)) + octets


# --- reading ---


class Reader:
    """Reads values one after the other.

    Args:
        octets: to read from.
        depth: in how many lists, maps or arrays they stand.
    """

    def __init__(self, octets: bytes, *, depth: int = 0) -> None:
        self._octets = octets
        self._position = 0
        self._depth = depth
        self._check_depth()

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._position < len(self._octets)

    def rest(self) -> bytes:
        """Take what is left, as it stands."""
        return self._take(len(self._octets) - self._position)

    def value(self) -> Any:
        """Take a value.

        Raises:
            Malformed: there is none, or not all of it.
        """
        code = self._number(1)
        if code != _DESCRIBED:
            return self._of(code)
        self._depth += 1
        self._check_depth()
        described = Described(self.value(), self.value())
        self._depth -= 1
        return described

    def _check_depth(self) -> None:
        if self._depth > DEPTH_LIMIT:
            raise Malformed(f"values stand in each other more than {DEPTH_LIMIT} deep")

    def _take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._octets):
            raise Malformed(f"a value needs {count} octets, and {len(self._octets) - self._position} are left")
        taken = self._octets[self._position : end]
        self._position = end
        return taken

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _of(self, code: int) -> Any:
        """Take what follows a constructor; its high half says how wide that is (section 1.2)."""
        if code in _EMPTY:
            return _EMPTY[code]
        if code in _NUMBERS:
            kind, form = _NUMBERS[code]
            return kind(struct.unpack(form, self._take(struct.calcsize(form)))[0])
        if code | _WIDER in _SIZED:
            return self._sized(code | _WIDER, 4 if code & _WIDER else 1)
        return [] if code == _LIST0 else self._fixed(code)

    def _fixed(self, code: int) -> Any:
        if code == _BOOLEAN:
            return self._boolean()
        if code == _CHAR:
            return self._character()
        if code == _UUID:
            return uuid.UUID(bytes=self._take(_UUID_SIZE))
        raise Malformed(f"0x{code:02x} is the constructor of no type known here")

    def _boolean(self) -> bool:
        octet = self._number(1)
        if octet > 1:
            raise Malformed(f"a boolean is 0x{octet:02x}")
        return bool(octet)

    def _character(self) -> Char:
        number = self._number(4)
        if number > _HIGHEST_CHARACTER:
            raise Malformed(f"0x{number:x} is not a character")
        return Char(chr(number))

    def _sized(self, code: int, width: int) -> Any:
        octets = self._take(self._number(width))
        if code == _BINARY:
            return octets
        if code in {_STRING, _SYMBOL}:
            return _decoded(octets, code)
        within = Reader(octets, depth=self._depth + 1)
        count = within._number(width)
        if count > len(octets):
            raise Malformed(f"{len(octets)} octets can't hold {count} items")
        found = within._array(count) if code == _ARRAY else within._items(count)
        if within.more:
            raise Malformed("a list, map or array has more octets than items")
        return _paired(found) if code == _MAP else found

    def _items(self, count: int) -> list[Any]:
        return [self.value() for _ in range(count)]

    def _array(self, count: int) -> Array:
        if not count:
            self.rest()
            return Array()
        code = self._number(1)
        if code != _DESCRIBED:
            return Array(self._of(code) for _ in range(count))
        descriptor, code = self.value(), self._number(1)
        return Array(Described(descriptor, self._of(code)) for _ in range(count))


def _decoded(octets: bytes, code: int) -> str:
    try:
        return octets.decode() if code == _STRING else Symbol(octets.decode("ascii"))
    except UnicodeDecodeError:
        raise Malformed("a string is not UTF-8, or a symbol not ASCII") from None


def _paired(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise Malformed("a map has a key without a value")
    try:
        found = dict(zip(items[::2], items[1::2], strict=True))
    except TypeError:
        raise Malformed("a map has a list, a map or an array for a key") from None
    if len(found) * 2 < len(items):
        raise Malformed("a map has the same key twice")
    return found
