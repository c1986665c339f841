"""The trust zones of the local cloud: an identity for each, with the roles of infra/zones.json and no others."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.rules.zones import APART, Zone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ZONES_FILE = Path(__file__).parents[1] / "infra" / "zones.json"
ZONES = sorted(APART)
RESPONDER_KEY = "ocsp-key-wrapping"
"""A key of the vault that the public zone reads; here one vault has all keys."""

EPOCH_KEY = "ledger-epoch"
"""The other one."""

_VAULTS: Mapping[str, Mapping[str, list[str]]] = {
    "caVault": {"paths": ["/vault/keys"], "except": [f"/vault/keys/{RESPONDER_KEY}", f"/vault/keys/{EPOCH_KEY}"]},
    "passwordVault": {"paths": ["/vault/secrets"]},
    "statusVault": {"paths": [f"/vault/keys/{RESPONDER_KEY}", f"/vault/keys/{EPOCH_KEY}"]},
}
_PARTS = {"queues": "queue", "tables": "table", "containers": "blob"}


def client_id(zone: Zone) -> str:
    """Give the client id of a zone's identity."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{zone.value}.zones.device-identity-factory.invalid"))


def read_zones() -> dict[str, Any]:
    """Read infra/zones.json."""
    said: dict[str, Any] = json.loads(ZONES_FILE.read_text(encoding="utf-8"))
    return said


def roles(
    said: Mapping[str, Any],
    *,
    without: Callable[[str, str, str], bool] = lambda _zone, _role, _scope: False,
    queue_accounts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Give what identities may do, as :class:`emulator.platform.identity.roles.Roles` reads it.

    Args:
        said: infra/zones.json.
        without: tells of a zone, a role and a scope whether the assignment is withheld.
        queue_accounts: storage accounts of queues that have one of their own, by the queue.
    """
    return {
        "identities": {
            client_id(zone): {
                "name": zone.value,
                "assignments": [
                    _assignment(said, each, queue_accounts or {})
                    for each in (*said["zones"][zone.value]["roles"], *said["everyZone"]["hostRoles"])
                    if not without(zone.value, each["role"], each["scope"])
                ],
            }
            for zone in ZONES
        }
    }


def _assignment(
    said: Mapping[str, Any], assignment: Mapping[str, str], queue_accounts: Mapping[str, str]
) -> dict[str, Any]:
    role, scope = said["roles"][assignment["role"]], said["scopes"][assignment["scope"]]
    return {
        "role": assignment["role"],
        "scope": assignment["scope"],
        "actions": [*role["actions"], *role["dataActions"]],
        **_places(scope, queue_accounts),
    }


def _places(scope: Mapping[str, Any], queue_accounts: Mapping[str, str]) -> Mapping[str, list[str]]:
    """Give where a scope is in the local cloud."""
    resource = scope["resource"]
    if resource in _VAULTS:
        return _VAULTS[resource]
    parts = [
        f"/{queue_accounts.get(name.removesuffix('-poison'), resource)}/{_PARTS[kind]}/{name}"
        for kind in _PARTS
        for name in scope.get(kind, ())
    ]
    return {"paths": parts or [f"/{resource}"]}
