"""azure.yaml and host.json are as their published schemas have them, and azd finds an app for each service."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from jsonschema import (  # type: ignore[import-untyped]  # it has no annotations
    Draft4Validator,
    Draft201909Validator,
)

from tests.infra.bicep import INFRA, source, text
from tests.infra.test_bicep import FACTS

REPOSITORY = INFRA.parent
AZURE: dict[str, Any] = yaml.safe_load((REPOSITORY / "azure.yaml").read_text(encoding="utf-8"))
HOST: dict[str, Any] = json.loads((REPOSITORY / "host.json").read_text(encoding="utf-8"))
AZURE_SCHEMA = Draft201909Validator(json.loads((FACTS / "azure.yaml.json").read_text(encoding="utf-8")))
HOST_SCHEMA = Draft4Validator(json.loads((FACTS / "host.json").read_text(encoding="utf-8")))
MAIN = source(INFRA / "main.bicep")


def test_azure_yaml_is_as_azd_has_it() -> None:
    assert [each.message for each in AZURE_SCHEMA.iter_errors(AZURE)] == []
    assert (REPOSITORY / AZURE["infra"]["path"] / f"{AZURE['infra']['module']}.bicep").exists()


def test_host_json_is_as_the_host_has_it() -> None:
    assert [each.message for each in HOST_SCHEMA.iter_errors(HOST)] == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {**HOST, "functionTimeout": "10m"},
            "'10m' does not match '^(-1|(?:[01]\\\\d|2[0-3]):[0-5]\\\\d:[0-5]\\\\d)$'",
        ),
        ({**HOST, "extensions": {"queues": {"batchSize": 64}}}, "64 is greater than the maximum of 32"),
        ({**HOST, "queues": {}}, "Additional properties are not allowed ('queues' was unexpected)"),
    ],
)
def test_a_wrong_host_json_is_found(wrong: dict[str, Any], said: str) -> None:
    assert [each.message for each in HOST_SCHEMA.iter_errors(wrong)] == [said]


def test_azd_deploys_to_an_app_for_each_zone_or_to_the_one_for_everything() -> None:
    """An app is found by its tag azd-service-name, and a service's condition by what main.bicep puts out."""
    zones = json.loads((INFRA / "zones.json").read_text(encoding="utf-8"))["zones"]
    services = AZURE["services"]
    assert set(services) == {*zones, "factory"}
    assert "'azd-service-name': app.name" in text(MAIN.root)
    for name, service in services.items():
        assert service["condition"] == ("${DEPLOY_FACTORY=false}" if name == "factory" else "${DEPLOY_ZONES=true}")
        assert service["remoteBuild"] is True
        assert service["language"] == "python"
    assert text(MAIN.outputs["DEPLOY_ZONES"]) == "zones == 'separate' ? 'true' : 'false'"
    assert text(MAIN.outputs["DEPLOY_FACTORY"]) == "zones == 'single' ? 'true' : 'false'"
