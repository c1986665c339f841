"""What runs side by side is all there is, and each of it once."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tomllib
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import pytest_collection_modifyitems
from tests.side_by_side import (
    IN_A_BROWSER,
    PYTEST,
    REPOSITORY,
    Part,
    parts,
    parts_apart,
    run,
    run_all,
    share_of,
    temporary_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def files(argument: str) -> set[Path]:
    path = REPOSITORY / argument
    return set(path.rglob("test_*.py")) if path.is_dir() else {path}


def run_by(part: Part) -> Iterator[Path]:
    without = {
        file for each in part.arguments if each.startswith("--") for file in files(each.removeprefix("--ignore="))
    }
    for each in part.arguments:
        if not each.startswith("--"):
            yield from files(each) - without


def test_every_test_is_in_one_part() -> None:
    """All files below pytest's own test paths run, and none of them twice; what needs a browser has a target of its own."""
    paths = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["testpaths"]
    shares = defaultdict[Path, list[tuple[int, int]]](list)
    for part in parts():
        for file in run_by(part) if part.program == PYTEST else ():
            shares[file].append(part.share)
    assert shares.keys() == {file for path in paths for file in files(path) - files(IN_A_BROWSER)}
    for file, found in shares.items():
        count = len(found)
        assert sorted(found) == [(number, count) for number in range(1, count + 1)], file
    assert files(IN_A_BROWSER)
    assert f"pytest -q {IN_A_BROWSER}\n" in (REPOSITORY / "Makefile").read_text()


def test_in_zones_every_end_to_end_test_runs_and_no_other() -> None:
    """But for test_zones, which is in zones always; each part is told how many zones there are."""
    apart = parts_apart(4)
    assert Counter(file for part in apart for file in run_by(part)) == Counter(
        files("tests/end_to_end") - files("tests/end_to_end/test_zones.py")
    )
    assert [part.environment for part in apart] == [{"ZONES": "4"}] * len(apart)


def test_shares_are_all_there_is_and_none_of_it_twice() -> None:
    """In whatever order each process has found the tests."""
    found = [f"test_{number}" for number in range(10)]
    shares = [share_of(found if number % 2 else found[::-1], f"{number}/3", key=str) for number in (1, 2, 3)]
    assert [len(share) for share in shares] == [4, 3, 3]
    assert sorted(itertools.chain(*shares)) == found
    for wrong in ("0/3", "4/3"):
        with pytest.raises(ValueError, match=f"'{wrong}' is not a share; the second of three is '2/3'"):
            share_of(found, wrong, key=str)


def test_a_process_runs_the_share_that_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves to others it tells as deselected."""
    left: list[Any] = []

    def note(*, items: list[Any]) -> None:
        left.extend(items)

    config: Any = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=note))
    items: list[Any] = [SimpleNamespace(nodeid=f"test_{number}") for number in (3, 1, 2)]
    found, own = list(items), share_of(items, "1/2", key=lambda item: item.nodeid)
    monkeypatch.setenv("SHARE", "1/2")
    pytest_collection_modifyitems(config, items)
    assert items == [each for each in found if each in own], "in the order in which they were found"
    assert left == [each for each in found if each not in own]
    assert (len(items), len(left)) == (2, 1)


def test_tests_of_one_kind_are_in_different_shares() -> None:
    """Every sixth of these is long, as the pairs of one act are: no share has more than twice as many as it should."""
    found = [f"test[{first}-{second}]" for first in range(60) for second in range(6)]
    shares = [share_of(found, f"{number}/6", key=str) for number in range(1, 7)]
    assert max(sum(each.endswith("-3]") for each in share) for share in shares) < 2 * 60 / 6


def test_a_part_is_told_its_share_and_keeps_what_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says of compiled modules: the other parts want them."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("SHARE", raising=False)
    script = 'echo "${SHARE-whole} ${PYTHONDONTWRITEBYTECODE-kept} $ZONES"'
    part = Part("one", ("-c", script), program=("bash",), environment={"ZONES": "4"})
    assert run(part)[:2] == (0, "whole kept 4\n")
    assert run(replace(part, share=(2, 3)))[:2] == (0, "2/3 kept 4\n")


def test_a_part_has_a_folder_of_its_own_for_temporary_files_which_stays_if_it_fails() -> None:
    """Python's, pytest's and bash's are all told by TMPDIR."""
    made = "import tempfile; print(tempfile.mkstemp()[1], flush=True)"
    gone, kept = (
        Path(run(Part("one", ("-c", made + ending), program=(sys.executable,)))[1].splitlines()[0]).parent
        for ending in ("", "; exit(1)")
    )
    assert (gone.name[:5], kept.name[:5]) == ("part-", "part-")
    assert (gone.exists(), kept.exists()) == (False, True)
    shutil.rmtree(kept)


@pytest.mark.parametrize(
    ("room", "flags", "taken"),
    [(3 << 30, 0, True), (3 << 30, os.ST_NOSUID, True), (1 << 30, 0, False), (3 << 30, os.ST_NOEXEC, False)],
)
def test_temporary_files_are_in_memory_if_it_has_room_and_runs_programs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, room: int, flags: int, *, taken: bool
) -> None:
    """A container often has 64 MiB of it, and may not run what lies there."""
    found = SimpleNamespace(f_bavail=room >> 12, f_frsize=1 << 12, f_flag=flags)
    monkeypatch.setattr(os, "statvfs", {str(tmp_path): found}.__getitem__)
    monkeypatch.delenv("TMPDIR", raising=False)
    assert temporary_files(str(tmp_path)) == (str(tmp_path) if taken else None)
    monkeypatch.setenv("TMPDIR", "chosen")
    assert temporary_files(str(tmp_path)) is None


def test_temporary_files_are_on_the_disk_where_memory_has_no_place_for_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    assert temporary_files(str(tmp_path / "shm")) is None


def test_a_part_is_told_how_much_of_a_processor_it_took() -> None:
    """Its children's share as well: a shell that has another one compute took no time itself."""
    idle, busy = (
        run(Part("one", ("-c", script), program=("bash",)))[2]
        for script in (":", "bash -c 'for ((n = 0; n < 300000; n++)); do :; done'; :")
    )
    assert busy > 4 * idle


def test_a_part_that_fails_fails_the_run_and_shows_all_that_it_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Of one that succeeds, its last line is enough."""
    fine, broken = (
        Part(name, (f"echo {name} 1; echo {name} 2; exit {status}",), program=("bash", "-c"))
        for name, status in (("fine", 0), ("broken", 3))
    )
    assert run_all([fine])
    assert not run_all([fine, broken])
    printed = capsys.readouterr().out
    assert "fine 1" not in printed
    assert printed.count("fine 2") == 2
    assert "broken 1\nbroken 2" in printed
