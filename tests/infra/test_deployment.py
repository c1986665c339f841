"""What main.bicep deploys for given parameters, computed: apps with their settings, roles, names, endpoints, alerts."""

from __future__ import annotations

import functools
import ipaddress
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from shared.reading.queue_settings import CONNECTIONS
from shared.rules.zones import APART, Zone
from shared.settings import described_settings
from tests.infra.bicep import INFRA
from tests.infra.deployment import SUBSCRIPTION, Resource, compute, deploy
from tests.infra.test_settings import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TABLE: dict[str, Any] = json.loads((INFRA / "zones.json").read_text(encoding="utf-8"))
ALERTS: list[dict[str, Any]] = json.loads((INFRA / "alerts.json").read_text(encoding="utf-8"))
GIVEN_BY_AZURE = {"WEBSITE_HOSTNAME", "WEBSITE_AUTH_ENABLED"}
"""Read-only ("Environment variables and app settings in Azure App Service", azure/app-service/reference-app-settings)."""
READ = {each.name: each for each in described_settings().values() if each.name not in GIVEN_BY_AZURE}
OTHER_HUB = f"{SUBSCRIPTION}/resourceGroups/rg-of-others/providers/Microsoft.Devices/IotHubs/old-hub"
GROUP = f"{SUBSCRIPTION}/resourceGroups/rg-plant-1"


@functools.cache
def deployed(**parameters: Any) -> tuple[Resource, ...]:
    said = {
        key: json.loads(value) if key in {"existingHubIds", "appSettings", "queueAccounts"} else value
        for key, value in parameters.items()
    }
    return tuple(deploy(environmentName="plant-1", location="westeurope", **said)[0])


def of(kind: str, resources: tuple[Resource, ...]) -> list[Resource]:
    return [each for each in resources if each.kind == kind]


def app(name: str, resources: tuple[Resource, ...]) -> Mapping[str, Any]:
    (found,) = [each for each in of("Microsoft.Web/sites", resources) if each.name.startswith(f"func-{name}-")]
    return found.body


def settings(name: str, resources: tuple[Resource, ...]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in app(name, resources)["properties"]["siteConfig"]["appSettings"]}


# Apps


@pytest.mark.parametrize("zone", sorted(APART))
def test_a_zone_gets_an_app_with_the_settings_that_it_reads(zone: Zone) -> None:
    given = settings(zone.value, deployed())
    assert set(given) == {name for name, setting in READ.items() if zone in setting.zones} | HOST
    assert given["ZONE"] == zone.value
    assert {
        name for name, setting in READ.items() if setting.default is None and not given.get(name, "not its own")
    } == set()


def test_one_app_for_everything_gets_all_settings() -> None:
    resources = deployed(zones="single")
    assert [each.name.split("-")[1] for each in of("Microsoft.Web/sites", resources)] == ["factory"]
    assert set(settings("factory", resources)) == set(READ) | HOST
    assert settings("factory", resources)["ZONE"] == "all"


def test_an_owners_setting_wins_over_the_default_and_loses_to_what_the_deployment_needs() -> None:
    resources = deployed(appSettings='["CA_ORGANIZATION=Example = A", "AzureWebJobsStorage__credential=none"]')
    given = settings("issuing", resources)
    assert given["CA_ORGANIZATION"] == "Example = A"
    assert given["AzureWebJobsStorage__credential"] == "managedidentity"


def test_each_app_runs_as_its_own_identity_on_its_own_plan_with_its_own_host_account() -> None:
    resources = deployed()
    for zone in APART:
        body, given = app(zone.value, resources), settings(zone.value, resources)
        (identity,) = body["identity"]["userAssignedIdentities"]
        assert f"/userAssignedIdentities/id-{zone.value}-" in identity
        assert f"/serverfarms/plan-{zone.value}-" in body["properties"]["serverFarmId"]
        assert given["AzureWebJobsStorage__blobServiceUri"].startswith(f"<sth{zone.value[:8]}")
        assert body["properties"]["functionAppConfig"]["deployment"]["storage"]["value"].startswith(
            f"<sth{zone.value[:8]}"
        )
        assert given["DeviceFactoryStorage__clientId"].startswith(f"<id-{zone.value}-")
        assert body["tags"]["azd-service-name"] == zone.value


