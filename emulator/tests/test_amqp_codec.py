"""The types, frames and messages of AMQP 1.0: octets as the specification has them, and back."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.protocols.amqp.composites import (
    Attach,
    Composite,
    Disposition,
    Error,
    Flow,
    Open,
    Properties,
    Rejected,
    Source,
    Target,
    Transfer,
    read,
)
from emulator.protocols.amqp.frames import AMQP_HEADER, BadFrame, Frame, Header, encode_frame, take
from emulator.protocols.amqp.messages import Message
from emulator.protocols.amqp.types import (
    DEPTH_LIMIT,
    Array,
    Byte,
    Char,
    Described,
    Float,
    Int,
    Malformed,
    Reader,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    encode,
)

LIMIT = 65_536


def whole(kind: Any, bits: int, *, signed: bool) -> st.SearchStrategy[Any]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high).map(kind)


SIMPLE = st.one_of(
    st.none(),
    st.booleans(),
    whole(UByte, 8, signed=False),
    whole(UShort, 16, signed=False),
    whole(UInt, 32, signed=False),
    whole(ULong, 64, signed=False),
    whole(Byte, 8, signed=True),
    whole(Short, 16, signed=True),
    whole(Int, 32, signed=True),
    whole(int, 64, signed=True),
    whole(Timestamp, 64, signed=True),
    st.floats(allow_nan=False),
    st.floats(width=32, allow_nan=False).map(Float),
    st.characters(codec="utf-8").map(Char),
    st.text(max_size=300),
    st.text(st.characters(codec="ascii"), max_size=300).map(Symbol),
    st.binary(max_size=300),
    st.uuids(),
)
ARRAYS = st.one_of(
    st.lists(whole(UInt, 32, signed=False)).map(Array),
    st.lists(st.text(st.characters(codec="ascii")).map(Symbol)).map(Array),
    st.lists(st.booleans()).map(Array),
    st.lists(st.binary()).map(lambda items: Array(Described(Symbol("d"), item) for item in items)),
    st.lists(st.lists(st.integers(0, 9))).map(Array),
)
VALUES = st.recursive(
    SIMPLE | ARRAYS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=8), inner, max_size=4),
        st.builds(Described, whole(ULong, 64, signed=False), inner),
    ),
    max_leaves=12,
)


def kinds(value: Any) -> Any:
    """A value together with the types within it, since 1, True and UInt(1) are all equal."""
    if isinstance(value, Described):
        return Described, kinds(value.descriptor), kinds(value.value)
    if isinstance(value, dict):
        return dict, [(kinds(name), kinds(item)) for name, item in value.items()]
    if isinstance(value, list):
        return type(value), [kinds(item) for item in value]
    return type(value), value


def decoded(octets: bytes) -> Any:
    reader = Reader(octets)
    value = reader.value()
    assert not reader.more
    return value


@given(VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    """Every value comes back with its types."""
    assert kinds(decoded(encode(value))) == kinds(value)


@given(st.binary(max_size=60))
def test_arbitrary_octets_are_a_value_or_malformed(octets: bytes) -> None:
    """Whatever comes is read or refused, and nothing else happens; what was read can be written."""
    with suppress(Malformed):
        encode(Reader(octets).value())
    with suppress(Malformed):
        Message.of(octets)


@given(st.binary(max_size=40), st.integers(0, 3), st.booleans())
def test_arbitrary_frames_are_frames_or_refused(octets: bytes, cut: int, as_frame: bool) -> None:  # noqa: FBT001
    """The same one level up: a frame's size may lie, and its body may be anything."""
    size = (8 + len(octets) + cut).to_bytes(4, "big")
    buffer = bytearray((size + b"\x02\0\0\0" if as_frame else b"") + octets)
    with suppress(Malformed):
        for each in take(buffer, LIMIT):
            if isinstance(each, Frame):
                each.read()


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        ("40", None),
        ("41", True),
        ("5601", True),
        ("42", False),
        ("43", UInt(0)),
        ("5280", UInt(128)),
        ("7000000080", UInt(128)),
        ("44", ULong(0)),
        ("53ff", ULong(255)),
        ("54ff", Int(-1)),
        ("55ff", -1),
        ("a103c3a474", "ät"),
        ("a30366616c", Symbol("fal")),
        ("a0020001", b"\0\1"),
        ("45", []),
        ("c003024142", [True, False]),
        ("d1000000080000000241a10161", {True: "a"}),
        ("e00602a301610162", Array([Symbol("a"), Symbol("b")])),
        ("e00100", Array()),
        ("e00702005301500102", Array([Described(ULong(1), UByte(1)), Described(ULong(1), UByte(2))])),
        ("98" + "00" * 15 + "01", uuid.UUID(int=1)),
        ("830000000000000001", Timestamp(1)),
    ],
)
def test_octets_mean_what_the_specification_says(octets: str, value: Any) -> None:
    """Part 1, section 1.6, with the short encodings that other people's software sends."""
    assert kinds(decoded(bytes.fromhex(octets))) == kinds(value)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        ("", "a value needs 1 octets, and 0 are left"),
        ("a105", "a value needs 5 octets, and 0 are left"),
        ("99", "0x99 is the constructor of no type known here"),
        ("a2", "0xa2 is the constructor of no type known here"),
        ("5602", "a boolean is 0x02"),
        ("7300110000", "0x110000 is not a character"),
        ("a101ff", "a string is not UTF-8, or a symbol not ASCII"),
        ("c10201" + "41", "a map has a key without a value"),
        ("c1050441424142", "a map has the same key twice"),
        ("c103024541", "a map has a list, a map or an array for a key"),
        ("c0030141" + "41", "a list, map or array has more octets than items"),
        ("f000000005ffffffff40", "5 octets can't hold 4294967295 items"),
        ("00" * (DEPTH_LIMIT + 1), f"values stand in each other more than {DEPTH_LIMIT} deep"),
    ],
)
def test_what_is_no_value_is_named(octets: str, why: str) -> None:
    """The text says what is wrong."""
    with pytest.raises(Malformed) as caught:
        Reader(bytes.fromhex(octets)).value()
    assert str(caught.value) == why


