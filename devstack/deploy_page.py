"""Write the table of roles in docs/deploy.md from infra/zones.json: ``python -m devstack.deploy_page``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from devstack.made_parts import with_part
from devstack.zones import read_zones

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = Path(__file__).parents[1] / "docs" / "deploy.md"
BEGIN = "<!-- Made from infra/zones.json by `make docs`. -->\n"


def roles_table(said: Mapping[str, Any]) -> str:
    """Give the table, in Markdown: a row for each role of each zone's identity."""
    granted = [(name, grant) for name, zone in said["zones"].items() for grant in zone["roles"]]
    granted += [("each", grant) for grant in said["everyZone"]["hostRoles"]]
    rows = "".join(f"| `{name}` | {_role(said, grant)} | {_where(said, grant)} |\n" for name, grant in granted)
    return f"\n| app | role | on |\n| --- | --- | --- |\n{rows}\n"


def _role(said: Mapping[str, Any], grant: Mapping[str, str]) -> str:
    role = said["roles"][grant["role"]]
    only = f", with `{grant['onlyWith']}` only" if "onlyWith" in grant else ""
    return f"{role['name']}{' (custom)' if 'custom' in role else ''}{only}"


def _where(said: Mapping[str, Any], grant: Mapping[str, str]) -> str:
    return str(said["scopes"][grant["scope"]]["what"])


def with_table(page: str) -> str:
    """Put the table into the page, in the place of the one before."""
    return with_part(page, BEGIN, roles_table(read_zones()))


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