def test_hsm_keys_are_asked_for_where_the_vault_has_them() -> None:
    assert settings("issuing", deployed())["CA_KEYS_IN_HSM"] == "false"
    resources = deployed(caVaultSku="premium")
    assert settings("issuing", resources)["CA_KEYS_IN_HSM"] == "true"
    skus = {
        each.name[:5]: each.body["properties"]["sku"]["name"] for each in of("Microsoft.KeyVault/vaults", resources)
    }
    assert skus == {"kv-ca": "premium", "kv-pw": "standard", "kv-st": "standard"}


# Sign-in

CLIENT = "c0ffee00-0000-4000-8000-000000000001"
TENANT = "7e4a4700-0000-4000-8000-000000000002"


def sign_in(**parameters: Any) -> dict[str, Mapping[str, Any]]:
    """Give what App Service authentication is told, by the name of the app."""
    found = of("Microsoft.Web/sites/config", deployed(**parameters))
    return {each.path.split("-")[1]: each.body["properties"] for each in found if each.name == "authsettingsV2"}


def test_nobody_signs_in_unless_a_registration_is_named() -> None:
    assert sign_in() == {}
    assert set(sign_in(entraClientId=CLIENT)) == {"intake", "issuing", "revocation", "status"}
    assert set(sign_in(entraClientId=CLIENT, zones="single")) == {"factory"}


def test_who_signs_in_comes_from_the_registrations_tenant_and_needs_no_secret() -> None:
    """The issuer is that of version 2.0 (azure/app-service/configure-authentication-provider-aad)."""
    own = sign_in(entraClientId=CLIENT)["issuing"]["identityProviders"]["azureActiveDirectory"]
    other = sign_in(entraClientId=CLIENT, entraTenantId=TENANT)["issuing"]["identityProviders"]["azureActiveDirectory"]
    issuer = "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0"
    assert own["registration"] == {"clientId": CLIENT, "openIdIssuer": issuer}
    assert other["registration"]["openIdIssuer"] == f"https://login.microsoftonline.com/{TENANT}/v2.0"
    assert own["validation"]["allowedAudiences"] == [f"api://{CLIENT}"]


def test_requests_without_a_token_pass_and_no_path_is_left_out() -> None:
    """Machines come with function keys. Where authentication is left out, anybody could say who they are."""
    for told in sign_in(entraClientId=CLIENT).values():
        assert told["globalValidation"] == {
            "requireAuthentication": False,
            "unauthenticatedClientAction": "AllowAnonymous",
        }
        assert told["platform"]["enabled"]


@pytest.mark.parametrize("zones", ["separate", "single"])
def test_an_app_believes_who_calls_if_and_only_if_app_service_says_it(zones: str) -> None:
    for client in ("", CLIENT):
        told = sign_in(entraClientId=client, zones=zones)
        resources = deployed(entraClientId=client, zones=zones)
        for each in of("Microsoft.Web/sites", resources):
            name = each.name.split("-")[1]
            assert settings(name, resources)["ENTRA_AUTHENTICATION"] == ("true" if name in told else "")
            assert (name in told) == bool(client)


def test_what_function_keys_may_do_is_a_choice() -> None:
    said = "erp Orders.Write,Fleet.Read 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert settings("intake", deployed())["KEY_ROLES"] == ""
    assert settings("intake", deployed(keyRoles=said))["KEY_ROLES"] == said


# Roles


