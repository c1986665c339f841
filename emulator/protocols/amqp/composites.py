"""Lists with a meaning for each place, as parts 2 to 5 of OASIS AMQP 1.0 define them.

Places that nobody here looks at are left off at a list's end.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Final, Self

from emulator.protocols.amqp.types import (
    Described,
    Malformed,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
)

MOST_UINT = 2**32 - 1


def kind(given: type) -> dict[str, type]:
    """Say of which type one place of a list is; ``object`` for any."""
    return {"kind": given}


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """Base of all of them.

    Attributes:
        CODE: the descriptor.
    """

    CODE: ClassVar[int] = 0

    @classmethod
    def name(cls) -> str:
        """As the specification writes it, such as ``sasl-init``."""
        return re.sub(r"(?<=.)(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def of(cls, values: Any) -> Self:
        """Read the list.

        Raises:
            Malformed: a place is empty that may not be, or has another type.
        """
        if not isinstance(values, list):
            raise Malformed(f"{cls.name()} is not a list")
        places = fields(cls)
        given = [*values, *(None,) * (len(places) - len(values))]
        return cls(**{place.name: _checked(cls, place, value) for place, value in zip(places, given, strict=False)})

    def described(self) -> Described:
        """Give the list, to be encoded."""
        values = [_typed(place.metadata["kind"], getattr(self, place.name)) for place in fields(self)]
        while values and values[-1] is None:
            values.pop()
        return Described(ULong(self.CODE), values)


def _checked(cls: type[Composite], place: Any, value: Any) -> Any:
    if value is None:
        if place.default is MISSING:
            raise Malformed(f"{cls.name()} has no {place.name.replace('_', '-')}")
        return place.default
    found = read(value) if isinstance(value, Described) else value
    if not isinstance(found, place.metadata["kind"]):
        raise Malformed(f"{cls.name()} has {type(found).__name__} for {place.name.replace('_', '-')}")
    return found


def _typed(wanted: type, value: Any) -> Any:
    if isinstance(value, Composite):
        return value.described()
    if issubclass(wanted, int | Symbol) and value is not None:
        return wanted(value)
    return value


def read(value: Any) -> Any:
    """Make a composite of a described list, if its descriptor is one of those here; everything else stays.

    Raises:
        Malformed: the list is not as it should be.
    """
    if not isinstance(value, Described) or not isinstance(value.descriptor, ULong | Symbol):
        return value
    found = _KNOWN.get(value.descriptor)
    return value if found is None else found.of(value.value)


# --- part 2, transport: performatives (section 2.7) ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Error(Composite):
    """What went wrong (section 2.8.14)."""

    CODE: ClassVar[int] = 0x1D
    condition: str = field(metadata=kind(Symbol))
    description: str | None = field(default=None, metadata=kind(str))
    info: dict[Any, Any] | None = field(default=None, metadata=kind(dict))


@dataclass(frozen=True, slots=True, kw_only=True)
class Open(Composite):
    """Begins a connection (section 2.7.1); ``idle_time_out`` in milliseconds."""

    CODE: ClassVar[int] = 0x10
    container_id: str = field(metadata=kind(str))
    hostname: str | None = field(default=None, metadata=kind(str))
    max_frame_size: int = field(default=MOST_UINT, metadata=kind(UInt))
    channel_max: int = field(default=65_535, metadata=kind(UShort))
    idle_time_out: int | None = field(default=None, metadata=kind(UInt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Composite):
    """Begins a session on a channel (section 2.7.2)."""

    CODE: ClassVar[int] = 0x11
    remote_channel: int | None = field(default=None, metadata=kind(UShort))
    next_outgoing_id: int = field(metadata=kind(UInt))
    incoming_window: int = field(metadata=kind(UInt))
    outgoing_window: int = field(metadata=kind(UInt))
    handle_max: int = field(default=MOST_UINT, metadata=kind(UInt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach(Composite):
    """Attaches a link to a session (section 2.7.3); ``role`` is true for who receives."""

    CODE: ClassVar[int] = 0x12
    link: str = field(metadata=kind(str))
    handle: int = field(metadata=kind(UInt))
    role: bool = field(metadata=kind(bool))
    snd_settle_mode: int = field(default=2, metadata=kind(UByte))
    rcv_settle_mode: int = field(default=0, metadata=kind(UByte))
    source: Any = field(default=None, metadata=kind(Composite))
    target: Any = field(default=None, metadata=kind(Composite))
    unsettled: Any = field(default=None, metadata=kind(object))
    incomplete_unsettled: bool | None = field(default=None, metadata=kind(bool))
    initial_delivery_count: int | None = field(default=None, metadata=kind(UInt))
    max_message_size: int | None = field(default=None, metadata=kind(ULong))
    offered_capabilities: Any = field(default=None, metadata=kind(object))
    desired_capabilities: Any = field(default=None, metadata=kind(object))
    properties: dict[Any, Any] | None = field(default=None, metadata=kind(dict))


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow(Composite):
    """Tells how much may be sent (section 2.7.4)."""

    CODE: ClassVar[int] = 0x13
    next_incoming_id: int | None = field(default=None, metadata=kind(UInt))
    incoming_window: int = field(metadata=kind(UInt))
    next_outgoing_id: int = field(metadata=kind(UInt))
    outgoing_window: int = field(metadata=kind(UInt))
    handle: int | None = field(default=None, metadata=kind(UInt))
    delivery_count: int | None = field(default=None, metadata=kind(UInt))
    link_credit: int | None = field(default=None, metadata=kind(UInt))
    available: int | None = field(default=None, metadata=kind(UInt))
    drain: bool = field(default=False, metadata=kind(bool))
    echo: bool = field(default=False, metadata=kind(bool))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Composite):
    """Carries a message, or a part of one (section 2.7.5)."""

    CODE: ClassVar[int] = 0x14
    handle: int = field(metadata=kind(UInt))
    delivery_id: int | None = field(default=None, metadata=kind(UInt))
    delivery_tag: bytes | None = field(default=None, metadata=kind(bytes))
    message_format: int | None = field(default=None, metadata=kind(UInt))
    settled: bool | None = field(default=None, metadata=kind(bool))
    more: bool = field(default=False, metadata=kind(bool))
    rcv_settle_mode: int | None = field(default=None, metadata=kind(UByte))
    state: Any = field(default=None, metadata=kind(object))
    resume: bool = field(default=False, metadata=kind(bool))
    aborted: bool = field(default=False, metadata=kind(bool))


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposition(Composite):
    """Tells what became of deliveries (section 2.7.6); ``role`` is true for who received them."""

    CODE: ClassVar[int] = 0x15
    role: bool = field(metadata=kind(bool))
    first: int = field(metadata=kind(UInt))
    last: int | None = field(default=None, metadata=kind(UInt))
    settled: bool = field(default=False, metadata=kind(bool))
    state: Any = field(default=None, metadata=kind(object))


@dataclass(frozen=True, slots=True, kw_only=True)
class Detach(Composite):
    """Detaches a link (section 2.7.7)."""

    CODE: ClassVar[int] = 0x16
    handle: int = field(metadata=kind(UInt))
    closed: bool = field(default=False, metadata=kind(bool))
    error: Error | None = field(default=None, metadata=kind(Error))


@dataclass(frozen=True, slots=True, kw_only=True)
class End(Composite):
    """Ends a session (section 2.7.8)."""

    CODE: ClassVar[int] = 0x17
    error: Error | None = field(default=None, metadata=kind(Error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Composite):
    """Ends a connection (section 2.7.9)."""

    CODE: ClassVar[int] = 0x18
    error: Error | None = field(default=None, metadata=kind(Error))


# --- part 3, messaging: outcomes (section 3.4) and where messages come from and go to (section 3.5) ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Composite):
    """It was taken (section 3.4.2)."""

    CODE: ClassVar[int] = 0x24


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(Composite):
    """It can't be taken (section 3.4.3)."""

    CODE: ClassVar[int] = 0x25
    error: Error | None = field(default=None, metadata=kind(Error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Composite):
    """It was not looked at, and may be sent again (section 3.4.4)."""

    CODE: ClassVar[int] = 0x26


@dataclass(frozen=True, slots=True, kw_only=True)
class Modified(Composite):
    """It was not taken, and may be sent again (section 3.4.5)."""

    CODE: ClassVar[int] = 0x27
    delivery_failed: bool | None = field(default=None, metadata=kind(bool))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Composite):
    """Where a link's messages come from (section 3.5.3)."""

    CODE: ClassVar[int] = 0x28
    address: str | None = field(default=None, metadata=kind(object))
    durable: int = field(default=0, metadata=kind(UInt))
    expiry_policy: str | None = field(default=None, metadata=kind(Symbol))
    timeout: int = field(default=0, metadata=kind(UInt))
    dynamic: bool = field(default=False, metadata=kind(bool))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target(Composite):
    """Where a link's messages go to (section 3.5.4)."""

    CODE: ClassVar[int] = 0x29
    address: str | None = field(default=None, metadata=kind(object))
    durable: int = field(default=0, metadata=kind(UInt))
    expiry_policy: str | None = field(default=None, metadata=kind(Symbol))
    timeout: int = field(default=0, metadata=kind(UInt))
    dynamic: bool = field(default=False, metadata=kind(bool))


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator(Composite):
    """The target of a link for transactions (part 4, section 4.5.1)."""

    CODE: ClassVar[int] = 0x30


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties(Composite):
    """What a message says about itself (section 3.2.4)."""

    CODE: ClassVar[int] = 0x73
    message_id: Any = field(default=None, metadata=kind(object))
    user_id: bytes | None = field(default=None, metadata=kind(bytes))
    to: Any = field(default=None, metadata=kind(object))
    subject: str | None = field(default=None, metadata=kind(str))
    reply_to: Any = field(default=None, metadata=kind(object))
    correlation_id: Any = field(default=None, metadata=kind(object))
    content_type: str | None = field(default=None, metadata=kind(Symbol))
    content_encoding: str | None = field(default=None, metadata=kind(Symbol))
    absolute_expiry_time: int | None = field(default=None, metadata=kind(Timestamp))


