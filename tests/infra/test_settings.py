"""Every app gets exactly the settings that the app reads, and those of the Functions host that Flex Consumption takes."""

from __future__ import annotations

import inspect
import json
import re

import pytest
from azure_functions_runtime import handle_event, otel

from shared.reading.queue_settings import CONNECTIONS
from shared.rules.zones import APART, Zone
from shared.settings import STORAGE_CONNECTION, described_settings
from tests.infra.bicep import INFRA, field, fields, literal, source, text, walk

MAIN = source(INFRA / "main.bicep")
GIVEN_BY_AZURE = {"WEBSITE_HOSTNAME", "WEBSITE_AUTH_ENABLED"}
"""Read-only ("Environment variables and app settings in Azure App Service", azure/app-service/reference-app-settings)."""
READ = {each.name: each for each in described_settings().values() if each.name not in GIVEN_BY_AZURE}

HOST = {
    # "App settings reference for Azure Functions" and, for connections by identity, "Connecting to host storage with an
    # identity" (azure/azure-functions/functions-reference).
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__tableServiceUri",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    *(f"{connection}__credential" for connection in (STORAGE_CONNECTION, *CONNECTIONS.values())),
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "PYTHON_ENABLE_OPENTELEMETRY",
}

REFUSED = {
    # "Flex Consumption plan deprecations" (azure/azure-functions/functions-app-settings), as Azure CLI leaves them out
    # when it moves an app to Flex Consumption (azure-cli, appservice/custom.py, excluded_settings); WEBSITE_TIME_ZONE, TZ
    # and WEBSITE_LOAD_CERTIFICATES: azure/azure-functions/flex-consumption-plan, "Considerations".
    "ENABLE_ORYX_BUILD",
    "FUNCTIONS_EXTENSION_VERSION",
    "FUNCTIONS_MAX_HTTP_CONCURRENCY",
    "FUNCTIONS_WORKER_DYNAMIC_CONCURRENCY_ENABLED",
    "FUNCTIONS_WORKER_PROCESS_COUNT",
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTIONS_WORKER_RUNTIME_VERSION",
    "SCM_DO_BUILD_DURING_DEPLOYMENT",
    "TZ",
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING",
    "WEBSITE_CONTENTOVERVNET",
    "WEBSITE_CONTENTSHARE",
    "WEBSITE_DNS_SERVER",
    "WEBSITE_LOAD_CERTIFICATES",
    "WEBSITE_MAX_DYNAMIC_APPLICATION_SCALE_OUT",
    "WEBSITE_NODE_DEFAULT_VERSION",
    "WEBSITE_RUN_FROM_PACKAGE",
    "WEBSITE_SKIP_CONTENTSHARE_VALIDATION",
    "WEBSITE_TIME_ZONE",
    "WEBSITE_VNET_ROUTE_ALL",
}


def given() -> dict[str, str]:
    """What an app gets: the settings of all apps, and those that differ from app to app."""
    apps = next(each for each in MAIN.modules if each.symbol == "apps")
    own = field(apps.bodies[0], "params", "settings").named_children[1].named_children[-1]
    return {name: text(value) for name, value in (*fields(MAIN.variables["settings"]), *fields(own))}


def test_an_app_gets_what_the_app_reads_and_what_its_host_reads() -> None:
    assert set(given()) == set(READ) | HOST


def test_the_zones_of_a_setting_are_those_that_read_it() -> None:
    only = {
        name: {literal(each) for each in value.named_children}
        for name, value in fields(MAIN.variables["zonesOfSettings"])
    }
    assert only == {
        name: {zone.value for zone in setting.zones & APART}
        for name, setting in READ.items()
        if setting.zones != set(Zone)
    }


@pytest.mark.parametrize("name", sorted(READ))
def test_a_setting_without_a_default_is_never_empty(name: str) -> None:
    if READ[name].default is None:
        assert given()[name] != "''"


def test_a_value_written_out_is_one_that_the_setting_takes() -> None:
    written = {name: literal(value) for name, value in fields(MAIN.variables["settings"])}
    for name, value in written.items():
        if isinstance(value, str) and value:
            assert READ[name].kind.read(value) is not None
    assert sum(value == "" for value in written.values()) > 10


def test_flex_consumption_refuses_none_of_them() -> None:
    assert set(given()) & REFUSED == set()
    assert [text(each) for each in walk(MAIN.root) if each.type == "string" and text(each).strip("'") in REFUSED] == []


def test_the_identity_that_the_host_uses_is_named_with_each_connection() -> None:
    """Without a client id the host asks for the system-assigned identity, which the apps do not have."""
    for connection in ("AzureWebJobsStorage", STORAGE_CONNECTION, *CONNECTIONS.values()):
        assert given()[f"{connection}__credential"] == "'managedidentity'"
        assert given()[f"{connection}__clientId"] == "identities[i].outputs.clientId"
    assert given()["APPLICATIONINSIGHTS_AUTHENTICATION_STRING"].endswith(";Authorization=AAD'")


def test_the_conditions_of_roles_are_settings() -> None:
    """zones.json leaves a role out unless a setting is there, so main.bicep must say of each whether it is."""
    zones = (INFRA / "zones.json").read_text(encoding="utf-8")
    conditions = set(re.findall(r'"onlyWith": "(\w+)"', zones))
    assert conditions <= set(READ)
    roles = next(each for each in MAIN.modules if each.symbol == "roles")
    decided = text(field(roles.bodies[0], "params", "settingNames"))
    for condition in conditions:
        assert f"'{condition}'" in decided or given()[condition] == "''", condition  # '': only an owner sets it
    assert "map(items(changedSettings), setting => setting.key)" in decided
    assert json.loads(zones)["zones"]


def test_the_variable_for_telemetry_has_the_worker_follow_traces_and_export_nothing() -> None:
    """The pinned worker (azure-functions-runtime): the other variable has it call configure_azure_monitor by itself.

    The app exports what it tells, so that variable would send everything twice; shared/settings.py refuses it.
    """
    worker = inspect.getsource(handle_event.worker_init_request)
    ours, other = "PYTHON_ENABLE_OPENTELEMETRY", "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY"
    begun = dict(re.findall(r"if is_envvar_true\((\w+)\):\n\s+([\w.]+)\(", worker))
    assert begun[other] == "initialize_azure_monitor"
    assert begun[ours] == "otel_manager.set_otel_libs_available"
    assert "configure_azure_monitor(" in inspect.getsource(otel.initialize_azure_monitor)
    assert "configure_azure_monitor(" not in inspect.getsource(otel.update_opentelemetry_status)
    assert given()[ours] == "'true'"
    assert other not in given()
