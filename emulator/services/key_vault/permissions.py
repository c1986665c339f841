"""Which data action of Azure RBAC each operation of the vault needs.

Sources: "Azure permissions for security", Microsoft.KeyVault, and the table of access policies against data actions
that Azure/KeyVault-AccessPolicyToRBAC-CompareTool holds.
"""

from __future__ import annotations

from emulator.platform.identity.roles import Needed

_KEY_VERBS = {
    "create": "create/action",
    "rotate": "rotate/action",
    "sign": "sign/action",
    "verify": "verify/action",
    "encrypt": "encrypt/action",
    "decrypt": "decrypt/action",
    "wrapkey": "wrap/action",
    "unwrapkey": "unwrap/action",
    "recover": "recover/action",
    "backup": "backup/action",
    "restore": "restore/action",
    "release": "release/action",
}
_KEY_METHODS = {"GET": "read", "PUT": "import/action", "PATCH": "update/action", "DELETE": "delete"}
_SECRET_METHODS = {
    "GET": "getSecret/action",
    "PUT": "setSecret/action",
    "PATCH": "update/action",
    "DELETE": "delete",
}
_VAULT = "Microsoft.KeyVault/vaults"


def needed(method: str, path: str) -> Needed:
    """Give what a request needs.

    Args:
        method: of HTTP.
        path: such as ``/keys/root/1f/sign``.
    """
    collection, *rest = path.strip("/").split("/")
    kind = "secrets" if collection.endswith("secrets") else "keys"
    name = f"/{rest[0]}" if rest else ""
    return Needed.one(f"{_VAULT}/{kind}/{_action(kind, method, collection, rest)}", f"/vault/{kind}{name}")


def _action(kind: str, method: str, collection: str, rest: list[str]) -> str:
    verb = rest[-1].lower() if rest else ""
    if method == "POST":
        return _KEY_VERBS.get(verb, verb)
    if collection.startswith("deleted"):
        return "purge/action" if method == "DELETE" else "readMetadata/action" if kind == "secrets" else "read"
    if kind == "secrets":
        lists = method == "GET" and (not rest or verb == "versions")
        return "readMetadata/action" if lists else _SECRET_METHODS[method]
    return _KEY_METHODS[method]
