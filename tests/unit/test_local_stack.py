"""Which stack ``python -m devstack`` starts for which options."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from devstack import __main__ as devstack
from devstack.stack import REPOSITORY, Stack
from devstack.zoned_stack import ZonedStack

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("zones", "kind", "hosts"), [("1", Stack, 1), ("4", ZonedStack, 4)])
def test_with_zones_it_has_a_functions_host_for_each(tmp_path: Path, zones: str, kind: type[Stack], hosts: int) -> None:
    given = ["run", "--zones", zones, "--state-dir", str(tmp_path)]
    stack = devstack._stack(devstack._arguments(given))  # noqa: SLF001
    assert type(stack) is kind
    assert len(set(stack.hosts)) == hosts
    assert stack.options.state_dir == tmp_path


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["stack", "--zones", "4"], "--zones 4 goes with run: `func start` runs one app for everything"),
        (["run", "--zones", "3"], "argument --zones: invalid choice: 3 (choose from 1, 4)"),
    ],
)
def test_zones_that_there_are_not_are_refused(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        devstack._arguments(given)  # noqa: SLF001
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("target", "command"), [("demo", "devstack.demo"), ("run", "devstack run"), ("test", "test")])
def test_make_hands_zones_on(target: str, command: str) -> None:
    """``make run ZONES=4``, and the same for demo and test."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(rf"^{target}:.*\n\t(.+)", makefile, re.MULTILINE)
    assert recipe
    assert f"{command} --zones $(or $(ZONES),1)" in recipe[1]
