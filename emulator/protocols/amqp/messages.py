"""Messages and their sections (OASIS AMQP 1.0, part 3, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

from emulator.protocols.amqp.composites import Properties
from emulator.protocols.amqp.types import Described, Malformed, Reader, Symbol, ULong, encode

_MESSAGE_ANNOTATIONS, _APPLICATION_PROPERTIES, _DATA, _SEQUENCE, _VALUE = 0x72, 0x74, 0x75, 0x76, 0x77
_KINDS: Final[dict[int, type]] = {
    _MESSAGE_ANNOTATIONS: dict,
    Properties.CODE: list,
    _APPLICATION_PROPERTIES: dict,
    _DATA: bytes,
}
_CODES: Final[dict[Any, int]] = {
    Symbol("amqp:message-annotations:map"): _MESSAGE_ANNOTATIONS,
    Symbol("amqp:properties:list"): Properties.CODE,
    Symbol("amqp:application-properties:map"): _APPLICATION_PROPERTIES,
    Symbol("amqp:data:binary"): _DATA,
    Symbol("amqp:amqp-sequence:list"): _SEQUENCE,
    Symbol("amqp:amqp-value:*"): _VALUE,
}
"""The other way to say what a section is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message, without its header, its footer and the annotations of its delivery.

    Attributes:
        body: bytes out of its data sections, or the value of its amqp-value section.
        has_data: whether the body came as data.
    """

    body: Any
    has_data: bool = True
    properties: Properties = field(default_factory=Properties)
    application_properties: dict[Any, Any] = field(default_factory=dict)
    annotations: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, octets: bytes) -> Self:
        """Read a message.

        Raises:
            Malformed: it is not valid.
        """
        reader, data = Reader(octets), b""
        found: dict[int, Any] = {}
        while reader.more:
            code, value = _section(reader.value())
            if code == _DATA:
                data += value
            found[code] = value
        body = found.get(_VALUE, found.get(_SEQUENCE))
        return cls(
            body=data if _DATA in found else body,
            has_data=_DATA in found,
            properties=Properties.of(found.get(Properties.CODE, [])),
            application_properties=found.get(_APPLICATION_PROPERTIES, {}),
            annotations=found.get(_MESSAGE_ANNOTATIONS, {}),
        )

    def encode(self) -> bytes:
        """Write it."""
        sections = [
            Described(ULong(_MESSAGE_ANNOTATIONS), self.annotations) if self.annotations else None,
            self.properties.described(),
            Described(ULong(_APPLICATION_PROPERTIES), self.application_properties),
            Described(ULong(_DATA if self.has_data else _VALUE), self.body),
        ]
        return b"".join(encode(section) for section in sections if section)


def data_sections(octets: bytes) -> list[bytes]:
    """Give the data sections of a message one by one.

    Raises:
        Malformed: it is not valid.
    """
    reader, found = Reader(octets), []
    while reader.more:
        code, value = _section(reader.value())
        if code == _DATA:
            found.append(value)
    return found


def _section(section: Any) -> tuple[int, Any]:
    """Give a section's code and content."""
    if not isinstance(section, Described) or not isinstance(section.descriptor, ULong | Symbol):
        raise Malformed("a message has something that is not a section")
    code = section.descriptor if isinstance(section.descriptor, int) else _CODES.get(section.descriptor, 0)
    if not isinstance(section.value, _KINDS.get(code, object)):
        raise Malformed(f"a message has the section {section.descriptor} with {type(section.value).__name__} in it")
    return int(code), section.value