def scopes_of(grant: Mapping[str, str], name: str, resources: tuple[Resource, ...], hubs: list[str]) -> Iterator[str]:
    """Give the ids of what a grant of zones.json is on, told here once more and in another way than in Bicep."""
    token = of("Microsoft.Devices/provisioningServices", resources)[0].name.removeprefix("dps-")
    scope = TABLE["scopes"][grant["scope"]]
    storage = f"{GROUP}/providers/Microsoft.Storage/storageAccounts"
    whole = {
        "hostStorage": f"{storage}/sth{name[:8]}{token}",
        "intakeStorage": f"{storage}/stintake{token}",
        "ledgerStorage": f"{storage}/stledger{token}",
        "caVault": f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv-ca-{token}",
        "passwordVault": f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv-pw-{token}",
        "statusVault": f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv-st-{token}",
        "applicationInsights": f"{GROUP}/providers/Microsoft.Insights/components/appi-{token}",
        "eventTopic": f"{GROUP}/providers/Microsoft.EventGrid/topics/evgt-{token}",
        "dps": f"{GROUP}/providers/Microsoft.Devices/provisioningServices/dps-{token}",
    }
    if scope["resource"] == "hubs":
        yield from hubs or [f"{GROUP}/providers/Microsoft.Devices/IotHubs/iot-1-{token}"]
        return
    services = {"tables": "tableServices", "queues": "queueServices", "containers": "blobServices"}
    parts = [(kind, part) for kind in services for part in scope.get(kind, ())]
    for kind, part in parts:
        yield f"{whole[scope['resource']]}/{services[kind]}/default/{kind}/{part}"
    if not parts:
        yield whole[scope["resource"]]


def assigned(name: str, resources: tuple[Resource, ...]) -> set[tuple[str, str]]:
    """Give what the identity of an app was assigned: names of roles, and on what."""
    names = {
        each.name: each.body["properties"]["roleName"].split(" (")[0]
        for each in of("Microsoft.Authorization/roleDefinitions", resources)
    }
    names |= {role["id"]: role["name"] for role in TABLE["roles"].values() if "id" in role}
    found = [
        (names[each.body["properties"]["roleDefinitionId"].rsplit("/", 1)[1]], each.on.id)
        for each in of("Microsoft.Authorization/roleAssignments", resources)
        if each.on and each.body["properties"]["principalId"].startswith(f"<id-{name}-")
    ]
    assert len(found) == len(set(found))
    return set(found)


def wanted(
    zones: list[str], name: str, resources: tuple[Resource, ...], *, only: set[str], hubs: list[str]
) -> set[tuple[str, str]]:
    grants = [*TABLE["everyZone"]["hostRoles"], *(grant for zone in zones for grant in TABLE["zones"][zone]["roles"])]
    return {
        (TABLE["roles"][grant["role"]]["name"], on)
        for grant in grants
        if grant.get("onlyWith", "DPS_RESOURCE_ID") in only
        for on in scopes_of(grant, name, resources, hubs)
    }


@pytest.mark.parametrize("zone", TABLE["zones"])
def test_a_zone_has_the_roles_of_zones_json_and_no_others(zone: str) -> None:
    resources = deployed()
    assert assigned(zone, resources) == wanted([zone], zone, resources, only={"DPS_RESOURCE_ID"}, hubs=[])


def test_one_app_for_everything_has_the_roles_of_all_zones_each_once() -> None:
    resources = deployed(zones="single")
    assert assigned("factory", resources) == wanted(
        [*TABLE["zones"]], "factory", resources, only={"DPS_RESOURCE_ID"}, hubs=[]
    )


