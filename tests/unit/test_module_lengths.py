"""Modules of the app are short enough to be read at once."""

from __future__ import annotations

from tests.side_by_side import REPOSITORY

LIMIT = 400
LONGER = {"shared/services.py": 438}
"""Modules that are still longer, with the lines that they may have: a number here may only fall."""


def lengths() -> dict[str, int]:
    return {
        str(file.relative_to(REPOSITORY)): len(file.read_text().splitlines())
        for folder in ("shared", "triggers")
        for file in REPOSITORY.joinpath(folder).rglob("*.py")
    }


def test_no_module_of_the_app_has_more_than_400_lines() -> None:
    """One that needs more is about more than one thing: divide it by what its parts are about."""
    found = lengths()
    assert len(found) > 100, "the app is where it is looked for"
    assert {name: lines for name, lines in found.items() if lines > LONGER.get(name, LIMIT)} == {}


def test_what_has_become_short_stays_short() -> None:
    """A module that has come below the limit is taken out of the list."""
    found = lengths()
    assert [name for name in LONGER if found.get(name, 0) <= LIMIT] == []
