"""Writing DER (X.690): the little of it that certificates and revocation lists need.

Certificates and lists are written directly, since a builder takes three times as long for a leaf, and time with the
square of the entries for a list. What is written here is read back by cryptography before it leaves, and by OpenSSL,
pkilint and others in the tests.
"""

from __future__ import annotations

from datetime import UTC
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

TRUE, NULL = b"\x01\x01\xff", b"\x05\x00"
_INTEGER, _BIT_STRING, _OCTET_STRING, _OBJECT_IDENTIFIER = 0x02, 0x03, 0x04, 0x06
_ENUMERATED, _UTC_TIME, _GENERALIZED_TIME, _SEQUENCE, _EXPLICIT = 0x0A, 0x17, 0x18, 0x30, 0xA0
_UTF8_STRING, _PRINTABLE_STRING, _SET = 0x0C, 0x13, 0x31
_CONSTRUCTED, _LONG_TAG, _END_OF_CONTENTS = 0x20, 0x1F, b"\0\0"
_IDENTIFIER_OCTETS = 64  # real ones have less than 40; messages name them
_CONTINUED = 0x80  # of an object identifier's number: more octets follow (section 8.19.2)
_INDEFINITE = 0x80  # BER's length of what ends somewhere (section 8.1.3.6)
_LAST_UTC_TIME_YEAR = 2049  # RFC 5280 sections 4.1.2.5 and 5.1.2.4


def header(tag: int, length: int) -> bytes:
    """Encode tag and length (section 8.1)."""
    if length < 128:  # noqa: PLR2004 - the short form ends here
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def tagged(tag: int, *content: bytes) -> bytes:
    """Encode a value of several parts, with one copy of them."""
    return b"".join((header(tag, sum(map(len, content))), *content))


def sequence(*content: bytes) -> bytes:
    """Encode a SEQUENCE of what is encoded already."""
    return tagged(_SEQUENCE, *content)


def sequence_header(length: int) -> bytes:
    """Encode the beginning of a SEQUENCE whose content, of so many octets, follows."""
    return header(_SEQUENCE, length)


def explicit(number: int, content: bytes) -> bytes:
    """Encode a value under an explicit context-specific tag."""
    return tagged(_EXPLICIT | number, content)


