"""Tiles and bundles of entries: their paths, and their bytes."""

from __future__ import annotations

from hashlib import sha256

import pytest
from tlog_scales.reader import TilesReader as Reader

from shared.evidence.tiles import ENTRIES, Tile, bundled, split, unbundled
from shared.evidence.verify import NotProved
from tests.unit.evidence.logs import large, numbered
from tests.unit.evidence.test_trees import vectors


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1_234_067), "tile/0/x001/x234/067"),  # C2SP tlog-tiles, "Merkle Tree"
        (Tile(0, 0), "tile/0/000"),
        (Tile(63, 999), "tile/63/999"),
        (Tile(1, 1000), "tile/1/x001/000"),
        (Tile(0, 273, 112), "tile/0/273.p/112"),
        (Tile(ENTRIES, 1_234_067, 1), "tile/entries/x001/x234/067.p/1"),
    ],
)
def test_a_tile_has_one_path(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert Tile.read(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/64/000",
        "tile/00/000",
        "tile/-1/000",
        "tile/0/0",
        "tile/0/1000",
        "tile/0/001/000",
        "tile/0/x000/001",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000/",
        "tile/data/000",
        "tile/0/\u0661\u0661\u0661",
        "tile/0/000\n",
        "tile/0/../000",
        "",
    ],
)
def test_anything_else_is_not_a_path_of_a_tile(path: str) -> None:
    assert Tile.read(path) is None


def test_a_tree_of_70000_leaves_has_the_tiles_of_the_specification_and_no_others() -> None:
    """C2SP tlog-tiles, "Partial Tiles": 273 full ones, one of 112; one full one of level 1, one of 17; one of 1."""
    there = [Tile(0, 0), Tile(0, 272), Tile(0, 273, 112), Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1), Tile(0, 273, 5)]
    missing = [
        Tile(0, 273),
        Tile(0, 273, 113),
        Tile(0, 274, 1),
        Tile(1, 1),
        Tile(1, 1, 18),
        Tile(2, 0, 2),
        Tile(3, 0, 1),
    ]
    assert [each for each in there if not each.exists_in(70_000)] == []
    assert [each for each in missing if each.exists_in(70_000)] == []


def test_tiles_are_those_of_go() -> None:
    log, wanted = large(), vectors()["Tiles"]
    assert len(wanted) == 277
    for path, digest in wanted.items():
        tile = Tile.read(path)
        assert tile is not None
        assert sha256(log.tile(tile)).hexdigest() == digest, path


class Served:
    """The files of a log, as another implementation asks for them."""

    def __init__(self) -> None:
        self.log = large()

    def get(self, *path: str) -> bytes | None:
        tile = Tile.read("/".join(path))
        assert tile is not None
        return self.log.tile(tile)


def test_another_implementation_reads_the_log_from_its_tiles() -> None:
    reader = Reader(Served())
    reader.set_size(70_000)
    assert reader.calculate_root_hash() == large().head.tree.root
    assert reader.get_entry(69_999) == b"entry 69999"
    assert reader.get_entry(511) == b"entry 511"


def test_a_bundle_of_entries_reads_as_it_was_written() -> None:
    entries = [b"a", b"", b"x" * 65_535]
    assert bundled(entries[:2]) == b"\x00\x01a\x00\x00"
    assert list(unbundled(bundled(entries))) == entries


@pytest.mark.parametrize("content", [b"\x00", b"\x00\x02a", b"\x00\x01a\x00"])
def test_a_bundle_that_was_cut_is_refused(content: bytes) -> None:
    with pytest.raises(NotProved, match=r"^a bundle of entries ends within an entry$"):
        unbundled(content)


def test_a_tile_that_was_cut_is_refused() -> None:
    with pytest.raises(NotProved, match=r"^a tile has 33 bytes, which is not a number of hashes up to 256$"):
        split(bytes(33))


def test_the_beginning_of_a_full_tile_is_the_tile_that_was_there_before() -> None:
    log, before = numbered(300), numbered(40)
    for tile in (Tile(0, 0, 40), Tile(ENTRIES, 0, 40)):
        assert log.head.tile(tile) == before.head.tile(tile)