def test_lists_in_lists_end_somewhere() -> None:
    """A frame full of opening brackets costs no more than the limit."""
    octets = b"\x45"
    for _ in range(DEPTH_LIMIT + 1):
        octets = b"\xd0" + (4 + len(octets)).to_bytes(4, "big") + b"\0\0\0\1" + octets
    with pytest.raises(Malformed, match="deep"):
        Reader(octets).value()


@pytest.mark.parametrize("value", [object(), 1 + 1j, Array([UInt(1), "a"])])
def test_what_amqp_has_no_type_for_is_refused(value: Any) -> None:
    """Nothing is guessed."""
    with pytest.raises(TypeError):
        encode(value)


# --- composites ---

UINTS = whole(UInt, 32, signed=False)
COMPOSITES = st.one_of(
    st.builds(Open, container_id=st.text(), hostname=st.none() | st.text(), max_frame_size=UINTS),
    st.builds(
        Attach,
        link=st.text(),
        handle=UINTS,
        role=st.booleans(),
        source=st.none() | st.builds(Source, address=st.none() | st.text()),
        target=st.none() | st.builds(Target, address=st.none() | st.text(), dynamic=st.booleans()),
    ),
    st.builds(
        Flow,
        incoming_window=UINTS,
        next_outgoing_id=UINTS,
        outgoing_window=UINTS,
        link_credit=st.none() | UINTS,
        drain=st.booleans(),
    ),
    st.builds(Transfer, handle=UINTS, delivery_tag=st.none() | st.binary(max_size=32), more=st.booleans()),
)


