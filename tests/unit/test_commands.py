"""Programs of the command line take ids as the HTTP API does, and a service that fails is not taken for an answer."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

import shared
from shared import moving
from shared.commands import FAILED, ended, failed
from shared.errors import Deferred, Rejected
from shared.settings import Settings
from shared.workflows.reconciliation.moving import Plan

GROUP_URL = "https://press.azure-devices-provisioning.net/enrollmentGroups/line?api-version=2021-10-01"
OFFLINE = {"evidence/verify.py", "evidence/__main__.py"}
"""Given to auditors to run alone: they import nothing of the app's services."""

PAGES = {"domain/treatments.py", "domain/lifecycles.py"}
"""Print a page of the docs, and ask no service."""


def broken_dps() -> HttpResponseError:
    """DPS's answer 500."""
    answer: Any = SimpleNamespace(
        status_code=500, reason="Internal Server Error", headers={}, request=SimpleNamespace(url=GROUP_URL)
    )
    return HttpResponseError("it has a bad day", response=answer)


async def raising(error: Exception) -> int:
    raise error


def asked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Plan:
    """Give what devices are moved by, for a command line."""
    plans = list[Plan]()

    async def move(_settings: object, plan: Plan, *, look: bool) -> int:
        plans.append(plan)
        return int(look)

    monkeypatch.setattr(moving, "move", move)
    monkeypatch.setattr(Settings, "from_environment", lambda _environment: None)
    assert moving.main([*arguments, "--look"]) == 1
    return plans[0]


def test_a_group_and_a_hub_are_taken_in_any_case_as_dps_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would be left in a hub that a group is looked for in under another spelling, and it is deleted next."""
    plan = asked(monkeypatch, "Line-MV", "--hub", "IoT-1.azure-devices.NET")
    assert (plan.enrollment_group, plan.hub) == ("line-mv", "iot-1.azure-devices.net")
    assert asked(monkeypatch, "line").hub is None


def test_what_is_not_the_id_of_a_group_is_refused_with_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ends:
        moving.main(["line 1"])
    assert ends.value.code == 2
    assert "'line 1' is not a valid enrollment group id: 1 to 128 letters, digits and - . _ :" in (
        capsys.readouterr().err.replace("\n", " ")
    )


async def test_a_service_that_fails_is_one_sentence_and_the_status_of_what_is_not_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Python's own status of a traceback is 1, which says that devices are left, or that something does not agree."""
    assert await ended(raising(broken_dps())) == 2
    assert capsys.readouterr() == (
        "",
        "it broke off. What was done so far stays: run the same command again:\n"
        "- the DPS fails, or does not let this identity in: it has a bad day\n",
    )


async def test_one_that_throttles_is_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        await ended(
            raising(Deferred("the group 'line': too many requests", retry_after=timedelta(seconds=30))), what="not done"
        )
        == 2
    )
    assert capsys.readouterr().err == "not done:\n- the group 'line': too many requests\n"


async def test_what_is_refused_is_said_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert await ended(raising(Rejected.because("there is no such hub", field="hub"))) == 2
    assert capsys.readouterr().err == "hub: there is no such hub\n"


async def test_a_bug_shows_where_it_is_and_is_not_taken_for_an_answer_either(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert await ended(raising(KeyError("x509"))) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith("it broke off. What was done so far stays: run the same command again:\n- 'x509'\n")


def test_each_of_several_causes_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    group = ExceptionGroup("2 devices", [broken_dps(), ExceptionGroup("1", [broken_dps()])])
    assert failed(None, group) == FAILED
    assert capsys.readouterr().err == "the DPS fails, or does not let this identity in: it has a bad day\n"


def test_every_program_of_the_app_ends_this_way() -> None:
    root = Path(shared.__file__).parent
    files = {file: file.read_text(encoding="utf-8") for file in root.rglob("*.py")}
    programs = {
        str(file.relative_to(root)): text
        for file, text in files.items()
        if file.name == "__main__.py" or '\nif __name__ == "__main__":\n' in text
    }
    assert programs.keys() >= OFFLINE | {"audit.py", "moving.py", "restoration.py", "storage_layout.py"}
    assert {name for name, text in programs.items() if "from shared.commands import" not in text} == OFFLINE | PAGES
