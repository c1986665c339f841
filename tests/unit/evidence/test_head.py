"""The head of a log: what it keeps, and what it says of itself when it was changed by hand."""

from __future__ import annotations

from hashlib import sha256

import pytest

from shared.evidence.head import Head
from shared.evidence.tiles import ENTRIES, Tile, unbundled
from shared.evidence.verify import NotProved
from tests.unit.evidence.logs import ORIGIN, large, numbered


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1000])
def test_a_head_reads_as_it_was_written(count: int) -> None:
    head = numbered(count).head
    assert Head.from_bytes(head.to_bytes()) == head
    assert head.size == count


def test_a_head_of_before_is_read_and_goes_on() -> None:
    """An update of the app must not stop what is signed: this head was written before batches were counted."""
    root = sha256(b"\x00" + b"entry 0").hexdigest()
    line = (
        f'{{"schema": 1, "origin": "{ORIGIN}", "size": 1, "root": "{root}", "written": 0, "edge": [], "projected": []}}'
    )
    head = Head.from_bytes(line.encode() + b"\n" + b"\x00\x07entry 0")
    assert (head.size, head.turns, head.appended([b"entry 1"]).size) == (1, 0, 2)


def test_a_head_that_lacks_what_it_must_say_is_refused_in_words() -> None:
    with pytest.raises(NotProved, match=r"^the head of the log can't be read: it does not have the field 'edge'$"):
        Head.from_bytes(b'{"schema": 1}\n')


def test_a_log_is_the_same_however_its_entries_were_batched() -> None:
    assert len({numbered(1500, batch=batch).head.tree for batch in (1, 3, 256, 257, 1500)}) == 1


def test_a_head_has_no_more_than_the_entries_of_a_tile_and_what_fills_it() -> None:
    assert [len(numbered(count, batch=1).head.entries) for count in (256, 257, 300)] == [256, 1, 44]


def test_the_tiles_of_a_head_are_written_once_they_are_full() -> None:
    settled, tiles = numbered(256).head.settled()
    assert list(tiles) == [Tile(ENTRIES, 0), Tile(0, 0)]
    assert unbundled(tiles[Tile(ENTRIES, 0)])[255] == b"entry 255"
    assert (settled.entries, settled.written, [len(each) for each in settled.edge]) == ((), 256, [1])
    assert settled.tree == numbered(256).head.tree


def test_a_tile_of_the_next_level_is_written_when_256_tiles_are_full() -> None:
    assert sorted(tile.path for tile in large().tiles if tile.level > 0) == ["tile/1/000"]
    assert [len(each) for each in large().head.edge] == [13, 1], "69,000 entries, before the last 1,000, fill 269 tiles"


def test_an_entry_that_no_tile_can_hold_is_refused() -> None:
    for length in (0, 65_536):
        with pytest.raises(
            ValueError, match=rf"^an entry of the log has {length} bytes; from 1 to 65535 are possible$"
        ):
            Head(origin=ORIGIN).appended([bytes(length)])


def test_a_head_that_was_changed_in_any_byte_is_refused_or_says_the_same() -> None:
    head = numbered(700).head
    content = head.to_bytes()
    for at in range(0, len(content), 5):
        changed = bytearray(content)
        changed[at] ^= 1
        try:
            found = Head.from_bytes(bytes(changed))
        except NotProved:
            continue
        assert found.tree == head.tree, "a name was changed, and no entry"


@pytest.mark.parametrize("cut", [0, 10, 200, -1])
def test_a_head_that_was_cut_is_refused(cut: int) -> None:
    with pytest.raises(NotProved, match=r"^the head of the log "):
        Head.from_bytes(numbered(300).head.to_bytes()[:cut])