# --- part 5, SASL (section 5.3.3) ---


@dataclass(frozen=True, slots=True, kw_only=True)
class SaslMechanisms(Composite):
    """Which mechanisms the server has."""

    CODE: ClassVar[int] = 0x40
    sasl_server_mechanisms: Any = field(metadata=kind(object))


@dataclass(frozen=True, slots=True, kw_only=True)
class SaslInit(Composite):
    """Which of them the client takes, and its first answer."""

    CODE: ClassVar[int] = 0x41
    mechanism: str = field(metadata=kind(Symbol))
    initial_response: bytes | None = field(default=None, metadata=kind(bytes))
    hostname: str | None = field(default=None, metadata=kind(str))


@dataclass(frozen=True, slots=True, kw_only=True)
class SaslOutcome(Composite):
    """0 for success, 1 for credentials that were refused."""

    CODE: ClassVar[int] = 0x44
    code: int = field(metadata=kind(UByte))


_ALL: Final = (
    *(Error, Open, Begin, Attach, Flow, Transfer, Disposition, Detach, End, Close),
    *(Accepted, Rejected, Released, Modified, Source, Target, Coordinator, Properties),
    *(SaslMechanisms, SaslInit, SaslOutcome),
)
_KNOWN: Final[dict[Any, type[Composite]]] = {
    **{each.CODE: each for each in _ALL},
    **{Symbol(f"amqp:{each.name()}:list"): each for each in _ALL},
}
