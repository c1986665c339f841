"""``faults``, ``throttling``, ``assigning``, ``hubs``, ``roles``, ``variants``: the admin port from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from emulator import controls
from emulator.__main__ import main as command
from emulator.controls import main
from emulator.platform.configuration import Configuration

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from emulator.tests.running import RunningEmulator


def run(capsys: pytest.CaptureFixture[str], emulator: RunningEmulator, *arguments: str) -> Any:
    """Run a command that succeeds; gives the JSON it prints."""
    assert main([*arguments, "--admin-url", emulator.admin_url]) == 0
    printed = capsys.readouterr().out
    return json.loads(printed) if printed else None


def test_throttling_is_switched_scaled_and_shown(
    fresh_emulator: RunningEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """On keeps the scale unless it is given one, and off keeps it too."""
    assert run(capsys, fresh_emulator, "throttling", "on", "0.5")["rates"]["dps.operations"]["calls"] == 500
    assert run(capsys, fresh_emulator, "throttling", "off")["enabled"] is False
    shown = run(capsys, fresh_emulator, "throttling", "on")
    assert (shown["enabled"], shown["scale"]) == (True, 0.5)
    assert run(capsys, fresh_emulator, "throttling", "show") == shown


def test_the_assigning_time_is_set_and_shown(
    fresh_emulator: RunningEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is set is what is shown."""
    assert run(capsys, fresh_emulator, "assigning", "set", "2.5") == {"seconds": 2.5}
    assert run(capsys, fresh_emulator, "assigning", "show") == {"seconds": 2.5}


def test_hubs_are_linked_and_shown(fresh_emulator: RunningEmulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The hub that is there can be linked, and no other."""
    here = {"iotHubs": [each["hostName"] for each in fresh_emulator.endpoints["iotHubs"]]}
    assert run(capsys, fresh_emulator, "hubs", "show") == here
    assert run(capsys, fresh_emulator, "hubs", "link", *here["iotHubs"]) == here
    assert main(["hubs", "link", "elsewhere", "--admin-url", fresh_emulator.admin_url]) == 1
    assert "give one or more of them, and not ['elsewhere']" in capsys.readouterr().err


def test_roles_are_withheld_and_granted(fresh_emulator: RunningEmulator, capsys: pytest.CaptureFixture[str]) -> None:
    """Withholding names all that are withheld; granting gives all back."""
    assert run(capsys, fresh_emulator, "roles", "withhold", "dps", "key_vault") == {"withheld": ["dps", "key_vault"]}
    assert run(capsys, fresh_emulator, "roles", "show") == {"withheld": ["dps", "key_vault"]}
    assert run(capsys, fresh_emulator, "roles", "grant") == {"withheld": []}


def test_variants_are_set_and_shown(fresh_emulator: RunningEmulator, capsys: pytest.CaptureFixture[str]) -> None:
    """Setting one leaves the rest; all are shown."""
    assert run(capsys, fresh_emulator, "variants", "show")["hubThumbprints"] == "sha256"
    assert run(capsys, fresh_emulator, "variants", "set", "hubThumbprints", "sha1")["hubThumbprints"] == "sha1"
    assert run(capsys, fresh_emulator, "variants", "show")["hubThumbprints"] == "sha1"


def test_faults_are_planned_by_options_and_by_file(
    fresh_emulator: RunningEmulator, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One rule fits on the command line, a whole plan in a file; clear ends both."""
    options = ("--service", "dps", "--status", "503", "--retry-after-seconds", "2", "--count", "3", "--seed", "7")
    counted = {"matched": 0, "applied": 0}
    rule = {"service": "dps", "count": 3, "status": 503, "retryAfterSeconds": 2}
    assert run(capsys, fresh_emulator, "faults", "set", *options) == {"seed": 7, "rules": [rule | counted]}
    plan: dict[str, list[dict[str, Any]]] = {"rules": [{"latencyMilliseconds": 1}, {"drop": "response"}]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    run(capsys, fresh_emulator, "faults", "load", str(tmp_path / "plan.json"))
    shown = run(capsys, fresh_emulator, "faults", "show")
    assert [{**counted, **each} for each in plan["rules"]] == shown["rules"]
    assert run(capsys, fresh_emulator, "faults", "clear") is None
    assert run(capsys, fresh_emulator, "faults", "show")["rules"] == []


def test_the_emulator_is_found_by_the_stacks_own_file(
    fresh_emulator: RunningEmulator, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Both names of the admin URL are understood: the stack's, and the readiness line's."""
    for name in ("emulatorAdminUrl", "adminUrl"):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({name: fresh_emulator.admin_url}))
        assert main(["assigning", "show", "--endpoints", str(path)]) == 0
        assert json.loads(capsys.readouterr().out) == {"seconds": 0}


def test_the_command_controls_the_emulator_that_was_started_without_options(
    fresh_emulator: RunningEmulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is at one known address, which needs not be said."""
    started = Configuration(state_dir=tmp_path, tls_dir=tmp_path)
    assert controls.ADMIN_URL == f"http://{started.address}:{started.admin_port}" == "http://127.0.0.1:8444"
    monkeypatch.setattr(controls, "ADMIN_URL", fresh_emulator.admin_url)
    assert command(["assigning", "set", "1.5"]) == 0
    assert json.loads(capsys.readouterr().out) == {"seconds": 1.5}


def test_what_is_wrong_is_said(
    fresh_emulator: RunningEmulator, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A refusal, an emulator that is not there and a missing file each end with status 1 and one line of reason."""
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")
    here = ("--admin-url", fresh_emulator.admin_url)
    for arguments, message in (
        (("throttling", "on", "0", *here), "scale is 0.0; it must be a number above 0, at most 1000000"),
        (("roles", "withhold", "all", *here), "The body must be"),
        (("variants", "set", "x", "y", *here), "the variant 'x' does not exist; known are: hubThumbprints, "),
        (
            ("variants", "set", "hubThumbprints", "md5", *here),
            "variant hubThumbprints: the value 'md5' does not exist; known are: sha256, sha1",
        ),
        (("faults", "load", str(tmp_path / "broken.json"), *here), f"{tmp_path / 'broken.json'} is not valid JSON: "),
        (
            ("faults", "load", str(tmp_path / "none.json"), *here),
            f"{tmp_path / 'none.json'} can't be read: No such file",
        ),
        (("roles", "show", "--admin-url", "http://127.0.0.1:1"), "no emulator answers at http://127.0.0.1:1: "),
        (("roles", "show", "--admin-url", "8444"), "admin URL '8444' is not of the form http://127.0.0.1:8444"),
        (
            ("roles", "show", "--endpoints", str(tmp_path / "none.json")),
            f"{tmp_path / 'none.json'} does not exist: start",
        ),
        (("roles", "show", "--endpoints", str(tmp_path / "empty.json")), f"{tmp_path / 'empty.json'} has none of "),
        (
            ("roles", "show", "--endpoints", str(tmp_path / "broken.json")),
            f"{tmp_path / 'broken.json'} is not valid JSON; ",
        ),
    ):
        assert main(arguments) == 1
        printed = capsys.readouterr()
        assert printed.err.startswith(message)
        assert (printed.out, printed.err.count("\n")) == ("", 1)
