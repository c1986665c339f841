"""Write docs/roles.md from the operations that the app has: ``python -m devstack.roles_page``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shared.domain.callers import Role
from triggers import http_api  # noqa: F401 - it registers the operations
from triggers.callers import ROLE_OF_QUEUE
from triggers.http import scopes
from triggers.http.endpoints import published as operations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from triggers.http.scopes import Scope
    from triggers.openapi import Operation

PAGE = Path(__file__).parents[1] / "docs" / "roles.md"
MEANINGS: Mapping[Role, str] = {
    Role.ORDERS_WRITE: "order devices, and have them renewed: for an ERP",
    Role.BUNDLES_READ: "fetch bundles and confirm them: for whoever installs devices",
    Role.DEVICES_REVOKE: "shut devices out, and undo that: for security",
    Role.GROUPS_MANAGE: "make, change and delete enrollment groups",
    Role.AUTHORITIES_MANAGE: "make, import and change certificate authorities",
    Role.FLEET_READ: "see everything but bundles and the audit log",
    Role.AUDIT_READ: "see the audit log",
    Role.APPROVALS_GIVE: "say yes to what somebody else asks for",
}
_HEAD = """# Roles

<!-- Made from the operations of the API by `make docs`. Do not edit this page. -->

Each operation needs one role. No role includes another one. Whoever lacks the role gets 403 with the role's name.
[secure.md](secure.md#callers) says how a caller gets roles.

A role can be given for single enrollment groups, as in `Devices.Revoke:line-1`. The ledger says which group a device,
an order, a certificate or a CA belongs to. What belongs to another group is refused like what does not exist. A list
then needs its parameter for one group.

| role | its holder may |
| --- | --- |
"""
_LIMITS: Mapping[Scope, str] = {
    scopes.everything: "all groups",
    scopes.nothing: "any group",
    scopes.by_group: "`group=`, or all groups",
    scopes.by_enrollment_group: "`enrollmentGroup=`, or all groups",
}


def roles_page() -> str:
    """Give the page, in Markdown."""
    listed = sorted(operations, key=lambda each: (each.path, each.method))
    parts = [_HEAD, *(f"| `{role}` | {meaning} |\n" for role, meaning in MEANINGS.items())]
    for role in Role:
        found = [each for each in listed if each.role is role]
        if found:
            parts.append(f"\n## `{role}`\n\n| operation | for | what it does |\n| --- | --- | --- |\n")
            parts.extend(map(_row, found))
    parts.append(
        "\n## A second role\n\n"
        "- To cancel an order and revoke its devices needs `Devices.Revoke`.\n"
        "- `POST /api/certificates` of what is not a device's needs `CertificateAuthorities.Manage`.\n"
        "- To replay or close a rejection needs, for all groups, the role of what the message asks for:\n\n"
        "| queue | role |\n| --- | --- |\n"
    )
    parts.extend(f"| `{queue}` | `{role}` |\n" for queue, role in ROLE_OF_QUEUE.items())
    parts.append("\n## For everybody\n\n| operation | what it does |\n| --- | --- |\n")
    parts.extend(f"| `{each.method} {each.path}` | {each.summary} |\n" for each in listed if each.role is None)
    return "".join(parts)


def _row(operation: Operation) -> str:
    limit = _LIMITS.get(operation.scope, "its group")
    return f"| `{operation.method} {operation.path}` | {limit} | {operation.summary} |\n"


if __name__ == "__main__":
    PAGE.write_text(roles_page(), encoding="utf-8")
