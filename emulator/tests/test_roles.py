"""Roles of identities: each service lets an identity do what its assignments say, and nothing else."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import requests

from emulator.platform.identity.errors import Forbidden
from emulator.platform.identity.roles import DECISIONS, Needed, Roles
from emulator.services.dps import permissions as dps
from emulator.services.iot_hub import permissions as iot_hub
from emulator.services.key_vault import permissions as key_vault
from emulator.services.management import permissions as management
from emulator.tests.running import emulator_in_thread

if TYPE_CHECKING:
    from pathlib import Path

SIGNER = "6f1dd4dc-3a2f-4c7c-92bb-8a9f6f4f5ad1"
OWNER = "0b7a3c4e-52a1-4d5e-9a55-2f6a1f0f8d11"
DPS = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/provisioningServices/dps"


def write_roles(file: Path, *assignments: dict[str, Any]) -> None:
    """Write the roles of one identity, and make sure that the change is seen."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(json.dumps({"identities": {SIGNER: {"name": "signer", "assignments": assignments}}}))
    os.utime(file, ns=(before + 1, before + 1))


def assignment(*actions: str, paths: tuple[str, ...], but: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"role": "signing", "scope": "here", "actions": actions, "paths": paths, "except": but}


SIGN = Needed.one("Microsoft.KeyVault/vaults/keys/sign/action", "/vault/keys/root")


@pytest.mark.parametrize(
    ("held", "allowed"),
    [
        (assignment("Microsoft.KeyVault/vaults/keys/sign/action", paths=("/vault",)), True),
        (assignment("microsoft.keyvault/vaults/keys/*", paths=("/vault/keys/root",)), True),
        (assignment("Microsoft.KeyVault/vaults/keys/read", paths=("/vault",)), False),
        (assignment("Microsoft.KeyVault/vaults/keys/sign/action", paths=("/vault/keys/roo",)), False),
        (assignment("Microsoft.KeyVault/vaults/keys/sign/action", paths=("/vault",), but=("/vault/keys/root",)), False),
    ],
)
def test_an_assignment_holds_for_its_actions_at_its_scope_and_below(
    tmp_path: Path, held: dict[str, Any], *, allowed: bool
) -> None:
    """Actions are compared without regard to case, and * stands for anything."""
    write_roles(tmp_path / "roles.json", held)
    roles = Roles(tmp_path / "roles.json")
    roles.check(OWNER, SIGN)
    if allowed:
        roles.check(SIGNER, SIGN)
    else:
        with pytest.raises(Forbidden, match=r"has no role with Microsoft.KeyVault/vaults/keys/sign/action on"):
            roles.check(SIGNER, SIGN)


def test_each_way_needs_all_of_its_actions(tmp_path: Path) -> None:
    """One of several ways is enough, and half of one is not."""
    needed = Needed((frozenset({"a/process"}), frozenset({"a/read", "a/delete"})), "/queue/orders")
    write_roles(tmp_path / "roles.json", assignment("a/read", paths=("/queue",)))
    roles = Roles(tmp_path / "roles.json")
    with pytest.raises(Forbidden):
        roles.check(SIGNER, needed)
    write_roles(
        tmp_path / "roles.json", assignment("a/read", paths=("/queue",)), assignment("a/delete", paths=("/queue",))
    )
    roles.check(SIGNER, needed)
    write_roles(tmp_path / "roles.json", assignment("a/process", paths=("/queue",)))
    roles.check(SIGNER, needed)


def test_each_decision_is_told_once_with_the_assignment_that_made_it(tmp_path: Path) -> None:
    """What was allowed names role and scope; what was refused names what was missing."""
    write_roles(tmp_path / "roles.json", assignment("*/sign/action", paths=("/vault",)))
    roles = Roles(tmp_path / "roles.json")
    for _ in range(2):
        roles.check(SIGNER, SIGN)
    with pytest.raises(Forbidden):
        roles.check(SIGNER, Needed.one("Microsoft.KeyVault/vaults/keys/delete", "/vault/keys/root"))
    told = [json.loads(line) for line in (tmp_path / DECISIONS).read_text().splitlines()]
    assert told == [
        {
            "identity": "signer",
            "role": "signing",
            "scope": "here",
            "action": "Microsoft.KeyVault/vaults/keys/sign/action",
        },
        {"identity": "signer", "denied": "Microsoft.KeyVault/vaults/keys/delete", "path": "/vault/keys/root"},
    ]


