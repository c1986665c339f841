"""What infra/ deploys is what docs/deploy.md promises: the values that keep the factory safe, and names that Azure takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.infra.bicep import FILES, INFRA, alternatives, field, fields, literal, module, source, text, walk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tree_sitter import Node

MAIN = source(INFRA / "main.bicep")
ZONES = ("intake", "issuing", "revocation", "status")
TOKEN = "abcdefghijklm"
"""As long as what uniqueString() gives: 13 small letters and digits."""


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


# Names


def evaluated(node: Node, known: Mapping[str, str]) -> str:
    """Give the text that an interpolated string or a call of take() becomes."""
    if node.type == "string":
        return "".join(
            evaluated(each.named_children[0], known) if each.type == "interpolation" else text(each)
            for each in node.named_children
        )
    if node.type == "call_expression" and text(node.named_children[0]) == "take":
        of, count = node.named_children[1].named_children
        return evaluated(of, known)[: int(text(count))]
    return known[text(node)]


NAMES_TAKEN = {
    "modules/storage.bicep": r"[a-z0-9]{3,24}",
    "modules/vault.bicep": r"[a-zA-Z](?!.*--)[a-zA-Z0-9-]{1,22}[a-zA-Z0-9]",
    "modules/identity.bicep": r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}",
    "modules/hub.bicep": r"[a-zA-Z0-9][a-zA-Z0-9-]{1,48}[a-zA-Z0-9]",
    "modules/provisioning.bicep": r"[a-zA-Z0-9][a-zA-Z0-9-]{1,62}[a-zA-Z0-9]",
    "modules/app.bicep": r"[a-zA-Z0-9][a-zA-Z0-9-]{0,30}[a-zA-Z0-9]",
    "modules/privateEndpoint.bicep": r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}[a-zA-Z0-9_]",
}
"""Source: Microsoft's "Naming rules and restrictions for Azure resources". An app has 32 characters at most, since hosts
that share a storage account are told apart by these (azure/azure-functions/storage-considerations, "Host ID").
"""


def names() -> list[tuple[str, str]]:
    """Every name that main.bicep gives to a module, for each app, hub and endpoint."""
    found = []
    for each in MAIN.modules:
        given = dict(fields(field(each.bodies[0], "params")))
        for app in (*ZONES, "factory"):
            known = {
                "token": TOKEN,
                "app.name": app,
                "name": f"iot-20-{TOKEN}",
                "endpoint.name": f"pe-sth{app[:8]}{TOKEN}-queue",
            }
            found += [(each.what, evaluated(given[key], known)) for key in ("name", "planName") if key in given]
    return sorted(set(found))


@pytest.mark.parametrize(("of", "name"), names())
def test_a_name_is_one_that_azure_takes(of: str, name: str) -> None:
    assert re.fullmatch(NAMES_TAKEN[of], name), name


def test_no_two_accounts_vaults_or_apps_have_the_same_name() -> None:
    """An app for each zone, the accounts of their hosts, the intake, the ledger, and three vaults."""
    for of, count in (("modules/storage.bicep", 7), ("modules/vault.bicep", 3), ("modules/app.bicep", 10)):
        assert len([name for what, name in names() if what == of]) == count, of


def test_the_vaults_of_passwords_and_of_ca_keys_are_two() -> None:
    """Premium, for HSMs, is paid where CA keys are."""
    vaults = {
        each.symbol: dict(fields(field(each.bodies[0], "params"))) for each in MAIN.modules if "vault" in each.what
    }
    assert {symbol: text(given["sku"]) for symbol, given in vaults.items()} == {
        "caVault": "caVaultSku",
        "passwordVault": "'standard'",
        "statusVault": "'standard'",
    }


def test_every_app_has_a_host_account_of_its_own() -> None:
    """Who writes into it could replace the code of another zone."""
    (account,) = [each for each in MAIN.modules if each.symbol == "hostStorage"]
    assert "for app in appsWanted" in text(account.node)
    assert [literal(each) for each in field(account.bodies[0], "params", "containers").named_children] == ["packages"]


def test_with_a_private_network_no_storage_and_no_vault_is_reached_from_outside() -> None:
    for each in MAIN.modules:
        if each.what in {"modules/storage.bicep", "modules/vault.bicep"}:
            assert text(field(each.bodies[0], "params", "publicAccess")) == "!privateNetwork"
    for name, symbol in (("storage", "account"), ("vault", "vault")):
        assert text(field(properties(name, symbol), "publicNetworkAccess")) == "publicAccess ? 'Enabled' : 'Disabled'"
        assert (
            text(field(properties(name, symbol), "networkAcls", "defaultAction")) == "publicAccess ? 'Allow' : 'Deny'"
        )


def test_the_subnet_of_an_app_is_delegated_as_flex_consumption_wants_it() -> None:
    """azure/azure-functions/flex-consumption-plan, "Considerations"."""
    assert "serviceName: 'Microsoft.App/environments'" in text(module("network").root)


def test_one_app_runs_everything_or_each_zone_has_its_own() -> None:
    chosen = list(alternatives(MAIN.variables["appsWanted"]))
    assert "name: 'factory'" in text(chosen[0])
    assert "zones: allZones" in text(chosen[0])
    assert text(MAIN.variables["allZones"]) == "map(items(table.zones), zone => zone.key)"
