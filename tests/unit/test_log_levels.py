"""The levels of the log, as host.json and the settings that override it say."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from triggers.log_levels import log_levels

HOST = {
    "logging": {"logLevel": {"default": "Information", "Azure.Core": "Warning", "device_identity_factory": "Trace"}}
}


def test_the_levels_are_those_of_host_json() -> None:
    """``default`` is the root logger's; a category's name is a logger's in lower case."""
    assert log_levels(HOST, {}) == {
        "": logging.INFO,
        "azure.core": logging.WARNING,
        "device_identity_factory": logging.DEBUG,
    }


def test_a_setting_overrides_host_json() -> None:
    """As the host's own rule has it, in any case of letters."""
    environment = {
        "AzureFunctionsJobHost__logging__logLevel__default": "Error",
        "AZUREFUNCTIONSJOBHOST__LOGGING__LOGLEVEL__Azure__Identity": "None",
        "OTHER": "Trace",
    }
    levels = log_levels(HOST, environment)
    assert levels[""] == logging.ERROR
    assert levels["azure.identity"] > logging.CRITICAL
    assert levels["azure.core"] == logging.WARNING


def test_a_level_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="logLevel 'default' is 'Loud'; it must be one of trace, debug, information"):
        log_levels({"logging": {"logLevel": {"default": "Loud"}}}, {})


def test_without_levels_everything_stays_as_it_is() -> None:
    assert log_levels({}, {}) == {}


def test_the_app_s_own_host_json_keeps_the_sdks_to_warnings() -> None:
    host = json.loads((Path(__file__).parents[2] / "host.json").read_text(encoding="utf-8"))
    assert log_levels(host, {}) == {"": logging.INFO, "azure.core": logging.WARNING}
    assert host["telemetryMode"] == "OpenTelemetry"
