"""Frames and protocol headers (OASIS AMQP 1.0, part 2, sections 2.2 and 2.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from emulator.protocols.amqp.composites import Composite, read
from emulator.protocols.amqp.types import Malformed, Reader, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_SIZE = 8
AMQP_HEADER: Final = b"AMQP\x00\x01\x00\x00"
SASL_HEADER: Final = b"AMQP\x03\x01\x00\x00"
AMQP, SASL = 0, 1
"""Types of frames."""

SMALLEST_LIMIT = 512
"""Bytes: a frame may have so many, whatever was agreed on (section 2.8.1)."""

_LAYOUT: Final = struct.Struct(">IBBH")
_WORD = 4
_LEAST_OFFSET = 2
_NAME: Final = b"AMQP"


class BadFrame(Malformed):
    """Something that can't be told apart into frames, so that nothing behind it can be read either."""


@dataclass(frozen=True, slots=True)
class Header:
    """A protocol header, with which a client begins; all eight octets of it."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, not looked into yet; with an empty body it is a heartbeat."""

    kind: int
    channel: int
    body: bytes

    def read(self) -> tuple[Composite, bytes]:
        """Give the performative and the payload behind it.

        Raises:
            Malformed: the performative is missing.
        """
        reader = Reader(self.body)
        performative: Any = read(reader.value())
        if not isinstance(performative, Composite):
            raise Malformed("a frame has no performative")
        return performative, reader.rest()


def encode_frame(performative: Composite | None, payload: bytes = b"", *, channel: int = 0, kind: int = AMQP) -> bytes:
    """Write a frame; without a performative it is a heartbeat."""
    body = b"" if performative is None else encode(performative.described()) + payload
    return _LAYOUT.pack(HEADER_SIZE + len(body), _LEAST_OFFSET, kind, channel) + body


def take(buffer: bytearray, limit: int) -> Iterator[Header | Frame]:
    """Take every whole header and frame off the front of a buffer.

    A header's first four octets would be the size of a frame of 1 GB, so the two can't be mistaken.

    Args:
        buffer: what was received.
        limit: bytes that a frame may have.

    Raises:
        BadFrame: a frame has an impossible size or offset, or more than ``limit`` bytes.
    """
    while len(buffer) >= HEADER_SIZE:
        if buffer.startswith(_NAME):
            octets = bytes(buffer[:HEADER_SIZE])
            del buffer[:HEADER_SIZE]
            yield Header(octets)
            continue
        size, offset, kind, channel = _LAYOUT.unpack_from(buffer)
        _check(size, offset * _WORD, limit)
        if len(buffer) < size:
            return
        body = bytes(buffer[offset * _WORD : size])
        del buffer[:size]
        yield Frame(kind, channel, body)


def _check(size: int, offset: int, limit: int) -> None:
    if size > limit:
        raise BadFrame(f"a frame has {size} bytes; at most {limit} are taken")
    if not _LEAST_OFFSET * _WORD <= offset <= size:
        raise BadFrame(f"a frame of {size} bytes has its body at {offset}")