@given(COMPOSITES, st.integers(0, 255), st.binary(max_size=50))
def test_frames_come_back(performative: Composite, channel: int, payload: bytes) -> None:
    """A frame has the same performative, channel and payload on the other side, in whatever pieces it arrives."""
    octets = AMQP_HEADER + encode_frame(performative, payload, channel=channel) + encode_frame(None)
    buffer = bytearray()
    found: list[Header | Frame] = []
    for octet in octets:
        buffer.append(octet)
        found += take(buffer, LIMIT)
    header, frame, heartbeat = found
    assert header == Header(AMQP_HEADER)
    assert isinstance(frame, Frame)
    assert (frame.read(), frame.channel) == ((performative, payload), channel)
    assert heartbeat == Frame(0, 0, b"")


def test_a_list_may_be_named_and_cut_short() -> None:
    """Descriptors may be symbols, and places at the end may be left out, or be more than are known here."""
    error = Error(condition="amqp:not-found", description="no")
    assert read(Described(Symbol("amqp:rejected:list"), [error.described()])) == Rejected(error=error)
    assert read(Described(ULong(0x15), [True, UInt(1)])) == Disposition(role=True, first=1)
    assert read(Described(ULong(0x18), [None, "more"])).error is None
    unknown = Described(ULong(0x99), [])
    assert read(unknown) is unknown


@pytest.mark.parametrize(
    ("described", "why"),
    [
        (Described(ULong(0x10), []), "open has no container-id"),
        (Described(ULong(0x10), [UInt(1)]), "open has UInt for container-id"),
        (Described(ULong(0x12), {}), "attach is not a list"),
        (Described(ULong(0x12), ["l", UInt(0), True, None, None, "x"]), "attach has str for source"),
    ],
)
def test_a_list_that_lacks_something_is_refused(described: Described, why: str) -> None:
    """The text names the place."""
    with pytest.raises(Malformed) as caught:
        read(described)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        ("GET / HTTP/1.1", "a frame has 1195725856 bytes; at most 65536 are taken"),
        ("\0\0\0\7\2\0\0\0", "a frame of 7 bytes has its body at 8"),
        ("\0\0\0\x10\1\0\0\0", "a frame of 16 bytes has its body at 4"),
        ("\0\0\0\x10\xff\0\0\0", "a frame of 16 bytes has its body at 1020"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(octets: str, why: str) -> None:
    """Size and offset have to fit each other and the limit."""
    with pytest.raises(BadFrame) as caught:
        list(take(bytearray(octets.encode("latin-1")), LIMIT))
    assert str(caught.value) == why


# --- messages ---


@given(
    st.binary(max_size=50),
    st.dictionaries(st.text(), SIMPLE, max_size=3),
    st.builds(Properties, message_id=st.text() | st.uuids(), to=st.text(), user_id=st.none() | st.binary()),
)
def test_messages_come_back(body: bytes, application: dict[Any, Any], properties: Properties) -> None:
    """Body and properties are the same on the other side."""
    message = Message(body=body, properties=properties, application_properties=application)
    assert Message.of(message.encode()) == message


def test_data_sections_are_one_body() -> None:
    """Several data sections follow each other; a header and a footer change nothing."""
    sections = [
        Described(ULong(0x70), [True]),
        Described(ULong(0x75), b"one "),
        Described(Symbol("amqp:data:binary"), b"two"),
        Described(ULong(0x78), {}),
    ]
    message = Message.of(b"".join(map(encode, sections)))
    assert (message.body, message.has_data) == (b"one two", True)
    value = Message.of(encode(Described(ULong(0x77), "text")))
    assert (value.body, value.has_data) == ("text", False)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (encode("text"), "a message has something that is not a section"),
        (encode(Described([], b"")), "a message has something that is not a section"),
        (encode(Described(ULong(0x75), "text")), "a message has the section 117 with str in it"),
        (encode(Described(ULong(0x73), [None, "user"])), "properties has str for user-id"),
    ],
)
def test_what_is_no_message_is_refused(octets: bytes, why: str) -> None:
    """The text names the section."""
    with pytest.raises(Malformed) as caught:
        Message.of(octets)
    assert str(caught.value) == why