def test_a_role_that_a_setting_needs_comes_with_the_setting() -> None:
    resources = deployed(uploadRootsToHubs=True, eventTopic=True, appSettings='["WEBHOOK_SECRET_NAME=webhook"]')
    only = {"DPS_RESOURCE_ID", "EVENT_TOPIC_URL", "IOT_HUB_RESOURCE_IDS", "WEBHOOK_SECRET_NAME"}
    for zone in TABLE["zones"]:
        assert assigned(zone, resources) == wanted([zone], zone, resources, only=only, hubs=[])
    assert any(role == "Device Factory Hub CA Uploader" for role, _ in assigned("issuing", resources))
    assert any(role == "Key Vault Secrets User" for role, _ in assigned("revocation", resources))
    assert settings("issuing", resources)["IOT_HUB_RESOURCE_IDS"].startswith(
        f"{GROUP}/providers/Microsoft.Devices/IotHubs/"
    )


def test_hubs_that_were_there_are_linked_and_get_roles_where_they_are() -> None:
    resources = deployed(existingHubIds=json.dumps([OTHER_HUB]))
    assert of("Microsoft.Devices/IotHubs", resources) == []
    assert assigned("revocation", resources) == wanted(
        ["revocation"], "revocation", resources, only={"DPS_RESOURCE_ID"}, hubs=[OTHER_HUB]
    )
    (service,) = of("Microsoft.Devices/provisioningServices", resources)
    (hub,) = service.body["properties"]["iotHubs"]
    assert hub["connectionString"].startswith("HostName=<old-hub.properties.hostName>;")
    for role in of("Microsoft.Authorization/roleDefinitions", resources):
        assert role.body["properties"]["assignableScopes"] == [GROUP, f"{SUBSCRIPTION}/resourceGroups/rg-of-others"]


def test_nobody_else_gets_a_role_unless_who_deploys_is_named() -> None:
    """And then no role on the ledger, on a vault, on the DPS or on a hub."""
    assert {
        each.body["properties"]["principalType"] for each in of("Microsoft.Authorization/roleAssignments", deployed())
    } == {"ServicePrincipal"}
    added = [
        each
        for each in of("Microsoft.Authorization/roleAssignments", deployed(principalId="me"))
        if each.body["properties"]["principalId"] == "me"
    ]
    where = Counter(
        re.sub(r"stintake\w+", "stintake", each.on.id.split("/storageAccounts/")[1]) for each in added if each.on
    )
    assert where == {
        "stintake/queueServices/default/queues/certificate-requests": 1,
        "stintake/queueServices/default/queues/enrollment-group-requests": 1,
        "stintake/queueServices/default/queues/device-orders": 1,
        "stintake/queueServices/default/queues/revocation-requests": 1,
        "stintake/queueServices/default/queues/provisioning-events": 2,
        "stintake/blobServices/default/containers/orders": 1,
    }


# Queues in accounts of their own

OWN = {"device-orders": "stqorder", "revocation-requests": "stqrevoke"}


def test_a_queue_has_its_own_account_with_its_poison_queue_and_no_other_queue() -> None:
    """By default all are in the intake's account."""
    resources = deployed(queueAccounts=json.dumps([*OWN]))
    token = of("Microsoft.Devices/provisioningServices", resources)[0].name.removeprefix("dps-")
    queues = "Microsoft.Storage/storageAccounts/queueServices/queues"
    where = {each.name: each.id.split("/")[8].removesuffix(token) for each in of(queues, resources)}
    own = {name: account for name, account in where.items() if account != "stintake"}
    assert own == {
        "device-orders": "stqorder",
        "device-orders-poison": "stqorder",
        "revocation-requests": "stqrevoke",
        "revocation-requests-poison": "stqrevoke",
    }
    assert len(where) == 13
    assert {each.id.split("/")[8].removesuffix(token) for each in of(queues, deployed())} == {"stintake"}


