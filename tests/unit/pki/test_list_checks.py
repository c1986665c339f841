"""What is looked at in a list before it is published."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.pki.list_checks import (
    ListError,
    ReadList,
    check_entries,
    check_successor,
    listed_serial_numbers,
    read_list,
    serial_numbers,
)
from shared.pki.revocation_lists import RevokedCertificate, build_crl, encode_entry
from tests.pki.hierarchy import NOW, hierarchy

UNTIL = NOW + timedelta(days=7)


def entries(*serials: int) -> bytes:
    return b"".join(encode_entry(RevokedCertificate(serial, NOW, "superseded")) for serial in serials)


def made(*serials: int, number: int = 5) -> bytes:
    return build_crl([entries(*serials)], issuer=hierarchy().issuing, crl_number=number, now=NOW, next_update=UNTIL)


def test_a_list_is_read_as_others_read_it() -> None:
    """Its number, its times and how many entries it has."""
    found = read_list(made(1, 2, 3), hierarchy().issuing)
    assert (found.number, found.next_update, found.length) == (5, UNTIL, 3)
    assert found.this_update <= NOW
    assert listed_serial_numbers(made(1, 2, 3), hierarchy().issuing) == {1, 2, 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the list can't be read"),
        (made(1)[:-20], "the list can't be read"),
        (
            build_crl([b"\x30\x03\x02\x01\x07"], issuer=hierarchy().issuing, crl_number=1, now=NOW, next_update=UNTIL),
            "the list can't be read",
        ),
        (
            build_crl([], issuer=hierarchy().root, crl_number=1, now=NOW, next_update=UNTIL),
            "the list is not one of 'line-1-ca1'",
        ),
    ],
    ids=["empty", "cut off", "entries without a date", "another CA's"],
)
def test_what_is_not_a_list_of_the_ca_is_not_read(content: bytes, message: str) -> None:
    """Each is said in words."""
    with pytest.raises(ListError) as refused:
        read_list(content, hierarchy().issuing)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("number", "length", "before", "message"),
    [
        (5, 2, 4, None),
        (5, 2, None, None),
        (6, 2, 4, "the list has number 5 and 2 entries; it was to have 6 and 2"),
        (5, 3, 4, "the list has number 5 and 2 entries; it was to have 5 and 3"),
        (5, 2, 5, "the list has number 5; the one before has 5"),
        (5, 2, 9, "the list has number 5; the one before has 9"),
    ],
)
def test_a_list_is_what_was_to_be_made_and_comes_after_the_one_before(
    number: int, length: int, before: int | None, message: str | None
) -> None:
    """A list of another length or number than was meant is not published."""
    predecessor = None if before is None else ReadList(before, NOW, UNTIL, 1)
    found = read_list(made(1, 2), hierarchy().issuing)
    if message is None:
        check_successor(found, number=number, length=length, before=predecessor)
        return
    with pytest.raises(ListError) as refused:
        check_successor(found, number=number, length=length, before=predecessor)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"junk", "what is at octet 0 is not an entry of a list"),
        (entries(1)[:-1], "the entry at octet 0 is cut off"),
        (entries(1) + b"\x30", f"what is at octet {len(entries(1))} is not an entry of a list"),
        (b"\x30\x02\x02\x05", "the entry at octet 0 is cut off"),
    ],
)
def test_what_is_not_made_of_entries_is_not_joined(content: bytes, message: str) -> None:
    """Whatever stands there, it is said where."""
    with pytest.raises(ListError) as refused:
        serial_numbers(content)
    assert str(refused.value) == message


def test_entries_change_by_what_was_to_change() -> None:
    """What has come or gone beside that is an error, and so is an entry that stands there twice."""
    large = (1 << 159) - 1
    assert serial_numbers(entries(1, large, 128)) == [1, large, 128]
    assert check_entries(entries(1, 2, 3), entries(1, 4), removed={2, 3, 9}, added={4}) == 2
    for after in (entries(1), entries(1, 4, 5), entries(1, 4, 4)):
        with pytest.raises(ListError, match="where 2 were to be"):
            check_entries(entries(1, 2, 3), after, removed={2, 3}, added={4})
