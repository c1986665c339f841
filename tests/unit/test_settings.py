"""Settings: all problems at once, and nothing secret among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.rules.zones import Zone
from shared.settings import InvalidSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

STORAGE = "https://acc.{}.core.windows.net"
GOOD = {
    "DeviceFactoryStorage__queueServiceUri": STORAGE.format("queue"),
    "DeviceFactoryStorage__blobServiceUri": STORAGE.format("blob"),
    "DeviceFactoryStorage__tableServiceUri": STORAGE.format("table"),
    "KEY_VAULT_URL": "https://v.vault.azure.net/",
    "DPS_SERVICE_URL": "https://d.azure-devices-provisioning.net",
    "DPS_ID_SCOPE": "0ne00000001",
}


def problems_of(environment: Mapping[str, str]) -> list[str]:
    """Give what is wrong with an environment."""
    with pytest.raises(InvalidSettings) as caught:
        Settings.from_environment(environment)
    return list(caught.value.problems)


def problems(**changes: str) -> list[str]:
    return problems_of({**GOOD, **changes})


def test_the_least_settings_are_enough() -> None:
    """Six addresses are enough; the rest has defaults."""
    settings = Settings.from_environment(GOOD)
    assert settings.key_vault_url == "https://v.vault.azure.net"
    assert settings.dps_device_host == "global.azure-devices-provisioning.net"
    assert settings.device_validity.days == 365
    assert settings.key_vault_verify_challenge
    assert settings.dps_resource is None


@pytest.mark.parametrize("zone", Zone)
def test_a_number_that_a_zone_does_not_use_has_its_default_there(zone: Zone) -> None:
    """So its type says what it is in every zone, and what is set for another zone is not read."""
    vault = {"STATUS_VAULT_URL": "https://s.vault.azure.net"}
    settings = Settings.from_environment({**GOOD, **vault, "ZONE": zone.value, "ORDER_UPLOAD_MEGABYTES": "50"})
    assert settings.order_upload_megabytes == (50 if zone in {Zone.ALL, Zone.INTAKE} else 20)
    assert settings.retain_requests.days == 365


def test_every_missing_setting_is_named() -> None:
    """An empty environment is answered with all that is missing."""
    with pytest.raises(InvalidSettings) as caught:
        Settings.from_environment({})
    assert [problem.split()[0] for problem in caught.value.problems] == list(GOOD)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("KEY_VAULT_URL", "http://v", "KEY_VAULT_URL is 'http://v'; it must be an https:// URL, since tokens travel over it"),
        ("DEVICE_VALIDITY_DAYS", "0", "DEVICE_VALIDITY_DAYS is '0'; it must be a whole number from 1 to 3650"),
        (
            "WEBHOOK_SECRET_NAME",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "WEBHOOK_SECRET_NAME must be the name of a vault secret: 1 to 127 letters, digits and dashes",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "grpc://127.0.0.1:4317",
            "OTEL_EXPORTER_OTLP_ENDPOINT is 'grpc://127.0.0.1:4317'; it must be an http:// or https:// URL",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "https://me:secret@otlp.example.com",
            "OTEL_EXPORTER_OTLP_ENDPOINT must be a bare URL without credentials or a query",
        ),
        (
            "WEBSITE_HOSTNAME",
            "https://factory.azurewebsites.net",
            "WEBSITE_HOSTNAME is 'https://factory.azurewebsites.net'; it must be a host name, which :port may follow",
        ),
        ("CA_COUNTRY", "us", "CA_COUNTRY is 'us'; it must be two capital letters (ISO 3166-1 alpha-2)"),
        ("KEY_VAULT_VERIFY_CHALLENGE", "no", "KEY_VAULT_VERIFY_CHALLENGE is 'no'; it must be true or false"),
        (
            "DPS_RESOURCE_ID",
            "/dps",
            "DPS_RESOURCE_ID is '/dps'; it must be /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.Devices/"
            "provisioningServices/<name>",
        ),
        (
            "IOT_HUB_RESOURCE_IDS",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/provisioningServices/d",
            "IOT_HUB_RESOURCE_IDS is '/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/provisioningServices/d'; "
            "it must be /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.Devices/IotHubs/<name>",
        ),
        (
            "IOT_HUB_RESOURCE_IDS",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/IotHubs/h",
            "IOT_HUB_RESOURCE_IDS is set and DPS_RESOURCE_ID is not: set it too, since a root is proved to the DPS before it "
            "is proved to hubs; or leave both out, and prove possession by hand",
        ),
        (
            "PUBLIC_BASE_URL",
            "https://pki.example.com",
            "PUBLIC_BASE_URL is 'https://pki.example.com'; it must be an http:// URL: RFC 5280 section 8 warns of https",
        ),
        (
            "IOT_HUBS",
            "a.azure-devices.net=http://localhost:8443",
            "IOT_HUBS has 'a.azure-devices.net=http://localhost:8443'; an entry is hostName or "
            "hostName=https://serviceUrl",
        ),
        (
            "KEY_VAULT_ADOPTED_NAMES",
            "old root",
            "KEY_VAULT_ADOPTED_NAMES has 'old root'; names in a vault have letters, digits and dashes, 127 at most",
        ),
        (
            "ISSUING_CA_CUSTODY",
            "disk",
            "ISSUING_CA_CUSTODY is 'disk'; it must be vault or wrapped",
        ),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_told_with_its_rule(name: str, value: str, problem: str) -> None:
    """A setting that can't be used is told with its value and what would be right."""
    assert problems(**{name: value}) == [problem]


def test_a_credential_in_a_setting_is_refused_and_not_repeated() -> None:
    """A connection string is refused, and its content does not appear in the message."""
    (problem,) = problems(DeviceFactoryStorage="AccountKey=topsecret")
    assert problem.startswith("DeviceFactoryStorage holds a credential; set DeviceFactoryStorage__queueServiceUri")
    assert "topsecret" not in problem
    (query,) = problems(KEY_VAULT_URL="https://v.vault.azure.net/?sig=topsecret")
    assert query == "KEY_VAULT_URL must be a bare URL without credentials or a query (no SAS)"


def test_the_example_file_holds_no_key() -> None:
    """The example settings name addresses only, and every connection in them is by managed identity."""
    text = (Path(__file__).parents[2] / "local.settings.example.json").read_text(encoding="utf-8")
    values = json.loads(text)["Values"]
    assert not [word for word in ("accountkey", "sharedaccess", "password", "secret=") if word in text.lower()]
    assert {value for name, value in values.items() if name.endswith("__credential")} == {"managedidentity"}
