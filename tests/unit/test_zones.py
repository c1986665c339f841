"""Trust zones: which functions an app has, which clients it opens, and which settings it wants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest

from shared.errors import Misconfigured
from shared.rules.zones import APART, Zone
from shared.services import build
from shared.settings import Settings
from tests.unit.test_settings import GOOD, STORAGE, problems_of
from triggers import zones
from triggers.registration import app_of

if TYPE_CHECKING:
    from collections.abc import Mapping

EVERYWHERE = {"health_live", "health_ready", "console_access"}

LEAST: Mapping[Zone, Mapping[str, str]] = {
    Zone.INTAKE: {
        "DeviceFactoryStorage__queueServiceUri": STORAGE.format("queue"),
        "DeviceFactoryStorage__blobServiceUri": STORAGE.format("blob"),
        "DeviceFactoryStorage__tableServiceUri": STORAGE.format("table"),
    },
    Zone.ISSUING: {**GOOD, "STATUS_VAULT_URL": "https://s.vault.azure.net"},
    Zone.REVOCATION: {name: value for name, value in GOOD.items() if name != "DPS_ID_SCOPE"}
    | {"STATUS_VAULT_URL": "https://s.vault.azure.net"},
    Zone.STATUS: {
        "DeviceFactoryStorage__blobServiceUri": STORAGE.format("blob"),
        "DeviceFactoryStorage__tableServiceUri": STORAGE.format("table"),
        "STATUS_VAULT_URL": "https://s.vault.azure.net",
    },
}
"""The least settings that each zone starts with."""


def registered(zone: Zone) -> list[Any]:
    return app_of(zone).get_functions()


def functions_of(zone: Zone) -> set[str]:
    return {function.get_function_name() for function in registered(zone)}


def test_the_worker_can_read_the_annotations_of_every_function() -> None:
    """It reads them when it loads a function, so their names are to be there at run time."""
    assert all(get_type_hints(function.get_user_function()) for function in registered(Zone.ALL))


def test_the_public_zone_answers_relying_parties_and_does_nothing_else() -> None:
    """Four functions, its health, and whether a key is one: no queue, no timer, nothing else that takes a key."""
    assert functions_of(Zone.STATUS) == {"get_crl", "get_ca_certificate", "post_ocsp", "get_ocsp", *EVERYWHERE}


def test_each_function_runs_in_one_zone_and_all_of_them_without_zones() -> None:
    """Nothing is left out, nothing runs twice, and the file names no function that does not exist."""
    apart = [functions_of(zone) - EVERYWHERE for zone in sorted(APART)]
    assert sum(map(len, apart)) == len(set.union(*apart))
    assert set.union(*apart) | EVERYWHERE == functions_of(Zone.ALL) == set(zones.zones_of_functions())


def test_a_function_that_is_in_no_zone_stops_the_app_by_name() -> None:
    """It would else run nowhere, or everywhere."""
    with pytest.raises(RuntimeError, match=r"^the function 'sweep' is in no trust zone; name it in infra/zones\.json$"):
        zones.blueprint_of("sweep")


@pytest.mark.parametrize("zone", sorted(APART))
def test_a_zone_starts_with_the_settings_of_the_services_that_it_reaches(zone: Zone) -> None:
    """It wants no others, and each of them."""
    least = LEAST[zone]
    assert Settings.from_environment({"ZONE": zone, **least}).zone is zone
    for name in least:
        wanted = problems_of({"ZONE": zone, **{key: value for key, value in least.items() if key != name}})
        assert [problem.split()[0] for problem in wanted] == [name]


def test_an_unknown_zone_is_refused() -> None:
    """The message names the zones."""
    assert problems_of({**GOOD, "ZONE": "public"}) == [
        "ZONE is 'public'; it must be all or intake or issuing or revocation or status"
    ]


CHECKS: Mapping[Zone, set[str]] = {
    Zone.ALL: {
        "tables",
        "ledger",
        "queues",
        "blobs",
        "orderLists",
        "passwordVault",
        "keyVault",
        "certificateAuthorities",
        "provisioningService",
        "iotHub h.azure-devices.net",
        "webhookSecret",
        "log",
    },
    Zone.INTAKE: {"tables", "ledger", "queues", "log"},
    Zone.ISSUING: {
        "tables",
        "ledger",
        "queues",
        "blobs",
        "orderLists",
        "passwordVault",
        "keyVault",
        "statusVault",
        "certificateAuthorities",
        "provisioningService",
        "log",
        "iotHub h.azure-devices.net",
        "webhookSecret",
    },
    Zone.REVOCATION: {
        "tables",
        "ledger",
        "queues",
        "blobs",
        "keyVault",
        "certificateAuthorities",
        "provisioningService",
        "iotHub h.azure-devices.net",
        "webhookSecret",
        "log",
    },
    Zone.STATUS: {"tables", "ledger", "blobs", "responders"},
}


@pytest.mark.parametrize("zone", Zone)
async def test_readiness_asks_what_the_zone_uses(zone: Zone) -> None:
    """A service that a zone has no right to does not make it unready."""
    given = LEAST.get(zone, GOOD)
    more = {"IOT_HUBS": "h.azure-devices.net", "WEBHOOK_SECRET_NAME": "webhook-key"}
    services = build(Settings.from_environment({"ZONE": zone, **given, **more}))
    assert set(services.readiness.checks) == CHECKS[zone]
    await services.close()


async def test_revocation_sees_which_hubs_are_linked_and_uploads_no_ca() -> None:
    """It has the role to read the DPS alone, and is not ready without it."""
    dps = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/provisioningServices/dps"
    told = {"ZONE": "revocation", **LEAST[Zone.REVOCATION], "DPS_RESOURCE_ID": dps}
    services = build(Settings.from_environment(told))
    assert services.linked_hubs.resource is services.clients.dps_authorities is not None
    assert services.clients.ca_certificates == ()
    assert "linkedHubs" in services.readiness.checks
    await services.close()


async def test_what_a_zone_does_not_reach_is_refused_by_name() -> None:
    """A call that landed in the wrong zone says so, before anything is sent."""
    services = build(Settings.from_environment({"ZONE": "status", **LEAST[Zone.STATUS]}))
    with pytest.raises(Misconfigured) as refused:
        await services.clients.queues.send("device-orders", "{}")
    assert str(refused.value) == (
        "the trust zone 'status' does not reach queues; infra/zones.json says which zone this call belongs to"
    )
    with pytest.raises(Misconfigured, match="does not reach the keys of CAs"):
        services.clients.keys.sign_digest("root", "ES256", b"")
    await services.close()


def test_every_role_and_scope_that_a_zone_has_is_defined_and_every_one_defined_is_had() -> None:
    """A role is built in, with its id, or custom, with the reason why; a scope is of a known resource."""
    said = json.loads(zones.ZONES_FILE.read_text(encoding="utf-8"))
    assignments = [each for zone in said["zones"].values() for each in zone["roles"]] + said["everyZone"]["hostRoles"]
    assert {each["role"] for each in assignments} == set(said["roles"])
    assert {each["scope"] for each in assignments} == set(said["scopes"])
    assert all(("id" in role) != ("custom" in role) for role in said["roles"].values())
    assert {scope["resource"] for scope in said["scopes"].values()} == {
        "applicationInsights",
        "caVault",
        "dps",
        "eventTopic",
        "hostStorage",
        "hubs",
        "intakeStorage",
        "ledgerStorage",
        "passwordVault",
        "statusVault",
    }
