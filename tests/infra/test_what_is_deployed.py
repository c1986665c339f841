"""What infra/ deploys is what docs/deploy.md promises: the values that keep the factory safe, and names that Azure takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.infra.bicep import FILES, INFRA, field, literal, module, source, text, walk

if TYPE_CHECKING:
    from tree_sitter import Node

MAIN = source(INFRA / "main.bicep")


def properties(name: str, symbol: str) -> Node:
    return field(module(name).resource(symbol), "properties")


@pytest.mark.parametrize(
    ("name", "symbol", "path", "value"),
    [
        ("storage", "account", "allowSharedKeyAccess", False),
        ("storage", "account", "allowBlobPublicAccess", False),
        ("storage", "account", "allowCrossTenantReplication", False),
        ("storage", "account", "isLocalUserEnabled", False),
        ("storage", "account", "supportsHttpsTrafficOnly", True),
        ("storage", "account", "minimumTlsVersion", "TLS1_2"),
        ("vault", "vault", "enableRbacAuthorization", True),
        ("vault", "vault", "enablePurgeProtection", True),
        ("vault", "vault", "enableSoftDelete", True),
        ("vault", "vault", "softDeleteRetentionInDays", 90),
        ("hub", "hub", "disableDeviceSAS", True),
        ("hub", "hub", "disableModuleSAS", True),
        ("monitoring", "insights", "DisableLocalAuth", True),
        ("monitoring", "workspace", "features.disableLocalAuth", True),
        ("app", "plan", "reserved", True),
        ("app", "app", "httpsOnly", True),
        ("app", "app", "functionAppConfig.runtime.name", "python"),
        ("app", "app", "functionAppConfig.runtime.version", "3.13"),
        ("app", "app", "functionAppConfig.deployment.storage.type", "blobContainer"),
        ("app", "app", "functionAppConfig.deployment.storage.authentication.type", "UserAssignedIdentity"),
        ("app", "app", "siteConfig.minTlsVersion", "1.2"),
        ("app", "noPasswords", "allow", False),
        ("frontDoorRoutes", "files", "httpsRedirect", "Disabled"),
        ("frontDoorRoutes", "files", "forwardingProtocol", "HttpsOnly"),
        ("frontDoorRoutes", "ocsp", "httpsRedirect", "Disabled"),
        ("frontDoorRoutes", "ocsp", "forwardingProtocol", "HttpsOnly"),
    ],
)
def test_a_value_that_keeps_the_factory_safe_is_set(name: str, symbol: str, path: str, value: object) -> None:
    assert literal(field(properties(name, symbol), *path.split("."))) == value


def test_the_plan_is_flex_consumption_with_one_app() -> None:
    assert literal(field(module("app").resource("plan"), "sku", "name")) == "FC1"
    assert literal(field(module("app").resource("plan"), "sku", "tier")) == "FlexConsumption"
    assert literal(field(module("app").resource("app"), "kind")) == "functionapp,linux"
    apps = [each for path in FILES for each in source(path).resources if each.what.startswith("Microsoft.Web/sites@")]
    assert len(apps) == 1


def test_front_door_lets_through_what_relying_parties_ask_and_nothing_else() -> None:
    passed = [
        literal(each)
        for symbol in ("files", "ocsp")
        for each in field(properties("frontDoorRoutes", symbol), "patternsToMatch").named_children
    ]
    assert passed == ["/api/crl/*", "/api/ca/*", "/api/ocsp/*"]


def test_an_app_gets_its_roles_before_it_is_there_and_so_before_code_is_deployed() -> None:
    """Code follows when the whole of main.bicep is done; within it, no app's host starts without its roles."""
    apps = next(each for each in MAIN.modules if each.symbol == "apps")
    assert [text(each) for each in field(apps.bodies[0], "dependsOn").named_children] == ["roles", "privateEndpoints"]
    roles = next(each for each in MAIN.modules if each.symbol == "roles")
    assert "customRoles" in [text(each) for each in field(roles.bodies[0], "dependsOn").named_children]


def test_no_key_of_a_service_is_read_but_the_hubs_which_dps_is_linked_with() -> None:
    found = [
        (path.stem, text(each))
        for path in FILES
        for each in walk(source(path).root)
        if each.type == "property_identifier" and text(each).lower().startswith("list")
    ]
    assert found == [("provisioning", "listkeys")] * 2


def test_nothing_secret_is_put_out() -> None:
    """Outputs of a deployment can be read by whoever reads the resource group."""
    for path in FILES:
        for name, value in source(path).outputs.items():
            assert not re.search(r"key|secret|password|connectionstring", name, re.IGNORECASE) or (
                name == "insightsConnectionString"  # it names the ingestion endpoint; local authentication is off
            ), (path.name, name)
            assert "listkeys" not in text(value).lower()


def test_every_app_has_a_host_account_of_its_own() -> None:
    """Who writes into it could replace the code of another zone."""
    (account,) = [each for each in MAIN.modules if each.symbol == "hostStorage"]
    assert "for app in appsWanted" in text(account.node)
    assert [literal(each) for each in field(account.bodies[0], "params", "containers").named_children] == ["packages"]


def test_the_subnet_of_an_app_is_delegated_as_flex_consumption_wants_it() -> None:
    """azure/azure-functions/flex-consumption-plan, "Considerations"."""
    assert "serviceName: 'Microsoft.App/environments'" in text(module("network").root)
