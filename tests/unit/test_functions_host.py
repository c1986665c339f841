"""The functions host's configuration: read as the real host reads it, and refused with words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from devstack.functions_host.configuration import ConfigurationError, apply_local_settings, read_host_json, resolve
from devstack.functions_host.timer_listener import TimerListener

if TYPE_CHECKING:
    from pathlib import Path


def host_json(folder: Path, **queues: object) -> Path:
    path = folder / "host.json"
    path.write_text(json.dumps({"version": "2.0", "extensions": {"queues": queues}}), encoding="utf-8")
    return path


def test_the_defaults_are_those_of_the_real_host(tmp_path: Path) -> None:
    """Without settings: 16 messages at once, half of that as threshold, 5 tries, no retry delay, base64."""
    queues = read_host_json(host_json(tmp_path)).queues
    assert (queues.batch_size, queues.new_batch_threshold, queues.max_dequeue_count) == (16, 8, 5)
    assert (queues.visibility_timeout, queues.max_polling_interval, queues.base64) == (0.0, 60.0, True)


def test_an_app_setting_wins_over_host_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``AzureFunctionsJobHost__...`` overrides a value of host.json, as in Azure."""
    monkeypatch.setenv("AzureFunctionsJobHost__extensions__queues__visibilityTimeout", "00:01:30")
    assert read_host_json(host_json(tmp_path, visibilityTimeout="00:00:05")).queues.visibility_timeout == 90


@pytest.mark.parametrize(
    ("queues", "message"),
    [
        ({"batchSize": 33}, "queues.batchSize is 33; it must be 1 to 32"),
        ({"messageEncoding": "utf8"}, "queues.messageEncoding is 'utf8'; it must be 'base64' or 'none'"),
        ({"visibilityTimeout": "30"}, "'30' is not a duration; write it as hh:mm:ss"),
    ],
)
def test_a_value_that_breaks_its_rule_is_refused(tmp_path: Path, queues: dict[str, object], message: str) -> None:
    """A wrong value of host.json is named with its rule."""
    path = host_json(tmp_path, **queues)
    with pytest.raises(ConfigurationError) as caught:
        read_host_json(path)
    assert str(caught.value) == f"{path}: {message}"


def test_local_settings_do_not_override_what_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over local.settings.json, as with Core Tools."""
    monkeypatch.setenv("ALREADY", "set")
    monkeypatch.delenv("FRESH", raising=False)
    path = tmp_path / "local.settings.json"
    path.write_text(json.dumps({"Values": {"ALREADY": "other", "FRESH": "new"}}), encoding="utf-8")
    apply_local_settings(path)
    assert (resolve("%ALREADY%-%FRESH%")) == "set-new"
    monkeypatch.delenv("FRESH")
    with pytest.raises(ConfigurationError, match="the setting 'FRESH', which a binding names as %FRESH%, is not set"):
        resolve("%FRESH%")


@pytest.mark.parametrize("schedule", ["* * * * *", "0 0 25 * * *", "daily"])
def test_a_schedule_of_other_than_six_fields_is_refused(schedule: str) -> None:
    """NCRONTAB has six fields; five, or nonsense, is refused at the start."""
    with pytest.raises(ConfigurationError, match="is not an NCRONTAB expression of six fields, seconds first"):
        TimerListener("tick", {"schedule": schedule}, lambda _: None)  # type: ignore[arg-type, return-value]
