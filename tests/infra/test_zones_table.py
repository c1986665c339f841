"""Roles: zones.json names ones that Azure has or that the deployment makes, and Bicep assigns each where it says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from shared import storage_layout
from shared.contracts.messages import INBOUND_QUEUES, Queue
from tests.infra.bicep import INFRA, field, module, text
from tests.infra.test_bicep import FACTS, ROLES

TABLE: dict[str, Any] = json.loads((INFRA / "zones.json").read_text(encoding="utf-8"))
LAYOUT: dict[str, Any] = json.loads((INFRA / "storage.json").read_text(encoding="utf-8"))
OPERATIONS: dict[str, Any] = json.loads((FACTS / "roles.json").read_text(encoding="utf-8"))
BUILT_IN = {key: role for key, role in TABLE["roles"].items() if "custom" not in role}
CUSTOM = {key: role for key, role in TABLE["roles"].items() if "custom" in role}
GRANTS = [*TABLE["everyZone"]["hostRoles"], *(grant for zone in TABLE["zones"].values() for grant in zone["roles"])]


@pytest.mark.parametrize("key", BUILT_IN)
def test_a_role_of_azure_has_the_id_that_azure_gave_it(key: str) -> None:
    assert ROLES[BUILT_IN[key]["id"]] == BUILT_IN[key]["name"]


@pytest.mark.parametrize("key", CUSTOM)
def test_a_role_of_ours_lists_operations_that_azure_has_and_none_that_gives_keys_away(key: str) -> None:
    known = {kind: {each.lower() for each in OPERATIONS[kind]} for kind in ("actions", "dataActions")}
    for kind, operations in known.items():
        assert {each.lower() for each in CUSTOM[key][kind]} <= operations
    allowed = [*CUSTOM[key]["actions"], *CUSTOM[key]["dataActions"]]
    assert allowed
    assert [
        each for each in allowed if "*" in each or "listkeys" in each.lower() or "attestationmechanism" in each
    ] == []
    assert "id" not in CUSTOM[key]


def test_every_role_and_every_scope_is_granted_somewhere() -> None:
    assert {grant["role"] for grant in GRANTS} == set(TABLE["roles"])
    assert {grant["scope"] for grant in GRANTS} == set(TABLE["scopes"])


def test_no_grant_is_broader_than_another_needs() -> None:
    """No role of Azure that owns, contributes to all, or hands out roles; an owner's role only at a host's own account."""
    assert {grant["scope"] for grant in GRANTS if grant["role"] == "blobOwner"} == {"hostStorage"}
    assert not {"Owner", "Contributor", "User Access Administrator"} & {
        role["name"] for role in TABLE["roles"].values()
    }


def test_what_holds_keys_is_kept_from_the_public_zone() -> None:
    """It reads what it answers with, and unwraps the short-lived keys of responders; no CA key, no DPS, no hub."""
    scopes = {grant["scope"] for grant in TABLE["zones"]["status"]["roles"]}
    assert {TABLE["scopes"][scope]["resource"] for scope in scopes} == {"ledgerStorage", "statusVault"}


@pytest.mark.parametrize("scope", TABLE["scopes"])
def test_a_scope_is_a_thing_that_bicep_assigns_roles_on(scope: str) -> None:
    """Whole resources by an assignment of their own, parts by those of tables, queues and containers."""
    bicep = text(module("roles").root)
    where = TABLE["scopes"][scope]
    parts = {"tables", "queues", "containers"} & set(where)
    if not parts:
        assert f"wholeResources.{where['resource']}" in bicep
    for part in parts:
        account = where["resource"]
        assert set(where[part]) <= set(LAYOUT[account][part]), scope
        assert account == "intakeStorage" if part == "queues" else account in {"intakeStorage", "ledgerStorage"}
        assert part != "tables" or account == "ledgerStorage"  # roles.bicep looks for tables there


def test_bicep_assigns_roles_from_the_table_and_from_nowhere_else() -> None:
    for name in ("roles", "hubRoles"):
        for each in module(name).resources:
            if each.what.startswith("Microsoft.Authorization/roleAssignments@"):
                given = text(field(each.bodies[0], "properties", "roleDefinitionId"))
                assert re.fullmatch(r"roleIds\[(role|split\(grant, ' '\)\[0\])\]|id", given), each.symbol
    assert "loadJsonContent('../zones.json')" in text(module("roles").root)
    assert "loadJsonContent('../zones.json')" in text(module("customRoles").root)


def test_a_role_that_is_made_has_the_id_by_which_it_is_assigned() -> None:
    name = text(field(module("customRoles").resource("definitions"), "name"))
    assert name == "guid(resourceGroup().id, role.key)"
    assert name in text(module("roles").variables["roleIds"])


def test_what_is_deployed_has_the_queues_tables_and_containers_that_the_app_uses() -> None:
    """Poison queues too, so that no app needs the right to make a queue."""
    deployed = {
        part: [name for account in ("intakeStorage", "ledgerStorage") for name in LAYOUT[account][part]]
        for part in ("queues", "tables", "containers")
    }
    assert sorted(deployed["queues"]) == sorted([*Queue, *(queue.poison for queue in INBOUND_QUEUES)])
    assert set(storage_layout.TABLES) <= set(deployed["tables"])
    assert sorted(deployed["containers"]) == sorted(storage_layout.CONTAINERS)


def test_what_others_write_into_is_apart_from_the_ledger() -> None:
    assert LAYOUT["intakeStorage"]["tables"] == []
    assert LAYOUT["intakeStorage"]["containers"] == ["orders", "results"]
    assert LAYOUT["ledgerStorage"]["queues"] == []
