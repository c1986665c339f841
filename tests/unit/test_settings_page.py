"""docs/settings.md, the example settings and the README say of the settings what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devstack.settings_page import HOST_SETTINGS, PAGE, settings_page
from shared.settings import Settings, described_settings

if TYPE_CHECKING:
    from shared.reading.settings import Setting

REPOSITORY = Path(__file__).parents[2]
SETTINGS = {each.name: each for each in described_settings().values()}
NOT_SETTINGS = {
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_TRACES_SAMPLER"),  # OpenTelemetry reads them
    "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY",  # with it the app does not start
}
AZD = set(
    re.findall(
        r"\b(?:AZURE|FACTORY|DEPLOY|PUBLIC_NAME)_[A-Z_]+\b",
        "\n".join(
            (REPOSITORY / name).read_text(encoding="utf-8")
            for name in ("azure.yaml", "infra/main.parameters.json", "infra/main.bicep", ".github/workflows/deploy.yml")
        ),
    )
)
"""What azd and the pipelines take and give."""


def example() -> dict[str, str]:
    text = (REPOSITORY / "local.settings.example.json").read_text(encoding="utf-8")
    values: dict[str, str] = json.loads(text)["Values"]
    return values


def test_the_page_is_the_one_that_the_settings_make() -> None:
    """Who changes a setting runs `make docs`."""
    assert PAGE.read_text(encoding="utf-8") == settings_page()


def test_the_page_says_of_a_setting_what_the_reader_holds() -> None:
    """One setting as it stands on the page, with its range and its default."""
    expected = (
        "## `EXPIRY_WARNING_DAYS`\n\n"
        "How many days before its end a device's certificate is reported as expiring, each time once.\n\n"
        "- Takes: whole numbers of days from 1 to 365, separated by `;`\n- Default: `30;7;1`\n- Example: `60;30;7`\n"
    )
    assert expected in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_the_example_of_a_setting_is_one_that_it_takes(setting: Setting) -> None:
    """Each example can be read, and so can each default that is not empty."""
    assert setting.read({setting.name: setting.example}) is not None
    if setting.default:
        assert setting.read({}) is not None


def test_the_example_file_can_be_read_as_it_is() -> None:
    """The app would start with it, once its placeholders are filled in."""
    assert Settings.from_environment(example()).root_authority == "dpsCa"


def test_the_example_file_names_settings_that_exist() -> None:
    """Each name in the file is read by the app or by its host, and nothing that must be set is left out."""
    assert not set(example()) - set(SETTINGS) - set(HOST_SETTINGS)
    assert not {name for name, each in SETTINGS.items() if each.default is None} - set(example())


def test_the_documents_name_settings_that_exist() -> None:
    """What the README and docs/ write like a setting is one.

    docs/rfc5280.md names constants of the certificate engine, and is made from the code.
    """
    for path in (REPOSITORY / "README.md", *{*(REPOSITORY / "docs").rglob("*.md")} - {REPOSITORY / "docs/rfc5280.md"}):
        named = set(re.findall(r"`([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)`", path.read_text(encoding="utf-8")))
        assert not named - set(SETTINGS) - set(HOST_SETTINGS) - NOT_SETTINGS - AZD, path.name
