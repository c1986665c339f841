"""The code as text, for tests that look through it."""

from __future__ import annotations

from tests.side_by_side import REPOSITORY


def sources(*folders: str) -> dict[str, str]:
    """Give the modules below some folders of the repository, by their paths in it.

    Raises:
        AssertionError: there are none below one of them, so that nothing would be looked through.
    """
    found = dict[str, str]()
    for folder in folders:
        files = sorted((REPOSITORY / folder).rglob("*.py"))
        assert files, f"{folder} has no modules"
        found |= {str(file.relative_to(REPOSITORY)): file.read_text(encoding="utf-8") for file in files}
    return found


def modules(*folders: str) -> dict[str, str]:
    """Give the same by the modules' names."""
    return {path.removesuffix(".py").replace("/", "."): source for path, source in sources(*folders).items()}
