"""What is written as DER reads as it was meant, by another's hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.der import encoder
from pyasn1.type import char, univ, useful

from shared.pki import der
from shared.pki.subjects import Subject


@given(st.integers(0, 1 << 160))
def test_integers_are_read_as_they_were(value: int) -> None:
    """An integer is as short as can be, and positive."""
    assert der.integer(value) == encoder.encode(univ.Integer(value))


@given(st.tuples(st.integers(0, 1), st.integers(0, 39)), st.lists(st.integers(0, 1 << 70), max_size=8))
def test_object_identifiers_are_read_as_they_were(first: tuple[int, int], rest: list[int]) -> None:
    """An identifier is written in base 128, most significant first."""
    dotted = ".".join(map(str, (*first, *rest)))
    assert der.object_identifier(dotted) == encoder.encode(univ.ObjectIdentifier(dotted))


@given(st.integers(0, 70_000))
def test_lengths_are_in_the_shortest_form(length: int) -> None:
    """A length under 128 takes one octet, a longer one as many as it needs and one more."""
    assert der.octet_string(bytes(length)) == encoder.encode(univ.OctetString(bytes(length)))


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2026, 3, 1, 12, 0, 7, tzinfo=UTC), useful.UTCTime("260301120007Z")),
        (datetime(2009, 1, 2, 3, 4, 5, 678, tzinfo=UTC), useful.UTCTime("090102030405Z")),
        (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), useful.UTCTime("491231235959Z")),
        (datetime(2050, 1, 1, tzinfo=UTC), useful.GeneralizedTime("20500101000000Z")),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), useful.GeneralizedTime("99991231235959Z")),
        (datetime(2050, 1, 1, tzinfo=timezone(timedelta(hours=1))), useful.UTCTime("491231230000Z")),
    ],
)
def test_times_change_their_form_in_2050(at: datetime, expected: char.VisibleString) -> None:
    """RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on, in UTC, to the second."""
    assert der.time(at) == encoder.encode(expected)


@given(st.recursive(st.binary(max_size=300), lambda inner: st.lists(inner, max_size=5), max_leaves=20))
def test_parts_are_found_by_their_number(value: list[object] | bytes) -> None:
    """Every part of nested sequences is found under its path, and has the content that was put in."""

    def encoded(part: object) -> bytes:
        return der.octet_string(part) if isinstance(part, bytes) else der.sequence(*map(encoded, part))  # type: ignore[call-overload]

    def check(part: object, path: tuple[int, ...]) -> None:
        if isinstance(part, bytes):
            assert der.content(whole, *path) == part
            return
        for number, inner in enumerate(part):  # type: ignore[var-annotated,arg-type]
            check(inner, (*path, number))

    whole = encoded(value)
    check(value, ())


@pytest.mark.parametrize(
    "damaged", [b"", b"\x30", b"\x30\x80\0\0", b"\x30\x05\4\1a", b"\x30\2\4\1", b"\x30\x84\xff\xff\xff\xff"]
)
def test_what_is_no_der_has_no_parts(damaged: bytes) -> None:
    """A value that is cut off, of indefinite length or longer than what it is in is refused."""
    with pytest.raises(ValueError, match=r"is cut off, or of indefinite length|is longer than what it is in"):
        list(der.parts(damaged))


def test_parts_come_one_by_one() -> None:
    """Each part comes whole, and nothing behind the value does."""
    first, second = der.octet_string(bytes(200)), der.integer(5)
    assert list(der.parts(der.sequence(first, second) + b"more")) == [first, second]


PRINTABLE = st.text(min_size=1, max_size=16).filter(str.isprintable)  # 64 octets at most


@given(
    common_name=PRINTABLE,
    organization=st.none() | PRINTABLE,
    country=st.none() | st.from_regex(r"[A-Z]{2}", fullmatch=True),
)
def test_a_name_is_what_cryptography_makes_of_it(
    common_name: str, organization: str | None, country: str | None
) -> None:
    """The subject that is written directly is the one of cryptography's own name, octet by octet."""
    subject = Subject(common_name, organization, country)
    assert subject.to_der() == subject.to_name().public_bytes()
