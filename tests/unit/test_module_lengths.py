"""Modules of the app are short enough to be read at once."""

from __future__ import annotations

from tests.sources import sources

LIMIT = 400


def test_no_module_of_the_app_has_more_than_400_lines() -> None:
    """One that needs more is about more than one thing: divide it by what its parts are about."""
    lengths = {path: len(source.splitlines()) for path, source in sources("shared", "triggers").items()}
    assert len(lengths) > 100, "the app is where it is looked for"
    assert {name: lines for name, lines in lengths.items() if lines > LIMIT} == {}
