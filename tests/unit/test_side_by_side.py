"""What runs side by side is all there is, and each of it once."""

from __future__ import annotations

import tomllib
from collections import Counter
from typing import TYPE_CHECKING

from tests.side_by_side import IN_A_BROWSER, PYTEST, REPOSITORY, Part, parts, parts_apart, run_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest


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
    assert Counter(file for part in parts() if part.program == PYTEST for file in run_by(part)) == Counter(
        file for path in paths for file in files(path) - files(IN_A_BROWSER)
    )
    assert files(IN_A_BROWSER)
    assert f"pytest -q {IN_A_BROWSER}\n" in (REPOSITORY / "Makefile").read_text()


def test_in_zones_every_end_to_end_test_runs_and_no_other() -> None:
    """But for test_zones, which is in zones always; each part is told how many zones there are."""
    apart = parts_apart(4)
    assert Counter(file for part in apart for file in run_by(part)) == Counter(
        files("tests/end_to_end") - files("tests/end_to_end/test_zones.py")
    )
    assert [part.environment for part in apart] == [{"ZONES": "4"}] * len(apart)


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