@pytest.mark.parametrize("zone", TABLE["zones"])
def test_the_roles_of_a_zone_follow_a_queue_into_its_account(zone: str) -> None:
    """The same roles on the same queues, each where it is, and none on the account as a whole."""
    resources = deployed(queueAccounts=json.dumps([*OWN]))
    token = of("Microsoft.Devices/provisioningServices", resources)[0].name.removeprefix("dps-")
    expected = set()
    for role, where in wanted([zone], zone, resources, only={"DPS_RESOURCE_ID"}, hubs=[]):
        queue = where.rsplit("/", 1)[1].removesuffix("-poison")
        account = f"/{OWN[queue]}{token}/" if "/queueServices/" in where and queue in OWN else f"/stintake{token}/"
        expected.add((role, where.replace(f"/stintake{token}/", account)))
    assert assigned(zone, resources) == expected
    assert any("/stqorder" in where for _, where in expected) == (zone in {"intake", "issuing"})
    assert any("/stqrevoke" in where for _, where in expected) == (zone in {"issuing", "revocation"})


def test_the_apps_are_told_where_a_queue_is_and_use_their_own_identity_there() -> None:
    """Those that use the queue; who deploys may put messages there, as before."""
    resources = deployed(queueAccounts=json.dumps([*OWN]), queueSenders="device-orders=SAP ERP", principalId="me")
    token = of("Microsoft.Devices/provisioningServices", resources)[0].name.removeprefix("dps-")
    for zone in ("intake", "issuing"):
        given = settings(zone, resources)
        assert given["DeviceOrdersStorage__queueServiceUri"] == f"https://stqorder{token}.queue.core.windows.net/"
        assert given["DeviceOrdersStorage__credential"] == "managedidentity"
        assert given["DeviceOrdersStorage__clientId"].startswith(f"<id-{zone}-")
        assert given["CertificateRequestsStorage__queueServiceUri"] == ""
    assert "DeviceOrdersStorage__queueServiceUri" not in settings("revocation", resources)
    assert settings("revocation", resources)["RevocationRequestsStorage__queueServiceUri"].startswith(
        "https://stqrevoke"
    )
    assert settings("issuing", resources)["QUEUE_SENDERS"] == "device-orders=SAP ERP"
    assert "QUEUE_SENDERS" not in settings("intake", resources)
    sent = [
        each.on.id.split("/storageAccounts/")[1]
        for each in of("Microsoft.Authorization/roleAssignments", resources)
        if each.on and each.body["properties"]["principalId"] == "me"
    ]
    assert f"stqorder{token}/queueServices/default/queues/device-orders" in sent
    assert f"stintake{token}/queueServices/default/queues/device-orders" not in sent


def test_who_puts_messages_into_a_queue_of_its_own_is_logged() -> None:
    """With their object id ("Best practices for monitoring Azure Queue Storage"); the intake's own traffic is not."""
    resources = deployed(queueAccounts=json.dumps([*OWN]))
    logged = {
        each.on.id.split("/storageAccounts/")[1][:6]
        for each in of("Microsoft.Insights/diagnosticSettings", resources)
        if each.on and each.body["properties"]["logs"][0]["category"] == "StorageWrite"
    }
    assert logged == {"stqord", "stqrev"}
    assert all(
        "/queueServices/" in each.on.id
        for each in of("Microsoft.Insights/diagnosticSettings", resources)
        if each.on and each.body["properties"]["logs"][0]["category"] == "StorageWrite"
    )


# Names

