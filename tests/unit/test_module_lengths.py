"""Modules of the app are short enough to be read at once."""

from __future__ import annotations

from tests.side_by_side import REPOSITORY

LIMIT = 400


def test_no_module_of_the_app_has_more_than_400_lines() -> None:
    """One that needs more is about more than one thing: divide it by what its parts are about."""
    lengths = {
        str(file.relative_to(REPOSITORY)): len(file.read_text().splitlines())
        for folder in ("shared", "triggers")
        for file in REPOSITORY.joinpath(folder).rglob("*.py")
    }
    assert len(lengths) > 100, "the app is where it is looked for"
    assert {name: lines for name, lines in lengths.items() if lines > LIMIT} == {}
