"""The mutation run holds what it finds against the list of survivors that have a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mutants import (
    KILLED,
    SURVIVORS,
    UNIT,
    Judgement,
    Survivor,
    change_of,
    function_of,
    is_judged,
    judge,
    mutants_like,
    read_survivors,
    selected,
    written,
)

NEGATED = Survivor("shared.workflows.a.B.c", ("- if x:", "+ if not x:"))
EMPTIED = Survivor("shared.workflows.a.d", ('- return "x"', '+ return "XXxXX"'))

DIFF = """\
--- shared/workflows/a.py
+++ shared/workflows/a.py
@@ -1,4 +1,4 @@
 def c(self):
-    if x:
+    if not x:
         return 1"""


def test_every_listed_survivor_has_a_reason() -> None:
    """The list in the repository can be read."""
    assert all(reason for reason in read_survivors(SURVIVORS.read_text()).values())


def test_a_survivor_without_a_reason_is_refused() -> None:
    """What the run prints is filled in before it counts."""
    with pytest.raises(ValueError, match=r"^the survivor in shared\.workflows\.a\.B\.c has no reason; say why no test"):
        read_survivors(written(NEGATED))


def test_what_is_written_is_read_again() -> None:
    """With a reason filled in, quotation marks and all."""
    text = "".join(written(each).replace('reason = ""', 'reason = "why"') for each in (NEGATED, EMPTIED))
    assert read_survivors(text) == {NEGATED: "why", EMPTIED: "why"}


def test_a_mutant_is_known_by_its_function_and_its_lines() -> None:
    """Not by its number, which changes with every line above it."""
    assert function_of("shared.workflows.a.xǁBǁc__mutmut_12") == "shared.workflows.a.B.c"
    assert function_of("shared.workflows.a.x_d__mutmut_1") == "shared.workflows.a.d"
    assert function_of("shared.workflows.a.x__d__mutmut_1") == "shared.workflows.a._d"
    assert change_of(DIFF) == NEGATED.change


@pytest.mark.parametrize(
    ("killed", "survivors", "listed", "well"),
    [
        (10, [], [], True),
        (85, [NEGATED] * 15, [NEGATED], True),
        (84, [NEGATED] * 16, [NEGATED], False),
        (99, [NEGATED], [], False),
        (99, [EMPTIED], [NEGATED], False),
    ],
    ids=["all killed", "the floor", "below the floor", "without a reason", "with another's reason"],
)
def test_a_run_is_well_if_enough_is_killed_and_the_rest_has_reasons(
    killed: int, survivors: list[Survivor], listed: list[Survivor], *, well: bool
) -> None:
    """The floor is 85 % of the mutants that were judged."""
    assert judge(killed, [], survivors, listed).is_well is well


@pytest.mark.parametrize(
    ("exit_code", "judged", "killed"),
    [(0, True, False), (1, True, True), (3, True, True), (5, True, False), (-24, False, False), (None, False, False)],
    ids=["survived", "a test failed", "pytest failed", "without tests", "by the clock", "not run"],
)
def test_a_mutant_that_was_ended_by_the_clock_is_judged_again(
    exit_code: int | None, *, judged: bool, killed: bool
) -> None:
    """Mutmut counts it as killed. On a machine that does other things it was not: its tests had hardly begun."""
    assert (is_judged(exit_code), exit_code in KILLED) == (judged, killed)


def test_a_reason_that_is_needed_no_more_fails_the_run() -> None:
    """Unless another mutant that reads alike survives."""
    assert judge(9, [NEGATED], [], [NEGATED]) == Judgement(9, 0, unlisted=(), needless=(NEGATED,))
    assert not judge(9, [NEGATED], [], [NEGATED]).is_well
    assert judge(9, [NEGATED], [NEGATED], [NEGATED]).is_well


def test_mutants_are_judged_by_the_unit_tests_that_reach_them_in_whatever_folder_they_are() -> None:
    """Those that reach nothing of it would only take time."""
    reaching = (
        "from shared.workflows.a import B\n",
        "from shared.services import build\n",
        "from tests.world.drift import fleet_of\n",
        "from tests.unit.fakes import F\n",
    )
    tests = {f"tests/unit/{number}/test_a.py": text for number, text in enumerate(reaching)}
    others = {"tests/unit/test_b.py": "from shared.pki import names\n", "tests/unit/test_c.py": "# from tests.world\n"}
    assert selected({**tests, **others}) == sorted(tests)


def test_the_folders_of_the_unit_tests_count() -> None:
    """The log's tests, and those of reconciliation, have folders of their own."""
    unit = SURVIVORS.parent / "unit"
    names = [str(path.relative_to(SURVIVORS.parents[1])) for path in unit.rglob("test_*.py")]
    assert {"tests/unit/evidence/test_reading.py", "tests/unit/reconciliation/test_drift.py"} <= {
        name for name in names if UNIT.fullmatch(name)
    }


def test_mutants_are_named_as_they_were_made_unless_their_file_was_changed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To make all of them again takes minutes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.mutmut]\nsource_paths = ["a"]\n')
    source, made = Path("shared/domain/a.py"), Path("mutants/shared/domain/a.py.meta")
    for file in (source, made):
        file.parent.mkdir(parents=True)
    source.write_text("def f(x):\n    return x + 1\n")
    made.write_text('{"exit_code_by_key": {"shared.domain.a.x_f__mutmut_1": null}}')
    os.utime(source, (1, 1))
    assert mutants_like(["*"]) == ["shared.domain.a.x_f__mutmut_1"]
    os.utime(made, (0, 0))
    assert mutants_like(["*"]) == ["shared.domain.a.x_f__mutmut_1", "shared.domain.a.x_f__mutmut_2"]
