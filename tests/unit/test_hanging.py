"""A test that hangs ends its run; one that is slow, since the machine is, does not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests import hanging, mutants

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Watched:
    """A process in which a test runs.

    Attributes:
        share: of a second, for which the process computes in each.
        lasts: after so many seconds the test has ended.
        waits_from: after so many seconds it computes nothing any more.
    """

    share: float
    lasts: float = 1e6
    waits_from: float = 1e6
    now: float = 1000.0

    def has_ended(self, seconds: float) -> bool:
        self.now += seconds
        return self.now - 1000 >= self.lasts

    def hangs(self) -> str | None:
        return hanging.hangs(self.has_ended, computed=self.computed, clock=lambda: self.now)

    def computed(self) -> float:
        return 7 + min(self.now - 1000, self.waits_from) * self.share


@pytest.mark.parametrize(
    ("watched", "why"),
    [
        (Watched(share=1), "it has computed for 61 seconds"),
        (Watched(share=1, lasts=60), None),
        (Watched(share=0), "it has waited for 91 seconds"),
        (Watched(share=0, lasts=90), None),
        (Watched(share=1, waits_from=30), "it has waited for 91 seconds"),
        (Watched(share=0.0001), "it has waited for 91 seconds"),
        (Watched(share=0.03, lasts=1_900), None),
    ],
    ids=[
        "busy",
        "busy until it ends",
        "idle",
        "idle until it ends",
        "idle at last",
        "all but idle",
        "on a busy machine",
    ],
)
def test_a_test_hangs_that_computes_or_waits_for_long(watched: Watched, why: str | None) -> None:
    """By what its process computes. On a machine that does other things it takes as long as it takes."""
    assert watched.hangs() == why


@pytest.mark.long
def test_a_run_in_which_a_test_hangs_ends_as_one_in_which_a_test_fails(tmp_path: Path) -> None:
    """So a mutant that hangs is killed. The time is shorter here."""
    (tmp_path / "test_a.py").write_text("import threading\n\n\ndef test_a():\n    threading.Event().wait()\n")
    (tmp_path / "run.py").write_text(
        "import pytest, tests.hanging as h\nh.IDLE, h._EVERY = 0.1, 0.01\npytest.main(['-p', 'tests.hanging', 'test_a.py'])"
    )
    ended = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(mutants.REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "test_a.py::test_a hangs: it has waited for 0 seconds" in ended.stderr
    assert ended.returncode == hanging.EXIT
    assert hanging.EXIT in mutants.KILLED