NAMES_TAKEN = {
    "Microsoft.Resources/resourceGroups": r"[\w().-]{1,89}[\w()-]",
    "Microsoft.Storage/storageAccounts": r"[a-z0-9]{3,24}",
    "Microsoft.Storage/storageAccounts/queueServices/queues": r"[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]",
    "Microsoft.Storage/storageAccounts/tableServices/tables": r"[A-Za-z][A-Za-z0-9]{2,62}",
    "Microsoft.Storage/storageAccounts/blobServices/containers": r"[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]",
    "Microsoft.KeyVault/vaults": r"[a-zA-Z](?!.*--)[a-zA-Z0-9-]{1,22}[a-zA-Z0-9]",
    "Microsoft.ManagedIdentity/userAssignedIdentities": r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}",
    "Microsoft.Devices/IotHubs": r"[a-zA-Z0-9][a-zA-Z0-9-]{1,48}[a-zA-Z0-9]",
    "Microsoft.Devices/provisioningServices": r"[a-zA-Z0-9][a-zA-Z0-9-]{1,62}[a-zA-Z0-9]",
    "Microsoft.Web/serverfarms": r"[a-zA-Z0-9-]{1,60}",
    "Microsoft.Web/sites": r"[a-zA-Z0-9][a-zA-Z0-9-]{0,30}[a-zA-Z0-9]",
    "Microsoft.OperationalInsights/workspaces": r"[a-zA-Z0-9][a-zA-Z0-9-]{2,61}[a-zA-Z0-9]",
    "Microsoft.Insights/components": r"[^%&\\?/]{0,259}[^%&\\?/. ]",
    "Microsoft.Insights/actionGroups": r"[^:<>+/&%\\?|]{0,259}[^:<>+/&%\\?|. ]",
    "Microsoft.Insights/scheduledQueryRules": r"[^*<>%{}&:\\?/#|@]{0,259}[^*<>%{}&:\\?/#|@. ]",
    "Microsoft.EventGrid/topics": r"[a-zA-Z0-9-]{3,50}",
    "Microsoft.Network/virtualNetworks": r"[a-zA-Z0-9][\w.-]{0,62}\w",
    "Microsoft.Network/networkSecurityGroups": r"[a-zA-Z0-9][\w.-]{0,78}\w",
    "Microsoft.Network/privateEndpoints": r"[a-zA-Z0-9][\w.-]{0,62}\w",
    "Microsoft.Cdn/profiles": r"[a-zA-Z0-9][a-zA-Z0-9-]{0,258}[a-zA-Z0-9]",
}
"""Source: Microsoft's "Naming rules and restrictions for Azure resources". An app has 32 characters at most, since hosts
that share a storage account are told apart by these (azure/azure-functions/storage-considerations, "Host ID").
"""

EVERYTHING = {
    "privateNetwork": True,
    "frontDoor": True,
    "publicHostName": "pki.example.com",
    "principalId": "me",
    "eventTopic": True,
    "hubCount": 20,
    "queueAccounts": json.dumps([*CONNECTIONS]),
}


@pytest.mark.parametrize("kind", NAMES_TAKEN)
@pytest.mark.parametrize("zones", ["separate", "single"])
def test_a_name_is_one_that_azure_takes(kind: str, zones: str) -> None:
    found = of(kind, deployed(**EVERYTHING, zones=zones))
    assert found
    assert [each.name for each in found if not re.fullmatch(NAMES_TAKEN[kind], each.name)] == []


@pytest.mark.parametrize("zones", ["separate", "single"])
def test_no_two_resources_have_the_same_id(zones: str) -> None:
    """Compared as Azure does, without case."""
    ids = Counter(each.id.lower() for each in deployed(**EVERYTHING, zones=zones))
    assert [each for each, count in ids.items() if count > 1] == []


def test_an_event_topic_takes_cloud_events_from_the_zones_that_have_events() -> None:
    resources = deployed(eventTopic=True)
    (topic,) = of("Microsoft.EventGrid/topics", resources)
    assert topic.body["properties"]["inputSchema"] == "CloudEventSchemaV1_0"
    assert topic.body["properties"]["disableLocalAuth"] is True
    senders = {zone for zone in TABLE["zones"] if ("EventGrid Data Sender", topic.id) in assigned(zone, resources)}
    assert senders == {"issuing", "revocation"}
    for zone in APART:
        assert ("EVENT_TOPIC_URL" in settings(zone.value, resources)) == (zone.value in senders)
    assert settings("issuing", resources)["EVENT_TOPIC_URL"] == f"<{topic.name}.properties.endpoint>"
    assert settings("issuing", deployed())["EVENT_TOPIC_URL"] == ""


