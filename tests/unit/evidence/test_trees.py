"""Roots and proofs, against published values, another language's implementation, and another one of this language."""

from __future__ import annotations

import base64
import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tlog_scales.tlog import ConsistencyProof, ConsistencyProofInvalid, InclusionProof, InclusionProofInvalid

from shared.evidence.trees import (
    EMPTY_ROOT,
    GrowingTree,
    Span,
    check_consistency,
    consistency_path,
    inclusion_path,
)
from shared.evidence.verify import NotProved, Tree, check_inclusion, leaf_hash
from tests.unit.evidence.logs import large, numbered

# From the tests of Certificate Transparency's Merkle trees (github.com/transparency-dev/merkle, testonly/constants.go).
PUBLISHED_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
PUBLISHED_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@cache
def vectors() -> dict[str, Any]:
    """Read what Go's implementation made; sumdb.go says how."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("sumdb.json").read_text())
    return found


def decoded(hashes: list[str] | None) -> tuple[bytes, ...]:
    return tuple(map(base64.b64decode, hashes or ()))


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert GrowingTree().tree == Tree(0, sha256(b"").digest())
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_roots_are_those_that_certificate_transparency_publishes() -> None:
    growing, found = GrowingTree(), []
    for each in PUBLISHED_LEAVES:
        growing.append(leaf_hash(bytes.fromhex(each)))
        found.append(growing.tree.root.hex())
    assert found == PUBLISHED_ROOTS


def test_the_example_of_rfc_9162_has_the_paths_that_it_says() -> None:
    """Section 2.1.5: a tree with 7 leaves; a, b, ... are leaves, g = ab, h = cd, i = ef, k = gh, l = ij, j = leaf 6."""
    a, b, d, e, g, h, i, j, k, l = (  # noqa: E741 - as the RFC names them
        Span(0, 1), Span(1, 2), Span(3, 4), Span(4, 5), Span(0, 2), Span(2, 4), Span(4, 6), Span(6, 7), Span(0, 4), Span(4, 7),
    )  # fmt: skip
    assert inclusion_path(0, 7) == [b, h, l]
    assert inclusion_path(3, 7) == [Span(2, 3), g, l]
    assert inclusion_path(4, 7) == [Span(5, 6), j, k]
    assert inclusion_path(6, 7) == [i, k]
    assert consistency_path(3, 7) == [Span(2, 3), d, g, l]
    assert consistency_path(4, 7) == [l]
    assert consistency_path(6, 7) == [i, j, k]
    assert a not in inclusion_path(0, 7)
    assert e not in inclusion_path(4, 7)


@pytest.mark.parametrize("tree", vectors()["Trees"], ids=lambda tree: str(tree["Size"]))
def test_roots_and_proofs_are_those_of_go(tree: dict[str, Any]) -> None:
    size, root = tree["Size"], base64.b64decode(tree["Root"])
    log = large()
    assert log.tree(size) == Tree(size, root)
    for index, path in tree["Inclusion"].items():
        assert log.path(inclusion_path(int(index), size), size) == decoded(path)
        check_inclusion(leaf_hash(b"entry " + index.encode()), int(index), decoded(path), Tree(size, root))
    for first, path in tree["Consistency"].items():
        assert log.consistency(int(first), size) == decoded(path)
        check_consistency(log.tree(int(first)), Tree(size, root), decoded(path))


def test_another_implementation_takes_each_proof_of_each_tree_up_to_70_leaves() -> None:
    log = numbered(70, batch=7)
    trees = [Tree(0, EMPTY_ROOT), *(log.tree(size) for size in range(1, 71))]
    for size in range(1, 71):
        for index in range(size):
            path = list(log.path(inclusion_path(index, size), size))
            InclusionProof(index, size, path).check(leaf_hash(log.entry(index)), trees[size].root)
            check_inclusion(leaf_hash(log.entry(index)), index, path, trees[size])
        for first in range(size + 1):
            path = list(log.consistency(first, size))
            ConsistencyProof(first, size, path).check(trees[first].root, trees[size].root)
            check_consistency(trees[first], trees[size], path)


def _spoiled(path: tuple[bytes, ...], random: Random) -> list[bytes]:
    """Change a path in one place: a bit, or one hash more or less."""
    hashes, at = list(path), random.randrange(len(path) + 1)
    kind = random.choice(("bit", "more", "less"))
    if kind == "more" or not hashes:
        hashes.insert(at, random.randbytes(32))
    elif kind == "less":
        del hashes[at % len(hashes)]
    else:
        at %= len(hashes)
        flipped = bytearray(hashes[at])
        flipped[random.randrange(32)] ^= 1 << random.randrange(8)
        hashes[at] = bytes(flipped)
    return hashes


def test_a_path_that_was_changed_proves_nothing() -> None:
    log, random = numbered(70), Random(9162)  # noqa: S311 - the same each time
    for _ in range(500):
        size = random.randint(1, 70)
        index, tree = random.randrange(size), log.tree(size)
        path = _spoiled(log.path(inclusion_path(index, size), size), random)
        with pytest.raises(NotProved):
            check_inclusion(leaf_hash(log.entry(index)), index, path, tree)
        with pytest.raises(InclusionProofInvalid):
            InclusionProof(index, size, path).check(leaf_hash(log.entry(index)), tree.root)
        first = random.randint(1, size)
        path = _spoiled(log.consistency(first, size), random)
        with pytest.raises(NotProved):
            check_consistency(log.tree(first), tree, path)
        with pytest.raises(ConsistencyProofInvalid):
            ConsistencyProof(first, size, path).check(log.tree(first).root, tree.root)


def test_a_leaf_is_proved_at_its_own_place_alone() -> None:
    log = numbered(70)
    tree, path = log.tree(70), log.path(inclusion_path(41, 70), 70)
    for index in {*range(71)} - {41}:
        with pytest.raises(NotProved):
            check_inclusion(leaf_hash(b"entry 41"), index, path, tree)


def test_a_log_that_got_shorter_or_is_another_one_is_refused_with_the_numbers() -> None:
    log, other = numbered(9), numbered(9)
    other.append(b"another")
    with pytest.raises(NotProved, match=r"^a log does not get shorter: it had 9 entries, and has 8$"):
        check_consistency(log.tree(9), log.tree(8), [])
    with pytest.raises(NotProved, match=r"^the log with 10 entries does not begin with the one with 8$"):
        check_consistency(Tree(8, bytes(32)), other.tree(10), other.consistency(8, 10))
    with pytest.raises(NotProved, match=r"^these are two logs with 9 entries each, and other ones$"):
        check_consistency(log.tree(9), Tree(9, bytes(32)), [])


def test_there_is_no_path_to_a_leaf_that_a_tree_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"^a tree with 7 leaves does not have leaf 7$"):
        inclusion_path(7, 7)
    with pytest.raises(ValueError, match=r"^a tree with 7 leaves does not begin with one with 8$"):
        consistency_path(8, 7)
