"""The generated page and its states."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from emulator.tests.api_descriptions import coverage

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_is_made_from_what_was_seen() -> None:
    """docs/emulator-coverage.md is what the generator makes of the committed list."""
    assert coverage.PAGE.read_text() == coverage.page(coverage.known()), f"run: {coverage.COMMAND}"


def test_the_committed_list_is_written_as_the_generator_writes_it(tmp_path: Path) -> None:
    """What a run saw is written the same way every time."""
    coverage.write_seen(coverage.known(), str(tmp_path / "seen.json"))
    assert (tmp_path / "seen.json").read_text() == coverage.SEEN.read_text()


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        ([], "not there"),
        ([405], "not there"),
        ([501], "501"),
        ([401, 501], "501"),
        ([400, 404], "refusals only"),
        ([204, 404], "covered"),
    ],
)
def test_states(statuses: list[int], state: str) -> None:
    """Only a success covers an operation; a refusal alone does not, and a 501 is named as such."""
    assert coverage.state(statuses) == state


def test_what_a_partial_run_can_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of some tests finds what the list lacks; only a complete one finds what it has too much."""
    monkeypatch.setattr(coverage, "SEEN", tmp_path / "seen.json")
    (tmp_path / "seen.json").write_text(json.dumps({"dps": {"EnrollmentGroup_Get": [200, 404]}}))
    seen = {"dps": {"EnrollmentGroup_Get": [200, 401]}}
    lacks = "EnrollmentGroup_Get answered [401], which the table lacks"
    assert list(coverage.out_of_date(seen, complete=False)) == [lacks]
    assert list(coverage.out_of_date(seen, complete=True)) == [
        lacks,
        "EnrollmentGroup_Get never answered [404], which the table has",
    ]