@pytest.mark.parametrize(
    ("needed", "method", "path", "action"),
    [
        (key_vault.needed, "POST", "/keys/root/create", "Microsoft.KeyVault/vaults/keys/create/action"),
        (key_vault.needed, "PUT", "/keys/root", "Microsoft.KeyVault/vaults/keys/import/action"),
        (key_vault.needed, "GET", "/keys", "Microsoft.KeyVault/vaults/keys/read"),
        (key_vault.needed, "GET", "/keys/root/", "Microsoft.KeyVault/vaults/keys/read"),
        (key_vault.needed, "POST", "/keys/root/1/sign", "Microsoft.KeyVault/vaults/keys/sign/action"),
        (key_vault.needed, "POST", "/keys/root/1/wrapkey", "Microsoft.KeyVault/vaults/keys/wrap/action"),
        (key_vault.needed, "POST", "/keys/root/1/unwrapkey", "Microsoft.KeyVault/vaults/keys/unwrap/action"),
        (key_vault.needed, "DELETE", "/keys/root", "Microsoft.KeyVault/vaults/keys/delete"),
        (key_vault.needed, "DELETE", "/deletedkeys/root", "Microsoft.KeyVault/vaults/keys/purge/action"),
        (key_vault.needed, "GET", "/secrets/p/1", "Microsoft.KeyVault/vaults/secrets/getSecret/action"),
        (key_vault.needed, "GET", "/secrets", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"),
        (key_vault.needed, "GET", "/secrets/p/versions", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"),
        (key_vault.needed, "PUT", "/secrets/p", "Microsoft.KeyVault/vaults/secrets/setSecret/action"),
        (dps.needed, "GET", "/enrollmentGroups/line", "Microsoft.Devices/provisioningServices/enrollmentGroups/read"),
        (dps.needed, "POST", "/enrollmentGroups/query", "Microsoft.Devices/provisioningServices/enrollmentGroups/read"),
        (dps.needed, "PUT", "/enrollments/press", "Microsoft.Devices/provisioningServices/enrollments/write"),
        (dps.needed, "POST", "/enrollments", "Microsoft.Devices/provisioningServices/enrollments/write"),
        (
            dps.needed,
            "POST",
            "/enrollments/press/attestationmechanism",
            "Microsoft.Devices/provisioningServices/attestationmechanism/details/action",
        ),
        (
            dps.needed,
            "POST",
            "/registrations/line/query",
            "Microsoft.Devices/provisioningServices/registrationStates/read",
        ),
        (
            dps.needed,
            "DELETE",
            "/registrations/press",
            "Microsoft.Devices/provisioningServices/registrationStates/delete",
        ),
        (iot_hub.needed, "GET", "/devices/press", "Microsoft.Devices/IotHubs/devices/read"),
        (iot_hub.needed, "POST", "/devices", "Microsoft.Devices/IotHubs/devices/write"),
        (iot_hub.needed, "POST", "/devices/query", "Microsoft.Devices/IotHubs/twins/read"),
        (iot_hub.needed, "PATCH", "/twins/press", "Microsoft.Devices/IotHubs/twins/write"),
        (iot_hub.needed, "GET", "/statistics/service", "Microsoft.Devices/IotHubs/statistics/read"),
        (iot_hub.needed, "POST", "/twins/press/methods", "Microsoft.Devices/IotHubs/directMethods/invoke/action"),
        (management.needed, "GET", DPS, "Microsoft.Devices/provisioningServices/read"),
        (
            management.needed,
            "PUT",
            f"{DPS}/certificates/root",
            "Microsoft.Devices/provisioningServices/certificates/write",
        ),
        (
            management.needed,
            "POST",
            f"{DPS}/certificates/root/verify",
            "Microsoft.Devices/provisioningServices/certificates/verify/action",
        ),
        (management.needed, "POST", f"{DPS}/listkeys", "Microsoft.Devices/provisioningServices/listkeys/action"),
    ],
)
def test_each_operation_needs_the_action_that_microsoft_names(needed: Any, method: str, path: str, action: str) -> None:
    """The tables of "Azure permissions" and of the services' pages on access with Microsoft Entra ID."""
    assert needed(method, path).ways == (frozenset({action}),)


def test_every_service_refuses_an_identity_without_the_role(tmp_path: Path) -> None:
    """Each says so in its own words, and lets the same identity do what it has a role for."""
    write_roles(
        tmp_path / "roles.json",
        assignment("Microsoft.KeyVault/vaults/keys/read", paths=("/vault",)),
        assignment("Microsoft.Devices/provisioningServices/read", paths=("/dps",)),
    )
    with emulator_in_thread(tmp_path, roles=tmp_path / "roles.json") as running:

        def called(method: str, path: str, audience: str, version: str) -> requests.Response:
            token = running.context.tokens.issue(audience, client_id=SIGNER).token
            return requests.request(
                method,
                f"{running.https_url}{path}",
                params={"api-version": version},
                json={},
                headers={"Authorization": f"Bearer {token}"},
                verify=running.ca_file,
                timeout=10,
            )

        vault, dps_url = "https://vault.azure.net", "https://azure-devices-provisioning.net"
        assert called("GET", "/keys", vault, "7.5").status_code == requests.codes.ok
        refused = called("POST", "/keys/root/create", vault, "7.5")
        assert refused.status_code == requests.codes.forbidden
        assert refused.json()["error"]["innererror"]["code"] == "ForbiddenByRbac"
        assert "Microsoft.KeyVault/vaults/keys/create/action" in refused.json()["error"]["message"]
        refused = called("GET", "/enrollments/press", dps_url, "2021-10-01")
        assert (refused.status_code, refused.json()["errorCode"]) == (401, 401003)
        refused = called("GET", "/devices/press", "https://iothubs.azure.net", "2021-04-12")
        assert refused.status_code == requests.codes.unauthorized
        assert "no assigned permissions" in refused.json()["Message"]
        resource = running.context.configuration.dps_resource_id
        arm = "https://management.azure.com"
        assert called("GET", resource, arm, "2022-12-12").status_code == requests.codes.ok
        refused = called("GET", f"{resource}/certificates", arm, "2022-12-12")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "AuthorizationFailed")
