"""The engine's benchmark runs, and says what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.side_by_side import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.long
def test_a_quick_run_measures_every_part(tmp_path: Path) -> None:
    """Each part gives figures, in the table and as JSON, and what was left out is named."""
    report = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.engine", "--quick", "--json", str(report)]
    said = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout
    written = json.loads(report.read_text())
    assert [*written["figures"]] == ["leaf", "bundle", "processes", "threads", "crl", "growth", "vault"]
    assert "  skipped go: left out of the quick run\n" in said
    for figure in (each for part in written["figures"].values() for each in part):
        assert figure["least"] <= figure["median"] <= figure["most"]
        assert figure["name"] in said