# Networks


def test_without_a_network_nothing_of_one_is_there() -> None:
    assert [each.kind for each in deployed() if each.kind.startswith("Microsoft.Network/")] == []


def test_a_private_network_has_an_endpoint_for_each_service_of_each_account() -> None:
    """Three for each storage account (four hosts, intake, ledger), one for each of three vaults, the DPS and the hub."""
    resources = deployed(privateNetwork=True)
    endpoints = of("Microsoft.Network/privateEndpoints", resources)
    parts = Counter(
        each.body["properties"]["privateLinkServiceConnections"][0]["properties"]["groupIds"][0] for each in endpoints
    )
    assert parts == {"blob": 6, "queue": 6, "table": 6, "vault": 3, "iotDps": 1, "iotHub": 1}
    reached = {
        each.body["properties"]["privateLinkServiceConnections"][0]["properties"]["privateLinkServiceId"]
        for each in endpoints
    }
    there = {
        each.id
        for kind in ("Storage/storageAccounts", "KeyVault/vaults", "Devices/provisioningServices", "Devices/IotHubs")
        for each in of(f"Microsoft.{kind}", resources)
    }
    assert reached == there
    zones = {each.name for each in of("Microsoft.Network/privateDnsZones", resources)}
    for each in of("Microsoft.Network/privateEndpoints/privateDnsZoneGroups", resources):
        for config in each.body["properties"]["privateDnsZoneConfigs"]:
            assert config["properties"]["privateDnsZoneId"].rsplit("/", 1)[1] in zones


def test_in_a_private_network_storage_and_vaults_are_reached_from_inside_alone() -> None:
    resources = deployed(privateNetwork=True)
    for each in (*of("Microsoft.Storage/storageAccounts", resources), *of("Microsoft.KeyVault/vaults", resources)):
        assert each.body["properties"]["publicNetworkAccess"] == "Disabled"
        assert each.body["properties"]["networkAcls"]["defaultAction"] == "Deny"
    for each in (*of("Microsoft.Devices/IotHubs", resources), *of("Microsoft.Devices/provisioningServices", resources)):
        assert each.body["properties"]["publicNetworkAccess"] == "Enabled"


def test_each_app_has_a_subnet_of_its_own_delegated_to_it() -> None:
    resources = deployed(privateNetwork=True)
    (network,) = of("Microsoft.Network/virtualNetworks", resources)
    subnets = network.body["properties"]["subnets"]
    ranges = [ipaddress.ip_network(each["properties"]["addressPrefix"]) for each in subnets]
    assert not any(one.overlaps(other) for i, one in enumerate(ranges) for other in ranges[i + 1 :])
    delegated = [each["name"] for each in subnets if each["properties"].get("delegations")]
    assert delegated == [f"app-{zone}" for zone in ("intake", "issuing", "revocation", "status")]
    for zone in APART:
        assert app(zone.value, resources)["properties"]["virtualNetworkSubnetId"].endswith(f"/subnets/app-{zone.value}")
    assert app("status", deployed())["properties"]["virtualNetworkSubnetId"] is None


# Front Door


def test_with_front_door_the_public_zone_is_called_by_it_alone_and_the_others_by_their_callers() -> None:
    resources = deployed(frontDoor=True, publicHostName="pki.example.com")
    for zone in APART:
        config = app(zone.value, resources)["properties"]["siteConfig"]
        assert config["ipSecurityRestrictionsDefaultAction"] == ("Deny" if zone is Zone.STATUS else "Allow")
    (allowed,) = app("status", resources)["properties"]["siteConfig"]["ipSecurityRestrictions"]
    assert allowed["headers"]["x-azure-fdid"][0].startswith("<afd-")
    assert settings("issuing", resources)["PUBLIC_BASE_URL"] == "http://pki.example.com"
    (origin,) = of("Microsoft.Cdn/profiles/originGroups/origins", resources)
    assert origin.body["properties"]["hostName"].startswith("<func-status-")
    for route in of("Microsoft.Cdn/profiles/afdEndpoints/routes", resources):
        assert route.body["properties"]["customDomains"][0]["id"].endswith("/customDomains/pki-example-com")