def integer(value: int) -> bytes:
    """Encode an INTEGER of 0 or more."""
    # One octet more when the top bit is set: DER integers are signed.
    return tagged(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def enumerated(value: int) -> bytes:
    """Encode an ENUMERATED from 0 to 127."""
    return tagged(_ENUMERATED, bytes((value,)))


def octet_string(content: bytes) -> bytes:
    """Encode an OCTET STRING."""
    return tagged(_OCTET_STRING, content)


def bit_string(content: bytes) -> bytes:
    """Encode a BIT STRING of whole octets."""
    return tagged(_BIT_STRING, b"\0", content)


@lru_cache(maxsize=64)
def object_identifier(dotted: str) -> bytes:
    """Encode an OBJECT IDENTIFIER such as ``2.5.29.15`` (section 8.19)."""
    first, second, *rest = map(int, dotted.split("."))
    return tagged(_OBJECT_IDENTIFIER, *map(_base_128, (40 * first + second, *rest)))


def dotted(identifier: bytes) -> str:
    """Give an OBJECT IDENTIFIER, with its tag and length, in numbers: ``2.5.29.15``.

    Raises:
        ValueError: it is another value, ends within a number, is empty, or has more than 64 octets.
    """
    octets = content(identifier) if identifier[:1] == bytes((_OBJECT_IDENTIFIER,)) else b""
    if not 0 < len(octets) <= _IDENTIFIER_OCTETS or octets[-1] >= _CONTINUED:
        raise ValueError("the object identifier is cut off")
    numbers, number = list[int](), 0
    for octet in octets:
        number = number << 7 | octet & 0x7F
        if octet < _CONTINUED:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def attribute(dotted: str, value: str, *, printable: bool = False) -> bytes:
    """Encode a part of a name (RFC 5280 section 4.1.2.4): text in UTF-8, or in the letters of PrintableString."""
    text = tagged(_PRINTABLE_STRING if printable else _UTF8_STRING, value.encode())
    return tagged(_SET, sequence(object_identifier(dotted), text))


def _base_128(number: int) -> bytes:
    septets = [number & 0x7F]
    while number := number >> 7:
        septets.append(0x80 | number & 0x7F)
    return bytes(reversed(septets))


@lru_cache(maxsize=64)  # what is issued in the same second has the same two times
def time(at: datetime) -> bytes:
    """Encode a time, to the second: UTCTime up to 2049, GeneralizedTime from then on."""
    utc = at.astimezone(UTC)
    # Digits by arithmetic: strftime takes three times as long, and a leaf has two times.
    day = (utc.year * 100 + utc.month) * 100 + utc.day
    digits = ((day * 100 + utc.hour) * 100 + utc.minute) * 100 + utc.second
    text = f"{digits:014d}Z".encode()
    return tagged(_GENERALIZED_TIME, text) if utc.year > _LAST_UTC_TIME_YEAR else tagged(_UTC_TIME, text[2:])


def content(encoded: bytes, *path: int) -> bytes:
    """Give the content of a value, or of one of its parts: ``content(x, 1, 0)`` is that of x's second part's first.

    Args:
        encoded: well-formed DER, with tags of one octet; written by a library, or checked by :func:`parts`.
        path: which part, from 0, on each level.
    """
    begin, end = _bounds(encoded, 0)
    for number in path:
        at = begin
        for _ in range(number):
            at = _bounds(encoded, at)[1]
        begin, end = _bounds(encoded, at)
    return encoded[begin:end]


def length(encoded: bytes) -> int:
    """Give the octets that the first value has with its tag and length; a stranger may have written it.

    Raises:
        ValueError: it is cut off, or of indefinite length.
    """
    return _inner(encoded, 0, len(encoded))[1]


def parts(encoded: bytes) -> Iterator[bytes]:
    """Give the parts of a value one by one, each with its tag and length; a stranger may have written it.

    Raises:
        ValueError: this value, or a part when it is reached, is not DER: cut off, or of indefinite length.
    """
    at, end = _inner(encoded, 0, len(encoded))
    while at < end:
        after = _inner(encoded, at, end)[1]
        yield encoded[at:after]
        at = after


def from_ber(encoded: bytes, *, depth: int = 32) -> bytes:
    """Write the first value of BER as DER as far as lengths go: definite ones, and octet strings in one piece.

    Bouncy Castle and others write PKCS#12 with indefinite lengths (X.690 section 8.1.3.6).

    Raises:
        ValueError: it is cut off, nested too deeply, or has a tag of several octets.
    """
    return _from_ber(encoded, 0, depth)[0]


def _from_ber(encoded: bytes, at: int, depth: int) -> tuple[bytes, int]:
    """Give a value in DER, and where it ends."""
    if not depth or at + 2 > len(encoded) or encoded[at] & _LONG_TAG == _LONG_TAG:
        raise ValueError("a value is cut off, nested too deeply, or has a long tag")
    tag, indefinite = encoded[at], encoded[at + 1] == _INDEFINITE
    begin, end = (at + 2, len(encoded)) if indefinite else _bounds(encoded, at)
    if end > len(encoded):
        raise ValueError("a value is cut off")
    if not tag & _CONSTRUCTED:
        if indefinite:
            raise ValueError("a value without parts has no length")
        return encoded[at:end], end
    parts, at = list[bytes](), begin
    while encoded[at : at + 2] != _END_OF_CONTENTS if indefinite else at < end:
        part, at = _from_ber(encoded, at, depth - 1)
        parts.append(part)
    if tag == _OCTET_STRING | _CONSTRUCTED:
        return octet_string(b"".join(content(part) for part in parts)), at + 2 * indefinite
    return tagged(tag, *parts), at + 2 * indefinite


def _inner(encoded: bytes, at: int, limit: int) -> tuple[int, int]:
    """Find where the content begins and ends of a value that must end before the limit."""
    if at + 2 > limit or encoded[at + 1] == _INDEFINITE:
        raise ValueError("a value is cut off, or of indefinite length")
    begin, end = _bounds(encoded, at)
    if end > limit:
        raise ValueError("a value is longer than what it is in")
    return begin, end


def _bounds(encoded: bytes, at: int) -> tuple[int, int]:
    """Find where the content of the value at ``at`` begins and ends."""
    length, begin = encoded[at + 1], at + 2
    if length > 127:  # noqa: PLR2004 - the long form begins here
        octets = length & 0x7F
        length, begin = int.from_bytes(encoded[begin : begin + octets], "big"), begin + octets
    return begin, begin + length


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """Encode an extension (RFC 5280 section 4.1.2.9) of what is encoded already."""
    return sequence(object_identifier(dotted), *([TRUE] if critical else ()), octet_string(value))
