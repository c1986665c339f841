"""Write docs/zones.md, and the roles in README.md, from infra/zones.json: ``python -m devstack.zones_page``."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devstack.zones import read_zones

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "zones.md"
README = REPOSITORY / "README.md"
_MARKED = re.compile(r"(?<=<!-- roles -->\n\n).*?(?=\n<!-- /roles -->)", re.DOTALL)
_HEAD = """# Trust zones

<!-- Made from infra/zones.json by `make docs`. Do not edit this page. -->

The app can run as one, or as four apps that are made from the same package. The setting `ZONE` says which functions an
app has. Each app has an identity of its own, with the rights that its functions need and no others. So whoever takes
over one of them gets no further than its rights go. The local cloud holds each zone to its roles:
`make demo ZONES=4` for the main job, `make run ZONES=4` for a stack that stays, `make test ZONES=4` for the end-to-end
tests.

A gateway in front of the four sends each request to the zone that has its function.
"""
_WIDTH = 120
_RESOURCES = {
    "intakeStorage": "storage account that others write into (queues, lists of devices)",
    "ledgerStorage": "storage account of the ledger (tables, bundles, CRLs)",
    "caVault": "Key Vault of CA keys",
    "passwordVault": "Key Vault of passwords",
    "statusVault": "Key Vault of OCSP responders' wrapping key, and of the ledger's epoch; only needed with zones",
    "dps": "DPS",
    "hubs": "each IoT hub",
    "eventTopic": "Event Grid topic, if there is one",
}


def zones_page(said: Mapping[str, Any]) -> str:
    """Give the page, in Markdown."""
    parts = [_HEAD]
    for name, zone in said["zones"].items():
        functions = "\n".join(textwrap.wrap(" ".join((*said["everyZone"]["functions"], *zone["functions"])), _WIDTH))
        parts.append(f"## {zone['title']} (`{name}`)\n\n{zone['does']}\n")
        parts.append(_table(("role", "on", "why"), [_assigned(said, each) for each in zone["roles"]]))
        parts.append(f"Functions:\n\n```\n{functions}\n```\n")
    parts.append("## What each Functions host needs\n")
    parts.append(_table(("role", "on", "why"), [_assigned(said, each) for each in said["everyZone"]["hostRoles"]]))
    custom = [(role["name"], role["custom"], _actions(role)) for role in said["roles"].values() if "custom" in role]
    parts.append("## Roles of our own\n")
    parts.append(_table(("role", "why no built-in one", "actions"), custom))
    return "\n".join(parts)


def roles_table(said: Mapping[str, Any]) -> str:
    """Give the table of roles for an app without zones, by the resource that they are on."""
    held: dict[str, dict[str, None]] = {resource: {} for resource in _RESOURCES}
    for zone in said["zones"].values():
        for each in zone["roles"]:
            held[said["scopes"][each["scope"]]["resource"]][each["role"]] = None
    rows = [(what, ", ".join(_without_parts(said, held[resource]))) for resource, what in _RESOURCES.items()]
    return _table(("on", "roles"), rows)


def _without_parts(said: Mapping[str, Any], roles: Iterable[str]) -> list[str]:
    """Give the names of roles; one whose rights another one has as well is left out."""
    rights = {role: {*said["roles"][role]["actions"], *said["roles"][role]["dataActions"]} for role in roles}
    return [
        said["roles"][role]["name"] for role in rights if not any(rights[role] < other for other in rights.values())
    ]


def _assigned(said: Mapping[str, Any], assignment: Mapping[str, str]) -> tuple[str, str, str]:
    scope = said["scopes"][assignment["scope"]]
    parts = [part for kind in ("tables", "queues", "containers") for part in scope.get(kind, ())]
    where = scope["what"] + (f" ({', '.join(f'`{part}`' for part in parts)})" if parts else "")
    only = f" Only with `{assignment['onlyWith']}`." if "onlyWith" in assignment else ""
    return said["roles"][assignment["role"]]["name"], where, assignment["why"] + only


def _actions(role: Mapping[str, Any]) -> str:
    return "<br>".join(f"`{each}`" for each in (*role["actions"], *role["dataActions"]))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def readme_with_roles(readme: str, said: Mapping[str, Any]) -> str:
    """Give README.md with the table of roles as infra/zones.json has them."""
    return _MARKED.sub(lambda _: roles_table(said), readme)


if __name__ == "__main__":
    zones = read_zones()
    PAGE.write_text(zones_page(zones), encoding="utf-8")
    README.write_text(readme_with_roles(README.read_text(encoding="utf-8"), zones), encoding="utf-8")