def test_with_front_door_one_app_for_everything_is_still_called_by_others() -> None:
    config = app("factory", deployed(frontDoor=True, publicHostName="pki.example.com", zones="single"))["properties"][
        "siteConfig"
    ]
    assert config["ipSecurityRestrictionsDefaultAction"] == "Allow"


# Alerts


def criterion(name: str) -> Mapping[str, Any]:
    (rule,) = [
        each
        for each in of("Microsoft.Insights/scheduledQueryRules", deployed())
        if each.body["properties"]["displayName"] == name
    ]
    found: Mapping[str, Any] = rule.body["properties"]["criteria"]["allOf"][0]
    return found


def test_the_query_of_an_alert_asks_for_its_metric_its_dimensions_and_what_it_is_split_by() -> None:
    assert criterion("poison-messages")["query"].split("\n") == [
        "AppMetrics",
        "| where Name == 'device_factory.rejections'",
        "| where tostring(Properties['device_factory.kind']) in ('poison')",
        "| extend messaging_destination_name = tostring(Properties['messaging.destination.name'])",
        "| summarize measured = sum(Sum) by bin(TimeGenerated, 1m), messaging_destination_name",
    ]
    assert criterion("revocation-not-closed")["query"].split("\n") == [
        "AppMetrics",
        "| where Name == 'device_factory.unsettled.age'",
        "| summarize measured = max(coalesce(Max, Sum)) by bin(TimeGenerated, 1m)",
    ]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["name"])
def test_each_alert_becomes_a_rule_with_its_threshold(alert: dict[str, Any]) -> None:
    found = criterion(alert["name"])
    assert f"Name == '{alert['metric']}'" in found["query"]
    assert (found["operator"], found["threshold"]) == (alert["operator"], alert["threshold"])
    assert [each["name"] for each in found["dimensions"]] == [name.replace(".", "_") for name in alert["splitBy"]]
    for each in found["dimensions"]:
        assert f"extend {each['name']} = " in found["query"]


# How it is computed


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'a ${b.c} \\'d\\' '", "a 1 'd' "),
        ("yes ? 'x' : b.c", "x"),
        ("no ? 'x' : b.c", 1),
        ("no || b.c == 1", True),
        ("map([1, 2], x => {\n  y: x\n})", [{"y": 1}, {"y": 2}]),
        ("map(['c'], x => b[x])", [1]),
        ("filter(['c', 'd'], x => x == 'd' || no)", ["d"]),
        ("toObject(['k'], x => x, x => '${x}!')", {"k": "k!"}),
        ("[for (x, i) in ['p', 'q']: '${x}${i}']", ["p0", "q1"]),
        ("union(['a', 'b'], ['b', 'c'])", ["a", "b", "c"]),
        ("union({ a: 1, b: 1 }, { b: 2 })", {"a": 1, "b": 2}),
        ("b.?d ?? 'none'", "none"),
        ("cidrSubnet('10.60.0.0/16', 24, 2)", "10.60.2.0/24"),
        ("items({ z: 1, a: 2 })", [{"key": "a", "value": 2}, {"key": "z", "value": 1}]),
        ("resourceId('A.B/c', 'n')", f"{SUBSCRIPTION}/resourceGroups/here/providers/A.B/c/n"),
        ("take('revocation', 8)", "revocati"),
    ],
)
def test_an_expression_has_the_value_that_bicep_gives_it(expression: str, value: Any) -> None:
    assert compute(expression, yes=True, no=False, b={"c": 1}) == value
