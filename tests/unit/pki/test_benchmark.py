"""The engine's benchmark runs, and says what it measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks import engine

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_quick_run_measures_every_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each part gives figures, in the table and as JSON, and what was left out is named."""
    report = tmp_path / "figures.json"
    assert engine.main(["--quick", "--json", str(report)]) == 0
    written = json.loads(report.read_text())
    assert [*written["figures"]] == ["leaf", "bundle", "processes", "threads", "crl", "growth", "vault"]
    said = capsys.readouterr().out
    assert "  skipped go: left out of the quick run\n" in said
    for figure in (each for part in written["figures"].values() for each in part):
        assert figure["least"] <= figure["median"] <= figure["most"]
        assert figure["name"] in said
